"""The observer's loop: read on, commit, tidy up, never give up. It runs in one thread that nothing waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from trunkline.clock import Clock
from trunkline.log.base import EventLog, LogError
from trunkline.schema.database import SchemaDatabase
from trunkline.schema.errors import SchemaError, SchemaFailed
from trunkline.schema.limits import Limits
from trunkline.schema.metrics import SchemaMetrics
from trunkline.schema.observer import SchemaObserver
from trunkline.work_loop import WorkLoop

LONGEST_PAUSE_S: Final = 5.0
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
        self._tidy_at_s = clock.monotonic_s()
        self._loop = WorkLoop(
            "schema",
            self.work,
            clock,
            longest_pause_s=LONGEST_PAUSE_S,
            tried_again=(Exception,),  # whatever it is: the archive in the same process must not end with it
            on_failure=metrics.failed,
        )

    def stop(self) -> None:
        """Ends soon, with a last commit."""
        self._loop.stop()

    def run(self) -> None:
        """Until :meth:`stop`. Whatever happens is said and tried again: it is nobody else's trouble."""
        self._loop.run()
        self._end()

    def work(self) -> bool:
        """Read up to the head; whether there was anything to read. Raises SchemaError, LogError, RecordError."""
        try:
            return self._follow(self._observer or self._open())
        except SchemaFailed:
            self._close()  # a connection to a file that could not be written stays read-only when that is mended
            raise

    def _follow(self, observer: SchemaObserver) -> bool:
        busy = False
        try:
            while not self._loop.is_stopping and observer.advance():
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
        except (SchemaError, LogError) as error:
            _log.warning("schema.not_committed_at_the_end", error=str(error))
        finally:
            self._close()

    def _close(self) -> None:
        if self._observer is not None:
            self._observer.close()
        if self._database is not None:
            self._database.close()
        self._observer = self._database = None
