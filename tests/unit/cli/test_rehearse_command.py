"""``rehearse`` and ``filters`` on a data directory: exit statuses, figures, what is said when something is missing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.support.workspace import source, webhook, workspace
from tests.unit.rehearsal.rehearsal_kit import Record, event
from trunkline.cli.main import main, program
from trunkline.cli.rehearsing import _batch_events
from trunkline.clock import SystemClock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.log.base import ACCEPTED
from trunkline.log.embedded import EmbeddedLog
from trunkline.rehearsal.run import Rehearsal
from trunkline.rehearsal.traffic import Wanted
from trunkline.rehearsal.world import Given
from trunkline.runtime.layout import DataDir
from trunkline.secrets import Secrets
from trunkline.workspace.loader import load
from trunkline.workspace.store import ConfigStore

URL = "http://127.0.0.1:9/"
HEARTBEAT = {"if": 'event = "Heartbeat"', "action": "drop"}


def config(**hook: Any) -> str:
    return workspace([source("web"), source("app")], [{**webhook("hook", URL, ["web", "app"]), **hook}])


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """A workspace in force, two archived events, four in the log, no server."""
    made = DataDir(tmp_path / "data")
    secrets = Secrets.open(made.root)
    file = tmp_path / "workspace.yaml"
    file.write_text(config())
    snapshot = load(file, NATIVE_DESTINATIONS, secrets).snapshot
    assert snapshot is not None
    with ConfigStore(made.root, secrets, SystemClock()) as store:
        store.activate(snapshot, str(file))
    now_ms = SystemClock().now_ms()
    record = Record(snapshot, made.root, log=EmbeddedLog(made.log, SystemClock(), segment_bytes=1))
    for number, names in enumerate([("Heartbeat", "Order"), ("Heartbeat", "Order"), ("Order", "Order")]):
        at_ms = now_ms - 3_600_000 * (3 - number)
        events = [
            event(f"m{number}{line}", name, at_ms=at_ms, properties={"email": "a@b", "revenue": line})
            for line, name in enumerate(names)
        ]
        record.ingest("app" if number == 2 else "web", *events, at_ms=at_ms)
        record.stage()
        if number == 0:
            record.archive()
        if number == 1:
            record.forget(ACCEPTED, 1)
    return made


def run(data: DataDir, *arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(program(), [*arguments, "--data-dir", str(data.root)], env={"COLUMNS": "80"}, input=stdin)


def new_file(data: DataDir, text: str) -> str:
    path = data.root.parent / "new.yaml"
    path.write_text(text)
    return str(path)


def rehearsed(data: DataDir, text: str, *options: str) -> dict[str, Any]:
    done = run(data, "rehearse", "--config", new_file(data, text), "--json", *options)
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def kept_files(data: DataDir) -> list[tuple[str, int]]:
    """All files with their times, but for those that SQLite has beside a database while it is read."""
    files = [path for path in data.root.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal"))]
    return sorted((str(path), path.stat().st_mtime_ns) for path in files)


def test_the_same_workspace(data: DataDir, monkeypatch: pytest.MonkeyPatch, niceness: list[int]) -> None:
    before = kept_files(data)
    report = rehearsed(data, config())
    assert niceness == [10], "what is served beside it goes first"
    assert (report["complete"], report["changes"]) == (True, False)
    assert (report["traffic"]["events"], report["traffic"]["from_ingested"]) == (6, 4)
    assert report["destinations"]["hook"]["passed_new"] == 6
    assert report["cost"]["today_us"] > 0
    assert kept_files(data) == before
    done = run(data, "rehearse", "--config", new_file(data, config()))
    assert "Nothing would change." in done.stdout
    assert "Not rehearsed:" in done.stdout
    assert "Cost of" not in done.stdout, "six events tell nothing of it"
    monkeypatch.setattr("trunkline.cli.rehearsal_view._EVENTS_FOR_A_COST", 6)
    assert "Cost of" in run(data, "rehearse", "--config", new_file(data, config())).stdout


def test_a_filter_more(data: DataDir) -> None:
    text = config(filters=[HEARTBEAT, {"if": "all", "action": "drop_properties", "fields": {"properties": ["email"]}}])
    hook = rehearsed(data, text)["destinations"]["hook"]
    [dropped] = hook["newly_dropped"]
    assert (dropped["reason"], dropped["stage"], dropped["events"]) == ("FILTERED_BY_RULES", "destination", 2)
    assert dropped["kinds"] == [{"source": "web", "type": "track", "name": "Heartbeat", "events": 2}]
    assert hook["changed"]["places"] == [{"kind": "removed", "path": "properties.email", "events": 4}]
    assert hook["changed"]["samples"][0]["differences"] == [
        {"kind": "removed", "path": "properties.email", "before": "a@b"}
    ]
    assert rehearsed(data, text, "--since", "90m")["destinations"]["hook"]["events"] == 2
    assert rehearsed(data, text, "--source", "web")["destinations"]["hook"]["events"] == 4
    assert rehearsed(data, text, "--limit", "3")["destinations"]["hook"]["events"] == 4
    assert rehearsed(data, text, "--samples", "0")["destinations"]["hook"]["changed"]["samples"] == []
    shown = run(data, "rehearse", "--config", new_file(data, text))
    assert shown.exit_code == 0
    for said in ("2 newly dropped: FILTERED_BY_RULES", 'track "Heartbeat" 2', "- properties.email", "messageId m00"):
        assert said in " ".join(shown.stdout.split()), shown.stdout


def test_connections_on_the_screen(data: DataDir) -> None:
    more = webhook("lake", URL, ["app"])
    text = workspace([source("web"), source("app")], [webhook("hook", URL, ["app"]), more])
    shown = " ".join(run(data, "rehearse", "--config", new_file(data, text)).stdout.split())
    assert "+ lake would get app (destination added): 2 events would be sent" in shown
    assert "- hook would no longer get web (source disconnected): 4 events are sent today" in shown


def test_a_broken_file(data: DataDir) -> None:
    text = config(filters=[{"if": "event =", "action": "drop"}])
    done = run(data, "rehearse", "--config", new_file(data, text))
    assert done.exit_code == 1
    assert "not a condition" in done.stdout
    assert "problems: 1." in done.stdout
    done = run(data, "rehearse", "--config", new_file(data, "{"), "--json")
    assert (done.exit_code, json.loads(done.stdout)["good"]) == (1, False)
    assert run(data, "rehearse", "--config", str(data.root / "nothing.yaml")).exit_code == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--source", "wbe"], "neither workspace has a source 'wbe'"),
        (["--destination", "hok"], "neither workspace has a destination 'hok'"),
        (["--since", "soon"], "is no time"),
        (["--limit", "0"], "greater than or equal to 1"),
    ],
)
def test_wrong_options(data: DataDir, options: list[str], said: str) -> None:
    done = run(data, "rehearse", "--config", new_file(data, config()), *options)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_a_directory_that_was_never_served(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = tmp_path / "nothing"
    for command in (["rehearse", "--config", new_file(data, config())], ["filters", "try", *TRY]):
        monkeypatch.setattr("sys.argv", ["trunkline", *command, "--data-dir", str(nothing)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert "holds no workspace" in capsys.readouterr().err
    assert not nothing.exists()


def test_an_object_that_is_missing_is_said(data: DataDir) -> None:
    for path in data.archive.rglob("*.gz"):
        path.unlink()
    report = rehearsed(data, config())
    assert (report["complete"], report["traffic"]["events"], report["traffic"]["unreadable"]) == (False, 4, 2)
    assert "2 events cannot be read" in run(data, "rehearse", "--config", new_file(data, config())).stdout


def test_an_index_that_cannot_be_read_leaves_what_the_log_holds(data: DataDir) -> None:
    data.archive_index.write_bytes(b"nonsense" * 1000)
    done = run(data, "rehearse", "--config", new_file(data, config()), "--json")
    assert done.exit_code == 2
    report = json.loads(done.stdout)
    assert (report["complete"], report["traffic"]["events"]) == (False, 4)
    assert "The archive cannot be read on" in report["notes"][0]


def test_interrupted(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Rehearsal.take

    def take_and_press(self: Rehearsal, batch: list[Given]) -> None:
        take(self, batch[:1])
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Rehearsal, "take", take_and_press)
    done = run(data, "rehearse", "--config", new_file(data, config()), "--json")
    assert done.exit_code == 3
    report = json.loads(done.stdout)
    assert (report["complete"], report["cost"]["events"]) == (False, 1)
    assert report["notes"][0].startswith("Interrupted after ")
    assert "of about 6 events" in report["notes"][0]
    assert "Interrupted" in run(data, "rehearse", "--config", new_file(data, config())).stdout


def test_interrupted_where_nothing_is_found(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what belongs to no source that is asked for is read, and Ctrl-C is heeded all the same."""
    looked_at: list[int] = []

    def hold(self: Wanted, source: str, received_at_ms: int) -> bool:
        looked_at.append(received_at_ms)
        if len(looked_at) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    monkeypatch.setattr(Wanted, "holds", hold)
    monkeypatch.setattr("trunkline.rehearsal.traffic._READ_BYTES", 1)
    done = run(data, "rehearse", "--config", new_file(data, config()), "--json")
    assert (done.exit_code, len(looked_at)) == (3, 2), "one envelope"


