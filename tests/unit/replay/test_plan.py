"""The plan: what it counts, and that damage shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.replay.errors import PlanDamaged
from trunkline.replay.plan import FRAME_MEMBERS, PlanMember, PlanWriter, bitmap, count_plan, read_plan
from trunkline.state.base import LaneState, place_of

EVENTS = 40


def written(path: Path, members: list[PlanMember]) -> Path:
    with PlanWriter(path) as plan:
        for member in members:
            plan.add(member)
        plan.finish()
    return path


@given(st.sets(st.integers(0, EVENTS - 1)), st.integers(0, 3 * EVENTS), st.data())
def test_counts_are_those_of_single_lines(lines: set[int], mark: int, data: st.DataObject) -> None:
    positions = (1 << 16, 1 << 16 | 1, 2 << 16)
    places = [place_of(position, line) for position in positions for line in range(EVENTS)]
    runs = data.draw(st.lists(st.tuples(st.sampled_from(places), st.sampled_from(places)), max_size=3))
    settled = tuple((min(run), max(run)) for run in runs)
    state = LaneState("replay:r", "replay", place_of(4 << 16, 0) if mark >= len(places) else places[mark], settled)
    for position in positions:
        member = PlanMember(position, "web", 7, EVENTS, bitmap(sorted(lines), EVENTS) if lines else b"\0" * 5)
        assert list(member.selected_lines()) == sorted(lines)
        assert member.selected == len(lines) == member.unsettled(None)
        assert member.unsettled(state) == sum(not state.is_settled(place_of(position, line)) for line in lines)


def test_a_whole_member_needs_no_bitmap() -> None:
    assert bitmap(range(100), 100) == b""
    assert PlanMember(1, "web", 0, 100).selected == 100


def members(count: int) -> list[PlanMember]:
    return [PlanMember(1 << 16 | at, f"s{at % 2}", at, 10, bitmap([at % 10], 10)) for at in range(count)]


@pytest.mark.parametrize("count", [1, FRAME_MEMBERS, 3 * FRAME_MEMBERS + 5])
def test_what_is_written_is_read(count: int, tmp_path: Path) -> None:
    made = members(count)
    path = written(tmp_path / "a.plan", made)
    assert list(read_plan(path)) == made
    assert list(read_plan(path, made[-1].position)) == made[-1:]
    assert sum(count_plan(path, None).selected.values()) == count
    assert [one.name for one in tmp_path.iterdir()] == ["a.plan"]


def test_any_damage_shows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.plan", members(3))
    sound = path.read_bytes()
    for at in range(len(sound)):
        for damaged in (sound[:at], sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(PlanDamaged, match=r"a\.plan"):
                list(read_plan(path))
    path.unlink()
    with pytest.raises(PlanDamaged, match=r"a\.plan"):
        list(read_plan(path))


def test_a_plan_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    with PlanWriter(tmp_path / "a.plan") as plan:
        plan.add(PlanMember(1, "web", 0, 1))
    assert list(tmp_path.iterdir()) == []
