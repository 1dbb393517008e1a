"""What the state writer commits when a commit, or what leads to it, goes wrong."""

from __future__ import annotations

import asyncio
import time

import pytest

from trunkline.delivery.lane import Lane
from trunkline.runtime.state_writer import LONGEST_INTERVAL_S, StateWriter
from trunkline.state.base import Changes, SourceKey
from trunkline.testing.memory_state import MemoryStateStore

KEY = SourceKey("web", "track", "E", "accepted", "")


class BrokenStore(MemoryStateStore):
    """Its next commits raise what no store may raise."""

    broken = False

    def commit(self, changes: Changes) -> None:
        if self.broken:
            raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")
        super().commit(changes)


class Writing:
    """A writer, with what it told."""

    def __init__(self) -> None:
        self.store = BrokenStore()
        self.trouble: list[bool] = []
        self.committed: list[Changes] = []
        self.writer = StateWriter(self.store, on_trouble=self.trouble.append, on_committed=self.committed.append)

    def count(self, position: int) -> None:
        """One more event, its cursor with it."""
        with self.writer.step() as changes:
            changes.source_cursors["0", "shared"] = position
            changes.source_books[KEY] = changes.source_books.get(KEY, 0) + 1

    def stored(self) -> tuple[int, int]:
        """Cursor and count: they must be equal."""
        state = self.store.read()
        return state.source_cursors.get(("0", "shared"), 0), state.source_totals.get("web", {}).get("accepted", 0)


def test_a_refused_commit_is_made_up_for_once_and_before_what_came_later() -> None:
    async def test() -> None:
        it = Writing()
        it.count(1)
        assert await it.writer.commit()
        it.store.full = True
        for position in (2, 3, 4):
            it.count(position)
            assert not await it.writer.commit()
        assert it.stored() == (1, 1)
        assert it.trouble == [True]
        it.store.full = False
        assert await it.writer.commit()
        assert it.stored() == (4, 4)
        assert it.trouble == [True, False]
        assert [changes.source_cursors["0", "shared"] for changes in it.committed] == [1, 2, 4]
        it.writer.close()

    asyncio.run(test())


def test_after_a_commit_that_broke_off_nothing_is_built_on_what_was_lost() -> None:
    async def test() -> None:
        it = Writing()
        it.count(1)
        assert await it.writer.commit()
        it.store.broken = True
        it.count(2)
        with pytest.raises(UnicodeEncodeError):
            await it.writer.commit()
        it.store.broken = False
        it.count(3)
        assert not await it.writer.commit()
        assert it.stored() == (1, 1)
        it.writer.close()

    asyncio.run(test())


def test_half_a_step_is_never_committed() -> None:
    async def test() -> None:
        it = Writing()
        it.count(1)

        def half() -> None:
            with it.writer.step() as changes:
                changes.source_cursors["0", "shared"] = 2
                raise RuntimeError("before the count")

        with pytest.raises(RuntimeError):
            half()
        assert not await it.writer.commit()
        assert it.stored() == (0, 0)
        it.writer.close()

    asyncio.run(test())


def test_stopping_while_commits_are_refused_counts_nothing_twice() -> None:
    async def test() -> None:
        it = Writing()
        it.store.full = True
        it.count(1)
        running = asyncio.create_task(it.writer.run())
        it.writer.want()
        async with asyncio.timeout(10):
            while not it.trouble:  # noqa: ASYNC110 - nobody signals what tests look at
                await asyncio.sleep(0.01)
        it.count(2)
        it.store.full = False
        it.writer.stop()
        await running
        assert await it.writer.commit()
        assert it.stored() == (2, 2)
        it.writer.close()

    asyncio.run(test())


class DearStore(MemoryStateStore):
    """Each commit takes a while of CPU."""

    cpu_s = 0.03

    def __init__(self) -> None:
        super().__init__()
        self.times_s: list[float] = []

    def commit(self, changes: Changes) -> None:
        until_s = time.thread_time() + self.cpu_s
        while time.thread_time() < until_s:
            pass
        self.times_s.append(time.monotonic())
        super().commit(changes)


class OneLane(Lane):
    """A lane as far as the writer knows it."""

    def __init__(self) -> None:
        self.presses = False

    def collect(self, changes: Changes) -> bool:
        changes.source_books[KEY] = changes.source_books.get(KEY, 0) + 1
        return True

    @property
    def watching(self) -> bool:
        return False

    @property
    def must_soon_be_recorded(self) -> bool:
        return self.presses

    def recorded(self) -> None:
        self.presses = False


@pytest.mark.parametrize("presses", [False, True])
def test_what_costs_comes_seldom_unless_a_lane_is_in_need(presses: bool) -> None:
    async def test() -> list[float]:
        store = DearStore()
        writer = StateWriter(store, on_trouble=lambda _: None, on_committed=lambda _: None)
        running = asyncio.create_task(writer.run())
        lane = OneLane()
        async with asyncio.timeout(20):
            while len(store.times_s) < 3:
                lane.presses = presses
                writer.touch(lane)
                await asyncio.sleep(0.01)
        writer.touch(lane)
        writer.stop()
        async with asyncio.timeout(LONGEST_INTERVAL_S / 2):
            await running
        writer.close()
        return store.times_s

    first, second, third = asyncio.run(test())[:3]
    pauses_s = (second - first, third - second)
    assert min(pauses_s) < 0.5 if presses else min(pauses_s) > LONGEST_INTERVAL_S * 0.9
