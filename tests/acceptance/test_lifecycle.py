"""Starting, stopping, dying: the process tree as a whole."""

from __future__ import annotations

import json
import socket
import time
from functools import partial
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.fixtures import MakeServer
from tests.support.load import Load
from tests.support.processes import is_alive
from tests.support.server import Server, run_trunkline
from tests.support.sink import HANG, OK, Place, Reply, Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace

SIGTERM_CONTRACT_S = 20


def test_a_second_server_on_the_same_data_is_refused(sink: Sink, make_server: MakeServer) -> None:
    server = make_server(workspace([source("web")], []))
    server.start()
    second = make_server(workspace([source("web")], []), data_dir=server.data_dir)
    second.spawn()
    assert second.wait_for_end() == 2
    assert "is being served already" in second.log_text()
    assert str(server.pid) in second.log_text()
    assert "--data-dir" in second.log_text()
    assert server.is_healthy()


def test_a_port_in_use_is_refused_clearly(make_server: MakeServer) -> None:
    server = make_server(workspace([source("web")], []))
    with socket.create_server(("127.0.0.1", server.port)):
        server.spawn()
        assert server.wait_for_end() == 2
    assert f"cannot listen on 127.0.0.1:{server.port}" in server.log_text()
    assert "--port" in server.log_text()
    server.start()


def test_sigterm_under_load_loses_nothing(sink: Sink, make_server: MakeServer) -> None:
    hook, stuck = sink.place("hook"), sink.place("stuck")
    stuck.always(HANG)
    server = make_server(
        workspace([source("web")], [webhook("hook", hook.url, ["web"]), webhook("stuck", stuck.url, ["web"])]),
        settings={"send_timeout_s": "600", "lane_concurrency": "4", "shutdown_grace_s": "4"},
    )
    server.start()
    with Load(server.port, "wk_web", "e", events_per_s=1000, batch=20) as load:
        wait_until(lambda: len(load.acked) > 500 and bool(stuck.hanging), "load is under way")
        children = server.children()
        server.terminate()
        # The contract is 20 s; what this machine itself is late by comes on top.
        assert server.wait_for_end(SIGTERM_CONTRACT_S + 10) == 0
    assert not any(is_alive(pid) for pid in children)
    line = server.balanced_books().destinations
    assert line["hook"].delivered == len(hook.ids())
    assert line["hook"].failed == line["stuck"].failed == 0
    assert line["stuck"].pending == line["stuck"].received >= len(load.acked)
    stuck.always(OK)
    stuck.let_go()
    server.start()
    books = server.wait_until_drained("hook", "stuck")
    assert set(load.acked) <= hook.ids()
    assert hook.ids() == stuck.ids()
    assert hook.doubles() == 0, "an ordered stop records every outcome"
    assert books.destinations["stuck"].delivered == len(stuck.ids())


