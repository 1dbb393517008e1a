"""A thread's loop that never gives up: soon again after work, later and later while there is none or while it fails."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Final

import structlog

from trunkline.clock import Clock

SHORTEST_PAUSE_S: Final = 1.0
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 60.0
COMPLAIN_EVERY_S: Final = 60.0

_log = structlog.get_logger(__name__)


class WorkLoop:
    """:meth:`run` is for one thread, :meth:`stop` and :meth:`wake` for any."""

    def __init__(
        self,
        name: str,
        work: Callable[[], bool],
        clock: Clock,
        *,
        longest_pause_s: float,
        tried_again: tuple[type[Exception], ...],
        on_failure: Callable[[], None],
    ) -> None:
        """``work`` says whether there was anything to do. What it raises of ``tried_again`` is told to ``on_failure``
        each time, and logged as ``NAME.failed`` once a minute at most; then, when it is over, ``NAME.recovered``."""
        self._name = name
        self._work = work
        self._clock = clock
        self._longest_pause_s = longest_pause_s
        self._tried_again = tried_again
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._complain_at_s = clock.monotonic_s()
        self._complained = False

    @property
    def is_stopping(self) -> bool:
        """For ``work`` to look at, where it takes long."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Work that is under way is not cut short."""
        self._stopping.set()
        self._woken.set()

    def wake(self) -> None:
        """Work again now, or as soon as what is under way has ended."""
        self._woken.set()

    def run(self) -> None:
        """Until :meth:`stop`. Raises what is not to be tried again."""
        pause_s, backoff_s = SHORTEST_PAUSE_S, FIRST_BACKOFF_S
        while not self.is_stopping:
            try:
                busy = self._work()
            except self._tried_again as error:
                self._complain(error, backoff_s)
                self._sleep(backoff_s * random.uniform(0.8, 1.2))  # noqa: S311 - not for secrets
                backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)
                continue
            if self._complained:
                self._complained = False
                _log.info(f"{self._name}.recovered")
            backoff_s = FIRST_BACKOFF_S
            pause_s = SHORTEST_PAUSE_S if busy else min(pause_s * 2, self._longest_pause_s)
            self._sleep(pause_s)

    def _sleep(self, pause_s: float) -> None:
        self._woken.wait(pause_s)
        self._woken.clear()

    def _complain(self, error: Exception, again_in_s: float) -> None:
        self._on_failure()
        now_s = self._clock.monotonic_s()
        if now_s >= self._complain_at_s:
            self._complain_at_s = now_s + COMPLAIN_EVERY_S
            self._complained = True
            _log.error(f"{self._name}.failed", error=str(error), kind=type(error).__name__, again_in_s=again_in_s)
