"""``trunkline send`` against a real server, and against a peer that misbehaves."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.fixtures import MakeServer
from tests.support.server import TRUNKLINE, Server, clean_environment, run_trunkline
from tests.support.sink import Hit, Reply, Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.clock import SystemClock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.secrets import Secrets
from trunkline.workspace.loader import load
from trunkline.workspace.store import ConfigStore

TAKEN = Reply(body=b'{"success":true}')


@pytest.fixture
def served(sink: Sink, make_server: MakeServer) -> Server:
    """A server whose source ``web`` is connected to the sink's place ``hook``."""
    server = make_server(workspace([source("web")], [webhook("hook", sink.place("hook").url, ["web"])]))
    sink.place("hook").keep_hits = True
    server.start()
    return server


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def send(server: Server, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_trunkline("send", "--data-dir", server.data_dir, "--url", url_of(server), *arguments)


def send_file(server: Server, path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return send(server, "--file", path, *arguments)


def send_command(server: Server, path: Path | str) -> list[str]:
    return [
        *(str(TRUNKLINE), "send", "--data-dir", str(server.data_dir), "--url", url_of(server)),
        *("--file", str(path)),
    ]


def event(number: int, **more: Any) -> dict[str, Any]:
    """An archived event. Every third has no messageId of its own."""
    own_id = {} if number % 3 == 0 else {"messageId": f"m{number}"}
    times = {"timestamp": "2024-05-01T10:00:03.100Z", "originalTimestamp": "2024-05-01T10:00:00.000Z"}
    return {
        "type": "track",
        "event": "Old",
        "userId": f"u{number}",
        **own_id,
        **times,
        "sentAt": times["timestamp"],
    } | more


def write_events(path: Path, first: int, last: int, *, append: bool = False) -> None:
    text = "".join(json.dumps(event(number)) + "\n" for number in range(first, last))
    with path.open("a" if append else "w") as file:
        file.write(text)


def users(sink: Sink) -> list[str]:
    return sorted(hit.json()["userId"] for hit in sink.place("hook").hits)


def all_users(count: int) -> list[str]:
    return sorted(f"u{number}" for number in range(count))


def test_one_event_reaches_the_destination(served: Server, sink: Sink) -> None:
    done = send(
        served,
        *("--type", "track", "--event", "Order Completed", "--user", "u1", "--message-id", "m1"),
        *("--property", "revenue=42", "--property", "plan=pro", "--property", 'items=["a"]'),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith('Taken: track "Order Completed", messageId m1.')
    served.wait_until_drained("hook")
    [hit] = sink.place("hook").hits
    arrived = hit.json()
    assert arrived["properties"] == {"revenue": 42, "plan": "pro", "items": ["a"]}
    assert (arrived["type"], arrived["event"], arrived["userId"]) == ("track", "Order Completed", "u1")


def test_the_verdict_on_a_rejected_event(served: Server) -> None:
    done = send(served, "--type", "identify", "--trait", "plan=pro")
    assert done.returncode == 1
    assert done.stdout == (
        "Rejected (no_user_anon_id): The event has neither userId nor anonymousId. Send one of them.\n"
    )


def test_an_unknown_key_is_told_though_the_api_answers_200(served: Server) -> None:
    done = run_trunkline("send", "--url", url_of(served), "--write-key", "wk_wrong", "--user", "u1")
    assert done.returncode == 2
    assert "No source has this write key" in done.stderr
    assert "rong" in run_trunkline("unknown-keys", "--data-dir", served.data_dir).stdout


@pytest.fixture
def workspace_dir(tmp_path: Path) -> Path:
    """A data directory with an active workspace, that nobody serves."""
    config, data_dir = tmp_path / "w.yaml", tmp_path / "data"
    config.write_text(workspace([source("web")], []))
    secrets = Secrets.open(data_dir)
    snapshot = load(config, NATIVE_DESTINATIONS, secrets).snapshot
    assert snapshot is not None
    with ConfigStore(data_dir, secrets, SystemClock()) as store:
        store.activate(snapshot, "w.yaml")
    return data_dir


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--url", "ftp://x", "--write-key", "k"], "is not an address"),
        (["--write-key", "k", "--source", "web"], "give one"),
        (["--source", "nope"], "there is no source 'nope'; there are: web"),
        (["--property", "x"], "is not NAME=VALUE"),
        (["--type", "trck"], "there is no type 'trck'"),
        (["--json", "[1]"], "not a JSON object"),
        (["--rate", "5"], "belong to --file"),
        (["--file", "/nowhere/events"], "No such file"),
    ],
)
def test_what_cannot_be_done_is_said(workspace_dir: Path, arguments: list[str], says: str) -> None:
    done = run_trunkline("send", "--data-dir", workspace_dir, *arguments)
    assert done.returncode == 2, done
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_workspace_a_key_is_asked_for(tmp_path: Path) -> None:
    done = run_trunkline("send", "--data-dir", tmp_path, "--user", "u1")
    assert done.returncode == 2
    assert "give --write-key" in done.stderr


def test_a_server_that_is_not_there_is_given_up_in_time(sink: Sink) -> None:
    sink.go_away()
    done = run_trunkline(
        *("send", "--url", f"http://127.0.0.1:{sink.port}", "--write-key", "k", "--user", "u", "--retry-for", "1")
    )
    assert done.returncode == 2
    assert "trying again" in done.stderr


def test_a_file_arrives_with_its_times_and_goes_on_when_it_has_grown(
    served: Server, sink: Sink, tmp_path: Path
) -> None:
    path = tmp_path / "events.ndjson"
    write_events(path, 0, 250)
    done = send_file(served, path)
    assert done.returncode == 0, done
    assert done.stdout == f"{path}: 250 lines, 250 events taken, 0 rejected.\n"
    write_events(path, 250, 400, append=True)
    assert send_file(served, path).stdout == (
        f"{path}: 400 lines (250 of them in earlier runs), 400 events taken, 0 rejected.\n"
    )
    assert send_file(served, path).returncode == 0
    books = served.wait_until_drained("hook")
    assert books.destinations["hook"].received == books.destinations["hook"].delivered == 400
    assert users(sink) == all_users(400)
    for hit in sink.place("hook").hits:
        arrived = hit.json()
        assert arrived["timestamp"] == "2024-05-01T10:00:03.100Z"
        assert arrived["originalTimestamp"] == "2024-05-01T10:00:00.000Z"
        number = int(arrived["userId"][1:])
        assert arrived["messageId"] == f"m{number}" if number % 3 else arrived["messageId"].startswith("line-")
    # Begun anew, everything is sent and everything is a duplicate.
    assert send_file(served, path, "--restart").returncode == 0
    books = served.wait_until_drained("hook")
    assert books.destinations["hook"].filtered_at_source == 400
    assert books.destinations["hook"].delivered == 400


def test_bad_lines_are_named_and_kept_and_stop_nothing(served: Server, sink: Sink, tmp_path: Path) -> None:
    path, rejects = tmp_path / "events.ndjson.gz", tmp_path / "rejects.ndjson"
    lines = [json.dumps(event(number)) for number in range(300)]
    lines[7] = "{not json"
    lines[150] = json.dumps({**event(150), "event": None})
    lines[151] = json.dumps({"type": "track", "event": "A"})
    lines[299] = json.dumps({**event(299), "properties": {"a": "x" * 33_000}})
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    done = send_file(served, path, "--reject-file", rejects)
    assert done.returncode == 1
    assert done.stdout.endswith("300 lines, 296 events taken, 4 rejected.\n")
    kept = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(reject["line"], reject["code"]) for reject in kept] == [
        (8, "invalid_request"),
        (151, "event_not_defined"),
        (152, "no_user_anon_id"),
        (300, "event_too_large"),
    ]
    assert [reject["text"] for reject in kept] == [lines[7], lines[150], lines[151], lines[299]]
    assert "line 8: invalid_request: malformed JSON" in done.stderr
    served.wait_until_drained("hook")
    assert len(users(sink)) == 296
    assert send_file(served, path, "--reject-file", rejects).returncode == 1
    assert len(rejects.read_text().splitlines()) == 4


