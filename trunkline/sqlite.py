"""What every writer of a SQLite file does."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, by one writer at a time. Raises sqlite3.Error; then the same may be tried again."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the error at hand says more
            if db.in_transaction:
                db.execute("ROLLBACK")
        raise


def check_rights(path: Path) -> None:
    """Whether a writer may open the file: SQLite would open it for reading, and say so only when a commit comes.
    Raises OSError."""
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    mend_rights(path)


def mend_rights(path: Path) -> None:
    """What SQLite made beside a file that could not be written has that file's rights of then: it gets those of now, or
    the file stays unwritable. Raises OSError."""
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(f"{path.name}{suffix}")
        if beside.exists() and not os.access(beside, os.W_OK) and os.access(path, os.W_OK):
            beside.chmod(path.stat().st_mode & 0o777)
