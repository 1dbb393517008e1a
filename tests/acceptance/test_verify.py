"""``trunkline verify``: exact beside a running server, and it can fail."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.fixtures import MakeServer
from tests.support.load import Load
from tests.support.server import Server, run_trunkline
from tests.support.sink import OK, Reply, Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.cli.main import program
from trunkline.clock import SystemClock
from trunkline.log.base import NewRecord
from trunkline.log.embedded import EmbeddedLog
from trunkline.log.embedded.segment import SegmentCursor, list_segments
from trunkline.runtime.layout import DataDir


def test_verify_balances_at_every_moment_under_load(sink: Sink, make_server: MakeServer) -> None:
    good, flaky, stuck = sink.place("good"), sink.place("flaky"), sink.place("stuck")
    flaky.answer = lambda hit: Reply(503) if hash(hit.message_id) % 5 == 0 and flaky.received.total() % 3 else OK
    stuck.always(Reply(delay_s=0.3))
    server = make_server(
        workspace(
            [source("web"), source("app")],
            [
                webhook("good", good.url, ["web", "app"]),
                webhook("flaky", flaky.url, ["web"]),
                webhook("stuck", stuck.url, ["web"]),
            ],
        ),
        settings={"log_segment_bytes": "262144", "ingest_processes": "2"},
    )
    server.start()
    with (
        Load(server.port, "wk_web", "e", events_per_s=800, batch=20),
        Load(server.port, "wk_app", "e", events_per_s=200, batch=20, threads=1),  # duplicates of the others
    ):
        wait_until(lambda: len(good.ids()) > 100, "load is under way")
        pending = []
        for number in range(24):
            if number in (8, 16):
                server.kill_child("worker")
            pending.append(server.balanced_books().destinations["stuck"].pending)
        for _ in range(2):
            status, report = server.verify()
            assert (status, report["balanced"], report["problems"]) == (0, True, [])
        assert max(pending) > 0
    books = server.balanced_books()
    assert books.destinations["good"].filtered_at_source > 0
    assert server.stop() == 0
    assert server.verify()[0] == 0


def test_verify_tells_of_what_is_not_there(tmp_path: Path) -> None:
    done = run_trunkline("verify", "--data-dir", tmp_path / "nothing")
    assert done.returncode not in (0, 1)
    assert "nothing" in done.stderr
    assert not (tmp_path / "nothing").exists()


# -- verify can fail ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a server that was stopped with events in every state."""
    sink = Sink()
    hook = sink.place("hook")
    hook.answer = lambda hit: Reply(503) if hit.message_id.startswith("bad") else OK
    directory = tmp_path_factory.mktemp("stopped")
    server = Server(
        directory,
        workspace([source("web")], [webhook("hook", hook.url, ["web"])]),
        settings={"log_segment_bytes": "65536"},
    )
    try:
        server.start()
        for number in range(60):
            server.send(
                "wk_web",
                *(
                    {
                        "type": "track",
                        "event": f"E{number % 3}",
                        "userId": "u",
                        "messageId": f"{kind}-{number}",
                        "properties": {"filler": "x" * 1500},
                    }
                    for kind in ("good", "good", "bad" if number % 10 == 0 else "fine")
                ),
                {"type": "track", "messageId": f"rejected-{number}"},
            )
        wait_until(lambda: server.balanced_books().destinations["hook"].pending == 6, "six events wait for a retry")
        assert server.stop() == 0
    finally:
        server.close()
        sink.close()
    return server.data_dir


def verify(data_dir: Path) -> tuple[int, dict[str, Any]]:
    """The command in this process: many calls, and a start of Python each would take most of the time."""
    done = CliRunner().invoke(program(), ["verify", "--json", "--data-dir", str(data_dir)])
    assert done.stdout, done.output
    return done.exit_code, json.loads(done.stdout)


def change(sql: str) -> Callable[[Path], None]:
    """Change exactly one row of state.db."""

    def apply(data_dir: Path) -> None:
        db = sqlite3.connect(DataDir(data_dir).state)
        assert db.execute(sql).rowcount == 1
        db.commit()
        db.close()

    return apply


