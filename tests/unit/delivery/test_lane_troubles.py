"""Lanes when something beside the destination goes wrong: the sender, the log, the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from unittest.mock import patch

import pytest

from tests.unit.delivery.lane_setup import snapshot_of, tight_lanes
from tests.unit.delivery.lane_world import RETRY, World
from trunkline.clock import SystemClock
from trunkline.delivery import intake as intake_module
from trunkline.delivery.retry import RetryPolicy
from trunkline.destinations.kit import DELIVERED_OUTCOME, Outcome, Sender
from trunkline.log.base import LogError, Record
from trunkline.spec.outcomes import DELIVERED, FAILED
from trunkline.testing.memory_log import MemoryReader

HOUR_S = 3600
ONE = snapshot_of({"hook": ["web"]})


def deliver(destination: str, message_id: str, before: int) -> Outcome:
    return DELIVERED_OUTCOME


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("waited in vain")


class ShiftedClock(SystemClock):
    """A clock whose wall time can be put forward or back."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + int(self.shift_s * 1000)


class UnopenableWorld(World):
    """Its senders can't be opened the first times."""

    failures_left = 3

    def _sender(self, slug: str) -> Sender:
        if self.failures_left:
            self.failures_left -= 1
            raise OSError(28, "No space left on device")
        return super()._sender(slug)


def test_a_sender_that_cannot_be_opened_is_an_attempt_that_failed() -> None:
    async def test() -> None:
        world = UnopenableWorld(deliver)
        world.activate(ONE)
        world.append(*(("web", f"m{number}") for number in range(20)))
        await world.settle()
        assert world.failures_left == 0
        assert world.books() == {("hook", DELIVERED): 20}
        await world.close()

    asyncio.run(test())


def test_a_log_that_cannot_be_read_for_a_while_stops_nobody() -> None:
    broken = [True]
    read = MemoryReader.read

    def sometimes(self: MemoryReader, max_bytes: int, max_records: int = 1_000_000) -> list[Record]:
        if broken[0]:
            raise LogError("[Errno 24] Too many open files")
        return read(self, max_bytes, max_records)

    async def test() -> None:
        world = World(deliver, concurrency=1)
        world.activate(ONE)
        with (
            tight_lanes(queue_events=4),
            patch.object(intake_module, "READ_AGAIN_S", 0.01),
            patch.object(MemoryReader, "read", sometimes),
        ):
            for number in range(30):
                world.append(("web", f"m{number}"))
            await asyncio.sleep(0.05)
            world.commit()
            assert world.store.read().lanes
            broken[0] = False
            await world.settle()
        assert world.books() == {("hook", DELIVERED): 30}
        assert set(world.finals.values()) == {1}
        await world.close()

    asyncio.run(test())


def test_a_lane_reads_much_that_is_not_its_own_in_slices() -> None:
    async def test() -> None:
        world = World(deliver)
        world.activate(snapshot_of({"hook": ["web"], "other": ["app"]}, disabled=["hook"]))
        world.activate(snapshot_of({"hook": ["web"], "other": ["app"]}))
        with tight_lanes():
            lane = world.dispatcher.lanes["hook"]
            lane.hold("test")
            lane.feed.behind = world.dispatcher.position
            for number in range(200):
                world.append(("app", f"a{number}"))
            world.append(("web", "mine"))
            lane.release("test")
            assert lane.feed.behind is not None
            assert lane.feed.behind < world.dispatcher.position - 100
            await world.settle()
        assert world.finals["hook", "mine"] == 1
        await world.close()

    asyncio.run(test())


@pytest.mark.parametrize("restart", [False, True])
def test_time_in_which_no_attempt_could_be_made_expires_nothing(restart: bool) -> None:
    """Disabled or stopped for a day, or a clock put forward: the event still has most of its four hours."""
    policy = RetryPolicy(first_wait_s=0.001, growth=1.0, longest_wait_s=0.002, window_s=4 * HOUR_S)

    def fails_five_times(destination: str, message_id: str, before: int) -> Outcome:
        return RETRY if before < 5 else DELIVERED_OUTCOME

    async def test() -> None:
        clock = ShiftedClock()
        world = World(fails_five_times, policy=policy, clock=clock)
        world.activate(ONE)
        world.append(("web", "m"))
        await until(lambda: world.attempts["hook", "m"] >= 2)
        await world.ticks(3)
        world.dispatcher.lanes["hook"].hold("test")
        await world.ticks(3)
        world.commit()
        clock.shift_s += 24 * HOUR_S
        if restart:
            world.crash()
        else:
            world.dispatcher.lanes["hook"].release("test")
        await world.settle()
        assert world.books() == {("hook", DELIVERED): 1}
        await world.close()

    asyncio.run(test())


def test_a_clock_that_is_put_back_ends_no_retries_and_loses_nothing() -> None:
    policy = RetryPolicy(first_wait_s=0.001, growth=1.0, longest_wait_s=0.002, max_attempts=4)

    async def test() -> None:
        clock = ShiftedClock()
        world = World(lambda destination, message_id, before: RETRY, policy=policy, clock=clock)
        world.activate(ONE)
        world.append(("web", "m"))
        await until(lambda: world.attempts["hook", "m"] >= 1)
        clock.shift_s -= 24 * HOUR_S
        lane = world.dispatcher.lanes["hook"]
        for _ in range(1000):
            if not lane._waiting._heap and world.attempts["hook", "m"] >= 4:
                break
            # The last attempt is planned near the window's end: bring it forward.
            lane._waiting._heap = [(0.0, sequence, item) for _, sequence, item in lane._waiting._heap]
            lane.wake()
            await asyncio.sleep(0.001)
        await world.settle()
        assert world.books() == {("hook", FAILED): 1}
        assert world.attempts["hook", "m"] == 4
        await world.close()

    asyncio.run(test())
