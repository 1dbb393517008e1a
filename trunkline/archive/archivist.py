"""The archive's loop: follow every partition, flush when it is time, remove what is too old, never give up.

It runs in one thread that nothing waits for. Whatever fails is tried again, with longer and longer pauses; meanwhile
the log keeps what is not archived.
"""

from __future__ import annotations

from typing import Final

from trunkline.archive.errors import ArchiveError
from trunkline.archive.index import ArchiveIndex
from trunkline.archive.layout import ACCEPTED_EVENTS, BLOCKED_EVENTS, DAY_MS
from trunkline.archive.metrics import ArchiveMetrics
from trunkline.archive.store import ObjectStore
from trunkline.archive.writer import PartitionWriter
from trunkline.clock import Clock
from trunkline.log.base import ACCEPTED, EventLog, LogError
from trunkline.log.records import RecordError
from trunkline.work_loop import SHORTEST_PAUSE_S, WorkLoop

LONGEST_PAUSE_S: Final = 10.0
EXPIRE_EVERY_S: Final = 3600.0
UPLOADS: Final = 8
"""At once: with many sources a flush has many objects, and each takes a round trip or two syncs."""
_EXPIRE_STEP: Final = 200


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
        self._flush_wanted = False
        self._expire_at_s = clock.monotonic_s()
        self._loop = WorkLoop(
            "archive",
            self.work,
            clock,
            longest_pause_s=min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, flush_s / 10)),
            tried_again=(ArchiveError, LogError, RecordError),
            on_failure=metrics.failed,
        )

    def stop(self) -> None:
        """What is gathered and not flushed stays in the log, and comes at the next start."""
        self._loop.stop()

    def flush_soon(self) -> None:
        """Write what was accepted so far, whether it is time for it or not."""
        self._flush_wanted = True
        self._loop.wake()

    def run(self) -> None:
        """Until :meth:`stop`. Sleeps longer where nothing happens."""
        self._loop.run()
        for writer in self._writers.values():
            writer.close()

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
        while not self._loop.is_stopping:
            while writer.advance() and not self._loop.is_stopping:
                busy = True
            due = writer.due
            if not (due or flush) or self._loop.is_stopping:
                return busy
            flush = flush and due
            writer.flush(self._metrics.written)
            self.sweep()
        return busy

    def expire(self) -> None:
        """Forget files of days that ended longer ago than the retention, then remove their objects."""
        for kind, retention_ms in self._retention_ms.items():
            before_ms = self._clock.now_ms() - retention_ms
            while not self._loop.is_stopping and self._index.expire(kind, before_ms, _EXPIRE_STEP):
                self.sweep()
        self.sweep()

    def sweep(self) -> None:
        """Remove objects that nothing speaks of any more. Raises StoreError, IndexFailed."""
        while not self._loop.is_stopping and (keys := self._index.doomed(_EXPIRE_STEP)):
            for key in keys:
                self._store.delete(key)
            self._index.removed(keys)
            self._metrics.removed(len(keys))
