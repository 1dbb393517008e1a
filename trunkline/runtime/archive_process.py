"""The archive as a process, and with it the record of what sources send: whatever they take, nobody else waits for it.

Each is a thread of its own, and runs without the other where the settings say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry

from trunkline.archive.archivist import Archivist
from trunkline.archive.errors import IndexLocked
from trunkline.archive.index import ArchiveIndex
from trunkline.archive.metrics import ArchiveMetrics
from trunkline.archive.open_store import open_store
from trunkline.clock import Clock, SystemClock
from trunkline.log.embedded import EmbeddedLog
from trunkline.observe.metrics import Publisher
from trunkline.runtime.interpreter import tune_interpreter
from trunkline.runtime.layout import DataDir
from trunkline.runtime.lifecycle import ChildArguments, Signals
from trunkline.runtime.wake import Waiter
from trunkline.schema.limits import Limits
from trunkline.schema.metrics import SchemaMetrics
from trunkline.schema.recorder import SchemaRecorder
from trunkline.settings import Settings

NICENESS: Final = 10
PUBLISH_INTERVAL_S: Final = 5.0
LISTEN_S: Final = 3600.0
TAKE_OVER_POLL_S: Final = 0.5
PATIENCE_S: Final = 3.0
"""How long a request that is under way may hold up the end. What it was about is repeated at the next start."""

_log = structlog.get_logger(__name__)


async def run_archive(settings: Settings, arguments: ChildArguments, signals: Signals) -> None:
    """Run until told to stop."""
    os.nice(NICENESS)
    data = DataDir(settings.data_dir)
    clock = SystemClock()
    registry = CollectorRegistry()
    publisher = Publisher(registry, data.metrics, "archive")
    stopping = asyncio.Event()
    signals.connect(stop=stopping.set, reload=lambda: None)
    index, archivist = None, None
    if settings.archive:
        index = await _take_over(data.archive_index, stopping)
        if index is None:
            return
        archivist = Archivist(
            EmbeddedLog(data.log, clock),
            index,
            open_store(settings.archive_url, data.archive, reserve_bytes=settings.reserve_bytes),
            clock,
            ArchiveMetrics(registry),
            file_bytes=settings.archive_file_bytes,
            flush_s=settings.archive_flush_s,
            retention_days=settings.archive_retention_days,
            blocked_retention_days=settings.blocked_retention_days,
        )
    recorder = _recorder(settings, data, clock, registry) if settings.schema else None
    runners: list[Archivist | SchemaRecorder] = [runner for runner in (archivist, recorder) if runner is not None]
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in runners]
    tune_interpreter()
    for runner, ended in zip(runners, ends, strict=True):
        # A thread of its own and not the loop's: one that hangs in a request must not hold up the end of the process.
        threading.Thread(target=_run, args=(runner, loop, ended), name=type(runner).__name__, daemon=True).start()
    publishing = asyncio.create_task(_publish(publisher))
    listening = asyncio.create_task(_listen(Waiter(data.archive_wake), archivist)) if archivist is not None else None
    stopped = asyncio.create_task(stopping.wait())
    waited_for: tuple[asyncio.Future[Any], ...] = (*ends, stopped)
    try:
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        for runner in runners:
            runner.stop()
        if ends:
            await asyncio.wait(ends, timeout=PATIENCE_S)
    finally:
        publishing.cancel()
        if listening is not None:
            listening.cancel()
        stopped.cancel()
    if not all(ended.done() for ended in ends):
        sys.stderr.flush()
        os._exit(0)
    if index is not None:
        index.close()
    for ended in ends:
        ended.result()


def _recorder(settings: Settings, data: DataDir, clock: Clock, registry: CollectorRegistry) -> SchemaRecorder:
    limits = Limits(
        max_bytes=settings.schema_max_bytes,
        cpu_share=settings.schema_cpu_percent / 100,
        samples=settings.schema_samples,
    )
    return SchemaRecorder(
        EmbeddedLog(data.log, clock),
        data.schema,
        clock,
        SchemaMetrics(registry),
        limits,
        retention_days=settings.schema_retention_days,
    )


async def _take_over(path: Path, stopping: asyncio.Event) -> ArchiveIndex | None:
    """The index, as soon as a predecessor that is still ending has gone; None when it is we who have to stop."""
    waited = False
    while not stopping.is_set():
        try:
            return await asyncio.to_thread(ArchiveIndex, path)
        except IndexLocked:
            if not waited:
                _log.info("archive.waits_for_predecessor")
                waited = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TAKE_OVER_POLL_S):
                    await stopping.wait()
    return None


def _run(runner: Archivist | SchemaRecorder, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
    """The thread: its end, and what it ended with, goes to the loop."""
    try:
        runner.run()
    except Exception as error:  # noqa: BLE001 - handed over: the process ends with it
        loop.call_soon_threadsafe(_hand_over, ended, error)
    else:
        loop.call_soon_threadsafe(_hand_over, ended, None)


def _hand_over(ended: asyncio.Future[None], error: Exception | None) -> None:
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)


async def _listen(waiter: Waiter, archivist: Archivist) -> None:
    """Flush whenever somebody asks for it."""
    try:
        while True:
            if await waiter.wait(LISTEN_S):
                archivist.flush_soon()
    finally:
        waiter.close()


async def _publish(publisher: Publisher) -> None:
    while True:
        try:
            await asyncio.to_thread(publisher.publish)
        except OSError as error:
            _log.warning("metrics.not_published", error=str(error))
        await asyncio.sleep(PUBLISH_INTERVAL_S)
