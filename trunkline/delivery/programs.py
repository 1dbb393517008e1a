"""The pure stages of a workspace, compiled from its snapshot. Live traffic, replay and rehearsal run the same ones."""

from __future__ import annotations

from random import Random

from trunkline.pipeline.gate import TAKES_EVERYTHING, GatedType, GateStage, compile_gate
from trunkline.pipeline.source_program import EMPTY_PROGRAM, SourceProgram, compile_source
from trunkline.spec.capabilities import source_kind
from trunkline.workspace.model import Destination, Snapshot


def source_program_of(snapshot: Snapshot, source: str) -> SourceProgram:
    """Stages 5 to 7 for the events of a source. One that the workspace does not hold has none."""
    definition = snapshot.sources.get(source)
    if definition is None:
        return EMPTY_PROGRAM
    return compile_source(
        source,
        definition.name,
        snapshot.plan_by_source.get(source),
        snapshot.schema_configuration_of(source),
        snapshot.transformations_of(source),
        definition.schema_filters,
    )


def gate_of(
    snapshot: Snapshot,
    destination: Destination,
    source: str,
    random: Random,
    *,
    kind: GatedType = TAKES_EVERYTHING,
    is_replay: bool = False,
) -> GateStage:
    """Stages 8 to 11 for the events of a source at one destination. ``random``: for samples without a path; ``kind``:
    the destination's type; ``is_replay``: the events' ``integrations`` come from a replay."""
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
