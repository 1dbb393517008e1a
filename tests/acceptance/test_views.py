"""The views on the delivery record tell of a real server what became of its events."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from tests.support.fixtures import MakeServer
from tests.support.server import Server
from tests.support.sink import Hit, Reply, Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.cli.main import program


def track(message_id: str, **more: object) -> dict[str, object]:
    return {"type": "track", "event": "Order Completed", "userId": "u1", "messageId": message_id, **more}


def run_here(*arguments: str | Path) -> Result:
    """A command in this process: a new one takes seconds to start, and there are many."""
    return CliRunner().invoke(program(), [str(argument) for argument in arguments], env={"COLUMNS": "80"})


def view(server: Server, *arguments: str) -> Any:
    """A command's JSON; it must succeed."""
    done = run_here(*arguments, "--json", "--data-dir", server.data_dir)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def story(server: Server, message_id: str) -> Any:
    return view(server, "why", message_id)


def told(server: Server, message_id: str) -> str:
    """What ``why`` prints for people, without line ends."""
    done = run_here("why", message_id, "--data-dir", server.data_dir)
    assert done.exit_code == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "replay start" not in line), done.stdout
    return " ".join(done.stdout.split())


def endings(arrival: Any) -> dict[str, str]:
    return {ending["destination"]: ending["status"] for ending in arrival["destinations"]}


