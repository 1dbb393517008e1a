"""Blocked events beside the archive: what is kept of them, for how long, and who sees them."""

from __future__ import annotations

import json
import sqlite3
from importlib import resources
from pathlib import Path

import pytest

from tests.unit.archive.archive_world import DAY_MS, T0, World, blocked_event, event
from tests.unit.archive.conftest import MakeWorld
from tests.unit.archive.test_archivist import Run
from trunkline.archive.blocked_reader import BlockedReader
from trunkline.archive.errors import ArchiveCorrupt, ObjectMissing
from trunkline.archive.index import SCHEMA_VERSION, ArchiveIndex
from trunkline.archive.layout import blocked_place, blocked_position_of
from trunkline.archive.local_store import LocalStore
from trunkline.archive.reader import ArchiveReader
from trunkline.log.records import BlockedEvent
from trunkline.state.base import MAX_SURVIVORS


def test_a_line_holds_the_event_as_it_was_ingested_and_why_it_was_blocked(make_world: MakeWorld) -> None:
    world = make_world()
    protocols = b'{"sourceId":"web","violations":[{"type":"Required","field":"properties.total"}]}'
    body = (
        b'{"type":"track","event":"\xc3\x96l","messageId":"m1","properties":{"total":1.50,"big":12345678901234567890}}'
    )
    odd = BlockedEvent("web", T0 + 7, "m1", "track", "Öl", body, "schema_violation", protocols)
    world.append(blocked=[odd, blocked_event("m2")])
    world.archive()
    [first, second] = world.lines("blocked-events")
    assert json.loads(first) == {
        "reason": "schema_violation",
        "source": "web",
        "receivedAt": "2024-10-04T00:00:00.007Z",
        "messageId": "m1",
        "type": "track",
        "name": "Öl",
        "event": json.loads(body),
        "protocols": json.loads(protocols),
    }
    assert body in first
    assert protocols in first
    assert "protocols" not in json.loads(second)
    assert list(world.blocked_reader.events()) == [odd, blocked_event("m2")]


