"""The workspace changes under load: no request fails, the books balance all the while."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from tests.support.fixtures import MakeServer
from tests.support.load import Load
from tests.support.server import Server
from tests.support.sink import HANG, OK, Reply, Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.runtime.layout import DataDir


class Watch:
    """Checks the books again and again until it is left; every one of them must balance."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="books", daemon=True)
        self.checks = 0
        self.problems: list[str] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            self.problems += self._server.books().problems
            self.checks += 1


def failed_because(server: Server, destination: str, reason: str) -> int:
    with sqlite3.connect(f"file:{DataDir(server.data_dir).state}?mode=ro", uri=True) as db:
        query = "SELECT coalesce(sum(count), 0) FROM lane_books WHERE destination=? AND outcome='failed' AND reason=?"
        count: int = db.execute(query, (destination, reason)).fetchone()[0]
        return count


def reload_with(server: Server, sources: Sequence[str], destinations: Sequence[dict[str, Any]]) -> None:
    before = server.health()["snapshot"]
    server.reconfigure(workspace([source(slug) for slug in sources], destinations))
    server.wait_for_workspace(before)


def send(server: Server, write_key: str, prefix: str, count: int) -> set[str]:
    ids = [f"{prefix}-{number}" for number in range(count)]
    server.send(write_key, *({"type": "track", "event": "E", "userId": "u", "messageId": one} for one in ids))
    return set(ids)


def test_destinations_come_and_go_under_load(sink: Sink, make_server: MakeServer) -> None:
    first, second = sink.place("first"), sink.place("second")
    one, two = webhook("one", first.url, ["web"]), webhook("two", second.url, ["web", "app"])
    server = make_server(workspace([source("web")], [one]))
    server.start()
    with Watch(server) as watch, Load(server.port, "wk_web", "e", events_per_s=600, batch=10) as load:
        wait_until(lambda: len(first.ids()) > 100, "the first destination gets events")
        reload_with(server, ["web", "app"], [one, two])
        wait_until(lambda: len(second.ids()) > 100, "the added destination gets events")
        new_source = send(server, "wk_app", "app", 20)
        wait_until(lambda: new_source <= second.ids(), "the added source's events arrive")
        reload_with(server, ["web", "app"], [one, two | {"sources": ["app"]}])
        wait_until(lambda: server.balanced_books().destinations["two"].pending == 0, "the lane empties")
        settled = len(second.ids())
        more = len(first.ids()) + 200
        wait_until(lambda: len(first.ids()) > more, "events go on")
        assert len(second.ids()) == settled, "a destination got events of a source it is no longer connected to"
        reload_with(server, ["web", "app"], [one])
        reload_with(server, ["web", "app"], [one, two])
        more = len(second.ids()) + 100
        wait_until(lambda: len(second.ids()) > more, "the destination that was created anew gets events")
    books = server.wait_until_drained("one", "two")
    assert load.failures == []
    assert watch.problems == []
    assert watch.checks > 5
    assert first.taken == dict.fromkeys(load.acked, 1)
    assert second.doubles() == 0
    assert books.destinations["one"].delivered == len(load.acked)
    assert books.destinations["two"].delivered == len(second.ids())
    assert server.verify()[0] == 0


def test_a_disabled_destination_keeps_what_was_queued_and_gets_nothing_of_the_gap(
    sink: Sink, make_server: MakeServer
) -> None:
    hook, other = sink.place("hook"), sink.place("other")
    hook.always(Reply(500))
    on, rest = webhook("hook", hook.url, ["web"]), webhook("other", other.url, ["web"])
    off = on | {"enabled": False}
    server = make_server(workspace([source("web")], [on, rest]), settings={"lane_concurrency": "4"})
    server.start()
    with Watch(server) as watch, Load(server.port, "wk_web", "during", events_per_s=200, batch=5) as load:
        queued = set()
        for number in range(10):
            queued |= send(server, "wk_web", f"queued{number}", 10)
        wait_until(lambda: queued <= other.ids(), "the other destination gets all")
        wait_until(lambda: hook.received.total() >= 20, "attempts fail until the circuit opens")
        reload_with(server, ["web"], [off, rest])
        hook.always(OK)
        gap = set()
        for number in range(10):
            gap |= send(server, "wk_web", f"gap{number}", 10)
        wait_until(lambda: gap <= other.ids(), "the other destination gets all")
        line = server.balanced_books().destinations["hook"]
        assert line.pending >= len(queued), "what was queued stays pending"
        in_flight_at_most = 4
        assert len(hook.ids()) <= in_flight_at_most, "a disabled destination gets nothing new"
    assert load.failures == []
    server.kill()
    server.start()
    line = server.balanced_books().destinations["hook"]
    assert line.pending >= len(queued) - in_flight_at_most
    with Watch(server) as second_watch:
        reload_with(server, ["web"], [on, rest])
        after = send(server, "wk_web", "after", 20)
        books = server.wait_until_drained("hook", "other")
    assert watch.problems == second_watch.problems == []
    assert queued <= hook.ids()
    assert after <= hook.ids()
    assert not gap & hook.ids()
    assert books.destinations["hook"].delivered == books.destinations["hook"].received == len(hook.ids())


