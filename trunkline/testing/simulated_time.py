"""Time that jumps: an event loop on which a day passes in seconds, and the clock that goes with it.

Nothing waits: when no callback is ready, time moves to the next timer at once. Callbacks run in the order that asyncio
gives them; what an executor did is handed over only when nothing else is ready, in the order in which it was asked for,
so a run repeats itself exactly as long as the code under test draws its random numbers from a seed. Time stands still
while an executor works. Only work that the loop started counts: a thread or a socket of somebody else's is served as it
comes, but time does not wait for it.

    SimulationError
    ├── Deadlock         everybody waits, and nothing is left that could wake them
    └── ExecutorStuck    an executor's work does not end
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_MS = 1_750_000_000_000
"""The wall clock's reading at the start, unless a test says otherwise: 2025-06-15T15:06:40Z."""

START_S = 1_000.0
"""Monotonic time begins somewhere; not at 0, which code may mistake for "never"."""

PATIENCE_S = 60.0
GRACE_S = 0.2
"""Before everybody is declared stuck: real time for another thread that was about to call."""

LOOK_EVERY = 64
"""Of so many looks at the sockets that need no waiting, one is really taken: each costs as much as a callback."""

Ready = list[tuple[selectors.SelectorKey, int]]


class SimulationError(Exception):
    """The simulation cannot go on."""


class Deadlock(SimulationError):
    """No callback is ready, no timer is set, no executor works, and the coroutine has not ended."""


class ExecutorStuck(SimulationError):
    """The work that an executor was given has not ended within the loop's ``patience_s`` of real time."""


class _Selector(selectors.DefaultSelector):
    """Asks the loop what to do where another selector would sleep."""

    when_idle: Callable[[float | None], Ready]
    _looks = 0

    def select(self, timeout: float | None = None) -> Ready:
        if timeout is None or timeout > 0:
            return self.when_idle(timeout)
        return self.look()

    def look(self) -> Ready:
        """Which sockets are ready now. Calls from other threads are in the loop's own queue and need no look."""
        self._looks += 1
        return [] if self._looks % LOOK_EVERY else super().select(0)

    def wait(self, timeout_s: float) -> Ready:
        """Really."""
        return super().select(timeout_s)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose :meth:`time` is simulated. ``patience_s`` is real: how long an executor's work may take."""

    def __init__(self, *, patience_s: float = PATIENCE_S) -> None:
        self._now_s = START_S
        self._patience_s = patience_s
        self._pool: Executor = ThreadPoolExecutor(thread_name_prefix="simulated")
        self._under_way: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._gave_up = False
        self._waiting = _Selector()
        self._waiting.when_idle = self._when_idle
        super().__init__(self._waiting)

    def time(self) -> float:
        """Simulated monotonic time, in seconds."""
        return self._now_s

    # -- executors -----------------------------------------------------------------------------------------------

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Time stands still until it is done, even if nobody waits for it any more."""
        work = (executor or self._pool).submit(func, *args)
        waiter: asyncio.Future[T] = self.create_future()
        waiter.add_done_callback(lambda done: done.cancelled() and work.cancel())
        self._under_way.append((work, waiter))
        work.add_done_callback(lambda done: self._wake())
        return waiter

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        self._pool = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - its signature
        """Wait for the work under way, unless it was given up. There is no time that could run out."""
        if not self._gave_up:
            other = ThreadPoolExecutor(1)
            await self.run_in_executor(other, self._pool.shutdown)
            other.shutdown(wait=False)

    def close(self) -> None:
        if not self.is_running():
            self._pool.shutdown(wait=False)
        super().close()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self.call_soon_threadsafe(lambda: None)

    def _hand_over(self) -> None:
        work, waiter = self._under_way.popleft()
        if waiter.done():
            return
        if work.cancelled():
            waiter.cancel()
        elif (error := work.exception()) is not None:
            waiter.set_exception(error)
        else:
            waiter.set_result(work.result())

    # -- time ----------------------------------------------------------------------------------------------------

    def _when_idle(self, until_timer_s: float | None) -> Ready:
        """No callback is ready, and the next timer is this far away."""
        if ready := self._waiting.look():
            return ready
        if self._under_way:
            return self._wait_for_executors()
        if until_timer_s is None:
            if ready := self._waiting.wait(GRACE_S):
                return ready
            raise Deadlock(
                "nothing is ready, no timer is set and no executor works: nobody can go on. Who waits:\n"
                + self._who_waits()
            )
        self._now_s += until_timer_s
        # asyncio runs a timer that is due within this; late in a long simulation a float's own steps are larger.
        self._clock_resolution = 1e-9 if self._now_s < 1e6 else 4 * math.ulp(self._now_s)
        return []

    def _wait_for_executors(self) -> Ready:
        oldest, _ = self._under_way[0]
        if oldest.done():
            self._hand_over()
            return []
        if (ready := self._waiting.wait(self._patience_s)) or oldest.done():
            return ready
        self._under_way.popleft()
        self._gave_up = True
        raise ExecutorStuck(
            f"an executor's work has not ended within {self._patience_s:g} s of real time. Time stands still meanwhile:"
            f" work that itself waits for a timer never ends. Who waits:\n{self._who_waits()}"
        )

    def _who_waits(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        return "\n".join(f"  {task.get_name()}: {' > '.join(_places(task.get_coro()))}" for task in tasks)


def _places(coroutine: Any) -> Iterator[str]:
    """Where a coroutine is suspended, and those that it awaits."""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield f"{coroutine.__qualname__} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
        coroutine = coroutine.cr_await


class SimulatedClock:
    """The loop's time as a :class:`trunkline.clock.Clock`, with a wall clock that a test may set."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start_ms: int = START_MS) -> None:
        self._loop = loop
        self._start_s = loop.time()
        self._start_ms = start_ms

    def now_ms(self) -> int:
        # A microsecond's grace: the sum of many sleeps is a little less than what it should be.
        return self._start_ms + math.floor((self._loop.time() - self._start_s) * 1_000 + 1e-3)

    def monotonic_s(self) -> float:
        return self._loop.time()

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back if negative. Monotonic time and timers know nothing of it."""
        self._start_ms += round(seconds * 1_000)


def run_simulated(coroutine: Coroutine[Any, Any, T], *, patience_s: float = PATIENCE_S) -> T:
    """What the coroutine returns, run on a new :class:`SimulatedLoop` that is closed afterwards.

    Raises what the coroutine raises, or a :class:`SimulationError`.
    """
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(patience_s=patience_s)) as runner:
        return runner.run(coroutine)
