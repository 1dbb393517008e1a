"""Kills, full disks and failing peers while the delivery engine does more than send one event at a time."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.bounds import most_doubles
from tests.support.fixtures import MakeServer
from tests.support.load import Load
from tests.support.sink import OK, Hit, Reply, Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace

CONCURRENCY = 8
BATCH = 50
BULK = 1_000
SOON = {"window_s": 60, "attempts": 10}
ROUNDS = int(os.environ.get("TRUNKLINE_CRASH_ROUNDS", "20")) // 5
SETTINGS = {"lane_concurrency": str(CONCURRENCY), "shutdown_grace_s": "1"}


class Flaky:
    """Refuses every so-manieth request for a while."""

    def __init__(self, seed: int, share: float) -> None:
        self._random = random.Random(seed)
        self._share = share

    def __call__(self, hit: Hit) -> Reply:
        return Reply(503) if self._random.random() < self._share else OK


def destinations(sink: Sink) -> str:
    sink.place("flaky").answer = Flaky(1, 0.1)
    sink.place("batches").answer = Flaky(2, 0.05)
    return workspace(
        [source("web")],
        [
            webhook("flaky", sink.place("flaky").url, ["web"]) | {"retry": SOON},
            webhook("batches", sink.place("batches").url, ["web"], **batching(BATCH, 0.1)) | {"retry": SOON},
            webhook("bulk", sink.place("bulk").url, ["web"], **batching(BULK, 3)),
        ],
    )


def batching(events: int, wait_s: float) -> dict[str, Any]:
    return {"enable_batching": True, "batch_size": events, "batch_wait_s": wait_s}


BOUNDS = {
    "flaky": most_doubles(CONCURRENCY),
    "batches": most_doubles(CONCURRENCY, BATCH),
    # One bulk batch, and what is streamed while there is too little traffic for the next.
    "bulk": most_doubles(CONCURRENCY, BULK),
}


@pytest.mark.slow
@pytest.mark.timeout(120 + 60 * ROUNDS)
def test_kills_amid_retries_batches_and_bulk_batches_lose_nothing(sink: Sink, make_server: MakeServer) -> None:
    server = make_server(destinations(sink), settings=SETTINGS)
    server.start()
    acked: set[str] = set()
    sent: set[str] = set()
    for number in range(ROUNDS):
        with Load(server.port, "wk_web", f"r{number}", events_per_s=1_500, batch=50) as load:
            wait_until(lambda: len(load.acked) > 2_000, "load is taken")
            if number % 2:
                server.kill()
                server.start()
            else:
                server.kill_child("worker")
            server.balanced_books()
        acked |= set(load.acked)
        sent |= set(load.sent)
    books = server.wait_until_drained(*BOUNDS)
    for name, bound in BOUNDS.items():
        place = sink.place(name)
        print(f"{name}: {len(acked)} acked, {place.requests} requests, {place.doubles()} doubles in {ROUNDS} kills")
        assert acked <= place.ids() <= sent
        assert books.destinations[name].delivered == len(place.ids())
        assert place.doubles() <= bound * ROUNDS
    # Batches were batches, and some were bulk.
    assert sink.place("batches").requests < sink.place("flaky").requests / 10
    assert sink.place("bulk").requests < sink.place("batches").requests
    assert not list(files_of(server.data_dir / "bulk"))
    status, report = server.verify()
    assert status == 0, report
    assert server.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bulk.spool.before_fsync", "bulk.spool.after_fsync"])
def test_a_kill_amid_a_bulk_batch_loses_nothing(name: str, sink: Sink, make_server: MakeServer) -> None:
    bulk = sink.place("bulk")
    config = workspace([source("web")], [webhook("bulk", bulk.url, ["web"], **batching(BULK, 5))])
    server = make_server(config, settings=SETTINGS)
    server.start(failpoints=f"{name}=kill@5")
    with Load(server.port, "wk_web", "e", events_per_s=1_000, batch=20) as load:
        wait_until(lambda: "child.died" in server.log_text(), lambda: f"{name} is passed\n{server.log_tail()}")
        server.kill()
        server.balanced_books()
        server.start()
        acked = len(load.acked)
        wait_until(lambda: len(load.acked) > acked, "load is taken again")
    books = server.wait_until_drained("bulk")
    assert set(load.acked) <= bulk.ids() <= set(load.sent)
    assert books.destinations["bulk"].delivered == len(bulk.ids())
    assert not list(files_of(server.data_dir / "bulk"))
    assert server.verify()[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("place", ["bulk.spool.before_fsync=enospc@3", "bulk.spool.after_fsync=enospc@3"])
def test_a_disk_that_is_full_amid_a_bulk_batch_stops_nothing(place: str, sink: Sink, make_server: MakeServer) -> None:
    bulk = sink.place("bulk")
    config = workspace([source("web")], [webhook("bulk", bulk.url, ["web"], **batching(BULK, 5))])
    server = make_server(config, settings=SETTINGS)
    server.start(failpoints=place)
    with Load(server.port, "wk_web", "e", events_per_s=1_000, batch=20) as load:
        wait_until(lambda: len(load.acked) > 3_000, lambda: f"load is taken\n{server.log_tail()}")
    books = server.wait_until_drained("bulk")
    assert "child.died" not in server.log_text()
    assert bulk.taken == dict.fromkeys(load.acked, 1)
    assert books.destinations["bulk"].delivered == len(load.acked)
    assert server.stop() == 0


def _has_taken(load: Load, events: int) -> bool:
    return len(load.acked) > events


def files_of(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())
