"""Full disks and files that cannot be written under what is recorded of events, and changes while events wait."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import server as server_module
from tests.support.expected import missing
from tests.support.fixtures import MakeServer
from tests.support.processes import kill
from tests.support.server import Server, run_trunkline
from tests.support.sink import HANG, OK, Reply, Sink
from tests.support.small_disk import mount_small_disk
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.runtime.layout import DataDir
from trunkline.schema.reader import SchemaReader

MIB = 1 << 20
NAMES = 800
"""So many rows fit in no page that a database has already."""
PLAN = {
    "slug": "shop",
    "sources": ["web"],
    "enforce": {
        "unplanned_events": "block",
        "violations": "block",
        "forward_violations_to": "monitor",
        "forward_blocked_events_to": "quarantine",
    },
    "rules": [
        {"type": "track", "event": "Good", "schema": {}},
        {"type": "track", "event": "Bad", "schema": {"properties": {"properties": {"required": ["a"]}}}},
    ],
}


def track(message_id: str, event: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "userId": "u1", "messageId": message_id, "properties": properties}


def seen(server: Server) -> Counter[tuple[str, str, str]]:
    """What the schema counts, by source, name and reason (empty: allowed)."""
    found: Counter[tuple[str, str, str]] = Counter()
    for event in SchemaReader(DataDir(server.data_dir).schema).events():
        found[event.source, event.name, ""] += event.allowed
        for reason, count in event.reasons.items():
            found[event.source, event.name, reason] += count
    return +found


def kept(server: Server) -> Counter[str]:
    """How often each blocked event is in the archive."""
    found: Counter[str] = Counter()
    for path in (DataDir(server.data_dir).archive / "blocked-events").rglob("[!.]*.gz"):
        found.update(json.loads(line)["messageId"] for line in gzip.decompress(path.read_bytes()).splitlines())
    return found


def wait_until_recorded(server: Server, expected: Counter[tuple[str, str, str]]) -> None:
    wait_until(
        lambda: seen(server) == expected,
        lambda: (
            f"counts are exact; missing {expected - seen(server)}, too many {seen(server) - expected}"[:2_000]
            + f"\n{server.log_tail()}"
        ),
    )


def quarantined(sink: Sink, **more: Any) -> str:
    """A source with a plan, one that gets what it blocks, one that gets its violations; one destination each."""
    slugs = ("web", "quarantine", "monitor")
    hooks = [webhook(f"{slug}-hook", sink.place(slug).url, [slug]) for slug in slugs]
    return workspace([source(slug) for slug in slugs], hooks, **({"tracking_plans": [PLAN]} | more))


# -- a full disk -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mount_small_disk(tmp_path / "disk", 48 * MIB) as directory:
        yield directory


def fill(disk: Path) -> Path:
    """A file that leaves no room at all."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file:
        for size_bytes in (MIB, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size_bytes)
            except OSError:
                continue
    return path


def test_a_full_disk_under_schema_and_blocked_events(sink: Sink, make_server: MakeServer, small_disk: Path) -> None:
    settings = {"reserve_bytes": "0", "archive_flush_s": "0.5"}
    server = make_server(quarantined(sink), data_dir=small_disk / "data", settings=settings)
    server.start()
    archive = server.child("archive")
    wait_until(lambda: SchemaReader(DataDir(server.data_dir).schema).exists, "the observer has begun")
    os.kill(archive, signal.SIGSTOP)  # or much of it would be written before the disk is full
    unplanned = {f"unplanned-{number}": f"Name {number}" for number in range(NAMES)}
    events = [track(message_id, name, **{f"p{message_id}": 1}) for message_id, name in unplanned.items()]
    for at in range(0, NAMES, 100):
        server.send("wk_web", *events[at : at + 100])
    server.send("wk_web", track("good", "Good"), track("bad", "Bad"))
    server.wait_until_drained("web-hook", "quarantine-hook", "monitor-hook")
    filler = fill(small_disk)
    os.kill(archive, signal.SIGCONT)
    for what in ("schema.failed", "archive.failed"):
        wait_for_log(server, what)
    kill(archive)
    wait_until(lambda: server.child("archive") != archive, "it is started again, on a full disk")
    wait_until(lambda: server.log_text().count(".failed") > 2 or "died" in server.log_text(), "and fails again")
    server.balanced_books()
    filler.unlink()
    expected = Counter({("web", name, "unplanned"): 1 for name in unplanned.values()})
    expected.update({("quarantine", name, ""): 1 for name in unplanned.values()})
    expected["web", "Good", ""] = expected["web", "Bad", "schema_violation"] = expected["quarantine", "Bad", ""] = 1
    wait_until_recorded(server, expected)
    wait_until(lambda: len(kept(server)) == NAMES + 1, lambda: f"all is archived\n{server.log_tail()}")
    assert kept(server) == dict.fromkeys([*unplanned, "bad"], 1)
    wait_until(server.is_healthy, "the server takes events again")
    server.send("wk_web", track("late", "Good"))
    books = server.wait_until_drained("web-hook", "quarantine-hook", "monitor-hook")
    assert sink.place("web").taken == {"good": 1, "late": 1}
    assert sink.place("quarantine").ids() == {*unplanned, "bad"}
    assert books.destinations["quarantine-hook"].delivered == NAMES + 1
    assert books.destinations["monitor-hook"].delivered == 1
    assert server.verify()[0] == 0
    assert server.stop() == 0


