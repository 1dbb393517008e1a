"""The worker as a process: opens the parts, tells the others how it stands."""

from __future__ import annotations

import asyncio
import os

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from trunkline.clock import SystemClock
from trunkline.dedupe import DedupeIndex
from trunkline.files import write_atomically
from trunkline.log.base import ACCEPTED
from trunkline.log.embedded import EmbeddedLog
from trunkline.observe.metrics import Publisher, WorkerMetrics
from trunkline.runtime.interpreter import tune_interpreter
from trunkline.runtime.lanes_status import LanesWriter
from trunkline.runtime.layout import PARTITION, DataDir
from trunkline.runtime.lifecycle import ChildArguments, Signals
from trunkline.runtime.ownership import patiently
from trunkline.runtime.wake import Waiter
from trunkline.runtime.worker import Parts, Worker
from trunkline.secrets import Secrets
from trunkline.settings import Settings
from trunkline.state.sqlite import SqliteStateStore
from trunkline.workspace.model import Snapshot
from trunkline.workspace.store import ConfigStore

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
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    publisher = Publisher(registry, data.metrics, "worker", metrics.tables)
    log = EmbeddedLog(data.log, clock, segment_bytes=settings.log_segment_bytes)
    appender = await patiently(lambda: log.appender(ACCEPTED, PARTITION), lambda: signals.stopping)
    dedupe = DedupeIndex(data.dedupe, secret=secrets.derive("dedupe"), memtable_keys=settings.dedupe_memtable_keys)
    state = SqliteStateStore(data.state)

    known: Snapshot | None = None

    def snapshot() -> Snapshot:
        nonlocal known
        if known is None or config.active_version() != known.version:
            known = config.active()
        if known is None:
            raise RuntimeError("no workspace is active; the supervisor activates one before it starts a worker")
        return known

    def ready(version: str) -> None:
        status = WorkerStatus(os.getpid(), version, clock.now_ms())
        try:
            write_atomically(data.worker_status, msgspec.json.encode(status))
        except OSError as error:
            _log.warning("worker.status_not_written", error=str(error))

    waiter = Waiter(data.worker_wake)
    worker = Worker(
        Parts(log, state, dedupe, snapshot, clock, data, settings), on_committed=metrics.committed, on_ready=ready
    )
    signals.connect(stop=lambda: worker.stop(waiter), reload=lambda: worker.reload(waiter))
    lanes = LanesWriter(data.lanes_status, clock)

    def pending() -> dict[str, int]:
        try:
            lanes.write(worker.lanes)
        except OSError as error:
            _log.warning("lanes.status_not_written", error=str(error))
        return worker.pending_by_destination()

    watch = asyncio.create_task(metrics.watch(pending, worker.pending_by_replay, publisher.publish))
    try:
        tune_interpreter()
        await worker.run(appender, waiter)
    finally:
        watch.cancel()
        state.close()
        dedupe.close()
        config.close()
        waiter.close()
        appender.close()
