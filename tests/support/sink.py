"""The receiving end of webhooks: fast, counts every messageId, and misbehaves on demand.

One asyncio protocol in a thread of its own. Each path is a :class:`Place` with its own counts and manners.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tests.support.ports import free_port

MESSAGE_ID = re.compile(rb'"messageId"\s*:\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Reply:
    """What to answer. ``hang``: nothing until the place is told to :meth:`Place.let_go`; ``delay_s``: later."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang: bool = False
    delay_s: float = 0.0


OK = Reply()
HANG = Reply(hang=True)


@dataclass(frozen=True)
class Hit:
    """One request. ``headers`` are keyed in lower case; ``message_ids`` are those of all events of a batch."""

    message_id: str
    headers: Mapping[str, str]
    body: bytes
    message_ids: tuple[str, ...] = ()

    def json(self) -> Any:
        return json.loads(self.body)


class Place:
    """One path. ``answer`` decides on the sink's thread; ``received`` counts events that were sent (in a request of
    their own or in a batch), ``taken`` those answered 200, ``requests`` requests."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self.name = name
        self.answer: Callable[[Hit], Reply] = lambda hit: OK
        self.keep_hits = False
        self.hits: list[Hit] = []
        self.received: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.requests = 0
        self.hanging: list[_Connection] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._sink.port}/{self.name}"

    def ids(self) -> set[str]:
        """Those answered 200 at least once."""
        return set(self.taken)

    def doubles(self) -> int:
        """Requests beyond the first that were answered 200."""
        return self.taken.total() - len(self.taken)

    def always(self, reply: Reply) -> None:
        self.answer = lambda hit: reply

    def let_go(self) -> None:
        """Answer 200 to all that hang now."""
        self._sink.call(self._let_go)

    def _let_go(self) -> None:
        hanging, self.hanging = self.hanging, []
        for connection in hanging:
            connection.reply(OK)


def _message_ids(body: bytes) -> tuple[str, ...]:
    """Of the events of a body, which is one or an array of them."""
    if body.startswith(b"["):
        return tuple(event["messageId"] for event in json.loads(body)) or ("",)
    found = MESSAGE_ID.findall(body)
    return (found[-1].decode() if found else "",)


class _Connection(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._current: tuple[Place, tuple[str, ...]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sink.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sink.connections.discard(self)
        self._transport = None
        if self._current is not None and self in self._current[0].hanging:
            self._current[0].hanging.remove(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._current is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].decode("latin-1")
            request_line, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            size = int(headers.get("content-length", "0"))
            if len(self._buffer) < end + 4 + size:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + size])
            del self._buffer[: end + 4 + size]
            self._take(request_line.split(" ")[1].lstrip("/"), headers, body)

    def _take(self, name: str, headers: Mapping[str, str], body: bytes) -> None:
        place = self._sink.place(name)
        message_ids = _message_ids(body)
        hit = Hit(message_ids[-1], headers, body, message_ids)
        place.requests += 1
        place.received.update(message_ids)
        if place.keep_hits:
            place.hits.append(hit)
        self._current = (place, message_ids)
        reply = place.answer(hit)
        if reply.hang:
            place.hanging.append(self)
        elif reply.delay_s:
            asyncio.get_running_loop().call_later(reply.delay_s, self.reply, reply)
        else:
            self.reply(reply)

    def reply(self, reply: Reply) -> None:
        """Answer the current request, if its sender is still there."""
        if self._current is None or self._transport is None:
            return
        place, message_ids = self._current
        if reply.status == 200:
            place.taken.update(message_ids)
        self._current = None
        lines = [f"HTTP/1.1 {reply.status} X", f"Content-Length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body)
        if self._buffer:
            self.data_received(b"")


class Sink:
    """Starts with its constructor, ends with :meth:`close`."""

    def __init__(self) -> None:
        self.connections: set[_Connection] = set()
        self._places: dict[str, Place] = {}
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sink", daemon=True)
        self._thread.start()
        self.port = free_port()
        self.come_back()

    def place(self, name: str) -> Place:
        place = self._places.get(name)
        if place is None:
            place = self._places.setdefault(name, Place(self, name))
        return place

    def call(self, function: Callable[[], None]) -> None:
        """Run on the sink's thread, and wait for it."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - it is handed to whoever waits
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result(timeout=30)

    def go_away(self) -> None:
        """Stop listening and cut every connection: the next attempt is refused."""

        def stop() -> None:
            if self._server is not None:
                self._server.close()
                self._server = None
            for connection in list(self.connections):
                connection.abort()

        self.call(stop)

    def come_back(self) -> None:
        """Listen, on the same port as before."""

        async def start() -> None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Connection(self), sock=listener, backlog=512
            )

        asyncio.run_coroutine_threadsafe(start(), self._loop).result(timeout=30)

    def close(self) -> None:
        self.go_away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
