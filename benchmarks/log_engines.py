"""Which engine for the embedded log: our segment files, SQLite segments or LMDB; every append durable.

Run ``python benchmarks/log_engines.py [--dir DIR]`` on the disk that shall be measured; it takes about a minute and
prints markdown tables. Records are 1 KB with their counts; a block is one append, one commit. The engines take turns
within each table, so that a disturbance of the machine meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import lmdb
import msgspec

from trunkline.clock import SystemClock
from trunkline.log.base import NewRecord
from trunkline.log.embedded import EmbeddedLog

RECORD_BYTES = 1000
BLOCK_SIZES = (1, 30, 100)
COUNTS = {"web": 1}
ROUNDS = 3
ROUND_S = 0.7


class Engine(Protocol):
    """What each candidate must do. ``read`` yields batches of payloads from the start and then ends at the head."""

    def append(self, payloads: list[bytes]) -> None: ...
    def read(self, start: int) -> Iterator[list[bytes]]: ...
    def head(self) -> int: ...
    def drop_old_half(self) -> None: ...
    def close(self) -> None: ...


class Segments:
    """Ours."""

    def __init__(self, path: Path, segment_bytes: int, writer: bool) -> None:
        self.log = EmbeddedLog(path, SystemClock(), segment_bytes=segment_bytes)
        self.appender = self.log.appender("t", "p") if writer else None
        self.reader = self.log.reader("t", "p")

    def append(self, payloads: list[bytes]) -> None:
        assert self.appender is not None
        self.appender.append([NewRecord(payload, COUNTS) for payload in payloads])

    def read(self, start: int) -> Iterator[list[bytes]]:
        self.reader.seek(start)
        while records := self.reader.read(1 << 20):
            yield [record.payload for record in records]

    def head(self) -> int:
        return self.log.totals("t", "p").position

    def drop_old_half(self) -> None:
        size = self.log.size_bytes("t")
        self.log.retain("t", "p", consumed=1 << 62, older_than_ms=0, max_bytes=size // 2)

    def close(self) -> None:
        self.reader.close()
        if self.appender is not None:
            self.appender.close()


class SqliteSegments:
    """A database file for each segment: WAL, synchronous=FULL, one transaction a block."""

    def __init__(self, path: Path, segment_bytes: int, writer: bool) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.segment_bytes = path, segment_bytes
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(dict[str, int]).decode
        self.db: sqlite3.Connection | None = None
        self.written = 0
        self.next = self.head()
        if writer:
            segments = self.segments()
            self.open(segments[-1] if segments else 0)

    def segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self.path.glob("*.db"))

    def connect(self, first: int) -> sqlite3.Connection:
        db = sqlite3.connect(self.path / f"{first:020d}.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        return db

    def open(self, first: int) -> None:
        if self.db is not None:
            self.db.close()
        self.db = self.connect(first)
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS record"
            " (ordinal INTEGER PRIMARY KEY, counts BLOB NOT NULL, payload BLOB NOT NULL)"
        )
        self.written = 0

    def append(self, payloads: list[bytes]) -> None:
        assert self.db is not None
        if self.written > self.segment_bytes:
            self.open(self.next)
        encode, first = self.encode, self.next
        rows = [(first + at, encode(COUNTS), payload) for at, payload in enumerate(payloads)]
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
        self.db.execute("COMMIT")
        self.next += len(payloads)
        self.written += len(payloads) * RECORD_BYTES

    def read(self, start: int) -> Iterator[list[bytes]]:
        segments = self.segments()
        for at, first in enumerate(segments):
            if at + 1 < len(segments) and segments[at + 1] <= start:
                continue
            db = self.connect(first)
            query = "SELECT ordinal, counts, payload FROM record WHERE ordinal >= ? ORDER BY ordinal LIMIT 1000"
            while rows := db.execute(query, (start,)).fetchall():
                start = rows[-1][0] + 1
                yield [row[2] for row in rows if self.decode(row[1])]
            db.close()

    def head(self) -> int:
        for first in reversed(self.segments()):
            db = self.connect(first)
            last = db.execute("SELECT max(ordinal) FROM record").fetchone()[0]
            db.close()
            if last is not None:
                return int(last) + 1
        return 0

    def drop_old_half(self) -> None:
        segments = self.segments()
        for first in segments[: len(segments) // 2]:
            for suffix in ("db", "db-wal", "db-shm"):
                (self.path / f"{first:020d}.{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        if self.db is not None:
            self.db.close()


class Lmdb:
    """One environment, every commit synced; records under their ordinal."""

    def __init__(self, path: Path, segment_bytes: int, writer: bool) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.env = lmdb.open(str(path), map_size=4 << 30, readonly=not writer, lock=True, max_readers=16)
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(tuple[dict[str, int], bytes]).decode
        self.next = self.head()

    def append(self, payloads: list[bytes]) -> None:
        encode, first = self.encode, self.next
        with self.env.begin(write=True) as txn:
            for at, payload in enumerate(payloads):
                txn.put((first + at).to_bytes(8, "big"), encode((COUNTS, payload)), append=True)
        self.next += len(payloads)

    def read(self, start: int) -> Iterator[list[bytes]]:
        while True:
            batch: list[bytes] = []
            with self.env.begin() as txn, txn.cursor() as cursor:
                found = cursor.set_range(start.to_bytes(8, "big"))
                while found and len(batch) < 1000:
                    batch.append(self.decode(cursor.value())[1])
                    start = int.from_bytes(cursor.key(), "big") + 1
                    found = cursor.next()
            if not batch:
                return
            yield batch

    def head(self) -> int:
        with self.env.begin() as txn, txn.cursor() as cursor:
            return int.from_bytes(cursor.key(), "big") + 1 if cursor.last() else 0

    def drop_old_half(self) -> None:
        middle = self.next // 2
        with self.env.begin(write=True) as txn, txn.cursor() as cursor:
            found = cursor.first()
            while found and int.from_bytes(cursor.key(), "big") < middle:
                found = cursor.delete()

    def close(self) -> None:
        self.env.close()


ENGINES: dict[str, type[Segments] | type[SqliteSegments] | type[Lmdb]] = {
    "segment files": Segments,
    "SQLite segments": SqliteSegments,
    "LMDB": Lmdb,
}


def make(name: str, path: Path, segment_bytes: int = 64 << 20, writer: bool = True) -> Engine:
    return ENGINES[name](path, segment_bytes, writer)


def payloads(size: int) -> list[bytes]:
    return [os.urandom(RECORD_BYTES // 2) * 2 for _ in range(size)]


def disk_bytes(path: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def measure_appends(root: Path) -> None:
    rows: list[list[str]] = []
    for size in BLOCK_SIZES:
        block = payloads(size)
        engines = {name: make(name, root / f"append-{size}-{at}") for at, name in enumerate(ENGINES)}
        took_s: dict[str, list[float]] = {name: [] for name in engines}
        cpu_s = dict.fromkeys(engines, 0.0)
        raw_s: list[float] = []
        for _ in range(ROUNDS):
            for name, engine in engines.items():
                end, cpu = time.perf_counter() + ROUND_S, time.process_time()
                while (start := time.perf_counter()) < end:
                    engine.append(block)
                    took_s[name].append(time.perf_counter() - start)
                cpu_s[name] += time.process_time() - cpu
            raw_s += raw_appends(root / "raw", b"".join(block))
        for name, engine in engines.items():
            appends = len(took_s[name])
            rows.append([str(size), name, *percentiles_ms(took_s[name]), f"{cpu_s[name] / appends * 1e6:.0f}"])
            engine.close()
        rows.append([str(size), "(bare write + fdatasync)", *percentiles_ms(raw_s), ""])
    table(
        "Durable appends",
        ["block, KB", "engine", "p50 ms", "p99 ms", "max ms", "appends/s", "CPU µs an append"],
        rows,
    )


def raw_appends(path: Path, data: bytes) -> list[float]:
    took_s: list[float] = []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    end = time.perf_counter() + ROUND_S / 2
    while (start := time.perf_counter()) < end:
        os.write(fd, data)
        os.fdatasync(fd)
        took_s.append(time.perf_counter() - start)
    os.close(fd)
    return took_s


def percentiles_ms(took_s: list[float]) -> list[str]:
    cuts = statistics.quantiles(took_s, n=100)
    figures = [cuts[49] * 1e3, cuts[98] * 1e3, max(took_s) * 1e3]
    return [*(f"{figure:.2f}" for figure in figures), f"{len(took_s) / sum(took_s):.0f}"]


def child(role: str, name: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "--child", role, name, str(path), *arguments], stdout=subprocess.PIPE, text=True
    )


def child_main(role: str, name: str, path: Path, arguments: list[str]) -> None:
    if role == "read":
        engine = make(name, path, writer=False)
        end, seen, start = time.perf_counter() + float(arguments[0]), 0, time.perf_counter()
        while time.perf_counter() < end:
            for batch in engine.read(seen):
                seen += len(batch)
                if time.perf_counter() > end:
                    break
            time.sleep(0.001)
        print(json.dumps({"records": seen, "seconds": time.perf_counter() - start}))
        return
    engine, block, done = make(name, path), payloads(30), 0
    while True:
        engine.append(block)
        done += len(block)
        print(done, flush=True)


def measure_readers(root: Path) -> None:
    rows: list[list[str]] = []
    block, seconds = payloads(30), 2.0
    for at, name in enumerate(ENGINES):
        path = root / f"readers-{at}"
        engine = make(name, path)
        for _ in range(1000):
            engine.append(block)
        start, cpu, records = time.perf_counter(), time.process_time(), 0
        for batch in engine.read(0):
            records += len(batch)
        alone = records * RECORD_BYTES / 1e6 / (time.perf_counter() - start)
        cpu_us = (time.process_time() - cpu) / records * 1e6
        readers = [child("read", name, path, str(seconds)) for _ in range(2)]
        time.sleep(0.3)
        took_s: list[float] = []
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            engine.append(block)
            took_s.append(time.perf_counter() - start)
        told = [json.loads(reader.communicate()[0]) for reader in readers]
        read_mb_s = sum(each["records"] * RECORD_BYTES / 1e6 / each["seconds"] for each in told)
        p50, p99, _, rate = percentiles_ms(took_s)
        rows.append([name, f"{alone:.0f}", f"{cpu_us:.1f}", rate, p50, p99, f"{read_mb_s:.0f}"])
        engine.close()
    table(
        "Reading 30 MB alone; then appends of 30 KB beside two reader processes that read all and follow",
        ["engine", "alone, MB/s", "CPU µs a record", "appends/s", "p50 ms", "p99 ms", "both readers, MB/s"],
        rows,
    )


def measure_reclaim(root: Path) -> None:
    rows: list[list[str]] = []
    block = payloads(100)
    for at, name in enumerate(ENGINES):
        path = root / f"reclaim-{at}"
        engine = make(name, path, segment_bytes=8 << 20)
        for _ in range(640):
            engine.append(block)
        before = disk_bytes(path)
        start = time.perf_counter()
        engine.drop_old_half()
        took_s = time.perf_counter() - start
        rows.append([name, f"{before / 1e6:.0f}", f"{disk_bytes(path) / 1e6:.0f}", f"{took_s * 1e3:.1f}"])
        engine.close()
    table("Dropping the old half of 64 MB", ["engine", "MB before", "MB after", "ms"], rows)


def measure_recovery(root: Path) -> None:
    rows: list[list[str]] = []
    for at, name in enumerate(ENGINES):
        path = root / f"recovery-{at}"
        writer = child("write", name, path)
        assert writer.stdout is not None
        acked = 0
        while acked < 45_000:
            acked = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        acked = max([acked, *map(int, writer.communicate()[0].split())])
        torn = tear(name, path)
        start = time.perf_counter()
        engine = make(name, path)
        engine.append(payloads(1))
        took_s = time.perf_counter() - start
        head = engine.head() - 1
        engine.close()
        rows.append(
            [name, f"{acked / 1000:.0f}", torn, f"{took_s * 1e3:.1f}", "none" if head >= acked else str(acked - head)]
        )
    table(
        "kill -9 while appending, a torn write at the end, then open and append one record",
        ["engine", "MB", "torn write", "ms", "acknowledged records lost"],
        rows,
    )


def tear(name: str, path: Path) -> str:
    """Leave half a block behind the last one, as a crash within a write does."""
    if name == "LMDB":
        return "(writes no page in place)"
    pattern = "*.seg" if name == "segment files" else "*.db-wal"
    last = max(path.rglob(pattern))
    with last.open("ab") as file:
        file.write(os.urandom(15_000))
    return f"15 KB behind {pattern[1:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(), help="a directory on the disk to measure")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        role, name, path, *arguments = options.child
        child_main(role, name, Path(path), arguments)
        return
    root = Path(tempfile.mkdtemp(prefix="log-engines-", dir=options.dir))
    start = time.perf_counter()
    try:
        for measure in (measure_appends, measure_readers, measure_reclaim, measure_recovery):
            measure(root)
    finally:
        shutil.rmtree(root)
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
