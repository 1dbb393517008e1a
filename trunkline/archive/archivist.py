"""The archive's loop: follow every partition, flush when it is time, remove what is too old, never give up.

It runs in one thread that nothing waits for. Whatever fails is tried again, with longer and longer pauses; meanwhile
the log keeps what is not archived.
"""

from __future__ import annotations

import random
import threading
from typing import Final

import structlog

from trunkline.archive.errors import ArchiveError
from trunkline.archive.index import ArchiveIndex
from trunkline.archive.layout import ACCEPTED_EVENTS, BLOCKED_EVENTS, DAY_MS
from trunkline.archive.metrics import ArchiveMetrics
from trunkline.archive.store import ObjectStore
from trunkline.archive.writer import PartitionWriter
from trunkline.clock import Clock
from trunkline.log.base import ACCEPTED, EventLog, LogError
from trunkline.log.records import RecordError

SHORTEST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 10.0
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 60.0
COMPLAIN_EVERY_S: Final = 60.0
EXPIRE_EVERY_S: Final = 3600.0
UPLOADS: Final = 8
"""At once: with many sources a flush has many objects, and each takes a round trip or two syncs."""
_EXPIRE_STEP: Final = 200

_log = structlog.get_logger(__name__)


class Archivist:
    """Owns the index. :meth:`run` is for one thread, :meth:`stop` for any."""

    def __init__(
        self,
        log: EventLog,
        index: ArchiveIndex,
        store: ObjectStore,
        clock: Clock,
        metrics: ArchiveMetrics,
        *,
        file_bytes: int,
        flush_s: float,
        retention_days: float,
        blocked_retention_days: float,
    ) -> None:
        self._log = log
        self._index = index
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._file_bytes = file_bytes
        self._flush_s = flush_s
        self._retention_ms = {
            ACCEPTED_EVENTS: round(retention_days * DAY_MS),
            BLOCKED_EVENTS: round(blocked_retention_days * DAY_MS),
        }
        self._writers: dict[str, PartitionWriter] = {}
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._flush_wanted = False
        self._expire_at_s = clock.monotonic_s()
        self._complain_at_s = clock.monotonic_s()
        self._failing = False

    def stop(self) -> None:
        """What is gathered and not flushed stays in the log, and comes at the next start."""
        self._stopping.set()
        self._woken.set()

    def flush_soon(self) -> None:
        """Write what was accepted so far, whether it is time for it or not."""
        self._flush_wanted = True
        self._woken.set()

    def run(self) -> None:
        """Until :meth:`stop`. Sleeps longer where nothing happens."""
        longest_s = min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, self._flush_s / 10))
        pause_s, backoff_s = SHORTEST_PAUSE_S, FIRST_BACKOFF_S
        while not self._stopping.is_set():
            try:
                busy = self.work()
            except (ArchiveError, LogError, RecordError) as error:
                self._complain(error, backoff_s)
                self._sleep(backoff_s * random.uniform(0.8, 1.2))  # noqa: S311 - not for secrets
                backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)
                continue
            if self._failing:
                self._failing = False
                _log.info("archive.recovered")
            backoff_s = FIRST_BACKOFF_S
            pause_s = SHORTEST_PAUSE_S if busy else min(pause_s * 2, longest_s)
            self._sleep(pause_s)
        for writer in self._writers.values():
            writer.close()

    def _sleep(self, pause_s: float) -> None:
        self._woken.wait(pause_s)
        self._woken.clear()

    def work(self) -> bool:
        """Read up to the head, flush what is due, expire now and then; whether there was anything to read.

        Raises ArchiveError, LogError, RecordError; what was done stays done.
        """
        busy = False
        flush, self._flush_wanted = self._flush_wanted, False
        try:
            for partition in self._log.partitions(ACCEPTED):
                writer = self._writers.get(partition)
                if writer is None:
                    writer = self._writers[partition] = self._writer(partition)
                busy |= self._follow(writer, flush)
            if self._clock.monotonic_s() >= self._expire_at_s:
                self.expire()
                self._expire_at_s = self._clock.monotonic_s() + EXPIRE_EVERY_S
        except BaseException:
            self._flush_wanted |= flush
            raise
        finally:
            self._metrics.lags(max((writer.lag_s() for writer in self._writers.values()), default=0.0))
        return busy

    def _writer(self, partition: str) -> PartitionWriter:
        return PartitionWriter(
            self._log,
            partition,
            self._index,
            self._store,
            self._clock,
            file_bytes=self._file_bytes,
            flush_s=self._flush_s,
            uploads=UPLOADS,
        )

    def _follow(self, writer: PartitionWriter, flush: bool) -> bool:
        busy = False
        while not self._stopping.is_set():
            while writer.advance() and not self._stopping.is_set():
                busy = True
            due = writer.due
            if not (due or flush) or self._stopping.is_set():
                return busy
            flush = flush and due
            writer.flush(self._metrics.written)
            self.sweep()
        return busy

    def expire(self) -> None:
        """Forget files of days that ended longer ago than the retention, then remove their objects."""
        for kind, retention_ms in self._retention_ms.items():
            before_ms = self._clock.now_ms() - retention_ms
            while not self._stopping.is_set() and self._index.expire(kind, before_ms, _EXPIRE_STEP):
                self.sweep()
        self.sweep()

    def sweep(self) -> None:
        """Remove objects that nothing speaks of any more. Raises StoreError, IndexFailed."""
        while not self._stopping.is_set() and (keys := self._index.doomed(_EXPIRE_STEP)):
            for key in keys:
                self._store.delete(key)
            self._index.removed(keys)
            self._metrics.removed(len(keys))

    def _complain(self, error: Exception, again_in_s: float) -> None:
        self._metrics.failed()
        now_s = self._clock.monotonic_s()
        if now_s >= self._complain_at_s:
            self._complain_at_s = now_s + COMPLAIN_EVERY_S
            self._failing = True
            _log.error("archive.failed", error=str(error), again_in_s=again_in_s)
