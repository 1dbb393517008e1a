"""The source stage with plans: what is forwarded, what is counted, how long it holds the loop."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from trunkline.clock import SystemClock
from trunkline.dedupe import DedupeIndex
from trunkline.log.base import Record
from trunkline.log.records import RECORD_VERSION, Envelope, IngestedChunk, LoggedEvent, decode_envelope, encode_envelope
from trunkline.pipeline.tracking_plan import PlanStage
from trunkline.runtime.source_stage import FORWARDED_BYTES, SourceStage
from trunkline.spec.outcomes import ACCEPTED, ENTERED, FILTERED_AT_SOURCE
from trunkline.spec.plans import Enforcement, Rule, SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import SchemaFilters
from trunkline.state.base import MAX_SURVIVORS
from trunkline.workspace.model import Snapshot, Source

SCHEMA = {
    "type": "object",
    "properties": {
        "properties": {
            "type": "object",
            "required": ["a", "b"],
            "patternProperties": {"^is_": {"type": "boolean"}},
        }
    },
}
ALL_ALLOWED = SchemaConfiguration(forward_violations_to="monitor")
BLOCKING = SchemaConfiguration(track=Enforcement(violations="block"), forward_blocked_events_to="monitor")

BLOCKING_BOTH = dataclasses.replace(BLOCKING, forward_violations_to="monitor")


def snapshot_of(configuration: SchemaConfiguration, **monitor: Any) -> Snapshot:
    sources = {
        "web": Source("web", "Web", "http", ("wk_web",)),
        "monitor": Source("monitor", "Monitor", "http", ("wk_monitor",), **monitor),
    }
    plan = TrackingPlan("shop", "Shop", ("web",), (Rule("track", SCHEMA, "E"),), configuration)
    # The target has a plan of its own that would block whatever comes in by itself.
    strict = TrackingPlan(
        "strict", "Strict", ("monitor",), (Rule("track", {}, "Known"),), SchemaConfiguration(unplanned_events="block")
    )
    return Snapshot("v", "acme", "Acme", sources, {}, tracking_plans={"shop": plan, "strict": strict})


def track(message_id: str, version: str = "", /, **properties: Any) -> LoggedEvent:
    body = {"type": "track", "event": "E", "messageId": message_id, "properties": properties}
    if version:
        body["context"] = {"app": {"version": version}}
    return LoggedEvent(message_id, "track", "E", json.dumps(body).encode())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[SourceStage]:
    index = DedupeIndex(tmp_path / "dedupe", secret=b"secret")
    yield SourceStage(index, SystemClock())
    index.close()


def build(stage: SourceStage, events: Sequence[LoggedEvent]) -> Envelope:
    chunk = IngestedChunk(RECORD_VERSION, "web", 1000, list(events), [])
    envelope = asyncio.run(stage.build("0", [(Record(7, 8, b"", {}), chunk)], epoch=1, snapshot="v"))
    assert decode_envelope(encode_envelope(envelope)) == envelope
    return envelope


def counted(envelope: Envelope) -> dict[tuple[str, str, str], int]:
    counts: dict[tuple[str, str, str], int] = {}
    for delta in envelope.deltas:
        key = (delta.source, delta.outcome, delta.reason)
        counts[key] = counts.get(key, 0) + delta.count
    return counts


def by_key(envelope: Envelope) -> Counter[tuple[str, ...]]:
    return Counter(
        {
            (delta.source, delta.type, delta.name, delta.app_version, delta.outcome, delta.reason): delta.count
            for delta in envelope.deltas
        }
    )


def test_violations_enter_the_other_source_past_its_plan(stage: SourceStage) -> None:
    stage.activate(snapshot_of(ALL_ALLOWED))
    envelope = build(stage, [track("m1"), track("m2", a=1, b=2)])
    assert counted(envelope) == {
        ("web", ACCEPTED, ""): 2,
        ("monitor", ENTERED, ""): 2,
        ("monitor", ACCEPTED, ""): 2,
    }
    told = [json.loads(event.body) for event in envelope.survivors if event.source == "monitor"]
    assert [event["properties"]["violationDescription"] for event in told] == [
        "properties.a is required",
        "properties.b is required",
    ]
    assert len({event["messageId"] for event in told}) == 2
    assert envelope.blocked == []


def test_a_bug_in_the_quick_look_is_told_and_the_engine_is_asked(
    stage: SourceStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(PlanStage, "clears", fails)
    stage.activate(snapshot_of(BLOCKING))
    with capture_logs() as logs:
        envelope = build(stage, [track("m1", a=1), track("m2", a=1, b=2)])
    assert {(entry["event"], entry["error"]) for entry in logs} == {("stage.bug", "ZeroDivisionError")}
    assert [event.message_id for event in envelope.survivors if event.source == "web"] == ["m2"]
    assert [event.message_id for event in envelope.blocked] == ["m1"]


def test_a_blocked_event_keeps_its_id_and_says_why(stage: SourceStage) -> None:
    stage.activate(snapshot_of(BLOCKING))
    envelope = build(stage, [track("m1", a=1)])
    [event] = envelope.survivors
    assert (event.source, event.message_id, event.name) == ("monitor", "m1", "E")
    assert json.loads(event.body)["context"]["protocols"]["violations"][0]["field"] == "properties.b"
    [blocked] = envelope.blocked
    assert (blocked.source, blocked.reason, blocked.body) == ("web", "schema_violation", track("m1", a=1).body)
    assert counted(envelope) == {
        ("web", FILTERED_AT_SOURCE, "schema_violation"): 1,
        ("monitor", ENTERED, ""): 1,
        ("monitor", ACCEPTED, ""): 1,
    }


def test_a_blocked_event_is_no_duplicate_twice(stage: SourceStage) -> None:
    """Its dedupe key is remembered, so a copy is neither blocked nor forwarded again."""
    stage.activate(snapshot_of(BLOCKING))
    first, second = build(stage, [track("m1")]), build(stage, [track("m1")])
    assert len(first.dedupe_keys) == 16
    assert counted(second) == {("web", FILTERED_AT_SOURCE, "duplicate"): 1}


def test_more_than_one_envelope_holds_is_counted_and_not_lost_silently(stage: SourceStage) -> None:
    stage.activate(snapshot_of(ALL_ALLOWED))
    envelope = build(stage, [track(f"m{number}") for number in range(2500)])
    entered = MAX_SURVIVORS - 2500
    assert len(envelope.survivors) == MAX_SURVIVORS
    assert counted(envelope) == {
        ("web", ACCEPTED, ""): 2500,
        ("monitor", ENTERED, ""): 5000,
        ("monitor", ACCEPTED, ""): entered,
        ("monitor", FILTERED_AT_SOURCE, "forwarding_limit"): 5000 - entered,
    }


def test_what_is_forwarded_in_one_envelope_is_bounded_in_bytes(stage: SourceStage) -> None:
    """A violation repeats the event's app, however large a client makes it."""
    stage.activate(snapshot_of(ALL_ALLOWED))
    app = b'{"version":"' + b"9" * 30_000 + b'"}'
    events = []
    for number in range(300):
        event = track(f"m{number}")
        body = event.body[:-1] + b',"context":{"app":' + app + b"}}"
        events.append(LoggedEvent(event.message_id, event.type, event.name, body))
    envelope = build(stage, events)
    told = [event for event in envelope.survivors if event.source == "monitor"]
    assert FORWARDED_BYTES - 70_000 < sum(len(event.body) for event in told) <= FORWARDED_BYTES
    assert counted(envelope) == {
        ("web", ACCEPTED, ""): 300,
        ("monitor", ENTERED, ""): 600,
        ("monitor", ACCEPTED, ""): len(told),
        ("monitor", FILTERED_AT_SOURCE, "forwarding_limit"): 600 - len(told),
    }