# -- files that cannot be written ------------------------------------------------------------------------------


@pytest.fixture
def permissions_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of this test obey the permissions of files, as root does not."""
    if os.geteuid() != 0:
        return
    setpriv = shutil.which("setpriv")
    command = [str(setpriv), "--bounding-set=-dac_override,-dac_read_search"]
    if setpriv is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        missing("root cannot give up its rights: run the tests with CAP_SETPCAP, or not as root", needs_root=True)
    wrapper = tmp_path / "trunkline"
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(command)} {server_module.TRUNKLINE} "$@"\n', "utf-8")
    wrapper.chmod(0o755)
    monkeypatch.setattr(server_module, "TRUNKLINE", wrapper)


def wait_for_log(server: Server, what: str) -> None:
    wait_until(lambda: what in server.log_text(), lambda: f"{what}\n{server.log_tail()}")


def send_some(server: Server, prefix: str) -> Counter[tuple[str, str, str]]:
    """Events of each fate; how they are counted."""
    server.send("wk_web", track(f"{prefix}-good", "Good"), track(f"{prefix}-bad", "Bad"))
    server.send("wk_web", track(f"{prefix}-unplanned", "Unplanned"))
    return Counter(
        {
            ("web", "Good", ""): 1,
            ("web", "Bad", "schema_violation"): 1,
            ("web", "Unplanned", "unplanned"): 1,
            ("quarantine", "Bad", ""): 1,
            ("quarantine", "Unplanned", ""): 1,
        }
    )


@pytest.mark.usefixtures("permissions_count")
def test_a_schema_that_cannot_be_written_is_written_once_mended(sink: Sink, make_server: MakeServer) -> None:
    server = make_server(quarantined(sink), settings={"archive_flush_s": "0.5"})
    server.start()
    expected = send_some(server, "a")
    schema, index = DataDir(server.data_dir).schema, DataDir(server.data_dir).archive_index
    wait_until(lambda: SchemaReader(schema).exists, "the observer has begun")
    assert server.stop() == 0
    for path in (schema, index):
        path.chmod(0o444)
    server.start()
    expected += send_some(server, "b")
    for what in ("schema.failed", "archive.failed"):
        wait_for_log(server, what)
    books = server.wait_until_drained("web-hook", "quarantine-hook", "monitor-hook")
    assert books.destinations["quarantine-hook"].delivered == 4
    assert server.verify()[0] == 0
    for path in (schema, index):
        path.chmod(0o644)
    wait_until_recorded(server, expected)
    wait_until(lambda: {"b-bad", "b-unplanned"} <= set(kept(server)), lambda: f"it is archived\n{server.log_tail()}")
    assert "schema.recovered" in server.log_text()

    server.data_dir.chmod(0o555)
    server.kill_child("archive")
    expected += send_some(server, "c")
    server.wait_until_drained("web-hook", "quarantine-hook", "monitor-hook")
    server.data_dir.chmod(0o755)
    wait_until_recorded(server, expected)
    assert server.verify()[0] == 0
    assert server.stop() == 0
    assert seen(server) == expected
    assert sink.place("web").taken == dict.fromkeys(["a-good", "b-good", "c-good"], 1)
    assert set(kept(server).values()) == {1}


# -- transformations that change while events wait ---------------------------------------------------------------


def test_events_that_wait_have_passed_the_transformations(sink: Sink, make_server: MakeServer) -> None:
    """What waits for a retry goes out as it stood, whatever the workspace makes of new events."""

    def config(rename: dict[str, str], **more: Any) -> str:
        transformation = {"slug": "names", "source": "web", "destination": "hook", "if": 'type = "track"'}
        change = {"rename_properties": rename, **more}
        return workspace(
            [source("web")], [webhook("hook", hook.url, ["web"])], transformations=[transformation | change]
        )

    def rows() -> int:
        with sqlite3.connect(f"file:{DataDir(server.data_dir).state}?mode=ro", uri=True) as db:
            count: int = db.execute("SELECT count(*) FROM retries").fetchone()[0]
            return count

    hook = sink.place("hook")
    hook.keep_hits = True
    hook.answer = lambda hit: Reply(503) if hit.message_id == "refused" else HANG
    server = make_server(config({"a": "first"}))
    server.start()
    early, late = {"refused", "hangs"}, {"late-0", "late-1"}
    server.send("wk_web", *(track(message_id, "E", a=1) for message_id in sorted(early)))
    wait_until(lambda: rows() == 2, "they wait")
    version = server.health()["snapshot"]
    server.reconfigure(config({"a": "second"}))
    version = server.wait_for_workspace(version)
    hook.always(HANG)
    server.send("wk_web", *(track(message_id, "E", a=1) for message_id in sorted(late)))
    wait_until(lambda: rows() == 4 and hook.received["refused"] > 1, "the later ones wait too, an early one did again")
    server.reconfigure(config({"a": "third"}, **{"if": "type = ("}))
    wait_until(lambda: bool(server.health()["problems"]), "/health tells that it cannot be read")
    hook.always(OK)
    server.kill_child("worker")  # the last good workspace holds, and what waits is read from the state
    books = server.wait_until_drained("hook")
    assert server.health()["snapshot"] == version
    told = {(hit.message_id, *hit.json()["properties"]) for hit in hook.hits}
    assert told == {(one, "first") for one in early} | {(one, "second") for one in late}
    assert hook.taken == dict.fromkeys(early | late, 1)
    assert books.destinations["hook"].delivered == 4
    assert server.verify()[0] == 0
    assert server.stop() == 0


# -- a replay of what was forwarded ------------------------------------------------------------------------------


def run_json(server: Server, *arguments: str) -> Any:
    done = run_trunkline(*arguments, "--json", "--data-dir", server.data_dir)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def test_a_replay_of_what_was_forwarded(sink: Sink, make_server: MakeServer) -> None:
    """Blocked events and violations are events of the sources that got them, and are replayed from there, once."""
    server = make_server(quarantined(sink), settings={"archive_flush_s": "0.5"})
    server.start()
    send_some(server, "a")
    hooks = ("web-hook", "quarantine-hook", "monitor-hook")
    server.wait_until_drained(*hooks)
    blocked, reports = {"a-bad", "a-unplanned"}, sink.place("monitor").ids()
    assert sink.place("quarantine").ids() == blocked
    [report_id] = reports
    selected = {"quarantine-hook": blocked, "monitor-hook": reports}
    replays = {}
    for hook, ids in selected.items():
        started = run_json(server, "replay", "start", "--to", hook, "--since", "1h", "--yes")
        assert started["events"] == len(ids), (hook, started)
        replays[hook] = started["id"]
    wait_until(lambda: all(line.pending == 0 for line in server.balanced_books().replays.values()), "they end")
    status, report = server.verify()
    assert status == 0, report
    for hook, ids in selected.items():
        line = report["replays"][replays[hook]]
        assert (line["selected"], line["delivered"], line["failed"]) == (len(ids), len(ids), 0)
        assert sink.place(hook.removesuffix("-hook")).taken == dict.fromkeys(ids, 2), "once live, once more"
        assert report["destinations"][hook]["delivered"] == len(ids), "replays count apart"

    def told(message_id: str) -> list[tuple[str, str, set[str]]]:
        """Each arrival's source, what became of it there, and the replays that brought it to a destination."""
        arrivals = run_json(server, "why", message_id)["arrivals"]
        return [
            (arrival["source"], arrival["status"], {ending["destination"] for ending in arrival["destinations"]})
            for arrival in arrivals
        ]

    of_quarantine = {"quarantine-hook", f"replay:{replays['quarantine-hook']}"}
    for message_id in blocked:
        assert told(message_id) == [("web", "discarded", set()), ("quarantine", "accepted", of_quarantine)]
    of_monitor = {"monitor-hook", f"replay:{replays['monitor-hook']}"}
    assert told(report_id) == [("monitor", "accepted", of_monitor)]
    wait_until(lambda: kept(server) == dict.fromkeys(blocked, 1), "what was blocked is archived, a replay adds nothing")
    assert server.stop() == 0
