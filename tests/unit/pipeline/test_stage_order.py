"""The order of the stages as a table: for each pair of neighbours a case that fails when they are swapped."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.unit.delivery.lane_world import ScriptedSender, World, snapshot_of
from trunkline.dedupe import DedupeIndex
from trunkline.destinations.kit import DELIVERED_OUTCOME, BatchRules, Outcome, OutgoingEvent, Sender
from trunkline.log.base import Record
from trunkline.log.records import RECORD_VERSION, Envelope, IngestedChunk, LoggedEvent, Rejection, encode_chunk
from trunkline.pipeline.stages import STAGES, Scope, source_stages
from trunkline.runtime.source_stage import SourceStage


def event(message_id: str) -> LoggedEvent:
    return LoggedEvent(message_id, "track", "E", b'{"messageId":"' + message_id.encode() + b'"}')


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


def a_duplicate_is_in_no_batch(directory: Path) -> None:
    """Swapped, a batch would be formed before duplicates are known: only survivors reach a lane."""
    stage = Stage(directory)
    chunk = IngestedChunk(RECORD_VERSION, "web", 1000, [event("m1"), event("m1"), event("m2")], [])
    again = IngestedChunk(RECORD_VERSION, "app", 2000, [event("m2"), event("m3")], [])
    survivors = [
        survivor.message_id for envelope in (stage.build(chunk), stage.build(again)) for survivor in envelope.survivors
    ]
    assert survivors == ["m1", "m2", "m3"]
    stage.index.close()


def what_is_sent_together_is_settled_before(directory: Path) -> None:
    """Swapped, each event would be a request of its own: a sender is handed whole batches, and nothing twice."""
    requests: list[list[str]] = []

    class Batches(ScriptedSender):
        batch = BatchRules(events=3)

        async def send(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
            requests.append([event.message_id for event in events])
            return await super().send(events)

    class BatchWorld(World):
        def _sender(self, slug: str) -> Sender:
            return Batches(self, slug)

    async def test() -> None:
        world = BatchWorld(lambda destination, message_id, before: DELIVERED_OUTCOME)
        world.activate(snapshot_of({"hook": ["web"]}))
        world.append(*(("web", f"m{number}") for number in range(7)))
        await world.settle()
        await world.close()

    asyncio.run(test())
    assert requests == [["m0", "m1", "m2"], ["m3", "m4", "m5"], ["m6"]]


ORDER: dict[tuple[str, str], Callable[[Path], None]] = {
    ("ingest", "dedupe"): a_rejected_event_claims_no_message_id,
    ("dedupe", "batch"): a_duplicate_is_in_no_batch,
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
