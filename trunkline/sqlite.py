"""What every writer of a SQLite file does."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator


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
