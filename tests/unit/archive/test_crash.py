"""Killed anywhere: no gap, no event twice, no object that nobody knows."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crashing import Failpoints, Killed, failpoints_in
from tests.unit.archive.archive_world import DAY_MS, World, blocked_event, event
from tests.unit.archive.conftest import MakeWorld
from trunkline.archive import index as index_module
from trunkline.archive import local_store as local_store_module
from trunkline.archive import writer as writer_module
from trunkline.archive.errors import ArchiveError, IndexFailed, StoreFull
from trunkline.archive.index import ArchiveIndex
from trunkline.archive.layout import ACCEPTED_EVENTS
from trunkline.log.base import LogError
from trunkline.log.records import Envelope, decode_envelope

FLUSH_STEPS = [
    "archive.plan.before_commit",
    "archive.plan.after_commit",
    "archive.upload.before",
    "archive.put.before_fsync",
    "archive.put.before_rename",
    "archive.put.after_rename",
    "archive.upload.after",
    "archive.commit.before",
    "archive.commit.after",
]


@pytest.fixture
def failpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[Failpoints]:
    yield from failpoints_in(monkeypatch, index_module, local_store_module, writer_module)


def fill(world: World, name: str = "e") -> None:
    for number in range(4):
        blocked = [blocked_event(f"{name}{number}-b{at}", source=f"s{at % 2}") for at in range(5)]
        world.append(*[event(f"{name}{number}-{at}", source=f"s{at % 3}") for at in range(9)], blocked=blocked)


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("name", FLUSH_STEPS)
def test_a_kill_at_each_step_of_a_flush(name: str, nth: int, make_world: MakeWorld, failpoints: Failpoints) -> None:
    """At the third passage some objects are durable, or two flushes are behind."""
    world = make_world()
    failpoints.name, failpoints.nth = name, nth

    def work() -> None:
        for number in range(3):
            fill(world, f"{number}.")
            world.archive()

    with pytest.raises(Killed):
        work()
    before = set(world.object_keys())
    world.restart()
    fill(world, "later")
    world.archive()
    assert before <= set(world.object_keys()), "a flush that is repeated has other names"
    world.archive()
    world.check()


@pytest.mark.parametrize("name", FLUSH_STEPS)
def test_a_full_disk_at_each_step_of_a_flush(name: str, make_world: MakeWorld, failpoints: Failpoints) -> None:
    """The process goes on, and tries again."""
    world = make_world()
    failpoints.name = name
    failpoints.error = OSError(errno.ENOSPC, "No space left on device")
    fill(world)
    world.gather()
    try:
        world.writer.flush()
    except (ArchiveError, OSError) as error:
        raised: Exception = error
    fill(world, "later")
    for _ in range(2):
        world.archive()
    assert isinstance(raised, ArchiveError) or name.endswith(("after_commit", "upload.before", "after"))
    world.check()


def test_the_same_flush_is_repeated_whatever_the_settings_are_now(make_world: MakeWorld) -> None:
    world = make_world(file_bytes=64 << 20)
    for number in range(4):
        world.append(*[event(f"{number}-{at}", pad=2000) for at in range(600)])
    world.store.die_after = 0
    world.gather()
    with pytest.raises(Killed):
        world.writer.flush()
    [key] = world.object_keys()
    world.settings["file_bytes"] = 1 << 20
    world.restart()
    world.append(event("later"))
    assert world.writer.due
    world.writer.flush()
    assert world.object_keys() == [key]
    for number in range(4):
        world.append(*[event(f"more{number}-{at}", pad=2000) for at in range(600)])
    world.archive()
    assert len(world.object_keys()) > 2
    world.check()


def test_objects_of_a_plan_that_comes_out_otherwise_are_removed(make_world: MakeWorld) -> None:
    """A newer program may cut files elsewhere: what an older one uploaded for its plan must not stay."""
    world = make_world()
    fill(world)
    world.store.die_after = 2
    world.gather()
    with pytest.raises(Killed):
        world.writer.flush()
    stale = "segment-logs/s0/0/00000000-0-0000000000000000.gz"
    world.store.store.put(stale, b"")
    plan = world.index.plan("0")
    assert plan is not None
    world.index.begin("0", index_module.Plan(plan.stop, plan.file_bytes, (*plan.keys, stale)))
    world.restart()
    world.writer.flush()
    assert world.index.doomed(10) == [stale]
    world.store.delete(stale)
    world.index.removed([stale])
    world.check()


def test_a_commit_that_was_made_and_then_reported_as_failed(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    fill(world)
    commit = world.index.commit

    def commit_and_fail(*arguments: object) -> None:
        commit(*arguments)  # type: ignore[arg-type]
        raise IndexFailed("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(world.index, "commit", commit_and_fail)
        world.gather()
        with pytest.raises(IndexFailed):
            world.writer.flush()
    fill(world, "later")
    world.archive()
    world.check()


@pytest.mark.parametrize("name", ["archive.migrate.before_commit", "archive.migrate.after_commit"])
def test_a_kill_while_the_index_is_made(name: str, tmp_path: Path, failpoints: Failpoints) -> None:
    failpoints.name = name
    with pytest.raises(Killed):
        ArchiveIndex(tmp_path / "archive.db")
    index = ArchiveIndex(tmp_path / "archive.db")
    assert len(index.archive_id) == 8
    index.close()


@pytest.mark.parametrize("name", ["archive.expire.before_commit", "archive.expire.after_commit"])
def test_a_kill_while_files_expire(name: str, make_world: MakeWorld, failpoints: Failpoints) -> None:
    world = make_world()
    fill(world)
    world.archive()
    keys = [key for key in world.object_keys() if key.startswith("segment-logs/")]
    failpoints.name = name
    world.clock.pass_s(3 * DAY_MS / 1000)
    with pytest.raises(Killed):
        world.index.expire(ACCEPTED_EVENTS, world.clock.now_ms(), 100)
    world.restart()
    known = {file.key for file in world.reader.files()}
    doomed = set(world.index.doomed(100))
    assert known | doomed == set(keys)
    assert not known & doomed
    assert bool(known) == (name == "archive.expire.before_commit")


def test_no_room_for_the_store_is_told_apart(make_world: MakeWorld, failpoints: Failpoints) -> None:
    world = make_world()
    failpoints.name = "archive.put.before_fsync"
    failpoints.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StoreFull, match="No space left"):
        world.store.put("a", b"1")


def test_an_append_that_the_log_repeats_is_recognised_after_a_restart(make_world: MakeWorld) -> None:
    world = make_world()
    fill(world)
    world.archive()
    again = world.log.reader("accepted", "0").read(1 << 20)[-1]
    world.restart()
    world.repeat(again.payload)
    fill(world, "later")
    world.archive()
    world.check()


def test_a_read_that_fails_half_way_is_made_again(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    fill(world)
    world.gather()
    fill(world, "later")
    decoded = 0

    def decode(payload: bytes) -> Envelope:
        nonlocal decoded
        decoded += 1
        if decoded == 3:
            raise LogError("a bad sector")
        return decode_envelope(payload)

    with monkeypatch.context() as patch:
        patch.setattr("trunkline.delivery.accepted.decode_envelope", decode)
        with pytest.raises(LogError):
            world.writer.advance()
        world.archive()
    world.check()