def rewrite_without_one(topic: str) -> Callable[[Path], None]:
    """A sound log that never held one of its records: no checksum can tell."""

    def apply(data_dir: Path) -> None:
        path = DataDir(data_dir).log
        old = EmbeddedLog(path, SystemClock())
        [partition] = old.partitions(topic)
        reader = old.reader(topic, partition)
        records = reader.read(1 << 30)
        reader.close()
        with_events = [at for at, record in enumerate(records) if record.counts]
        del records[with_events[len(with_events) // 2]]
        new_path = data_dir / "rewritten"
        appender = EmbeddedLog(new_path, SystemClock(), segment_bytes=65536).appender(topic, partition)
        for record in records:
            appender.append([NewRecord(record.payload, record.counts)])
        appender.close()
        shutil.rmtree(path / topic)
        (new_path / topic).rename(path / topic)

    return apply


def cut_out_one_block(topic: str) -> Callable[[Path], None]:
    """Remove the bytes of one append from the middle of a segment."""

    def apply(data_dir: Path) -> None:
        directory = DataDir(data_dir).log / topic / "0"
        cursor = SegmentCursor(directory, list_segments(directory)[0])
        blocks = []
        while (block := cursor.next_block(cursor.size_bytes(), payloads=False)) is not None:
            blocks.append(block)
        cursor.close()
        block = blocks[len(blocks) // 2]
        content = cursor.path.read_bytes()
        cursor.path.write_bytes(content[: block.offset] + content[block.end :])

    return apply


def flip_one_bit(topic: str) -> Callable[[Path], None]:
    def apply(data_dir: Path) -> None:
        directory = DataDir(data_dir).log / topic / "0"
        path = SegmentCursor(directory, list_segments(directory)[0]).path
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return apply


def remove_one_segment(topic: str) -> Callable[[Path], None]:
    """Not the oldest one: retention would leave no such gap."""

    def apply(data_dir: Path) -> None:
        directory = DataDir(data_dir).log / topic / "0"
        segments = list_segments(directory)
        assert len(segments) > 2
        SegmentCursor(directory, segments[1]).path.unlink()

    return apply


DAMAGES = {
    "ingested record": rewrite_without_one("ingested"),
    "accepted record": rewrite_without_one("accepted"),
    "ingested block": cut_out_one_block("ingested"),
    "accepted block": cut_out_one_block("accepted"),
    "ingested bit": flip_one_bit("ingested"),
    "accepted bit": flip_one_bit("accepted"),
    "ingested segment": remove_one_segment("ingested"),
    "accepted segment": remove_one_segment("accepted"),
    "retry row": change("DELETE FROM retries WHERE place = (SELECT min(place) FROM retries)"),
    "delivered": change("UPDATE lane_books SET count = count - 1 WHERE outcome = 'delivered'"),
    "accepted total": change("UPDATE source_totals SET count = count - 1 WHERE outcome = 'accepted'"),
    "duplicates total": change("UPDATE source_totals SET count = count - 1 WHERE outcome = 'filtered_at_source'"),
    "rejected total": change("UPDATE source_totals SET count = count - 1 WHERE outcome = 'failed_on_ingest'"),
    "total row": change("DELETE FROM source_totals WHERE outcome = 'accepted'"),
    "source book": change(
        "UPDATE source_books SET count = count - 1 WHERE outcome = 'accepted' AND name = 'E1'",
    ),
    "source book row": change("DELETE FROM source_books WHERE outcome = 'failed_on_ingest'"),
    "source cursor": change("UPDATE source_cursors SET position = position - 1"),
    "accepted cursor": change("UPDATE accepted_cursors SET position = position - 1"),
    "interval": change("UPDATE intervals SET open_received = '{\"0\": 1}'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_fails_after(damage: str, stopped: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(stopped, data_dir, ignore=shutil.ignore_patterns("run"))
    DAMAGES[damage](data_dir)
    status, report = verify(data_dir)
    assert status == 1, report
    assert report["balanced"] is False
    assert report["problems"]


def test_the_same_data_undamaged_balances(stopped: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(stopped, data_dir, ignore=shutil.ignore_patterns("run"))
    status, report = verify(data_dir)
    assert (status, report["problems"]) == (0, [])
    line = report["destinations"]["hook"]
    assert line["received"] == 240
    assert (line["failed_on_ingest"], line["filtered_at_source"], line["pending"]) == (60, 60, 6)
    assert line["delivered"] == 114
