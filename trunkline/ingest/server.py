"""The HTTP server of ingest: uvicorn's httptools protocol on our own listener, with the guards that it lacks.

Added: a time for the headers of a request to arrive, a size for them, a number of connections, JSON in every refusal.
One timer a second looks after all connections, so a request costs no timer of its own, not even for keep-alive.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from trunkline.clock import Clock
from trunkline.ingest.app import ROUTES, AsgiApp
from trunkline.ingest.body import COMPLETE_KEY
from trunkline.ingest.metrics import IngestMetrics
from trunkline.ingest.options import IngestOptions
from trunkline.ingest.request_head import MAX_HEAD_BYTES, RequestHeads
from trunkline.ingest.responses import HEAD_KEY, RESPOND_KEY, Answer, refusal, retry_later

TakeWhole = Callable[[Any, dict[bytes, bytes], bytes, Callable[[bytes, bytes], bool]], bool]
"""See :meth:`trunkline.ingest.app.IngestApp.take_whole`."""

_BACKLOG: Final = 4096
_TICK_S: Final = 1.0
_CLOSE: Final = b"\r\nconnection: close\r\n"
_PLAIN_PATHS: Final = {path.encode(): path for path in ROUTES}
_UPGRADE_HEADERS: Final = (b"upgrade", b"connection", b"http2-settings")
_MALFORMED: Final = refusal(400, "invalid_request", "This is no valid HTTP request.")
_HEADERS_TOO_LARGE: Final = refusal(431, "invalid_request", "The headers are too large.")
_HEADERS_TOO_SLOW: Final = refusal(408, "request_timeout", "The headers did not arrive in time.")


class IngestServer:
    """Serves one application on one listening socket, within the running event loop."""

    def __init__(
        self,
        app: AsgiApp,
        clock: Clock,
        metrics: IngestMetrics,
        options: IngestOptions | None = None,
        *,
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        """``on_tick`` is called once a second, for what the owner wants to do now and then."""
        self.options = options or IngestOptions()
        self.metrics = metrics
        self.clock = clock
        self.stopping = False
        self.now_s = clock.monotonic_s()
        """Monotonic time of the last tick: exact enough for deadlines of seconds, and free."""
        self._on_tick = on_tick
        self.take_whole: TakeWhole | None = getattr(app, "take_whole", None)
        """The application's short way for requests that arrived whole, if it has one."""
        self.heads = RequestHeads()
        self._config = Config(
            cast("Any", app),
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        wait_s = self.options.retry_after_s
        self.too_many_connections = retry_later(503, "too_many_connections", "Too many connections.", wait_s)

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._state.connections)

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a socket that is bound."""
        loop = asyncio.get_running_loop()
        self._set_date()

        def protocol() -> _Protocol:
            return _Protocol(self, self._config, self._state, loop)

        self._server = await loop.create_server(protocol, sock=sock, backlog=_BACKLOG)
        self._timer = loop.call_later(_TICK_S, self._tick, loop)

    async def stop(self, grace_s: float = 10.0) -> None:
        """Accept no more, answer what is open for at most ``grace_s``, then cut the rest."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        until_s = self.clock.monotonic_s() + grace_s
        while (self._state.connections or self._state.tasks) and self.clock.monotonic_s() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self._state.connections):
            cast("_Protocol", connection).transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(0)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._set_date()
        self.now_s = self.clock.monotonic_s()
        for connection in list(self._state.connections):
            cast("_Protocol", connection).look_after(self.now_s)
        if self._on_tick is not None:
            self._on_tick()
        self._timer = loop.call_later(_TICK_S, self._tick, loop)

    def _set_date(self) -> None:
        date = formatdate(self.clock.now_ms() / 1000, usegmt=True)
        self._state.default_headers = [(b"date", date.encode())]


def complete_head(head: bytes, date: bytes, keep_alive: bool) -> tuple[bytes, bool]:
    """A prepared head with its date and its end, and whether the connection stays."""
    if head.endswith(_CLOSE):
        return b"%bdate: %b\r\n\r\n" % (head, date), False
    end = b"\r\n\r\n" if keep_alive else b"\r\nconnection: close\r\n\r\n"
    return b"%bdate: %b%b" % (head, date, end), keep_alive


