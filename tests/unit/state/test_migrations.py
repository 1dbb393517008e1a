"""State files of older programs: they are taken over whole, or left as they are."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import zstandard

from trunkline.state import sqlite
from trunkline.state.base import (
    OTHER_NAME,
    Changes,
    Interval,
    LaneKey,
    LaneState,
    RecordCounts,
    RecordKey,
    RetryRow,
    SourceKey,
    State,
    StateError,
    StateFull,
)
from trunkline.state.sqlite import SCHEMA_VERSION, SqliteStateStore

NAMES = 1000
ROW = RetryRow("hook", "", "0", 9, "m9", "web", "track", "E1", 1, 2, 3, 4, "503", "map", b'{"messageId":"m9"}')
LANE = LaneState("hook", "0", 5, ((7, 8),))
INTERVAL = Interval(1, "hook", "web", 2, 3, {"0": 4}, {"accepted": 5})
BOOKS = {
    **{SourceKey("web", "track", f"E{number}", "accepted", ""): 2 for number in range(NAMES)},
    SourceKey("web", "track", OTHER_NAME, "accepted", ""): 30,
    SourceKey("web", "page", "", "filtered_at_source", "duplicate"): 4,
}
EXPECTED = State(
    source_cursors={("0", "shared"): 11},
    accepted={"0": 12},
    epochs={"0": 3},
    source_totals={"web": {"accepted": 2 * NAMES + 30, "filtered_at_source": 4}},
    lane_books={LaneKey("hook", "web", "delivered", ""): 7},
    lanes={("hook", "0"): LANE},
    intervals=(INTERVAL,),
    row_counts={("hook", "web"): 1},
    snapshot="v1",
    source_book_totals={"web": {"accepted": 2 * NAMES + 30, "filtered_at_source": 4}},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state file as the first version left it."""
    path = tmp_path / "state.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.executescript(resources.files("trunkline.state").joinpath("schema_1.sql").read_text("utf-8"))
    db.execute("INSERT INTO source_cursors VALUES ('0', 'shared', 11)")
    db.execute("INSERT INTO accepted_cursors VALUES ('0', 12, 3)")
    db.executemany(
        "INSERT INTO source_books VALUES (?,?,?,?,?,?)",
        [(*key, count) for key, count in BOOKS.items()],
    )
    db.executemany("INSERT INTO source_totals VALUES ('web',?,?)", list(EXPECTED.source_totals["web"].items()))
    db.execute("INSERT INTO lane_books VALUES ('hook', 'web', 'delivered', '', 7)")
    db.execute("INSERT INTO lanes VALUES ('hook', '0', 5, ?)", (json.dumps(LANE.settled),))
    db.execute(
        "INSERT INTO intervals (id, destination, source, opened_at_ms, open_place, open_received, open_books) "
        "VALUES (1, 'hook', 'web', 2, 3, '{\"0\": 4}', '{\"accepted\": 5}')"
    )
    values = (*dataclasses.astuple(ROW)[:-1], zstandard.compress(ROW.event))
    db.execute(f"INSERT INTO retries VALUES ({','.join('?' * len(values))})", values)
    db.execute("INSERT INTO facts VALUES ('snapshot', 'v1')")
    db.execute("PRAGMA user_version=1")
    db.commit()
    db.close()
    return path


def version_of(path: Path) -> int:
    db = sqlite3.connect(path)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.close()
    return int(version)


def check_all_is_kept(path: Path) -> None:
    store = SqliteStateStore(path)
    try:
        assert store.read() == EXPECTED
        assert store.source_books() == BOOKS
        assert list(store.rows("hook")) == store.row_of("m9") == [ROW]
        assert version_of(path) == SCHEMA_VERSION
    finally:
        store.close()


def test_a_state_of_the_first_version_keeps_everything(path: Path) -> None:
    check_all_is_kept(path)
    check_all_is_kept(path)


def test_names_that_were_known_before_keep_their_keys_and_the_cap_holds(path: Path) -> None:
    store = SqliteStateStore(path)
    known, new = SourceKey("web", "track", "E7", "accepted", ""), SourceKey("web", "track", "New", "accepted", "")
    record = {
        RecordKey(1, "hook", "web", "", "track", name, "", "delivered", ""): RecordCounts(1) for name in ("E7", "New")
    }
    store.commit(Changes(source_books={known: 1, new: 1}, record=record))
    books = store.source_books()
    assert (books[known], books[new._replace(name=OTHER_NAME)]) == (3, 31)
    assert new not in books
    assert {row.key.name for row in store.record(0, 1 << 60)} == {"E7", OTHER_NAME}
    store.close()


@pytest.mark.parametrize(("place", "version"), [("state.migrate.before", 1), ("state.migrate.after", SCHEMA_VERSION)])
def test_a_kill_in_mid_migration_leaves_one_version_whole(path: Path, place: str, version: int) -> None:
    program = f"from pathlib import Path; from trunkline.state.sqlite import *; SqliteStateStore(Path({str(path)!r}))"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TRUNKLINE_FAILPOINTS": f"{place}=kill@1"},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert version_of(path) == version
    check_all_is_kept(path)


def test_a_full_disk_in_mid_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failpoint(name: str) -> None:
        if name == "state.migrate.before":
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "failpoint", failpoint)
        with pytest.raises(StateFull, match=r"state\.db: no room"):
            SqliteStateStore(path)
    assert version_of(path) == 1
    check_all_is_kept(path)


def test_readers_wait_for_the_owner_to_migrate(path: Path) -> None:
    with pytest.raises(StateError, match="schema 1; start `trunkline serve`"):
        SqliteStateStore(path, read_only=True)
    SqliteStateStore(path).close()
    reader = SqliteStateStore(path, read_only=True)
    assert reader.read() == EXPECTED
    assert [list(reader.record(0, 1 << 60)), reader.samples(), reader.attempts_of("m9")] == [[], [], []]
    reader.close()
