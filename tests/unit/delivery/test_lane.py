"""What a lane does, one behaviour at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.unit.delivery.lane_setup import snapshot_of, tight_lanes
from tests.unit.delivery.lane_world import FAILED, HANG, RETRY, World
from trunkline.delivery.retry import RetryPolicy
from trunkline.destinations.kit import DELIVERED_OUTCOME, Outcome
from trunkline.state.base import position_of


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def ok(destination: str, message_id: str, before: int) -> Outcome | None:
    return DELIVERED_OUTCOME


def is_watching(world: World) -> bool:
    return world.dispatcher.lanes["hook"].watching


def test_a_lane_that_has_caught_up_owns_no_state() -> None:
    async def test() -> None:
        world = World(ok)
        world.activate(snapshot_of({"hook": ["web"]}))
        for number in range(10):
            world.append(("web", f"m{number}"), ("app", f"a{number}"))
        await world.settle()
        state = world.store.read()
        assert (state.lanes, state.row_counts) == ({}, {})
        assert world.books() == {("hook", "delivered"): 10}
        assert set(world.attempts) == {("hook", f"m{number}") for number in range(10)}
        assert set(world.attempts.values()) == {1}
        await world.close()
        assert world.closed_senders == 1

    run(test())


def test_one_event_that_hangs_gets_a_row_and_the_mark_moves_on() -> None:
    async def test() -> None:
        world = World(lambda d, m, before: HANG if m == "m3" else DELIVERED_OUTCOME)
        world.activate(snapshot_of({"hook": ["web"]}))
        for number in range(20):
            world.append(("web", f"m{number}"))
        await world.ticks(100)
        world.commit()
        state = world.store.read()
        lane = state.lanes["hook", "0"]
        assert position_of(lane.mark) == 3
        assert [(position_of(a), position_of(b)) for a, b in lane.settled] == [(4, 19)]
        assert state.row_counts == {}
        with tight_lanes(row_after_s=0.0):
            assert is_watching(world)
            await asyncio.sleep(0.01)
            world.commit()
        state = world.store.read()
        assert state.lanes == {}
        assert [row.message_id for row in world.store.rows("hook")] == ["m3"]
        assert not is_watching(world)
        assert world.books() == {("hook", "delivered"): 19}
        world.let_go()
        await world.settle()
        assert world.books() == {("hook", "delivered"): 20}
        await world.close()

    run(test())


def test_no_more_attempts_at_once_than_the_concurrency() -> None:
    async def test() -> None:
        world = World(lambda d, m, before: HANG, concurrency=3)
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(*(("web", f"m{number}") for number in range(10)))
        await world.ticks(50)
        assert world.in_flight() == 3
        assert len(world.attempts) == 3
        world.let_go()
        await world.settle()
        assert world.books() == {("hook", "delivered"): 10}
        await world.close()

    run(test())


def test_a_lane_whose_queue_is_full_reads_the_log_by_itself() -> None:
    async def test() -> None:
        world = World(lambda d, m, before: HANG if d == "slow" else DELIVERED_OUTCOME, kafka_like=True)
        world.activate(snapshot_of({"slow": ["web"], "fast": ["web"]}))
        with tight_lanes(queue_events=8):
            for number in range(100):
                world.append(("web", f"m{number}"), ("app", f"a{number}"))
            await world.ticks(5)
            for number in range(100, 150):
                world.append(("web", f"m{number}"))
                await world.ticks(20)
            lane = world.dispatcher.lanes["slow"]
            assert lane.pending_in_memory <= 8 + 4
            world.commit()
            assert "slow" in {slug for slug, _ in world.store.read().lanes}
            world.let_go()
            await world.settle()
        assert world.books() == {("slow", "delivered"): 150, ("fast", "delivered"): 150}
        assert set(world.attempts.values()) == {1}
        await world.close()

    run(test())


def test_at_the_cap_of_rows_a_lane_stops_reading_and_goes_on_by_itself() -> None:
    """No envelope comes any more, the lane is behind, and all of its rows wait: it must wake by its own timer."""

    async def test() -> None:
        world = World(lambda d, m, before: RETRY if before < 5 else DELIVERED_OUTCOME)
        world.activate(snapshot_of({"hook": ["web"]}))
        with tight_lanes(queue_events=10, rows=4):
            for number in range(60):
                world.append(("web", f"m{number}"))
            await world.ticks(100)
            world.commit()
            assert sum(world.store.read().row_counts.values()) <= 4 + 4, "the cap, and what was in flight"
            await world.settle()
        assert world.books() == {("hook", "delivered"): 60}
        await world.close()

    run(test())


def test_a_disabled_lane_keeps_its_events_and_a_gap_is_not_its_own() -> None:
    async def test() -> None:
        stuck = True

        def answer(destination: str, message_id: str, before: int) -> Outcome | None:
            return RETRY if stuck else DELIVERED_OUTCOME

        world = World(answer, policy=RetryPolicy(first_wait_s=0.02, growth=1.0, longest_wait_s=0.03, max_attempts=999))
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(*(("web", f"before{number}") for number in range(10)))
        await world.ticks(50)
        world.activate(snapshot_of({"hook": ["web"]}, disabled=["hook"]))
        stuck = False
        await asyncio.sleep(0.1)
        attempts = world.attempts.total()
        world.append(*(("web", f"gap{number}") for number in range(10)))
        await asyncio.sleep(0.1)
        assert world.attempts.total() == attempts
        world.commit()
        world.crash()
        await asyncio.sleep(0.1)
        assert world.attempts.total() == attempts
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(*(("web", f"after{number}") for number in range(10)))
        await world.settle()
        assert world.books() == {("hook", "delivered"): 20}
        assert not any(message_id.startswith("gap") for _, message_id in world.attempts)
        await world.close()

    run(test())


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_deleting_settles_everything_that_was_pending(behind: bool, restart: bool) -> None:
    """Queued, in flight, waiting in rows, still in the log only: all fail, each once."""

    async def test() -> None:
        def answer(destination: str, message_id: str, before: int) -> Outcome | None:
            number = int(message_id.removeprefix("m"))
            return DELIVERED_OUTCOME if number < 5 else RETRY if number < 10 else HANG

        world = World(answer, policy=RetryPolicy(first_wait_s=60))
        world.activate(snapshot_of({"hook": ["web"], "other": ["app"]}))
        with tight_lanes(queue_events=20 if behind else 10_000):
            for number in range(100):
                world.append(("web", f"m{number}"))
                await world.ticks(10)
            world.commit()
            if restart:
                world.snapshot = snapshot_of({"other": ["app"]})
                world.crash()
            else:
                world.activate(snapshot_of({"other": ["app"]}))
            world.commit()
        assert world.books() == {("hook", "delivered"): 5, ("hook", "failed"): 95}
        reasons = {key.reason for key in world.store.read().lane_books if key.outcome == "failed"}
        assert reasons == {"destination_deleted"}
        state = world.store.read()
        assert (state.lanes, state.row_counts) == ({}, {})
        world.let_go()
        await world.ticks(50)
        world.commit()
        assert world.books() == {("hook", "delivered"): 5, ("hook", "failed"): 95}
        await world.close()

    run(test())


def test_a_stop_leaves_what_hangs_pending() -> None:
    async def test() -> None:
        world = World(lambda d, m, before: HANG if m == "m1" else FAILED if m == "m2" else DELIVERED_OUTCOME)
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(*(("web", f"m{number}") for number in range(6)))
        await world.ticks(50)
        await world.dispatcher.lanes["hook"].drain(0.01)
        world.commit()
        assert world.books() == {("hook", "delivered"): 4, ("hook", "failed"): 1}
        world.crash()
        world.let_go()
        await world.settle()
        assert world.books() == {("hook", "delivered"): 5, ("hook", "failed"): 1}
        assert world.attempts["hook", "m1"] == 2
        assert world.attempts["hook", "m0"] == 1
        await world.close()

    run(test())


def test_a_bug_in_a_sender_is_an_attempt_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        def answer(destination: str, message_id: str, before: int) -> Outcome | None:
            if before == 0:
                raise ZeroDivisionError
            return DELIVERED_OUTCOME

        world = World(answer)
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(("web", "m1"), ("web", "m2"))
        await world.settle()
        assert world.books() == {("hook", "delivered"): 2}
        await world.close()

    run(test())


def test_retries_that_are_used_up_end_as_failed() -> None:
    async def test() -> None:
        policy = RetryPolicy(window_s=0.05, first_wait_s=0.001, growth=1.0, max_attempts=4, last_attempt_within_s=15)
        world = World(lambda d, m, before: RETRY, policy=policy)
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(("web", "m1"))
        await world.settle()
        assert world.books() == {("hook", "failed"): 1}
        assert [key.reason for key in world.store.read().lane_books] == ["503"]
        await world.close()

    run(test())


@pytest.mark.parametrize("turns", range(8))
def test_an_event_that_comes_just_as_the_last_sender_ends_is_sent(turns: int) -> None:
    async def test() -> None:
        world = World(ok, concurrency=1)
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(("web", "m0"))
        await world.ticks(turns)
        world.append(("web", "m1"))
        await world.ticks(20)
        assert set(world.attempts) == {("hook", "m0"), ("hook", "m1")}
        await world.settle()
        await world.close()

    run(test())


def test_the_mark_does_not_fall_when_nothing_was_read_between_two_restarts() -> None:
    """The mark lies within an envelope; what is below it in the same envelope stays settled."""

    async def test() -> None:
        world = World(lambda d, m, before: HANG if m == "m2" else DELIVERED_OUTCOME, concurrency=4)
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(*(("web", f"m{number}") for number in range(4)))
        await world.ticks(50)
        world.commit()
        world.activate(snapshot_of({"hook": ["web"]}, disabled=["hook"]))
        world.commit()
        for _ in range(2):
            world.crash()
            world.commit()
        world.let_go()
        world.activate(snapshot_of({"hook": ["web"]}))
        await world.settle()
        assert world.books() == {("hook", "delivered"): 4}
        assert world.attempts == {("hook", "m0"): 1, ("hook", "m1"): 1, ("hook", "m2"): 2, ("hook", "m3"): 1}
        await world.close()

    run(test())
