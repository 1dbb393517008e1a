from __future__ import annotations

import fcntl
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy import inspect as inspect_schema
from sqlalchemy.event import listen

from tests.unit.workspace.workspace_kit import GOOD, SECRETS, good
from trunkline.clock import Clock, SystemClock
from trunkline.secrets import Secrets, SecretsError
from trunkline.workspace import migrations
from trunkline.workspace import store as store_module
from trunkline.workspace.errors import ConfigStoreError, StoreTooNew
from trunkline.workspace.model import Snapshot
from trunkline.workspace.problem import Problem
from trunkline.workspace.store import AuditEntry, ConfigStore


class StillClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


def opened(data_dir: Path, secrets: Secrets = SECRETS, clock: Clock | None = None) -> ConfigStore:
    return ConfigStore(data_dir, secrets, clock or StillClock())


def named(name: str) -> Snapshot:
    return good(GOOD.replace("name: Acme", f"name: {name}"))


PROBLEM = Problem("acme.yaml", 3, 4, "sources[0].slug", "not a slug", "Write another")


def test_a_new_store_is_empty_and_private(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as store:
        assert store.active() is None
        assert store.active_version() is None
        assert store.snapshot("x") is None
        assert store.problems() == []
        assert store.audit() == []
        for file in (tmp_path / "data").iterdir():
            assert file.stat().st_mode & 0o077 == 0, file.name


def test_activation_is_seen_by_another_opener_and_after_a_restart(tmp_path: Path) -> None:
    snapshot = named("One")
    with opened(tmp_path) as writer, opened(tmp_path) as reader:
        writer.activate(snapshot, "file:acme.yaml")
        assert reader.active_version() == snapshot.version
        assert reader.active() == snapshot
        writer.activate(named("Two"), "file:acme.yaml")
        assert reader.active() == named("Two")
        assert reader.snapshot(snapshot.version) == snapshot
    with opened(tmp_path) as store:
        assert store.active() == named("Two")


def test_going_back_and_activating_again(tmp_path: Path) -> None:
    clock = StillClock()
    with opened(tmp_path, clock=clock) as store:
        for name in ("One", "Two", "One", "One"):
            clock.ms += 5
            store.activate(named(name), "f", "ann")
        assert store.active() == named("One")
        assert store.versions() == [named("One").version, named("Two").version]
        assert store.audit() == [
            AuditEntry(1_000_015, "ann", "activate", f"{named('One').version} from f"),
            AuditEntry(1_000_010, "ann", "activate", f"{named('Two').version} from f"),
            AuditEntry(1_000_005, "ann", "activate", f"{named('One').version} from f"),
        ]


def test_the_same_version_with_other_references_is_refreshed(tmp_path: Path) -> None:
    literal, referring = good(GOOD), good(GOOD.replace("abcdefgh", "{env: K}"), environ={"K": "abcdefgh"})
    assert literal.version == referring.version
    with opened(tmp_path) as store:
        store.activate(literal, "f")
        store.activate(referring, "f")
        active = store.active()
        assert active is not None
        assert active.references == referring.references


def test_content_is_encrypted_at_rest(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.activate(named("Visible"), "f")
        store.report_problems([Problem("f", 1, 1, "p", "reason-text", "mend")])
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert named("Visible").version.encode() in written
    for hidden in (b"abcdefgh", b"Visible", b"wk_web", b"reason-text"):
        assert hidden not in written


def test_another_master_key_is_refused_at_the_door(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.activate(named("One"), "f")
    with pytest.raises(SecretsError, match=r"another master key.*Restore the master\.key"):
        opened(tmp_path, Secrets(bytes(32)))
    with opened(tmp_path) as store:
        assert store.active() == named("One")


def test_problems_that_another_key_wrote_are_a_clear_error(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.report_problems([PROBLEM])
    with opened(tmp_path, Secrets(bytes(32))) as store, pytest.raises(SecretsError, match="another master key"):
        store.problems()


def test_content_moved_between_rows_is_noticed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.activate(named("One"), "f")
        store.activate(named("Two"), "f")
    with sqlite3.connect(tmp_path / "config.db") as connection:
        connection.execute(
            "UPDATE snapshots SET content = (SELECT content FROM snapshots WHERE version = ?)", [named("One").version]
        )
    connection.close()
    with opened(tmp_path) as store, pytest.raises(SecretsError, match="moved from another place"):
        store.active()


def test_problems_of_a_refused_file_stay_until_a_good_one(tmp_path: Path) -> None:
    with opened(tmp_path) as store, opened(tmp_path) as reader:
        store.activate(named("One"), "f")
        store.report_problems([PROBLEM, PROBLEM])
        assert reader.problems() == [PROBLEM, PROBLEM]
        assert reader.active() == named("One")
        store.report_problems([PROBLEM])
        assert reader.problems() == [PROBLEM]
        store.activate(named("One"), "f")
        assert reader.problems() == []
        store.report_problems([PROBLEM])
        store.report_problems([])
        assert reader.problems() == []


def test_forget_keeps_what_is_named_and_what_is_active(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for name in ("One", "Two", "Three", "Four"):
            store.activate(named(name), "f")
        assert store.forget({named("Two").version, "never seen"}) == 2
        assert set(store.versions()) == {named("Two").version, named("Four").version}
        assert store.active() == named("Four")
        assert store.forget(set()) == 1
        assert store.active() == named("Four")


def test_the_audit_trail_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_AUDIT_ROWS", 3)
    with opened(tmp_path) as store:
        for number in range(5):
            store.record("ann", "look", str(number))
        assert [entry.subject for entry in store.audit()] == ["4", "3", "2"]
        assert [entry.subject for entry in store.audit(limit=1)] == ["4"]


def test_a_newer_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "config.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreTooNew, match="schema 9999; this program knows"):
        opened(tmp_path)
    with sqlite3.connect(tmp_path / "config.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    connection.close()


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_store_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.db").write_bytes(content)
    with pytest.raises(ConfigStoreError, match=r"config\.db: .*restore it from a backup"):
        opened(tmp_path)


def test_a_directory_that_can_not_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigStoreError, match="Not a directory"):
        opened(tmp_path / "file" / "data")


def test_a_writer_that_never_ends_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_S", 0.05)
    with opened(tmp_path) as store:
        store.activate(named("One"), "f")
        other = sqlite3.connect(tmp_path / "config.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(ConfigStoreError, match="locked"):
                store.activate(named("Two"), "f")
            assert store.active() == named("One")
        finally:
            other.close()
        store.activate(named("Two"), "f")
        assert store.active() == named("Two")


def test_the_head_named_in_the_program_is_that_of_the_revisions() -> None:
    config = Config()
    config.set_main_option("script_location", "trunkline.workspace:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def test_the_migrated_schema_is_the_one_that_the_code_speaks(tmp_path: Path) -> None:
    opened(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'config.db'}")
    inspector = inspect_schema(engine)
    migrated = {
        table: {(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)}
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }
    engine.dispose()
    spoken = {
        name: {(column.name, column.type.compile(engine.dialect), bool(column.nullable)) for column in table.columns}
        for name, table in store_module._metadata.tables.items()
    }
    assert migrated == spoken


PROCESS = """
import sys, warnings
warnings.simplefilter("error")
from pathlib import Path
from trunkline.clock import SystemClock
from trunkline.secrets import Secrets
from trunkline.workspace.codec import make_snapshot
from trunkline.workspace.store import ConfigStore

data_dir, name = Path(sys.argv[1]), sys.argv[2]
secrets = Secrets.open(data_dir)
with ConfigStore(data_dir, secrets, SystemClock()) as store:
    for number in range(20):
        snapshot = make_snapshot(secrets, slug=name, name=str(number), sources=[], destinations=[])
        store.activate(snapshot, name)
        assert store.active() is not None
        assert store.snapshot(snapshot.version) == snapshot
"""


def test_processes_open_a_new_store_together_and_write_without_losing_anything(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(data_dir), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for name in ("a", "b", "c", "d")
    ]
    outputs = [child.communicate(timeout=120)[0].decode() for child in children]
    assert [(child.returncode, output) for child, output in zip(children, outputs, strict=True)] == [(0, "")] * 4
    with ConfigStore(data_dir, Secrets.open(data_dir), SystemClock()) as store:
        assert len(store.versions()) == 80
        assert len(store.audit()) == 80


def test_processes_that_open_a_new_store_queue_at_the_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it about one opening in a hundred found the database locked when four processes started together."""
    migrate = migrations.migrate
    held = []

    def look_and_migrate(connection: Connection) -> None:
        with (tmp_path / "config.lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(True)
        migrate(connection)

    monkeypatch.setattr(migrations, "migrate", look_and_migrate)
    opened(tmp_path).close()
    assert held == [True]
    opened(tmp_path).close()
    assert held == [True]


def test_a_writer_shuts_others_out_from_its_first_read_on(tmp_path: Path) -> None:
    """Else a writer that began with a read would fail, without waiting, when another commits in between."""
    with opened(tmp_path) as store:
        store.activate(named("One"), "f")
        store.activate(named("Two"), "f")
        refused = []

        def write_in_between(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            if statement.startswith("SELECT"):
                other = sqlite3.connect(tmp_path / "config.db", timeout=0)
                try:
                    other.execute("DELETE FROM audit")
                    other.commit()
                except sqlite3.OperationalError as error:
                    refused.append(str(error))
                finally:
                    other.close()

        listen(store._reads, "after_cursor_execute", write_in_between)
        assert store.forget(set()) == 1
        assert refused == ["database is locked"] * 2


def run_with_failpoint(data_dir: Path, failpoint: str) -> int:
    environ = {"TRUNKLINE_FAILPOINTS": failpoint, "PATH": ""}
    command = [sys.executable, "-c", PROCESS, str(data_dir), "x"]
    return subprocess.run(command, env=environ, capture_output=True).returncode


def test_killed_while_migrating_it_begins_anew(tmp_path: Path) -> None:
    assert run_with_failpoint(tmp_path, "config.migrate.before_commit=kill@1") == -9
    with sqlite3.connect(tmp_path / "config.db") as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()
    with ConfigStore(tmp_path, Secrets.open(tmp_path), SystemClock()) as store:
        assert store.active() is None


@pytest.mark.parametrize(("place", "left"), [("before_commit", 4), ("after_commit", 5)])
def test_killed_around_a_commit_the_store_is_before_or_after_it(tmp_path: Path, place: str, left: int) -> None:
    assert run_with_failpoint(tmp_path, f"config.activate.{place}=kill@5") == -9
    with ConfigStore(tmp_path, Secrets.open(tmp_path), SystemClock()) as store:
        assert len(store.versions()) == left
        active = store.active()
        assert active is not None
        assert active.name == str(left - 1)
        assert len(store.audit()) == left


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    environ = {"TRUNKLINE_FAILPOINTS": "config.activate.before_commit=enospc@3", "PATH": ""}
    command = [sys.executable, "-c", PROCESS, str(tmp_path), "x"]
    result = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert result.returncode == 1
    assert "ConfigStoreError" in result.stderr
    assert "Make room" in result.stderr
    with ConfigStore(tmp_path, Secrets.open(tmp_path), SystemClock()) as store:
        assert len(store.versions()) == 2


def test_it_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        opened(tmp_path).close()
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
