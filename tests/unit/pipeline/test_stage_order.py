"""The order of the stages as a table: for each pair of neighbours a case that fails when they are swapped."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.delivery.lane_world import World, snapshot_of
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
from trunkline.pipeline.stages import STAGES, Scope, source_stages
from trunkline.runtime.source_stage import SourceStage
from trunkline.spec.discards import (
    FILTERED_BY_END_USER_CONSENT,
    FILTERED_BY_INTEGRATIONS_OBJECT,
    FILTERED_BY_RULES,
)
from trunkline.spec.filters import Filter
from trunkline.workspace.model import Snapshot


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

    def __init__(self, directory: Path) -> None:
        self.index = DedupeIndex(directory, secret=b"secret")
        self._stage = SourceStage(self.index)
        self._position = 0

    def build(self, *chunks: IngestedChunk) -> Envelope:
        taken = []
        for chunk in chunks:
            record = Record(self._position, self._position + 1, encode_chunk(chunk), chunk.counts())
            self._position += 1
            taken.append((record, chunk))
        return self._stage.build("0", taken, epoch=1, snapshot="v1")


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


def consent_is_asked_before_filters(directory: Path) -> None:
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


def a_batch_holds_what_filters_let_through(directory: Path) -> None:
    """Swapped, batches would be formed of events that are dropped afterwards, and be sent half empty."""
    world = BatchWorld()

    async def test() -> None:
        world.activate(filtered(Filter(condition='event = "Odd"', action="drop")))
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
    ("dedupe", "choice"): a_duplicate_is_offered_to_nobody,
    ("choice", "filters"): consent_is_asked_before_filters,
    ("filters", "batch"): a_batch_holds_what_filters_let_through,
    ("batch", "send"): what_is_sent_together_is_settled_before,
}


def neighbours() -> list[tuple[str, str]]:
    names = [stage.name for stage in STAGES]
    return list(itertools.pairwise(names))


def test_every_pair_of_neighbours_has_its_case() -> None:
    assert set(neighbours()) == set(ORDER)


@pytest.mark.parametrize("pair", ORDER, ids="-".join)
def test_order(pair: tuple[str, str], tmp_path: Path) -> None:
    ORDER[pair](tmp_path / "dedupe")


def test_numbers_ascend_and_scopes_follow_one_another() -> None:
    numbers = [stage.number for stage in STAGES]
    assert numbers == sorted(set(numbers))
    scopes = [stage.scope for stage in STAGES]
    assert scopes == sorted(scopes, key=[Scope.INGEST, Scope.SOURCE, Scope.LANE].index)
    assert [stage.name for stage in source_stages()] == ["dedupe"]
    assert len({stage.name for stage in STAGES}) == len(STAGES)
