"""What the readers of the archive share: its index, and the bytes of a member. Calls block; any thread may make them.

The index is opened for each call, so a reader may be made before there is an archive: it is empty then.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from trunkline.archive import bloom
from trunkline.archive.errors import ArchiveCorrupt, IndexFailed, ObjectMissing
from trunkline.archive.index import open_index
from trunkline.archive.layout import MEMBER_NUMBER_BITS, MEMBERS_A_FILE, Kind, member_position
from trunkline.archive.places import unpack_places
from trunkline.archive.store import ObjectStore

_PAGE: Final = 256
_GZIP: Final = 31

Event = TypeVar("Event")


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One object. Times are the receivedAt of its earliest and latest event, places those of its first and last."""

    id: int
    partition: str
    source: str
    day_ms: int
    key: str
    size_bytes: int
    events: int
    first_received_at_ms: int
    last_received_at_ms: int
    first_place: int
    last_place: int


@dataclass(frozen=True, slots=True)
class Member:
    """A part of a file that is read by itself, at most 4,096 events: line ``i`` of it is event ``i``.

    ``offset`` and ``length`` are its bytes in the object ``key``.
    """

    file_id: int
    number: int
    partition: str
    source: str
    key: str
    offset: int
    length: int
    events: int
    first_received_at_ms: int
    last_received_at_ms: int
    first_place: int
    last_place: int

    @property
    def position(self) -> int:
        """Ordered as the members were written; ``place_of(position, line)`` is the place of a line."""
        return member_position(self.file_id, self.number)


class Members(Protocol):
    """What goes through an archive needs of it, whatever its events are read as. See :class:`MemberReader`."""

    def members(
        self,
        *,
        sources: Sequence[str] | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Member]: ...

    def last_position(self) -> int: ...


_FILE: Final = (
    "id, partition, source, day_ms, key, size_bytes, events, first_received_at_ms, last_received_at_ms, first_place, "
    "last_place"
)
_MEMBER: Final = (
    "m.file_id, m.number, f.partition, f.source, f.key, m.start, m.length, m.events, m.first_received_at_ms, "
    "m.last_received_at_ms, m.first_place, m.last_place"
)


