"""``kill -9`` of ingest, of the worker, of the supervisor and of the whole tree, at random moments under load.

One data directory lives through all rounds. ``TRUNKLINE_CRASH_ROUNDS`` says how many (default 20, ``make crash`` 200),
``TRUNKLINE_CRASH_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import time
from functools import partial
from typing import Any

import pytest

from tests.crash.bounds import most_doubles
from tests.support.fixtures import MakeServer
from tests.support.load import Load
from tests.support.processes import is_alive
from tests.support.server import Server
from tests.support.sink import HANG, OK, Hit, Place, Reply, Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.runtime.layout import DataDir
from trunkline.state.base import RetryRow
from trunkline.state.sqlite import SqliteStateStore

ROUNDS = int(os.environ.get("TRUNKLINE_CRASH_ROUNDS", "20"))
SEED = int(os.environ.get("TRUNKLINE_CRASH_SEED", str(random.randrange(1 << 32))))
CONCURRENCY = 16
EVENTS_PER_S = 1_500
SETTINGS = {
    "lane_concurrency": str(CONCURRENCY),
    "log_segment_bytes": "262144",
    "dedupe_memtable_keys": "2000",
    "send_timeout_s": "60",
    "shutdown_grace_s": "1",
}
VICTIMS = ("worker", "ingest", "tree", "supervisor", "worker", "tree")


class OneHangs:
    """Lets the first event that comes after :meth:`arm` hang at every attempt until :meth:`release`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._armed = False
        self.message_id = ""
        place.answer = self._answer

    def _answer(self, hit: Hit) -> Reply:
        if self._armed and not self.message_id:
            self.message_id = hit.message_id
        return HANG if self.message_id == hit.message_id else OK

    def arm(self) -> None:
        self._armed = True

    def release(self) -> None:
        self._armed = False
        self.message_id = ""
        self._place.let_go()


def strike(server: Server, victim: str) -> None:
    """Kill, and see to it that a whole tree runs again (or comes by itself)."""
    if victim == "tree":
        server.kill()
        server.start()
    elif victim == "supervisor":
        server.kill_supervisor()
        server.start()
    else:
        pid = server.kill_child(victim)
        wait_until(lambda: not is_alive(pid), f"the {victim} {pid} is dead")


