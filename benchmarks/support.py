"""What the benchmarks share: pinned processes, their CPU time, a server tree, events of 1 KB, a result table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from trunkline.archive.index import committed_cursor
from trunkline.clock import SystemClock
from trunkline.log.base import INGESTED
from trunkline.log.embedded import EmbeddedLog
from trunkline.runtime.layout import DataDir
from trunkline.runtime.wake import Waker
from trunkline.state.sqlite import SqliteStateStore

TRUNKLINE = Path(sys.executable).with_name("trunkline")
SOURCE = "bench"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
SYSTEM_CORE = 0
GENERATOR_CORE = 1


def write_key(source: str) -> str:
    return f"wk_{source}"


WRITE_KEY = write_key(SOURCE)


def event(number: int) -> dict[str, object]:
    """A track call of about 1 KB as a browser sends it; ``number`` makes its id."""
    return {
        "type": "track",
        "event": "Order Completed",
        "userId": f"user-{number % 100_000}",
        "anonymousId": f"0f2b8b1e-5a60-4c5d-9b3a-{number:012d}",
        "messageId": f"ajs-next-1732212345678-{number:012d}-bench",
        "timestamp": "2026-11-21T10:00:00.123Z",
        "properties": {
            "order_id": f"o-{number}",
            "total": 129.95,
            "revenue": 119.95,
            "currency": "EUR",
            "coupon": "SUMMER",
            "products": [
                {"product_id": "p1", "sku": "S-1", "name": "Monopoly: 3rd Edition", "price": 19, "category": "Games"},
                {"product_id": "p2", "sku": "S-2", "name": "UNO Card Game", "price": 3, "category": "Games"},
            ],
        },
        "context": {
            "library": {"name": "analytics.js", "version": "npm:next-1.84.3"},
            "page": {
                "path": "/checkout/done",
                "referrer": "https://example.com/checkout",
                "title": "Thanks",
                "url": "https://example.com/checkout/done?a=1",
            },
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0",
            "locale": "de-DE",
            "timezone": "Europe/Berlin",
        },
        "integrations": {},
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: int, command: Sequence[str]) -> list[str]:
    return ["taskset", "-c", str(core), *command]


def pin(pids: Sequence[int], cores: Iterable[int]) -> None:
    """Move running processes, all threads of theirs, to these cores."""
    for pid in [*pids, *pids]:  # twice: a thread may have been made meanwhile by one that had not been moved
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    os.sched_setaffinity(int(thread.name), cores)


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        queue += children.get(current, [])
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """CPU time that these processes have used."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / CLOCK_TICKS


def memory_mb(pids: Sequence[int]) -> float:
    """Proportional set size of these processes together: shared pages count once."""
    total_kb = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total_kb += int(line.split()[1])
        except OSError:
            continue
    return total_kb / 1024


