"""What the writer makes of the log: files, members, places, and when."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path

import pytest

from tests.unit.archive.archive_world import DAY_MS, T0, World, event
from tests.unit.archive.conftest import MakeWorld
from trunkline.archive.errors import StoreError
from trunkline.archive.index import committed_cursor
from trunkline.log.records import AcceptedEvent
from trunkline.state.base import place_of


def test_files_are_by_source_and_received_day(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("a"), event("b", source="shop"), event("c"))
    world.append(event("d", at_ms=T0 + DAY_MS), event("e", at_ms=T0 + DAY_MS - 1))
    world.archive()
    folders = {key.rpartition("/")[0] for key in world.object_keys()}
    assert folders == {f"segment-logs/web/{T0}", f"segment-logs/shop/{T0}", f"segment-logs/web/{T0 + DAY_MS}"}
    assert all(key.endswith(".gz") for key in world.object_keys())
    world.check()


def test_places_are_those_of_the_log(make_world: MakeWorld) -> None:
    world = make_world()
    first = world.append(event("a"), event("b", source="shop"), event("c"))
    second = world.append(event("d"))
    world.archive()
    places = {item.message_id: item.place for item in world.archived()}
    assert places == {
        "a": place_of(first, 0),
        "b": place_of(first, 1),
        "c": place_of(first, 2),
        "d": place_of(second, 0),
    }


def test_objects_and_fences_are_no_events(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("a"), AcceptedEvent("web", T0, "", "object", "people", b"{}"))
    world.append(fence=True, epoch=3)
    world.append(event("b"), epoch=2)
    del world.appended[-1]
    world.append(event("c"), epoch=3)
    world.archive()
    world.check()
    world.restart()
    world.append(event("late"), epoch=2)
    del world.appended[-1]
    world.archive()
    world.check()


def test_a_member_ends_at_4096_lines_or_a_mebibyte(make_world: MakeWorld) -> None:
    world = make_world()
    for number in range(3):
        world.append(*[event(f"{number}-{at}") for at in range(2500)])
    world.append(*[event(f"wide-{at}", source="wide", pad=30_000) for at in range(400)])
    world.archive()
    members = [member for member in world.reader.members() if member.source == "web"]
    assert [member.events for member in members] == [4096, 3404]
    wide = [member for member in world.reader.members() if member.source == "wide"]
    assert len(wide) > 1
    [file] = [file for file in world.reader.files() if file.source == "wide"]
    content = world.store.get(file.key)
    for member in wide:
        part = gzip.decompress(content[member.offset : member.offset + member.length])
        assert part.count(b"\n") == member.events
    world.check()


def test_a_file_ends_at_its_size(make_world: MakeWorld) -> None:
    world = make_world(file_bytes=2_000_000)
    for number in range(12):
        world.append(*[event(f"{number}-{at}", pad=1000) for at in range(500)])
    world.archive()
    assert len(world.object_keys()) == 3
    world.check()


def test_line_ends_between_tokens_become_spaces(make_world: MakeWorld) -> None:
    world = make_world()
    text = b'{"type":"track","messageId":"m",\r\n"receivedAt":"2026-01-01T00:00:00.000Z",\n"event":"E"}'
    world.append(AcceptedEvent("web", T0, "m", "track", "E", text), event("plain"))
    world.archive()
    [odd, plain] = world.archived()
    assert odd.body == text.replace(b"\r", b" ").replace(b"\n", b" ")
    assert plain.body == event("plain").body
    assert len(world.lines()) == 2


def test_a_flush_is_due_when_its_time_has_come(make_world: MakeWorld) -> None:
    world = make_world(flush_s=300)
    world.gather()
    assert not world.writer.due
    world.append(event("a"))
    world.gather()
    due = []
    for seconds in (0, 299, 1):
        world.clock.pass_s(seconds)
        due.append(world.writer.due)
    assert due == [False, False, True]
    assert world.writer.lag_s() == 301
    world.writer.flush()
    assert (world.writer.due, world.writer.lag_s()) == (False, 0)


def test_restarts_do_not_put_a_flush_off(make_world: MakeWorld) -> None:
    world = make_world(flush_s=300)
    world.append(event("a"))
    world.archive()
    world.append(event("b"))
    for _ in range(3):
        assert not world.writer.due
        world.clock.pass_s(100)
        world.restart()
        world.gather()
    assert world.writer.due


def test_a_full_buffer_ends_the_reading_until_it_is_flushed(make_world: MakeWorld) -> None:
    world = make_world(buffer_bytes=1 << 20)
    for number in range(40):
        world.append(*[event(f"{number}-{at}", pad=500) for at in range(300)])
    flushes = 0
    while True:
        world.gather()
        if not world.writer.due:
            break
        world.writer.flush()
        flushes += 1
    assert flushes >= 1
    world.writer.flush()
    world.check()


def test_many_sources_share_the_buffer(make_world: MakeWorld) -> None:
    world = make_world(buffer_bytes=1 << 20)
    for number in range(30):
        world.append(*[event(f"{number}-{at}", source=f"s{at}", pad=500) for at in range(100)])
    while True:
        world.gather()
        if not world.writer.due:
            break
        world.writer.flush()
    world.writer.flush()
    assert max(len(list(world.reader.members(sources=[f"s{at}"]))) for at in range(100)) > 1
    world.check()


def test_a_store_that_fails_loses_nothing_and_repeats_the_same_names(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("a"), event("b", source="shop"))
    world.gather()
    world.store.failures = 2
    for _ in range(2):
        with pytest.raises(StoreError):
            world.writer.flush()
    world.append(event("c"))
    assert not world.writer.advance()
    assert world.writer.due
    assert world.writer.flush() == 2
    assert len(set(world.store.puts)) == 2
    assert committed_cursor(world.path) == {"0": 1}
    world.archive()
    world.check()


def test_a_log_without_events_moves_the_cursor_alone(make_world: MakeWorld) -> None:
    world = make_world()
    world.append()
    world.append()
    world.archive()
    assert committed_cursor(world.path) == {"0": 2}
    assert world.object_keys() == []


def test_the_cursor_of_no_index_is_empty(tmp_path: object, make_world: MakeWorld) -> None:
    world = make_world()
    assert committed_cursor(world.path) == {}
    assert committed_cursor(world.path.with_name("none.db")) == {}


def test_two_archives_in_one_bucket_do_not_overwrite_each_other(make_world: MakeWorld) -> None:
    world = make_world()
    world.append(event("a"))
    world.archive()
    other = World(world.path.parent / "other", world.store.store)
    other.append(event("z"))
    other.archive()
    assert len(world.object_keys()) == 2
    assert [item.message_id for item in world.archived()] == ["a"]
    assert [item.message_id for item in other.archived()] == ["z"]


def test_objects_are_written_at_once(make_world: MakeWorld) -> None:
    """Every put waits for the others: one after the other none would come back."""
    world = make_world(uploads=3)
    together = threading.Barrier(3, timeout=30)
    put = world.store.put

    def meet(key: str, content: bytes | Path) -> None:
        together.wait()
        put(key, content)

    world.store.put = meet  # type: ignore[method-assign]
    world.append(event("a"), event("b", source="shop"), event("c", source="app"))
    world.archive()
    world.check()


def test_of_objects_that_are_written_at_once_only_what_failed_is_repeated(make_world: MakeWorld) -> None:
    world = make_world(uploads=4)
    world.append(*[event(f"e{number}", source=f"s{number}") for number in range(20)])
    world.gather()
    world.store.failures = 1
    with pytest.raises(StoreError):
        world.writer.flush()
    assert len(world.object_keys()) == 19
    world.writer.flush()
    assert len(world.store.puts) == 21
    world.check()
