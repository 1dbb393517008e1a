"""Heads of requests that need no parser: one plain POST of events, spelled as every client spells it.

What is read here is a strict subset of HTTP/1.1; whatever is not in it (chunks, encodings, an Origin, repeated
headers, odd spacing, other methods) is left to the parser, so no request means one thing here and another there.
Clients send the same head again and again, so heads are remembered by their bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_HEAD_BYTES: Final = 4096
_REMEMBERED: Final = 4096

_HEAD: Final = re.compile(
    rb"POST (/v1/[a-z]{1,8}/?) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z][A-Za-z0-9-]*: [\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?\r\n)+)\r\n"
)
_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,6}")
_LEFT_TO_THE_PARSER: Final = frozenset(
    {
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"upgrade",
        b"http2-settings",
        b"te",
        b"trailer",
        b"origin",
    }
)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """``headers`` by their name in lower case, each once; ``length`` of the body in bytes."""

    path: str
    headers: dict[bytes, bytes]
    length: int


class RequestHeads:
    """Reads heads, and remembers some thousands of them."""

    def __init__(self) -> None:
        self._known: dict[bytes, RequestHead | None] = {}

    def read(self, text: bytes) -> RequestHead | None:
        """``text`` up to and with the empty line. None: let the parser read it."""
        try:
            return self._known[text]
        except KeyError:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            head = self._known[text] = _read(text)
            return head


def _read(text: bytes) -> RequestHead | None:
    match = _HEAD.fullmatch(text)
    if match is None:
        return None
    headers: dict[bytes, bytes] = {}
    lines = match[2].split(b"\r\n")[:-1]
    for line in lines:
        name, _, value = line.partition(b": ")
        headers[name.lower()] = value
    length = headers.get(b"content-length", b"")
    if (
        len(headers) != len(lines)
        or b"host" not in headers
        or not _LENGTH.fullmatch(length)
        or headers.get(b"connection", b"keep-alive").lower() != b"keep-alive"
        or not headers.keys().isdisjoint(_LEFT_TO_THE_PARSER)
    ):
        return None
    return RequestHead(match[1].decode("ascii"), headers, int(length))