SHAPES = st.tuples(
    st.sampled_from([0, 1, 2]),
    st.sampled_from(["", "1", "22", "é", "9" * 100, "9" * 900]),
    st.sampled_from(["b", "b" * 200]),
)
"""How many properties an event lacks, its app's version, and a name of one that is of the wrong type."""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.lists(SHAPES, min_size=1, max_size=20),
    max_survivors=st.integers(1, 80),
    max_bytes=st.sampled_from([0, 700, 2_000, 9_000, 30_000]),
    configuration=st.sampled_from([ALL_ALLOWED, BLOCKING_BOTH]),
    filtered=st.booleans(),
)
def test_what_does_not_fit_is_counted_as_if_it_had_been_made(
    stage: SourceStage,
    monkeypatch: pytest.MonkeyPatch,
    shapes: list[tuple[int, str, str]],
    max_survivors: int,
    max_bytes: int,
    configuration: SchemaConfiguration,
    filtered: bool,
) -> None:
    """The same events are taken with room for all of them, and then one after the other by the two limits."""
    filters = SchemaFilters(blocked_events=("Violation Generated",)) if filtered else SchemaFilters()
    unfiltered = snapshot_of(configuration)
    snapshot = snapshot_of(configuration, schema_filters=filters)
    plans = {"shop": snapshot.tracking_plans["shop"]}
    events = [
        LoggedEvent(event.message_id, event.type, event.name, event.body, has_own_id=False)
        for number, (missing, version, wrong) in enumerate(shapes)
        for event in [track(f"m{number}", version, **dict.fromkeys(("a", "b")[missing:], 1), **{f"is_{wrong}": 1})]
    ]
    monkeypatch.setattr("trunkline.runtime.source_stage.MAX_SURVIVORS", sys.maxsize)
    monkeypatch.setattr("trunkline.runtime.source_stage.FORWARDED_BYTES", sys.maxsize)
    stage.activate(dataclasses.replace(unfiltered, tracking_plans=plans))
    everything = build(stage, events)
    monkeypatch.setattr("trunkline.runtime.source_stage.MAX_SURVIVORS", max_survivors)
    monkeypatch.setattr("trunkline.runtime.source_stage.FORWARDED_BYTES", max_bytes)
    stage.activate(dataclasses.replace(snapshot, tracking_plans=plans))
    limited = build(stage, events)

    survivors = [event for event in everything.survivors if event.source == "web"]
    counts = Counter({key: count for key, count in by_key(everything).items() if key[0] == "web"})
    used_bytes = 0
    for event in everything.survivors[len(survivors) :]:
        key = (event.source, event.type, event.name, event.app_version)
        counts[*key, ENTERED, ""] += 1
        if len(survivors) >= max_survivors or used_bytes + len(event.body) > max_bytes:
            counts[*key, FILTERED_AT_SOURCE, "forwarding_limit"] += 1
            continue
        used_bytes += len(event.body)
        if filtered and event.name == "Violation Generated":
            counts[*key, FILTERED_AT_SOURCE, "event_setting"] += 1
        else:
            counts[*key, ACCEPTED, ""] += 1
            survivors.append(event)
    assert limited.survivors == survivors
    assert by_key(limited) == counts
    assert limited.blocked == everything.blocked


