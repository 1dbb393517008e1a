"""The stages of a snapshot's sources, compiled. Live traffic and rehearsal run the same."""

from __future__ import annotations

from trunkline.pipeline.source_program import EMPTY_PROGRAM, SourceProgram, compile_source
from trunkline.workspace.model import Snapshot


def source_program_of(snapshot: Snapshot, source: str) -> SourceProgram:
    """Stages 5 to 7 for the events of a source. One that the workspace does not hold has none."""
    definition = snapshot.sources.get(source)
    if definition is None:
        return EMPTY_PROGRAM
    return compile_source(
        source,
        snapshot.plan_by_source.get(source),
        snapshot.schema_configuration_of(source),
        snapshot.transformations_of(source),
        definition.schema_filters,
    )
