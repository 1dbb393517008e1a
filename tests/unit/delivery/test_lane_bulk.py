"""Bulk batches: written once, sent as they are however often, crashed at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from tests.unit.delivery.lane_setup import snapshot_of, tight_lanes
from tests.unit.delivery.lane_world import FAILED, RETRY, World
from trunkline.delivery import bulk as bulk_module
from trunkline.delivery.breaker import DEFAULT_SETTINGS
from trunkline.delivery.bulk import BUFFER_BYTES, PENDING_BATCHES
from trunkline.delivery.lane import Lane
from trunkline.delivery.retry import DEFAULT_POLICY
from trunkline.destinations.kit import DELIVERED_OUTCOME, BulkBatch, BulkRules, Outcome, Result
from trunkline.spec.outcomes import DELIVERED
from trunkline.testing.simulated_time import SimulatedClock, run_simulated
from trunkline.workspace.model import DeliveryOptions

RULES = BulkRules(events=1_000, size_bytes=1 << 20, wait_s=60.0)
ON = snapshot_of({"hook": ["web"]})


def run(test: Coroutine[Any, Any, None]) -> None:
    run_simulated(test)


class Peer:
    """Takes bulk batches and single events; what it saw of each batch must be the same at every attempt."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self.takes_s = 1.0
        self.outcomes: list[Outcome] = []
        self.dice: Random | None = None
        self.batches: list[tuple[float, str, int]] = []
        self.contents: dict[str, tuple[int, bytes]] = {}
        self.streamed = 0
        self.delivered: list[list[str]] = []

    @property
    def time_s(self) -> float:
        return self._loop.time() - self._start_s

    async def send(self, destination: str, message_ids: Sequence[str]) -> Sequence[Outcome]:
        self.streamed += len(message_ids)
        await asyncio.sleep(0.05)
        return [DELIVERED_OUTCOME] * len(message_ids)

    async def send_bulk(self, destination: str, batch: BulkBatch, message_ids: Sequence[str]) -> Outcome:
        self.batches.append((self.time_s, batch.path.name, batch.events))
        known = self.contents.setdefault(batch.path.name, (batch.events, batch.path.read_bytes()))
        assert known == (batch.events, batch.path.read_bytes()), "the same members at every attempt"
        await asyncio.sleep(self.takes_s)
        outcome = DELIVERED_OUTCOME
        if self.outcomes:
            outcome = self.outcomes.pop(0)
        elif self.dice is not None:
            outcome = self.dice.choice((DELIVERED_OUTCOME, DELIVERED_OUTCOME, RETRY, FAILED))
        if outcome.result is not Result.RETRY:
            # A batch that comes again after a crash may have grown only if it had not been recorded as closed.
            del self.contents[batch.path.name]
        if outcome.result is Result.DELIVERED:
            self.delivered.append(list(message_ids))
        return outcome

    @property
    def sizes(self) -> list[int]:
        return [events for _, _, events in self.batches]


def world_of(peer: Peer, path: Path, rules: BulkRules | None = RULES, **options: Any) -> World:
    options = {"commit_every_s": 0.02, "commit_takes_s": 0.005} | options
    world = World(
        peer=peer.send,
        bulk_peer=peer.send_bulk,
        clock=SimulatedClock(asyncio.get_running_loop()),
        policy=DEFAULT_POLICY,
        breaker=DEFAULT_SETTINGS,
        bulk={"hook": rules} if rules is not None else {},
        bulk_directory=path,
        **options,
    )
    world.activate(ON)
    return world


def lane_of(world: World) -> Lane:
    return world.dispatcher.lanes["hook"]


def send(world: World, count: int, first: int = 0, size_bytes: int = 0, at_once: int = 100) -> None:
    for start in range(first, first + count, at_once):
        stop = min(start + at_once, first + count)
        world.append(*(("web", f"m{number}") for number in range(start, stop)), size_bytes=size_bytes)


