"""Group commit: what is grouped, what is refused, what happens when the log fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from trunkline.clock import SystemClock
from trunkline.ingest.committer import CommitError, Committer, DiskFull, LogUnavailable, Overloaded
from trunkline.ingest.metrics import IngestMetrics
from trunkline.log.base import INGESTED, LogError, LogFull, LogLocked, NewRecord
from trunkline.log.embedded import EmbeddedLog


class Gate:
    """An appender that waits for the test."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.groups: list[list[bytes]] = []
        self.errors: list[Exception] = []
        self.opened = 0
        self.closed = 0
        self.head = 0

    def __call__(self) -> Gate:
        self.opened += 1
        return self

    def append(self, records: Sequence[NewRecord]) -> list[int]:
        assert self.open.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        self.groups.append([record.payload for record in records])
        return list(range(len(records)))

    def close(self) -> None:
        self.closed += 1


class FakeClock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic_s(self) -> float:
        return self.seconds


def record(payload: bytes = b"x") -> NewRecord:
    return NewRecord(payload, {"web": 1})


def run(scenario: Callable[[Committer, Gate], Awaitable[None]], clock: Any = None, **options: Any) -> Gate:
    gate = Gate()

    async def main() -> None:
        committer = Committer(gate, clock or SystemClock(), IngestMetrics(), **options)
        await committer.start()
        await scenario(committer, gate)
        gate.open.set()
        await committer.stop()
        assert gate.closed == gate.opened

    asyncio.run(main())
    return gate


def test_what_comes_together_goes_together_and_what_arrives_meanwhile_goes_next() -> None:
    async def scenario(committer: Committer, gate: Gate) -> None:
        futures = [committer.submit([record(b"%d" % number)]) for number in range(2)]
        await asyncio.sleep(0.01)
        futures += [committer.submit([record(b"%d" % number)]) for number in range(2, 5)]
        assert committer.queued_requests == 5
        assert committer.queued_bytes == 5
        await asyncio.sleep(0.05)
        assert not any(future.done() for future in futures)
        gate.open.set()
        assert await asyncio.gather(*futures) == [None] * 5
        assert committer.queued_requests == committer.queued_bytes == 0

    assert run(scenario).groups == [[b"0", b"1"], [b"2", b"3", b"4"]]


def test_bounds_of_the_queue() -> None:
    async def by_requests(committer: Committer, gate: Gate) -> None:
        futures = [committer.submit([record()]) for _ in range(2)]
        with pytest.raises(Overloaded):
            committer.submit([record()])
        gate.open.set()
        await asyncio.gather(*futures)
        assert await committer.submit([record()]) is None

    async def by_bytes(committer: Committer, gate: Gate) -> None:
        futures = [committer.submit([record(b"x" * 500)]), committer.submit([record(b"x" * 500)])]
        with pytest.raises(Overloaded):
            committer.submit([record()])
        gate.open.set()
        await asyncio.gather(*futures)
        assert await committer.submit([record(b"x" * 5000)]) is None, "a lone request is never too large"

    run(by_requests, max_queue_requests=2)
    run(by_bytes, max_queue_bytes=1000)


def test_a_full_disk_is_told_and_forgotten() -> None:
    async def scenario(committer: Committer, gate: Gate) -> None:
        gate.open.set()
        gate.errors = [LogFull("no space")]
        assert isinstance(await committer.submit([record()]), DiskFull)
        assert committer.full
        assert await committer.submit([record()]) is None
        assert not committer.full

    assert run(scenario).opened == 1


@pytest.mark.parametrize("error", [LogError("broken"), OSError(5, "I/O error"), RuntimeError("a defect")])
def test_a_broken_log_is_opened_again(error: Exception) -> None:
    async def scenario(committer: Committer, gate: Gate) -> None:
        gate.open.set()
        gate.errors = [error]
        assert isinstance(await committer.submit([record()]), LogUnavailable)
        assert await committer.submit([record()]) is None

    assert run(scenario).opened == 2


def test_opening_again_is_tried_once_a_second() -> None:
    clock = FakeClock()
    attempts = 0
    gate = Gate()
    gate.open.set()

    def opener() -> Gate:
        nonlocal attempts
        attempts += 1
        if attempts in (2, 3):
            raise LogLocked("someone else has it")
        return gate()

    async def main() -> None:
        committer = Committer(opener, clock, IngestMetrics())
        await committer.start()
        gate.errors = [LogError("broken")]
        results: list[CommitError | None] = []
        for step_s in (0.0, 0.1, 0.1, 1.0, 0.5, 1.0):
            clock.seconds += step_s
            results.append(await committer.submit([record()]))
        assert [type(result).__name__ for result in results] == ["LogUnavailable"] * 5 + ["NoneType"]
        assert attempts == 4
        await committer.stop()

    asyncio.run(main())


def test_the_reserve_is_looked_at_once_a_second(tmp_path: Path) -> None:
    clock = FakeClock()

    async def scenario(committer: Committer, gate: Gate) -> None:
        gate.open.set()
        assert isinstance(await committer.submit([record()]), DiskFull)
        committer._reserve_bytes = 0
        assert await committer.submit([record()]) is None, "space that came back is seen at once"
        committer._reserve_bytes = 2**60
        assert await committer.submit([record()]) is None
        clock.seconds += 1
        assert isinstance(await committer.submit([record()]), DiskFull)

    run(scenario, clock, data_dir=tmp_path, reserve_bytes=2**60)


def test_a_cancelled_request_breaks_nothing() -> None:
    async def scenario(committer: Committer, gate: Gate) -> None:
        first = committer.submit([record(b"1")])
        await asyncio.sleep(0.01)
        second = committer.submit([record(b"2")])
        first.cancel()
        gate.open.set()
        assert await second is None

    assert run(scenario).groups == [[b"1"], [b"2"]]


def test_stopping_finishes_what_was_submitted() -> None:
    gate = Gate()
    woken: list[int] = []

    async def main() -> None:
        committer = Committer(gate, SystemClock(), IngestMetrics(), on_commit=lambda: woken.append(1))
        await committer.start()
        futures = [committer.submit([record()])]
        await asyncio.sleep(0.01)
        futures += [committer.submit([record()]) for _ in range(2)]
        stopping = asyncio.create_task(committer.stop())
        await asyncio.sleep(0.01)
        with pytest.raises(LogUnavailable):
            committer.submit([record()])
        gate.open.set()
        await stopping
        assert [future.result() for future in futures] == [None] * 3

    asyncio.run(main())
    assert sum(map(len, gate.groups)) == 3
    assert len(woken) == 2
    assert gate.closed == 1


def test_a_log_that_cannot_be_opened_fails_the_start() -> None:
    def opener() -> Gate:
        raise LogLocked("someone else has it")

    async def main() -> None:
        with pytest.raises(LogLocked):
            await Committer(opener, SystemClock(), IngestMetrics()).start()

    asyncio.run(main())


def test_on_the_embedded_log(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path, SystemClock())

    async def main() -> None:
        committer = Committer(lambda: log.appender(INGESTED, "0"), SystemClock(), IngestMetrics(), data_dir=tmp_path)
        await committer.start()
        assert await asyncio.gather(*[committer.submit([record(b"%d" % n)]) for n in range(100)]) == [None] * 100
        await committer.stop()

    asyncio.run(main())
    payloads = [item.payload for item in log.reader(INGESTED, "0").read(1 << 30)]
    assert payloads == [b"%d" % number for number in range(100)]
