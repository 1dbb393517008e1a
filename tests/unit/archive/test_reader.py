"""Reading: by time, by place, by messageId, and what is said when an object is not what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.archive.archive_world import DAY_MS, T0, World, event
from tests.unit.archive.conftest import MakeWorld
from trunkline.archive.errors import ArchiveCorrupt, IndexFailed, IndexLocked, IndexTooNew, ObjectMissing
from trunkline.archive.index import ArchiveIndex, committed_cursor, open_index
from trunkline.archive.local_store import LocalStore
from trunkline.archive.places import pack_places, unpack_places
from trunkline.archive.reader import ArchiveReader
from trunkline.log.records import AcceptedEvent
from trunkline.state.base import index_of, place_of, position_of


def three_days(world: World) -> None:
    """Files of three days and two sources, flushed apart."""
    for day in range(3):
        for hour in range(3):
            at_ms = T0 + day * DAY_MS + hour * 3_600_000
            world.append(
                event(f"web-{day}-{hour}", at_ms=at_ms), event(f"shop-{day}-{hour}", source="shop", at_ms=at_ms)
            )
        world.archive()


def test_files_by_source_and_time(make_world: MakeWorld) -> None:
    world = make_world()
    three_days(world)
    files = world.reader.files()
    assert [(file.source, file.day_ms) for file in files] == [
        (source, T0 + day * DAY_MS) for day in range(3) for source in ("web", "shop")
    ]
    assert [file.id for file in files] == sorted(file.id for file in files)
    assert {(file.events, file.last_received_at_ms - file.first_received_at_ms) for file in files} == {(3, 7_200_000)}
    found = world.reader.files(sources=["shop"], since_ms=T0 + DAY_MS, until_ms=T0 + 2 * DAY_MS)
    assert [(file.source, file.day_ms) for file in found] == [("shop", T0 + DAY_MS)]
    assert world.reader.files(sources=[]) == []
    assert world.reader.files(since_ms=T0 + 7_200_001, until_ms=T0 + DAY_MS) == []


def test_members_by_time_and_position(make_world: MakeWorld) -> None:
    world = make_world()
    three_days(world)
    members = list(world.reader.members())
    assert [member.position for member in members] == sorted({member.position for member in members})
    assert world.reader.last_position() == members[-1].position
    assert [(member.position >> 16, member.position & 0xFFFF) for member in members] == [
        (member.file_id, member.number) for member in members
    ]
    later = list(world.reader.members(since_ms=T0 + DAY_MS, sources=["web"]))
    assert later == [member for member in members if member.source == "web" and member.first_received_at_ms > T0 + 1e7]
    first, second = members[1].position, members[4].position
    assert list(world.reader.members(start=first, stop=second)) == members[1:4]
    place = place_of(second, 2)
    assert (position_of(place), index_of(place)) == (second, 2)


def test_members_come_in_pages(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    three_days(world)
    everything = list(world.reader.members())
    monkeypatch.setattr("trunkline.archive.members._PAGE", 2)
    assert list(world.reader.members()) == everything
    assert world.reader.find("shop-0-0") is not None
    assert world.reader.find("none") is None


def test_members_by_place(make_world: MakeWorld) -> None:
    world = make_world()
    positions = []
    for number in range(6):
        positions.append(world.append(*[event(f"{number}-{at}") for at in range(3000)], event("s", source="shop")))
    world.archive()
    first, end = place_of(positions[2], 10), place_of(positions[3], 5)
    found = list(world.reader.by_place_range("web", first, end))
    events = [item for member in found for item in world.reader.read_member(member.position)]
    wanted = [item for item in events if first <= item.place < end]
    assert [item.message_id for item in wanted] == [
        *[f"2-{at}" for at in range(10, 3000)],
        *[f"3-{at}" for at in range(5)],
    ]
    assert len(found) < len(list(world.reader.members(sources=["web"])))
    assert list(world.reader.by_place_range("web", end, end)) == []
    assert list(world.reader.by_place_range("web", first, end, partition="1")) == []


def test_find_the_newest_of_a_source(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("twice"), event("once", source="shop"))
    world.archive()
    world.append(event("twice", source="shop"), event("x"), event("twice", source="shop", kind="identify"))
    world.archive()
    found = world.reader.find("twice")
    assert found is not None
    assert (found.source, found.type, found.name, found.line) == ("shop", "identify", "", 1)
    found = world.reader.find("twice", source="web")
    assert found is not None
    assert (found.source, found.name, found.place) == ("web", "Order Completed", place_of(0, 0))
    assert world.reader.find("once", source="web") is None


def test_find_the_newest_of_a_file(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("twice"), *[event(f"e{number}") for number in range(4095)])
    world.append(event("twice"), event("last"))
    world.archive()
    found = world.reader.find("twice")
    assert found is not None
    assert (found.line, found.place) == (0, place_of(1, 0))


def test_an_id_that_is_not_there_opens_next_to_no_file(make_world: MakeWorld) -> None:
    world = make_world()
    for number in range(20):
        world.append(*[event(f"{number}-{at}") for at in range(200)])
        world.archive()
    for number in range(100):
        assert world.reader.find(f"none-{number}") is None
    assert len(world.store.gets) < 20  # of 2,000; 2 are expected
    world.store.gets.clear()
    assert world.reader.find("3-7") is not None
    assert len(world.store.gets) <= 3


@pytest.mark.parametrize(("kind", "name"), [("track", 'É "x"'), ("identify", ""), ("page", "")])
def test_a_name_may_be_anything_where_it_names_nothing(make_world: MakeWorld, kind: str, name: str) -> None:
    """Clients may send a top-level name with any event; only that of a page or screen must be a text."""
    world = make_world()
    body = {
        "type": kind,
        "event": 'É "x"',
        "name": {"first": 1},
        "messageId": "m",
        "receivedAt": "2024-10-04T00:00:00Z",
    }
    world.append(AcceptedEvent("web", T0, "m", kind, name, json.dumps(body).encode()))
    world.archive()
    world.check()


def test_no_archive_yet_is_an_empty_one(tmp_path: Path) -> None:
    reader = ArchiveReader(tmp_path / "none.db", LocalStore(tmp_path))
    assert (reader.files(), list(reader.members()), reader.last_position(), reader.find("a")) == ([], [], 0, None)
    with pytest.raises(ObjectMissing, match="Choose a later time"):
        reader.read_member(65536)


def test_an_object_that_is_missing_is_named(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("a"))
    world.archive()
    [key] = world.object_keys()
    world.store.delete(key)
    with pytest.raises(ObjectMissing, match=rf"{key}: there is no such object\. Restore"):
        world.reader.read_member(world.reader.last_position())


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "foreign"])
def test_an_object_that_is_damaged_is_named(make_world: MakeWorld, damage: str) -> None:
    world = make_world()
    world.append(event("a"), event("b", pad=300))
    world.append(event("c", source="shop"))
    world.archive()
    [shop, web] = world.object_keys()
    content = world.store.get(web)
    broken = {
        "cut": content[:-20],
        "flipped": content[:60] + bytes([content[60] ^ 0x55]) + content[61:],
        "other": world.store.get(shop),
        "foreign": b"not gzip at all",
    }[damage]
    world.store.put(web, broken)
    [member] = world.reader.members(sources=["web"])
    with pytest.raises(ArchiveCorrupt, match=rf"{web}: bytes 0 to \d+ are not what was archived .*Restore this object"):
        world.reader.read_member(member.position)
    with pytest.raises(ArchiveCorrupt, match=web):
        world.reader.find("a")


def test_an_index_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.db"
    ArchiveIndex(path).close()
    db = open_index(path, read_only=False)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(IndexTooNew, match="schema 99"):
        ArchiveIndex(path)
    with pytest.raises(IndexTooNew):
        ArchiveReader(path, LocalStore(tmp_path)).files()


def test_an_index_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "archive.db"
    first = ArchiveIndex(path)
    with pytest.raises(IndexLocked, match="another process"):
        ArchiveIndex(path)
    assert committed_cursor(path) == {}
    first.close()
    ArchiveIndex(path).close()


def test_a_file_that_is_no_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.db"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(IndexFailed, match=r"archive\.db"):
        ArchiveIndex(path)
    with pytest.raises(IndexFailed, match=r"archive\.db"):
        committed_cursor(path)
    with pytest.raises(IndexFailed):
        ArchiveReader(path, LocalStore(tmp_path)).find("a")


def test_places_are_packed(tmp_path: Path) -> None:
    places = [place_of(7, 0), place_of(7, 1), place_of(9, 4095), place_of(1 << 50, 3)]
    assert unpack_places(pack_places(places)) == places
    with pytest.raises(ValueError, match="not packed places"):
        unpack_places(b"x")
