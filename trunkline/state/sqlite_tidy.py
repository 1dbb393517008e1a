"""What a SQLite state sums up and drops: a bounded number of rows a call, so that the writer is never held up.

Every function works within the transaction at hand and says whether more is left.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from trunkline.state.base import (
    ATTEMPTS_KEPT_D,
    ATTEMPTS_PER_DESTINATION,
    MINUTES_KEPT_H,
    RECORD_KEPT_D,
)
from trunkline.state.sqlite_keys import MINUTES_A_DAY
from trunkline.state.sqlite_record import HOUR, MINUTE_MS

COUNTERS_A_CALL: Final = 8_000
ATTEMPTS_A_CALL: Final = 2_000
OTHERS_A_CALL: Final = 1_000
KEYS_OUTLIVE_D: Final = 3
"""A key goes so much later than its last row could."""


class _Counters(NamedTuple):
    table: str
    keys: str
    counts: tuple[str, ...]


_RECORD = _Counters("delivery_record", "key", ("events", "first", "retries", "requests"))
_LATENCIES = _Counters("latencies", "key, bucket", ("events",))


def tidy(db: sqlite3.Connection, now_ms: int) -> bool:
    """One call's worth of everything."""
    minute = now_ms // MINUTE_MS
    month = minute - RECORD_KEPT_D * MINUTES_A_DAY
    more = False
    for counters in (_RECORD, _LATENCIES):
        more |= _sum_up(db, counters, minute - MINUTES_KEPT_H * HOUR)
        more |= _drop_hours(db, counters, month - HOUR + 1)
    more |= _drop_losses(db, month)
    more |= _drop_attempts(db, now_ms - ATTEMPTS_KEPT_D * MINUTES_A_DAY * MINUTE_MS)
    more |= _drop_samples(db, month * MINUTE_MS)
    if not more:  # so no row is left that names them
        more |= _drop_keys(db, minute // MINUTES_A_DAY - RECORD_KEPT_D - KEYS_OUTLIVE_D)
    return more


def _sum_up(db: sqlite3.Connection, counters: _Counters, before_minute: int) -> bool:
    """Minutes before this one become part of their hour."""
    last, more = _last_of_piece(db, counters, 1, before_minute)
    if last is None:
        return False
    piece = f"grain=1 AND (minute, {counters.keys}) <= ({','.join('?' * len(last))})"
    sums = ", ".join(f"sum({count})" for count in counters.counts)
    adds = ", ".join(f"{count} = {count} + excluded.{count}" for count in counters.counts)
    db.execute(
        f"INSERT INTO {counters.table} SELECT {HOUR}, minute - minute % {HOUR} AS hour, {counters.keys}, {sums} "  # noqa: S608
        f"FROM {counters.table} WHERE {piece} GROUP BY hour, {counters.keys} "
        f"ON CONFLICT (grain, minute, {counters.keys}) DO UPDATE SET {adds}",
        last,
    )
    db.execute(f"DELETE FROM {counters.table} WHERE {piece}", last)  # noqa: S608 - constant names
    return more


def _drop_hours(db: sqlite3.Connection, counters: _Counters, before_minute: int) -> bool:
    last, more = _last_of_piece(db, counters, HOUR, before_minute)
    if last is None:
        return False
    piece = f"(minute, {counters.keys}) <= ({','.join('?' * len(last))})"
    db.execute(f"DELETE FROM {counters.table} WHERE grain={HOUR} AND {piece}", last)  # noqa: S608 - constant names
    return more


def _last_of_piece(
    db: sqlite3.Connection, counters: _Counters, grain: int, before_minute: int
) -> tuple[tuple[int, ...] | None, bool]:
    """The key of the last row of the next piece of work, None when there is none; and whether more follows it."""
    order = f"minute, {counters.keys}"
    query = f"SELECT {order} FROM {counters.table} WHERE grain=? AND minute < ? ORDER BY "  # noqa: S608
    found = db.execute(f"{query} {order} LIMIT 1 OFFSET ?", (grain, before_minute, COUNTERS_A_CALL - 1)).fetchone()
    if found is not None:
        return found, True
    backwards = order.replace(",", " DESC,") + " DESC"
    return db.execute(f"{query} {backwards} LIMIT 1", (grain, before_minute)).fetchone(), False


def _drop_losses(db: sqlite3.Connection, before_minute: int) -> bool:
    """Whole minutes: few lanes lose events in one minute that much later."""
    found = db.execute(
        "SELECT received_minute FROM losses WHERE received_minute < ? ORDER BY received_minute LIMIT 1 OFFSET ?",
        (before_minute, OTHERS_A_CALL - 1),
    ).fetchone()
    end = before_minute if found is None else found[0] + 1
    db.execute("DELETE FROM losses WHERE received_minute < ?", (end,))
    return found is not None


def _drop_attempts(db: sqlite3.Connection, before_ms: int) -> bool:
    """Those that are too old, then those that are too many, oldest first."""
    gone = db.execute(
        "SELECT a.destination, a.id FROM attempt_counts c CROSS JOIN attempts a INDEXED BY attempts_by_age "
        "ON a.destination = c.destination WHERE a.at_ms < ? LIMIT ?",
        (before_ms, ATTEMPTS_A_CALL),
    ).fetchall()
    _delete_attempts(db, gone)
    left = ATTEMPTS_A_CALL - len(gone)
    for destination, excess in db.execute(
        "SELECT destination, count - ? FROM attempt_counts WHERE count > ?", (ATTEMPTS_PER_DESTINATION,) * 2
    ).fetchall():
        gone = db.execute(
            "SELECT destination, id FROM attempts WHERE destination=? ORDER BY at_ms, id LIMIT ?",
            (destination, min(excess, left)),
        ).fetchall()
        _delete_attempts(db, gone)
        left -= len(gone)
    return left <= 0


def _delete_attempts(db: sqlite3.Connection, gone: list[tuple[str, int]]) -> None:
    if not gone:
        return
    counts: dict[str, int] = {}
    for destination, _ in gone:
        counts[destination] = counts.get(destination, 0) + 1
    db.executemany("DELETE FROM attempts WHERE id=?", [(id,) for _, id in gone])
    db.executemany(
        "UPDATE attempt_counts SET count = count - ? WHERE destination=?",
        [(count, destination) for destination, count in counts.items()],
    )
    db.executemany("DELETE FROM attempt_counts WHERE destination=? AND count <= 0", [(name,) for name in counts])


def _drop_samples(db: sqlite3.Connection, before_ms: int) -> bool:
    gone = db.execute(
        "DELETE FROM samples WHERE id IN (SELECT id FROM samples WHERE at_ms < ? LIMIT ?)", (before_ms, OTHERS_A_CALL)
    )
    return gone.rowcount >= OTHERS_A_CALL


def _drop_keys(db: sqlite3.Connection, before_day: int) -> bool:
    more = False
    for table in ("record_keys", "record_lanes"):
        gone = db.execute(
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE last_day < ? LIMIT ?)",  # noqa: S608
            (before_day, OTHERS_A_CALL),
        )
        more |= gone.rowcount >= OTHERS_A_CALL
    return more