@pytest.mark.parametrize(
    ("taken", "seconds", "expected"),
    [(20, 0.0001, 40), (400, 0.0001, 500), (500, 0.05, 500), (500, 1.0, 50), (20, 0.2, 10), (1, 5.0, 1), (1, 0.0, 2)],
)
def test_how_many_events_a_batch_holds(taken: int, seconds: float, expected: int) -> None:
    assert _batch_events(taken, seconds) == expected


# -- filters -----------------------------------------------------------------------------------------------------

TRY = ["--destination", "hook", "--if", 'event = "Heartbeat"', "--action", "drop"]


def tried(data: DataDir, *options: str) -> dict[str, Any]:
    done = run(data, "filters", "try", "--json", *options)
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def figures(report: dict[str, Any]) -> tuple[int, int, int]:
    return report["dropped"], report["changed"], report["kept"]


def test_try(data: DataDir) -> None:
    report = tried(data, *TRY)
    assert (report["filter"], report["sent_today"]) == (HEARTBEAT, 6)
    assert figures(report) == (2, 0, 4)
    fields = ["--destination", "hook", "--if", "event = 'Order'", "--action", "drop_properties"]
    assert figures(tried(data, *fields, "--fields", "properties=email,other", "--fields", "=nothing")) == (0, 4, 2)
    assert figures(tried(data, *fields, "--fields", '{"properties": ["email"]}', "--source", "app")) == (0, 2, 0)
    sample = ["--destination", "hook", "--if", "all", "--action", "sample"]
    assert figures(tried(data, *sample, "--percent", "0")) == (6, 0, 0)
    assert sum(figures(tried(data, *sample, "--percent", "0.5"))) == 6
    assert figures(tried(data, *sample, "--percent", "0.5", "--path", "type"))[2] in (0, 6)
    shown = " ".join(run(data, "filters", "try", *TRY).stdout.split())
    assert "2 dropped" in shown
    assert "4 sent as before" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--destination", "hook", "--if", "event =", "--action", "drop"], "not a condition"),
        (["--destination", "hook", "--if", "all", "--action", "dorp"], "no such action"),
        (["--destination", "hok", "--if", "all", "--action", "drop"], "no destination 'hok'"),
        (["--destination", "hook", "--if", "all", "--action", "sample"], "0 to 1"),
        (["--destination", "hook", "--if", "all", "--action", "sample", "--percent", "10"], "0 to 1"),
        (["--destination", "hook", "--if", "all", "--action", "drop", "--percent", "1"], "belongs to sample"),
        (["--destination", "hook", "--if", "all", "--action", "drop_properties"], "--fields"),
        ([*TRY[:5], "drop_properties", "--fields", "email"], "properties=email,phone"),
        ([*TRY[:5], "drop_properties", "--fields", "{"], "--fields"),
        ([*TRY, "--source", "wbe"], "does not get 'wbe'"),
    ],
)
def test_what_cannot_be_tried(data: DataDir, options: list[str], said: str) -> None:
    done = run(data, "filters", "try", *options)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_preview(tmp_path: Path) -> None:
    request = {"filter": {"if": "all", "actions": [{"type": "DROP"}]}, "payload": {"type": "track"}}
    file = tmp_path / "preview.json"
    file.write_text(json.dumps(request))
    for arguments, stdin in (([str(file)], ""), (["-"], json.dumps(request)), ([], json.dumps(request))):
        done = CliRunner().invoke(program(), ["filters", "preview", *arguments], input=stdin)
        assert (done.exit_code, json.loads(done.stdout)) == (0, {"inputPayload": {"type": "track"}, "result": None})
    for wrong in ("{}", "x" * (1 << 20) + "y"):
        done = CliRunner().invoke(program(), ["filters", "preview"], input=wrong)
        assert done.exit_code == 2
    assert CliRunner().invoke(program(), ["filters", "preview", str(tmp_path / "none.json")]).exit_code == 2
