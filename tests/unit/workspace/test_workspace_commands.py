from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from trunkline.cli import check, export
from trunkline.clock import SystemClock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.secrets import Secrets, mask
from trunkline.workspace.loader import load
from trunkline.workspace.model import Snapshot
from trunkline.workspace.starter import starter_yaml
from trunkline.workspace.store import ConfigStore

WORKSPACE = """\
workspace: {slug: acme, name: Acmé}
sources: [{slug: web, type: javascript, write_keys: [wk_web]}]
destinations:
  - slug: hook
    type: webhook
    sources: [web]
    enabled: true
    settings: {url: "http://127.0.0.1:9000/hook", shared_secret: hunter2hunter2, headers: {A: {env: TEST_HEADER}}}
  - {slug: box, type: inbox, sources: [web]}
"""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setenv("TEST_HEADER", "Bearer xyz")
    app = typer.Typer()
    check.register(app)
    export.register(app)
    return app


@pytest.fixture
def data_dir(tmp_path: Path, app: typer.Typer) -> Path:
    """A data directory whose active workspace is ``WORKSPACE``."""
    (tmp_path / "w.yaml").write_text(WORKSPACE)
    data_dir = tmp_path / "data"
    secrets = Secrets.open(data_dir)
    snapshot = load(tmp_path / "w.yaml", NATIVE_DESTINATIONS, secrets).snapshot
    assert snapshot is not None
    with ConfigStore(data_dir, secrets, SystemClock()) as store:
        store.activate(snapshot, "w.yaml")
    return data_dir


def test_check_of_a_good_file(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(WORKSPACE)
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 0
    note, summary = result.output.splitlines()
    assert note.startswith(f"note: {path}:9:5 destinations[1]: off")
    assert summary == f"{path}: good. Sources: 1. Destinations: 2, 1 enabled."


def test_check_of_a_bad_file_prints_each_problem_on_a_line(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(WORKSPACE.replace("http://", "htp://").replace("[web]}", "[wep]}") + "functions: []\n")
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [line.split(" ")[0] for line in lines] == [
        f"{path}:8:21",
        f"{path}:9:40",
        f"{path}:10:1",
        "note:",
        f"{path}:",
    ]
    assert lines[-1] == f"{path}: problems: 3."


def test_check_for_programs(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(WORKSPACE + "filters: []\n")
    result = CliRunner().invoke(app, ["check", "--json", str(path)])
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert report["good"] is False
    assert report["problems"] == [
        {
            "file": str(path),
            "line": 10,
            "column": 1,
            "path": "filters",
            "reason": "destination filters are not built in this version",
            "mend": "Remove the key, or wait for the version that has it",
        }
    ]
    assert len(report["notes"]) == 1
    path.write_text(starter_yaml("wk_1", 8080))
    result = CliRunner().invoke(app, ["check", str(path), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.output) == {"good": True, "problems": [], "notes": []}


def test_check_of_a_missing_file(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "can't be read (No such file or directory)" in result.output


def active(data_dir: Path) -> Snapshot:
    with ConfigStore(data_dir, Secrets.open(data_dir), SystemClock()) as store:
        snapshot = store.active()
    assert snapshot is not None
    return snapshot


def test_export_with_secrets_goes_round(app: typer.Typer, data_dir: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", "--data-dir", str(data_dir), "--show-secrets"])
    assert result.exit_code == 0
    assert "Acmé" in result.output
    path = tmp_path / "again.yaml"
    path.write_text(result.output)
    again = load(path, NATIVE_DESTINATIONS, Secrets.open(data_dir), {}).snapshot
    assert again is not None
    assert again.version == active(data_dir).version
    assert CliRunner().invoke(app, ["check", str(path)]).exit_code == 0


def test_export_without_secrets_shows_none_and_is_refused_until_they_are_filled_in(
    app: typer.Typer, data_dir: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["export", "--data-dir", str(data_dir)])
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    assert "xyz" not in result.output
    assert "env: TEST_HEADER" in result.output
    path = tmp_path / "again.yaml"
    path.write_text(result.output)
    refused = CliRunner().invoke(app, ["check", str(path)])
    assert refused.exit_code == 1
    assert "settings.shared_secret: a masked value" in refused.output
    path.write_text(result.output.replace(f"'{mask('hunter2hunter2')}'", "hunter2hunter2"))
    again = load(path, NATIVE_DESTINATIONS, Secrets.open(data_dir)).snapshot
    assert again is not None
    assert again.version == active(data_dir).version


def test_export_works_beside_an_open_store(app: typer.Typer, data_dir: Path) -> None:
    with ConfigStore(data_dir, Secrets.open(data_dir), SystemClock()):
        assert CliRunner().invoke(app, ["export", "--data-dir", str(data_dir)]).exit_code == 0


def test_export_of_nothing_says_so_and_creates_nothing(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", "--data-dir", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "holds no workspace" in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []
    ConfigStore(tmp_path / "new", Secrets.open(tmp_path / "new"), SystemClock()).close()
    result = CliRunner().invoke(app, ["export", "--data-dir", str(tmp_path / "new")])
    assert result.exit_code == 2
    assert "was ever active" in result.stderr


def test_export_with_an_unsafe_key_or_bad_settings_says_so(
    app: typer.Typer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_dir / "master.key").chmod(0o644)
    result = CliRunner().invoke(app, ["export", "--data-dir", str(data_dir)])
    assert result.exit_code == 2
    assert "chmod 600" in result.stderr
    monkeypatch.setenv("TRUNKLINE_PROT", "1")
    result = CliRunner().invoke(app, ["export", "--data-dir", str(data_dir)])
    assert result.exit_code == 2
    assert "did you mean TRUNKLINE_PORT?" in result.stderr
