"""The worker as a process: opens the parts, tells the others how it stands."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import msgspec
import structlog

from trunkline.clock import SystemClock
from trunkline.dedupe import DedupeIndex
from trunkline.files import write_atomically
from trunkline.log.base import ACCEPTED, Appender, LogLocked
from trunkline.log.embedded import EmbeddedLog
from trunkline.observe.metrics import WorkerMetrics
from trunkline.runtime.child import ChildArguments, Signals
from trunkline.runtime.layout import DataDir
from trunkline.runtime.wake import Waiter
from trunkline.runtime.worker import PARTITION, Parts, Worker
from trunkline.secrets import Secrets
from trunkline.settings import Settings
from trunkline.state.sqlite import SqliteStateStore
from trunkline.workspace.model import Snapshot
from trunkline.workspace.store import ConfigStore

LOCK_PATIENCE_S: Final = 25.0
"""How long to wait for the worker of a supervisor that was killed: it ends by itself within its grace."""
LOCK_POLL_S: Final = 0.2

_log = structlog.get_logger(__name__)


class WorkerStatus(msgspec.Struct):
    """What the worker tells: ``snapshot`` is the version in force, empty while it recovers."""

    pid: int
    snapshot: str
    since_ms: int


async def run_worker(settings: Settings, arguments: ChildArguments, signals: Signals) -> None:
    """Run until told to stop."""
    data = DataDir(settings.data_dir)
    clock = SystemClock()
    secrets = Secrets.open(settings.data_dir, settings.master_key)
    config = ConfigStore(settings.data_dir, secrets, clock)
    metrics = WorkerMetrics()
    log = EmbeddedLog(data.log, clock, segment_bytes=settings.log_segment_bytes)
    appender = await _become_owner(log)
    dedupe = DedupeIndex(data.dedupe, secret=secrets.derive("dedupe"), memtable_keys=settings.dedupe_memtable_keys)
    state = SqliteStateStore(data.state)

    def snapshot() -> Snapshot:
        active = config.active()
        if active is None:
            raise RuntimeError("no workspace is active; the supervisor activates one before it starts a worker")
        return active

    def ready(version: str) -> None:
        status = WorkerStatus(os.getpid(), version, clock.now_ms())
        write_atomically(data.worker_status, msgspec.json.encode(status))

    waiter = Waiter(data.worker_wake)
    worker = Worker(
        Parts(log, state, dedupe, snapshot, clock, data, settings), on_committed=metrics.committed, on_ready=ready
    )
    signals.connect(stop=lambda: worker.stop(waiter), reload=lambda: worker.reload(waiter))
    watch = asyncio.create_task(metrics.watch_loop(worker.pending_by_destination))
    try:
        await worker.run(appender, waiter)
    finally:
        watch.cancel()
        state.close()
        dedupe.close()
        config.close()
        waiter.close()
        appender.close()


async def _become_owner(log: EmbeddedLog) -> Appender:
    """The appender of the accepted log; wait for a predecessor as long as it may take to end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LOCK_PATIENCE_S
    while True:
        try:
            return await asyncio.to_thread(log.appender, ACCEPTED, PARTITION)
        except LogLocked:
            if loop.time() > deadline:
                raise
            _log.info("worker.waits_for_predecessor")
            await asyncio.sleep(LOCK_POLL_S)
