"""Reading the archive: by time, by place, by messageId. Calls block; any thread may make them.

The index is opened for each call, so a reader may be made before there is an archive: it is empty then.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Raw

from trunkline.archive import bloom
from trunkline.archive.errors import ArchiveCorrupt, IndexFailed, ObjectMissing
from trunkline.archive.index import open_index
from trunkline.archive.layout import MEMBER_NUMBER_BITS, MEMBERS_A_FILE, member_position
from trunkline.archive.places import unpack_places
from trunkline.archive.store import ObjectStore
from trunkline.spec.timestamps import parse_timestamp

_PAGE: Final = 256
_GZIP: Final = 31


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


@dataclass(frozen=True, slots=True)
class ArchivedEvent:
    """An event as it was accepted. ``place`` is where it stood in the accepted log's partition."""

    line: int
    place: int
    body: bytes
    source: str
    received_at_ms: int
    message_id: str
    type: str
    name: str
    partition: str


class _Head(msgspec.Struct, gc=False):
    """What is read of a body; the rest is passed over."""

    type: str
    messageId: str
    receivedAt: str
    event: str | Raw | None = None
    name: str | Raw | None = None


_decode_head: Final = msgspec.json.Decoder(_Head).decode
_FILE: Final = (
    "id, partition, source, day_ms, key, size_bytes, events, first_received_at_ms, last_received_at_ms, first_place, "
    "last_place"
)
_MEMBER: Final = (
    "m.file_id, m.number, f.partition, f.source, f.key, m.start, m.length, m.events, m.first_received_at_ms, "
    "m.last_received_at_ms, m.first_place, m.last_place"
)


class ArchiveReader:
    """The archive of one data directory."""

    def __init__(self, index_path: Path, store: ObjectStore) -> None:
        self._path = index_path
        self._store = store

    def files(
        self, *, sources: Sequence[str] | None = None, since_ms: int | None = None, until_ms: int | None = None
    ) -> list[ArchiveFile]:
        """Files that hold events received in [``since_ms``, ``until_ms``), oldest first. Raises IndexFailed."""
        where, values = _conditions(("files.",), sources, since_ms, until_ms)
        rows = self._select(f"SELECT {_FILE} FROM files WHERE {where} ORDER BY id", values)  # noqa: S608
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

    def by_place_range(
        self, source: str, first_place: int, end_place: int, *, partition: str = "0", start: int = 0
    ) -> Iterator[Member]:
        """Members that hold places of the accepted log in [``first_place``, ``end_place``). Raises IndexFailed."""
        if first_place >= end_place:
            return
        where = "f.source=? AND f.partition=? AND f.last_place>=? AND m.last_place>=? AND m.first_place<?"
        yield from self._page(where, [source, partition, first_place, first_place, end_place], start, None)

    def _page(self, where: str, values: list[Any], start: int, stop: int | None, hint: str = "") -> Iterator[Member]:
        query = (
            # CROSS JOIN: files first, which are few; the members of a file that is out of range are never looked at.
            f"SELECT {_MEMBER} FROM files f {hint} CROSS JOIN members m ON m.file_id = f.id "  # noqa: S608 - constant columns
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
        rows = self._select("SELECT file_id, number FROM members ORDER BY file_id DESC, number DESC LIMIT 1", [])
        return member_position(*rows[0]) if rows else 0

    def read_member(self, position: int) -> list[ArchivedEvent]:
        """The events of a member, by line. Raises ObjectMissing, ArchiveCorrupt, StoreError, IndexFailed."""
        rows = self._select(
            f"SELECT {_MEMBER}, m.places FROM members m JOIN files f ON f.id = m.file_id "  # noqa: S608
            "WHERE m.file_id=? AND m.number=?",
            [position >> MEMBER_NUMBER_BITS, position & MEMBERS_A_FILE],
        )
        if not rows:
            raise ObjectMissing(
                f"{self._path}: the archive has no member {position}: it is older than `archive_retention_days`, or "
                "the index was made anew. Choose a later time"
            )
        member = Member(*rows[0][:-1])
        return self._events(member, rows[0][-1], self._store.get_range(member.key, member.offset, member.length))

    def find(self, message_id: str, *, source: str | None = None) -> ArchivedEvent | None:
        """The event that was archived last with this messageId. Raises as :meth:`read_member`."""
        key = bloom.hash_id(message_id)
        before = 1 << 62
        while True:
            where, values = ("id<?", [before]) if source is None else ("id<? AND source=?", [before, source])
            query = f"SELECT id, bloom_slices FROM files WHERE {where} ORDER BY id DESC LIMIT {_PAGE}"  # noqa: S608
            seen, candidates = 0, []
            with self._database() as db:
                if db is None:
                    return None
                for file_id, slices in db.execute(query, values).fetchall():
                    seen, before = seen + 1, file_id
                    at = (file_id, bloom.slice_of(key, slices))
                    for (bits,) in db.execute("SELECT bits FROM blooms WHERE file_id=? AND slice=?", at):
                        if bloom.may_hold(bits, key):
                            candidates.append(file_id)
            for file_id in candidates:
                found = self._search(file_id, message_id)
                if found is not None:
                    return found
            if seen < _PAGE:
                return None

    def _search(self, file_id: int, message_id: str) -> ArchivedEvent | None:
        """The last event of a file with this messageId. The file is fetched whole, and opened member by member."""
        rows = self._select(
            f"SELECT {_MEMBER}, m.places FROM members m JOIN files f ON f.id = m.file_id "  # noqa: S608
            "WHERE m.file_id=? ORDER BY m.number DESC",
            [file_id],
        )
        if not rows:
            return None  # it expired meanwhile
        content = memoryview(self._store.get(rows[0][4]))
        for row in rows:
            member = Member(*row[:-1])
            part = bytes(content[member.offset : member.offset + member.length])
            for event in reversed(self._events(member, row[-1], part)):
                if event.message_id == message_id:
                    return event
        return None

    def _events(self, member: Member, places: bytes, content: bytes) -> list[ArchivedEvent]:
        try:
            lines = zlib.decompress(content, _GZIP).split(b"\n")
            if lines.pop() or len(lines) != member.events:
                raise ValueError(f"{len(lines)} lines instead of {member.events}")
            return [
                _event(member, line, place, body)
                for line, (place, body) in enumerate(zip(unpack_places(places), lines, strict=True))
            ]
        except (zlib.error, ValueError, msgspec.MsgspecError) as error:
            raise ArchiveCorrupt(
                f"{self._store.describe()}: {member.key}: bytes {member.offset} to {member.offset + member.length} are "
                f"not what was archived ({error}). Restore this object from a backup of the archive"
            ) from error

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._database() as db:
            return db.execute(query, values).fetchall() if db else []

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection | None]:
        """The index, None when there is none yet."""
        if not self._path.exists():
            yield None
            return
        try:
            with contextlib.closing(open_index(self._path, read_only=True)) as db:
                yield db
        except sqlite3.Error as error:
            raise IndexFailed(f"{self._path}: cannot read the archive's index: {error}") from error


def _event(member: Member, line: int, place: int, body: bytes) -> ArchivedEvent:
    head = _decode_head(body)
    received_at_us = parse_timestamp(head.receivedAt)
    if received_at_us is None:
        raise ValueError(f"line {line}: {head.receivedAt!r} is no time")
    name = head.event if head.type == "track" else head.name if head.type in ("page", "screen") else ""
    return ArchivedEvent(
        line,
        place,
        body,
        member.source,
        received_at_us // 1000,
        head.messageId,
        head.type,
        name if isinstance(name, str) else "",
        member.partition,
    )


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
