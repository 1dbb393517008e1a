"""``trunkline plans``: list, export, import; what is said, where it goes, exit statuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from trunkline.cli.main import program
from trunkline.clock import SystemClock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.secrets import Secrets
from trunkline.workspace.loader import load
from trunkline.workspace.plan_csv import parse_csv
from trunkline.workspace.plan_json import parse_json
from trunkline.workspace.store import ConfigStore

WORKSPACE = """\
workspace: {slug: acme, name: Acme}
sources:
  - {slug: web, type: javascript, write_keys: [wk_web]}
  - {slug: api, type: http, write_keys: [wk_api]}
tracking_plans:
  - slug: shop
    name: Shop
    sources: [web]
    enforce: {violations: block, forward_violations_to: api}
    rules:
      - {type: track, event: Order Completed, schema: {type: object}}
      - {type: identify, version: 2, schema: {type: object}}
  - slug: strict
    rules: [{type: common, schema: {required: [userId]}}]
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory in which ``WORKSPACE`` is in force; the file is ``w.yaml`` beside it."""
    (tmp_path / "w.yaml").write_text(WORKSPACE)
    data_dir = tmp_path / "data"
    secrets = Secrets.open(data_dir)
    snapshot = load(tmp_path / "w.yaml", NATIVE_DESTINATIONS, secrets).snapshot
    assert snapshot is not None
    with ConfigStore(data_dir, secrets, SystemClock()) as store:
        store.activate(snapshot, "w.yaml")
    return data_dir


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(program(["plans"]), ["plans", *map(str, arguments)], env={"COLUMNS": "80"})


def test_list(data_dir: Path) -> None:
    done = run("list", "--data-dir", data_dir)
    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["plan", "name", "rules", "of", "them", "sources"],
        ["shop", "Shop", "2", "track", "1,", "identify", "1", "web"],
        ["strict", "strict", "1", "common", "1", "none"],
        ["2", "plans."],
    ]
    shop, strict = json.loads(run("list", "--json", "--data-dir", data_dir).stdout)
    assert (shop["slug"], shop["sources"], strict["name"]) == ("shop", ["web"], "strict")
    assert shop["rules"] == {"track": 1, "identify": 1, "group": 0, "page": 0, "screen": 0, "common": 0}


@pytest.mark.parametrize("command", [["list"], ["export", "shop"]])
def test_without_a_workspace(tmp_path: Path, command: list[str]) -> None:
    done = run(*command, "--data-dir", tmp_path / "none")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "holds no workspace" in done.stderr


def test_export(data_dir: Path, tmp_path: Path) -> None:
    printed = run("export", "shop", "--data-dir", data_dir)
    plan = parse_json(printed.stdout.encode())
    assert (plan.slug, plan.name, len(plan.rules)) == ("shop", "Shop", 2)
    done = run("export", "shop", "--data-dir", data_dir, "--out", tmp_path / "shop.csv")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "shop.csv: 2 rules of the plan shop." in done.stderr
    table = (tmp_path / "shop.csv").read_bytes()
    assert [rule.type for rule in parse_csv(table).rules] == ["track", "identify"]
    assert run("export", "shop", "--data-dir", data_dir, "--format", "csv").stdout_bytes == table
    run("export", "shop", "--data-dir", data_dir, "--out", tmp_path / "x.csv", "--format", "json")
    assert parse_json((tmp_path / "x.csv").read_bytes()) == plan


def test_an_export_that_can_not_be(data_dir: Path, tmp_path: Path) -> None:
    done = run("export", "strict", "--data-dir", data_dir, "--format", "csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("strict: rules[0] (common): a table has no rows for the common schema. Export the pl")
    done = run("export", "shpo", "--data-dir", data_dir)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "has no tracking plan 'shpo'. Did you mean shop?" in done.stderr
    done = run("export", "shop", "--data-dir", data_dir, "--out", tmp_path)
    assert (done.exit_code, "can't be written" in done.stderr) == (2, True)


def test_what_is_exported_can_be_imported_and_put_into_a_file(data_dir: Path, tmp_path: Path) -> None:
    run("export", "shop", "--data-dir", data_dir, "--out", tmp_path / "shop.json")
    done = run("import", tmp_path / "shop.json", "--slug", "copy", "--source", "web", "--source", "api")
    assert (done.exit_code, done.stderr) == (0, "")
    section = yaml.safe_load(done.stdout)["tracking_plans"][0]
    assert (section["slug"], section["name"], section["sources"]) == ("copy", "Shop", ["web", "api"])
    (tmp_path / "new.yaml").write_text(WORKSPACE.partition("tracking_plans:")[0] + done.stdout)
    loaded = load(tmp_path / "new.yaml", NATIVE_DESTINATIONS, Secrets(bytes(32)))
    assert loaded.snapshot is not None
    assert loaded.snapshot.tracking_plans["copy"].rules == parse_json((tmp_path / "shop.json").read_bytes()).rules


def test_import_says_how_the_plan_fits(data_dir: Path, tmp_path: Path) -> None:
    config, file = tmp_path / "w.yaml", tmp_path / "shop.json"
    run("export", "shop", "--data-dir", data_dir, "--out", file)
    done = run("import", file, "--config", config)
    assert done.exit_code == 0
    assert done.stderr == f"{config}: the plan shop has these rules already.\n"
    section = yaml.safe_load(done.stdout)["tracking_plans"][0]
    assert section == yaml.safe_load(WORKSPACE)["tracking_plans"][0] | {"rules": section["rules"]}

    plan = json.loads(file.read_text())
    plan["rules"][0]["jsonSchema"] = {}
    plan["rules"][1]["version"] = 3
    file.write_text(json.dumps(plan))
    done = run("import", file, "--config", config)
    assert "is there already; replace it. Rules: 1 added, 1 removed, 1 changed." in done.stderr
    assert "is new there" in run("import", file, "--slug", "more", "--config", config).stderr
    assert config.read_text() == WORKSPACE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slug", "second", "--source", "web"], "the source web has the plan "),
        (["--slug", "second", "--source", "wep"], 'there is no source "wep". Did you mean web?'),
        (["--source", "api"], "the source api would forward to itself"),
    ],
)
def test_a_plan_that_does_not_fit(data_dir: Path, tmp_path: Path, options: list[str], message: str) -> None:
    run("export", "shop", "--data-dir", data_dir, "--out", tmp_path / "shop.json")
    done = run("import", tmp_path / "shop.json", *options, "--config", tmp_path / "w.yaml")
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr


def test_a_workspace_that_has_problems_of_its_own(data_dir: Path, tmp_path: Path) -> None:
    run("export", "shop", "--data-dir", data_dir, "--out", tmp_path / "shop.json")
    (tmp_path / "w.yaml").write_text(WORKSPACE.replace("type: http", "typ: http"))
    done = run("import", tmp_path / "shop.json", "--config", tmp_path / "w.yaml")
    assert done.exit_code == 1
    assert "w.yaml:4:17 sources[1].typ: there is no such key." in done.stderr
    assert "mend these first" in done.stderr


def test_a_table_has_a_report_of_its_problems(tmp_path: Path) -> None:
    (tmp_path / "plan.csv").write_text("Event Name,Property Name,Data Type\nA,p,strin\nA,q,\nA,q,\n")
    done = run("import", tmp_path / "plan.csv", "--slug", "shop", "--report", tmp_path / "report.csv")
    assert (done.exit_code, done.stdout) == (1, "")
    place = "row 2, Property Data Type"
    assert done.stderr.splitlines() == [
        f'{tmp_path}/plan.csv: {place}: there is no data type "strin". Did you mean string?',
        f'{tmp_path}/plan.csv: row 4, Property Name: "q" stands in row 3 already. Keep one of them.',
    ]
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["Row", "Place", "Problem", "Mend"]
    assert rows[1] == ["2", place, 'there is no data type "strin"', "Did you mean string?"]
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("name", "content", "options", "status", "message"),
    [
        (
            "a.csv",
            "Event Name,Property Name\nA,\n",
            [],
            2,
            "the file does not say what the plan is called. Name it with",
        ),
        (
            "a.csv",
            "Event Name,Property Name\nA,\n",
            ["--slug", "No Slug"],
            2,
            "'No Slug' is no slug. Name it with --slug",
        ),
        ("a.json", "{", ["--slug", "a"], 1, "malformed JSON"),
        ("a.json", "Event Name,Property Name\nA,\n", ["--slug", "a", "--format", "csv"], 0, ""),
        ("a.json", '{"\\u001b[2J": 1}', [], 1, "there is no list of rules"),
        ("a.json", '[{"type": "\\u001b[2J"}]', ["--slug", "a"], 1, 'there is no type of rules "�[2j"'),
    ],
)
def test_files_of_all_sorts(
    tmp_path: Path, name: str, content: str, options: list[str], status: int, message: str
) -> None:
    (tmp_path / name).write_text(content)
    done = run("import", tmp_path / name, *options)
    assert done.exit_code == status
    assert message in done.stderr
    assert "\x1b" not in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = run("import", tmp_path / "none.json")
    assert (done.exit_code, "can't be read (No such file" in done.stderr) == (2, True)


def test_a_plan_that_is_too_large_for_the_file(tmp_path: Path) -> None:
    properties = {f"property_{number}": {"type": "string", "description": "x" * 300} for number in range(100)}
    schema = {"properties": {"properties": {"properties": properties}}}
    rules = [{"type": "TRACK", "key": f"E{number}", "jsonSchema": schema} for number in range(20)]
    (tmp_path / "large.json").write_text(json.dumps(rules))
    done = run("import", tmp_path / "large.json", "--slug", "large")
    assert done.exit_code == 0
    assert "is large, so the section names it" in done.stderr
    file = str(tmp_path / "large.json")
    assert yaml.safe_load(done.stdout) == {"tracking_plans": [{"slug": "large", "name": "large", "file": file}]}
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.yaml").write_text(WORKSPACE)
    done = run("import", tmp_path / "large.json", "--slug", "large", "--config", tmp_path / "sub" / "w.yaml")
    assert "file: ../large.json\n" in done.stdout
    done = run("import", tmp_path / "large.json", "--slug", "large", "--format", "csv")
    assert done.exit_code == 1
