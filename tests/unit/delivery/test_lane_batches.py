"""Small batches, and the gate that stands before all requests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

import pytest

from tests.unit.delivery.lane_setup import snapshot_of, tight_lanes
from tests.unit.delivery.lane_world import FAILED, RETRY, World
from trunkline.delivery.breaker import DEFAULT_SETTINGS
from trunkline.delivery.retry import DEFAULT_POLICY
from trunkline.destinations.kit import DELIVERED_OUTCOME, BatchRules, Outcome, Result
from trunkline.spec.outcomes import DELIVERED
from trunkline.testing.simulated_time import SimulatedClock, run_simulated
from trunkline.workspace.model import DeliveryOptions

ON = snapshot_of({"hook": ["web"]})
BROKEN = Outcome(Result.RETRY, "500")
TENS = BatchRules(events=10, size_bytes=1_000, wait_s=2.0)


def run(test: Coroutine[Any, Any, None]) -> None:
    run_simulated(test)


class Peer:
    """Notes each request: when it began, and its members."""

    def __init__(self, outcome: Callable[[str, int], Outcome] | None = None, takes_s: float = 0.05) -> None:
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._outcome = outcome or (lambda message_id, before: DELIVERED_OUTCOME)
        self._seen: dict[str, int] = {}
        self.takes_s = takes_s
        self.requests: list[tuple[float, list[str]]] = []

    @property
    def time_s(self) -> float:
        return self._loop.time() - self._start_s

    @property
    def sizes(self) -> list[int]:
        return [len(members) for _, members in self.requests]

    async def __call__(self, destination: str, message_ids: Sequence[str]) -> Sequence[Outcome]:
        self.requests.append((self.time_s, list(message_ids)))
        await asyncio.sleep(self.takes_s)
        outcomes = []
        for message_id in message_ids:
            before = self._seen.get(message_id, 0)
            self._seen[message_id] = before + 1
            outcomes.append(self._outcome(message_id, before))
        return outcomes


def world_of(peer: Any, rules: BatchRules | None = TENS, **options: Any) -> World:
    options = {"concurrency": 4} | options
    world = World(
        peer=peer,
        clock=SimulatedClock(asyncio.get_running_loop()),
        policy=DEFAULT_POLICY,
        breaker=DEFAULT_SETTINGS,
        batches={"hook": rules} if rules is not None else {},
        commit_every_s=0.02,
        commit_takes_s=0.005,
        **options,
    )
    world.activate(ON)
    return world


def send(world: World, count: int, first: int = 0, size_bytes: int = 0) -> None:
    world.append(*(("web", f"m{number}") for number in range(first, first + count)), size_bytes=size_bytes)


async def settle(world: World) -> None:
    await world.settle(48 * 3600, look_every_s=0.5)


# -- what goes into a batch ------------------------------------------------------------------------------------------


def test_a_full_batch_leaves_at_once_and_the_rest_when_its_time_has_come() -> None:
    async def test() -> None:
        peer = Peer()
        world = world_of(peer)
        send(world, 25)
        await asyncio.sleep(0.01)
        assert peer.sizes == [10, 10]
        await asyncio.sleep(1.0)
        send(world, 2, first=25)
        await asyncio.sleep(0.98)
        assert peer.sizes == [10, 10]
        await settle(world)
        assert peer.sizes == [10, 10, 7], "the wait counts from the first event"
        assert 2.0 <= peer.requests[-1][0] < 2.01
        assert world.books() == {("hook", DELIVERED): 27}
        await world.close()

    run(test())


def test_a_batch_is_full_by_bytes_too() -> None:
    async def test() -> None:
        peer = Peer()
        world = world_of(peer)
        send(world, 9, size_bytes=300)
        await asyncio.sleep(0.01)
        assert peer.sizes == [3, 3], "three of 300 bytes fit into 1,000; of the last three none has to leave yet"
        send(world, 1, first=9, size_bytes=5_000)
        await settle(world)
        assert peer.sizes == [3, 3, 3, 1], "one alone may be larger"
        assert peer.requests[3][0] < 0.1
        assert world.books() == {("hook", DELIVERED): 10}
        await world.close()

    run(test())


def test_a_lane_that_is_behind_sends_full_batches() -> None:
    async def test() -> None:
        peer = Peer(takes_s=0.5)
        with tight_lanes(queue_events=100, read_bytes=1 << 14):
            world = world_of(peer)
            for number in range(400):
                send(world, 5, first=5 * number)
            assert world.dispatcher.lanes["hook"].feed.behind is not None
            await settle(world)
        assert world.books() == {("hook", DELIVERED): 2_000}
        assert sum(size == 10 for size in peer.sizes) >= 0.8 * len(peer.sizes)
        assert len(peer.sizes) <= 250
        await world.close()

    run(test())


# -- outcomes --------------------------------------------------------------------------------------------------------


def test_each_event_of_a_batch_has_its_own_outcome_and_a_retry_forms_another_batch() -> None:
    def outcome(message_id: str, before: int) -> Outcome:
        kind = int(message_id[1:]) % 5
        if kind == 0:
            return FAILED
        if kind == 1 and before == 0:
            return RETRY
        return DELIVERED_OUTCOME

    async def test() -> None:
        peer = Peer(outcome)
        world = world_of(peer)
        send(world, 20)
        await asyncio.sleep(0.5)
        send(world, 5, first=20)
        await settle(world)
        assert world.books() == {("hook", DELIVERED): 20, ("hook", "failed"): 5}
        assert world.reasons("hook") == {"400": 5}
        assert set(world.finals.values()) == {1}
        assert {key for key, attempts in world.attempts.items() if attempts == 2} == {
            ("hook", f"m{number}") for number in range(1, 25, 5)
        }
        again = [members for _, members in peer.requests[2:]]
        firsts = [set(members) for _, members in peer.requests[:2]]
        assert any(not set(members) <= first for members in again for first in firsts)
        counts = world.recorded("hook")
        assert (counts.events, counts.first, counts.retries) == (20, 15, 5)
        await world.close()

    run(test())


@pytest.mark.parametrize("outcome", [RETRY, FAILED])
def test_a_batch_that_fails_on_one_answer_is_one_request_and_many_events(outcome: Outcome) -> None:
    async def test() -> None:
        peer = Peer(lambda message_id, before: outcome if before == 0 else DELIVERED_OUTCOME)
        world = world_of(peer)
        send(world, 10)
        await asyncio.sleep(0.5)
        counts = world.recorded("hook", outcome.result.value)
        assert (counts.events, counts.requests) == (10, 1)
        await settle(world)
        assert world.books() == {("hook", "failed" if outcome is FAILED else DELIVERED): 10}
        requests = [world.recorded("hook", ended).requests for ended in ("retry", "failed", "delivered")]
        assert sum(requests) == world.requests["hook"]
        await world.close()

    run(test())


def test_what_is_sent_and_what_is_recorded_agree_for_any_mixture() -> None:
    async def test() -> None:
        dice = Random(3)
        peer = Peer(lambda message_id, before: dice.choice((DELIVERED_OUTCOME, DELIVERED_OUTCOME, RETRY, FAILED)))
        world = world_of(peer)
        for number in range(200):
            send(world, 13, first=13 * number)
            await asyncio.sleep(0.1)
        await settle(world)
        books = world.books()
        assert books["hook", "delivered"] + books["hook", "failed"] == 2_600
        assert set(world.finals.values()) == {1}
        for outcome, result in (("delivered", Result.DELIVERED), ("failed", Result.FAILED)):
            assert world.recorded("hook", outcome).events == sum(ends == {result} for ends in world.ends.values())
        total = sum(world.recorded("hook", outcome).events for outcome in ("delivered", "failed", "retry"))
        assert total == world.attempts.total()
        await world.close()

    run(test())


# -- the gate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [False, True])
def test_a_rate_of_ten_requests_a_second_is_kept_by_many_senders(behind: bool) -> None:
    async def test() -> None:
        dice = Random(1)
        peer = Peer(lambda message_id, before: BROKEN if dice.random() < 0.1 else DELIVERED_OUTCOME, takes_s=1.7)
        with tight_lanes(queue_events=50 if behind else 10_000, read_bytes=2_000):
            world = world_of(peer, None, concurrency=64)
            world.activate(snapshot_of({"hook": ["web"]}, delivery={"hook": DeliveryOptions(requests_per_s=10)}))
            send(world, 1_500)
            await settle(world)
        assert world.books() == {("hook", DELIVERED): 1_500}
        starts = [start_s for start_s, _ in peer.requests]
        for first in range(len(starts)):
            beyond = first + 20  # ten of the second, and ten of the burst
            assert beyond >= len(starts) or starts[beyond] - starts[first] >= 1.0 - 1e-6
        assert starts[1_000] < 1_000 / 10 + 5, "and it is used"
        assert world.most_under_way["hook"] > 10
        await world.close()

    run(test())


def test_a_pause_that_the_peer_asks_for_stops_the_whole_lane() -> None:
    async def test() -> None:
        limited = Outcome(Result.RETRY, "429", retry_after_s=300.0, pause_s=300.0)
        peer = Peer(lambda message_id, before: limited if message_id == "m50" and before == 0 else DELIVERED_OUTCOME)
        world = world_of(peer, None)
        send(world, 100)
        await settle(world)
        starts = [start_s for start_s, _ in peer.requests]
        gaps = [(after - before, before) for before, after in itertools.pairwise(starts)]
        gap_s, since_s = max(gaps)
        assert 299.9 < gap_s < 301
        assert len([start_s for start_s in starts if start_s <= since_s]) <= 50 + 2 * 4
        assert world.books() == {("hook", DELIVERED): 100}
        await world.close()

    run(test())


def test_a_pause_that_comes_with_a_delivery_does_not_stop_a_lane_for_ever() -> None:
    """``X-RateLimit-Remaining: 0`` on a 200, the lane is behind, and its queue is empty at that moment."""

    async def test() -> None:
        done = Outcome(Result.DELIVERED, pause_s=60.0)
        peer = Peer(lambda message_id, before: done)
        with tight_lanes(queue_events=1):
            world = world_of(peer, None, concurrency=1)
            for number in range(30):
                world.append(("web", f"m{number}"), *((("app", f"a{number}-{at}")) for at in range(20)))
            await settle(world)
        assert world.books() == {("hook", DELIVERED): 30}
        assert 29 * 60 <= peer.time_s < 31 * 60
        await world.close()

    run(test())


def test_the_bound_on_what_is_not_recorded_does_not_stop_a_lane_for_ever() -> None:
    """A fast peer and a slow commit: the bound is met again and again, by senders of which none is left."""

    async def test() -> None:
        peer = Peer(takes_s=0.0032)  # a hundred in the commit under way, the others of the bound while it lasts
        world = world_of(peer, None, concurrency=16)
        world.commit_takes_s = 0.2
        with tight_lanes(queue_events=500, read_bytes=1 << 14):
            send(world, 4_000)
            send(world, 1_000, first=4_000)
            await settle(world)
        assert world.books() == {("hook", DELIVERED): 5_000}
        assert peer.time_s < 30
        await world.close()

    run(test())


def test_concurrency_falls_when_the_peer_is_overloaded_and_recovers() -> None:
    async def test() -> None:
        capacity = 3
        under_way = 0

        async def peer(destination: str, message_ids: Sequence[str]) -> Sequence[Outcome]:
            nonlocal under_way
            under_way += 1
            try:
                await asyncio.sleep(0.1)
                return [DELIVERED_OUTCOME if under_way <= capacity else RETRY] * len(message_ids)
            finally:
                under_way -= 1

        world = world_of(peer, None, concurrency=32)
        lane = world.dispatcher.lanes["hook"]
        for number in range(300):
            send(world, 10, first=10 * number)
            await asyncio.sleep(1.0)
        assert lane.gate.concurrency.limit <= 8
        refused_early = world.recorded("hook", "retry").events
        assert refused_early < 0.5 * 3_000
        capacity = 100
        for number in range(300, 400):
            send(world, 50, first=3_000 + 50 * (number - 300))
            await asyncio.sleep(1.0)
        assert lane.gate.concurrency.limit == 32
        await settle(world)
        assert world.books() == {("hook", DELIVERED): 8_000}
        await world.close()

    run(test())


def test_one_request_at_a_time_while_the_circuit_is_not_closed() -> None:
    async def test() -> None:
        down = True
        at_once: list[int] = []

        async def peer(destination: str, message_ids: Sequence[str]) -> Sequence[Outcome]:
            if gate.breaker.opened_at_s is not None:
                at_once.append(world.under_way["hook"])
            await asyncio.sleep(20.0 if down else 0.05)
            return [RETRY if down else DELIVERED_OUTCOME] * len(message_ids)

        world = world_of(peer, None, concurrency=16)
        gate = world.dispatcher.lanes["hook"].gate
        send(world, 2_000)
        await asyncio.sleep(120)
        assert gate.breaker.opened_at_s is not None
        at_once.clear()
        await asyncio.sleep(3_600)
        assert len(at_once) > 30
        assert max(at_once) == 1
        down = False
        await settle(world)
        assert max(at_once) == 1
        assert world.books() == {("hook", DELIVERED): 2_000}
        await world.close()

    run(test())


def test_a_destination_that_hangs_holds_nobody_else() -> None:
    slugs = [f"hook{number}" for number in range(6)]

    async def latencies(with_hanging: bool) -> dict[str, float]:
        sent: dict[str, float] = {}
        late: dict[str, float] = {}
        loop = asyncio.get_running_loop()

        async def peer(destination: str, message_ids: Sequence[str]) -> Sequence[Outcome]:
            if destination == "hanging":
                await asyncio.sleep(600)
                return [RETRY] * len(message_ids)
            await asyncio.sleep(0.05)
            for message_id in message_ids:
                late[destination] = max(late.get(destination, 0.0), loop.time() - sent[message_id])
            return [DELIVERED_OUTCOME] * len(message_ids)

        world = world_of(peer, None, concurrency=16)
        names = [*slugs, "hanging"] if with_hanging else slugs
        world.activate(snapshot_of({slug: ["web"] for slug in names}))
        for number in range(2_000):
            sent[f"m{number}"] = loop.time()
            send(world, 1, first=number)
            await asyncio.sleep(0.01)
        await asyncio.sleep(5)
        books = world.books()
        assert all(books[slug, DELIVERED] == 2_000 for slug in slugs)
        assert ("hanging", DELIVERED) not in books
        await world.close()
        return late

    assert run_simulated(latencies(True)) == pytest.approx(run_simulated(latencies(False)), abs=1e-6)
