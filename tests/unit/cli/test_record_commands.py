"""The commands that read the record: options, exit statuses, what they say when there is nothing to read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.observe.record_kit import counted, lost
from trunkline.cli.main import main, program
from trunkline.clock import SystemClock
from trunkline.log.base import INGESTED, NewRecord
from trunkline.log.embedded import EmbeddedLog
from trunkline.log.records import IngestedChunk, LoggedEvent, encode_chunk
from trunkline.observe.lanes import LANES_FILE, LanesStatus, LaneStatus, encode_lanes
from trunkline.runtime.layout import DataDir
from trunkline.spec.outcomes import DELIVERED, FAILED
from trunkline.state.base import Changes
from trunkline.state.sqlite import SqliteStateStore

MINUTE_MS = 60_000


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "data")
    made.run.mkdir(parents=True)
    return made


@pytest.fixture
def minute(data: DataDir) -> int:
    """Now: deliveries and failures were counted in this minute, and an hour before."""
    now = SystemClock().now_ms() // MINUTE_MS
    store = SqliteStateStore(data.state)
    changes = Changes()
    counted(changes, DELIVERED, 10, first=9, retries=1, minute=now)
    counted(changes, FAILED, 2, reason="401", minute=now)
    counted(changes, DELIVERED, 5, first=5, minute=now - 60)
    lost(changes, 2, now - 1, reason="401")
    store.commit(changes)
    store.close()
    return now


def run(data: DataDir, *arguments: str) -> Result:
    return CliRunner().invoke(program(), [*arguments, "--data-dir", str(data.root)], env={"COLUMNS": "80"})


def test_deliveries_of_a_time(data: DataDir, minute: int) -> None:
    done = run(data, "deliveries", "--json", "--since", "30m")
    assert json.loads(done.stdout)["destinations"]["hook"]["delivered"] == 10
    done = run(data, "deliveries", "--json", "--since", "2h")
    line = json.loads(done.stdout)["destinations"]["hook"]
    assert (line["delivered"], line["failed"], line["reasons"][0]["title"]) == (15, 2, "Invalid API key")
    done = run(data, "deliveries", "--json", "--since", "2h", "--until", "30m")
    assert json.loads(done.stdout)["destinations"]["hook"]["delivered"] == 5
    done = run(data, "deliveries", "--since", "2h", "--by", "reason")
    assert done.exit_code == 0
    assert "401 Invalid API key" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "1h", "--until", "2h"], "later than --since"),
        (["--since", "soon"], "is no time"),
        (["--by", "colour"], "app-version"),
    ],
)
def test_wrong_options_are_explained(data: DataDir, minute: int, arguments: list[str], said: str) -> None:
    done = run(data, "deliveries", *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", ["deliveries", "gaps"])
def test_a_directory_that_was_never_served(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["trunkline", command, "--data-dir", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "there is no state here" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_gaps_go_on_past_a_replay_that_cannot_be_read(data: DataDir, minute: int) -> None:
    (data.root / "replays").mkdir()
    (data.root / "replays" / "broken.json").write_text("{")
    done = run(data, "gaps", "--json")
    assert done.exit_code == 0
    [gap] = json.loads(done.stdout)
    assert (gap["since_ms"], gap["events"]) == ((minute - 1) * MINUTE_MS, 2)
    assert f"--data-dir {data.root}" in gap["command"]
    assert "broken.json" in done.stderr


def test_lanes(data: DataDir) -> None:
    path = data.run / LANES_FILE
    assert run(data, "lanes").exit_code == 2
    path.write_bytes(b"nonsense")
    done = run(data, "lanes")
    assert (done.exit_code, "cannot be read" in done.stderr) == (2, True)
    lanes = [LaneStatus(destination="hook", status="keeps up")]
    now_ms = SystemClock().now_ms()
    path.write_bytes(encode_lanes(LanesStatus(at_ms=now_ms + 60_000, lanes=lanes)))
    done = run(data, "lanes", "--json")
    assert (done.exit_code, json.loads(done.stdout)["stale"]) == (0, False)
    path.write_bytes(encode_lanes(LanesStatus(at_ms=now_ms - 60_000, lanes=lanes)))
    done = run(data, "lanes")
    assert done.exit_code == 1
    assert "The worker does not run" in done.stdout


def test_why_before_any_worker_has_run(data: DataDir) -> None:
    assert run(data, "why", "m1").exit_code == 2
    appender = EmbeddedLog(data.log, SystemClock()).appender(INGESTED, "0")
    chunk = IngestedChunk(1, "web", 1, [LoggedEvent("m1", "track", "E", b'{"messageId":"m1"}')], [])
    appender.append([NewRecord(encode_chunk(chunk), chunk.counts())])
    appender.close()
    done = run(data, "why", "m1", "--json")
    assert (done.exit_code, json.loads(done.stdout)["arrivals"][0]["status"]) == (0, "waiting")
    assert run(data, "why", "m2").exit_code == 1
    segment = next((data.log / "ingested" / "0").glob("*.seg"))
    segment.write_bytes(segment.read_bytes()[:-3] + b"xxx")
    done = run(data, "why", "m1")
    assert done.exit_code == 2
    assert segment.name in done.stderr
