"""Commits the worker's state: cursors, counters and lanes in one transaction, every 20 ms at most, and less often the
more it costs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from trunkline.delivery.lane import Lane
from trunkline.state.base import Changes, StateError, StateStore

COMMIT_INTERVAL_S: Final = 0.02
COMMIT_SHARE: Final = 0.02
LONGEST_INTERVAL_S: Final = 1.0
"""A commit costs by the lanes that have a part in it, so with hundreds of them commits come less often, lest they take
more than this share of the time. What a kill can make come twice is bounded by each lane's own cap, not by time; a lane
that comes near it has a commit made at once."""
STALL_S: Final = 0.25
STALL_INTERVALS: Final = 4
"""While a commit takes longer than this, and so many times the pause between commits, nothing is sent: it bounds what
a kill can make come twice."""
WATCH_INTERVAL_S: Final = 0.5
RETRY_INTERVAL_S: Final = 1.0

_log = structlog.get_logger(__name__)


class StateWriter:
    """Gathers changes on the loop, writes them in a thread. A commit that fails is tried again unchanged, and nothing
    is sent meanwhile: what is not recorded must not be done."""

    def __init__(
        self,
        store: StateStore,
        *,
        on_trouble: Callable[[bool], None],
        on_committed: Callable[[Changes], None],
    ) -> None:
        """``on_trouble(True)`` when commits fail or stall, ``on_trouble(False)`` when they succeed again."""
        self._store = store
        self._on_trouble = on_trouble
        self._on_committed = on_committed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._lanes: set[Lane] = set()
        self._wanted = asyncio.Event()
        self._lock = asyncio.Lock()
        self._failed: tuple[Changes, list[Lane]] | None = None
        self._stopping = False
        self._abandoned = False
        self._stalled = False
        self._hurry = asyncio.Event()
        self._interval_s = COMMIT_INTERVAL_S
        self._cpu_s = 0.0
        self.changes = Changes()

    def touch(self, lane: Lane) -> None:
        """The lane has something to commit."""
        self._lanes.add(lane)
        self._wanted.set()
        if lane.must_soon_be_recorded:
            self._hurry.set()

    def want(self, *, soon: bool = False) -> None:
        """``changes`` has something to commit. ``soon``: somebody waits for it."""
        self._wanted.set()
        if soon:
            self._hurry.set()

    async def run(self) -> None:
        """Commit whenever something changed, until :meth:`stop`. Not to be cancelled: a commit that is under way must
        be heard of, or what it could not write would be forgotten."""
        while not self._stopping:
            await self._wanted.wait()
            await self._pause()
            self._wanted.clear()
            if not await self.commit():
                await asyncio.sleep(RETRY_INTERVAL_S)
                self._wanted.set()

    async def _pause(self) -> None:
        await asyncio.sleep(COMMIT_INTERVAL_S)
        if self._interval_s > COMMIT_INTERVAL_S:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s - COMMIT_INTERVAL_S):
                    await self._hurry.wait()
        self._hurry.clear()

    def stop(self) -> None:
        """Let :meth:`run` end with the commit that is under way."""
        self._stopping = True
        self._wanted.set()
        self._hurry.set()

    @contextlib.contextmanager
    def step(self) -> Iterator[Changes]:
        """Add to the changes what only makes sense as a whole. If the step fails half-way, nothing is committed any
        more: the last commit is what the successor starts from."""
        try:
            yield self.changes
        except BaseException:
            self._abandoned = True
            raise

    async def commit(self) -> bool:
        """Write what has been gathered. False when the store refused it; it is kept then.

        Any other error is a bug: what was gathered is lost, so no later commit may build on it.
        """
        async with self._lock:
            if self._abandoned:
                return False
            try:
                if self._failed is not None and not await self._write(*self._failed):
                    return False
                return await self._write(*self._gather())
            except BaseException:
                self._abandoned = True
                raise

    def _gather(self) -> tuple[Changes, list[Lane]]:
        """Everything up to this moment, taken without yielding to the loop: one consistent state. And whose it is."""
        began_s = time.thread_time()
        changes, self.changes = self.changes, Changes()
        lanes, self._lanes = self._lanes, set()
        recorded = []
        for lane in lanes:
            if lane.collect(changes):
                recorded.append(lane)
                if lane.watching:
                    self._lanes.add(lane)
        if self._lanes:
            asyncio.get_running_loop().call_later(WATCH_INTERVAL_S, self._wanted.set)
        self._cpu_s = time.thread_time() - began_s
        return changes, recorded

    async def _write(self, changes: Changes, lanes: list[Lane]) -> bool:
        if changes.empty:
            return True
        loop = asyncio.get_running_loop()
        stall = loop.call_later(STALL_S + STALL_INTERVALS * (self._interval_s - COMMIT_INTERVAL_S), self._stalls)
        try:
            cpu_s = self._cpu_s + await loop.run_in_executor(self._thread, self._commit, changes)
        except (StateError, OSError) as error:
            if self._failed is None:
                _log.error("state.commit_failed", error=str(error))
                self._on_trouble(True)
            self._failed = (changes, lanes)
            return False
        finally:
            stall.cancel()
        if self._failed is not None:
            _log.info("state.commit_works_again")
        if self._failed is not None or self._stalled:
            self._failed = None
            self._stalled = False
            self._on_trouble(False)
        self._interval_s = min(LONGEST_INTERVAL_S, max(COMMIT_INTERVAL_S, cpu_s / COMMIT_SHARE))
        self._on_committed(changes)
        for lane in lanes:
            lane.recorded()
        return True

    async def tidy(self, now_ms: int) -> None:
        """Shorten the delivery record, a piece at a time between two commits."""
        more = True
        while more and not self._stopping:
            async with self._lock:
                if self._abandoned or self._failed is not None:
                    return
                try:
                    more = await asyncio.get_running_loop().run_in_executor(self._thread, self._store.tidy, now_ms)
                except StateError as error:
                    _log.error("state.not_tidied", error=str(error))
                    return
            await asyncio.sleep(COMMIT_INTERVAL_S)

    def _commit(self, changes: Changes) -> float:
        """The CPU seconds that it took."""
        began_s = time.thread_time()
        for prepare in changes.prepare:
            prepare()
        self._store.commit(changes)
        return time.thread_time() - began_s

    def _stalls(self) -> None:
        self._stalled = True
        self._on_trouble(True)

    def close(self) -> None:
        self._thread.shutdown()
