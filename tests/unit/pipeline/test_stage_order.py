"""The order of the stages as a table: for each pair of neighbours a case that fails when they are swapped."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.unit.delivery.lane_setup import snapshot_of
from tests.unit.delivery.lane_world import World
from trunkline.clock import SystemClock
from trunkline.dedupe import DedupeIndex
from trunkline.destinations.kit import DELIVERED_OUTCOME, BatchRules, Outcome
from trunkline.log.base import Record
from trunkline.log.records import (
    RECORD_VERSION,
    AcceptedEvent,
    Envelope,
    IngestedChunk,
    LoggedEvent,
    Rejection,
    encode_chunk,
)
from trunkline.pipeline.gate import GateStage, Takes, compile_gate
from trunkline.pipeline.stages import STAGES, Scope, source_stages
from trunkline.runtime.source_stage import SourceStage
from trunkline.spec.discards import (
    FILTERED_BY_END_USER_CONSENT,
    FILTERED_BY_INTEGRATIONS_OBJECT,
    FILTERED_BY_RULES,
    UNSUPPORTED_EVENT_TYPE,
    Discard,
)
from trunkline.spec.filters import Filter
from trunkline.spec.plans import Rule, SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import SchemaFilters
from trunkline.spec.transformations import Transformation
from trunkline.workspace.model import Snapshot, Source


def event(message_id: str) -> LoggedEvent:
    return LoggedEvent(message_id, "track", "E", b'{"messageId":"' + message_id.encode() + b'"}')


class BatchWorld(World):
    """A lane whose batches are of three, which are remembered, and events with bodies."""

    def __init__(self) -> None:
        super().__init__(lambda destination, message_id, before: DELIVERED_OUTCOME, batches={"hook": BatchRules(3)})
        self.sent: list[list[str]] = []

    async def request(self, destination: str, message_ids: list[str]) -> list[Outcome]:
        self.sent.append(message_ids)
        return await super().request(destination, message_ids)

    def append_bodies(self, *bodies: bytes) -> None:
        self.append_events(
            [
                AcceptedEvent("web", 0, fields["messageId"], fields["type"], fields.get("event", ""), body)
                for body in bodies
                for fields in [json.loads(body)]
            ]
        )


def filtered(*filters: Filter) -> Snapshot:
    plain = snapshot_of({"hook": ["web"]})
    hook = dataclasses.replace(plain.destinations["hook"], filters=filters, consent_categories=("ads",))
    return dataclasses.replace(plain, destinations={"hook": hook})


class Stage:
    """The source stage with an index of its own."""

    def __init__(self, directory: Path, snapshot: Snapshot | None = None) -> None:
        self.index = DedupeIndex(directory, secret=b"secret")
        self._stage = SourceStage(self.index, SystemClock())
        self._position = 0
        if snapshot is not None:
            self._stage.activate(snapshot)

    def build(self, *chunks: IngestedChunk) -> Envelope:
        taken = []
        for chunk in chunks:
            record = Record(self._position, self._position + 1, encode_chunk(chunk), chunk.counts())
            self._position += 1
            taken.append((record, chunk))
        return asyncio.run(self._stage.build("0", taken, epoch=1, snapshot="v1"))


def a_rejected_event_claims_no_message_id(directory: Path) -> None:
    """Swapped, dedupe would see the rejected event first, and the good one with the same id would be discarded."""
    stage = Stage(directory)
    rejected = IngestedChunk(RECORD_VERSION, "web", 1000, [], [Rejection("invalid_event", b'{"messageId":"m1"}')])
    good = IngestedChunk(RECORD_VERSION, "web", 1001, [event("m1")], [])
    first, second = stage.build(rejected), stage.build(good)
    assert first.dedupe_keys == b""
    assert [survivor.message_id for survivor in second.survivors] == ["m1"]
    stage.index.close()


def a_duplicate_is_offered_to_nobody(directory: Path) -> None:
    """Swapped, a duplicate would be counted as filtered at the destination: only survivors reach a lane."""
    stage = Stage(directory)
    chunk = IngestedChunk(RECORD_VERSION, "web", 1000, [event("m1"), event("m1"), event("m2")], [])
    again = IngestedChunk(RECORD_VERSION, "app", 2000, [event("m2"), event("m3")], [])
    survivors = [
        survivor.message_id for envelope in (stage.build(chunk), stage.build(again)) for survivor in envelope.survivors
    ]
    assert survivors == ["m1", "m2", "m3"]
    stage.index.close()


def shop(*, enforce: SchemaConfiguration, transformations: Sequence[Transformation] = (), **source: Any) -> Snapshot:
    """A source whose plan knows the event ``Bought`` with a numeric ``total``, and no property beside it."""
    rule = {"type": "object", "properties": {"properties": {"properties": {"total": {"type": "number"}}}}}
    web = Source("web", "Web", "http", ("wk_web",), **source)
    plan = TrackingPlan("shop", "Shop", ("web",), (Rule("track", rule, "Bought"),), enforce)
    plans = {} if source else {"shop": plan}
    return Snapshot("v", "acme", "Acme", {"web": web}, {}, tracking_plans=plans, transformations=tuple(transformations))


def track(message_id: str, name: str, **more: Any) -> LoggedEvent:
    body = {"type": "track", "messageId": message_id, "event": name, **more}
    return LoggedEvent(message_id, "track", name, json.dumps(body).encode())


def chunk_of(*events: LoggedEvent) -> IngestedChunk:
    return IngestedChunk(RECORD_VERSION, "web", 1000, list(events), [])


def reasons(envelope: Envelope) -> dict[str, int]:
    return {delta.reason: delta.count for delta in envelope.deltas}


def a_duplicate_breaks_no_plan(directory: Path) -> None:
    """Swapped, a duplicate of an event that the plan blocks would be counted as blocked, and forwarded, twice."""
    stage = Stage(directory, shop(enforce=SchemaConfiguration(unplanned_events="block")))
    envelope = stage.build(chunk_of(track("m1", "Odd"), track("m1", "Odd")))
    assert reasons(envelope) == {"unplanned": 1, "duplicate": 1}
    assert len(envelope.blocked) == 1
    stage.index.close()


def the_plan_judges_names_as_they_were_sent(directory: Path) -> None:
    """Swapped, the event that is renamed would be unplanned, and the other one planned."""
    away = Transformation("away", "web", 'event = "Bought"', new_event_name="Order Completed")
    back = Transformation("back", "web", 'event = "Purchased"', new_event_name="Bought")
    stage = Stage(directory, shop(enforce=SchemaConfiguration(unplanned_events="block"), transformations=(away, back)))
    envelope = stage.build(chunk_of(track("m1", "Bought"), track("m2", "Purchased")))
    assert [(event.message_id, event.name) for event in envelope.survivors] == [("m1", "Order Completed")]
    assert reasons(envelope) == {"": 1, "unplanned": 1}
    stage.index.close()


def schema_filters_know_names_as_transformations_leave_them(directory: Path) -> None:
    """Swapped, the event with the old name would be blocked, and the renamed one would pass."""
    rename = Transformation("rename", "web", 'event = "Old"', new_event_name="New")
    filters = SchemaFilters(blocked_events=("New",))
    stage = Stage(directory, shop(enforce=SchemaConfiguration(), transformations=(rename,), schema_filters=filters))
    envelope = stage.build(chunk_of(track("m1", "Old"), track("m2", "Other")))
    assert [event.message_id for event in envelope.survivors] == ["m2"]
    assert [(event.name, event.reason) for event in envelope.blocked] == [("Old", "event_setting")]
    stage.index.close()


def what_the_schema_blocks_is_offered_to_nobody(directory: Path) -> None:
    """Swapped, an event that its ``integrations`` keep from the destination would be filtered there, not here."""
    filters = SchemaFilters(blocked_events=("Secret",))
    stage = Stage(directory, shop(enforce=SchemaConfiguration(), schema_filters=filters))
    envelope = stage.build(chunk_of(track("m1", "Secret", integrations={"All": False})))
    assert reasons(envelope) == {"event_setting": 1}
    assert envelope.survivors == []
    stage.index.close()


def gate(takes: Takes, *filters: Filter, transformations: Sequence[Transformation] = ()) -> GateStage:
    hook = dataclasses.replace(snapshot_of({"hook": ["web"]}).destinations["hook"], filters=filters)
    return compile_gate(hook, "web", frozenset(), Random(1), kind=takes, transformations=transformations)


def passes(stage: GateStage, **event: Any) -> Any:
    body = json.dumps({"messageId": "m", **event}).encode()
    verdict = stage.passes(json.loads(body), body)
    return verdict.reason if isinstance(verdict, Discard) else json.loads(verdict)


def integrations_are_asked_before_the_method(_: Path) -> None:
    """Swapped, the reason would be the type of the event."""
    stage = gate(Takes(methods=frozenset({"track"})))
    assert passes(stage, type="page", integrations={"hook": False}) == FILTERED_BY_INTEGRATIONS_OBJECT
    assert passes(stage, type="page") == UNSUPPORTED_EVENT_TYPE


def the_method_is_asked_before_filters(_: Path) -> None:
    """Swapped, the reason would be the filter's."""
    stage = gate(Takes(methods=frozenset({"track"})), Filter(condition="all", action="drop"))
    assert passes(stage, type="page") == UNSUPPORTED_EVENT_TYPE
    assert passes(stage, type="track") == FILTERED_BY_RULES


