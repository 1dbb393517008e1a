"""Simulated time: it jumps, waits for executors, repeats itself, and tells when nobody can go on."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from trunkline.clock import Clock
from trunkline.testing.simulated_time import (
    START_MS,
    START_S,
    Deadlock,
    ExecutorStuck,
    SimulatedClock,
    SimulatedLoop,
    run_simulated,
)

DAY_S = 86_400.0


def now_s() -> float:
    return asyncio.get_running_loop().time() - START_S


def test_it_returns_and_raises_what_the_coroutine_does() -> None:
    async def result() -> int:
        await asyncio.sleep(3_600)
        return 7

    async def failure() -> None:
        await asyncio.sleep(3_600)
        raise LookupError("nothing there")

    assert run_simulated(result()) == 7
    with pytest.raises(LookupError, match="nothing there"):
        run_simulated(failure())


def test_timers_run_in_order_at_their_own_time() -> None:
    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()

        def note(name: str) -> None:
            seen.append((name, round(now_s(), 6)))

        for name, at in (("late", 90 * 60.0), ("soon", 0.001), ("first at ten", 10.0), ("second at ten", 10.0)):
            loop.call_later(at, note, name)
        cancelled = loop.call_later(20, note, "cancelled")
        loop.call_later(15, cancelled.cancel)
        await asyncio.sleep(4 * 3_600)
        assert round(now_s(), 6) == 4 * 3_600
        return seen

    expected = [("soon", 0.001), ("first at ten", 10.0), ("second at ten", 10.0), ("late", 5_400.0)]
    assert run_simulated(main()) == expected


def test_callbacks_that_are_ready_come_before_any_jump() -> None:
    async def main() -> None:
        seen: list[int] = []
        asyncio.get_running_loop().call_later(0.000_001, lambda: seen.append(-1))
        for number in range(100):
            await asyncio.sleep(0)
            seen.append(number)
        assert now_s() == 0
        await asyncio.sleep(1)
        assert seen == [*range(100), -1]

    run_simulated(main())


@pytest.mark.parametrize("step_s", [0.001, 0.02, 1 / 3, 5_400.0, 3 * DAY_S, 400 * DAY_S])
def test_many_steps_add_up(step_s: float) -> None:
    """Sums of floats neither stop time nor let a timer come early."""

    async def main() -> None:
        clock = SimulatedClock(asyncio.get_running_loop())
        for number in range(1, 1_001):
            await asyncio.sleep(step_s)
            assert now_s() == pytest.approx(number * step_s, rel=1e-6)
            assert abs(clock.now_ms() - START_MS - number * step_s * 1_000) <= 1

    run_simulated(main())


def test_timeouts_are_simulated() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.Event().wait()
        assert now_s() == pytest.approx(600)
        assert await asyncio.wait_for(asyncio.sleep(10, "slept"), 600) == "slept"
        assert now_s() == pytest.approx(610)

    run_simulated(main())


def test_the_clock_follows_the_loop_and_its_wall_time_may_be_set() -> None:
    async def main() -> None:
        await asyncio.sleep(5)
        clock = SimulatedClock(asyncio.get_running_loop(), start_ms=1_000_000)
        checked: Clock = clock
        before_s = checked.monotonic_s()
        assert checked.now_ms() == 1_000_000
        await asyncio.sleep(59.999)
        assert checked.now_ms() == 1_059_999
        clock.jump(3_600)
        assert checked.now_ms() == 4_659_999
        clock.jump(-7_200)
        assert checked.now_ms() == -2_540_001
        assert checked.monotonic_s() == pytest.approx(before_s + 59.999)
        await asyncio.sleep(0.001)
        assert checked.now_ms() == -2_540_000
        assert checked.monotonic_s() == pytest.approx(before_s + 60)

    run_simulated(main())


def test_two_clocks_are_set_apart_from_each_other() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = SimulatedClock(loop), SimulatedClock(loop)
        one.jump(60)
        assert (one.now_ms(), other.now_ms()) == (START_MS + 60_000, START_MS)

    run_simulated(main())


# -- executors -------------------------------------------------------------------------------------------------------


def test_time_stands_still_while_an_executor_works() -> None:
    """The work ends only after another thread's call has run on the loop; an hourglass would long have run out."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        called = threading.Event()
        fired: list[str] = []
        loop.call_later(0.001, lambda: fired.append("timer"))

        def work() -> str:
            loop.call_soon_threadsafe(called.set)
            assert called.wait(30), "a call from another thread was not served"
            return "done"

        assert await asyncio.to_thread(work) == "done"
        assert (now_s(), fired) == (0, [])
        with ThreadPoolExecutor(1) as own:
            assert await loop.run_in_executor(own, sum, [1, 2]) == 3
        assert (now_s(), fired) == (0, [])
        await asyncio.sleep(1)
        assert fired == ["timer"]

    run_simulated(main())


