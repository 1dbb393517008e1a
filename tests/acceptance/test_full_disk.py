"""A disk that fills up: clients are told to come back, nothing acknowledged is lost, service resumes by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import MakeServer
from tests.support.load import Load
from tests.support.server import Server
from tests.support.sink import HANG, OK, Sink
from tests.support.small_disk import mount_small_disk
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace

MIB = 1 << 20
DISK_BYTES = 48 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    with mount_small_disk(tmp_path / "disk", DISK_BYTES) as directory:
        yield directory


def free_bytes(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def fill(disk: Path, leave_bytes: int) -> Path:
    """A file that leaves so much room; fills again what is freed meanwhile."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file:
        while (left := free_bytes(disk) - leave_bytes) > 0:
            try:
                file.write(b"\0" * min(left, MIB))
            except OSError:
                break
    return path


def make(make_server: MakeServer, sink: Sink, disk: Path, reserve: str) -> Server:
    hook, stuck = sink.place("hook"), sink.place("stuck")
    config = workspace([source("web")], [webhook("hook", hook.url, ["web"]), webhook("stuck", stuck.url, ["web"])])
    settings = {"reserve_bytes": reserve, "log_segment_bytes": "1MiB", "send_timeout_s": "600"}
    return make_server(config, data_dir=disk / "data", settings=settings)


def check_all_came(server: Server, sink: Sink, load: Load) -> None:
    hook, stuck = sink.place("hook"), sink.place("stuck")
    stuck.always(OK)
    stuck.let_go()
    books = server.wait_until_drained("hook", "stuck")
    assert set(load.acked) <= hook.ids()
    assert hook.ids() == stuck.ids() <= set(load.sent)
    assert books.destinations["hook"].delivered == len(hook.ids())
    assert server.verify()[0] == 0


def test_below_the_reserve_ingest_pauses_and_resumes(sink: Sink, make_server: MakeServer, small_disk: Path) -> None:
    sink.place("stuck").always(HANG)
    server = make(make_server, sink, small_disk, str(8 * MIB))
    server.start()
    event = {"writeKey": "wk_web", "type": "track", "event": "E", "userId": "u"}
    with Load(server.port, "wk_web", "e", events_per_s=300) as load:
        wait_until(lambda: len(load.acked) > 100, "load is taken")
        filler = fill(small_disk, 4 * MIB)
        wait_until(lambda: "503" in load.failures, "the disk counts as full")
        answer = server.post("/v1/track", event)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["success"] is False
        health = server.request("GET", "/health")
        assert (health.status, health.json()["status"]) == (503, "unavailable")
        # State can still commit: what was taken is delivered, the books are kept.
        wait_until(lambda: set(load.acked) <= sink.place("hook").ids(), "what was taken is delivered")
        wait_until(lambda: server.balanced_books().destinations["hook"].pending == 0, "and counted")
        acked = len(load.acked)
        filler.unlink()
        wait_until(lambda: len(load.acked) > acked + 50, "service resumes")
        wait_until(server.is_healthy, "/health says so")
    assert set(load.failures) == {"503"}
    check_all_came(server, sink, load)


def test_a_disk_without_any_room_loses_nothing(sink: Sink, make_server: MakeServer, small_disk: Path) -> None:
    """No reserve: log and state hit the end of the disk themselves."""
    sink.place("stuck").always(HANG)
    server = make(make_server, sink, small_disk, "0")
    server.start()
    with Load(server.port, "wk_web", "e", events_per_s=300, filler_bytes=2000) as load:
        wait_until(lambda: len(load.acked) > 100, "load is taken")
        filler = fill(small_disk, 0)
        wait_until(lambda: "503" in load.failures, "the disk is full")
        taken = len(load.failures) + 20
        wait_until(lambda: len(load.failures) > taken, "it stays full")
        server.balanced_books()
        # The other destination wakes up: its outcomes need room in the state.
        stuck = sink.place("stuck")
        stuck.always(OK)
        stuck.let_go()
        wait_until(
            lambda: "state.commit_failed" in server.log_text() or set(load.acked) <= stuck.ids(),
            "the state finds no room either, or did not need any",
        )
        server.balanced_books()
        acked = len(load.acked)
        filler.unlink()
        wait_until(lambda: len(load.acked) > acked + 50, lambda: f"service resumes\n{server.log_tail()}")
        wait_until(server.is_healthy, "/health says so")
        server.balanced_books()
    check_all_came(server, sink, load)
    assert server.stop() == 0


def test_a_server_that_stops_and_starts_on_a_full_disk(sink: Sink, make_server: MakeServer, small_disk: Path) -> None:
    sink.place("stuck").always(HANG)
    server = make(make_server, sink, small_disk, str(MIB))
    server.start()
    with Load(server.port, "wk_web", "e", events_per_s=300) as load:
        wait_until(lambda: len(load.acked) > 100, "load is taken")
    filler = fill(small_disk, 0)
    server.kill()
    server.spawn()
    wait_until(lambda: not server.runs or "died" in server.log_text() or _answers(server), lambda: "it does something")
    filler.unlink()
    if not server.runs:  # refused to start, and said why
        assert server.wait_for_end() != 0
        assert "No space left" in server.log_text() or "full" in server.log_text(), server.log_tail()
        server.spawn()
    server.wait_until_up()
    check_all_came(server, sink, load)


def _answers(server: Server) -> bool:
    try:
        server.request("GET", "/health", timeout_s=5)
    except OSError:
        return False
    return True
