"""The four hours of retries on a simulated clock, with the real policy and the real circuit breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any

import pytest

from tests.unit.delivery.lane_setup import snapshot_of
from tests.unit.delivery.lane_world import RETRY, World
from trunkline.delivery.breaker import DEFAULT_SETTINGS
from trunkline.delivery.retry import DEFAULT_POLICY
from trunkline.destinations.kit import DELIVERED_OUTCOME, Outcome, Result
from trunkline.spec.outcomes import DELIVERED, FAILED
from trunkline.testing.simulated_time import SimulatedClock, run_simulated
from trunkline.workspace.model import DeliveryOptions

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
ANSWER_S = 0.05
ON = snapshot_of({"hook": ["web"]})
OFF = snapshot_of({"hook": ["web"]}, disabled=["hook"])
CONCURRENCY = 16


def run(test: Coroutine[Any, Any, None]) -> None:
    run_simulated(test)


class Peer:
    """Down in the given stretches of time, in seconds since the start; answers after 50 ms."""

    def __init__(self, *down: tuple[float, float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._down = down
        self.first_s: dict[str, float] = {}

    @property
    def time_s(self) -> float:
        return self._loop.time() - self._start_s

    async def __call__(self, destination: str, message_ids: Sequence[str]) -> Sequence[Outcome]:
        for message_id in message_ids:
            self.first_s.setdefault(message_id, self.time_s)
        await asyncio.sleep(ANSWER_S)
        return [self.outcome()] * len(message_ids)

    def outcome(self) -> Outcome:
        is_down = any(since_s <= self.time_s < until_s for since_s, until_s in self._down)
        return RETRY if is_down else DELIVERED_OUTCOME

    async def until(self, time_s: float) -> None:
        await asyncio.sleep(time_s - self.time_s)


class LimitedPeer(Peer):
    """Takes so many requests in each stretch of time and answers the others with 429."""

    def __init__(self, requests: int, every_s: float, *, says_when: bool) -> None:
        super().__init__()
        self._requests = requests
        self._every_s = every_s
        self._until_s = 0.0
        self._left = 0
        self._says_when = says_when
        self.refused = 0

    def outcome(self) -> Outcome:
        if self.time_s >= self._until_s - 1e-6:
            self._until_s = self.time_s + self._every_s
            self._left = self._requests
        if self._left:
            self._left -= 1
            return DELIVERED_OUTCOME
        self.refused += 1
        wish_s = self._until_s - self.time_s if self._says_when else None
        return Outcome(Result.RETRY, "429", retry_after_s=wish_s, pause_s=wish_s)


def world_of(peer: Peer, seed: int = 0, **options: Any) -> World:
    clock = SimulatedClock(asyncio.get_running_loop())
    world = World(
        peer=peer,
        clock=clock,
        policy=DEFAULT_POLICY,
        breaker=DEFAULT_SETTINGS,
        concurrency=CONCURRENCY,
        seed=seed,
        commit_every_s=0.02,
        commit_takes_s=0.005,
        **options,
    )
    world.activate(ON)
    return world


def send(world: World, name: str, count: int) -> None:
    """Envelopes of up to 100 events."""
    for first in range(0, count, 100):
        world.append(*(("web", f"{name}{number}") for number in range(first, min(first + 100, count))))


def jump(world: World, seconds: float) -> None:
    assert isinstance(world.clock, SimulatedClock)
    world.clock.jump(seconds)


async def settle(world: World) -> None:
    await world.settle(2 * DAY_S, look_every_s=20.0)


def assert_each_once(world: World) -> None:
    assert set(world.finals.values()) <= {1}


# -- stopped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped_at_s", [10 * MINUTE_S, HOUR_S, 3 * HOUR_S + 50 * MINUTE_S])
@pytest.mark.parametrize("count", [15, 500])
def test_stopped_for_five_hours_expires_nothing(stopped_at_s: float, count: int) -> None:
    async def test() -> None:
        peer = Peer((0, stopped_at_s))
        world = world_of(peer)
        send(world, "m", count)
        await peer.until(stopped_at_s)
        before = dict(world.attempts)
        jump(world, 5 * HOUR_S)
        world.crash()
        await settle(world)
        assert world.books() == {("hook", DELIVERED): count}
        assert_each_once(world)
        assert all(world.attempts[key] == before.get(key, 0) + 1 for key in world.attempts), "one more, and it worked"
        await world.close()

    run(test())


def test_what_is_overdue_after_a_stop_gets_one_more_attempt_even_if_it_fails() -> None:
    """Ten rows do not open the circuit: each is tried once more, and has failed then, as its four hours are over."""

    async def test() -> None:
        peer = Peer((0, DAY_S))
        world = world_of(peer)
        send(world, "m", 10)
        await peer.until(3 * HOUR_S + 58 * MINUTE_S)
        before = dict(world.attempts)
        jump(world, 5 * HOUR_S)
        world.crash()
        await asyncio.sleep(10 * MINUTE_S)
        await settle(world)
        assert world.books() == {("hook", FAILED): 10}
        assert world.reasons("hook") == {"503": 10}
        assert all(world.attempts[key] == count + 1 for key, count in before.items())
        await world.close()

    run(test())


# -- rate limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("requests", "wasted"), [(1, 2.2), (6, 1.4), (60, 0.6)])
@pytest.mark.parametrize("says_when", [False, True], ids=["without Retry-After", "with Retry-After"])
def test_a_peer_that_limits_the_rate_for_six_hours_gets_everything(
    requests: int, wasted: float, says_when: bool
) -> None:
    """Six requests a minute: alone each ten seconds, all at once each minute, or sixty each ten minutes."""
    count = 2_160

    async def test() -> None:
        peer = LimitedPeer(requests, 10.0 * requests, says_when=says_when)
        world = world_of(peer)
        send(world, "m", count)
        await settle(world)
        assert world.books() == {("hook", DELIVERED): count}
        assert peer.time_s > 5.8 * HOUR_S
        assert_each_once(world)
        print(f"refused {peer.refused}, took {peer.time_s / HOUR_S:.2f} h, at most {max(world.attempts.values())}")
        assert peer.refused <= wasted * count
        assert peer.time_s < 14 * HOUR_S
        await world.close()

    run(test())


def test_a_rate_limit_of_ours_with_a_backlog_of_six_hours_expires_nothing() -> None:
    count = 2_160

    async def test() -> None:
        peer = Peer((0, 60), (3 * HOUR_S, 3 * HOUR_S + 5 * MINUTE_S))
        world = world_of(peer)
        world.activate(snapshot_of({"hook": ["web"]}, delivery={"hook": DeliveryOptions(requests_per_s=0.1)}))
        send(world, "m", count)
        await settle(world)
        assert world.books() == {("hook", DELIVERED): count}
        assert 5.9 * HOUR_S < peer.time_s < 7 * HOUR_S
        assert_each_once(world)
        await world.close()

    run(test())


# -- outages ---------------------------------------------------------------------------------------------------------

THREE_59 = 3 * HOUR_S + 59 * MINUTE_S
FOUR_01 = 4 * HOUR_S + MINUTE_S
FOUR_10 = 4 * HOUR_S + 10 * MINUTE_S
WINDOW_S = DEFAULT_POLICY.window_s


@pytest.mark.parametrize(("count", "seed"), [(3, 0), (3, 1), (3, 2), (2_000, 0), (2_000, 1), (25_000, 0)], ids=str)
def test_an_outage_of_three_hours_and_fifty_nine_minutes_loses_nothing(count: int, seed: int) -> None:
    async def test() -> None:
        peer = Peer((0, THREE_59))
        world = world_of(peer, seed)
        send(world, "m", count)
        await peer.until(HOUR_S)
        assert (world.dispatcher.lanes["hook"].gate.breaker.opened_at_s is None) == (count == 3)
        assert count == 3 or len(world.attempts) < 1_000, "most have never been attempted"
        send(world, "later", 3)
        await settle(world)
        assert world.books() == {("hook", DELIVERED): count + 3}
        assert_each_once(world)
        assert max(world.attempts.values()) <= DEFAULT_POLICY.max_attempts
        await world.close()

    run(test())


@pytest.mark.parametrize("outage_s", [FOUR_01, FOUR_10], ids=["4 h 01", "4 h 10"])
@pytest.mark.parametrize("count", [3, 2_000])
@pytest.mark.parametrize("seed", range(3))
def test_a_longer_outage_fails_what_it_began_with_and_nothing_else(outage_s: float, count: int, seed: int) -> None:
    async def test() -> None:
        peer = Peer((0, outage_s))
        world = world_of(peer, seed)
        send(world, "m", count)
        for number, time_s in enumerate([20 * MINUTE_S, 2 * HOUR_S, 3 * HOUR_S + 50 * MINUTE_S]):
            await peer.until(time_s)
            send(world, f"later{number} ", 5)
        await settle(world)
        books = world.books()
        failed = books.get(("hook", FAILED), 0)
        assert sum(books.values()) == count + 15
        assert world.reasons("hook") == ({"503": failed} if failed else {})
        delivered = {message_id for (_, message_id), ends in world.ends.items() if Result.DELIVERED in ends}
        later = {f"later{number} {at}" for number in range(3) for at in range(5)}
        assert later <= delivered
        if count == 3 or outage_s == FOUR_10:
            # What was a probe of the circuit has four hours from then.
            had_time = {
                message_id for message_id in delivered - later if peer.first_s[message_id] > outage_s - WINDOW_S
            }
            assert delivered - later == had_time
            assert failed == count - len(had_time) > 0.95 * count
        # Else the probe after four hours may have met the peer's return.
        assert sum(world.store.losses(0).values()) == failed
        assert_each_once(world)
        await world.close()

    run(test())


def test_a_long_outage_fails_a_backlog_little_by_little_and_never_stands_still() -> None:
    """Behind: what is in memory expires, the lane reads on, and what comes when the peer is back is delivered."""

    async def test() -> None:
        peer = Peer((0, FOUR_10))
        world = world_of(peer)
        send(world, "m", 60_000)
        await settle(world)
        books = world.books()
        assert books["hook", FAILED] >= 10_000
        assert sum(books.values()) == 60_000
        send(world, "after", 10)
        await settle(world)
        assert world.books()["hook", DELIVERED] == books.get(("hook", DELIVERED), 0) + 10
        assert_each_once(world)
        await world.close()

    run(test())


def test_a_peer_that_flaps_for_six_hours_gets_everything() -> None:
    async def test() -> None:
        peer = Peer(*((at * 2 * MINUTE_S, (at * 2 + 1) * MINUTE_S) for at in range(180)))
        world = world_of(peer)
        for second in range(0, int(6 * HOUR_S), 5):
            await peer.until(second)
            send(world, f"m{second} ", 2)
        await settle(world)
        assert world.books() == {("hook", DELIVERED): 2 * int(6 * HOUR_S) // 5}
        assert_each_once(world)
        await world.close()

    run(test())


@pytest.mark.parametrize("count", [3, 2_000], ids=["circuit closed", "circuit open"])
@pytest.mark.parametrize("restart", [False, True])
def test_six_hours_disabled_amid_an_outage_expire_nothing(count: int, restart: bool) -> None:
    async def test() -> None:
        peer = Peer((0, 7 * HOUR_S + 30 * MINUTE_S))
        world = world_of(peer)
        send(world, "m", count)
        await peer.until(30 * MINUTE_S)
        world.activate(OFF)
        await peer.until(35 * MINUTE_S)
        attempts = world.attempts.total()
        if restart:
            world.crash()
        await peer.until(6 * HOUR_S + 30 * MINUTE_S)
        assert world.attempts.total() == attempts
        world.activate(ON)
        await peer.until(7 * HOUR_S)
        assert world.books() == {}
        await settle(world)
        assert world.books() == {("hook", DELIVERED): count}
        assert_each_once(world)
        await world.close()

    run(test())


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S], ids=["a day forward", "a day back"])
@pytest.mark.parametrize("count", [3, 2_000], ids=["circuit closed", "circuit open"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_clock_that_is_set_amid_an_outage_changes_nothing(jump_s: float, count: int, restart: bool) -> None:
    async def test() -> None:
        peer = Peer((0, THREE_59))
        world = world_of(peer)
        send(world, "m", count)
        await peer.until(2 * HOUR_S)
        jump(world, jump_s)
        send(world, "later", 3)
        await peer.until(3 * HOUR_S)
        if restart:
            world.crash()
        await settle(world)
        assert world.books() == {("hook", DELIVERED): count + 3}
        assert_each_once(world)
        assert peer.time_s < 10 * HOUR_S
        await world.close()

    run(test())


# -- the figure of first attempts against all ------------------------------------------------------------------------


def test_a_peer_that_takes_93_percent_of_the_requests_gets_all_events() -> None:
    count, share = 30_000, 0.9336

    async def test() -> None:
        dice = Random(5)
        peer = Peer()
        peer.outcome = lambda: DELIVERED_OUTCOME if dice.random() < share else RETRY  # type: ignore[method-assign]
        world = world_of(peer)
        for second in range(count // 100):
            await peer.until(second)
            send(world, f"m{second} ", 100)
        await settle(world)
        assert world.books() == {("hook", DELIVERED): count}, "no less than 99.99 % would do"
        assert set(world.finals.values()) == {1}
        first = sum(attempts == 1 for attempts in world.attempts.values())
        assert abs(first / count - share) < 0.005
        delivered, retried = world.recorded("hook"), world.recorded("hook", "retry")
        assert (delivered.events, delivered.first) == (count, first)
        assert delivered.retries == retried.events == world.attempts.total() - count
        assert delivered.requests + retried.requests == world.requests["hook"]
        print(f"first {first / count:.4%}, final {delivered.events / count:.4%}")
        await world.close()

    run(test())


def test_a_peer_that_is_down_for_forty_minutes_gets_all_events() -> None:
    async def test() -> None:
        peer = Peer((HOUR_S, HOUR_S + 40 * MINUTE_S))
        world = world_of(peer)
        for second in range(0, int(3 * HOUR_S), 5):
            await peer.until(second)
            send(world, f"m{second} ", 10)
        await settle(world)
        count = 10 * int(3 * HOUR_S) // 5
        assert world.books() == {("hook", DELIVERED): count}
        assert set(world.finals.values()) == {1}
        assert world.recorded("hook").events == count
        assert peer.time_s < 4 * HOUR_S
        await world.close()

    run(test())


def test_a_rate_limit_without_end_ends_with_the_window() -> None:
    """A peer that takes nothing at all is not limiting the rate."""

    async def test() -> None:
        peer = LimitedPeer(0, DAY_S, says_when=False)
        world = world_of(peer)
        send(world, "m", 3)
        await settle(world)
        assert world.books() == {("hook", FAILED): 3}
        assert world.reasons("hook") == {"429": 3}
        assert peer.time_s < 4.2 * HOUR_S
        await world.close()

    run(test())