def test_from_standard_input_with_a_state_file(served: Server, sink: Sink, tmp_path: Path) -> None:
    path, state = tmp_path / "events", tmp_path / "state"
    write_events(path, 0, 30)
    command = [*send_command(served, "-"), "--state", str(state)]
    for _ in range(2):
        with path.open("rb") as stream:
            done = subprocess.run(command, stdin=stream, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "standard input: 30 lines" in done.stdout
    books = served.wait_until_drained("hook")
    assert books.destinations["hook"].received == 30
    assert users(sink) == all_users(30)


def test_an_unfinished_last_line_is_left_for_later(served: Server, sink: Sink, tmp_path: Path) -> None:
    path = tmp_path / "events"
    write_events(path, 0, 10)
    whole = json.dumps(event(10))
    path.write_text(path.read_text() + whole[:20])
    done = send_file(served, path)
    assert done.returncode == 1
    assert "line 11: not sent: the file ends within it" in done.stderr
    path.write_text(path.read_text() + whole[20:])
    assert send_file(served, path).returncode == 0
    served.wait_until_drained("hook")
    assert users(sink) == all_users(11)


def test_other_content_or_another_server_is_not_mistaken_for_the_rest(served: Server, tmp_path: Path) -> None:
    path = tmp_path / "events"
    write_events(path, 0, 10)
    assert send_file(served, path).returncode == 0
    write_events(path, 1, 11)
    done = send_file(served, path)
    assert done.returncode == 2
    assert "its first 10 lines have changed" in done.stderr
    done = run_trunkline("send", "--url", "http://127.0.0.1:1", "--write-key", "k", "--file", path)
    assert done.returncode == 2
    assert "--restart" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_cut_off_is_gone_on_with(
    served: Server, sink: Sink, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "events"
    total = 2000  # twenty seconds' worth: the signal comes in mid-run on a slow machine too
    write_events(path, 0, total)
    command = send_command(served, path)
    process = subprocess.Popen(
        [*command, "--rate", "100"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(),
    )
    wait_until(lambda: len(sink.place("hook").hits) >= 50, "some have arrived")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if number is signal.SIGINT else -number), output
    assert len(sink.place("hook").hits) < total
    done = send_file(served, path)
    assert done.returncode == 0, done
    assert "Going on behind line" in done.stderr
    served.wait_until_drained("hook")
    assert users(sink) == all_users(total)


def test_a_server_that_restarts_meanwhile_costs_no_event(served: Server, sink: Sink, tmp_path: Path) -> None:
    path = tmp_path / "events"
    write_events(path, 0, 300)
    command = send_command(served, path)
    process = subprocess.Popen(
        [*command, "--rate", "100"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
    )
    wait_until(lambda: len(sink.place("hook").hits) >= 50, "some have arrived")
    served.kill()
    served.start()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, (output, errors)
    served.wait_until_drained("hook")
    assert sorted(set(users(sink))) == all_users(300)


def test_waits_as_long_as_it_is_told_to_and_numbers_its_tries(sink: Sink, tmp_path: Path) -> None:
    place = sink.place("v1/batch")
    place.keep_hits = True
    replies = [
        Reply(429, {"Retry-After": "1"}, b'{"success":false,"code":"too_many_requests","message":"busy"}'),
        Reply(503, {"Retry-After": "1"}, b'{"success":false,"code":"disk_full","message":"full"}'),
        Reply(502, {}, b"<html>bad gateway</html>"),
        TAKEN,
    ]
    place.answer = lambda hit: replies[len(place.hits) - 1] if len(place.hits) <= len(replies) else TAKEN
    path = tmp_path / "events"
    write_events(path, 1, 3)
    done = run_trunkline("send", "--url", f"http://127.0.0.1:{sink.port}/v1", "--write-key", "k", "--file", path)
    assert done.returncode == 0, done
    assert done.stdout == f"{path}: 2 lines, 2 events taken, 0 rejected.\n"
    assert "429 too_many_requests: busy; trying again in 1.0 s" in done.stderr
    assert [hit.headers.get("x-retry-count") for hit in place.hits] == [None, "1", "2", "3"]
    assert len({hit.body for hit in place.hits}) == 1


def test_a_batch_refused_as_a_whole_is_halved_until_the_culprit_is_found(sink: Sink, tmp_path: Path) -> None:
    place = sink.place("v1/batch")

    def answer(hit: Hit) -> Reply:
        spoilt = b'"u37"' in hit.body
        return Reply(400, body=b'{"success":false,"code":"invalid_request","message":"no"}') if spoilt else TAKEN

    place.answer = answer
    path = tmp_path / "events"
    write_events(path, 0, 100)
    done = run_trunkline("send", "--url", f"http://127.0.0.1:{sink.port}", "--write-key", "k", "--file", path)
    assert done.returncode == 1
    assert "line 38: invalid_request: no" in done.stderr
    assert done.stdout.endswith("99 events taken, 1 rejected.\n")


def test_an_answer_that_is_not_a_tracking_apis_is_not_taken_for_a_success(sink: Sink, tmp_path: Path) -> None:
    path = tmp_path / "events"
    write_events(path, 0, 10)
    done = run_trunkline("send", "--url", f"http://127.0.0.1:{sink.port}", "--write-key", "k", "--file", path)
    assert done.returncode == 2
    assert "not that of a Tracking API" in done.stderr
    assert "Stopped behind line 0." in done.stderr


def test_on_a_terminal_there_is_a_bar_and_notices_stay_above_it(served: Server, tmp_path: Path) -> None:
    path = tmp_path / "events"
    write_events(path, 0, 200)
    path.write_text(path.read_text().replace('"u7"', "u7"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*send_command(served, path), "--rate", "100"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=clean_environment() | {"TERM": "xterm-256color", "COLUMNS": "200"},
    )
    os.close(theirs)
    shown = b""
    while piece := read_terminal(ours):
        shown += piece
    os.close(ours)
    assert process.wait(timeout=60) == 1
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "\nline 8: invalid_request" in text.replace("\r", "\n")
    assert "taken, 1 rejected ━" in text
    assert text.rstrip().endswith("200 lines, 199 events taken, 1 rejected.")


def read_terminal(fd: int) -> bytes:
    """What is there; nothing once the other end was closed."""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
