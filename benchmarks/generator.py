"""A load generator with exact numbers: so many events, each with a number of its own, over any number of sources.

Usage: ``python -m benchmarks.generator PLAN``, a :class:`Plan` as JSON; prints a :class:`Sent` as JSON. As a library:
:func:`generate`, which runs it on the generator's core.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from benchmarks.support import GENERATOR_CORE, SOURCE, event, pinned, write_key

_MARK = 999_999_999_999
_STAMP = 1_111_111_111_111_111_111
_LENGTH = re.compile(rb"[Cc]ontent-[Ll]ength: (\d+)")


@dataclass(frozen=True)
class Plan:
    """``events`` from number ``first`` on, ``batch`` a request, the requests evenly over ``sources`` in turn.

    ``per_s`` None: each connection sends its next request when it has its answer. Otherwise requests are sent at this
    rate of events, whatever the answers take, and each event holds the moment at which it was due (``sentNs``).
    """

    port: int
    events: int
    first: int = 0
    batch: int = 100
    connections: int = 8
    sources: Sequence[str] = (SOURCE,)
    per_s: float | None = None


@dataclass(frozen=True)
class Sent:
    """Every event was acknowledged. Wall clock and CPU of the generator."""

    started_s: float
    ended_s: float
    cpu_s: float

    @property
    def seconds(self) -> float:
        return self.ended_s - self.started_s


def generate(plan: Plan) -> Sent:
    """Raises SystemExit when a request was not answered 200."""
    done = subprocess.run(
        pinned(GENERATOR_CORE, [sys.executable, "-m", "benchmarks.generator", json.dumps(asdict(plan))]),
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit("the generator failed, see above")
    return Sent(**json.loads(done.stdout))


class _Connection(asyncio.Protocol):
    """Just enough HTTP/1.1: one request, one answer with a Content-Length."""

    def __init__(self, generator: _Generator) -> None:
        self._generator = generator
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(1 << 24)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        if length is None or len(self._buffer) < end + 4 + int(length[1]):
            return
        answer, self._buffer = self._buffer, b""
        self._generator.answered(self, answer)

    def connection_lost(self, error: Exception | None) -> None:
        self._generator.lost(error)


class _Generator:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        body = event(_MARK)
        if plan.per_s is not None:
            body["properties"] = {"sentNs": _STAMP}
        self._pieces = json.dumps(body, separators=(",", ":")).encode().split(b"%d" % _MARK)
        single = plan.batch == 1
        self._around = (b"", b"") if single else (b'{"batch":[', b'],"sentAt":"2026-11-21T10:00:01.000Z"}')
        size_bytes = len(self._body(0, 0))
        path = "/v1/track" if single else "/v1/batch"
        self._heads = [
            f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic "
            f"{base64.b64encode(f'{write_key(source)}:'.encode()).decode()}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {size_bytes}\r\n\r\n".encode()
            for source in plan.sources
        ]
        self._requests = plan.events // plan.batch
        self._begun = 0
        self._answered = 0
        self._idle: deque[_Connection] = deque()
        """Used in turn: the server closes a connection that is idle for long."""
        self._due: deque[int] = deque()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _body(self, request: int, due_ns: int) -> bytes:
        first = self._plan.first + request * self._plan.batch
        events = b",".join(
            [(b"%012d" % number).join(self._pieces) for number in range(first, first + self._plan.batch)]
        )
        if self._plan.per_s is not None:
            events = events.replace(b"%d" % _STAMP, b"%019d" % due_ns)
        return events.join(self._around)

    async def run(self) -> Sent:
        plan = self._plan
        loop = asyncio.get_running_loop()
        for _ in range(plan.connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", plan.port)
            self._idle.append(connection)
        started_s, cpu_before_s = time.time(), time.process_time()
        if plan.per_s is None:
            for connection in self._idle:
                self._send_next(connection)
        else:
            await self._pace(plan.batch / plan.per_s, started_s)
        await self._done
        return Sent(started_s, time.time(), time.process_time() - cpu_before_s)

    async def _pace(self, period_s: float, started_s: float) -> None:
        for number in range(self._requests):
            due_s = started_s + number * period_s
            if (wait_s := due_s - time.time()) > 0:
                await asyncio.sleep(wait_s)
            self._due.append(int(due_s * 1e9))
            if self._idle:
                self._send_due(self._idle.popleft())

    def _send_next(self, connection: _Connection) -> None:
        if self._begun < self._requests:
            self._send(connection, 0)

    def _send_due(self, connection: _Connection) -> None:
        self._send(connection, self._due.popleft())

    def _send(self, connection: _Connection, due_ns: int) -> None:
        request = self._begun
        self._begun += 1
        connection.transport.write(self._heads[request % len(self._heads)] + self._body(request, due_ns))

    def answered(self, connection: _Connection, answer: bytes) -> None:
        if not answer.startswith(b"HTTP/1.1 200"):
            self._fail(answer[:500].decode(errors="replace"))
            return
        self._answered += 1
        if self._answered == self._requests and not self._done.done():
            self._done.set_result(None)
        elif self._plan.per_s is None:
            self._send_next(connection)
        elif self._due:
            self._send_due(connection)
        else:
            self._idle.append(connection)

    def lost(self, error: Exception | None) -> None:
        self._fail(f"the server closed a connection: {error}")

    def _fail(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(SystemExit(why))


async def main() -> None:
    print(json.dumps(asdict(await _Generator(Plan(**json.loads(sys.argv[1]))).run())))


if __name__ == "__main__":
    uvloop.run(main())
