"""The config store: every snapshot that is still needed, which one is active, what was refused, who did what.

One SQLite file ``config.db`` (WAL, mode 0600) that one process writes and all others read. Snapshots and the
problems of a refused file are encrypted with the master key. Calls block for milliseconds: from an event loop, use
a thread. Transactions are short; one that finds the file locked waits up to ``BUSY_TIMEOUT_S``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from trunkline.clock import Clock
from trunkline.failpoints import failpoint
from trunkline.secrets import Secrets
from trunkline.workspace import migrations
from trunkline.workspace.codec import decode_snapshot, encode_snapshot
from trunkline.workspace.errors import ConfigStoreError
from trunkline.workspace.model import Snapshot
from trunkline.workspace.problem import Problem

FILE_NAME: Final = "config.db"
BUSY_TIMEOUT_S: Final = 10
MAX_AUDIT_ROWS: Final = 100_000

_LOCK_NAME: Final = "config.lock"
_PROBLEMS_PURPOSE: Final = b"workspace problems"

_metadata: Final = sa.MetaData()
_snapshots: Final = sa.Table(
    "snapshots",
    _metadata,
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
)
_active: Final = sa.Table(
    "active",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("version", sa.Text, sa.ForeignKey("snapshots.version"), nullable=False),
    sa.Column("activated_at_ms", sa.BigInteger, nullable=False),
)
_refused: Final = sa.Table(
    "refused",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("problems", sa.LargeBinary, nullable=False),
    sa.Column("refused_at_ms", sa.BigInteger, nullable=False),
)
_audit: Final = sa.Table(
    "audit",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
)
_problems_decoder: Final = msgspec.msgpack.Decoder(list[Problem])


class AuditEntry(msgspec.Struct, frozen=True):
    """Who did what to what. ``at_ms`` is epoch time."""

    at_ms: int
    actor: str
    action: str
    subject: str


class ConfigStore:
    """Open in each process that needs it, after any fork. Opening creates the store or brings its schema up to date.

    Raises ConfigStoreError (StoreTooNew for a newer schema) from every call, SecretsError from opening with a master
    key that did not make the active snapshot and from reading damaged content, SnapshotError for content of a newer
    format.
    """

    def __init__(self, data_dir: Path, secrets: Secrets, clock: Clock) -> None:
        self._path = data_dir / FILE_NAME
        self._secrets = secrets
        self._clock = clock
        url = sa.URL.create("sqlite", database=str(self._path))
        self._reads = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None})
        self._writes = self._reads.execution_options(begin="BEGIN IMMEDIATE")
        sa.event.listen(self._reads, "connect", _prepare_connection)
        sa.event.listen(self._reads, "begin", _begin)
        try:
            self._open(data_dir)
        except BaseException:
            self.close()
            raise

    def _open(self, data_dir: Path) -> None:
        with self._errors():
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its WAL files the mode of the database, so this makes all of them private.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with self._reads.begin() as connection:
                if migrations.current_revision(connection) == migrations.HEAD:
                    self._check_key(connection)
                    return
            # SQLite's busy timeout does not cover the change to WAL: processes that start together queue here.
            with _exclusive(data_dir / _LOCK_NAME):
                with self._reads.connect() as connection:
                    connection.connection.cursor().execute("PRAGMA journal_mode=WAL")
                with self._writes.begin() as connection:
                    migrations.migrate(connection)
                    self._check_key(connection)
                    failpoint("config.migrate.before_commit")

    def _check_key(self, connection: sa.Connection) -> None:
        # With another key the store would be written on, and derived secrets would silently be others too.
        query = sa.select(_snapshots.c.content).join(_active, _active.c.version == _snapshots.c.version)
        content = connection.scalar(query)
        if content is not None:
            self._secrets.check_key(content)

    def activate(self, snapshot: Snapshot, origin: str, actor: str = "system") -> None:
        """Store the snapshot, make it the active one and forget the problems of a refused file, in one transaction.

        ``origin`` says where it comes from (a file's path, ``starter``). Activating the active version again
        refreshes what is stored beside its content (references) and leaves no audit entry.
        """
        content = self._secrets.encrypt(encode_snapshot(snapshot), _snapshot_purpose(snapshot.version))
        now_ms = self._clock.now_ms()
        row = {"content": content, "origin": origin}
        known = _snapshots.c.version == snapshot.version
        with self._write() as connection:
            updated = connection.execute(sa.update(_snapshots).where(known).values(**row))
            if not updated.rowcount:
                values = {"version": snapshot.version, "created_at_ms": now_ms, **row}
                connection.execute(sa.insert(_snapshots).values(**values))
            if connection.scalar(sa.select(_active.c.version)) != snapshot.version:
                connection.execute(sa.delete(_active))
                pointer = {"id": 1, "version": snapshot.version, "activated_at_ms": now_ms}
                connection.execute(sa.insert(_active).values(**pointer))
                self._record(connection, AuditEntry(now_ms, actor, "activate", f"{snapshot.version} from {origin}"))
            connection.execute(sa.delete(_refused))
            failpoint("config.activate.before_commit")
        failpoint("config.activate.after_commit")

    def active_version(self) -> str | None:
        """The active snapshot's version. One indexed read; cheap enough to ask once a second."""
        version: str | None
        with self._read() as connection:
            version = connection.scalar(sa.select(_active.c.version))
        return version

    def active(self) -> Snapshot | None:
        """The active snapshot, None before the first one."""
        query = sa.select(_snapshots.c.version, _snapshots.c.content).join(
            _active, _active.c.version == _snapshots.c.version
        )
        return self._load(query)

    def snapshot(self, version: str) -> Snapshot | None:
        """One snapshot that is kept, None when it is not."""
        query = sa.select(_snapshots.c.version, _snapshots.c.content).where(_snapshots.c.version == version)
        return self._load(query)

    def versions(self) -> list[str]:
        """Versions of the snapshots that are kept, oldest first."""
        query = sa.select(_snapshots.c.version).order_by(_snapshots.c.created_at_ms, _snapshots.c.version)
        with self._read() as connection:
            return list(connection.scalars(query))

    def forget(self, keep: Collection[str]) -> int:
        """Drop all snapshots but these and the active one; return how many went."""
        dropped = 0
        with self._write() as connection:
            active = connection.scalar(sa.select(_active.c.version))
            stored: list[str] = list(connection.scalars(sa.select(_snapshots.c.version)))
            for version in stored:
                if version not in keep and version != active:
                    connection.execute(sa.delete(_snapshots).where(_snapshots.c.version == version))
                    dropped += 1
            failpoint("config.forget.before_commit")
        return dropped

    def report_problems(self, problems: Collection[Problem]) -> None:
        """Keep why the last file was refused, for ``/health``. An empty list clears it."""
        encoded = self._secrets.encrypt(msgspec.msgpack.encode(list(problems)), _PROBLEMS_PURPOSE)
        with self._write() as connection:
            connection.execute(sa.delete(_refused))
            if problems:
                row = {"id": 1, "problems": encoded, "refused_at_ms": self._clock.now_ms()}
                connection.execute(sa.insert(_refused).values(**row))

    def problems(self) -> list[Problem]:
        """The problems of the file that was refused since the last good one; empty when none was."""
        with self._read() as connection:
            encoded = connection.scalar(sa.select(_refused.c.problems))
        if encoded is None:
            return []
        try:
            return _problems_decoder.decode(self._secrets.decrypt(encoded, _PROBLEMS_PURPOSE))
        except msgspec.MsgspecError as error:
            raise ConfigStoreError(f"{self._path}: the stored problems can't be read: {error}") from error

    def record(self, actor: str, action: str, subject: str) -> None:
        """Add an entry to the audit trail. ``subject`` must hold no secret."""
        with self._write() as connection:
            self._record(connection, AuditEntry(self._clock.now_ms(), actor, action, subject))

    def audit(self, limit: int = 100) -> list[AuditEntry]:
        """The newest entries, newest first. The trail keeps the last ``MAX_AUDIT_ROWS``."""
        columns = (_audit.c.at_ms, _audit.c.actor, _audit.c.action, _audit.c.subject)
        with self._read() as connection:
            rows = connection.execute(sa.select(*columns).order_by(_audit.c.id.desc()).limit(limit)).all()
        return [AuditEntry(row.at_ms, row.actor, row.action, row.subject) for row in rows]

    def close(self) -> None:
        """Close the connections; the store may not be used afterwards."""
        self._reads.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _record(connection: sa.Connection, entry: AuditEntry) -> None:
        inserted = connection.execute(sa.insert(_audit).values(**msgspec.structs.asdict(entry)))
        newest = inserted.inserted_primary_key
        if newest is not None:
            connection.execute(sa.delete(_audit).where(_audit.c.id <= newest[0] - MAX_AUDIT_ROWS))

    def _load(self, query: sa.Select[Any]) -> Snapshot | None:
        with self._read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return decode_snapshot(self._secrets.decrypt(row.content, _snapshot_purpose(row.version)))

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._errors(), self._reads.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._errors(), self._writes.begin() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            mend = f"Make room in {self._path.parent} and let this user write there."
            raise ConfigStoreError(f"{self._path}: {error.strerror}. {mend}") from error
        except DatabaseError as error:
            reason = str(error.orig)
            raise ConfigStoreError(f"{self._path}: {reason}. {_mend(reason)}") from error
        except SQLAlchemyError as error:
            raise ConfigStoreError(f"{self._path}: {error}") from error


def _mend(reason: str) -> str:
    if "full" in reason or "disk I/O" in reason:
        return "Make room on the disk."
    if "locked" in reason:
        return f"Another process held it for {BUSY_TIMEOUT_S} s; try again."
    if "unable to open" in reason or "readonly" in reason:
        return "Let this user read and write it and its directory."
    return "If it is damaged, restore it from a backup, or move it away and load the workspace's file again."


def _snapshot_purpose(version: str) -> bytes:
    """Ties encrypted content to its row."""
    return b"workspace snapshot " + version.encode()


def _prepare_connection(dbapi_connection: Any, _record: object) -> None:
    # FULL: an activation that was reported must survive a loss of power.
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        dbapi_connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # Python's sqlite3 begins by itself, too late and never for reads or DDL; isolation_level=None turns that off.
    # A writer takes its lock at once, since one that upgrades a read may fail without waiting.
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file against other processes; the system lets go of it if this one dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
