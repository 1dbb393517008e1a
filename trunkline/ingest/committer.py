"""Group commit: what requests bring becomes durable together, and only then they are answered.

One commit is under way at a time, in a thread of its own. What arrives meanwhile goes with the next one, so the
group grows with the load and a lone request waits for nobody.

Errors (:meth:`Committer.submit` raises the first; its future resolves to one of the others)::

    CommitError           not durable; the client must send again
    ├── Overloaded        too much is waiting already (429)
    ├── DiskFull          no room, or less than the reserve is free (503)
    └── LogUnavailable    the log can't be written now; it is reopened by itself (503)
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from trunkline.clock import Clock
from trunkline.failpoints import failpoint
from trunkline.ingest.metrics import IngestMetrics
from trunkline.log.base import Appender, LogError, LogFull, NewRecord

_logger = logging.getLogger(__name__)
_SPACE_CHECK_EVERY_S: Final = 1.0
_REOPEN_EVERY_S: Final = 1.0


class CommitError(Exception):
    """Not durable; the client must send again."""


class Overloaded(CommitError):
    """More is waiting for the disk than the bounds allow."""


class DiskFull(CommitError):
    """The disk has no room for events, or less is free than the reserve."""


class LogUnavailable(CommitError):
    """The log can't be written now."""


class _Group:
    """Requests that become durable together."""

    __slots__ = ("records", "size_bytes", "waiting")

    def __init__(self) -> None:
        self.records: list[NewRecord] = []
        self.waiting: list[Callable[[CommitError | None], object]] = []
        self.size_bytes = 0


def _resolve(future: asyncio.Future[CommitError | None], error: CommitError | None) -> None:
    if not future.done():
        future.set_result(error)


