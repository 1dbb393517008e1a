"""What a worker does at its start, and once a minute to the logs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from trunkline.archive.index import ArchiveIndex
from trunkline.clock import SystemClock
from trunkline.log.base import ACCEPTED, NewRecord
from trunkline.log.embedded import EmbeddedLog
from trunkline.runtime.housekeeping import archived_position, sweep_bulk, warn_of_pins
from trunkline.settings import Settings


def test_without_an_index_nothing_is_archived(tmp_path: Path) -> None:
    assert archived_position(tmp_path / "archive.db", "0") == 0


def test_an_index_that_cannot_be_read_counts_as_nothing_archived(tmp_path: Path) -> None:
    index = tmp_path / "archive.db"
    index.write_bytes(b"no database at all" * 100)
    with capture_logs() as logs:
        assert archived_position(index, "0") == 0
    assert [line["event"] for line in logs] == ["archive.index_not_read"]


def test_a_new_index_has_archived_nothing(tmp_path: Path) -> None:
    index = tmp_path / "archive.db"
    ArchiveIndex(index).close()
    assert archived_position(index, "0") == 0


@pytest.mark.parametrize(("budget", "told"), [(1 << 20, []), (100, ["slow"])])
def test_the_destination_that_keeps_the_log_is_named(tmp_path: Path, budget: int, told: list[str]) -> None:
    log = EmbeddedLog(tmp_path, SystemClock(), segment_bytes=1 << 16)
    appender = log.appender(ACCEPTED, "0")
    first, _ = appender.append([NewRecord(b"x" * 5000, {}), NewRecord(b"x" * 5000, {})])
    with capture_logs() as logs:
        warn_of_pins(log, Settings(log_max_bytes=budget), first, {"slow": first, "fast": appender.head})
    assert [name for line in logs for name in line["destinations"]] == told
    appender.close()


def test_spool_files_that_nothing_speaks_of_are_removed(tmp_path: Path) -> None:
    bulk = tmp_path / "bulk"
    assert sweep_bulk(bulk, []) == []
    for slug in ("deleted", "hook", "idle"):
        (bulk / slug).mkdir(parents=True)
        (bulk / slug / "17.ndjson").write_bytes(b"{}\n")
    (bulk / "idle" / "17.ndjson").unlink()
    (bulk / "a-file").write_bytes(b"of somebody else")
    (tmp_path / "elsewhere").mkdir()
    (bulk / "link").symlink_to(tmp_path / "elsewhere")
    assert sweep_bulk(bulk, {"hook", "not-there"}) == ["deleted", "idle"]
    assert sorted(path.name for path in bulk.iterdir()) == ["a-file", "hook", "link"]
    assert (bulk / "hook" / "17.ndjson").exists()
    assert (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_removed_is_told_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for slug in ("a", "b"):
        (tmp_path / slug).mkdir()
    remove = shutil.rmtree

    def fails_once(path: Path) -> None:
        if path.name == "a":
            raise PermissionError("not yours")
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", fails_once)
    with capture_logs() as logs:
        assert sweep_bulk(tmp_path, []) == ["b"]
    assert [line["event"] for line in logs] == ["bulk.not_swept", "bulk.swept"]
    assert (tmp_path / "a").exists()
