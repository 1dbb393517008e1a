"""One suite over all state stores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.state_engines import Engine, MakeEngine
from trunkline.state.base import (
    Changes,
    Interval,
    LaneKey,
    LaneState,
    RetryRow,
    SourceKey,
    State,
    StateError,
    StateFull,
    StateTooNew,
    index_of,
    place_of,
    position_of,
)
from trunkline.state.sqlite import SqliteStateStore
from trunkline.testing.memory_state import MemoryStateStore


def row(place: int, *, destination: str = "hook", due_at_ms: int = 0, **more: Any) -> RetryRow:
    values: dict[str, Any] = {
        "destination": destination,
        "subscription": "",
        "partition": "0",
        "place": place,
        "message_id": f"m{place}",
        "source": "web",
        "type": "track",
        "name": "Order Completed",
        "received_at_ms": 1,
        "attempts": 2,
        "first_attempt_at_ms": 3,
        "due_at_ms": due_at_ms,
        "last_error": "503 go away",
        "resume_stage": "send",
        "event": b'{"messageId":"\xc3\xbc"}' * 10,
    }
    return RetryRow(**(values | more))


def interval(id: int, **more: Any) -> Interval:
    values: dict[str, Any] = {
        "id": id,
        "destination": "hook",
        "source": "web",
        "opened_at_ms": 5,
        "open_place": place_of(7, 0),
        "open_received": {"0": 3},
        "open_books": {"accepted": 2},
    }
    return Interval(**(values | more))


def test_a_new_store_is_empty(engine: Engine) -> None:
    state = engine.store.read()
    assert state == State({}, {}, {}, {}, {}, {}, (), {}, None)
    assert list(engine.store.rows("hook")) == []
    assert engine.store.source_books() == {}


def test_what_was_committed_is_read_by_the_next_owner(engine: Engine) -> None:
    lane = LaneState("hook", "0", place_of(9, 4), ((place_of(9, 6), place_of(10, 2)), (place_of(11, 0),) * 2))
    retry = row(place_of(9, 5))
    opened = interval(1)
    engine.store.commit(
        Changes(
            source_cursors={("0", "shared"): 12, ("1", "shared"): 4},
            accepted={"0": 13},
            epochs={"0": 2},
            source_books={SourceKey("web", "track", "A", "accepted", ""): 5},
            lane_books={LaneKey("hook", "web", "delivered", ""): 4},
            lanes={("hook", "0"): lane},
            rows={retry.key: retry},
            opened=[opened],
            snapshot="v1",
        )
    )
    for kill in (True, False):
        engine.restart(kill=kill)
        state = engine.store.read()
        assert state.source_cursors == {("0", "shared"): 12, ("1", "shared"): 4}
        assert (state.accepted, state.epochs, state.snapshot) == ({"0": 13}, {"0": 2}, "v1")
        assert state.source_totals == state.source_book_totals == {"web": {"accepted": 5}}
        assert state.lane_books == {LaneKey("hook", "web", "delivered", ""): 4}
        assert state.lanes == {("hook", "0"): lane}
        assert state.intervals == (opened,)
        assert state.row_counts == {("hook", "web"): 1}
        assert list(engine.store.rows("hook")) == [retry]


def test_counters_add_up_and_all_else_is_replaced(engine: Engine) -> None:
    accepted = SourceKey("web", "track", "A", "accepted", "")
    duplicate = SourceKey("web", "track", "A", "filtered_at_source", "duplicate")
    delivered = LaneKey("hook", "web", "delivered", "")
    for count in (1, 2, 3):
        engine.store.commit(
            Changes(
                source_cursors={("0", "shared"): count},
                accepted={"0": count * 10},
                source_books={accepted: count, duplicate: 1},
                lane_books={delivered: count},
                snapshot=f"v{count}",
            )
        )
        engine.store.commit(Changes(epochs={"0": count}))
    state = engine.store.read()
    assert engine.store.source_books() == {accepted: 6, duplicate: 3}
    assert state.source_totals == {"web": {"accepted": 6, "filtered_at_source": 3}}
    assert state.lane_books == {delivered: 6}
    assert (state.source_cursors, state.accepted, state.epochs) == ({("0", "shared"): 3}, {"0": 30}, {"0": 3})
    assert state.snapshot == "v3"


def test_none_removes_lanes_and_rows(engine: Engine) -> None:
    rows = [row(place) for place in (1, 2, 3)]
    lane = LaneState("hook", "0", 1)
    engine.store.commit(Changes(lanes={("hook", "0"): lane}, rows={item.key: item for item in rows}))
    engine.store.commit(Changes(lanes={("hook", "0"): None}, rows={rows[1].key: None}))
    state = engine.store.read()
    assert state.lanes == {}
    assert state.row_counts == {("hook", "web"): 2}
    assert {item.place for item in engine.store.rows("hook")} == {1, 3}
    engine.store.commit(Changes(rows={rows[1].key: None, ("other", "", "0", 1): None}))
    assert {item.place for item in engine.store.rows("hook")} == {1, 3}


def test_rows_come_soonest_first_and_by_destination(engine: Engine) -> None:
    rows = [row(place, due_at_ms=due) for place, due in ((1, 300), (2, 100), (3, 200))]
    other = row(1, destination="other")
    engine.store.commit(Changes(rows={item.key: item for item in [*rows, other]}))
    assert [item.place for item in engine.store.rows("hook")] == [2, 3, 1]
    assert list(engine.store.rows("other")) == [other]
    later = dataclasses.replace(rows[1], due_at_ms=900, attempts=3)
    engine.store.commit(Changes(rows={later.key: later}))
    assert [item.place for item in engine.store.rows("hook")] == [3, 1, 2]


def test_intervals_close_and_open_again(engine: Engine) -> None:
    first, second = interval(1), interval(2, opened_at_ms=50)
    closed = dataclasses.replace(
        first, closed_at_ms=40, close_place=place_of(9, 0), close_received={"0": 8}, close_books={}
    )
    engine.store.commit(Changes(opened=[first]))
    engine.store.commit(Changes(closed=[closed], opened=[second]))
    assert engine.store.read().intervals == (closed, second)


def test_an_interval_may_open_and_close_in_one_commit(engine: Engine) -> None:
    """Two workspaces may come into force between two commits."""
    first = interval(1)
    closed = dataclasses.replace(first, closed_at_ms=5, close_place=first.open_place, close_received={}, close_books={})
    engine.store.commit(Changes(opened=[first], closed=[closed]))
    assert engine.store.read().intervals == (closed,)


def test_a_commit_that_finds_no_room_changes_nothing_and_may_be_repeated(engine: Engine) -> None:
    key = SourceKey("web", "track", "A", "accepted", "")
    engine.store.commit(Changes(accepted={"0": 1}, source_books={key: 1}))
    before = engine.store.read()
    changes = Changes(accepted={"0": 2}, source_books={key: 1}, rows={row(1).key: row(1)}, opened=[interval(1)])
    engine.fill_disk(True)
    for _ in range(3):
        with pytest.raises(StateFull):
            engine.store.commit(changes)
        assert engine.store.read() == before
    engine.fill_disk(False)
    engine.store.commit(changes)
    state = engine.store.read()
    assert (state.accepted, state.source_totals) == ({"0": 2}, {"web": {"accepted": 2}})
    assert len(state.intervals) == 1


def test_names_are_capped_totals_are_not(engine: Engine) -> None:
    count = 1500
    for start in range(0, count, 500):
        books = {
            SourceKey("web", "track", f"Event {number}", "accepted", ""): 1 for number in range(start, start + 500)
        }
        engine.store.commit(Changes(source_books=books))
    books_now = engine.store.source_books()
    assert len(books_now) <= 1001
    assert sum(books_now.values()) == count
    assert max(books_now.values()) >= 499, "what is beyond the cap is counted under one name"
    state = engine.store.read()
    assert state.source_totals == state.source_book_totals == {"web": {"accepted": count}}


def test_a_closed_store_commits_nothing(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.store.close()
    with pytest.raises(StateError):
        engine.store.commit(Changes(accepted={"0": 1}))


def test_places_are_ordered_and_lead_back() -> None:
    assert place_of(3, 4095) < place_of(4, 0)
    assert (position_of(place_of(1 << 40, 17)), index_of(place_of(1 << 40, 17))) == (1 << 40, 17)


# -- a model --------------------------------------------------------------------------------------------------------

COUNT = st.integers(1, 5)
NAMES = st.sampled_from(["a", "b"])
SOURCE_KEYS = st.builds(SourceKey, NAMES, NAMES, NAMES, st.sampled_from(["accepted", "filtered_at_source"]), NAMES)
LANE_KEYS = st.builds(LaneKey, NAMES, NAMES, st.sampled_from(["delivered", "failed"]), NAMES)
PLACES = st.integers(0, 5)
ROWS = st.one_of(
    st.tuples(st.builds(lambda d, p: (d, "", "0", p), NAMES, PLACES), st.none()),
    st.builds(lambda d, p, due: row(p, destination=d, due_at_ms=due), NAMES, PLACES, st.integers(0, 1 << 40)).map(
        lambda item: (item.key, item)
    ),
)
LANES = st.builds(
    lambda d, mark: ((d, "0"), LaneState(d, "0", mark, ((mark + 2, mark + 3),)) if mark else None), NAMES, PLACES
)
COMMITS = st.builds(
    Changes,
    source_cursors=st.dictionaries(st.tuples(NAMES, NAMES), PLACES),
    accepted=st.dictionaries(NAMES, PLACES),
    epochs=st.dictionaries(NAMES, PLACES),
    source_books=st.dictionaries(SOURCE_KEYS, COUNT),
    lane_books=st.dictionaries(LANE_KEYS, COUNT),
    lanes=st.lists(LANES).map(dict),
    rows=st.lists(ROWS).map(dict),
    snapshot=st.none() | NAMES,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(commits=st.lists(st.tuples(COMMITS, st.booleans()), max_size=8))
def test_every_engine_does_what_the_twin_does(make_engine: MakeEngine, commits: list[tuple[Changes, bool]]) -> None:
    engine, twin = make_engine(), MemoryStateStore()
    for changes, restart in commits:
        engine.store.commit(changes)
        twin.commit(changes)
        if restart:
            engine.restart(kill=True)
        assert engine.store.read() == twin.read()
        assert engine.store.source_books() == twin.source_books()
        for destination in ("a", "b"):
            found, expected = list(engine.store.rows(destination)), list(twin.rows(destination))
            assert sorted(found, key=lambda item: item.place) == sorted(expected, key=lambda item: item.place)
            assert [item.due_at_ms for item in found] == [item.due_at_ms for item in expected]


# -- of the files only ----------------------------------------------------------------------------------------------


def test_readers_see_whole_commits_beside_the_writer(tmp_path: Path) -> None:
    writer = SqliteStateStore(tmp_path / "state.db")
    reader = SqliteStateStore(tmp_path / "state.db", read_only=True)
    for number in range(1, 4):
        writer.commit(Changes(accepted={"0": number}))
        assert reader.read().accepted == {"0": number}
    with pytest.raises(StateError):
        reader.commit(Changes(accepted={"0": 9}))
    reader.close()
    writer.close()


def test_files_that_are_no_state_are_refused_clearly(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no state here"):
        SqliteStateStore(tmp_path / "absent.db", read_only=True)
    (tmp_path / "text.db").write_text("this is not a database, it is a text of some length")
    with pytest.raises(StateError, match=r"text\.db"):
        SqliteStateStore(tmp_path / "text.db")


def test_a_state_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    import sqlite3

    SqliteStateStore(tmp_path / "state.db").close()
    db = sqlite3.connect(tmp_path / "state.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StateTooNew, match="99"):
        SqliteStateStore(tmp_path / "state.db")
