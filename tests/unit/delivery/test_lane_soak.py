"""A day of random faults, compressed on the simulated clock.

``TRUNKLINE_SOAK_SEED`` repeats a run, ``TRUNKLINE_SOAK_LOAD`` multiplies its events.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.unit.delivery.lane_setup import snapshot_of
from tests.unit.delivery.lane_world import FAILED, RETRY, World
from trunkline.delivery.breaker import DEFAULT_SETTINGS
from trunkline.delivery.retry import DEFAULT_POLICY
from trunkline.delivery.unrecorded import UNRECORDED_REQUESTS
from trunkline.destinations.kit import DELIVERED_OUTCOME, BatchRules, BulkBatch, BulkRules, Outcome, Result
from trunkline.testing.simulated_time import SimulatedClock, run_simulated
from trunkline.workspace.model import DeliveryOptions

HOUR_S = 3600
DAY_S = 24 * HOUR_S
KEPT_SEED = 20_261_121
CONCURRENCY = 8
BATCH = 20
BULK = BulkRules(events=2_000, size_bytes=1 << 20, wait_s=300.0)
DESTINATIONS = {"single": ["web"], "batched": ["web", "app"], "bulk": ["app"], "odd": ["rare"]}
LOAD = int(os.environ.get("TRUNKLINE_SOAK_LOAD", "1"))
EVENTS_A_STEP = {"web": 2 * LOAD, "app": 2 * LOAD, "rare": 1}
STEP_S = 7.0
TROUBLES = ("fine", "fine", "fine", "fine", "down", "429", "429 with Retry-After", "slow", "flaky")


class Peers:
    """One for each destination: in each stretch of time it has one trouble, or none."""

    def __init__(self, dice: Random) -> None:
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._dice = dice
        self._troubles: dict[str, list[tuple[float, str]]] = {}
        for slug in DESTINATIONS:
            stretches, time_s = [], 0.0
            while time_s < DAY_S:
                trouble = dice.choice(TROUBLES)
                stretches.append((time_s, trouble))
                time_s += dice.uniform(60, 3 * HOUR_S if trouble == "fine" else 2 * HOUR_S)
            self._troubles[slug] = [*stretches, (float(DAY_S), "fine")]

    @property
    def time_s(self) -> float:
        return self._loop.time() - self._start_s

    async def outcome(self, slug: str) -> Outcome:
        trouble = next(trouble for since_s, trouble in reversed(self._troubles[slug]) if since_s <= self.time_s)
        dice = self._dice
        await asyncio.sleep(dice.uniform(0.5, 4.0) if trouble == "slow" else 0.02)
        if trouble == "down":
            return RETRY
        if trouble == "429" and dice.random() < 0.8:
            return Outcome(Result.RETRY, "429")
        if trouble == "429 with Retry-After" and dice.random() < 0.3:
            return Outcome(Result.RETRY, "429", retry_after_s=30.0, pause_s=30.0)
        if trouble == "flaky" and dice.random() < 0.2:
            return RETRY
        return FAILED if dice.random() < 0.01 else DELIVERED_OUTCOME

    async def send(self, slug: str, message_ids: Sequence[str]) -> Sequence[Outcome]:
        outcome = await self.outcome(slug)
        if outcome is not DELIVERED_OUTCOME:
            return [outcome] * len(message_ids)
        return [FAILED if self._dice.random() < 0.002 else DELIVERED_OUTCOME for _ in message_ids]

    async def send_bulk(self, slug: str, batch: BulkBatch, message_ids: Sequence[str]) -> Outcome:
        return await self.outcome(slug)


async def soak(seed: int, path: Path) -> None:
    dice = Random(seed)
    peers = Peers(dice)
    world = World(
        peer=peers.send,
        bulk_peer=peers.send_bulk,
        clock=SimulatedClock(asyncio.get_running_loop()),
        policy=DEFAULT_POLICY,
        breaker=DEFAULT_SETTINGS,
        concurrency=CONCURRENCY,
        batches={"batched": BatchRules(BATCH, 1 << 20, 5.0)},
        bulk={"bulk": BULK},
        bulk_directory=path,
        commit_every_s=0.02,
        commit_takes_s=0.005,
        seed=seed,
    )
    world.activate(snapshot_of(DESTINATIONS))
    assert world.commit()
    expected: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    disabled: set[str] = set()
    sent = 0

    def reconfigure() -> None:
        limits = {slug: DeliveryOptions(requests_per_s=dice.choice((None, 5.0, 50.0))) for slug in DESTINATIONS}
        world.activate(
            snapshot_of(DESTINATIONS, disabled=sorted(disabled), delivery=limits, version=str(dice.random()))
        )

    while peers.time_s < DAY_S:
        for source, usual in EVENTS_A_STEP.items():
            count = dice.randint(0, 2 * usual)
            world.append(*((source, f"m{sent + number}") for number in range(count)))
            sent += count
            for slug, sources in DESTINATIONS.items():
                if source in sources and slug not in disabled:
                    expected[slug] += count
        fault = dice.random()
        # A connection that is opened or closed must be durable before the next events: `expected` needs one answer.
        stable = world._failed is None
        if fault < (0.02 if disabled else 0.003) and stable:
            disabled ^= set(disabled) or {dice.choice(sorted(DESTINATIONS))}
            reconfigure()
            world.store.full = world.prepare_fails = False
            assert world.commit()
            faults["switched"] += 1
        elif 0.02 <= fault < 0.024 and stable:
            if dice.random() < 0.3:
                world.bulk = {} if world.bulk else {"bulk": BULK}
            reconfigure()
            faults["reconfigured"] += 1
        elif 0.024 <= fault < 0.027:
            world.crash()
            faults["crash"] += 1
        elif 0.027 <= fault < 0.030:
            world.store.full = True
            faults["full"] += 1
        elif (world.store.full or world.prepare_fails) and fault > 0.7:
            world.store.full = world.prepare_fails = False
        elif 0.030 <= fault < 0.032:
            world.prepare_fails = True
            faults["unwritable"] += 1
        elif 0.032 <= fault < 0.0325 and isinstance(world.clock, SimulatedClock):
            world.clock.jump(dice.choice((-1, 1)) * dice.uniform(1, DAY_S))
            faults["clock"] += 1
        await asyncio.sleep(dice.uniform(0, 2 * STEP_S))
    world.store.full = world.prepare_fails = False
    await asyncio.sleep(5)
    for slug in DESTINATIONS:
        settled = sum(count for (name, _), count in world.books().items() if name == slug)
        assert settled + world.pending(slug) == expected[slug], slug
    disabled.clear()
    reconfigure()
    await world.settle(2 * DAY_S, look_every_s=60.0)

    books = world.books()
    ended = {slug: sum(count for (name, _), count in books.items() if name == slug) for slug in DESTINATIONS}
    assert ended == dict(expected), "each event in exactly one final outcome"
    seen = Counter(slug for slug, _ in world.finals)
    tried = Counter(slug for slug, _ in world.attempts)
    for slug in DESTINATIONS:
        # What ended without an attempt: behind a circuit that was open for four hours.
        assert seen[slug] <= expected[slug]
        assert slug == "bulk" or tried[slug] + books.get((slug, "failed"), 0) >= expected[slug]
        assert world.recorded(slug).events == books[slug, "delivered"]
        assert world.recorded(slug, "failed").events == books.get((slug, "failed"), 0)
    doubles = Counter({slug: -seen[slug] for slug in DESTINATIONS})
    for (slug, _), count in world.finals.items():
        doubles[slug] += count
    bound = UNRECORDED_REQUESTS + CONCURRENCY
    assert doubles["single"] <= bound * world.crashes
    assert doubles["odd"] <= bound * world.crashes
    assert doubles["batched"] <= bound * BATCH * world.crashes
    assert doubles["bulk"] <= (BULK.events + bound) * world.crashes
    streamed_doubles = doubles["single"] + doubles["odd"] + doubles["batched"]
    assert streamed_doubles <= world.forgotten
    assert not list(path.rglob("*.ndjson"))  # noqa: ASYNC240 - nobody else is on this loop
    print(f"seed {seed}: {sum(expected.values())} deliveries due, {dict(books)}, faults {dict(faults)},")
    print(f"doubles {dict(doubles)}, commits {world.commits}, attempts {world.attempts.total()}")
    assert sum(expected.values()) >= 90_000
    await world.close()


@pytest.mark.slow
@pytest.mark.timeout(900 * LOAD)
def test_a_day_of_faults_loses_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("TRUNKLINE_SOAK_SEED", KEPT_SEED))
    print(f"TRUNKLINE_SOAK_SEED={seed}")
    run_simulated(soak(seed, tmp_path))
