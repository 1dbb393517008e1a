"""What a worker does once a minute to the logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from trunkline.archive.index import ArchiveIndex
from trunkline.clock import SystemClock
from trunkline.log.base import ACCEPTED, NewRecord
from trunkline.log.embedded import EmbeddedLog
from trunkline.runtime.housekeeping import archived_position, warn_of_pins
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
