"""Answers: JSON objects with ``success``, made once where they can be (``spec/event_path.md`` §1.5, §1.9)."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from trunkline.spec.codes import CODES

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

GIF: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""One transparent pixel."""

RESPOND_KEY: Final = "trunkline.respond"
"""In the scope of our own server: ``respond(head, body) -> bool``, a whole answer at once and without a coroutine.
False: not possible now, send it the usual way."""
HEAD_KEY: Final = "trunkline.head"
"""In the start message of a whole answer of ours: its status line and headers as bytes, for our own server.
``connection: close`` must be the last of them."""

_JSON: Final = (b"content-type", b"application/json")
_SAFE_VALUE: Final = re.compile(rb"[\x20-\x7e]{1,2048}")
_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,4096}")
_ALLOWED_HEADERS: Final = b"authorization, content-type, content-encoding, x-retry-count, x-requested-with"
_MAX_LISTED: Final = 100


class Answer:
    """A status, headers and a body. ``message`` is the ASGI start for callers without an Origin."""

    __slots__ = ("_end", "_start", "body", "head", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Headers | None = None, *, content_type: bytes = b"") -> None:
        self.status = status
        self.body = body
        kind = (b"content-type", content_type) if content_type else _JSON
        self.headers: Headers = [kind, (b"content-length", b"%d" % len(body)), *(headers or [])]
        self.head = _head(status, self.headers)
        self._start: Message = {
            "type": "http.response.start",
            "status": status,
            "headers": self.headers,
            HEAD_KEY: self.head,
        }
        self._end: Message = {"type": "http.response.body", "body": body}

    async def send(self, send: Send, origin: bytes | None = None) -> None:
        """``origin`` is the caller's Origin header, echoed so that a browser lets its page read the answer."""
        if origin is None:
            await send(self._start)
        else:
            # In front, because what closes the connection must stay at the end.
            headers = cors_headers(origin) + self.headers
            head = _head(self.status, headers)
            await send({"type": "http.response.start", "status": self.status, "headers": headers, HEAD_KEY: head})
        await send(self._end)


def _head(status: int, headers: Headers) -> bytes:
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())]
    return b"".join([*lines, *(b"%b: %b\r\n" % header for header in headers)])


def cors_headers(origin: bytes) -> Headers:
    """What lets any page read the answer, with credentials too; nothing for an Origin that is no header text."""
    if not _SAFE_VALUE.fullmatch(origin):
        return []
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"Retry-After, X-RateLimit-Reset"),
        (b"vary", b"Origin"),
    ]


def preflight(headers: dict[bytes, bytes], methods: bytes) -> Answer:
    """The answer to OPTIONS: allows what the browser asks for."""
    allowed = _ALLOWED_HEADERS
    asked = headers.get(b"access-control-request-headers", b"")
    if _HEADER_NAMES.fullmatch(asked):
        known = {name.strip() for name in allowed.split(b",")}
        names = [name.strip().lower() for name in asked.split(b",")]
        allowed = b", ".join([allowed, *(name for name in dict.fromkeys(names) if name and name not in known)])
    extra: Headers = [
        (b"access-control-allow-methods", methods),
        (b"access-control-allow-headers", allowed),
        (b"access-control-max-age", b"86400"),
    ]
    if headers.get(b"access-control-request-private-network") == b"true":
        extra.append((b"access-control-allow-private-network", b"true"))
    return Answer(200, b'{"success":true}', extra)


def refusal(status: int, code: str, message: str, headers: Headers | None = None) -> Answer:
    """An error. ``error`` repeats the message for the Ruby SDK, which looks there."""
    body = msgspec.json.encode({"success": False, "code": code, "message": message, "error": message})
    return Answer(status, body, headers)


def retry_later(status: int, code: str, message: str, retry_after_s: int) -> Answer:
    wait = b"%d" % retry_after_s
    return refusal(status, code, message, [(b"retry-after", wait), (b"x-ratelimit-reset", wait)])


def partial_success(code: str | None, rejected: list[tuple[int, str]]) -> Answer:
    """Success with what was rejected, an addition of ours that Segment's clients don't look at (§1.6).

    ``rejected`` lists index in the batch, code and meaning of the first 100; ``rejected_count`` counts all.
    """
    answer: dict[str, Any] = {"success": True}
    if code is not None:
        answer["code"] = code
        answer["message"] = CODES[code].meaning
    if rejected:
        answer["rejected_count"] = len(rejected)
        answer["rejected"] = [
            {"index": index, "code": code, "message": f"{CODES[code].meaning} {CODES[code].mend}"}
            for index, code in rejected[:_MAX_LISTED]
        ]
    return Answer(200, msgspec.json.encode(answer))


SUCCESS: Final = Answer(200, b'{"success":true}')
PIXEL: Final = Answer(200, GIF, [(b"cache-control", b"no-cache, no-store, must-revalidate")], content_type=b"image/gif")
NOT_FOUND: Final = refusal(404, "not_found", "There is nothing at this path.")
