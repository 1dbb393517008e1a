"""The archive of a running server: what was sent is in its files, whatever happens to the store or the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.archive import archived_events, archived_ids
from tests.support.fixtures import MakeServer
from tests.support.s3 import SECRET, S3Server
from tests.support.server import Server
from tests.support.waiting import wait_until
from tests.support.workspace import source, workspace
from trunkline.archive.cloud_store import CloudStore
from trunkline.archive.index import committed_cursor
from trunkline.archive.local_store import LocalStore
from trunkline.archive.reader import ArchiveReader
from trunkline.runtime.layout import DataDir

CONFIG = workspace([source("web"), source("shop")], [])


def track(message_id: str) -> dict[str, Any]:
    return {"type": "track", "event": "E", "userId": "u", "messageId": message_id, "properties": {"n": 1}}


def wait_until_archived(folder: Path, expected: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The events by source, which must be these, each once."""
    wait_until(lambda: len(archived_ids(folder)) >= len(expected), lambda: f"{len(expected)} events are archived")
    assert archived_ids(folder) == dict.fromkeys(expected, 1)
    return archived_events(folder)


def reader(server: Server) -> ArchiveReader:
    data = DataDir(server.data_dir)
    return ArchiveReader(data.archive_index, LocalStore(data.archive))


def test_events_are_archived_by_source_and_day(make_server: MakeServer) -> None:
    server = make_server(CONFIG, settings={"archive_flush_s": "0.1"})
    server.start()
    for number in range(5):
        server.send("wk_web", track(f"w{number}"))
    server.send("wk_shop", track("s0"))
    folder = DataDir(server.data_dir).archive
    found = wait_until_archived(folder, ["s0", "w0", "w1", "w2", "w3", "w4"])
    assert [event["messageId"] for event in found["shop"]] == ["s0"]
    assert all(event["properties"] == {"n": 1} and event["receivedAt"] for event in found["web"])
    wait_until(partial(_has, reader(server), "w3"), "the index knows it, a moment later")
    event = reader(server).find("w3")
    assert event is not None
    assert (event.source, event.type, event.name) == ("web", "track", "E")

    def metrics() -> str:
        return server.request("GET", "/metrics").body.decode()

    wait_until(lambda: 'trunkline_archive_events_total{process="archive",source="web"} 5.0' in metrics(), metrics)
    assert server.stop() == 0
    assert server.verify()[0] == 0


def test_a_killed_archive_process_comes_back_and_nothing_else_notices(make_server: MakeServer) -> None:
    server = make_server(CONFIG, settings={"archive_flush_s": "0.1"})
    server.start()
    sent = []
    for round_number in range(3):
        others = [server.child("ingest"), server.child("worker")]
        for number in range(5):
            sent.append(f"e{round_number}-{number}")
            server.send("wk_web", track(sent[-1]))
        server.kill_child("archive")
        assert [server.child("ingest"), server.child("worker")] == others
    wait_until_archived(DataDir(server.data_dir).archive, sent)


def test_a_successor_waits_for_the_one_that_still_ends(make_server: MakeServer) -> None:
    """Two writers at once would overwrite each other's objects."""
    server = make_server(CONFIG, settings={"archive_flush_s": "0.1"})
    server.start()
    server.send("wk_web", track("a"))
    wait_until_archived(DataDir(server.data_dir).archive, ["a"])
    archive = server.child("archive")
    os.kill(archive, signal.SIGSTOP)
    server.kill_supervisor()
    server.start()
    server.send("wk_web", track("b"))
    wait_until(lambda: "archive.waits_for_predecessor" in server.log_text(), "the successor waits")
    assert set(archived_ids(DataDir(server.data_dir).archive)) == {"a"}
    os.kill(archive, signal.SIGCONT)
    wait_until_archived(DataDir(server.data_dir).archive, ["a", "b"])
    assert "child.died" not in server.log_text()


def test_a_store_that_fails_keeps_nobody_waiting(make_server: MakeServer, tmp_path: Path) -> None:
    """The place of the store is a file: nothing can be written there until it has gone."""
    place = tmp_path / "elsewhere"
    place.write_text("in the way")
    server = make_server(CONFIG, settings={"archive_flush_s": "0.1", "archive_url": place.as_uri()})
    server.start()
    server.send("wk_web", track("a"))
    wait_until(lambda: "archive.failed" in server.log_text(), "the store has failed")
    server.send("wk_web", track("b"))
    assert committed_cursor(DataDir(server.data_dir).archive_index) == {}
    assert server.stop() == 0
    server.start()
    assert "child.died" not in server.log_text()
    place.unlink()
    wait_until_archived(place, ["a", "b"])


def _has(reader: ArchiveReader, message_id: str) -> bool:
    return reader.find(message_id) is not None


def test_events_go_to_s3(make_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server(tmp_path) as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        server = make_server(CONFIG, settings={"archive_flush_s": "0.1", "archive_url": "s3://archive/a/b"})
        server.start()
        data = DataDir(server.data_dir)
        reader = ArchiveReader(data.archive_index, CloudStore("s3", "archive", "a/b"))
        for number in range(3):
            server.send("wk_web", track(f"e{number}"))
            wait_until(partial(_has, reader, f"e{number}"), "the event is archived")
            if number == 1:
                server.kill_child("archive")
        members = list(reader.members())
        events = [event.message_id for member in members for event in reader.read_member(member.position)]
        assert events == ["e0", "e1", "e2"]
        assert all(f"a/b/{member.key}" in s3.request("GET", "archive?list-type=2").decode() for member in members)
    server.send("wk_web", track("while it is down"))
    wait_until(lambda: "archive.failed" in server.log_text(), "the store has failed")
    assert server.stop() == 0
    assert SECRET not in server.log_text()
    assert not data.archive.exists()


def test_without_the_setting_there_is_no_archive(make_server: MakeServer) -> None:
    server = make_server(CONFIG, settings={"archive": "false", "schema": "false"})
    server.start()
    server.send("wk_web", track("a"))
    assert server.children("archive") == []
    assert server.stop() == 0
    assert not DataDir(server.data_dir).archive.exists()
    assert not DataDir(server.data_dir).archive_index.exists()


def test_an_address_that_is_none_is_refused_at_the_start(make_server: MakeServer) -> None:
    server = make_server(CONFIG, settings={"archive_url": "ftp://host/archive"})
    server.start(wait=False)
    assert server.wait_for_end() != 0
    assert "archive_url: ftp://host/archive: ftp is not known. Use s3://" in server.log_text()