async def settle(world: World) -> None:
    await world.settle(12 * 3600, look_every_s=5.0)


def bytes_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*.ndjson"))


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.rglob("*.ndjson"))


# -- when a batch is closed ------------------------------------------------------------------------------------------


def test_closed_by_events_by_bytes_and_by_time(tmp_path: Path) -> None:
    async def test() -> None:
        peer = Peer()
        world = world_of(peer, tmp_path)
        send(world, 1_000)
        await asyncio.sleep(5)
        assert peer.sizes == [1_000]
        send(world, 500, first=1_000, size_bytes=4_096)
        await asyncio.sleep(5)
        assert peer.sizes == [1_000, 256], "1 MB of 4,097 bytes a line"
        assert lane_of(world).mode == ("bulk", "")
        await asyncio.sleep(50)
        assert peer.sizes == [1_000, 256]
        await settle(world)
        assert peer.sizes == [1_000, 256, 244]
        assert 65 <= peer.batches[2][0] <= 66
        assert lane_of(world).mode == ("stream", "too little traffic: 244 events in 60 s")
        assert world.books() == {("hook", DELIVERED): 1_500}
        assert files(tmp_path) == []
        await world.close()

    run(test())


def test_too_little_traffic_turns_to_stream_and_much_turns_back(tmp_path: Path) -> None:
    async def test() -> None:
        peer = Peer()
        world = world_of(peer, tmp_path)
        send(world, 10)
        await asyncio.sleep(70)
        assert lane_of(world).mode == ("stream", "too little traffic: 10 events in 60 s")
        send(world, 10, first=10)
        await asyncio.sleep(5)
        assert peer.streamed == 10
        for number in range(12):
            send(world, 100, first=20 + 100 * number)
            await asyncio.sleep(1)
        assert lane_of(world).mode == ("bulk", "")
        send(world, 2_000, first=1_220)
        await settle(world)
        assert peer.sizes[:3] == [10, 1_000, 1_000]
        assert world.books() == {("hook", DELIVERED): 3_220}
        assert set(world.finals.values()) == {1}
        assert files(tmp_path) == []
        await world.close()

    run(test())


# -- retries ---------------------------------------------------------------------------------------------------------


def test_a_retry_has_the_same_members_whatever_comes_meanwhile(tmp_path: Path) -> None:
    async def test() -> None:
        peer = Peer()
        peer.outcomes = [RETRY] * 6
        world = world_of(peer, tmp_path)
        for number in range(40):
            send(world, 100, first=100 * number)
            await asyncio.sleep(1)
        await settle(world)
        assert len(peer.batches) == 4 + 6
        assert world.books() == {("hook", DELIVERED): 4_000}
        counts, retried = world.recorded("hook"), world.recorded("hook", "retry")
        assert (counts.events, counts.requests, counts.retries) == (4_000, 4, 6_000)
        assert (retried.events, retried.requests) == (6_000, 6)
        await world.close()

    run(test())


@pytest.mark.parametrize("down_s", [3 * 3600 + 59 * 60, 4 * 3600 + 10 * 60], ids=["3 h 59", "4 h 10"])
@pytest.mark.parametrize("jump_s", [0, 86_400, -86_400])
@pytest.mark.parametrize("restart", [False, True])
def test_a_batch_has_its_four_hours(tmp_path: Path, down_s: int, jump_s: int, restart: bool) -> None:
    async def test() -> None:
        peer = Peer()
        peer.outcomes = [RETRY] * 1_000
        world = world_of(peer, tmp_path)
        send(world, 1_000)
        send(world, 300, first=1_000)
        await asyncio.sleep(30)
        assert isinstance(world.clock, SimulatedClock)
        world.clock.jump(jump_s)
        await asyncio.sleep(3_600)
        if restart:
            world.crash()
        await asyncio.sleep(down_s - peer.time_s)
        peer.outcomes.clear()
        await settle(world)
        if down_s < 4 * 3600:
            assert world.books() == {("hook", DELIVERED): 1_300}
            assert peer.time_s < 4.2 * 3600
        else:
            # The second batch was closed by its time, a minute later.
            assert world.books() == {("hook", "failed"): 1_300}
            assert world.reasons("hook") == {"503": 1_300}
        assert files(tmp_path) == []
        await world.close()

    run(test())


