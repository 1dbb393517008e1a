"""``schema``, ``violations``, ``blocked``, ``plans infer``: what they show, what they say when there is nothing."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from tests.unit.archive.archive_world import World as ArchiveWorld
from tests.unit.schema.schema_world import World, accepted, blocked
from trunkline.archive.local_store import LocalStore
from trunkline.cli.main import program
from trunkline.clock import SystemClock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.log.records import AcceptedEvent
from trunkline.runtime.layout import PARTITION, DataDir
from trunkline.secrets import KEY_BYTES, Secrets
from trunkline.spec.timestamps import format_timestamp
from trunkline.workspace.loader import load

WRONG_TYPE = {"type": "Invalid Type", "field": "properties.total", "description": "Invalid type. Expected: text"}
ACCEPTED_MORE = SimpleNamespace(read=lambda: SimpleNamespace(accepted={PARTITION: 99}))
VIOLATION = {"type": "Required", "field": "properties.id", "description": "properties.id is required"}


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(program([arguments[0]]), [*arguments, "--data-dir", str(root)], env={"COLUMNS": "80"})


@pytest.fixture
def now_ms() -> int:
    return SystemClock().now_ms()


@pytest.fixture
def seen(tmp_path: Path, now_ms: int) -> Path:
    world = World(tmp_path)
    world.append(
        accepted(properties={"total": 3.5}, at_ms=now_ms, protocols={"sourceId": "web", "violations": [VIOLATION]}),
        accepted("Signed \x1b[31mUp", at_ms=now_ms),
        accepted("", {"email": "e"}, kind="identify", at_ms=now_ms, source="app"),
        blocked("Odd", at_ms=now_ms - 3 * 86_400_000),
    )
    world.observe()
    world.database.close()
    return tmp_path


def test_schema(seen: Path) -> None:
    done = run(seen, "schema")
    assert done.exit_code == 0
    assert "Order Completed" in done.stdout
    assert "\x1b[31m" not in done.stdout
    assert "4 events" in done.stdout
    entry = json.loads(run(seen, "schema", "--json", "--source", "app").stdout)
    [only] = entry["events"]
    assert (only["type"], only["allowed"], only["planned"], entry["skipped_events"]) == ("identify", 1, None, 0)
    assert [one["name"] for one in json.loads(run(seen, "schema", "--json", "--since", "1d").stdout)["events"]] != []
    assert "Odd" not in run(seen, "schema", "--since", "1d").stdout


def test_properties_and_traits(seen: Path) -> None:
    done = run(seen, "schema", "--event", "Order Completed")
    assert "total" in done.stdout
    assert "number" in done.stdout
    assert "email" in run(seen, "schema", "--type", "identify").stdout
    [event] = json.loads(run(seen, "schema", "--type", "identify", "--json").stdout)["events"]
    assert [one["types"] for one in event["properties"]] == [["string"]]
    assert run(seen, "schema", "--type", "tracks").exit_code == 2


def test_a_table(seen: Path) -> None:
    done = run(seen, "schema", "--csv", str(seen / "t.csv"), "--source", "web")
    assert done.exit_code == 0
    assert (seen / "t.csv").read_text().splitlines()[0].startswith("Event Name,")
    run(seen, "schema", "--csv", str(seen), "--source", "web")
    assert list(seen.glob("workspace-web-track--*-utc.csv"))
    assert run(seen, "schema", "--csv", str(seen / "no" / "t.csv"), "--source", "web").exit_code == 2
    assert "Order Completed,"[:-1] in run(seen, "schema", "--csv", "-").stdout


def test_violations(seen: Path) -> None:
    done = run(seen, "violations", "--samples")
    assert "Required: properties.id is required" in " ".join(done.stdout.split())
    assert '"total":3.5' in "".join(done.stdout.split())
    [one] = json.loads(run(seen, "violations", "--json").stdout)
    assert (one["name"], one["count"], "samples" in one) == ("Order Completed", 1, False)
    [one] = json.loads(run(seen, "violations", "--json", "--samples").stdout)
    assert one["samples"][0]["event"]["properties"] == {"total": 3.5}
    assert "kept to its tracking plan" in " ".join(run(seen, "violations", "--source", "app").stdout.split())


def test_blocked(seen: Path) -> None:
    done = run(seen, "blocked")
    assert "Odd" in done.stdout
    assert "unplanned" in done.stdout
    [one] = json.loads(run(seen, "blocked", "--json").stdout)
    assert (one["name"], one["reason"], one["count"]) == ("Odd", "unplanned", 1)
    assert "No event was blocked" in run(seen, "blocked", "--since", "1h").stdout


def test_a_violation_is_shown_with_its_field(tmp_path: Path, now_ms: int) -> None:
    world = World(tmp_path)
    world.append(
        accepted(properties={"total": 3.5}, at_ms=now_ms, protocols={"sourceId": "web", "violations": [WRONG_TYPE]})
    )
    world.observe()
    world.database.close()
    done = run(tmp_path, "violations")
    assert "Invalid Type, properties.total: Invalid type. Expected: text" in " ".join(done.stdout.split())


@pytest.mark.parametrize("command", ["schema", "violations", "blocked"])
def test_a_source_that_sent_nothing_is_named(command: str, seen: Path) -> None:
    said = " ".join(run(seen, command, "--source", "wbe").stdout.split())
    assert said == "Nothing was seen of the source wbe. Seen were: app, web."


@pytest.mark.parametrize("command", ["schema", "violations", "blocked"])
def test_with_nothing_seen_the_next_step_is_told(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(tmp_path, command)
    assert done.exit_code == 0
    assert "trunkline send" in " ".join(done.stdout.split())
    monkeypatch.setenv("TRUNKLINE_SCHEMA", "off")
    assert "turn the setting `schema` on" in " ".join(run(tmp_path, command).stdout.split())


def test_a_database_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "schema.db").write_bytes(b"no database" * 100)
    done = run(tmp_path, "schema")
    assert done.exit_code == 2
    assert "schema.db" in done.stderr


# -- plans infer -----------------------------------------------------------------------------------------------


def archived(now_ms: int, number: int, days_ago: int = 0) -> AcceptedEvent:
    at_ms = now_ms - days_ago * 86_400_000
    body = {
        "type": "track",
        "event": "Order: Completed",
        "messageId": f"m{number}",
        "receivedAt": format_timestamp(at_ms * 1000),
        "properties": {"id": number, "when": "2026-11-22T01:02:03Z", **({"old": 1} if days_ago else {})},
    }
    return AcceptedEvent("web", at_ms, f"m{number}", "track", "Order: Completed", json.dumps(body).encode())


@pytest.fixture
def archive(tmp_path: Path, now_ms: int) -> Path:
    world = ArchiveWorld(tmp_path, LocalStore(tmp_path / "archive"))
    world.append(*[archived(now_ms, number) for number in range(12)], archived(now_ms, 99, days_ago=9))
    world.archive()
    world.index.close()
    return tmp_path


def test_a_plan_is_inferred_and_can_be_loaded(archive: Path) -> None:
    done = run(archive, "plans", "infer", "--source", "web", "--slug", "shop")
    assert done.exit_code == 0
    assert "1 rule of 12 events" in done.stderr
    workspace = "workspace: {slug: acme, name: Acme}\nsources:\n  - {slug: web, type: javascript, write_keys: [k]}\n"
    (archive / "w.yaml").write_text(workspace + done.stdout)
    loaded = load(archive / "w.yaml", NATIVE_DESTINATIONS, Secrets(b"k" * KEY_BYTES))
    assert loaded.snapshot is not None, loaded.problems
    [rule] = loaded.snapshot.tracking_plans["shop"].rules
    assert (rule.type, rule.event) == ("track", "Order: Completed")
    assert rule.schema["properties"]["properties"] == {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "when": {"type": "string", "format": "date-time"}},
        "required": ["id", "when"],
    }


def test_older_events_and_segments_json(archive: Path) -> None:
    done = run(archive, "plans", "infer", "--source", "web", "--days", "30", "--format", "json")
    [rule] = json.loads(done.stdout)["rules"]
    assert rule["type"] == "TRACK"
    assert sorted(rule["jsonSchema"]["properties"]["properties"]["properties"]) == ["id", "old", "when"]


def test_a_running_server_is_asked_to_archive_first(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bool]] = []

    def wait(data: DataDir, needed: int, *, is_on: bool) -> int:
        asked.append((needed, is_on))
        return needed

    monkeypatch.setattr("trunkline.cli.plans_infer.open_state", lambda data: nullcontext(ACCEPTED_MORE))
    (archive / "state.db").touch()
    done = run(archive, "plans", "infer", "--source", "web")
    assert done.exit_code == 0
    assert "not archived yet: start the server" in done.stderr
    monkeypatch.setattr("trunkline.cli.plans_infer.wait_for_archive", wait)
    done = run(archive, "plans", "infer", "--source", "web")
    assert (asked, "not archived yet" in done.stderr) == ([(99, True)], False)


def test_there_is_nothing_to_infer_from(archive: Path, tmp_path: Path) -> None:
    done = run(archive, "plans", "infer", "--source", "other")
    assert done.exit_code == 1
    assert "no event of other" in done.stderr