class Moody:
    """400 for ids that say bad, 503 once for ids that say slow, 503 always for ids that say never."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __call__(self, hit: Hit) -> Reply:
        if hit.message_id.startswith("bad"):
            return Reply(400, body=b'{"error": "no such field"}')
        if hit.message_id.startswith("never"):
            return Reply(503, headers={"Retry-After": "3600"})
        if hit.message_id.startswith("slow") and hit.message_id not in self.seen:
            self.seen.add(hit.message_id)
            return Reply(503)
        return Reply()


def test_what_became_of_each_event(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    hook.answer = Moody()
    config = workspace(
        [source("web")], [webhook("hook", hook.url, ["web"]), webhook("off", hook.url, ["web"], enabled=False)]
    )
    server = make_server(config)
    server.start()
    server.send("wk_web", track("good"), track("slow"), track("bad"), track("good"))
    server.post(
        "/v1/batch", {"writeKey": "wk_web", "batch": [{"type": "track", "userId": "u", "messageId": "no-name"}]}
    )
    server.wait_until_drained("hook")

    # Delivered at the first attempt; a second copy is a duplicate; the other destination was never enabled.
    first, second = story(server, "good")["arrivals"]
    assert (first["status"], endings(first)) == ("accepted", {"hook": "delivered", "off": "not connected"})
    assert (second["status"], second["destinations"]) == ("discarded", [])
    text = told(server, "good")
    assert "hook: Delivered at the first attempt." in text
    assert "Discarded as duplicate" in text
    assert "off: Off: it was never enabled" in text

    # 503, then delivered.
    [slow] = story(server, "slow")["arrivals"]
    [ending] = [ending for ending in slow["destinations"] if ending["destination"] == "hook"]
    assert [(one["number"], one["outcome"], one["reason"]) for one in ending["attempts"]] == [
        (1, "retry", "503"),
        (2, "delivered", ""),
    ]
    assert "Delivered at attempt 2" in told(server, "slow")

    # 400 fails at once, with what the destination answered.
    [bad] = story(server, "bad")["arrivals"]
    assert endings(bad)["hook"] == "failed"
    text = told(server, "bad")
    assert "Failed after 1 attempt with 400 Bad request" in text
    assert "no such field" in text
    assert "trunkline replay start --to hook --source web --since" in text

    # Rejected at ingest.
    [rejected] = story(server, "no-name")["arrivals"]
    assert rejected["status"] == "refused"
    assert "Refused as event_not_defined: A track event has no event name. Mend: Send the name" in told(
        server, "no-name"
    )

    # Unknown: where it looked.
    done = run_here("why", "never-sent", "--data-dir", server.data_dir)
    assert done.exit_code == 1
    assert "the log, back to" in done.stdout

    # The same in numbers.
    deliveries = view(server, "deliveries")
    line = deliveries["destinations"]["hook"]
    assert (line["delivered"], line["delivered_at_first_attempt"], line["failed"]) == (2, 1, 1)
    reasons = {reason["reason"]: reason for reason in line["reasons"]}
    assert reasons["400"]["failed"] == {"events": 1, "requests": 1}
    assert reasons["503"]["repeated"] == {"events": 1, "requests": 1}
    assert deliveries["sources"]["web"]["reasons"] == {"duplicate": 1, "event_not_defined": 1}
    assert line["latency_ms"]["p50"] > 0
    [sample] = view(server, "deliveries", "--samples", "--by", "name")["destinations"]["hook"]["samples"][-1:]
    assert "messageId" in sample["sent"]
    [gap] = view(server, "gaps", "--destination", "hook")
    assert (gap["kind"], gap["events"], gap["reasons"], gap["replayed_by"]) == ("failed", 1, {"400": 1}, [])


def test_what_still_waits_and_what_was_missed(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    hook.answer = Moody()

    def config(*, enabled: bool) -> str:
        return workspace([source("web")], [webhook("hook", hook.url, ["web"], enabled=enabled)])

    server = make_server(config(enabled=True))
    server.start()
    server.send("wk_web", track("never"))
    wait_until(lambda: hook.received["never"] == 1, "it was attempted")
    wait_until(lambda: "Waits for attempt 2" in told(server, "never"), "the retry is committed")
    assert "503 Service unavailable" in told(server, "never")
    assert view(server, "deliveries")["destinations"]["hook"]["pending_retry"] == 1

    def closed_at_boundary() -> None:
        before = server.health()["snapshot"]
        server.reconfigure(config(enabled=False))
        server.wait_for_workspace(before)

    closed_at_boundary()
    server.send("wk_web", track("missed"))
    wait_until(lambda: story(server, "missed")["arrivals"][0]["status"] == "accepted", "it is accepted")
    [missed] = story(server, "missed")["arrivals"]
    assert endings(missed) == {"hook": "not connected"}
    text = told(server, "missed")
    assert "Disabled or not connected when the event came" in text
    assert "trunkline replay start --to hook --source web --gap" in text
    [gap] = view(server, "gaps")
    assert (gap["kind"], gap["events"], gap["until_ms"]) == ("closed", 1, None)

    def lanes() -> Any:
        done = run_here("lanes", "--json", "--data-dir", server.data_dir)
        return {lane["destination"]: lane for lane in json.loads(done.stdout)["lanes"]} if done.stdout else {}

    wait_until(lambda: lanes().get("hook", {}).get("held_by") == ["disabled"], "the lane is held")
    assert "it is disabled" in told(server, "never")

    assert server.stop() == 0
    wait_until(lambda: run_here("lanes", "--data-dir", server.data_dir).exit_code == 1, "the lanes' status is stale")
    assert "The worker does not run" in told(server, "never")


def test_a_gap_is_closed_by_its_command(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    hook.answer = Moody()
    config = workspace([source("web")], [webhook("hook", hook.url, ["web"])])
    server = make_server(config, settings={"archive_flush_s": "1"})
    server.start()
    server.send("wk_web", track("bad"))
    server.wait_until_drained("hook")
    [gap] = view(server, "gaps")
    hook.always(Reply())
    words = shlex.split(gap["command"])
    assert words[0] == "trunkline"
    done = run_here(*words[1:], "--yes")
    assert done.exit_code == 0, done.stderr
    [replay] = view(server, "gaps")[0]["replayed_by"]
    wait_until(lambda: hook.taken["bad"] == 1, lambda: f"the replay brings it\n{server.log_tail()}")
    assert f"replay:{replay}" in told(server, "bad")
    assert f"replayed: {replay}" in run_here("gaps", "--data-dir", server.data_dir).stdout
    wait_until(lambda: f"replay:{replay}" in view(server, "deliveries")["destinations"], "the record tells of it")


def test_commands_say_what_they_cannot_do(sink: Sink, make_server: MakeServer) -> None:
    server = make_server(workspace([source("web")], [webhook("hook", sink.place("hook").url, ["web"])]))
    server.start()
    server.send("wk_web", track("before"))
    server.wait_until_drained("hook")
    assert server.stop() == 0
    done = run_here("why", "before", "--data-dir", server.data_dir.parent / "elsewhere")
    assert done.exit_code == 2
    assert "--data-dir" in done.stderr
    done = run_here("deliveries", "--since", "yesterday", "--data-dir", server.data_dir)
    assert done.exit_code == 2
    assert "24h" in done.stderr
