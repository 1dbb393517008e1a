"""Ingest alone: single-event requests against nginx, batches of 100 against a bare decode-and-append thread."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import wrk
from benchmarks.support import SYSTEM_CORE, Row, cpu_s, median_ratio, pinned, server

ROUNDS = 3
SECONDS = 5
BATCH = 100


def single() -> Row:
    """Durable single-event requests of one ingest process, beside nginx's ``return 200`` with the same bodies."""
    pairs, notes = [], []
    start = 1
    for _ in range(ROUNDS):
        with wrk.nginx(SYSTEM_CORE) as port:
            yardstick = wrk.run(port, "/v1/track", wrk.single_body(), seconds=SECONDS, connections=128, start=start)
        with server(core=SYSTEM_CORE, roles=["ingest"]) as running:
            before = cpu_s(running.pids)
            ours = wrk.run(running.port, "/v1/track", wrk.single_body(), seconds=SECONDS, connections=128, start=start)
            used_s = cpu_s(running.pids) - before
            _check(running.received(), ours.requests, ours.bad)
        start += ours.requests
        pairs.append((ours.per_s, yardstick.per_s))
        notes.append(f"{used_s / ours.requests * 1e6:.0f} µs CPU a request, p99 {ours.p99_ms:.1f} ms")
    best = pairs[len(pairs) // 2]
    return Row(
        "single-event requests, durable ack, one ingest process",
        f"{best[0]:,.0f}/s",
        f"nginx `return 200`, one worker: {best[1]:,.0f}/s",
        median_ratio(pairs),
        "0.20",
        notes[:1],
    )


def batch() -> Row:
    """Events a second in batches of 100, beside one thread that decodes the same bytes and appends them."""
    pairs, typed_pairs, notes = [], [], []
    body = wrk.batch_body(BATCH)
    for _ in range(ROUNDS):
        yardstick, typed = _bare(body, "full"), _bare(body, "typed")
        with server(core=SYSTEM_CORE, roles=["ingest"]) as running:
            before = cpu_s(running.pids)
            ours = wrk.run(running.port, "/v1/batch", body, seconds=SECONDS, connections=8, start=1)
            used_s = cpu_s(running.pids) - before
            _check(running.received(), ours.requests * BATCH, ours.bad)
        pairs.append((ours.per_s * BATCH, yardstick))
        typed_pairs.append((ours.per_s * BATCH, typed))
        notes.append(f"{used_s / ours.requests / BATCH * 1e6:.1f} µs CPU an event, p99 {ours.p99_ms:.1f} ms")
    best = pairs[len(pairs) // 2]
    return Row(
        "batches of 100, events a second",
        f"{best[0]:,.0f}/s",
        f"one thread decoding the same bytes and appending with fdatasync: {best[1]:,.0f}/s",
        median_ratio(pairs),
        "0.50",
        [f"{median_ratio(typed_pairs):.2f} of one that decodes only the top level of events", *notes[:1]],
    )


def _check(in_log: int, answered: int, bad: int) -> None:
    """Every request that was answered 200 must be in the log; those under way at the end may be too."""
    if bad or in_log < answered:
        raise SystemExit(f"{answered} events were acknowledged ({bad} refused), the log holds {in_log}")


def _bare(body: str, decode: str) -> float:
    """Events a second of the yardstick, in a process of its own on the system's core."""
    with tempfile.TemporaryDirectory(prefix="trunkline-bare-") as folder:
        bodies = Path(folder) / "body"
        bodies.write_text(body)
        done = subprocess.run(
            pinned(SYSTEM_CORE, [sys.executable, "-m", "benchmarks.bare_append", str(bodies), folder, decode]),
            capture_output=True,
            text=True,
            check=True,
            env=os.environ,
        )
    return float(done.stdout)
