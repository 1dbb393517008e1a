"""Replay: from the archive to a destination once more, counted apart from live events."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from tests.acceptance.test_reload import Watch, reload_with, send
from tests.support.fixtures import MakeServer
from tests.support.server import Server, run_trunkline
from tests.support.sink import OK, Hit, Reply, Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.runtime.layout import DataDir


def replay(server: Server, *arguments: str, status: int = 0) -> str:
    """Run a subcommand of ``replay``; what it prints."""
    command, *options = arguments
    done = run_trunkline("replay", command, *options, "--data-dir", server.data_dir, timeout_s=120)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


def start(server: Server, *options: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(replay(server, "start", *options, "--yes", "--json"))
    assert report["started"]
    return report


def show(server: Server, replay_id: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(replay(server, "show", replay_id, "--json"))
    return report


def wait_for_end(server: Server, replay_id: str) -> dict[str, int]:
    """The replay's line, once nothing is pending; the books must balance all the while."""

    def ended() -> bool:
        return server.balanced_books().replays[replay_id].pending == 0

    wait_until(ended, lambda: f"{replay_id} ends: {server.books().as_json()}\n{server.log_tail()}", timeout_s=120)
    status, report = server.verify()
    assert (status, report["problems"]) == (0, [])
    line: dict[str, int] = report["replays"][replay_id]
    return line


def reasons(server: Server, lane: str) -> dict[tuple[str, str], int]:
    with sqlite3.connect(f"file:{DataDir(server.data_dir).state}?mode=ro", uri=True) as db:
        query = "SELECT outcome, reason, sum(count) FROM lane_books WHERE destination=? GROUP BY outcome, reason"
        return {(outcome, reason): count for outcome, reason, count in db.execute(query, (lane,))}


def test_what_a_disabled_destination_missed_arrives_in_one_step(sink: Sink, make_server: MakeServer) -> None:
    hook, other = sink.place("hook"), sink.place("other")
    on, rest = webhook("hook", hook.url, ["web", "app"]), webhook("other", other.url, ["web", "app"])
    off = on | {"enabled": False}
    server = make_server(workspace([source("web"), source("app")], [on, rest]))
    server.start()
    with Watch(server) as watch:
        before = send(server, "wk_web", "before", 30)
        wait_until(lambda: before <= hook.ids(), "the destination gets events")
        reload_with(server, ["web", "app"], [off, rest])
        gap = set()
        for number in range(10):
            gap |= send(server, "wk_web", f"web{number}", 20) | send(server, "wk_app", f"app{number}", 10)
        wait_until(lambda: gap <= other.ids(), "the other destination gets all")
        reload_with(server, ["web", "app"], [on, rest])
        after = send(server, "wk_web", "after", 30)
        wait_until(lambda: after <= hook.ids(), "the destination gets events again")
        hook.keep_hits = True
        report = start(server, "--to", "hook", "--gap")
        assert report["events"] == len(gap) == 300
        assert report["warnings"] == []
        line = wait_for_end(server, report["id"])
        assert line == {"selected": 300, "filtered_at_destination": 0, "delivered": 300, "failed": 0, "pending": 0}
        again = replay(server, "start", "--to", "hook", "--gap", "--yes", status=1)
    assert report["id"] in again, "the same gap is not replayed twice"
    assert watch.problems == []
    assert hook.taken == dict.fromkeys(before | gap | after, 1)
    assert {hit.message_id for hit in hook.hits} == gap
    assert all(hit.json()["integrations"] == {"All": False, "hook": True} for hit in hook.hits)
    books = server.wait_until_drained("hook", "other").destinations
    assert books["hook"].received == books["hook"].delivered == 60
    assert set(books) == {"hook", "other"}, "replays have no line among the destinations"
    assert show(server, report["id"])["status"] == "done"
    server.stop()
    assert server.verify()[0] == 0
    with sqlite3.connect(DataDir(server.data_dir).state) as db:
        assert db.execute("DELETE FROM lanes WHERE destination=?", (f"replay:{report['id']}",)).rowcount == 1
    status, found = server.verify()
    assert (status, found["balanced"]) == (1, False)
    assert report["id"] in str(found["problems"])


