"""The books against a log that is shortened between the reading of the state and the reading of the log."""

from __future__ import annotations

from pathlib import Path

from trunkline.clock import SystemClock
from trunkline.log.base import ACCEPTED, INGESTED, EventLog, NewRecord
from trunkline.log.embedded import EmbeddedLog
from trunkline.log.records import (
    RECORD_VERSION,
    AcceptedEvent,
    Delta,
    Envelope,
    IngestedChunk,
    LoggedEvent,
    encode_chunk,
    encode_envelope,
)
from trunkline.observe.books import check_books
from trunkline.spec.outcomes import ACCEPTED as ACCEPTED_OUTCOME
from trunkline.spec.outcomes import DELIVERED
from trunkline.state.base import Changes, Interval, LaneKey, LaneState, SourceKey, State, place_of
from trunkline.testing.memory_state import MemoryStateStore

EVENTS = 40
FAR_FUTURE_MS = 1 << 60


def _passed(log: EventLog) -> tuple[State, State]:
    """A state in the middle (half of the events settled), and one at the end."""
    ingested, accepted = log.appender(INGESTED, "0"), log.appender(ACCEPTED, "0")
    store = MemoryStateStore()
    store.commit(Changes(opened=[Interval(1, "hook", "web", 0, 0, {}, {})]))
    states = []
    for number in range(EVENTS):
        chunk = IngestedChunk(RECORD_VERSION, "web", 0, [LoggedEvent(f"m{number}", "track", "E", b"{}")], [])
        [start] = ingested.append([NewRecord(encode_chunk(chunk), chunk.counts())])
        event = AcceptedEvent("web", 0, f"m{number}", "track", "E", b"{}")
        delta = Delta("web", "track", "E", ACCEPTED_OUTCOME, "", 1)
        envelope = Envelope(
            RECORD_VERSION, 1, "0", "shared", start, ingested.head, "v", [event], b"", [], [delta], fence=False
        )
        [position] = accepted.append([NewRecord(encode_envelope(envelope), envelope.counts())])
        settled = number >= EVENTS // 2
        changes = Changes(
            source_cursors={("0", "shared"): ingested.head},
            accepted={"0": accepted.head},
            source_books={SourceKey("web", "track", "E", ACCEPTED_OUTCOME, ""): 1},
        )
        if settled:
            # Each commit settles two: the lane catches up at the end.
            changes.lane_books[LaneKey("hook", "web", DELIVERED, "")] = 2
            mark = place_of(2 * (number - EVENTS // 2) + 2, 0)
            changes.lanes["hook", "0"] = LaneState("hook", "0", mark) if number < EVENTS - 1 else None
        else:
            changes.lanes["hook", "0"] = LaneState("hook", "0", 0)
        store.commit(changes)
        if number == EVENTS * 3 // 4:
            states.append(store.read())
        assert position == number
    ingested.close()
    accepted.close()
    return states[0], store.read()


def test_a_state_that_retention_has_overtaken_is_known_as_such(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path, SystemClock(), segment_bytes=600)
    middle, end = _passed(log)
    for state in (middle, end):
        books = check_books(state, log)
        assert books.balanced, books.problems
    for topic in (INGESTED, ACCEPTED):
        assert log.retain(topic, "0", consumed=EVENTS, older_than_ms=FAR_FUTURE_MS, max_bytes=0)
    old = check_books(middle, log)
    assert not old.balanced
    assert old.overtaken
    new = check_books(end, log)
    assert new.balanced, new.problems
    assert not new.overtaken
