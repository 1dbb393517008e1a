"""``trunkline demo`` as a newcomer starts it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.support.fixtures import MakeServer
from tests.support.processes import descendants
from tests.support.server import TRUNKLINE, clean_environment, run_trunkline
from tests.support.sink import Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.cli.demo_server import CONFIG_NAME


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demonstration makes its temporary directory."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def run_demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_trunkline("demo", *arguments, timeout_s=150)


def numbers_of(line: str) -> dict[str, int]:
    """``sink: received 5, failed 0`` as a dictionary."""
    return {name.strip(): int(count.replace(",", "")) for name, count in re.findall(r"([a-z ]+?) ([\d,]+\d|\d)", line)}


def test_plain_output_ends_with_books_that_balance_and_leaves_nothing(temporary: Path) -> None:
    done = run_demo("--seconds", "4", "--rate", "150")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "The books balance."
    assert sum(" s: sending: sent " in line for line in lines) >= 2
    sent = re.search(r"^Sent ([\d,]+) events, (\d+) rejected", done.stdout, re.MULTILINE)
    assert sent is not None
    books = {line.split(":")[0]: numbers_of(line.split(":")[1]) for line in lines if ": received" in line}
    assert set(books) == {"inbox", "sink"}
    for book in books.values():
        assert book["received"] == int(sent[1].replace(",", "")) > 100
        assert book["failed on ingest"] == int(sent[2])
        assert book["delivered"] == book["received"] - book["failed on ingest"] - book["filtered at source"]
        assert book["pending"] == book["failed"] == 0
    assert list(temporary.iterdir()) == []


def test_a_directory_of_ones_own_is_kept_and_may_be_used_again(tmp_path: Path) -> None:
    directory = tmp_path / "kept"
    for run in (1, 2):
        done = run_demo("--seconds", "2", "--rate", "100", "--data-dir", directory)
        assert done.returncode == 0, (run, done.stdout + done.stderr)
    report = json.loads(run_trunkline("verify", "--json", "--data-dir", directory).stdout)
    assert report["balanced"] is True
    arrived = [json.loads(line) for line in (directory / "inbox" / "inbox.ndjson").read_text().splitlines()]
    assert len(arrived) == report["destinations"]["sink"]["delivered"]
    assert {"page", "track", "screen"} <= {event["type"] for event in arrived}
    assert set(report["sources"]) == {"shop-web", "shop-app", "shop-server"}
    assert run_trunkline("check", directory / CONFIG_NAME).returncode == 0


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    done = run_demo("--seconds", "1", "--data-dir", tmp_path)
    assert done.returncode == 2
    assert "not a demonstration's" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_against_a_running_server(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    server = make_server(workspace([source("web")], [webhook("hook", hook.url, ["web"])]))
    server.start()
    url = f"http://127.0.0.1:{server.port}"
    done = run_demo("--seconds", "2", "--rate", "50", "--url", url, "--write-key", "wk_web")
    assert done.returncode == 0, done.stdout + done.stderr
    sent = re.search(r"^Sent (\d+) events in \d+ requests: (\d+) taken", done.stdout, re.MULTILINE)
    assert sent is not None
    books = server.wait_until_drained("hook").destinations["hook"]
    assert books.received == int(sent[1])
    assert books.received - books.failed_on_ingest == int(sent[2])
    wrong = run_demo("--seconds", "2", "--url", url, "--write-key", "wk_other")
    assert wrong.returncode == 2
    assert "No source has this write key" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--url", "http://127.0.0.1:1"], "belong together"),
        (["--url", "x://y", "--write-key", "k"], "is not an address"),
        (["--url", "http://127.0.0.1:1", "--write-key", "k", "--data-dir", "x"], "--url names another"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], says: str) -> None:
    done = run_demo(*arguments)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(temporary: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [TRUNKLINE, "demo", "--seconds", "600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if " s: sending: " in line:
            break
    children = descendants(process.pid)
    assert children
    process.send_signal(number)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0, rest
    assert rest.splitlines()[-1] == "The books balance."
    assert list(temporary.iterdir()) == []
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "no process is left")


def test_on_a_terminal_it_is_live(temporary: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [TRUNKLINE, "demo", "--seconds", "3"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=clean_environment() | {"TERM": "xterm-256color"},
        close_fds=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(timeout=60) == 0, shown[-2000:]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    for expected in ("Trunkline demo", "deduped", "last arrivals at the sink", "Product Viewed", "+ delivered"):
        assert expected in text
    assert text.rstrip().endswith("The books balance.")
