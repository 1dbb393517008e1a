"""The Tracking API: a raw ASGI application (``spec/event_path.md`` §1).

One dictionary lookup finds what a path means. An event is answered with 200 once it is durable. Statuses: 200 for
whatever could be decoded (rejected events are recorded and listed in the answer), 400 for bodies that are no JSON or
too large, 401 for unknown keys if the operator wants it, 404, 405, 408 for slow senders, 429 and 503 with
``Retry-After``. Every answer but the pixel is a JSON object with ``success``. No cookie is ever set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from trunkline.clock import Clock
from trunkline.ingest.auth import Callers, Credentials
from trunkline.ingest.body import (
    COMPLETE_KEY,
    BodyEncoding,
    BodyError,
    BodyReader,
    BodyTooLarge,
    BodyTooSlow,
    Disconnected,
    Receive,
    TooMuchReading,
)
from trunkline.ingest.committer import CommitError, Committer, DiskFull, Overloaded
from trunkline.ingest.intake import Caller, Intake, Taken
from trunkline.ingest.metrics import IngestMetrics
from trunkline.ingest.options import IngestOptions
from trunkline.ingest.pixel import BadPixel, pixel_body
from trunkline.ingest.responses import (
    NOT_FOUND,
    PIXEL,
    RESPOND_KEY,
    SUCCESS,
    Answer,
    Send,
    cors_headers,
    partial_success,
    preflight,
    refusal,
    retry_later,
)
from trunkline.ingest.unknown_keys import UnknownKeys
from trunkline.spec import codes
from trunkline.spec.limits import MAX_BATCH_BYTES, MAX_EVENT_BYTES
from trunkline.spec.strict_json import InvalidJson
from trunkline.workspace.model import Snapshot

Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Respond = Callable[[bytes, bytes], bool]
"""Send an answer's head and body; False if that cannot be done now."""

_logger = logging.getLogger(__name__)
_TYPES: Final = ("identify", "track", "page", "screen", "group", "alias")
_DRAIN_BYTES: Final = 16 * 2**20
_DRAIN_S: Final = 2.0
_HOT: Final = frozenset({"event", "batch"})
"""Labels of the routes that :meth:`IngestApp.take_whole` serves."""
_CDN_PREFIXES: Final = ("/v1/projects/", "/analytics.js/", "/analytics-next/", "/next-integrations/")
_ABOUT: Final = Answer(
    200,
    b'{"success":true,"name":"Trunkline","message":"This is a Tracking API. Point your Segment SDK at this address."}',
)


@dataclass(frozen=True, slots=True)
class _Route:
    """What a path means. ``label`` names it in the metrics, ``kind`` is the type of a single event."""

    label: str
    kind: str
    max_bytes: int
    methods: bytes = b"POST, OPTIONS"


def _routes() -> dict[str, _Route]:
    routes: dict[str, _Route] = {}
    for kind in _TYPES:
        single = _Route("event", kind, MAX_EVENT_BYTES)
        for path in (f"/v1/{kind}", f"/v1/{kind}/", f"/v1/{kind[0]}", f"/v1/{kind[0]}/"):
            routes[path] = single
        routes[f"/v1/pixel/{kind}"] = _Route("pixel", kind, 0, b"GET, OPTIONS")
        routes[f"/v1/pixel/{kind}/"] = routes[f"/v1/pixel/{kind}"]
    for name in ("batch", "import", "b"):
        routes[f"/v1/{name}"] = routes[f"/v1/{name}/"] = _Route("batch", "", MAX_BATCH_BYTES)
    routes["/v1/m"] = routes["/v1/m/"] = _Route("counters", "", MAX_BATCH_BYTES)
    routes["/v1/set"] = routes["/v1/set/"] = _Route("set", "", MAX_BATCH_BYTES)
    return routes


ROUTES: Final = _routes()
"""What each path of the Tracking API means."""


