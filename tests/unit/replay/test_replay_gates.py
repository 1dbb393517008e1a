"""A replay passes the gate as live events do: integration filters, methods, transformations, as they are now."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from tests.unit.replay.replay_world import WEB, MemoryArchive, ReplayWorld, destination, simulate, snapshot_of
from trunkline.pipeline.gate import Takes
from trunkline.spec.schema_filters import IntegrationFilter, SchemaFilters
from trunkline.spec.transformations import PropertyValue, Transformation
from trunkline.workspace.model import Snapshot


def workspace(*kept_back: str, mark: str = "") -> Snapshot:
    """``kept_back``: types of events that do not go to the hook; ``mark``: what its events are marked with."""
    plain = snapshot_of(destination("hook"))
    filters = SchemaFilters(integrations=tuple(IntegrationFilter(kind, "", ("hook",)) for kind in kept_back))
    sources = {slug: dataclasses.replace(source, schema_filters=filters) for slug, source in plain.sources.items()}
    value = PropertyValue(("properties.mark",), mark)
    marking = Transformation("t", "web", "all", destination="hook", values=(value,))
    return dataclasses.replace(plain, sources=sources, transformations=(marking,) if mark else ())


def adopt(world: ReplayWorld, snapshot: Snapshot) -> None:
    world.dispatcher.activate(snapshot, (), world.changes)
    world.replays.activate(snapshot, world.changes)


def reasons(world: ReplayWorld) -> Counter[str]:
    found = Counter[str]()
    for key, count in world.store.read().lane_books.items():
        if key.reason:
            found[key.reason] += count
    return found


def test_it_honours_integration_filters_methods_and_transformations(tmp_path: Path) -> None:
    archive = MemoryArchive()
    archive.add("web", "track/A/t1", "group//g1", "screen/S/s1", "page/P/p1")

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        world.dispatcher._type_of = lambda destination: Takes(methods=frozenset({"track", "group", "page"}))
        adopt(world, workspace("group", mark="x"))
        await world.replays.look()
        world.select("r", WEB)
        await world.settle()
        assert set(world.finals) == {("hook", "t1"), ("hook", "p1")}
        assert {body["properties"]["mark"] for body in world.bodies.values()} == {"x"}
        assert reasons(world) == {"FILTERED_BY_INTEGRATION_FILTER": 1, "UNSUPPORTED_EVENT_TYPE": 1}
        await world.close()

    simulate(test)


def test_what_changes_beside_the_destination_reaches_a_replay_that_runs(tmp_path: Path) -> None:
    archive = MemoryArchive()
    for number in range(6):
        archive.add("web", *(f"m{number}-{line}" for line in range(40)))

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        adopt(world, workspace(mark="before"))
        await world.replays.look()
        world.select("r", WEB, rate=40.0)
        await world.run_for(3)
        assert 0 < world.finals.total() < 200
        adopt(world, workspace(mark="after"))
        await world.settle()
        marks = Counter(body["properties"]["mark"] for body in world.bodies.values())
        assert marks.total() == 240
        assert min(marks["before"], marks["after"]) > 0
        await world.close()

    simulate(test)
