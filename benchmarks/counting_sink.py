"""A receiver that is cheap and exact: marks each event's number in an array, can hang, and can be down.

Usage: ``python -m benchmarks.counting_sink PORT CONTROL_PORT``. Takes events of :mod:`benchmarks.generator`, alone or
in arrays, at ``/TALLY/LANE``: events are told apart by their numbers within a tally, and counted by lane. What comes to
``/hang/…`` is read and never answered. As a library: :func:`counting_sink`.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import uvloop

from benchmarks.support import GENERATOR_CORE, free_port, pinned

HANG = "hang"
_MESSAGE_ID = b'"messageId":"ajs-next-1732212345678-'
_SENT = re.compile(rb'"sentNs":(\d+)')
_LENGTH = re.compile(rb"[Cc]ontent-[Ll]ength: (\d+)")
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_GROWTH = 1 << 20


# -- the process ---------------------------------------------------------------------------------------------------


class _Tally:
    """What has come to the lanes of one tally since the last reset."""

    def __init__(self) -> None:
        self._seen = bytearray(_GROWTH)
        self.posts = 0
        self.distinct = 0
        self.duplicates = 0
        self.lanes: dict[bytes, int] = {}
        self.first_s = 0.0
        self.last_s = 0.0
        self._latencies_s: list[float] = []

    def take(self, lane: bytes, body: bytes) -> None:
        now_s = time.time()
        if not self.posts:
            self.first_s = now_s
        self.last_s = now_s
        self.posts += 1
        numbers = [int(piece[:12]) for piece in body.split(_MESSAGE_ID)[1:]]
        seen = self._seen
        if numbers and (highest := max(numbers)) >= len(seen):
            seen.extend(bytes(highest + _GROWTH - len(seen)))
        new = 0
        for number in numbers:
            if not seen[number]:
                seen[number] = 1
                new += 1
        self.distinct += new
        self.duplicates += len(numbers) - new
        self.lanes[lane] = self.lanes.get(lane, 0) + len(numbers)
        for sent in _SENT.findall(body):
            self._latencies_s.append(now_s - int(sent) / 1e9)

    def report(self) -> dict[str, Any]:
        return {
            "posts": self.posts,
            "distinct": self.distinct,
            "duplicates": self.duplicates,
            "lowest": self._seen.find(1),
            "highest": self._seen.rfind(1),
            "lanes": {name.decode(): count for name, count in self.lanes.items()},
            "first_s": self.first_s,
            "last_s": self.last_s,
            "latencies_s": self._latencies_s,
        }


class _Receiver(asyncio.Protocol):
    """Just enough HTTP/1.1 for keep-alive clients that send a Content-Length."""

    def __init__(self, process: _Process) -> None:
        self._process = process
        self._buffer = bytearray()
        self._wanted_bytes = 0
        self._hangs = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._process.receivers.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._process.receivers.discard(self)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= self._wanted_bytes and (end := buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(buffer, 0, end)
            self._wanted_bytes = end + 4 + (int(length[1]) if length else 0)
            if len(buffer) < self._wanted_bytes:
                return
            path = bytes(buffer[: buffer.find(b"\r\n")]).split(b" ")[1]
            body = bytes(buffer[end + 4 : self._wanted_bytes])
            del buffer[: self._wanted_bytes]
            self._wanted_bytes = 0
            tally, _, lane = path[1:].partition(b"/")
            self._process.tally(tally.decode()).take(lane, body)
            self._hangs = self._hangs or tally == HANG.encode()
            if not self._hangs:
                self.transport.write(_OK)


class _Process:
    def __init__(self, port: int) -> None:
        self._port = port
        self.receivers: set[_Receiver] = set()
        self._tallies: dict[str, _Tally] = {}
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None

    def tally(self, name: str) -> _Tally:
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = _Tally()
        return tally

    async def up(self) -> None:
        listener = self._reserved or self._bound()
        self._reserved = None
        self._server = await asyncio.get_running_loop().create_server(lambda: _Receiver(self), sock=listener)

    async def down(self) -> None:
        """Refuse connections. The port stays bound, so that nobody else gets it."""
        assert self._server is not None
        self._server.close()
        for receiver in list(self.receivers):
            receiver.transport.abort()
        await asyncio.sleep(0.05)
        self._reserved = self._bound()

    def _bound(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        return listener

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command, _, name = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1][1:].decode().partition("/")
        answer: dict[str, Any] = {"cpu_s": time.process_time()}
        if command == "up":
            await self.up()
        elif command == "down":
            await self.down()
        elif command == "reset":
            self._tallies.clear()
        elif command == "count":
            answer["distinct"] = self.tally(name).distinct
        elif command == "report":
            answer |= self.tally(name).report()
        body = json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()


async def main() -> None:
    process = _Process(int(sys.argv[1]))
    await process.up()
    server = await asyncio.start_server(process.control, "127.0.0.1", int(sys.argv[2]))
    await server.serve_forever()


# -- its user ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a tally has seen. Latencies are from an event's ``sentNs`` to here."""

    cpu_s: float
    posts: int
    distinct: int
    duplicates: int
    lowest: int
    highest: int
    lanes: dict[str, int]
    first_s: float
    last_s: float
    latencies_s: list[float]

    def check(self, first: int, events: int) -> None:
        """Raises SystemExit unless these events came, each once, and no others."""
        expected = (events, 0, first, first + events - 1)
        if (self.distinct, self.duplicates, self.lowest, self.highest) != expected:
            raise SystemExit(
                f"{events} events were sent from number {first} on, the sink saw {self.distinct} from {self.lowest} to "
                f"{self.highest}, and {self.duplicates} more than once"
            )


