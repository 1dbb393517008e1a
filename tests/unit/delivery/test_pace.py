"""Requests that begin side by side: so many in a round of the loop, lanes one after another."""

from __future__ import annotations

import asyncio
import itertools

from trunkline.delivery.pace import Pace


class Wide:
    """A lane that would begin ``wanted`` requests at once."""

    def __init__(self, name: str, wanted: int, pace: Pace, begun: list[str]) -> None:
        self.name = name
        self.wanted = wanted
        self._pace = pace
        self._begun = begun

    def wake(self) -> None:
        while self.wanted and self._pace.may_start(self):
            self.wanted -= 1
            self._begun.append(self.name)


def run(starts_a_round: int, wanted: dict[str, int], rounds: int) -> list[list[str]]:
    """What had begun before each round."""

    async def test() -> list[list[str]]:
        begun: list[str] = []
        pace = Pace(starts_a_round)
        for lane in [Wide(name, count, pace, begun) for name, count in wanted.items()]:
            lane.wake()
        seen = [list(begun)]
        for _ in range(rounds):
            await asyncio.sleep(0)
            seen.append(list(begun))
        return seen

    return asyncio.run(test())


def test_one_round_begins_no_more_than_its_share() -> None:
    counts = [len(begun) for begun in run(4, {"a": 10, "b": 10}, 6)]
    assert counts[0] == 4
    assert counts[-1] == 20
    assert all(later - earlier <= 4 for earlier, later in itertools.pairwise(counts))


def test_lanes_take_turns() -> None:
    [*_, begun] = run(2, {"wide": 100, "narrow": 1, "other": 1}, 3)
    assert begun[:2] == ["wide", "wide"]
    assert {"narrow", "other"} <= set(begun[:5])


def test_a_lane_alone_gets_every_turn() -> None:
    [*_, begun] = run(8, {"only": 64}, 8)
    assert len(begun) == 64


def test_a_lane_that_wants_nothing_any_more_costs_no_turn() -> None:
    async def test() -> None:
        begun: list[str] = []
        pace = Pace(1)
        first, gone, last = (Wide(name, 1, pace, begun) for name in ("first", "gone", "last"))
        for lane in (first, gone, last):
            lane.wake()
        gone.wanted = 0
        for _ in range(3):
            await asyncio.sleep(0)
        assert begun == ["first", "last"]

    asyncio.run(test())


def test_nothing_is_scheduled_when_nobody_begins() -> None:
    async def test() -> None:
        pace = Pace(2)
        begun: list[str] = []
        Wide("a", 1, pace, begun).wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not pace.is_busy

    asyncio.run(test())