def test_a_disabled_source_gets_nothing_and_counts_it(stage: SourceStage) -> None:
    stage.activate(snapshot_of(BLOCKING, enabled=False))
    envelope = build(stage, [track("m1")])
    assert envelope.survivors == []
    assert counted(envelope)["monitor", FILTERED_AT_SOURCE, "source_disabled"] == 1


def test_the_other_sources_schema_filters_hold_for_what_enters(stage: SourceStage) -> None:
    snapshot = snapshot_of(BLOCKING, schema_filters=SchemaFilters(blocked_events=("E",)))
    plans = {"shop": snapshot.tracking_plans["shop"]}
    stage.activate(dataclasses.replace(snapshot, tracking_plans=plans))
    envelope = build(stage, [track("m1")])
    assert counted(envelope)["monitor", FILTERED_AT_SOURCE, "event_setting"] == 1
    assert len(envelope.blocked) == 1, "kept once, as it was ingested"


def test_a_stage_that_fails_lets_nothing_pass(stage: SourceStage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.activate(snapshot_of(ALL_ALLOWED))
    monkeypatch.setattr("trunkline.pipeline.tracking_plan.PlanStage.verdict", lambda *_: 1 / 0)
    envelope = build(stage, [track("m1")])
    assert counted(envelope) == {("web", FILTERED_AT_SOURCE, "INTERNAL"): 1}


def test_the_loop_gets_its_turn_while_a_range_is_judged(stage: SourceStage) -> None:
    stage.activate(snapshot_of(ALL_ALLOWED))
    turns = 0

    async def test() -> None:
        nonlocal turns
        chunk = IngestedChunk(RECORD_VERSION, "web", 1000, [track(f"m{number}") for number in range(2500)], [])
        task = asyncio.create_task(stage.build("0", [(Record(7, 8, b"", {}), chunk)], epoch=1, snapshot="v"))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)

    asyncio.run(test())
    assert turns > 5
