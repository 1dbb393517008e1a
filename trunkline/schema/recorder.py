"""The observer's loop: read on, commit, tidy up, never give up. It runs in one thread that nothing waits for."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Final

import structlog

from trunkline.clock import Clock
from trunkline.log.base import EventLog, LogError
from trunkline.schema.database import SchemaDatabase
from trunkline.schema.errors import SchemaError
from trunkline.schema.limits import Limits
from trunkline.schema.metrics import SchemaMetrics
from trunkline.schema.observer import SchemaObserver

SHORTEST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 5.0
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 60.0
COMPLAIN_EVERY_S: Final = 60.0
TIDY_EVERY_S: Final = 3600.0

_log = structlog.get_logger(__name__)


class SchemaRecorder:
    """Owns the database. :meth:`run` is for one thread, :meth:`stop` for any."""

    def __init__(
        self,
        log: EventLog,
        path: Path,
        clock: Clock,
        metrics: SchemaMetrics,
        limits: Limits | None = None,
        *,
        retention_days: float,
    ) -> None:
        self._log = log
        self._path = path
        self._clock = clock
        self._metrics = metrics
        self._limits = limits or Limits()
        self._retention_days = retention_days
        self._database: SchemaDatabase | None = None
        self._observer: SchemaObserver | None = None
        self._stopping = threading.Event()
        self._tidy_at_s = clock.monotonic_s()
        self._complain_at_s = clock.monotonic_s()
        self._failing = False

    def stop(self) -> None:
        """Ends soon, with a last commit."""
        self._stopping.set()

    def run(self) -> None:
        """Until :meth:`stop`. Whatever happens is said and tried again: it is nobody else's trouble."""
        pause_s, backoff_s = SHORTEST_PAUSE_S, FIRST_BACKOFF_S
        while not self._stopping.is_set():
            try:
                busy = self.work()
            except Exception as error:  # noqa: BLE001 - the archive in the same process must not end with it
                self._complain(error, backoff_s)
                self._stopping.wait(backoff_s * random.uniform(0.8, 1.2))  # noqa: S311 - not for secrets
                backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)
                continue
            if self._failing:
                self._failing = False
                _log.info("schema.recovered")
            backoff_s = FIRST_BACKOFF_S
            pause_s = SHORTEST_PAUSE_S if busy else min(pause_s * 2, LONGEST_PAUSE_S)
            self._stopping.wait(pause_s)
        self._end()

    def work(self) -> bool:
        """Read up to the head; whether there was anything to read. Raises SchemaError, LogError, RecordError."""
        observer = self._observer or self._open()
        busy = False
        try:
            while not self._stopping.is_set() and observer.advance():
                busy = True
                self._metrics.lags(observer.lag_s())
            if self._clock.monotonic_s() >= self._tidy_at_s:
                observer.tidy(self._retention_days)
                self._tidy_at_s = self._clock.monotonic_s() + TIDY_EVERY_S
        finally:
            self._metrics.lags(observer.lag_s())
        return busy

    def _open(self) -> SchemaObserver:
        self._database = self._database or SchemaDatabase(self._path)
        self._observer = SchemaObserver(self._log, self._database, self._clock, self._metrics, self._limits)
        return self._observer

    def _end(self) -> None:
        """With a last commit, if it can be had."""
        try:
            if self._observer is not None:
                self._observer.commit()
                self._observer.close()
            if self._database is not None:
                self._database.close()
        except (SchemaError, LogError) as error:
            _log.warning("schema.not_committed_at_the_end", error=str(error))

    def _complain(self, error: Exception, again_in_s: float) -> None:
        self._metrics.failed()
        now_s = self._clock.monotonic_s()
        if now_s >= self._complain_at_s:
            self._complain_at_s = now_s + COMPLAIN_EVERY_S
            self._failing = True
            _log.error("schema.failed", error=str(error), kind=type(error).__name__, again_in_s=again_in_s)