def test_a_child_that_dies_comes_back_and_the_port_stays_open(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    server = make_server(workspace([source("web")], [webhook("hook", hook.url, ["web"])]))
    server.start()
    with Load(server.port, "wk_web", "e", events_per_s=500) as load:
        for role in ("ingest", "worker"):
            wait_until(lambda: len(load.acked) > 100, "load is under way")
            old = server.kill_child(role)
            wait_until(partial(_replaced, server, role, old), "there is a new one")
            acked, delivered = len(load.acked), len(hook.ids())
            wait_until(
                partial(_goes_on, load, hook, acked, delivered),
                "events are taken and delivered again",
            )
    assert load.refused == 0
    books = server.wait_until_drained("hook")
    assert set(load.acked) <= hook.ids()
    assert books.destinations["hook"].delivered == len(hook.ids())


def test_children_leave_when_their_supervisor_is_killed(sink: Sink, make_server: MakeServer) -> None:
    hook, stuck = sink.place("hook"), sink.place("stuck")
    stuck.always(HANG)
    server = make_server(
        workspace([source("web")], [webhook("hook", hook.url, ["web"]), webhook("stuck", stuck.url, ["web"])]),
        settings={"shutdown_grace_s": "3", "send_timeout_s": "600"},
    )
    server.start()
    with Load(server.port, "wk_web", "e", events_per_s=500) as load:
        wait_until(lambda: len(hook.ids()) > 100 and bool(stuck.hanging), "load is under way")
        left = server.kill_supervisor()
        assert len(left) == 3
        server.start()  # at once, while the old children are still ending
        acked = len(load.acked)
        wait_until(lambda: len(load.acked) > acked + 50, "the new one takes events")
        wait_until(lambda: not any(is_alive(pid) for pid in left), "the old children have left")
    stuck.always(OK)
    stuck.let_go()
    server.wait_until_drained("hook", "stuck")
    assert set(load.acked) <= hook.ids()
    assert hook.ids() == stuck.ids()


def test_no_secret_in_logs_no_cookie_anywhere(sink: Sink, make_server: MakeServer, tmp_path: Path) -> None:
    hook = sink.place("hook")
    hook.answer = lambda hit: Reply(500) if hook.received[hit.message_id] == 1 else OK
    from_file = tmp_path / "token"
    from_file.write_text("f1le-s3cret-value\n")
    secrets = ["plain-s3cret-value", "header-s3cret-value", "f1le-s3cret-value"]
    destination = webhook(
        "hook",
        hook.url,
        ["web"],
        shared_secret=secrets[0],
        headers={"Authorization": f"Bearer {secrets[1]}", "X-Token": {"file": str(from_file)}},
    )
    broken = destination | {"settings": destination["settings"] | {"url": "no address"}}
    server = make_server(workspace([source("web")], [destination]))
    server.start()
    secrets.append((server.data_dir / "master.key").read_text("latin-1").strip())
    server.send("wk_web", {"type": "track", "event": "E", "userId": "u", "messageId": "m1"})
    server.wait_until_drained("hook")
    before = server.health()["problems"]
    server.reconfigure(workspace([source("web")], [broken]))
    wait_until(lambda: server.health()["problems"] != before, "the broken file is noticed")
    server.kill_child("worker")
    server.kill_child("ingest")
    wait_until(lambda: server.log_text().count("child.died") >= 2, "both deaths are logged")
    wait_until(server.is_healthy, "ingest is back")
    event = json.dumps({"writeKey": "wk_web", "type": "track", "event": "E", "userId": "u"}).encode()
    answers = [
        server.request("POST", "/v1/track", event, {"Cookie": "a=b"}),
        server.request("POST", "/v1/track", b"{"),
        server.request("OPTIONS", "/v1/track", headers={"Origin": "https://example.com"}),
        server.request("GET", "/v1/pixel/track?data=e30"),
        server.request("GET", "/v1/projects/wk_web/settings"),
        server.request("GET", "/v1/projects/unknown/settings"),
        server.request("GET", "/nowhere"),
        server.request("GET", "/health"),
        server.request("GET", "/metrics"),
    ]
    for answer in answers:
        assert "set-cookie" not in answer.headers
    told = [server.log_text(), *(answer.body.decode("latin-1") for answer in answers), json.dumps(server.verify()[1])]
    for secret in secrets:
        assert not any(secret in text for text in told), secret
    stored = [path for path in server.data_dir.rglob("*") if path.is_file() and path.name != "master.key"]
    for secret in secrets:
        assert not any(secret.encode() in path.read_bytes() for path in stored), secret


def test_an_unknown_key_leaves_a_trace(make_server: MakeServer) -> None:
    server = make_server(workspace([source("web"), source("off", enabled=False)], []))
    server.start()
    for key, count in (("wk_forgotten", 3), ("wk_off", 2)):
        for _ in range(count):
            payload = {"writeKey": key, "type": "track", "event": "E", "userId": "u"}
            assert server.post("/v1/track", payload).status == 200

    def traces() -> dict[str, int]:
        done = run_trunkline("unknown-keys", "--json", "--data-dir", server.data_dir)
        assert done.returncode == 0, done.stderr
        return {entry["key_end"]: entry["count"] for entry in json.loads(done.stdout)}

    wait_until(lambda: traces() == {"tten": 3, "_off": 2}, lambda: f"both keys are shown: {traces()}", pause_s=0.5)
    done = run_trunkline("unknown-keys", "--data-dir", server.data_dir)
    assert "tten" in done.stdout
    assert "wk_forgotten" not in done.stdout + server.log_text()
    assert server.stop() == 0
    assert traces() == {"tten": 3, "_off": 2}


def test_metrics_parse_and_count(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    server = make_server(workspace([source("web")], [webhook("hook", hook.url, ["web"])]))
    server.start()
    events = [{"type": "track", "event": "E", "userId": "u", "messageId": f"m{number % 8}"} for number in range(10)]
    server.send("wk_web", *events)
    server.wait_until_drained("hook")

    def samples() -> dict[tuple[str, str, str], float]:
        answer = server.request("GET", "/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain")
        found: dict[tuple[str, str, str], float] = {}
        for family in text_string_to_metric_families(answer.body.decode()):
            for sample in family.samples:
                where = sample.labels.get("destination", sample.labels.get("source", ""))
                found[sample.name, where, sample.labels.get("outcome", "")] = sample.value
        return found

    def counted() -> bool:
        now = samples()
        return (
            now.get(("trunkline_destination_events_total", "hook", "delivered")) == 8
            and now.get(("trunkline_source_events_total", "web", "filtered_at_source")) == 2
        )

    wait_until(counted, lambda: f"the metrics count what happened: {samples()}", pause_s=0.3)
    forwarded = server.request("GET", "/metrics", headers={"X-Forwarded-For": "192.0.2.1"})
    assert forwarded.status == 403


def test_ready_means_ready(sink: Sink, make_server: MakeServer) -> None:
    """The first 200 of /health comes when events can be taken; the state and the log can be checked by then."""
    hook = sink.place("hook")
    server = make_server(workspace([source("web")], [webhook("hook", hook.url, ["web"])]))
    server.spawn()
    until = time.monotonic() + 60
    while not server.is_healthy():
        assert time.monotonic() < until, server.log_tail()
        assert server.runs, server.log_tail()
    assert server.verify()[0] == 0
    server.send("wk_web", {"type": "track", "event": "E", "userId": "u", "messageId": "m1"})
    assert server.wait_until_drained("hook").destinations["hook"].delivered == 1
    assert server.data_dir.stat().st_mode & 0o077 == 0, "events are for the owner's eyes only"


def _replaced(server: Server, role: str, old: int) -> bool:
    return server.children(role) not in ([], [old])


def _goes_on(load: Load, hook: Place, acked: int, delivered: int) -> bool:
    return len(load.acked) > acked + 50 and len(hook.ids()) > delivered + 50
