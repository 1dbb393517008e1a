"""The body of a request: received within a time and a size, decompressed within the same size.

Errors::

    BodyError
    ├── BodyTooLarge      more than the path takes, as sent or decompressed
    ├── BodyTooSlow       not complete in time
    ├── BodyEncoding      an unknown or broken content encoding
    ├── TooMuchReading    all connections together receive more than the process may hold
    └── Disconnected      the client has gone
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

COMPLETE_KEY: Final = "trunkline.body_complete"
"""Set in the scope by our server when the whole body is there, so that no timer is needed."""

_GZIP_OR_ZLIB: Final = 47
_RAW_DEFLATE: Final = -15
_MAX_GZIP_MEMBERS: Final = 64
_ENCODINGS: Final = {
    b"gzip": _GZIP_OR_ZLIB,
    b"x-gzip": _GZIP_OR_ZLIB,
    b"deflate": _GZIP_OR_ZLIB,
}


class BodyError(Exception):
    """The body can't be had."""


class BodyTooLarge(BodyError):
    """More than the path takes."""


class BodyTooSlow(BodyError):
    """Not complete in time."""


class BodyEncoding(BodyError):
    """An unknown or broken content encoding."""


class TooMuchReading(BodyError):
    """All connections together receive more than the process may hold."""


class Disconnected(BodyError):
    """The client has gone."""


class BodyReader:
    """Reads bodies; knows how much is being received in the whole process."""

    def __init__(self, timeout_s: float, max_reading_bytes: int) -> None:
        self._timeout_s = timeout_s
        self._max_reading_bytes = max_reading_bytes
        self.reading_bytes = 0

    async def read(
        self, scope: MutableMapping[str, Any], receive: Receive, encoding: bytes | None, max_bytes: int
    ) -> bytes:
        """The decoded body. Raises BodyError."""
        if COMPLETE_KEY in scope:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            body: bytes = message.get("body", b"")
            if not message.get("more_body", False):
                if encoding is not None:
                    return decompress(body, encoding, max_bytes)
                if len(body) > max_bytes:
                    raise BodyTooLarge
                return body
            return await self._read_rest(receive, body, encoding, max_bytes)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read_rest(receive, b"", encoding, max_bytes)
        except TimeoutError:
            raise BodyTooSlow from None

    async def _read_rest(self, receive: Receive, first: bytes, encoding: bytes | None, max_bytes: int) -> bytes:
        body = bytearray(first)
        self.reading_bytes += len(first)
        try:
            while True:
                # What is sent is never larger than what it inflates to by more than a header's size.
                if len(body) > max_bytes + 1024 or (encoding is None and len(body) > max_bytes):
                    raise BodyTooLarge
                if self.reading_bytes > self._max_reading_bytes:
                    raise TooMuchReading
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                chunk: bytes = message.get("body", b"")
                body += chunk
                self.reading_bytes += len(chunk)
                if not message.get("more_body", False):
                    break
        finally:
            self.reading_bytes -= len(body)
        if encoding is not None:
            return decompress(bytes(body), encoding, max_bytes)
        if len(body) > max_bytes:
            raise BodyTooLarge
        return bytes(body)


def decompress(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """Undo a content encoding; stops as soon as the result would exceed ``max_bytes``. Raises BodyError."""
    encoding = encoding.strip().lower()
    if encoding in (b"", b"identity"):
        if len(body) > max_bytes:
            raise BodyTooLarge
        return body
    window = _ENCODINGS.get(encoding)
    if window is None:
        name = encoding.decode("latin-1")[:40]
        raise BodyEncoding(f"content encoding {name!r} is not supported; use gzip, deflate or none")
    if body[:1] == b"{":
        # A proxy has decompressed the body and left the header in place.
        return decompress(body, b"identity", max_bytes)
    try:
        return _inflate(body, window, max_bytes)
    except zlib.error as error:
        if encoding == b"deflate":
            try:
                return _inflate(body, _RAW_DEFLATE, max_bytes)
            except zlib.error:
                pass
        raise BodyEncoding(f"the body is no valid {encoding.decode('latin-1')}: {error}") from None


def _inflate(body: bytes, window: int, max_bytes: int) -> bytes:
    result = b""
    for _ in range(_MAX_GZIP_MEMBERS):
        inflater = zlib.decompressobj(window)
        result += inflater.decompress(body, max_bytes + 1 - len(result))
        if len(result) > max_bytes:
            raise BodyTooLarge
        if not inflater.eof:
            raise zlib.error("incomplete or truncated stream")
        body = inflater.unused_data
        if not body.strip(b"\0"):
            return result
        if window == _RAW_DEFLATE:
            break
    raise zlib.error("data after the end of the stream")