def filters_see_the_event_before_transformations(_: Path) -> None:
    """Swapped, the filter would look for a name that is gone."""
    rename = Transformation("rename", "web", 'event = "Old"', destination="hook", new_event_name="New")
    stage = gate(Takes(), Filter(condition='event = "New"', action="drop"), transformations=[rename])
    assert passes(stage, type="track", event="Old")["event"] == "New"
    assert passes(stage, type="track", event="New") == FILTERED_BY_RULES


def a_batch_holds_what_transformations_leave(directory: Path) -> None:
    """Swapped, batches would be sent half empty."""
    world = BatchWorld()
    drop = Transformation("drop", "web", 'event = "Odd"', destination="hook", drop=True)

    async def test() -> None:
        world.activate(dataclasses.replace(snapshot_of({"hook": ["web"]}), transformations=(drop,)))
        world.append_bodies(
            *(
                b'{"messageId":"m%d","type":"track","event":"%s"}' % (number, b"Odd" if number % 2 else b"Even")
                for number in range(12)
            )
        )
        await world.settle()
        await world.close()

    asyncio.run(test())
    assert world.sent == [["m0", "m2", "m4"], ["m6", "m8", "m10"]]


def consent_is_asked_before_integrations_and_both_before_filters(directory: Path) -> None:
    """Swapped, the reason of an event that both refuse would be the filter's."""
    drop = Filter(condition='event = "E"', action="drop")
    world = BatchWorld()

    async def test() -> None:
        world.activate(filtered(drop))
        world.append_bodies(
            b'{"messageId":"m0","type":"track","event":"E","context":{"consent":{"categoryPreferences":{"ads":false}}}}',
            b'{"messageId":"m1","type":"track","event":"E","integrations":{"hook":false}}',
            b'{"messageId":"m2","type":"track","event":"E"}',
        )
        await world.settle()
        await world.close()

    asyncio.run(test())
    books = {key.reason: count for key, count in world.store.read().lane_books.items()}
    assert books == {FILTERED_BY_END_USER_CONSENT: 1, FILTERED_BY_INTEGRATIONS_OBJECT: 1, FILTERED_BY_RULES: 1}