class CountingSink:
    """A running sink."""

    def __init__(self, port: int, control_port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._control_port = control_port
        self._process = process

    def url(self, tally: str, lane: str) -> str:
        return f"http://127.0.0.1:{self.port}/{tally}/{lane}"

    def _ask(self, command: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._control_port}/{command}", timeout=60) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def cpu_s(self) -> float:
        return float(self._ask("cpu")["cpu_s"])

    def count(self, tally: str) -> int:
        return int(self._ask(f"count/{tally}")["distinct"])

    def report(self, tally: str) -> Seen:
        return Seen(**self._ask(f"report/{tally}"))

    def reset(self) -> None:
        """Forget all that has come."""
        self._ask("reset")

    def up(self) -> None:
        self._ask("up")

    def down(self) -> None:
        """Refuse connections, and break those that there are."""
        self._ask("down")

    def wait_for(self, tally: str, events: int, *, stalled_s: float = 30) -> Seen:
        """Until so many different events have come. Raises SystemExit when none has for ``stalled_s``."""
        count, since_s = -1, time.monotonic()
        while count < events:
            before, count = count, self.count(tally)
            if count != before:
                since_s = time.monotonic()
            elif time.monotonic() - since_s > stalled_s:
                raise SystemExit(f"{events} events were to come, none has for {stalled_s} s: {self.report(tally)}")
            time.sleep(0.1)
        return self.report(tally)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def counting_sink() -> Iterator[CountingSink]:
    """On the generator's core."""
    port, control_port = free_port(), free_port()
    command = [sys.executable, "-m", "benchmarks.counting_sink", str(port), str(control_port)]
    sink = CountingSink(port, control_port, subprocess.Popen(pinned(GENERATOR_CORE, command)))
    try:
        for attempt in range(100):
            try:
                sink.cpu_s()
                break
            except OSError:
                if attempt == 99:
                    raise SystemExit("the sink did not get ready") from None
                time.sleep(0.05)
        yield sink
    finally:
        sink.stop()


if __name__ == "__main__":
    uvloop.run(main())
