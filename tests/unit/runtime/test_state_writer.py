"""What the state writer commits when a commit, or what leads to it, goes wrong."""

from __future__ import annotations

import asyncio

import pytest

from trunkline.runtime.state_writer import StateWriter
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
