"""What stands before one destination of a snapshot. Live traffic, replay and rehearsal run the same."""

from __future__ import annotations

from random import Random

from trunkline.pipeline.gate import TAKES_EVERYTHING, GatedType, GateStage, compile_gate
from trunkline.spec.capabilities import source_kind
from trunkline.workspace.model import Destination, Snapshot


def gate_of(
    snapshot: Snapshot,
    destination: Destination,
    source: str,
    random: Random,
    kind: GatedType = TAKES_EVERYTHING,
    *,
    is_replay: bool = False,
) -> GateStage:
    """Stages 8 to 11 for the events of a source at one destination. ``random``: for samples without a path; ``kind``:
    the destination's type; ``is_replay``: as :func:`trunkline.pipeline.gate.compile_gate` has it."""
    definition = snapshot.sources.get(source)
    return compile_gate(
        destination,
        source,
        snapshot.consent_categories,
        random,
        kind=kind,
        source_kind=None if definition is None else source_kind(definition.type),
        integration_filters=() if definition is None else definition.schema_filters.integrations,
        transformations=snapshot.transformations_of(source, destination.slug),
        is_replay=is_replay,
    )
