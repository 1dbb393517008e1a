"""Selecting: by time, type, name and place, each event once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.replay.replay_world import BOTH, WEB, MemoryArchive, narrowed
from trunkline.archive.errors import StoreError
from trunkline.replay.model import PlaceRange
from trunkline.replay.plan import PlanWriter, read_plan
from trunkline.replay.survey import Selection, Survey, survey
from trunkline.testing.simulated_time import START_MS


def archive() -> MemoryArchive:
    made = MemoryArchive()
    made.add("web", *[f"{kind}/{name}/{kind}-{name}" for kind in ("track", "page") for name in "AB"], at_ms=START_MS)
    made.add("app", *[f"app{number}" for number in range(10)], at_ms=START_MS)
    made.add("web", *[f"late{number}" for number in range(10)], at_ms=START_MS + 5)
    return made


def select(
    world: MemoryArchive, selection: Selection, path: Path, oldest_ms: int | None = None
) -> tuple[set[str], Survey]:
    with PlanWriter(path / "a.plan") as plan:
        found = survey(world, selection, plan, oldest_ms=oldest_ms)
        plan.finish()
    ids = []
    for member in read_plan(path / "a.plan"):
        if member.readable:
            events = world.read_member(member.position)
            assert member.first_place == events[0].place
            ids += [events[line].message_id for line in member.selected_lines()]
    assert len(ids) == len(set(ids)) == found.events - found.unreadable
    return set(ids), found


def test_by_type_and_name(tmp_path: Path) -> None:
    world = archive()
    ids, found = select(world, narrowed(WEB, types=["track"], names=["A"]), tmp_path)
    assert ids == {"track-A"}
    assert found.by_type == {("web", "track"): 1}
    assert select(world, narrowed(WEB, types=["track", "page"], names=["B"]), tmp_path)[0] == {"track-B", "page-B"}
    assert len(select(world, BOTH, tmp_path)[0]) == 24
    assert select(world, Selection(["none"]), tmp_path)[0] == set()


def test_by_time_half_open(tmp_path: Path) -> None:
    ids, found = select(archive(), narrowed(BOTH, since_ms=START_MS + 3, until_ms=START_MS + 8), tmp_path)
    assert ids == {"page-B", *(f"app{number}" for number in range(3, 8)), "late0", "late1", "late2"}
    assert (found.first_ms, found.last_ms) == (START_MS + 3, START_MS + 7)


def test_by_place_each_once_and_to_the_border(tmp_path: Path) -> None:
    world = archive()
    places = world.places()
    ranges = [
        PlaceRange("web", places["track-B"], places["page-A"] + 1),
        PlaceRange("web", places["late2"], places["late2"] + 1),
        PlaceRange("web", places["late5"], places["late7"]),
        PlaceRange("app", 0, places["app1"]),
    ]
    ids, _ = select(world, narrowed(BOTH, ranges=ranges), tmp_path)
    assert ids == {"track-B", "page-A", "late2", "late5", "late6", "app0"}
    ids, _ = select(world, narrowed(BOTH, ranges=ranges, since_ms=START_MS + 6), tmp_path)
    assert ids == {"late2", "late5", "late6"}
    assert select(world, narrowed(BOTH, ranges=[]), tmp_path)[0] == set()


def test_what_cannot_be_read_is_selected_as_a_whole(tmp_path: Path) -> None:
    world = archive()
    [web, app, _] = world.members()
    world.missing.add(web.position)
    world.corrupt.add(app.position)
    ids, found = select(world, narrowed(BOTH, names=["A"]), tmp_path)
    assert ids == set()
    assert (found.events, found.unreadable, len(found.troubles)) == (14, 14, 2)
    world.down = True
    with pytest.raises(StoreError):
        select(world, BOTH, tmp_path)


def test_what_is_too_old_is_counted(tmp_path: Path) -> None:
    _, found = select(archive(), WEB, tmp_path, oldest_ms=START_MS + 7)
    assert found.too_old == 6
