"""The observer's loop: it waits for the database, goes on behind failures, ends with what it has."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.waiting import wait_until
from tests.unit.schema.schema_world import World, accepted, blocked
from trunkline import work_loop
from trunkline.log.base import ACCEPTED, LogError, NewRecord
from trunkline.schema import recorder as recorder_module
from trunkline.schema.errors import SchemaFailed
from trunkline.schema.metrics import SchemaMetrics
from trunkline.schema.reader import SchemaReader
from trunkline.schema.recorder import SchemaRecorder
from trunkline.testing.memory_log import MemoryReader


class Run:
    """A recorder over a world's log and database."""

    def __init__(self, world: World) -> None:
        self.registry = CollectorRegistry()
        self.recorder = SchemaRecorder(
            world.log, world.path, world.clock, SchemaMetrics(self.registry), world.limits, retention_days=90
        )

    def metrics(self) -> dict[str, float]:
        lines = generate_latest(self.registry).decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "LONGEST_PAUSE_S", 0.01)
    for name in ("SHORTEST_PAUSE_S", "FIRST_BACKOFF_S", "LONGEST_BACKOFF_S"):
        monkeypatch.setattr(work_loop, name, 0.01)


def test_it_commits_every_few_seconds_and_tells_how_late_it_is(world: World) -> None:
    world.database.close()
    run = Run(world)
    run.recorder.work()
    world.append(accepted(), blocked())
    assert run.recorder.work()
    world.clock.pass_s(3)
    run.recorder.work()
    assert run.metrics()["trunkline_schema_lag_seconds"] == 4
    assert not world.counts()
    world.clock.pass_s(3)
    assert not run.recorder.work()
    assert run.metrics()["trunkline_schema_lag_seconds"] == 0
    assert world.counts() == world.expected


def test_a_thread_of_it_ends_with_a_last_commit(world: World) -> None:
    """Before that it waits for a predecessor that still writes."""
    run = Run(world)
    thread = threading.Thread(target=run.recorder.run, daemon=True)
    thread.start()
    wait_until(lambda: run.metrics()["trunkline_schema_failures_total"] >= 2, "another has the database")
    world.append(accepted())
    world.database.close()
    wait_until(lambda: world.counts() == world.expected, "it has the database, and tidied up")
    world.append(accepted())
    wait_until(lambda: run.metrics()["trunkline_schema_lag_seconds"] > 0, "it has read the event")
    assert world.counts() != world.expected
    run.recorder.stop()
    thread.join()
    assert world.counts() == world.expected


def test_a_log_that_fails_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.database.close()
    run = Run(world)
    world.append(accepted())
    run.recorder.work()
    read = MemoryReader.read

    def fail(self: MemoryReader, max_bytes: int, max_records: int = 1_000_000) -> list[object]:
        raise LogError("down")

    monkeypatch.setattr(MemoryReader, "read", fail)
    with pytest.raises(LogError):
        run.recorder.work()
    monkeypatch.setattr(MemoryReader, "read", read)
    world.append(accepted(), accepted())
    run.recorder.work()
    world.clock.pass_s(6)
    run.recorder.work()
    assert world.counts() == world.expected


def test_every_partition_is_followed(world: World, tmp_path: Path) -> None:
    payload = world.append(accepted())
    world.log.appender(ACCEPTED, "1").append([NewRecord(payload, {"web": 1})])
    world.observe()
    assert [event.allowed for event in world.reader.events()] == [2]


def test_old_rows_go_once_an_hour(world: World) -> None:
    world.append(accepted("Old"))
    world.observe()
    world.database.close()
    world.clock.pass_s(100 * 86_400)
    Run(world).recorder.work()
    assert world.reader.events() == []


def test_a_damaged_database_says_how_to_mend_it(world: World) -> None:
    """Whoever writes it and whoever reads it."""
    world.database.close()
    for path in world.path.parent.glob(f"{world.path.name}*"):
        path.unlink()
    world.path.write_bytes(b"SQLite format 3\0" + b"x" * 8192)
    with pytest.raises(SchemaFailed, match=r"damaged: stop `trunkline serve`, remove the file"):
        Run(world).recorder.work()
    with pytest.raises(SchemaFailed, match=r"damaged: stop `trunkline serve`, remove the file"):
        SchemaReader(world.path).events()