def test_files_are_by_source_and_received_day_below_a_folder_of_their_own(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(
        event("a"),
        blocked=[blocked_event("b"), blocked_event("c", source="shop"), blocked_event("d", at_ms=T0 + DAY_MS)],
    )
    world.archive()
    assert {key.rpartition("/")[0] for key in world.object_keys()} == {
        f"segment-logs/web/{T0}",
        f"blocked-events/web/{T0}",
        f"blocked-events/shop/{T0}",
        f"blocked-events/web/{T0 + DAY_MS}",
    }
    world.check()


def test_readers_of_accepted_events_do_not_see_them(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("a"), blocked=[blocked_event("b"), blocked_event("c")])
    world.archive()
    last = world.reader.last_position()
    world.append(blocked=[blocked_event("d")])
    world.archive()
    assert [item.message_id for item in world.archived()] == ["a"]
    assert world.reader.last_position() == last
    assert [file.events for file in world.reader.files()] == [1]
    assert [member.events for member in world.reader.by_place_range("web", 0, 1 << 62)] == [1]
    assert world.reader.find("b") is None
    assert world.blocked_reader.find("a") == []
    assert [item.message_id for item in world.blocked_reader.events()] == ["b", "c", "d"]


def test_they_are_read_by_source_and_by_the_moment(make_world: MakeWorld) -> None:
    world = make_world()
    for hour in range(4):
        events = [blocked_event(f"{hour}-{source}", source=source, at_ms=T0 + hour * 3_600_000) for source in "abc"]
        world.append(blocked=events)
        if hour % 2:
            world.archive()
    found = world.blocked_reader.events(sources=["a", "c"], since_ms=T0 + 3_600_000, until_ms=T0 + 3 * 3_600_000)
    assert sorted(item.message_id for item in found) == ["1-a", "1-c", "2-a", "2-c"]
    assert list(world.blocked_reader.events(sources=[])) == []
    stop = world.blocked_reader.last_position() + 1
    reading = world.blocked_reader.events(stop=stop)
    next(reading)
    world.append(blocked=[blocked_event("later")])
    world.archive()
    assert len(list(reading)) == 11


def test_one_member_is_read_at_a_time(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    world.append(blocked=[blocked_event(f"b{number}") for number in range(9_000)])
    world.archive()
    members = list(world.blocked_reader.members())
    assert [member.events for member in members] == [4096, 4096, 808]
    read: list[int] = []
    whole = world.blocked_reader.read_member

    def counted(position: int) -> list[BlockedEvent]:
        read.append(position)
        return whole(position)

    monkeypatch.setattr(world.blocked_reader, "read_member", counted)
    reading = world.blocked_reader.events()
    for number in range(4097):
        assert next(reading).message_id == f"b{number}"
        assert len(read) == (1 if number < 4096 else 2)
    world.check()


def test_an_envelope_may_block_more_than_it_can_have_survivors() -> None:
    assert blocked_place(7, 2 * MAX_SURVIVORS) < blocked_place(8, 0)
    assert blocked_position_of(blocked_place(7, 2 * MAX_SURVIVORS)) == 7


def test_one_that_was_blocked_twice_is_found_twice(make_world: MakeWorld) -> None:
    """Blocked at one source, forwarded, and blocked there; and the same id again on another day."""
    world = make_world()
    again = blocked_event("m1", at_ms=T0 + DAY_MS)
    world.append(blocked=[blocked_event("m1"), blocked_event("m2"), blocked_event("m1", source="shop")])
    world.archive()
    world.append(blocked=[again])
    world.archive()
    found = world.blocked_reader.find("m1")
    assert sorted(item.source for item in found[:2]) == ["shop", "web"]
    assert found[2:] == [again]


def test_a_repeated_append_and_a_lower_epoch_block_nothing_twice(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("a"), blocked=[blocked_event("b")])
    world.archive()
    again = world.log.reader("accepted", "0").read(1 << 20)[-1]
    world.restart()
    world.repeat(again.payload)
    world.append(fence=True, epoch=3)
    world.append(event("late"), blocked=[blocked_event("late")], epoch=2)
    del world.appended[-1], world.blocked[-1]
    world.archive()
    world.check()


def test_retention_is_independent_of_the_archives_own(make_world: MakeWorld) -> None:
    world = make_world()
    for day in (0, 5, 10):
        world.append(
            event(f"a{day}", at_ms=T0 + day * DAY_MS), blocked=[blocked_event(f"b{day}", at_ms=T0 + day * DAY_MS)]
        )
        world.archive()
    world.clock.ms = T0 + 11 * DAY_MS

    def kept() -> tuple[list[str], list[str]]:
        return (
            [item.message_id for item in world.archived()],
            [item.message_id for item in world.blocked_reader.events()],
        )

    Run(world, retention_days=365, blocked_days=5).archivist.expire()
    assert kept() == (["a0", "a5", "a10"], ["b10"])
    Run(world, retention_days=1, blocked_days=365).archivist.expire()
    assert kept() == (["a10"], ["b10"])
    assert len(world.object_keys()) == 2
    position = world.blocked_reader.last_position()
    Run(world, blocked_days=0.5).archivist.expire()
    assert kept() == (["a10"], ["b10"])
    world.clock.ms += DAY_MS
    Run(world, blocked_days=0.5).archivist.expire()
    assert kept() == (["a10"], [])
    with pytest.raises(ObjectMissing, match="blocked_retention_days"):
        world.blocked_reader.read_member(position)


def test_they_are_counted_apart(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world)
    world.append(event("a"), blocked=[blocked_event("b"), blocked_event("c")])
    run.archivist.work()
    metrics = run.metrics()
    assert metrics['trunkline_archive_events_total{source="web"}'] == 1
    assert metrics['trunkline_archive_blocked_events_total{source="web"}'] == 2
    assert metrics["trunkline_archive_files_total"] == 2


@pytest.mark.parametrize("text", [b"[]", b'{"reason":"unplanned"}', b"nonsense"])
def test_a_line_that_is_none_is_named(make_world: MakeWorld, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    monkeypatch.setattr("trunkline.archive.blocked_lines._encode", lambda content: text)
    world.append(blocked=[blocked_event("b")])
    world.archive()
    with pytest.raises(ArchiveCorrupt, match=r"blocked-events/web/.*are not what was archived"):
        list(world.blocked_reader.events())


# -- an index of the version before ----------------------------------------------------------------------------------


def make_old(path: Path) -> None:
    """As the program wrote it before blocked events were kept, with one file and a flush that has begun."""
    script = resources.files("trunkline.archive").joinpath("schema_1.sql").read_text("utf-8")
    db = sqlite3.connect(path)
    db.executescript(f"PRAGMA journal_mode=WAL; {script} PRAGMA user_version=1;")
    db.execute("INSERT INTO facts VALUES ('archive_id', '0badcafe')")
    db.execute("""INSERT INTO cursors VALUES ('0', 3, 0, '[["ingest.0", "shared", 3]]', 1)""")
    db.execute("INSERT INTO files VALUES (4, '0', 'web', ?, 'segment-logs/web/k.gz', 9, 2, ?, ?, 0, 9, 0)", [T0] * 3)
    db.commit()
    db.close()


def test_an_index_of_the_version_before_is_upgraded(tmp_path: Path) -> None:
    make_old(tmp_path / "archive.db")
    world = World(tmp_path, LocalStore(tmp_path / "objects"))
    assert world.index.archive_id == "0badcafe"
    assert world.index.cursor("0").position == 3
    assert [file.id for file in world.reader.files()] == [4]
    assert world.blocked_reader.files() == []
    for number in range(4):
        world.append(event(f"a{number}"), blocked=[blocked_event(f"b{number}")])
    world.restart()
    world.archive()
    assert [item.message_id for item in world.blocked_reader.events()] == ["b3"]
    assert [file.id for file in world.reader.files()] == [4, 5]
    db = sqlite3.connect(world.path)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    db.close()


def test_an_index_of_the_version_before_is_read_without_an_upgrade(tmp_path: Path) -> None:
    """With the archive switched off nobody upgrades it, and what is in it can be replayed all the same."""
    path, store = tmp_path / "archive.db", LocalStore(tmp_path)
    make_old(path)
    assert [file.events for file in ArchiveReader(path, store).files()] == [2]
    blocked = BlockedReader(path, store)
    assert (blocked.files(), list(blocked.events()), blocked.last_position(), blocked.find("m")) == ([], [], 0, [])


def test_old_and_new_indexes_have_the_same_tables(tmp_path: Path) -> None:
    make_old(tmp_path / "old.db")
    shapes = []
    for name in ("old.db", "new.db"):
        ArchiveIndex(tmp_path / name).close()
        db = sqlite3.connect(tmp_path / name)
        shapes.append(db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall())
        db.close()
    assert shapes[0] == shapes[1]


def test_without_an_archive_there_are_none(tmp_path: Path) -> None:
    reader = BlockedReader(tmp_path / "none.db", LocalStore(tmp_path))
    assert (list(reader.events()), reader.find("a")) == ([], [])