def test_work_that_nobody_waits_for_any_more_holds_time_too() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        started, release = threading.Event(), threading.Event()
        ended: list[float] = []

        def work() -> None:
            started.set()
            assert release.wait(30)
            ended.append(loop.time() - START_S)

        waiting = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.sleep(0)
        assert started.wait(30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        threading.Timer(0.05, release.set).start()
        await asyncio.sleep(3_600)
        assert ended == [0]
        assert loop.time() - START_S == 3_600

    run_simulated(main())


def test_work_that_has_not_begun_is_cancelled_with_its_waiter() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        release = threading.Event()
        ran: list[str] = []
        with ThreadPoolExecutor(1) as own:
            first = loop.run_in_executor(own, release.wait, 30)
            second = loop.run_in_executor(own, ran.append, "second")
            second.cancel()
            await asyncio.sleep(0)
            release.set()
            assert await first
        assert second.cancelled()
        assert ran == []

    run_simulated(main())


def test_an_executors_error_reaches_its_waiter() -> None:
    async def main() -> None:
        def work() -> None:
            raise LookupError("no such row")

        with pytest.raises(LookupError, match="no such row"):
            await asyncio.to_thread(work)

    run_simulated(main())


def test_results_are_handed_over_in_the_order_of_asking() -> None:
    """The second has ended for sure before the first; every run must still go the same way."""

    async def main() -> list[str]:
        seen: list[str] = []
        second_ended = threading.Event()

        async def ask(name: str, work: Callable[[], Any]) -> None:
            await asyncio.to_thread(work)
            seen.append(name)

        await asyncio.gather(ask("first", lambda: second_ended.wait(30)), ask("second", second_ended.set))
        return seen

    assert run_simulated(main()) == ["first", "second"]


def test_the_default_executor_may_be_another() -> None:
    async def main() -> str:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="mine"))
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    assert run_simulated(main()).startswith("mine")


def test_calls_from_a_thread_of_somebody_elses_are_served() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(done.set_result, 5))
        thread.start()
        result: int = await done
        await asyncio.to_thread(thread.join)
        return result

    assert run_simulated(main()) == 5


# -- nobody can go on ------------------------------------------------------------------------------------------------


def test_a_deadlock_is_told_with_who_waits() -> None:
    cleaned: list[str] = []

    async def forgotten() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("up")

    async def main() -> None:
        await asyncio.sleep(60)
        await asyncio.create_task(forgotten(), name="the forgotten one")

    with pytest.raises(Deadlock, match="no timer is set") as caught:
        run_simulated(main())
    assert "the forgotten one: " in str(caught.value)
    assert "forgotten (test_simulated_time.py:" in str(caught.value)
    assert "> Event.wait (locks.py:" in str(caught.value)
    assert cleaned == ["up"]


def test_timers_and_work_that_are_left_are_no_deadlock() -> None:
    async def main() -> None:
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(10 * DAY_S, event.set)
        await event.wait()
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(lambda: loop.call_soon_threadsafe(event.clear))

    run_simulated(main())


def test_work_that_never_ends_is_told() -> None:
    release = threading.Event()
    cleaned: list[str] = []

    async def main() -> None:
        # What it waits for would come with time, which stands still.
        asyncio.get_running_loop().call_later(60, release.set)
        try:
            await asyncio.to_thread(release.wait)
        finally:
            await asyncio.sleep(1)
            cleaned.append("up")

    with pytest.raises(ExecutorStuck, match="Time stands still") as caught:
        run_simulated(main(), patience_s=0.1)
    release.set()
    assert cleaned == ["up"]
    assert "main (test_simulated_time.py:" in str(caught.value)


# -- a day -----------------------------------------------------------------------------------------------------------


def history(seed: int) -> list[tuple[str, int]]:
    """Senders, retries, timeouts and an executor, as random as a seed allows."""

    async def main() -> list[tuple[str, int]]:
        loop = asyncio.get_running_loop()
        clock = SimulatedClock(loop)
        rng = random.Random(seed)
        queue: asyncio.Queue[int] = asyncio.Queue(5)
        seen: list[tuple[str, int]] = []

        async def produce(name: str) -> None:
            for number in range(50):
                await asyncio.sleep(rng.expovariate(1 / 60))
                await queue.put(number)
                seen.append((f"{name} put {number}", clock.now_ms()))

        async def consume(name: str) -> None:
            while True:
                number = await queue.get()
                try:
                    async with asyncio.timeout(rng.uniform(1, 90)):
                        await asyncio.sleep(rng.uniform(1, 90))
                except TimeoutError:
                    seen.append((f"{name} gave up {number}", clock.now_ms()))
                spin = rng.randrange(20_000)
                await asyncio.gather(*(asyncio.to_thread(sum, range(each)) for each in (spin, 10, spin // 2)))
                seen.append((f"{name} took {number}", clock.now_ms()))
                queue.task_done()

        consumers = [asyncio.create_task(consume(name)) for name in "xyz"]
        await asyncio.gather(*(produce(name) for name in "abcd"))
        await queue.join()
        for task in consumers:
            task.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)
        return seen

    return run_simulated(main())


def test_the_same_seed_gives_the_same_history() -> None:
    first = history(1)
    assert len(first) >= 400
    assert [history(1), history(1)] == [first, first]
    assert history(2) != first


def test_a_day_of_timers_passes_without_any_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop never asks its selector to sleep; so a day costs what its callbacks cost."""
    waits: list[float] = []
    loop = SimulatedLoop()

    def wait(timeout_s: float) -> list[Any]:
        waits.append(timeout_s)
        return []

    monkeypatch.setattr(loop._waiting, "wait", wait)

    async def main() -> int:
        rng = random.Random(7)
        timers = 0

        async def lane() -> None:
            nonlocal timers
            while now_s() < DAY_S:
                await asyncio.sleep(rng.uniform(0, 172.8))
                timers += 1

        await asyncio.gather(*(lane() for _ in range(100)))
        return timers

    assert loop.run_until_complete(main()) == pytest.approx(100_000, rel=0.05)
    assert DAY_S <= loop.time() - START_S < DAY_S + 200
    assert waits == []
    loop.close()