class _Cycle(RequestResponseCycle):
    """One request and its answer. An answer made by us leaves in one write: half the system calls, a third of all
    time of a small request."""

    _held: bytes | None = None

    async def send(self, message: Any) -> None:
        held = self._held
        if held is not None:
            self._held = None
            if not self.disconnected:
                self._finish(held + message["body"])
            return
        head: bytes | None = message.get(HEAD_KEY)
        if head is None or self.response_started or self.scope["method"] == "HEAD":
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        self.response_started = True
        self.waiting_for_100_continue = False
        self._held = self._complete_head(head)

    def respond(self, head: bytes, body: bytes) -> bool:
        """See :data:`trunkline.ingest.responses.RESPOND_KEY`."""
        return not self.flow.write_paused and self.respond_at_last(head, body)

    def respond_at_last(self, head: bytes, body: bytes) -> bool:
        """The same, even if the client is slow to read: it is one answer, and the next request waits for room."""
        if self.response_started or self.disconnected:
            return False
        self.response_started = True
        self._finish(self._complete_head(head) + body)
        return True

    def _complete_head(self, head: bytes) -> bytes:
        text, self.keep_alive = complete_head(head, self.default_headers[0][1], self.keep_alive)
        return text

    def _finish(self, data: bytes) -> None:
        self.transport.write(data)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class _Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, owner: IngestServer, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config=config, server_state=state, app_state={}, _loop=loop)
        self.access_log = False
        self.logger = logging.getLogger(__name__)
        self._owner = owner
        self._max_header_bytes = owner.options.max_header_bytes
        self._header_bytes = 0
        self._waiting_since_s: float | None = None
        self._idle_since_s: float | None = None
        self._refused = False
        self._upgrading = False
        self._answering = False
        """A request that needed no parser waits for its answer."""
        self._later = b""
        self._held_cycle: _Cycle | None = None
        """A request whose headers are there, until the data at hand tells whether its body is too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._owner.options.max_connections:
            self._refuse(self._owner.too_many_connections, "too_many_connections")
            return
        self._waiting_since_s = self._owner.clock.monotonic_s()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._answering:
            # It has to wait for the answer that is being made: answers leave in the order of their requests.
            self._later += data
            self.flow.pause_reading()
            return
        if self._at_boundary() and self._take_whole(data):
            return
        if self._idle_since_s is not None:
            self._idle_since_s = None
            self._waiting_since_s = self._owner.now_s
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            if self._header_bytes > self._max_header_bytes:
                self._refuse(_HEADERS_TOO_LARGE, "headers_too_large")
            else:
                self._refuse(_MALFORMED, "malformed")
            return
        if self._held_cycle is not None:
            # The body is still on its way: the application reads it as it comes.
            cycle, self._held_cycle = self._held_cycle, None
            self._start_asgi_task(cycle, self.app)
        if self._waiting_since_s is not None:
            # Headers without an end yet; those without a line break reach no callback.
            self._header_bytes += len(data)
            if self._header_bytes > 2 * self._max_header_bytes:
                self._refuse(_HEADERS_TOO_LARGE, "headers_too_large")

    def _at_boundary(self) -> bool:
        """Whether a new request begins with the next byte, and nothing is known of it yet."""
        cycle = cast("_Cycle | None", self.cycle)
        if cycle is None:
            return self._waiting_since_s is None or not self._header_bytes
        return self._idle_since_s is not None and cycle.response_complete and not cycle.more_body

    def _take_whole(self, data: bytes) -> bool:
        """Serve the data if they are one request that needs no parser. False, and nothing done, if not."""
        owner = self._owner
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0 or owner.take_whole is None or owner.stopping or self.flow.write_paused:
            return False
        head = owner.heads.read(data[: end + 4])
        if head is None or len(data) != end + 4 + head.length:
            return False
        scope = {"path": head.path, "method": "POST", "client": self.client}
        self._answering = True
        if not owner.take_whole(scope, head.headers, data[end + 4 :], self._answer_whole):
            self._answering = False
            return False
        if self._answering:
            self._waiting_since_s = self._idle_since_s = None
        return True

    def _answer_whole(self, head: bytes, body: bytes) -> bool:
        if not self._answering or self.transport.is_closing():
            return False
        self._answering = False
        self._waiting_since_s = None
        self._idle_since_s = self._owner.now_s
        head, keep_alive = complete_head(head, self.server_state.default_headers[0][1], not self._owner.stopping)
        self.transport.write(head + body)
        self.server_state.total_requests += 1
        if not keep_alive:
            self.transport.close()
        elif self._later:
            later, self._later = self._later, b""
            self.flow.resume_reading()
            self.data_received(later)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._answering = False
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if not self._answering:
            super().shutdown()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._header_bytes += len(url)
        if self._header_bytes > self._max_header_bytes:
            raise ValueError("the request line is too large")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self._max_header_bytes:
            raise ValueError("the headers are too large")

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1: clients that offer HTTP/2 or WebSocket send the request itself in any case.

        The parser has stopped behind the headers, so a new one reads the request again without the offer.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(_MALFORMED, "malformed")
            return
        lines = [b"%b %b HTTP/1.1\r\n" % (method, self.url)]
        lines += [b"%b: %b\r\n" % header for header in self.headers if header[0] not in _UPGRADE_HEADERS]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._upgrading = False
        self.data_received(b"".join([*lines, b"\r\n", rest]))

    def on_body(self, body: bytes) -> None:
        if not self._upgrading:
            super().on_body(body)

    def on_headers_complete(self) -> None:
        parser = self.parser
        if parser.should_upgrade():
            self._upgrading = True
            return
        self._waiting_since_s = None
        http_version = parser.get_http_version()
        scope = cast("dict[str, Any]", self.scope)
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = http_version
        raw_path = self.url
        if raw_path in _PLAIN_PATHS:
            scope["path"] = _PLAIN_PATHS[raw_path]
            scope["query_string"] = b""
        else:
            url = httptools.parse_url(raw_path)
            raw_path = url.path
            path = raw_path.decode("ascii")
            scope["path"] = unquote(path) if "%" in path else path
            scope["query_string"] = url.query or b""
        scope["raw_path"] = raw_path
        earlier = cast("_Cycle | None", self.cycle)
        self.cycle = cycle = _Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=http_version != "1.0" and parser.should_keep_alive() and not self._owner.stopping,
            on_response=self.on_response_complete,
        )
        scope[RESPOND_KEY] = cycle.respond
        if earlier is None or earlier.response_complete:
            self._held_cycle = cycle
        else:
            # Pipelined: it waits for its turn.
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        scope = cast("dict[str, Any]", self.scope)
        scope[COMPLETE_KEY] = True
        super().on_message_complete()
        cycle = self._held_cycle
        if cycle is not None:
            self._held_cycle = None
            take_whole = self._owner.take_whole
            if (
                take_whole is None
                or self.flow.write_paused
                or not take_whole(scope, dict(self.headers), bytes(cycle.body), cycle.respond_at_last)
            ):
                self._start_asgi_task(cycle, self.app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since_s = self._owner.now_s

    def look_after(self, now_s: float) -> None:
        """Once a second: cut a connection whose headers don't arrive, close one that is idle for long."""
        options = self._owner.options
        if self._refused:
            return
        if self._waiting_since_s is not None and now_s - self._waiting_since_s > options.header_timeout_s:
            self._refuse(_HEADERS_TOO_SLOW, "headers_too_slow")
        elif self._idle_since_s is not None and now_s - self._idle_since_s > options.keep_alive_s:
            self.transport.close()

    def _refuse(self, answer: Answer, reason: str) -> None:
        self._refused = True
        self._owner.metrics.connections_refused[reason] += 1
        lines = [STATUS_LINE[answer.status]]
        for name, value in (*self.server_state.default_headers, *answer.headers, (b"connection", b"close")):
            lines += [name, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*lines, b"\r\n", answer.body]))
        self.transport.close()
