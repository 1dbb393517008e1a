"""Whatever happens, in whatever order: each event ends in exactly one outcome, none is lost, doubles are bounded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.delivery.lane_setup import snapshot_of, tight_lanes
from tests.unit.delivery.lane_world import FAILED, HANG, RETRY, Answer, World
from trunkline.destinations.kit import DELIVERED_OUTCOME, Outcome

DESTINATIONS = {"one": ["web"], "two": ["web", "app"], "three": ["app"]}
CONCURRENCY = 3


@dataclass(frozen=True)
class Step:
    """``append`` so many events, ``run`` so many turns of the loop, ``wait`` milliseconds, ``commit``, ``crash``,
    ``disable`` or ``enable`` the second destination."""

    kind: str
    count: int = 0


STEPS = st.lists(
    st.one_of(
        st.builds(Step, st.just("append"), st.integers(1, 12)),
        st.builds(Step, st.just("run"), st.integers(1, 30)),
        st.builds(Step, st.just("wait"), st.integers(1, 4)),
        st.sampled_from([Step("commit"), Step("commit"), Step("crash"), Step("disable"), Step("enable")]),
    ),
    max_size=40,
)


def scripted(seed: int, hanging: float) -> tuple[Answer, dict[tuple[str, str], bool]]:
    """An answer for each attempt, and which events end as delivered: what ends an event is the same at every try."""
    ends: dict[tuple[str, str], bool] = {}
    plans: dict[tuple[str, str], int] = {}

    def answer(destination: str, message_id: str, before: int) -> Outcome | None:
        key = (destination, message_id)
        dice = Random(f"{seed} {key}")
        if key not in plans:
            plans[key] = dice.choice((0, 0, 0, 1, 2, 5))
            ends[key] = dice.random() < 0.8
        if before == 0 and Random(f"{seed} {key} hangs").random() < hanging:
            ends[key] = True
            return HANG
        if before < plans[key]:
            return RETRY
        return DELIVERED_OUTCOME if ends[key] else FAILED

    return answer, ends


async def play(steps: list[Step], seed: int, *, hanging: float, kafka_like: bool) -> None:
    answer, ends = scripted(seed, hanging)
    world = World(answer, concurrency=CONCURRENCY, kafka_like=kafka_like, seed=seed)
    dice = Random(seed)
    on, off = snapshot_of(DESTINATIONS), snapshot_of(DESTINATIONS, disabled=["two"])
    world.activate(on)
    world.commit()
    expected: set[tuple[str, str]] = set()
    number = 0
    for step in steps:
        if step.kind == "append":
            events = [(dice.choice(("web", "app", "other")), f"m{number + at}") for at in range(step.count)]
            number += step.count
            world.append(*events)
            for source, message_id in events:
                for slug, sources in DESTINATIONS.items():
                    if source in sources and world.snapshot.destinations[slug].enabled:
                        expected.add((slug, message_id))
        elif step.kind == "run":
            await world.ticks(step.count)
        elif step.kind == "wait":
            await asyncio.sleep(step.count / 1000)
        elif step.kind == "commit":
            world.commit()
        elif step.kind == "crash":
            world.crash()
        else:
            world.activate(off if step.kind == "disable" else on)
            world.commit()  # a crash before this would decide anew what is connected: `expected` needs one answer
    world.let_go()
    world.activate(on)
    await world.settle()
    await world.close()
    delivered = {key for key in expected if ends[key]}
    books = world.books()
    for slug in DESTINATIONS:
        assert books.get((slug, "delivered"), 0) == sum(key[0] == slug for key in delivered)
        assert books.get((slug, "failed"), 0) == sum(key[0] == slug for key in expected - delivered)
    assert set(world.finals) == expected, "each event came to an end, and no other event was sent"
    doubles = world.finals.total() - len(world.finals)
    assert doubles <= world.forgotten, "what came twice was under way or not yet recorded at a crash"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    seed=st.integers(0, 1 << 30),
    hanging=st.sampled_from([0.0, 0.1]),
    queue_events=st.sampled_from([3, 12, 10_000]),
    rows=st.sampled_from([2, 10_000]),
    row_after_s=st.sampled_from([0.0, 0.002, 1.0]),
    kafka_like=st.booleans(),
)
def test_every_event_ends_exactly_once(
    steps: list[Step],
    seed: int,
    hanging: float,
    queue_events: int,
    rows: int,
    row_after_s: float,
    kafka_like: bool,
) -> None:
    with tight_lanes(queue_events=queue_events, rows=rows, row_after_s=row_after_s):
        asyncio.run(play(steps, seed, hanging=hanging, kafka_like=kafka_like))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 30), order=st.permutations(list(DESTINATIONS)), count=st.integers(1, 60))
def test_the_order_of_lanes_does_not_matter(seed: int, order: list[str], count: int) -> None:
    async def outcomes(slugs: list[str]) -> dict[tuple[str, str], int]:
        answer, _ = scripted(seed, 0.0)
        world = World(answer, concurrency=CONCURRENCY, seed=seed)
        world.activate(snapshot_of({slug: DESTINATIONS[slug] for slug in slugs}))
        dice = Random(seed)
        for number in range(count):
            world.append((dice.choice(("web", "app")), f"m{number}"))
            await world.ticks(2)
        await world.settle()
        await world.close()
        assert set(world.finals.values()) == {1}
        return world.books()

    assert asyncio.run(outcomes(list(DESTINATIONS))) == asyncio.run(outcomes(order))
