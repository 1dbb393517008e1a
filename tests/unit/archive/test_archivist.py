"""The loop: partitions that appear, stores that fail, files that grow old."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.unit.archive.archive_world import DAY_MS, T0, World, event
from tests.unit.archive.conftest import MakeWorld
from trunkline import work_loop
from trunkline.archive.archivist import Archivist
from trunkline.archive.errors import StoreError
from trunkline.archive.index import committed_cursor
from trunkline.archive.metrics import ArchiveMetrics
from trunkline.archive.reader import ArchiveReader
from trunkline.log.base import ACCEPTED, NewRecord
from trunkline.log.records import RECORD_VERSION, Envelope, encode_envelope


class Run:
    """An archivist over a world's parts."""

    def __init__(
        self, world: World, *, flush_s: float = 0, retention_days: float = 365, blocked_days: float = 30
    ) -> None:
        self.registry = CollectorRegistry()
        self.archivist = Archivist(
            world.log,
            world.index,
            world.store,
            world.clock,
            ArchiveMetrics(self.registry),
            file_bytes=1 << 20,
            flush_s=flush_s,
            retention_days=retention_days,
            blocked_retention_days=blocked_days,
        )

    def metrics(self) -> dict[str, float]:
        lines = generate_latest(self.registry).decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_it_archives_and_counts(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world)
    assert not run.archivist.work()
    world.append(event("a"), event("b", source="shop"), event("c"))
    assert run.archivist.work()
    world.check()
    metrics = run.metrics()
    assert metrics['trunkline_archive_events_total{source="web"}'] == 2
    assert metrics["trunkline_archive_files_total"] == 2
    assert metrics["trunkline_archive_bytes_total"] == sum(file.size_bytes for file in world.reader.files())
    assert metrics["trunkline_archive_lag_seconds"] == 0


def test_every_partition_is_followed(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world)
    world.append(event("a"))
    run.archivist.work()
    envelope = Envelope(RECORD_VERSION, 0, "ingest.0", "shared", 0, 1, "v", [event("other")], b"", [], [])
    world.log.appender(ACCEPTED, "1").append([NewRecord(encode_envelope(envelope), envelope.counts())])
    run.archivist.work()
    assert committed_cursor(world.path) == {"0": 1, "1": 1}
    assert {(item.partition, item.message_id, item.place) for item in world.archived()} == {
        ("0", "a", 0),
        ("1", "other", 0),
    }
    assert len(world.object_keys()) == 2


def test_the_lag_grows_while_the_store_fails(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world)
    world.append(event("a"))
    world.store.failures = 1
    world.clock.pass_s(99)
    with pytest.raises(StoreError):
        run.archivist.work()
    assert run.metrics()["trunkline_archive_lag_seconds"] == 100
    run.archivist.work()
    world.check()


def test_it_never_gives_up(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHORTEST_PAUSE_S", "FIRST_BACKOFF_S", "LONGEST_BACKOFF_S"):
        monkeypatch.setattr(work_loop, name, 0.001)
    world = make_world()
    complaints = []
    monkeypatch.setattr(work_loop._log, "error", lambda text, **more: complaints.append((text, more)), False)
    run = Run(world)
    world.append(event("a"))
    world.store.failures = 20
    thread = threading.Thread(target=run.archivist.run)
    thread.start()
    while world.store.failures or not world.reader.last_position():
        thread.join(0.01)
    run.archivist.stop()
    thread.join()
    world.check()
    assert run.metrics()["trunkline_archive_failures_total"] == 20
    assert [text for text, _ in complaints] == ["archive.failed"]  # the clock stands: once a minute


def test_files_expire_by_the_day(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world, retention_days=2)
    for day in range(3):
        world.append(event(f"day{day}", at_ms=T0 + day * DAY_MS + DAY_MS - 1))
        world.archive()
    world.clock.ms = T0 + 3 * DAY_MS - 1
    run.archivist.expire()
    assert len(world.object_keys()) == 3
    world.clock.ms += 1
    run.archivist.expire()
    assert [file.day_ms for file in world.reader.files()] == [T0 + DAY_MS, T0 + 2 * DAY_MS]
    assert len(world.object_keys()) == 2
    assert world.reader.find("day0") is None
    world.check(world.appended[1:])
    world.clock.ms += 10 * DAY_MS
    run.archivist.expire()
    assert (world.object_keys(), world.reader.last_position()) == ([], 0)
    assert not [path for path in (world.path.parent / "objects").rglob("*") if path.is_dir()]


def test_ids_are_not_given_again(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("a"))
    world.archive()
    position = world.reader.last_position()
    world.clock.ms += 800 * DAY_MS
    Run(world).archivist.expire()
    world.append(event("b"))
    world.archive()
    assert world.reader.last_position() > position


def test_an_object_that_cannot_be_removed_is_removed_later(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world, retention_days=1)
    world.append(event("a"))
    world.archive()
    world.clock.ms += 3 * DAY_MS

    def fails(key: str) -> None:
        raise StoreError("the store is down")

    delete, world.store.delete = world.store.delete, fails  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        run.archivist.expire()
    assert world.reader.files() == []
    assert len(world.object_keys()) == 1
    world.store.delete = delete  # type: ignore[method-assign]
    world.restart()
    Run(world, retention_days=1).archivist.work()
    assert world.object_keys() == []


def test_expiry_runs_hourly(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world, retention_days=1)
    world.clock.ms = T0 + 2 * DAY_MS - 1000
    world.append(event("a"))
    run.archivist.work()
    world.clock.pass_s(3599)
    run.archivist.work()
    assert len(world.object_keys()) == 1
    world.clock.pass_s(1)
    run.archivist.work()
    assert world.object_keys() == []


def test_a_reader_of_the_archive_needs_no_writer(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    world.append(event("a"))
    world.archive()
    world.index.close()
    assert ArchiveReader(world.path, world.store).find("a") is not None


def test_a_flush_that_is_asked_for_comes_before_its_time(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world, flush_s=300)
    world.append(event("a"))
    run.archivist.work()
    assert world.object_keys() == []
    run.archivist.flush_soon()
    run.archivist.work()
    world.check()
    world.append(event("b"))
    run.archivist.work()
    assert len(world.object_keys()) == 1