def test_a_disabled_destination_gets_a_choice_by_type_and_name(sink: Sink, make_server: MakeServer) -> None:
    hook, cold = sink.place("hook"), sink.place("cold")
    cold.keep_hits = True
    server = make_server(
        workspace(
            [source("web"), source("elsewhere")],
            [webhook("hook", hook.url, ["web"]), webhook("cold", cold.url, ["elsewhere"], enabled=False)],
        )
    )
    server.start()
    wanted, consent = set(), {"categoryPreferences": {"Advertising": True}}
    for number in range(10):
        events: list[dict[str, Any]] = [
            {"type": "track", "event": "Wanted", "integrations": {"Other": {"x": 1}}, "context": {"consent": consent}},
            {"type": "track", "event": "Unwanted"},
            {"type": "identify"},
            {"type": "page", "name": "Wanted"},
        ]
        server.send(
            "wk_web",
            *({**one, "userId": "u", "messageId": f"{at}-{number}"} for at, one in enumerate(events)),
        )
        wanted.add(f"0-{number}")
    wait_until(lambda: len(hook.ids()) == 40, "all arrive at the live destination")
    options = ("--to", "cold", "--source", "web", "--since", "1h", "--type", "track", "--event", "Wanted")
    offer = json.loads(replay(server, "start", *options, "--json"))
    assert (offer["started"], offer["events"]) == (False, 10)
    assert ["cold is disabled" in warning for warning in offer["warnings"]] == [True]
    assert json.loads(replay(server, "list", "--json")) == [], "it only showed what would be"
    asked = replay(server, "start", *options, status=2)
    assert "--yes" in asked
    line = wait_for_end(server, start(server, *options)["id"])
    assert (line["selected"], line["delivered"]) == (10, 10)
    assert cold.taken == dict.fromkeys(wanted, 1)
    for hit in cold.hits:
        assert hit.json()["integrations"] == {"All": False, "cold": True}
        assert hit.json()["context"]["consent"] == consent
        assert hit.json()["event"] == "Wanted"
    assert "cold" not in server.balanced_books().destinations


def test_pause_resume_and_cancel(sink: Sink, make_server: MakeServer) -> None:
    hook, target = sink.place("hook"), sink.place("target")
    server = make_server(
        workspace([source("web")], [webhook("hook", hook.url, ["web"]), webhook("target", target.url, ["web"])])
    )
    server.start()
    ids = set()
    for number in range(20):
        ids |= send(server, "wk_web", f"m{number}", 20)
    wait_until(lambda: ids <= hook.ids() and ids <= target.ids(), "all arrive")
    live = target.received.total()
    replay_id = start(server, "--to", "target", "--since", "1h", "--rate", "40")["id"]
    wait_until(lambda: target.received.total() > live, "the replay begins")
    replay(server, "pause", replay_id)
    wait_until(lambda: show(server, replay_id)["status"] == "paused", "it is paused")
    still = -1

    def stands_still() -> bool:
        nonlocal still
        before, still = still, target.received.total()
        return before == still

    wait_until(stands_still, "nothing more is sent", pause_s=3)
    assert live < still < live + 400
    server.kill()
    server.start()
    assert target.received.total() == still, "it stays paused"
    replay(server, "resume", replay_id)
    wait_until(lambda: target.received.total() > still, "it goes on")
    replay(server, "cancel", replay_id)
    line = wait_for_end(server, replay_id)
    assert line["delivered"] + line["failed"] == line["selected"] == 400
    assert line["failed"] > 0
    assert reasons(server, f"replay:{replay_id}")["failed", "replay_cancelled"] == line["failed"]
    assert show(server, replay_id)["status"] == "cancelled"
    assert "is cancelled" in replay(server, "resume", replay_id, status=1)
    assert "no replay" in replay(server, "show", "nothing", status=2)
    server.stop()
    server.start()
    assert wait_for_end(server, replay_id) == line


def test_killed_workers_lose_nothing_of_two_replays(sink: Sink, make_server: MakeServer) -> None:
    hook, target = sink.place("hook"), sink.place("target")
    server = make_server(
        workspace([source("web")], [webhook("hook", hook.url, ["web"]), webhook("target", target.url, ["web"])]),
        settings={"lane_concurrency": "4"},
    )
    server.start()
    ids = set()
    for number in range(60):
        ids |= send(server, "wk_web", f"m{number}", 50)
    wait_until(lambda: ids <= hook.ids() and ids <= target.ids(), "all arrive")
    target.taken.clear()
    target.received.clear()
    seen: dict[str, int] = {}

    def answer(hit: Hit) -> Reply:
        seen[hit.message_id] = seen.get(hit.message_id, 0) + 1
        return Reply(503) if hash(hit.message_id) % 50 == 0 and seen[hit.message_id] < 2 else Reply(delay_s=0.002)

    target.answer = answer
    first = start(server, "--to", "target", "--since", "1h")["id"]
    second = start(server, "--to", "target", "--since", "1h", "--until", "now")["id"]
    for share in (500, 2000, 4000):
        wait_until(lambda share=share: target.taken.total() > share, "the replays go on", timeout_s=120)  # type: ignore[misc]
        server.kill_child("worker")
        server.balanced_books()
    target.answer = lambda hit: OK
    for replay_id in (first, second):
        line = wait_for_end(server, replay_id)
        assert (line["selected"], line["delivered"]) == (3000, 3000)
    assert set(target.taken) == ids
    assert all(count >= 2 for count in target.taken.values()), "each replay brings each event"
    books = server.balanced_books().destinations["target"]
    assert books.received == books.delivered == 3000
