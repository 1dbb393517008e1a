"""A worker when something around it breaks: what it dies of, what it outlives, and what its successor finds."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.sink import Sink
from tests.unit.runtime.test_worker import Running, chunk, run, snapshot_of
from trunkline.delivery.accepted import PlacedEnvelope
from trunkline.delivery.dispatch import Dispatcher
from trunkline.log.base import ACCEPTED, INGESTED
from trunkline.observe.books import DestinationBooks
from trunkline.runtime import worker as worker_module
from trunkline.runtime.layout import PARTITION
from trunkline.workspace.errors import ConfigStoreError
from trunkline.workspace.model import Snapshot


def delivered(running: Running) -> int:
    return running.books().destinations.get("hook", DestinationBooks()).delivered


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def test_a_worker_that_dies_in_an_envelope_leaves_nothing_half_counted(
    tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        running = Running(tmp_path, snapshot_of({"hook": sink.place("hook").url}), seed=0, accepted_duplicates=False)
        running.split_log.topics[INGESTED].duplicates = False
        running.ingest("0", chunk("web", *(f"a{number}" for number in range(10))))
        await running.wait_until(lambda: delivered(running) == 10, "delivered")
        dispatch = Dispatcher.dispatch

        def half(self: Dispatcher, placed: PlacedEnvelope) -> None:
            raise RuntimeError("a bug between counting and handing over")

        monkeypatch.setattr(Dispatcher, "dispatch", half)
        running.ingest("0", chunk("web", *(f"b{number}" for number in range(10))))
        with pytest.raises(RuntimeError):
            await running._task
        monkeypatch.setattr(Dispatcher, "dispatch", dispatch)
        books = running.books()
        assert books.balanced, books.problems
        assert books.destinations["hook"].pending == 10
        running._close()
        running.start()
        await running.wait_until(lambda: delivered(running) == 20, "delivered by the next")
        assert running.books().balanced
        await running.stop()

    run(test())


def test_a_workspace_that_cannot_be_read_leaves_the_last_one_in_force(
    tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "RELOAD_RETRY_S", 0.05)

    async def test() -> None:
        running = Running(tmp_path, snapshot_of({"hook": sink.place("hook").url}), seed=0, accepted_duplicates=False)
        readable = asyncio.Event()
        newer = snapshot_of({"hook": sink.place("hook").url, "second": sink.place("second").url})

        def read() -> Snapshot:
            if not readable.is_set():
                raise ConfigStoreError("locked for too long")
            return newer

        await running.wait_until(lambda: "hook" in running.books().destinations, "active")
        running._worker._parts = dataclasses.replace(running._worker._parts, snapshot=read)
        running._worker.reload(running._waiter)
        running.ingest("0", chunk("web", "a"))
        await running.wait_until(lambda: delivered(running) == 1, "delivered")
        assert "second" not in running.books().destinations
        readable.set()
        await running.wait_until(lambda: "second" in running.books().destinations, "the newer workspace")
        await running.stop()

    run(test())


def test_events_without_an_id_of_their_own_let_the_log_be_shortened(
    tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They bring no dedupe keys; the index's checkpoint, below which the log may go, must move all the same."""
    monkeypatch.setattr(worker_module, "HOUSEKEEPING_S", 0.05)

    async def test() -> None:
        running = Running(tmp_path, snapshot_of({"hook": sink.place("hook").url}), seed=0, accepted_duplicates=False)
        running.split_log.topics[INGESTED].duplicates = False  # nothing would know the copies of these
        for number in range(20):
            anonymous = chunk("web", f"made-{number}")
            anonymous = msgspec.structs.replace(
                anonymous, events=[msgspec.structs.replace(event, has_own_id=False) for event in anonymous.events]
            )
            running.ingest("0", anonymous)
        await running.wait_until(lambda: delivered(running) == 20, "delivered")
        head = running.log.totals(ACCEPTED, PARTITION).position
        await running.wait_until(lambda: int(running._dedupe.checkpoint or 0) >= head, "the checkpoint at the head")
        await running.stop()

    run(test())