def test_deleting_a_destination_fails_what_is_pending(sink: Sink, make_server: MakeServer) -> None:
    hook, other = sink.place("hook"), sink.place("other")
    hook.answer = lambda hit: OK if hit.message_id.startswith("good") else Reply(503)
    doomed, rest = webhook("hook", hook.url, ["web"]), webhook("other", other.url, ["web"])
    server = make_server(workspace([source("web")], [doomed, rest]), settings={"lane_concurrency": "4"})
    server.start()
    with Watch(server) as watch:
        good = send(server, "wk_web", "good", 10)
        wait_until(lambda: hook.ids() == good, "the good ones arrive")
        bad = set()
        for number in range(10):
            bad |= send(server, "wk_web", f"bad{number}", 10)
        wait_until(lambda: bad <= other.ids() and hook.received.total() >= 30, "attempts fail until the circuit opens")
        hook.always(HANG)
        wait_until(lambda: len(hook.hanging) > 0, "a probe hangs")
        reload_with(server, ["web"], [rest])
        books = server.wait_until_drained("hook", "other")
        line = books.destinations["hook"]
        assert (line.received, line.delivered, line.failed, line.pending) == (110, 10, 100, 0)
        assert failed_because(server, "hook", "destination_deleted") == 100
        unseen = send(server, "wk_web", "unseen", 10)
        wait_until(lambda: unseen <= other.ids(), "the other destination goes on")
        hook.always(OK)
        reload_with(server, ["web"], [doomed, rest])
        anew = send(server, "wk_web", "anew", 10)
        books = server.wait_until_drained("hook", "other")
    assert watch.problems == []
    assert hook.ids() == good | anew
    assert books.destinations["hook"].delivered == 20
    assert books.destinations["hook"].received == 120


def test_mended_settings_help_events_that_wait(sink: Sink, make_server: MakeServer) -> None:
    wrong, right = sink.place("wrong"), sink.place("right")
    wrong.always(Reply(503))
    server = make_server(workspace([source("web")], [webhook("hook", wrong.url, ["web"])]))
    server.start()
    ids = send(server, "wk_web", "m", 20)
    wait_until(lambda: wrong.received.total() >= 20, "attempts fail")
    reload_with(server, ["web"], [webhook("hook", right.url, ["web"])])
    books = server.wait_until_drained("hook")
    assert right.ids() == ids
    assert books.destinations["hook"].delivered == 20


def test_a_broken_file_keeps_the_last_good_workspace(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    good = workspace([source("web")], [webhook("hook", hook.url, ["web"])])
    server = make_server(good)
    server.start()
    version = server.health()["snapshot"]
    assert server.health()["problems"] == []
    server.reconfigure(good.replace('"webhook"', '"telegraph"'))
    wait_until(lambda: bool(server.health()["problems"]), "/health tells of the problem")
    assert "telegraph" in str(server.health()["problems"])
    assert server.health()["snapshot"] == version
    ids = send(server, "wk_web", "warm", 5)
    wait_until(lambda: ids <= hook.ids(), "events are delivered")
    assert server.stop() == 0
    server.start()  # a cold start on the broken file
    assert server.health()["snapshot"] == version
    assert "telegraph" in str(server.health()["problems"])
    ids = send(server, "wk_web", "cold", 5)
    wait_until(lambda: ids <= hook.ids(), "events are delivered")
    server.reconfigure("{")
    wait_until(lambda: "telegraph" not in str(server.health()["problems"]), "/health tells of the new problem")
    server.reconfigure(good)
    wait_until(lambda: server.health()["problems"] == [], "the problem is gone")
    server.wait_until_drained("hook")


def test_without_any_good_workspace_serve_says_so(make_server: MakeServer) -> None:
    server = make_server("sources: 7\n")
    server.spawn()
    assert server.wait_for_end() != 0
    assert "sources" in server.log_text()
    assert "cannot be used" in server.log_text()
