"""Kills while events are blocked, kept and forwarded to other sources."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.crash.bounds import most_doubles
from tests.support.fixtures import MakeServer
from tests.support.server import Server
from tests.support.sink import Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.runtime.layout import DataDir

CONCURRENCY = 8
SETTINGS = {"lane_concurrency": str(CONCURRENCY), "shutdown_grace_s": "1", "archive_flush_s": "0.5"}
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
        {"type": "track", "event": "Bad", "schema": {"properties": {"properties": {"required": ["a", "b"]}}}},
    ],
}
KINDS = ("Good", "Bad", "Unplanned")
BATCHES = 40


def batch(number: int) -> list[dict[str, Any]]:
    return [
        {"type": "track", "event": kind, "userId": "u", "messageId": f"{kind}-{number}-{at}", "properties": {}}
        for kind in KINDS
        for at in range(5)
    ]


def send_through(server: Server, events: list[dict[str, Any]]) -> None:
    """Until it is acknowledged, whoever dies meanwhile."""

    def taken() -> bool:
        try:
            server.send("wk_web", *events)
        except (OSError, AssertionError):
            return False
        return True

    wait_until(taken, lambda: f"a batch is taken\n{server.log_tail()}")


def kept_ids(folder: Path) -> Counter[str]:
    """How often each blocked event is in the archive."""
    files = [path for path in folder.rglob("*.gz") if "segment-logs" not in path.parts]
    lines = [line for path in files for line in gzip.decompress(path.read_bytes()).splitlines()]
    return Counter(json.loads(line)["messageId"] for line in lines)


@pytest.mark.slow
def test_what_is_forwarded_enters_once(sink: Sink, make_server: MakeServer) -> None:
    """Killed where it is durable and not yet counted."""
    failpoint = "worker.envelope.after_append"
    web, quarantine, monitor = (sink.place(name) for name in ("web", "quarantine", "monitor"))
    config = workspace(
        [source("web"), source("quarantine"), source("monitor")],
        [
            webhook("hook", web.url, ["web"]),
            webhook("quarantine-hook", quarantine.url, ["quarantine"]),
            webhook("monitor-hook", monitor.url, ["monitor"]),
        ],
        tracking_plans=[PLAN],
    )
    server = make_server(config, settings=SETTINGS)
    server.start(failpoints=f"{failpoint}=kill@4")
    for number in range(BATCHES // 2):
        send_through(server, batch(number))
    wait_until(lambda: "child.died" in server.log_text(), lambda: f"{failpoint} is passed\n{server.log_tail()}")
    server.kill()
    deaths = server.log_text().count("child.died") + 1
    server.balanced_books()
    server.start()
    for number in range(BATCHES):  # the first half again: duplicates are neither blocked nor forwarded
        send_through(server, batch(number))
    books = server.wait_until_drained("hook", "quarantine-hook", "monitor-hook")
    ids = {kind: {f"{kind}-{number}-{at}" for number in range(BATCHES) for at in range(5)} for kind in KINDS}
    assert web.ids() == ids["Good"]
    assert quarantine.ids() == ids["Bad"] | ids["Unplanned"]
    assert len(monitor.ids()) == 2 * len(ids["Bad"])
    for name, place in (("hook", web), ("quarantine-hook", quarantine), ("monitor-hook", monitor)):
        assert books.destinations[name].delivered == len(place.ids())
        assert place.doubles() <= most_doubles(CONCURRENCY) * deaths
    assert books.destinations["quarantine-hook"].received == len(quarantine.ids())
    folder = DataDir(server.data_dir).archive
    wait_until(lambda: len(kept_ids(folder)) == len(quarantine.ids()), "all that was blocked is archived")
    assert kept_ids(folder) == dict.fromkeys(quarantine.ids(), 1)
    assert server.stop() == 0
    assert server.verify()[0] == 0
