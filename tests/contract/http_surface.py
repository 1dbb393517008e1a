"""A real ingest server on loopback over the in-memory log, and a client that speaks raw bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

from trunkline.clock import SystemClock
from trunkline.ingest.app import AsgiApp, IngestApp
from trunkline.ingest.committer import Committer
from trunkline.ingest.metrics import IngestMetrics
from trunkline.ingest.options import IngestOptions
from trunkline.ingest.server import IngestServer
from trunkline.ingest.unknown_keys import UnknownKeys
from trunkline.log.base import INGESTED, Appender
from trunkline.log.records import IngestedChunk, Rejection, decode_chunk
from trunkline.testing.memory_log import MemoryLog
from trunkline.workspace.model import Snapshot, Source

SOURCES = (
    Source("web", "Web", "javascript", ("wk_web", "wk_web_2")),
    Source("server", "Server", "python", ("wk_server",)),
    Source("off", "Off", "python", ("wk_off",), enabled=False),
)


def make_snapshot() -> Snapshot:
    return Snapshot("v1", "acme", "Acme", {source.slug: source for source in SOURCES}, {})


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


class ServerClosed(Exception):
    """The server closed the connection without a whole answer."""


class Client:
    """One connection. Deadlines everywhere: a server that hangs is an error."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_answer(self, method: str = "POST") -> Answer:
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        while len(self._rest) < length:
            self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return Answer(int(lines[0].split(" ")[1]), headers, body)

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise ServerClosed(self._rest)
        self._rest += data

    def close(self) -> None:
        self.sock.close()


def request_bytes(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    lines = {"Host": "localhost", **(headers or {})}
    names = {name.lower() for name in lines}
    if (body or method == "POST") and "content-length" not in names and "transfer-encoding" not in names:
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


@dataclass
class Surface:
    """A running server and what it recorded."""

    port: int
    log: MemoryLog
    metrics: IngestMetrics
    unknown_keys: UnknownKeys
    server: IngestServer
    loop: asyncio.AbstractEventLoop
    _clients: list[Client] = field(default_factory=list)

    def client(self, timeout_s: float = 10.0) -> Client:
        client = Client(self.port, timeout_s)
        self._clients.append(client)
        return client

    def request(
        self, method: str, path: str, body: bytes | str | dict[str, Any] = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        if isinstance(body, dict):
            body = json.dumps(body, separators=(",", ":"))
        if isinstance(body, str):
            body = body.encode()
        client = Client(self.port)
        try:
            client.send(request_bytes(method, path, body, headers))
            return client.read_answer(method)
        finally:
            client.close()

    def post(self, path: str, body: bytes | str | dict[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("POST", path, body, headers)

    def chunks(self) -> list[IngestedChunk]:
        if "0" not in self.log.partitions(INGESTED):
            return []
        reader = self.log.reader(INGESTED, "0")
        return [decode_chunk(record.payload) for record in reader.read(1 << 40)]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(event.body) for chunk in self.chunks() for event in chunk.events]

    def rejections(self) -> list[Rejection]:
        return [rejection for chunk in self.chunks() for rejection in chunk.rejections]

    def close(self) -> None:
        for client in self._clients:
            client.close()


@contextmanager
def run_surface(
    options: IngestOptions | None = None,
    *,
    snapshot: Callable[[], Snapshot] = make_snapshot,
    open_appender: Callable[[], Appender] | None = None,
    cdn: AsgiApp | None = None,
    extra_routes: Mapping[str, AsgiApp] | None = None,
    **committer_options: Any,
) -> Iterator[Surface]:
    """A server in a thread of its own, stopped gracefully at the end."""
    log = MemoryLog()
    clock = SystemClock()
    metrics = IngestMetrics()
    unknown_keys = UnknownKeys(clock)
    workspace = snapshot() if snapshot is make_snapshot else None
    sock = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    found: list[Surface] = []
    failures: list[BaseException] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        committer = Committer(
            open_appender or (lambda: log.appender(INGESTED, "0")), clock, metrics, **committer_options
        )
        await committer.start()
        app = IngestApp(
            snapshot=snapshot if workspace is None else lambda: workspace,
            committer=committer,
            clock=clock,
            unknown_keys=unknown_keys,
            metrics=metrics,
            options=options,
            cdn=cdn,
            extra_routes=extra_routes,
        )
        server = IngestServer(cast("AsgiApp", app), clock, metrics, options, on_tick=unknown_keys.flush)
        await server.start(sock)
        stop = asyncio.Event()
        found.append(Surface(sock.getsockname()[1], log, metrics, unknown_keys, server, loop))
        stops.append(stop)
        ready.set()
        await stop.wait()
        await server.stop(2.0)
        await committer.stop()

    stops: list[asyncio.Event] = []

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:  # noqa: BLE001 - it is raised by whoever waits
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        if failures:
            raise failures[0]
        yield found[0]
    finally:
        if found:
            found[0].close()
            found[0].loop.call_soon_threadsafe(stops[0].set)
        thread.join(20)
        sock.close()
        assert not thread.is_alive(), "the server did not stop"
        if failures:
            raise failures[0]