# -- room ------------------------------------------------------------------------------------------------------------


def test_one_open_and_two_pending_then_the_lane_goes_behind_and_on_by_itself(tmp_path: Path) -> None:
    async def test() -> None:
        peer = Peer()
        peer.takes_s = 500.0
        world = world_of(peer, tmp_path)
        most_rows = most_bytes = 0
        for number in range(200):
            send(world, 100, first=100 * number, size_bytes=200)
            await asyncio.sleep(0.1)
            rows = world.store.bulk_rows("hook")
            most_rows = max(most_rows, len(rows))
            most_bytes = max(most_bytes, bytes_of(tmp_path))
            assert sum(row.open for row in rows) <= 1
            assert sum(not row.open for row in rows) <= PENDING_BATCHES + 1
        lane = lane_of(world)
        assert lane.feed.behind is not None
        assert lane.queued <= 3_000
        peer.takes_s = 1.0
        await settle(world)
        assert most_rows <= 3
        assert most_bytes <= 3_000 * 201
        assert world.books() == {("hook", DELIVERED): 20_000}
        assert set(world.finals.values()) == {1}
        assert peer.sizes == [1_000] * 20
        assert lane_of(world).feed.behind is None
        assert files(tmp_path) == []
        await world.close()

    run(test())


def test_memory_is_bounded_while_a_hundred_thousand_events_pass(tmp_path: Path) -> None:
    async def test() -> None:
        peer = Peer()
        peer.takes_s = 0.2
        rules = BulkRules(events=20_000, size_bytes=1 << 30, wait_s=60.0)
        world = world_of(peer, tmp_path, rules, commit_takes_s=0.5)
        bulk = lane_of(world)._bulk
        most_bytes = 0
        for number in range(100):
            send(world, 1_000, first=1_000 * number, size_bytes=500, at_once=1_000)
            held = sum(len(piece) for piece in bulk._buffer) + sum(len(write._data) for write in bulk._writes)
            assert held <= bulk._unwritten_bytes
            most_bytes = max(most_bytes, bulk._unwritten_bytes)
            await asyncio.sleep(0.005)
        await settle(world)
        # An envelope more than the bound, or a slice of the log.
        assert BUFFER_BYTES < most_bytes <= BUFFER_BYTES + (1 << 20)
        assert bulk._unwritten_bytes == 0
        assert world.books() == {("hook", DELIVERED): 100_000}
        assert set(world.finals.values()) == {1}
        assert files(tmp_path) == []
        await world.close()

    run(test())


# -- the workspace changes -------------------------------------------------------------------------------------------


def test_a_destination_deleted_amid_bulk_has_failed_events_and_no_files(tmp_path: Path) -> None:
    async def test() -> None:
        peer = Peer()
        peer.takes_s = 1_000.0
        world = world_of(peer, tmp_path)
        send(world, 2_500)
        await asyncio.sleep(1)
        send(world, 20, first=2_500)  # not on disk yet
        assert len(files(tmp_path)) == 3
        world.activate(snapshot_of({"other": ["web"]}))
        await asyncio.sleep(2)
        assert world.books()["hook", "failed"] == 2_520
        assert world.reasons("hook") == {"destination_deleted": 2_520}
        assert world.store.bulk_rows("hook") == []
        assert files(tmp_path) == []
        await world.close()

    run(test())


