"""The search in the logs finds every copy of an event, and what the source stage made of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.observe.story_kit import AT_MS, World
from trunkline.clock import SystemClock
from trunkline.log.base import INGESTED, NewRecord
from trunkline.log.embedded import EmbeddedLog
from trunkline.log.records import IngestedChunk, LoggedEvent, Rejection, encode_chunk
from trunkline.observe.trace import Received, trace
from trunkline.state.base import place_of
from trunkline.testing.memory_log import MemoryLog
from trunkline.testing.memory_state import MemoryStateStore


@pytest.fixture
def world() -> World:
    return World(MemoryStateStore())


def told(world: World, message_id: str = "m1") -> list[tuple[bool, tuple[str, ...], int | None]]:
    return [(item.waits, item.reasons, place(item)) for item in trace(world.log, message_id).received]


def place(item: Received) -> int | None:
    return item.accepted.place if item.accepted is not None else None


def test_an_event_among_others(world: World) -> None:
    world.accept(world.ingest("a", "b"), "a", "b")
    at = world.ingest("c", "m1", "d")
    position = world.accept(at, "c", "m1", "d")
    world.ingest("m11", "xm1")
    assert told(world) == [(False, (), place_of(position, 1))]
    found = trace(world.log, "m1")
    assert found.since_ms == AT_MS
    assert [(item.place, item.event.message_id) for item in found.accepted] == [(place_of(position, 1), "m1")]
    assert found.searched_bytes > 0


def test_what_no_envelope_covers_waits(world: World) -> None:
    world.ingest("m1")
    assert told(world) == [(True, (), None)]
    # An envelope of another range does not cover it.
    other = world.ingest("x")
    world.accept(other, "x")
    assert told(world) == [(True, (), None)]


def test_copies_in_one_request_and_later(world: World) -> None:
    first = world.accept(world.ingest("m1", "m1", "m1"), "m1")
    world.accept(world.ingest("m1", at_ms=AT_MS + 1), at_ms=AT_MS + 1)
    assert told(world) == [
        (False, (), place_of(first, 0)),
        (False, ("duplicate",), None),
        (False, ("duplicate",), None),
        (False, ("duplicate",), None),
    ]


def test_a_copy_of_another_source_in_the_same_range(world: World) -> None:
    start = world.ingest("m1", source="app")
    stop = world.ingest("m1", source="web")
    position = world.accept(start, "m1", stop=stop + 1, source="web")
    found = trace(world.log, "m1").received
    assert [(item.source, place(item)) for item in found] == [("app", None), ("web", place_of(position, 0))]


def test_envelopes_of_an_owner_that_lost_the_partition_do_not_count(world: World) -> None:
    at = world.ingest("m1")
    world.accept(0, epoch=2, fence=True, stop=0)
    world.accept(at, "m1", epoch=1)
    assert told(world) == [(True, (), None)]
    good = world.accept(at, "m1", epoch=2)
    world.accept(at, "m1", epoch=2)  # an append that the engine repeated
    assert told(world) == [(False, (), place_of(good, 0))]
    assert len(trace(world.log, "m1").accepted) == 1


def test_rejections_hold_the_id_in_their_excerpt(world: World) -> None:
    world.ingest(
        rejections=[
            Rejection("event_not_defined", b'{"type":"track", "messageId" : "m1","userId":"u', "track"),
            Rejection("bad_request", b'{"messageId":"m11"}', "track"),
            Rejection("bad_request", b'{"properties":"m1"}', "track"),
        ]
    )
    [refused] = trace(world.log, "m1").refused
    assert (refused.code, refused.source, refused.type) == ("event_not_defined", "web", "track")


@pytest.mark.parametrize("message_id", ["ü☃", 'a"b', "a\\b", "with space", "m" * 100])
def test_ids_of_all_kinds(world: World, message_id: str) -> None:
    position = world.accept(world.ingest(message_id), message_id)
    assert told(world, message_id) == [(False, (), place_of(position, 0))]


def test_an_empty_log(world: World) -> None:
    found = trace(World(MemoryStateStore()).log, "m1")
    assert (found.received, found.accepted, found.refused, found.since_ms) == ([], [], [], None)


@given(st.lists(st.lists(st.sampled_from(["m1", "m2", "m3"]), min_size=1, max_size=4), max_size=8), st.data())
def test_every_copy_is_told_once(requests: list[list[str]], data: st.DataObject) -> None:
    """However far the source stage has come, and whatever it lets pass."""
    world = World(MemoryStateStore(), MemoryLog())
    positions = [world.ingest(*ids, at_ms=AT_MS + number) for number, ids in enumerate(requests)]
    seen: set[str] = set()
    survived: list[int] = []
    covered = data.draw(st.integers(0, len(requests)))
    for number in range(covered):
        new = [id for id in dict.fromkeys(requests[number]) if id not in seen]
        seen |= set(new)
        position = world.accept(positions[number], *new, at_ms=AT_MS + number)
        survived += [place_of(position, at) for at, id in enumerate(new) if id == "m1"]
    found = trace(world.log, "m1").received
    assert len(found) == sum(ids.count("m1") for ids in requests)
    assert [item.accepted.place for item in found if item.accepted is not None] == survived
    assert sum(item.waits for item in found) == sum(ids.count("m1") for ids in requests[covered:])


def test_the_embedded_log_is_searched_over_segments(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path, SystemClock(), segment_bytes=1 << 20)
    appender = log.appender(INGESTED, "0")
    for number in range(30):
        events = [LoggedEvent(f"m{number}", "track", "E", b"x" * 100_000)]
        chunk = IngestedChunk(1, "web", AT_MS + number, events, [])
        appender.append([NewRecord(encode_chunk(chunk), chunk.counts())])
    appender.close()
    [item] = trace(log, "m29").received
    assert (item.at_ms, item.waits) == (AT_MS + 29, True)
    assert trace(log, "m30").received == []
    assert trace(log, "m30").searched_bytes > 3_000_000