def what_is_sent_together_is_settled_before(directory: Path) -> None:
    """Swapped, each event would be a request of its own: a sender is handed whole batches, and nothing twice."""
    world = BatchWorld()

    async def test() -> None:
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(*(("web", f"m{number}") for number in range(7)))
        await world.settle()
        await world.close()

    asyncio.run(test())
    assert world.sent == [["m0", "m1", "m2"], ["m3", "m4", "m5"], ["m6"]]


ORDER: dict[tuple[str, str], Callable[[Path], None]] = {
    ("ingest", "dedupe"): a_rejected_event_claims_no_message_id,
    ("dedupe", "plan"): a_duplicate_breaks_no_plan,
    ("plan", "transformations"): the_plan_judges_names_as_they_were_sent,
    ("transformations", "schema"): schema_filters_know_names_as_transformations_leave_them,
    ("schema", "choice"): what_the_schema_blocks_is_offered_to_nobody,
    ("choice", "method"): integrations_are_asked_before_the_method,
    ("method", "filters"): the_method_is_asked_before_filters,
    ("filters", "destination_transformations"): filters_see_the_event_before_transformations,
    ("destination_transformations", "batch"): a_batch_holds_what_transformations_leave,
    ("batch", "send"): what_is_sent_together_is_settled_before,
}
FURTHER: tuple[Callable[[Path], None], ...] = (
    a_duplicate_is_offered_to_nobody,
    consent_is_asked_before_integrations_and_both_before_filters,
)
"""What holds beyond neighbours, or within a stage."""


def neighbours() -> list[tuple[str, str]]:
    names = [stage.name for stage in STAGES]
    return list(itertools.pairwise(names))


def test_every_pair_of_neighbours_has_its_case() -> None:
    assert set(neighbours()) == set(ORDER)


@pytest.mark.parametrize("pair", ORDER, ids="-".join)
def test_order(pair: tuple[str, str], tmp_path: Path) -> None:
    ORDER[pair](tmp_path / "dedupe")


@pytest.mark.parametrize("case", FURTHER, ids=lambda case: case.__name__)
def test_order_beyond_neighbours(case: Callable[[Path], None], tmp_path: Path) -> None:
    case(tmp_path / "dedupe")


def test_numbers_ascend_and_scopes_follow_one_another() -> None:
    numbers = [stage.number for stage in STAGES]
    assert numbers == sorted(numbers)
    scopes = [stage.scope for stage in STAGES]
    assert scopes == sorted(scopes, key=[Scope.INGEST, Scope.SOURCE, Scope.LANE].index)
    assert [stage.name for stage in source_stages()] == ["dedupe", "plan", "transformations", "schema"]
    assert len({stage.name for stage in STAGES}) == len(STAGES)
