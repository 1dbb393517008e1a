"""The worker over a log that gives no more than Kafka gives: gaps in the positions, appends that are repeated."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from random import Random

import pytest

from tests.support.sink import HANG, OK, Reply, Sink
from trunkline.clock import SystemClock
from trunkline.dedupe import DedupeIndex
from trunkline.log.base import ACCEPTED, INGESTED, EventLog, NewRecord, RecordIndex, Totals
from trunkline.log.embedded import EmbeddedLog
from trunkline.log.records import RECORD_VERSION, IngestedChunk, LoggedEvent, Rejection, encode_chunk
from trunkline.observe.books import Books, check_books
from trunkline.runtime import state_writer, worker
from trunkline.runtime.layout import PARTITION, DataDir
from trunkline.runtime.wake import Waiter
from trunkline.runtime.worker import Parts, Worker
from trunkline.settings import Settings
from trunkline.state.base import Changes
from trunkline.testing.memory_log import MemoryAppender, MemoryLog, MemoryReader
from trunkline.testing.memory_state import MemoryStateStore
from trunkline.workspace.model import Destination, EgressRules, Snapshot, Source


class SplitLog:
    """A twin for each topic, so that their manners differ."""

    def __init__(self, seed: int, *, accepted_duplicates: bool) -> None:
        self.topics = {INGESTED: MemoryLog(True, seed), ACCEPTED: MemoryLog(True, seed + 1)}
        self.topics[ACCEPTED].duplicates = accepted_duplicates

    def partitions(self, topic: str) -> list[str]:
        return self.topics[topic].partitions(topic)

    def appender(self, topic: str, partition: str) -> MemoryAppender:
        return self.topics[topic].appender(topic, partition)

    def reader(self, topic: str, partition: str, position: int = 0) -> MemoryReader:
        return self.topics[topic].reader(topic, partition, position)

    def index(self, topic: str, partition: str, start: int, stop: int | None = None) -> Iterator[RecordIndex]:
        return self.topics[topic].index(topic, partition, start, stop)

    def totals(self, topic: str, partition: str, position: int | None = None) -> Totals:
        return self.topics[topic].totals(topic, partition, position)

    def check(self, topic: str, partition: str) -> list[str]:
        return self.topics[topic].check(topic, partition)

    def retain(self, topic: str, partition: str, *, consumed: int, older_than_ms: int, max_bytes: int) -> int:
        return self.topics[topic].retain(
            topic, partition, consumed=consumed, older_than_ms=older_than_ms, max_bytes=max_bytes
        )

    def size_bytes(self, topic: str) -> int:
        return self.topics[topic].size_bytes(topic)


def snapshot_of(urls: Mapping[str, str], sources: Sequence[str] = ("web", "app")) -> Snapshot:
    return Snapshot(
        version=repr(sorted(urls.items())),
        slug="acme",
        name="Acme",
        sources={slug: Source(slug, slug, "http", (f"wk_{slug}",)) for slug in sources},
        destinations={
            slug: Destination(slug, slug, "webhook", tuple(sources), True, {"url": url}) for slug, url in urls.items()
        },
        egress=EgressRules(allow_private=(ip_network("127.0.0.0/8"),)),
    )


class Running:
    """A worker in this process, with the ingested log's writer beside it."""

    def __init__(
        self,
        directory: Path,
        snapshot: Snapshot,
        *,
        seed: int,
        accepted_duplicates: bool,
        store: MemoryStateStore | None = None,
        log: EventLog | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.split_log = SplitLog(seed, accepted_duplicates=accepted_duplicates)
        self.log: EventLog = log or self.split_log
        self.store = store or MemoryStateStore()
        self._directory = directory
        self._ingest = {partition: self.log.appender(INGESTED, partition) for partition in ("0", "1")}
        self._settings = Settings(
            data_dir=directory,
            lane_concurrency=4,
            shutdown_grace_s=5,
            log_retention_hours=24 if log is None else 0,
            archive=False,
        )
        self.start()

    def start(self) -> None:
        self._dedupe = DedupeIndex(self._directory / "dedupe", secret=b"secret", memtable_keys=100)
        self._waiter = Waiter(self._directory / "wake")
        parts = Parts(
            self.log,
            self.store,
            self._dedupe,
            lambda: self.snapshot,
            SystemClock(),
            DataDir(self._directory),
            self._settings,
        )
        self._worker = Worker(parts, on_committed=lambda changes: None, on_ready=lambda version: None)
        self._appender = self.log.appender(ACCEPTED, PARTITION)
        self._task = asyncio.create_task(self._worker.run(self._appender, self._waiter))

    def ingest(self, partition: str, chunk: IngestedChunk) -> None:
        self._ingest[partition].append([NewRecord(encode_chunk(chunk), chunk.counts())])
        self._waiter.set()

    def reload(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._worker.reload(self._waiter)

    async def crash(self) -> None:
        """Take log and state away from the worker, end it, and start its successor."""
        self.split_log.topics[ACCEPTED].rebalance(ACCEPTED, PARTITION)
        self.store = self.store.reopen()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._close()
        self.start()

    async def stop(self) -> None:
        self._worker.stop(self._waiter)
        await self._task
        self._close()

    def _close(self) -> None:
        self._dedupe.close()
        self._waiter.close()
        self._appender.close()

    def books(self) -> Books:
        return check_books(self.store.read(), self.log)

    async def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while not condition() and not self._task.done():  # noqa: ASYNC110 - nobody signals what tests look at
                    await asyncio.sleep(0.01)
        if self._task.done():
            await self._task
        assert condition(), (what, self.books().as_json())


def event(message_id: str) -> LoggedEvent:
    return LoggedEvent(message_id, "track", "E", f'{{"type":"track","messageId":"{message_id}"}}'.encode())


def chunk(source: str, *message_ids: str, rejections: int = 0) -> IngestedChunk:
    return IngestedChunk(
        RECORD_VERSION,
        source,
        SystemClock().now_ms(),
        [event(message_id) for message_id in message_ids],
        [Rejection("invalid_event", b"{}")] * rejections,
    )


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_writer, "RETRY_INTERVAL_S", 0.01)


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def run(test: Awaitable[None]) -> None:
    async def wrapped() -> None:
        await test

    asyncio.run(wrapped())


@pytest.mark.parametrize("accepted_duplicates", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_each_event_is_delivered_once(seed: int, accepted_duplicates: bool, tmp_path: Path, sink: Sink) -> None:
    hook, other = sink.place("hook"), sink.place("other")
    other.answer = lambda hit: Reply(503) if hit.message_id == "m5" and other.received["m5"] == 1 else OK

    async def test() -> None:
        running = Running(
            tmp_path,
            snapshot_of({"hook": hook.url, "other": other.url}),
            seed=seed,
            accepted_duplicates=accepted_duplicates,
        )
        dice = Random(seed)
        sent = set()
        for number in range(100):
            ids = [f"m{number * 3 + at}" for at in range(3)]
            sent |= set(ids)
            again = [dice.choice(sorted(sent))]
            running.ingest(dice.choice("01"), chunk(dice.choice(("web", "app")), *ids, *again, rejections=number % 2))
            if number % 10 == 0:
                await asyncio.sleep(0.01)
                if not accepted_duplicates:
                    assert running.books().problems == []
        await running.wait_until(lambda: hook.ids() == sent == other.ids(), "all arrive")
        await running.stop()
        assert hook.taken == other.taken == dict.fromkeys(sent, 1)
        books = running.books()
        for line in books.destinations.values():
            assert (line.delivered, line.failed, line.pending) == (len(sent), 0, 0)
        # Copies in the ingested log count as received, and as the duplicates that they are.
        assert books.sources["web"].received + books.sources["app"].received > 100 * 4 + 50
        if not accepted_duplicates:
            assert books.problems == []

    run(test())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("quick_retries")
def test_a_successor_goes_on_where_the_committed_state_ends(seed: int, tmp_path: Path, sink: Sink) -> None:
    hook = sink.place("hook")

    async def test() -> None:
        running = Running(tmp_path, snapshot_of({"hook": hook.url}), seed=seed, accepted_duplicates=False)
        dice = Random(seed)
        sent = set()
        for number in range(60):
            ids = [f"m{number * 3 + at}" for at in range(3)]
            sent |= set(ids)
            running.ingest(dice.choice("01"), chunk("web", *ids))
            if number % 15 == 7:
                await asyncio.sleep(dice.uniform(0, 0.05))
                await running.crash()
                assert running.books().problems == []
        await running.wait_until(lambda: hook.ids() == sent, "all arrive")
        await running.stop()
        books = running.books()
        assert books.problems == []
        assert books.destinations["hook"].delivered == len(sent)
        assert set(hook.taken) == sent

    run(test())


@pytest.mark.usefixtures("quick_retries")
def test_while_the_state_has_no_room_nothing_is_sent(tmp_path: Path, sink: Sink) -> None:
    hook = sink.place("hook")

    async def test() -> None:
        running = Running(tmp_path, snapshot_of({"hook": hook.url}), seed=1, accepted_duplicates=False)
        running.ingest("0", chunk("web", "m1"))
        await running.wait_until(lambda: hook.ids() == {"m1"}, "the first arrives")
        await running.wait_until(lambda: running.store.read().lane_books != {}, "and is recorded")
        running.store.full = True
        running.ingest("0", chunk("web", *(f"n{number}" for number in range(100))))
        await asyncio.sleep(0.3)
        unrecorded = hook.received.total() - 1
        await asyncio.sleep(0.3)
        running.ingest("0", chunk("web", "late"))
        await asyncio.sleep(0.3)
        assert hook.received.total() - 1 == unrecorded, "it goes on sending what it cannot record"
        assert running.books().problems == []
        running.store.full = False
        expected = {"m1", "late", *(f"n{number}" for number in range(100))}
        await running.wait_until(lambda: hook.ids() == expected, "all arrive")
        await running.stop()
        assert hook.doubles() == 0
        books = running.books()
        assert (books.problems, books.destinations["hook"].delivered) == ([], 102)

    run(test())


class SlowStore(MemoryStateStore):
    """Commits wait while ``gate`` is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, changes: Changes) -> None:
        self.gate.wait(timeout=60)
        super().commit(changes)


def test_while_a_commit_stalls_nothing_is_sent(tmp_path: Path, sink: Sink) -> None:
    """Or a kill after a long stall would make all that was sent meanwhile come twice."""
    hook = sink.place("hook")

    async def test() -> None:
        store = SlowStore()
        running = Running(tmp_path, snapshot_of({"hook": hook.url}), seed=1, accepted_duplicates=False, store=store)
        running.ingest("0", chunk("web", "m1"))
        await running.wait_until(lambda: running.store.read().lane_books != {}, "the first is recorded")
        store.gate.clear()
        running.ingest("0", chunk("web", "m2"))
        await asyncio.sleep(1)
        sent = hook.received.total()
        for number in range(20):
            running.ingest("0", chunk("web", f"n{number}"))
        await asyncio.sleep(0.5)
        assert hook.received.total() == sent, "it goes on sending what it cannot record"
        store.gate.set()
        expected = {"m1", "m2", *(f"n{number}" for number in range(20))}
        await running.wait_until(lambda: hook.ids() == expected, "all arrive")
        await running.stop()
        assert hook.doubles() == 0
        assert running.books().problems == []

    run(test())


def test_a_destination_added_and_removed_between_envelopes(tmp_path: Path, sink: Sink) -> None:
    hook, extra = sink.place("hook"), sink.place("extra")

    async def test() -> None:
        running = Running(tmp_path, snapshot_of({"hook": hook.url}), seed=2, accepted_duplicates=False)
        number = 0

        async def send_some() -> set[str]:
            nonlocal number
            ids = {f"m{number + at}" for at in range(30)}
            number += 30
            for message_id in sorted(ids):
                running.ingest("0", chunk("web", message_id))
            await running.wait_until(lambda: ids <= hook.ids(), "all arrive")
            assert running.books().problems == []
            return ids

        await send_some()
        running.reload(snapshot_of({"hook": hook.url, "extra": extra.url}))
        await running.wait_until(lambda: "extra" in running.books().destinations, "it is connected")
        ids = await send_some()
        await running.wait_until(lambda: extra.ids() == ids, "the added one gets what came since")
        running.reload(snapshot_of({"hook": hook.url}))
        await running.wait_until(
            lambda: all(
                interval.closed_at_ms for interval in running.store.read().intervals if interval.destination == "extra"
            ),
            "it is disconnected",
        )
        await send_some()
        await running.stop()
        assert extra.taken == dict.fromkeys(ids, 1)
        books = running.books()
        assert books.problems == []
        line = books.destinations["extra"]
        assert (line.delivered, line.received - line.filtered_at_source) == (30, 30)

    run(test())


def test_the_books_balance_while_the_log_is_shortened(
    tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention drops what everybody has passed, and nothing that a lane, a row or the dedupe index still needs."""
    monkeypatch.setattr(worker, "HOUSEKEEPING_S", 0.02)
    hook, slow = sink.place("hook"), sink.place("slow")
    slow.always(HANG)

    async def test() -> None:
        log = EmbeddedLog(tmp_path / "log", SystemClock(), segment_bytes=4096)
        running = Running(
            tmp_path,
            snapshot_of({"hook": hook.url, "slow": slow.url}),
            seed=1,
            accepted_duplicates=False,
            log=log,
        )

        async def send(prefix: str) -> set[str]:
            ids = {f"{prefix}{number}" for number in range(400)}
            for at, message_id in enumerate(sorted(ids)):
                running.ingest("01"[at % 2], chunk("web", message_id, message_id, rejections=1))
                if at % 20 == 0:
                    await asyncio.sleep(0.01)
                    assert running.books().problems == []
            await running.wait_until(lambda: ids <= hook.ids(), "all arrive")
            return ids

        def oldest(topic: str) -> int:
            return next(log.index(topic, "0", 0)).position

        sent = await send("a")
        await running.wait_until(lambda: oldest(INGESTED) > 0, "the ingested log is shortened")
        assert oldest(ACCEPTED) == 0, "a lane still needs it"
        assert running.books().problems == []
        await running.stop()
        assert running.books().problems == []
        running.start()
        slow.always(OK)
        slow.let_go()
        await running.wait_until(lambda: slow.ids() == sent, "the slow one gets all")
        sent |= await send("b")
        await running.wait_until(lambda: slow.ids() == sent, "the slow one gets all")
        await running.wait_until(lambda: oldest(ACCEPTED) > 0, "the accepted log is shortened")
        assert running.books().problems == []
        await running.stop()
        running.start()
        for message_id in sorted(sent):
            running.ingest("0", chunk("app", message_id))
        running.ingest("0", chunk("app", "last"))
        await running.wait_until(lambda: "last" in slow.ids(), "the last one comes")
        await running.stop()
        books = running.books()
        assert books.problems == []
        assert hook.ids() == slow.ids() == sent | {"last"}, "the dedupe index forgot nothing"
        assert hook.doubles() == 0
        assert books.destinations["slow"].delivered == 801

    run(test())
