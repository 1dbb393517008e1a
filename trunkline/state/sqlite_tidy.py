"""What a SQLite state sums up and drops: a bounded piece of work a call, so that the writer is never held up.

A step works within the transaction at hand on at most ``limit`` rows and returns how many there were.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from trunkline.state.base import (
    ATTEMPTS_KEPT_D,
    ATTEMPTS_PER_DESTINATION,
    MINUTES_KEPT_H,
    RECORD_KEPT_D,
)
from trunkline.state.sqlite_keys import MINUTES_A_DAY, KeyIds
from trunkline.state.sqlite_record import HOUR, MINUTE_MS

WORK_A_CALL: Final = 6_000
"""Counter rows: some 5 us each, measured with their indexes."""
ATTEMPT_COST: Final = 4
"""An attempt is in three indexes, one of them in no order."""
KEYS_OUTLIVE_D: Final = 3
"""A key goes so much later than its last row could."""

_Step = Callable[[int], int]


class _Counters(NamedTuple):
    table: str
    keys: str
    counts: tuple[str, ...]


_RECORD = _Counters("delivery_record", "key", ("events", "first", "retries", "requests"))
_LATENCIES = _Counters("latencies", "key, bucket", ("events",))


def tidy(db: sqlite3.Connection, keys: Sequence[KeyIds], now_ms: int) -> bool:
    """One call's worth of work; whether more is left. ``keys`` are those of all counters."""
    minute = now_ms // MINUTE_MS
    minutes_end = minute - MINUTES_KEPT_H * HOUR
    month_start = minute - RECORD_KEPT_D * MINUTES_A_DAY
    attempts_start_ms = now_ms - ATTEMPTS_KEPT_D * MINUTES_A_DAY * MINUTE_MS
    keys_start_day = minute // MINUTES_A_DAY - RECORD_KEPT_D - KEYS_OUTLIVE_D
    steps: list[tuple[_Step, int]] = [
        (partial(_drop_old_attempts, db, attempts_start_ms), ATTEMPT_COST),
        (partial(_drop_excess_attempts, db), ATTEMPT_COST),
        (partial(_drop_samples, db, month_start * MINUTE_MS), ATTEMPT_COST),
        (partial(_drop_losses, db, month_start), 1),
        (partial(_sum_up, db, _RECORD, minutes_end), 1),
        (partial(_sum_up, db, _LATENCIES, minutes_end), 1),
        (partial(_drop_hours, db, _RECORD, month_start - HOUR + 1), 1),
        (partial(_drop_hours, db, _LATENCIES, month_start - HOUR + 1), 1),
        # Last: by now no row is left that has their numbers.
        *((partial(ids.drop, keys_start_day), ATTEMPT_COST) for ids in keys),
    ]
    left = WORK_A_CALL
    for step, cost in steps:
        limit = left // cost
        done = step(limit) if limit else 0
        if done >= limit:
            return True
        left -= done * cost
    return False


def _sum_up(db: sqlite3.Connection, counters: _Counters, before_minute: int, limit: int) -> int:
    """Minutes before this one become part of their hour."""
    last = _last_of_piece(db, counters, 1, before_minute, limit)
    if last is None:
        return 0
    piece = f"grain=1 AND (minute, {counters.keys}) <= ({','.join('?' * len(last))})"
    sums = ", ".join(f"sum({count})" for count in counters.counts)
    adds = ", ".join(f"{count} = {count} + excluded.{count}" for count in counters.counts)
    db.execute(
        f"INSERT INTO {counters.table} SELECT {HOUR}, minute - minute % {HOUR} AS hour, {counters.keys}, {sums} "  # noqa: S608
        f"FROM {counters.table} WHERE {piece} GROUP BY hour, {counters.keys} "
        f"ON CONFLICT (grain, minute, {counters.keys}) DO UPDATE SET {adds}",
        last,
    )
    return db.execute(f"DELETE FROM {counters.table} WHERE {piece}", last).rowcount  # noqa: S608 - constant names


def _drop_hours(db: sqlite3.Connection, counters: _Counters, before_minute: int, limit: int) -> int:
    last = _last_of_piece(db, counters, HOUR, before_minute, limit)
    if last is None:
        return 0
    piece = f"grain={HOUR} AND (minute, {counters.keys}) <= ({','.join('?' * len(last))})"
    return db.execute(f"DELETE FROM {counters.table} WHERE {piece}", last).rowcount  # noqa: S608 - constant names


def _last_of_piece(
    db: sqlite3.Connection, counters: _Counters, grain: int, before_minute: int, limit: int
) -> tuple[int, ...] | None:
    """The key of the last row of the next ``limit`` rows, None when there is no row before that minute."""
    order = f"minute, {counters.keys}"
    query = f"SELECT {order} FROM {counters.table} WHERE grain=? AND minute < ? ORDER BY"  # noqa: S608
    last: tuple[int, ...] | None = db.execute(
        f"{query} {order} LIMIT 1 OFFSET ?", (grain, before_minute, limit - 1)
    ).fetchone()
    if last is None:  # fewer: all of them
        backwards = order.replace(",", " DESC,") + " DESC"
        last = db.execute(f"{query} {backwards} LIMIT 1", (grain, before_minute)).fetchone()
    return last


def _drop_losses(db: sqlite3.Connection, before_minute: int, limit: int) -> int:
    """Whole minutes, so it may be a few more."""
    found = db.execute(
        "SELECT received_minute FROM losses WHERE received_minute < ? ORDER BY received_minute LIMIT 1 OFFSET ?",
        (before_minute, limit - 1),
    ).fetchone()
    end = before_minute if found is None else found[0] + 1
    return db.execute("DELETE FROM losses WHERE received_minute < ?", (end,)).rowcount


def _drop_old_attempts(db: sqlite3.Connection, before_ms: int, limit: int) -> int:
    gone = db.execute(
        "SELECT a.destination, a.id FROM attempt_counts c CROSS JOIN attempts a INDEXED BY attempts_by_age "
        "ON a.destination = c.destination WHERE a.at_ms < ? LIMIT ?",
        (before_ms, limit),
    ).fetchall()
    _delete_attempts(db, gone)
    return len(gone)


def _drop_excess_attempts(db: sqlite3.Connection, limit: int) -> int:
    """Those that are too many, the oldest of a destination first."""
    done = 0
    for destination, excess in db.execute(
        "SELECT destination, count - ? FROM attempt_counts WHERE count > ?", (ATTEMPTS_PER_DESTINATION,) * 2
    ).fetchall():
        gone = db.execute(
            "SELECT destination, id FROM attempts WHERE destination=? ORDER BY at_ms, id LIMIT ?",
            (destination, min(excess, limit - done)),
        ).fetchall()
        _delete_attempts(db, gone)
        done += len(gone)
    return done


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


def _drop_samples(db: sqlite3.Connection, before_ms: int, limit: int) -> int:
    return db.execute(
        "DELETE FROM samples WHERE id IN (SELECT id FROM samples WHERE at_ms < ? LIMIT ?)", (before_ms, limit)
    ).rowcount
