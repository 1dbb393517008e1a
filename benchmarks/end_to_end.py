"""From the Tracking API to a webhook: throughput beside a bare loop of the same HTTP client, and latency."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from benchmarks.support import (
    GENERATOR_CORE,
    SYSTEM_CORE,
    WRITE_KEY,
    Row,
    Server,
    cpu_s,
    event,
    free_port,
    median_ratio,
    pinned,
    server,
)

EVENTS = 30_000
ROUNDS = 3
LATENCY_SECONDS = 15


@contextmanager
def sink() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(pinned(GENERATOR_CORE, [sys.executable, "-m", "benchmarks.sink", str(port)]))
    try:
        for _ in range(100):
            try:
                report(port)
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def report(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        seen: dict[str, float] = json.load(answer)
    return seen


def throughput() -> Row:
    """One POST an event. The sink must have seen every event exactly once."""
    pairs, notes = [], []
    for number in range(ROUNDS):
        with sink() as port:
            yardstick = _bare(port)
        with sink() as port, server([_webhook(port)], core=SYSTEM_CORE) as running:
            before_s, started_s = cpu_s(running.pids), time.time()
            asyncio.run(_send_batches(running, number * EVENTS, EVENTS))
            sent_s = time.time() - started_s
            running.wait_until_drained(120)
            used_s = cpu_s(running.pids) - before_s
            seen = report(port)
            if seen["distinct"] != EVENTS or seen["posts"] != EVENTS:
                raise SystemExit(f"{EVENTS} events were sent, the sink saw {seen}")
        pairs.append((EVENTS / (seen["last_s"] - started_s), yardstick))
        notes.append(f"{used_s / EVENTS * 1e6:.0f} µs CPU an event in all, sent within {sent_s:.1f} s")
    middle = pairs[len(pairs) // 2]
    return Row(
        "end to end, one POST an event to a webhook",
        f"{middle[0]:,.0f}/s",
        f"bare loop of the same client, same sink: {middle[1]:,.0f}/s",
        median_ratio(pairs),
        "0.40",
        notes[:1],
    )


def latency(maximum_per_s: float) -> Row:
    """At a quarter of the maximum, from just before the request to the sink's receipt."""
    rate = maximum_per_s / 4
    with sink() as port, server([_webhook(port)], core=SYSTEM_CORE) as running:
        asyncio.run(_send_paced(running, rate, LATENCY_SECONDS))
        running.wait_until_drained(60)
        seen = report(port)
    expected = int(rate * LATENCY_SECONDS)
    if seen["distinct"] != expected:
        raise SystemExit(f"{expected} events were sent, the sink saw {seen}")
    return Row(
        f"p99 from SDK request to webhook receipt at {rate:,.0f} events a second",
        f"{seen['p99_ms']:.0f} ms (p50 {seen['p50_ms']:.0f} ms)",
        "—",
        None,
        "100 ms",
    )


def _webhook(port: int) -> dict[str, object]:
    return {"slug": "hook", "type": "webhook", "settings": {"url": f"http://127.0.0.1:{port}/hook"}}


def _bare(port: int) -> float:
    done = subprocess.run(
        pinned(SYSTEM_CORE, [sys.executable, "-m", "benchmarks.bare_post", str(port), str(EVENTS)]),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _headers() -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()}


async def _send_batches(running: Server, start: int, count: int) -> None:
    async with aiohttp.ClientSession(headers=_headers()) as session:

        async def send(first: int) -> None:
            body = json.dumps({"batch": [event(number) for number in range(first, first + 100)]})
            async with session.post(f"{running.url}/v1/batch", data=body) as answer:
                if answer.status != 200:
                    raise SystemExit(f"{answer.status}: {await answer.text()}")

        for first in range(start, start + count, 400):
            await asyncio.gather(
                *(send(first + offset) for offset in range(0, 400, 100) if first + offset < start + count)
            )


async def _send_paced(running: Server, rate: float, seconds: int) -> None:
    """Single-event requests at a steady rate, each with the moment of its sending inside."""
    total = int(rate * seconds)
    async with aiohttp.ClientSession(headers=_headers()) as session:

        async def send(number: int) -> None:
            body = event(number)
            body["properties"] = {"sentNs": time.time_ns()}
            async with session.post(f"{running.url}/v1/track", data=json.dumps(body, separators=(",", ":"))) as answer:
                if answer.status != 200:
                    raise SystemExit(f"{answer.status}: {await answer.text()}")

        started_s = time.monotonic()
        pending: set[asyncio.Task[None]] = set()
        for number in range(total):
            wait_s = started_s + number / rate - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(send(number))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)