class IngestApp:
    """Callable as ``(scope, receive, send)``. Belongs to the event loop of its committer."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        committer: Committer,
        clock: Clock,
        unknown_keys: UnknownKeys,
        metrics: IngestMetrics,
        options: IngestOptions | None = None,
        cdn: AsgiApp | None = None,
        extra_routes: Mapping[str, AsgiApp] | None = None,
    ) -> None:
        """``snapshot`` gives the current workspace; ``cdn`` serves settings and analytics.js; ``extra_routes`` are
        further exact paths, such as ``/health``."""
        options = options or IngestOptions()
        self._committer = committer
        self._metrics = metrics
        self._options = options
        self._cdn = cdn
        self._extra_routes = dict(extra_routes or {})
        self._credentials = Credentials()
        self._callers = Callers(options.trusted_proxies)
        self._reader = BodyReader(options.body_timeout_s, options.max_reading_bytes)
        self._intake = Intake(snapshot, clock, unknown_keys, self._callers)
        wait_s = options.retry_after_s
        self._busy = retry_later(429, codes.TOO_MANY_REQUESTS, "The server is busy; send again later.", wait_s)
        self._full = retry_later(503, "disk_full", "The server's disk is full; send again later.", wait_s)
        self._unavailable = retry_later(503, "unavailable", "The event log can't be written; send again later.", wait_s)
        self._unknown = refusal(401, codes.UNKNOWN_SOURCE, "No enabled source has this write key.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        route = ROUTES.get(scope["path"])
        if route is None:
            await self._other(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        origin = headers.get(b"origin")
        method = scope["method"]
        label = route.label
        try:
            if method == "POST":
                if label == "pixel":
                    answer = _without_body(self._wrong_method(route), scope)
                else:
                    answer = await self._post(route, scope, headers, receive)
            elif method == "GET" and label == "pixel":
                answer = await self._pixel(route, scope, headers)
            elif method == "OPTIONS":
                answer = preflight(headers, route.methods)
            else:
                answer = _without_body(self._wrong_method(route), scope)
        except BodyError as error:
            await self._refuse_body(error, route, receive, send, origin)
            return
        except Exception:  # noqa: BLE001 - logged and answered
            answer = self._failed(scope)
        self._metrics.requests[label, answer.status] += 1
        if origin is None and method == "POST":
            respond = scope.get(RESPOND_KEY)
            if respond is not None and respond(answer.head, answer.body):
                return
        await answer.send(send, origin)

    def take_whole(self, scope: Scope, headers: dict[bytes, bytes], body: bytes, respond: Respond) -> bool:
        """The hot path for a server that has the whole request: no task, no ASGI messages, one callback.

        False, and nothing done, for all but plain POSTs of events; these must be served through :meth:`__call__`.
        Of ``scope`` only ``path``, ``method`` and ``client`` are looked at.
        """
        route = ROUTES.get(scope["path"])
        if route is None or route.label not in _HOT or scope["method"] != "POST" or len(body) > route.max_bytes:
            return False
        if b"origin" in headers or b"content-encoding" in headers:
            return False
        try:
            caller = self._caller(scope, headers)
            if route.label == "event":
                taken = self._intake.single(body, route.kind, caller)
            else:
                taken = self._intake.batch(body, caller)
            if taken.records:
                settled = partial(self._answer_whole, route.label, taken, respond)
                self._committer.submit_calling(taken.records, settled)
                return True
            answer = self._answer(taken, None)
        except InvalidJson as error:
            answer = self._invalid(error)
        except CommitError as error:
            answer = self._not_committed(error)
        except Exception:  # noqa: BLE001 - logged and answered
            answer = self._failed(scope)
        self._metrics.requests[route.label, answer.status] += 1
        respond(answer.head, answer.body)
        return True

    def _answer_whole(self, label: str, taken: Taken, respond: Respond, error: CommitError | None) -> None:
        answer = self._answer(taken, error)
        self._metrics.requests[label, answer.status] += 1
        respond(answer.head, answer.body)

    async def _post(self, route: _Route, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        length = headers.get(b"content-length")
        if length is not None and len(length) > 5 and int(length) > route.max_bytes + 1024:
            raise BodyTooLarge
        encoding = headers.get(b"content-encoding")
        if encoding is None and COMPLETE_KEY in scope:
            body: bytes = (await receive()).get("body", b"")
            if len(body) > route.max_bytes:
                raise BodyTooLarge
        else:
            body = await self._reader.read(scope, receive, encoding, route.max_bytes)
        label = route.label
        if label == "counters":
            self._metrics.client_counters += 1
            return SUCCESS
        caller = self._caller(scope, headers)
        try:
            if label == "event":
                taken = self._intake.single(body, route.kind, caller)
            elif label == "batch":
                taken = self._intake.batch(body, caller)
            else:
                taken = self._intake.objects(body, caller)
        except InvalidJson as error:
            return self._invalid(error)
        return await self._commit(taken)

    def _invalid(self, error: InvalidJson) -> Answer:
        self._metrics.refused[codes.INVALID_REQUEST] += 1
        return refusal(400, codes.INVALID_REQUEST, str(error))

    def _failed(self, scope: Scope) -> Answer:
        """The last resort, so that even a defect of ours is answered in the clients' language."""
        _logger.exception("A request to %s failed in an unforeseen way.", scope["path"])
        return refusal(500, "internal_error", "The server failed; the event was not taken.")

    async def _pixel(self, route: _Route, scope: Scope, headers: dict[bytes, bytes]) -> Answer:
        """Whatever happens, the answer is an image: it stands in a page or a mail (§1.11)."""
        try:
            body = pixel_body(scope["query_string"])
            taken = self._intake.single(body, route.kind, self._caller(scope, headers))
        except (BadPixel, InvalidJson):
            self._metrics.refused[codes.INVALID_REQUEST] += 1
        else:
            await self._commit(taken)
        return PIXEL

    def _caller(self, scope: Scope, headers: dict[bytes, bytes]) -> Caller:
        user_agent = headers.get(b"user-agent")
        return Caller(
            self._credentials.write_key(headers.get(b"authorization")),
            self._callers.address(scope, headers.get(b"x-forwarded-for")),
            None if user_agent is None else user_agent.decode("latin-1"),
        )

    async def _commit(self, taken: Taken) -> Answer:
        error: CommitError | None = None
        if taken.records:
            try:
                error = await self._committer.submit(taken.records)
            except CommitError as refused:
                error = refused
        return self._answer(taken, error)

    def _answer(self, taken: Taken, error: CommitError | None) -> Answer:
        """Count what became of a request, and say it. ``error``: why its records are not durable."""
        if error is not None:
            return self._not_committed(error)
        metrics = self._metrics
        if taken.records:
            metrics.events += taken.events
            metrics.objects += taken.objects
            for _, code in taken.rejected:
                metrics.rejected[code] += 1
        if taken.unknown or taken.disabled:
            metrics.unknown_key_requests += 1
            metrics.unknown_key_events += taken.unknown_events
            if taken.unknown:
                metrics.refused[codes.UNKNOWN_SOURCE] += 1
            if self._options.unknown_key_status == 401 and not taken.events and not taken.objects:
                return self._unknown
        if taken.code is None and not taken.rejected:
            return SUCCESS
        return partial_success(taken.code, taken.rejected)

    def _not_committed(self, error: CommitError) -> Answer:
        if isinstance(error, Overloaded):
            self._metrics.refused["overloaded"] += 1
            return self._busy
        if isinstance(error, DiskFull):
            self._metrics.refused["disk_full"] += 1
            return self._full
        self._metrics.refused["log_unavailable"] += 1
        return self._unavailable

    def _wrong_method(self, route: _Route) -> Answer:
        allowed = route.methods.decode()
        return refusal(405, "method_not_allowed", f"This path takes {allowed}.", [(b"allow", route.methods)])

    async def _refuse_body(
        self, error: BodyError, route: _Route, receive: Receive, send: Send, origin: bytes | None
    ) -> None:
        """Answer without the whole body, then take in a little more of it, so that the client can read the answer."""
        if isinstance(error, Disconnected):
            self._metrics.refused["disconnected"] += 1
            return
        answer = self._body_answer(error, route)
        self._metrics.requests[route.label, answer.status] += 1
        headers = [*answer.headers, (b"connection", b"close"), *(cors_headers(origin) if origin else [])]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        if isinstance(error, BodyTooLarge | TooMuchReading):
            await _drain(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _body_answer(self, error: BodyError, route: _Route) -> Answer:
        refused = self._metrics.refused
        if isinstance(error, BodyTooLarge):
            refused["too_large"] += 1
            text = f"Exceed payload limit: this path takes at most {route.max_bytes // 1024} KB, decompressed."
            return refusal(400, codes.INVALID_REQUEST, text)
        if isinstance(error, BodyTooSlow):
            refused["too_slow"] += 1
            return refusal(408, "request_timeout", "The body did not arrive in time.")
        if isinstance(error, BodyEncoding):
            refused["bad_encoding"] += 1
            return refusal(400, codes.INVALID_REQUEST, str(error))
        refused["overloaded"] += 1
        return self._busy

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Paths off the hot path."""
        path: str = scope["path"]
        app = self._extra_routes.get(path)
        if app is None and self._cdn is not None and path.startswith(_CDN_PREFIXES):
            app = self._cdn
        if app is not None:
            await app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        origin = headers.get(b"origin")
        if path.startswith("/v1/pixel/") and scope["method"] == "GET":
            answer = PIXEL
        elif scope["method"] == "OPTIONS":
            answer = preflight(headers, b"GET, POST, OPTIONS")
        elif path == "/" and scope["method"] in ("GET", "HEAD"):
            answer = _ABOUT
        else:
            answer = NOT_FOUND
        self._metrics.requests["other", answer.status] += 1
        await _without_body(answer, scope).send(send, origin)


def _without_body(answer: Answer, scope: Scope) -> Answer:
    """The answer to a request whose body nobody reads: if it is still on its way, the connection is closed."""
    if COMPLETE_KEY in scope or scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return answer
    kind, _, *more = answer.headers
    return Answer(answer.status, answer.body, [*more, (b"connection", b"close")], content_type=kind[1])


async def _drain(receive: Receive) -> None:
    """Read and forget, within bounds: a client that is cut off while it sends may never see the answer."""
    drained = 0
    try:
        async with asyncio.timeout(_DRAIN_S):
            while drained < _DRAIN_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                drained += len(message.get("body", b""))
    except TimeoutError:
        return