@pytest.mark.slow
@pytest.mark.timeout(60 + 60 * ROUNDS)
def test_nothing_acknowledged_is_lost(sink: Sink, make_server: MakeServer) -> None:
    print(f"TRUNKLINE_CRASH_SEED={SEED} TRUNKLINE_CRASH_ROUNDS={ROUNDS}")
    dice = random.Random(SEED)
    fast, other = sink.place("fast"), sink.place("other")
    hanging = OneHangs(fast)
    steady = [webhook("fast", fast.url, ["web"]), webhook("other", other.url, ["web", "app"])]
    fickle_url = sink.place("fickle").url
    sink.place("broken").always(Reply(503))
    fickle: list[list[dict[str, Any]]] = [
        [],
        [webhook("fickle", fickle_url, ["web", "app"], enabled=False)],
        [webhook("fickle", fickle_url, ["web", "app"])],
        [webhook("fickle", fickle_url, ["app"])],
        [webhook("fickle", sink.place("broken").url, ["web"])],
    ]
    sources = [source("web"), source("app")]
    server = make_server(workspace(sources, steady + fickle[2]), settings=SETTINGS)
    server.start()
    server.send("wk_app", {"type": "track", "event": "E", "userId": "u1", "messageId": "first"})
    wait_until(lambda: bool(sink.place("fickle").ids()), "the third destination gets an event")
    server.wait_until_drained()
    sent = {"first"}
    for number in range(ROUNDS):
        victim = dice.choice(VICTIMS)
        doubles = {place.name: place.doubles() for place in (fast, other)}
        with (
            Load(server.port, "wk_web", f"web{number}", events_per_s=EVENTS_PER_S * 2 / 3, batch=20) as web,
            Load(server.port, "wk_app", f"app{number}", events_per_s=EVENTS_PER_S / 3, batch=10, threads=1) as app,
        ):
            time.sleep(dice.uniform(0, 0.3))
            hanging.arm()
            # A third destination comes and goes, changes its sources, is mended and broken, just before the kill too.
            server.reconfigure(workspace(sources, steady + dice.choice(fickle)))
            time.sleep(dice.uniform(0.2, 1.0))
            server.reconfigure(workspace(sources, steady + dice.choice(fickle)))
            time.sleep(dice.uniform(0, 0.8))
            strike(server, victim)
            acked_before = len(web.acked)
            wait_until(partial(_taken_since, web, acked_before), "load is taken again")
            server.balanced_books()
        hanging.release()
        books = server.wait_until_drained("fast", "other")
        sent |= {*web.sent, *app.sent}
        bound = most_doubles(CONCURRENCY)
        more = {place.name: place.doubles() - doubles[place.name] for place in (fast, other)}
        print(f"round {number}: {victim}, {len(web.acked) + len(app.acked)} acked, doubles {more}, bound {bound}")
        assert set(web.acked) <= fast.ids(), f"lost: {sorted(set(web.acked) - fast.ids())[:5]}"
        assert {*web.acked, *app.acked} <= other.ids(), f"lost: {sorted({*web.acked, *app.acked} - other.ids())[:5]}"
        assert other.ids() <= sent, "an event came that nobody sent"
        for place in (fast, other):
            # What was durable was delivered, acknowledged or not, and each event is in the books once.
            assert books.destinations[place.name].delivered == len(place.ids())
            assert more[place.name] <= bound
    # Deleted, what still waits there is settled at once.
    server.reconfigure(workspace(sources, steady))
    books = server.wait_until_drained("fast", "other", "fickle")
    assert sink.place("fickle").ids() <= sent
    assert 0 < books.destinations["fickle"].delivered <= len(sink.place("fickle").ids())
    status, report = server.verify()
    assert status == 0, report
    assert server.stop() == 0


def rows_of(server: Server) -> list[RetryRow]:
    store = SqliteStateStore(DataDir(server.data_dir).state, read_only=True)
    try:
        return list(store.rows("fast"))
    finally:
        store.close()


def _taken_since(load: Load, before: int) -> bool:
    return len(load.acked) > before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_event_that_hangs_amid_a_fast_stream_adds_no_doubles(sink: Sink, make_server: MakeServer) -> None:
    """It has a row of its own, so that the stream behind it is recorded as it goes."""
    fast = sink.place("fast")
    hanging = OneHangs(fast)
    server = make_server(workspace([source("web")], [webhook("fast", fast.url, ["web"])]), settings=SETTINGS)
    server.start()
    hanging.arm()
    with Load(server.port, "wk_web", "e", events_per_s=5_000, batch=100, filler_bytes=900) as load:
        wait_until(lambda: len(load.acked) >= 20_000, "events are taken")
    # Without the load's share of the machine, what is left goes out as fast as it can.
    first = len(fast.ids())
    wait_until(lambda: len(fast.ids()) > min(first + 4_000, len(load.acked) - 1_000), "events are delivered")
    assert hanging.message_id in {row.message_id for row in rows_of(server)}
    server.kill_child("worker")
    server.send("wk_web", {"type": "track", "event": "E", "userId": "u1", "messageId": "after"})
    wait_until(lambda: "after" in fast.ids(), "events are delivered again")
    hanging.release()
    books = server.wait_until_drained()
    bound = most_doubles(CONCURRENCY)
    print(f"{len(load.acked)} acked, doubles {fast.doubles()}, bound {bound}")
    assert set(load.acked) <= fast.ids()
    assert books.destinations["fast"].delivered == len(fast.ids())
    assert fast.doubles() <= bound