@pytest.mark.parametrize("crash", [False, True])
def test_from_bulk_to_stream_and_back_amid_an_open_batch(tmp_path: Path, crash: bool) -> None:
    async def test() -> None:
        peer = Peer()
        world = world_of(peer, tmp_path)
        send(world, 1_300)
        await asyncio.sleep(5)
        assert peer.sizes == [1_000]
        world.bulk.clear()
        world.activate(snapshot_of({"hook": ["web"]}, version="stream"))
        send(world, 200, first=1_300)
        await asyncio.sleep(1)
        if crash:
            world.crash()
        await asyncio.sleep(10)
        assert peer.sizes == [1_000, 300], "the open batch is closed and sent as it is"
        assert peer.streamed >= 200
        assert lane_of(world).mode == ("stream", "")
        world.bulk["hook"] = RULES
        world.activate(snapshot_of({"hook": ["web"]}, version="bulk"))
        assert lane_of(world).mode == ("bulk", "")
        send(world, 1_000, first=1_500)
        await settle(world)
        assert peer.sizes == [1_000, 300, 1_000]
        assert world.books() == {("hook", DELIVERED): 2_500}
        assert crash or set(world.finals.values()) == {1}
        assert files(tmp_path) == []
        await world.close()

    run(test())


def test_disabled_amid_bulk_everything_waits(tmp_path: Path) -> None:
    async def test() -> None:
        peer = Peer()
        world = world_of(peer, tmp_path)
        peer.outcomes = [RETRY] * 3
        send(world, 2_300)
        await asyncio.sleep(3)
        world.activate(snapshot_of({"hook": ["web"]}, disabled=["hook"]))
        await asyncio.sleep(5)
        before = len(peer.batches)
        await asyncio.sleep(6 * 3600)
        assert len(peer.batches) == before
        world.activate(ON)
        await settle(world)
        assert world.books() == {("hook", DELIVERED): 2_300}
        assert set(world.finals.values()) == {1}
        await world.close()

    run(test())


# -- crashes ---------------------------------------------------------------------------------------------------------


def test_what_a_crash_left_behind_a_file_is_not_sent(tmp_path: Path) -> None:
    """Between the write and the commit; nothing is added afterwards, the batch is closed by its time."""

    async def test() -> None:
        peer = Peer()
        world = world_of(peer, tmp_path, commit_every_s=None)
        send(world, 400)
        world.commit()
        send(world, 300, first=400)
        world.prepare_only()
        world.bulk["hook"] = BulkRules(1_000, 1 << 20, 0.001)
        world.crash()
        await settle(world)
        assert world.books() == {("hook", DELIVERED): 700}
        assert set(world.finals.values()) == {1}
        await world.close()

    run(test())


async def play(seed: int, path: Path) -> None:
    """Crashes, failing commits and failing writes at random moments."""
    dice = Random(seed)
    peer = Peer()
    peer.dice = dice
    peer.takes_s = dice.choice((0.0, 0.1, 1.0))
    rules = BulkRules(20, dice.choice((1 << 20, 700)), 1.0)
    world = world_of(peer, path, rules, commit_every_s=None, seed=seed)
    world.commit()
    first = most = 0
    for _ in range(dice.randint(20, 80)):
        step = dice.random()
        if step < 0.35:
            count = dice.randint(1, 30)
            send(world, count, first=first, at_once=dice.choice((1, 7, 30)))
            first += count
        elif step < 0.6:
            await asyncio.sleep(dice.choice((0.0, 0.01, 0.3, 1.5)))
        elif step < 0.85:
            if world.commit():
                assert {row.file for row in world.store.bulk_rows("hook")} <= {Path(name).name for name in files(path)}
        elif step < 0.9:
            world.store.full = not world.store.full
        elif step < 0.95:
            world.prepare_fails = not world.prepare_fails
        else:
            if dice.random() < 0.4 and not world.prepare_fails:
                world.prepare_only()
            peer.contents.clear()  # a batch that was not recorded as closed may grow on
            world.crash()
        most = max(most, len(lane_of(world)._bulk._sealed))
        rows = world.store.bulk_rows("hook")
        assert sum(row.open for row in rows) <= 1
        if not world._failed and dice.random() < 0.2:
            state_total = sum(world.books().values()) + world.pending("hook")
            assert state_total == first, "delivered, failed or pending"
    world.store.full = world.prepare_fails = False
    await settle(world)
    books = world.books()
    assert sum(books.values()) == first
    assert set(world.finals) == {("hook", f"m{number}") for number in range(first)}
    doubles = world.finals.total() - len(world.finals)
    assert doubles <= world.crashes * 20 + world.forgotten, "one batch a crash, and single events not yet recorded"
    assert most <= PENDING_BATCHES + 1 + 2
    assert files(path) == []
    await world.close()