class MemorySampler:
    """Looks at the memory of a server's whole tree once a second while it is open."""

    def __init__(self, running: Server) -> None:
        self._running = running
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.samples_mb: list[float] = []

    def _look(self) -> None:
        while True:
            self.samples_mb.append(memory_mb(self._running.pids))
            if self._ended.wait(1):
                return

    @property
    def highest_mb(self) -> float:
        return max(self.samples_mb)

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@dataclass
class Server:
    """A running Trunkline."""

    data_dir: Path
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    sources: Sequence[str] = (SOURCE,)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        return tree(self.process.pid)

    def verify(self) -> dict[str, dict[str, dict[str, int]]]:
        done = subprocess.run(
            [TRUNKLINE, "verify", "--data-dir", self.data_dir, "--json"], capture_output=True, check=False
        )
        books: dict[str, dict[str, dict[str, int]]] = json.loads(done.stdout)
        if not books["balanced"]:
            raise SystemExit(f"the books do not balance: {books}")
        return books

    def received(self) -> int:
        return sum(books["received"] for books in self.verify()["sources"].values())

    def wait_until_caught_up(self, timeout_s: float, *, delivered: bool = True) -> None:
        """Like :meth:`wait_until_drained` without checking the whole log each time: for long runs. Not ``delivered``:
        until all that was received is in the accepted log."""
        log = EmbeddedLog(self.data_dir / "log", SystemClock())
        deadline = time.monotonic() + timeout_s
        while True:
            store = SqliteStateStore(self.data_dir / "state.db", read_only=True)
            state = store.read()
            store.close()
            passed = sum(count for books in state.source_totals.values() for count in books.values())
            counts = [log.totals(INGESTED, name).counts for name in log.partitions(INGESTED)]
            received = sum(by_source.get(source, 0) for by_source in counts for source in self.sources)
            if passed == received and not (delivered and (state.lanes or state.row_counts)):
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"not caught up within {timeout_s} s: {received} received, {passed} passed on")
            time.sleep(0.2)

    def wait_until_archived(self, timeout_s: float) -> None:
        """Ask for what was accepted so far to be archived at once, and wait for it."""
        data = DataDir(self.data_dir)
        store = SqliteStateStore(data.state, read_only=True)
        accepted = store.read().accepted
        store.close()
        waker = Waker(data.archive_wake)
        waker.wake()
        deadline = time.monotonic() + timeout_s
        while any(committed_cursor(data.archive_index).get(name, 0) < at for name, at in accepted.items()):
            if time.monotonic() > deadline:
                raise SystemExit(f"not archived within {timeout_s} s, see {self.log}")
            time.sleep(0.2)
        waker.close()

    def wait_until_drained(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while any(books["pending"] for books in self.verify()["destinations"].values()):
            if time.monotonic() > deadline:
                raise SystemExit(f"not drained within {timeout_s} s: {self.verify()}")
            time.sleep(0.2)


@contextmanager
def server(
    destinations: Sequence[dict[str, object]] = (),
    *,
    core: int | None = None,
    roles: Sequence[str] = (),
    sources: Sequence[str] = (SOURCE,),
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A fresh server with these sources and destinations, on a core of its own if asked. A destination that names no
    sources gets the first one. ``settings``: environment variables."""
    root = Path(tempfile.mkdtemp(prefix="trunkline-bench-"))
    config = root / "workspace.json"
    config.write_text(
        json.dumps(
            {
                "workspace": {"slug": "bench", "name": "Bench"},
                "sources": [{"slug": slug, "type": "http", "write_keys": [write_key(slug)]} for slug in sources],
                "destinations": [{"sources": [sources[0]], "enabled": True, **entry} for entry in destinations],
                "egress": {"allow_private": ["127.0.0.0/8"]},
            }
        )
    )
    port = free_port()
    command = [str(TRUNKLINE), "serve", "--data-dir", str(root / "data"), "--config", str(config), "--port", str(port)]
    for role in roles:
        command += ["--role", role]
    log = root / "server.log"
    with log.open("wb") as output:
        environ = {**os.environ, **(settings or {})}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
    running = Server(root / "data", port, process, log, sources)
    try:
        _wait_for(f"{running.url}/health", process, log)
        if core is not None:  # only now: it starts sooner on all of them
            pin(running.pids, [core])
        yield running
    finally:
        started = running.pids
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            for pid in started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"the server ended: {log.read_text()}")
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the server did not get ready: {log.read_text()}")


@dataclass
class Row:
    """One line of the result table. ``ratio`` is measured against the yardstick in the same run."""

    what: str
    figure: str
    yardstick: str
    ratio: float | None
    at_least: str
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ratio = "—" if self.ratio is None else f"{self.ratio:.2f}"
        return (
            f"| {self.what} | {self.figure} | {self.yardstick} | {ratio} | {self.at_least} | {'; '.join(self.notes)} |"
        )


HEADER = "| what | measured | yardstick | ratio | wanted | notes |\n| --- | --- | --- | --- | --- | --- |"


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Of (ours, yardstick) pairs measured in turn: the median of the pairs' ratios."""
    return statistics.median(ours / yardstick for ours, yardstick in pairs)


def median_pair(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The pair whose ratio is the median, the lower one of two."""
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[(len(pairs) - 1) // 2]
