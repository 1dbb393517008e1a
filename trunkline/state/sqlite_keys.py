"""Names that are capped and keys that are numbers: what keeps the counters of a SQLite state small.

Both remember what they have seen, so that a commit asks the database only about what is new. After a rollback they
must :meth:`forget`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from trunkline.state.base import OTHER_NAME

MINUTES_A_DAY: Final = 1440
REMEMBERED_KEYS: Final = 50_000


class CappedNames:
    """The names of one kind that have, or can still get, keys of their own, by source."""

    def __init__(self, db: sqlite3.Connection, kind: str, cap: int) -> None:
        self._db = db
        self._kind = kind
        self._cap = cap
        self._names: dict[str, set[str]] = {}

    def settle(self, source: str, name: str) -> str:
        """The name to count under. A name that gets a key is written at once, in the transaction at hand."""
        names = self._names.get(source)
        if names is None:
            found = self._db.execute("SELECT name FROM names WHERE source=? AND kind=?", (source, self._kind))
            names = self._names[source] = {"", OTHER_NAME, *(row[0] for row in found.fetchall())}
        if name in names:
            return name
        if len(names) >= self._cap + 2:
            return OTHER_NAME
        self._db.execute("INSERT INTO names VALUES (?,?,?)", (source, self._kind, name))
        names.add(name)
        return name

    def forget(self) -> None:
        self._names.clear()


class KeyIds:
    """The numbers of a table's keys. The table says on which day each was counted last, so that it can be dropped."""

    def __init__(self, db: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
        self._db = db
        key = ", ".join(columns)
        marks = ",".join("?" * (len(columns) + 1))
        self._upsert = (
            f"INSERT INTO {table} ({key}, last_day) VALUES ({marks}) "  # noqa: S608 - constant names
            f"ON CONFLICT ({key}) DO UPDATE SET last_day = max(last_day, excluded.last_day)"
        )
        self._select = f"SELECT id FROM {table} WHERE ({key}) = ({marks[2:]})"  # noqa: S608 - constant names
        self._delete = f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE last_day < ? LIMIT ?)"  # noqa: S608
        self._known: dict[tuple[str, ...], tuple[int, int]] = {}

    def id_of(self, key: tuple[str, ...], minute: int) -> int:
        """The number of a key that is counted in this minute."""
        day = minute // MINUTES_A_DAY
        known = self._known.get(key)
        if known is not None and known[1] >= day:
            return known[0]
        self._db.execute(self._upsert, (*key, day))
        ((id,),) = self._db.execute(self._select, key).fetchall()
        if len(self._known) >= REMEMBERED_KEYS:
            self._known.clear()
        self._known[key] = (id, day)
        return int(id)

    def drop(self, before_day: int, limit: int) -> int:
        """Drop keys that were not counted since that day, and say how many. No row may be left that has their
        numbers: they may be given again."""
        dropped = self._db.execute(self._delete, (before_day, limit)).rowcount
        if dropped:
            self.forget()
        return dropped

    def forget(self) -> None:
        self._known.clear()