def test_any_crash_loses_nothing_and_brings_one_batch_twice_at_most(tmp_path: Path) -> None:
    with patch.object(bulk_module, "LEAST_EVENTS", 4):
        for seed in range(100):
            try:
                run(play(seed, tmp_path / str(seed)))
            except BaseException:
                print(f"seed {seed}")
                raise


def test_what_was_settled_before_a_crash_stays_so_when_bulk_begins_amid_it(tmp_path: Path) -> None:
    """Read again after a crash, behind an event that is being streamed, and the lane turns to bulk half-way."""
    slow = {"m0", "m20", "m40", "m60", "m80"}

    async def test() -> None:
        done: set[str] = set()

        def answer(destination: str, message_id: str, before: int) -> Outcome | None:
            return None if message_id in slow - done else DELIVERED_OUTCOME

        peer = Peer()
        world = World(
            answer,
            bulk_peer=peer.send_bulk,
            clock=SimulatedClock(asyncio.get_running_loop()),
            concurrency=6,
            bulk_directory=tmp_path,
        )
        world.activate(ON)
        with tight_lanes(queue_events=4):
            for number in range(100):
                send(world, 1, first=number)
                await asyncio.sleep(0.001)
            world.commit()
            assert world.books() == {("hook", DELIVERED): 95}
            world.crash(snapshot_of({"hook": ["web"]}, delivery={"hook": DeliveryOptions(concurrency=1)}))
            await asyncio.sleep(0.01)
            assert lane_of(world).feed.behind is not None
            world.bulk["hook"] = RULES
            world.activate(snapshot_of({"hook": ["web"]}, version="bulk"))
            await asyncio.sleep(0.01)
            world.commit()
            world.crash()
            done.update(slow)
            world.let_go()
            await settle(world)
        again = {message_id for (_, message_id), count in world.finals.items() if count > 1}
        assert again <= slow
        assert world.books() == {("hook", DELIVERED): 100}
        await world.close()

    run(test())


def presses(lane: Lane) -> bool:
    return lane.must_soon_be_recorded


def test_a_lane_asks_for_the_commit_that_its_next_batch_waits_for(tmp_path: Path) -> None:
    async def test() -> None:
        peer = Peer()
        peer.takes_s = 10.0
        world = world_of(peer, tmp_path, commit_every_s=2.0)
        lane = lane_of(world)
        told: list[bool] = []
        tell = lane._on_change

        def hear(changed: Lane) -> None:
            told.append(changed.must_soon_be_recorded)
            tell(changed)

        lane._on_change = hear
        send(world, RULES.events - 1)
        await asyncio.sleep(0.1)
        assert told, "the open batch is to be committed"
        assert not any(told)
        send(world, 1, first=RULES.events - 1)
        await asyncio.sleep(0.1)
        assert told.pop(), "a closed batch is sent when it is recorded"
        assert presses(lane)
        await asyncio.sleep(5)
        assert peer.sizes == [RULES.events]
        assert not presses(lane)
        told.clear()
        await asyncio.sleep(10)
        assert len(peer.delivered) == 1
        assert any(told), "the next is sent when the end of this one is recorded"
        await settle(world)
        assert not presses(lane)
        await world.close()

    run(test())
