"""CPU that ingest spends on an event: the pure path of a batch, and single requests end to end over loopback.

Run it with ``python -m benchmarks.ingest_cpu`` or as a file. The server runs in a process of its own, pinned to one
core, with the embedded log; the generator is pinned to another. The yardstick, printed beside each figure, is
``orjson.loads`` of the same bytes in the same run.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import socket
import statistics
import tempfile
import time
import uuid
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import orjson
import uvloop

from trunkline.clock import SystemClock
from trunkline.ingest.app import AsgiApp, IngestApp
from trunkline.ingest.auth import Callers
from trunkline.ingest.committer import Committer
from trunkline.ingest.intake import Caller, Intake
from trunkline.ingest.metrics import IngestMetrics
from trunkline.ingest.server import IngestServer
from trunkline.ingest.unknown_keys import UnknownKeys
from trunkline.log.base import INGESTED
from trunkline.log.embedded import EmbeddedLog
from trunkline.runtime.interpreter import tune_interpreter
from trunkline.workspace.model import Snapshot, Source

BATCHES = 40
EVENTS = 100
CONNECTIONS = 64
SECONDS = 5.0


def make_event(number: int, page: object) -> dict[str, Any]:
    """About 1 KB, as the browser SDK sends it."""
    return {
        "timestamp": f"2026-11-21T10:11:12.{number % 1000:03}Z",
        "integrations": {"All": True, "Salesforce": False},
        "type": "track",
        "event": "Order Completed",
        "properties": {
            "order_id": f"order-{number}",
            "revenue": 12.5 + number,
            "currency": "USD",
            "coupon": "SUMMER",
            "items": number,
            "category": "shoes",
            "first": True,
        },
        "context": {
            "page": {
                "path": f"/products/{page}",
                "referrer": "https://www.example.com/",
                "search": "?utm_source=news",
                "title": "Products",
                "url": f"https://shop.example.com/products/{page}?utm_source=news",
            },
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
            "locale": "en-US",
            "library": {"name": "analytics.js", "version": "npm:next-1.81.0"},
            "campaign": {"name": "spring", "source": "news", "medium": "email"},
            "timezone": "Europe/Berlin",
        },
        "messageId": f"ajs-next-1763719872{number % 1000:03}-{uuid.uuid4()}",
        "userId": f"user-{number}",
        "anonymousId": str(uuid.uuid4()),
        "_metadata": {"bundled": ["Segment.io"], "unbundled": [], "bundledIds": []},
    }


def make_batch(pages: int, separators: tuple[str, str] = (",", ":")) -> bytes:
    """``pages``: how many different contexts the events share."""
    batch = [make_event(number, random.randrange(pages)) for number in range(EVENTS)]
    body = {"batch": batch, "sentAt": "2026-11-21T10:11:13.000Z", "writeKey": "wk_web"}
    return json.dumps(body, separators=separators).encode()


def make_snapshot() -> Snapshot:
    return Snapshot("v1", "acme", "Acme", {"web": Source("web", "Web", "javascript", ("wk_web",))}, {})


def pure() -> None:
    """Parse, check, normalise and encode the record of batches; no I/O."""
    caller = Caller(None, "192.0.2.7", "Mozilla/5.0")
    clock = SystemClock()
    snapshot = make_snapshot()
    cases = {
        "one context a batch": [make_batch(1) for _ in range(BATCHES)],
        "ten contexts a batch": [make_batch(10) for _ in range(BATCHES)],
        "a context for each event": [make_batch(10**9) for _ in range(BATCHES)],
        "the same, with spaces": [make_batch(10**9, (", ", ": ")) for _ in range(BATCHES)],
    }
    for name, bodies in cases.items():
        ours, yardstick = [], []
        for _ in range(7):
            intake = Intake(lambda: snapshot, clock, UnknownKeys(clock), Callers(()))
            started = time.process_time()
            for body in bodies:
                taken = intake.batch(body, caller)
                assert taken.events == EVENTS
            ours.append((time.process_time() - started) / BATCHES / EVENTS * 1e6)
            started = time.process_time()
            for body in bodies:
                orjson.loads(body)
            yardstick.append((time.process_time() - started) / BATCHES / EVENTS * 1e6)
        size = sum(map(len, bodies)) // BATCHES // EVENTS
        print(
            f"pure, {name:26} {min(ours):6.2f} us/event (median {statistics.median(ours):.2f}), "
            f"{size} bytes an event; orjson.loads {min(yardstick):.2f}; ratio {min(ours) / min(yardstick):.2f}"
        )


def serve(directory: Path, ready: Connection) -> None:
    """The server's process."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    async def main() -> None:
        clock = SystemClock()
        metrics = IngestMetrics()
        log = EmbeddedLog(directory, clock)
        committer = Committer(lambda: log.appender(INGESTED, "0"), clock, metrics, data_dir=directory, reserve_bytes=0)
        await committer.start()
        snapshot = make_snapshot()
        app = IngestApp(
            snapshot=lambda: snapshot,
            committer=committer,
            clock=clock,
            unknown_keys=UnknownKeys(clock),
            metrics=metrics,
        )
        server = IngestServer(cast("AsgiApp", app), clock, metrics)
        sock = socket.create_server(("127.0.0.1", 0))
        await server.start(sock)
        tune_interpreter()
        ready.send(sock.getsockname()[1])
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, ready.recv)
        await server.stop(2.0)
        await committer.stop()
        ready.send(metrics.events)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


class Generator(asyncio.Protocol):
    """Sends the next request as soon as the answer is there."""

    def __init__(self, requests: list[bytes], counts: list[int]) -> None:
        self._requests = requests
        self._counts = counts
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(random.choice(self._requests))

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):
            self._counts[0] += b"HTTP/1.1 200" in data or not data.startswith(b"HTTP")
            assert self._transport is not None
            self._transport.write(random.choice(self._requests))


def end_to_end(name: str, path: str, bodies: list[bytes], events_a_request: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    requests = [
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nAuthorization: Basic d2tfd2ViOg==\r\n"
        f"User-Agent: benchmark\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in bodies
    ]
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(Path(directory), theirs))
        process.start()
        port = ours.recv()
        counts = [0]

        async def drive() -> float:
            loop = asyncio.get_running_loop()
            transports = [
                (await loop.create_connection(lambda: Generator(requests, counts), "127.0.0.1", port))[0]
                for _ in range(CONNECTIONS)
            ]
            await asyncio.sleep(0.5)
            first, cpu, started = counts[0], _cpu_s(process.pid), time.perf_counter()
            await asyncio.sleep(SECONDS)
            elapsed = time.perf_counter() - started
            requests_done, cpu_used = counts[0] - first, _cpu_s(process.pid) - cpu
            for transport in transports:
                transport.close()
            print(
                f"{name:32} {requests_done * events_a_request / elapsed:9.0f} events/s, "
                f"{cpu_used / requests_done / events_a_request * 1e6:6.2f} us CPU an event "
                f"({cpu_used / elapsed:.0%} of a core)"
            )
            return elapsed

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(drive())
        ours.send("stop")
        ours.recv()
        process.join()


def _cpu_s(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    pure()
    single = [json.dumps(make_event(number, number % 7), separators=(",", ":")).encode() for number in range(200)]
    end_to_end("single requests, durable", "/v1/track", single, 1)
    end_to_end("batches of 100, durable", "/v1/batch", [make_batch(10) for _ in range(20)], EVENTS)
