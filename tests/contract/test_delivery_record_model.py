"""Any commits, at any age of what they left: every store tells the same as its twin in memory."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.delivery_record_kit import (
    DAY,
    EVER,
    HOUR,
    MINUTE_MS,
    START,
    attempt,
    bulk_row,
    rows_of,
    sample,
    tidy,
)
from tests.contract.state_engines import MakeEngine
from trunkline.state.base import RECORD_KEPT_D, Changes, LatencyKey, LossKey, RecordCounts, RecordKey, StateStore
from trunkline.testing.memory_state import MemoryStateStore

COUNT = st.integers(1, 5)
NAMES_HERE = ("a", "b")
NAMES = st.sampled_from(NAMES_HERE)
MINUTES = st.integers(START, START + 3 * HOUR)
KEYS = st.builds(
    RecordKey,
    MINUTES,
    st.sampled_from(["", "a"]),
    NAMES,
    NAMES,
    NAMES,
    NAMES,
    NAMES,
    st.sampled_from(["delivered", "retry"]),
    NAMES,
)
PLACES = st.integers(0, 5)
ATTEMPTS = st.builds(
    lambda destination, place, more, minute, number: attempt(
        minute * MINUTE_MS,
        destination=destination,
        place=place,
        last_place=place + more,
        message_id="" if more else f"m{place}",
        number=number,
    ),
    NAMES,
    PLACES,
    st.sampled_from([0, 0, 3]),
    MINUTES,
    st.integers(0, 1 << 40),
)
SAMPLES = st.builds(
    lambda destination, reason, minute, number: sample(
        minute * MINUTE_MS, destination=destination, reason=reason, message_id=str(number)
    ),
    NAMES,
    NAMES,
    MINUTES,
    st.integers(0, 1 << 40),
)
COMMITS = st.builds(
    Changes,
    record=st.dictionaries(KEYS, st.builds(RecordCounts, COUNT, COUNT, COUNT, COUNT), max_size=20),
    latencies=st.dictionaries(st.builds(LatencyKey, MINUTES, NAMES, NAMES, PLACES), COUNT),
    losses=st.dictionaries(st.builds(LossKey, NAMES, NAMES, MINUTES, NAMES), COUNT),
    attempts=st.lists(ATTEMPTS),
    samples=st.lists(SAMPLES, max_size=25),
    bulk=st.dictionaries(
        st.tuples(NAMES, st.just("0"), PLACES),
        st.booleans(),
    ).map(lambda kept: {k: bulk_row(k[2], destination=k[0]) if keep else None for k, keep in kept.items()}),
)
TIMES = st.none() | st.sampled_from(
    [2 * DAY + 90, 7 * DAY + 90, RECORD_KEPT_D * DAY + 90, RECORD_KEPT_D * DAY + 3 * HOUR, 40 * DAY]
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    commits=st.lists(st.tuples(COMMITS, TIMES, st.booleans()), max_size=6),
    since=st.integers(0, 4 * HOUR),
    length=st.integers(0, 4 * HOUR),
)
def test_every_engine_does_what_the_twin_does(
    make_engine: MakeEngine, commits: list[tuple[Changes, int | None, bool]], since: int, length: int
) -> None:
    engine, twin = make_engine(), MemoryStateStore()
    span = ((START + since) * MINUTE_MS, (START + since + length) * MINUTE_MS)
    for changes, later, restart in commits:
        engine.store.commit(changes)
        twin.commit(changes)
        if restart:
            engine.restart(kill=True)
        if later is not None:
            tidy(engine.store, START + later)
            tidy(twin, START + later)
        assert everything(engine.store, span) == everything(twin, span)


def everything(store: StateStore, span: tuple[int, int]) -> list[Any]:
    return [
        store.read(),
        *(rows_of(store, *times) for times in ((0, EVER), span)),
        *(rows_of(store, *span, destination=destination) for destination in ("", "a")),
        *(rows_of(store, *span, source=source) for source in NAMES_HERE),
        *(store.latencies(*times) for times in ((0, EVER), span)),
        store.latencies(*span, destination="b"),
        store.losses(0),
        store.losses(span[0], destination="a"),
        *(sorted(store.attempts_of(f"m{place}"), key=repr) for place in range(6)),
        *(sorted(store.attempts_at("a", "0", place), key=repr) for place in range(9)),
        *(sorted(found, key=repr) for found in (store.samples(), store.samples("a"), store.samples("a", "b"))),
        *(store.bulk_rows(destination) for destination in NAMES_HERE),
    ]
