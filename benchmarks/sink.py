"""A webhook that is fast and remembers: counts events by messageId and measures how long they took.

Usage: ``python -m benchmarks.sink PORT``. POST takes an event; GET answers with what was seen since the last GET.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import cast

import uvloop

_MESSAGE_ID = re.compile(rb'"messageId":"([^"]+)"')
_SENT = re.compile(rb'"sentNs":(\d+)')
_LENGTH = re.compile(rb"[Cc]ontent-[Ll]ength: (\d+)")
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Seen:
    """Since the last report."""

    def __init__(self) -> None:
        self.ids: set[bytes] = set()
        self.posts = 0
        self.latencies_s: list[float] = []
        self.last_s = 0.0

    def report(self) -> bytes:
        latencies = sorted(self.latencies_s)
        return json.dumps(
            {
                "posts": self.posts,
                "distinct": len(self.ids),
                "last_s": self.last_s,
                "p50_ms": latencies[len(latencies) // 2] * 1e3 if latencies else None,
                "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3 if latencies else None,
            }
        ).encode()


class Protocol(asyncio.Protocol):
    """Just enough HTTP/1.1 for keep-alive clients that send a Content-Length."""

    seen = Seen()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            if head.startswith(b"GET"):
                body = self.seen.report()
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                type(self).seen = Seen()
                self._buffer = self._buffer[end + 4 :]
                continue
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if len(self._buffer) < end + 4 + size:
                return
            self._take(self._buffer[end + 4 : end + 4 + size])
            self._buffer = self._buffer[end + 4 + size :]
            self._transport.write(_OK)

    def _take(self, body: bytes) -> None:
        seen = self.seen
        seen.posts += 1
        seen.ids.update(_MESSAGE_ID.findall(body))
        now_s = time.time()
        seen.last_s = now_s
        for sent in _SENT.findall(body):
            seen.latencies_s.append(now_s - int(sent) / 1e9)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Protocol, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
