"""A rehearsal on the traffic of a real tree: beside it and after it, against what the change then does live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.fixtures import MakeServer
from tests.support.server import Server, run_trunkline
from tests.support.sink import Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace


def track(message_id: str, event: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "userId": "u1", "messageId": message_id, "properties": properties}


def rehearsed(server: Server, config: Path) -> dict[str, Any]:
    done = run_trunkline("rehearse", "--config", config, "--data-dir", server.data_dir, "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_what_a_rehearsal_says_is_what_happens(sink: Sink, make_server: MakeServer, tmp_path: Path) -> None:
    place = sink.place("hook")
    old = workspace([source("web")], [webhook("hook", place.url, ["web"])])
    drop = {"if": 'event = "Heartbeat"', "action": "drop"}
    new = workspace(
        [source("web", schema_filters={"blocked_events": ["Noise"]})],
        [webhook("hook", place.url, ["web"]) | {"filters": [drop]}],
    )
    events = [track(f"m{number}", name) for number, name in enumerate(["Order", "Heartbeat", "Noise", "Order"] * 3)]
    server = make_server(old)
    server.start()
    for event in [*events, events[0]]:
        server.send("wk_web", event)
    server.wait_until_drained("hook")
    file = tmp_path / "new.yaml"
    file.write_text(new)
    beside = rehearsed(server, file)
    assert (beside["complete"], beside["traffic"]["events"], beside["traffic"]["from_ingested"]) == (True, 12, 12)
    hook = beside["destinations"]["hook"]
    assert {change["reason"]: change["events"] for change in hook["newly_dropped"]} == {
        "FILTERED_BY_RULES": 3,
        "event_setting": 3,
    }
    assert (hook["passed_today"], hook["passed_new"]) == (12, 6)
    # Now it comes into force, and the same traffic comes once more.
    version = server.health()["snapshot"]
    server.reconfigure(new)
    server.wait_for_workspace(version)
    for event in events:
        server.send("wk_web", event | {"messageId": f"again-{event['messageId']}"})
    books = server.wait_until_drained("hook")
    assert books.destinations["hook"].delivered == 12 + hook["passed_new"]
    assert server.stop() == 0
    after = rehearsed(server, server.config_file)
    assert (after["changes"], after["traffic"]["events"], after["traffic"]["blocked"]) == (False, 24, 3)
    back = tmp_path / "old.yaml"
    back.write_text(old)
    assert [change["events"] for change in rehearsed(server, back)["sources"]["web"]["newly_let_through"]] == [6]


def test_what_a_killed_server_did_not_archive(sink: Sink, make_server: MakeServer) -> None:
    """A rehearsal has it from the log; a replay says what is missing, and waits for nobody."""
    place = sink.place("hook")
    server = make_server(workspace([source("web")], [webhook("hook", place.url, ["web"])]))
    server.start()
    server.send("wk_web", *(track(f"m{number}", "Order") for number in range(30)))
    server.wait_until_drained("hook")
    server.kill()
    assert rehearsed(server, server.config_file)["traffic"]["events"] == 30
    start = ("replay", "start", "--to", "hook", "--since", "1h", "--yes", "--data-dir", server.data_dir)
    done = run_trunkline(*start)
    assert (done.returncode, done.stdout) == (2, "")
    [said] = done.stderr.splitlines()
    assert said.startswith(f"trunkline: 30 events in {server.data_dir} are accepted and not archived yet")
    server.start()
    assert run_trunkline(*start).returncode == 0
    wait_until(lambda: place.received.total() == 60, "all are sent once more")