class Committer:
    """Appends the records of requests, in groups. Belongs to one event loop."""

    def __init__(
        self,
        open_appender: Callable[[], Appender],
        clock: Clock,
        metrics: IngestMetrics,
        *,
        data_dir: Path | None = None,
        reserve_bytes: int = 256 * 2**20,
        max_queue_bytes: int = 64 * 2**20,
        max_queue_requests: int = 10_000,
        on_commit: Callable[[], None] | None = None,
    ) -> None:
        """``data_dir``: where free space is measured (None: not at all). ``on_commit`` is called on the loop."""
        self._open_appender = open_appender
        self._clock = clock
        self._metrics = metrics
        self._data_dir = data_dir
        self._reserve_bytes = reserve_bytes
        self._max_queue_bytes = max_queue_bytes
        self._max_queue_requests = max_queue_requests
        self._on_commit = on_commit
        self._waiting = _Group()
        self._under_way: _Group | None = None
        self._launching = False
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: asyncio.Event | None = None
        self._jobs: SimpleQueue[_Group | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._full = False
        # Owned by the thread:
        self._appender: Appender | None = None
        self._space_checked_s = float("-inf")
        self._open_failed_s = float("-inf")
        metrics.queue_requests = lambda: self.queued_requests
        metrics.queue_bytes = lambda: self.queued_bytes
        metrics.disk_full = lambda: int(self._full)

    @property
    def full(self) -> bool:
        """Whether the last commit found no room."""
        return self._full

    @property
    def queued_requests(self) -> int:
        under_way = self._under_way
        return len(self._waiting.waiting) + (len(under_way.waiting) if under_way else 0)

    @property
    def queued_bytes(self) -> int:
        under_way = self._under_way
        return self._waiting.size_bytes + (under_way.size_bytes if under_way else 0)

    async def start(self) -> None:
        """Open the log. Raises what ``open_appender`` raises."""
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()
        self._appender = await self._loop.run_in_executor(None, self._open_appender)
        self._thread = threading.Thread(target=self._run, name="trunkline-commit", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finish what was submitted, then close the log. Nothing may be submitted any more."""
        self._stopping = True
        if self._idle is not None:
            await self._idle.wait()
        thread = self._thread
        if thread is not None:
            self._jobs.put(None)
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
            self._thread = None

    def submit(self, records: Sequence[NewRecord]) -> asyncio.Future[CommitError | None]:
        """Queue the records of one request, all or nothing.

        The future resolves to None once they are durable, or to the error; it never raises, because a request that
        was cancelled would leave an exception that nobody looks at. Raises Overloaded at once, or LogUnavailable
        while stopping.
        """
        if self._loop is None:
            raise LogUnavailable("the server is stopping")
        future: asyncio.Future[CommitError | None] = self._loop.create_future()
        self.submit_calling(records, partial(_resolve, future))
        return future

    def submit_calling(self, records: Sequence[NewRecord], settled: Callable[[CommitError | None], object]) -> None:
        """The same for those who need no future: ``settled`` is called on the loop, and must not raise."""
        loop = self._loop
        if loop is None or self._stopping:
            raise LogUnavailable("the server is stopping")
        size_bytes = 0
        for record in records:
            size_bytes += len(record.payload)
        if self.queued_requests >= self._max_queue_requests or (
            self.queued_bytes + size_bytes > self._max_queue_bytes and self.queued_requests
        ):
            raise Overloaded("too many events are waiting for the disk")
        group = self._waiting
        group.records += records
        group.waiting.append(settled)
        group.size_bytes += size_bytes
        if self._under_way is None and not self._launching:
            self._launch_soon(loop)

    def _launch_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Behind what the loop has ready now: the requests of one poll go together, since a commit costs as much CPU
        as twenty records."""
        assert self._idle is not None
        self._launching = True
        self._idle.clear()
        loop.call_soon(self._launch)

    def _launch(self) -> None:
        self._launching = False
        self._under_way, self._waiting = self._waiting, _Group()
        self._jobs.put(self._under_way)

    def _settle(self, group: _Group, error: CommitError | None, duration_s: float) -> None:
        """On the loop: the thread is done with a group."""
        assert self._idle is not None
        assert self._loop is not None
        self._full = isinstance(error, DiskFull)
        self._under_way = None
        if self._waiting.waiting:
            self._launch_soon(self._loop)
        else:
            self._idle.set()
        if error is None:
            self._metrics.observe_commit(duration_s)
        for settled in group.waiting:
            try:
                settled(error)
            except Exception:
                # One request's defect must not keep the others of its group from their answers.
                _logger.exception("An answer could not be given.")
        if error is None and self._on_commit is not None:
            self._on_commit()

    def _run(self) -> None:
        """The thread."""
        assert self._loop is not None
        while (group := self._jobs.get()) is not None:
            started_s = self._clock.monotonic_s()
            error = self._append(group.records)
            duration_s = self._clock.monotonic_s() - started_s
            self._loop.call_soon_threadsafe(self._settle, group, error, duration_s)
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    def _append(self, records: list[NewRecord]) -> CommitError | None:
        try:
            self._check_space()
            appender = self._appender or self._reopen()
            failpoint("ingest.commit.before_append")
            appender.append(records)
            failpoint("ingest.commit.after_append")
        except CommitError as error:
            return error
        except LogFull as error:
            return DiskFull(str(error))
        except Exception as error:
            # Whatever state the appender is in now, nothing of this group may be acknowledged; a new one recovers.
            if not isinstance(error, LogError | OSError):
                _logger.exception("The log failed in an unforeseen way; it will be reopened.")
            else:
                _logger.error("The log can't be written; it will be reopened: %s", error)
            self._close_broken()
            return LogUnavailable(str(error))
        return None

    def _check_space(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._data_dir is None or now_s - self._space_checked_s < _SPACE_CHECK_EVERY_S:
            return
        stat = os.statvfs(self._data_dir)
        free_bytes = stat.f_bavail * stat.f_frsize
        if free_bytes < self._reserve_bytes:
            raise DiskFull(f"{free_bytes} bytes are free, less than the reserve of {self._reserve_bytes}")
        self._space_checked_s = now_s

    def _reopen(self) -> Appender:
        now_s = self._clock.monotonic_s()
        if now_s - self._open_failed_s < _REOPEN_EVERY_S:
            raise LogUnavailable("the log could not be opened a moment ago")
        self._open_failed_s = now_s
        self._appender = self._open_appender()
        self._open_failed_s = float("-inf")
        _logger.warning("The log is open again.")
        return self._appender

    def _close_broken(self) -> None:
        appender, self._appender = self._appender, None
        if appender is None:
            return
        try:
            appender.close()
        except (LogError, OSError) as error:
            _logger.warning("Closing the log failed: %s", error)