class MemberReader(ABC, Generic[Event]):
    """Files of one kind in one data directory's archive."""

    def __init__(self, index_path: Path, store: ObjectStore, kind: Kind, retention_setting: str) -> None:
        self._path = index_path
        self._store = store
        self._retention_setting = retention_setting
        self._files, self._members, self._blooms = [f"{kind.tables}{name}" for name in ("files", "members", "blooms")]
        self._since_schema = kind.since_schema

    @abstractmethod
    def _event(self, member: Member, line: int, place: int, content: bytes) -> Event:
        """What a line holds. Raises ValueError, of which msgspec's errors are, for what was not archived so."""

    def files(
        self, *, sources: Sequence[str] | None = None, since_ms: int | None = None, until_ms: int | None = None
    ) -> list[ArchiveFile]:
        """Files that hold events received in [``since_ms``, ``until_ms``), oldest first. Raises IndexFailed."""
        where, values = _conditions(("",), sources, since_ms, until_ms)
        rows = self._select(f"SELECT {_FILE} FROM {self._files} WHERE {where} ORDER BY id", values)  # noqa: S608 - constants
        return [ArchiveFile(*row) for row in rows]

    def members(
        self,
        *,
        sources: Sequence[str] | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Member]:
        """Members that hold events received in [``since_ms``, ``until_ms``), by position in [``start``, ``stop``).

        What is archived while one iterates comes too; ``stop=last_position() + 1`` keeps it out. Raises IndexFailed.
        """
        where, values = _conditions(("f.", "m."), sources, since_ms, until_ms)
        # By several sources the index would bring files out of order, and each page would sort all of them.
        hint = "NOT INDEXED" if sources is not None and len(sources) > 1 else ""
        yield from self._page(where, values, start, stop, hint)

    def _page(self, where: str, values: list[Any], start: int, stop: int | None, hint: str = "") -> Iterator[Member]:
        query = (
            # CROSS JOIN: files first, which are few; the members of a file that is out of range are never looked at.
            f"SELECT {_MEMBER} FROM {self._files} f {hint} "  # noqa: S608 - constants
            f"CROSS JOIN {self._members} m ON m.file_id = f.id "
            f"WHERE f.id >= ? AND (f.id, m.number) >= (?, ?) AND {where} ORDER BY f.id, m.number LIMIT {_PAGE}"
        )
        while True:
            file_id, number = start >> MEMBER_NUMBER_BITS, start & MEMBERS_A_FILE
            rows = self._select(query, [file_id, file_id, number, *values])
            for row in rows:
                member = Member(*row)
                if stop is not None and member.position >= stop:
                    return
                start = member.position + 1
                yield member
            if len(rows) < _PAGE:
                return

    def last_position(self) -> int:
        """The position of the newest member; 0 when there is none. Raises IndexFailed."""
        query = f"SELECT file_id, number FROM {self._members} ORDER BY file_id DESC, number DESC LIMIT 1"  # noqa: S608
        rows = self._select(query, [])
        return member_position(*rows[0]) if rows else 0

    def read_member(self, position: int) -> list[Event]:
        """The events of a member, by line. Raises ObjectMissing, ArchiveCorrupt, StoreError, IndexFailed."""
        rows = self._select(
            f"SELECT {_MEMBER}, m.places FROM {self._members} m JOIN {self._files} f ON f.id = m.file_id "  # noqa: S608
            "WHERE m.file_id=? AND m.number=?",
            [position >> MEMBER_NUMBER_BITS, position & MEMBERS_A_FILE],
        )
        if not rows:
            raise ObjectMissing(
                f"{self._path}: the archive has no member {position}: it is older than `{self._retention_setting}`, or "
                "the index was made anew. Choose a later time"
            )
        member = Member(*rows[0][:-1])
        return self._read(member, rows[0][-1], self._store.get_range(member.key, member.offset, member.length))

    def _candidates(self, message_id: str, source: str | None) -> Iterator[int]:
        """Files that may hold the event, newest first."""
        key = bloom.hash_id(message_id)
        before = 1 << 62
        while True:
            where, values = ("id<?", [before]) if source is None else ("id<? AND source=?", [before, source])
            query = f"SELECT id, bloom_slices FROM {self._files} WHERE {where} ORDER BY id DESC LIMIT {_PAGE}"  # noqa: S608
            of_slice = f"SELECT bits FROM {self._blooms} WHERE file_id=? AND slice=?"  # noqa: S608
            seen, candidates = 0, []
            with self._database() as db:
                if db is None:
                    return
                for file_id, slices in db.execute(query, values).fetchall():
                    seen, before = seen + 1, file_id
                    for (bits,) in db.execute(of_slice, (file_id, bloom.slice_of(key, slices))):
                        if bloom.may_hold(bits, key):
                            candidates.append(file_id)
            yield from candidates
            if seen < _PAGE:
                return

    def _backwards(self, file_id: int) -> Iterator[Event]:
        """A file's events, the last one first. It is fetched whole, and opened member by member."""
        rows = self._select(
            f"SELECT {_MEMBER}, m.places FROM {self._members} m JOIN {self._files} f ON f.id = m.file_id "  # noqa: S608
            "WHERE m.file_id=? ORDER BY m.number DESC",
            [file_id],
        )
        if not rows:
            return  # it expired meanwhile
        content = memoryview(self._store.get(rows[0][4]))
        for row in rows:
            member = Member(*row[:-1])
            part = bytes(content[member.offset : member.offset + member.length])
            yield from reversed(self._read(member, row[-1], part))

    def _read(self, member: Member, places: bytes, content: bytes) -> list[Event]:
        try:
            lines = zlib.decompress(content, _GZIP).split(b"\n")
            if lines.pop() or len(lines) != member.events:
                raise ValueError(f"{len(lines)} lines instead of {member.events}")
            return [
                self._event(member, line, place, text)
                for line, (place, text) in enumerate(zip(unpack_places(places), lines, strict=True))
            ]
        except (zlib.error, ValueError) as error:
            raise ArchiveCorrupt(
                f"{self._store.describe()}: {member.key}: bytes {member.offset} to {member.offset + member.length} are "
                f"not what was archived ({error}). Restore this object from a backup of the archive"
            ) from error

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._database() as db:
            return db.execute(query, values).fetchall() if db else []

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection | None]:
        """The index, None when there is none yet, or one from before there were files of this kind."""
        if not self._path.exists():
            yield None
            return
        try:
            with contextlib.closing(open_index(self._path, read_only=True)) as db:
                (version,) = db.execute("PRAGMA user_version").fetchone()
                yield db if version >= self._since_schema else None
        except sqlite3.Error as error:
            raise IndexFailed(f"{self._path}: cannot read the archive's index: {error}") from error


def _conditions(
    tables: Sequence[str], sources: Sequence[str] | None, since_ms: int | None, until_ms: int | None
) -> tuple[str, list[Any]]:
    where, values = ["1"], list[Any]()
    if sources is not None:
        where.append(f"source IN ({','.join('?' * len(sources))})")
        values += sources
    for table in tables:
        if since_ms is not None:
            where.append(f"{table}last_received_at_ms >= ?")
            values.append(since_ms)
        if until_ms is not None:
            where.append(f"{table}first_received_at_ms < ?")
            values.append(until_ms)
    return " AND ".join(where), values
