"""An ingest process: the Tracking API and the CDN on the supervisor's socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from trunkline.clock import SystemClock
from trunkline.ingest.analytics_js import AnalyticsJsAssets, BackgroundInstall
from trunkline.ingest.app import IngestApp
from trunkline.ingest.cdn import Cdn
from trunkline.ingest.committer import Committer
from trunkline.ingest.metrics import IngestMetrics
from trunkline.ingest.options import IngestOptions
from trunkline.ingest.server import IngestServer
from trunkline.ingest.unknown_keys import UnknownKeys
from trunkline.log.base import INGESTED, Appender
from trunkline.log.embedded import EmbeddedLog
from trunkline.observe.metrics import PUBLISH_INTERVAL_S, Publisher
from trunkline.runtime.interpreter import tune_interpreter
from trunkline.runtime.layout import DataDir
from trunkline.runtime.lifecycle import ChildArguments, Signals
from trunkline.runtime.ownership import patiently
from trunkline.runtime.probes import HealthReport, health_app, metrics_app
from trunkline.runtime.wake import Waker
from trunkline.secrets import Secrets
from trunkline.settings import Settings
from trunkline.workspace.errors import WorkspaceError
from trunkline.workspace.model import Snapshot
from trunkline.workspace.store import ConfigStore

RELOAD_RETRY_S: Final = 5.0

_log = structlog.get_logger(__name__)


async def run_ingest(settings: Settings, arguments: ChildArguments, signals: Signals) -> None:
    """Run until told to stop."""
    data = DataDir(settings.data_dir)
    name = f"ingest.{arguments.index}"
    clock = SystemClock()
    config = ConfigStore(settings.data_dir, Secrets.open(settings.data_dir, settings.master_key), clock)
    workspace = _Workspace(config)
    connected = _Connected(data.worker_status, wait=arguments.with_worker)
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)
    publisher = Publisher(registry, data.metrics, name)
    unknown_keys = UnknownKeys(clock, data.run, name)
    log = EmbeddedLog(data.log, clock, segment_bytes=settings.log_segment_bytes)
    appenders: list[Appender] = [
        await patiently(lambda: log.appender(INGESTED, str(arguments.index)), lambda: signals.stopping)
    ]
    waker = Waker(data.worker_wake)
    committer = Committer(
        lambda: appenders.pop() if appenders else log.appender(INGESTED, str(arguments.index)),
        clock,
        metrics,
        data_dir=settings.data_dir,
        reserve_bytes=settings.reserve_bytes,
        max_queue_bytes=settings.ingest_queue_bytes,
        max_queue_requests=settings.ingest_queue_requests,
        on_commit=waker.wake,
    )
    options = IngestOptions.from_settings(settings)
    browser_sdk = AnalyticsJsAssets(settings.data_dir)
    fetching = BackgroundInstall(
        browser_sdk,
        lambda step: _log.info("cdn.install", step=step),
        lambda error: _log.warning("cdn.not_installed", error=str(error)),
    )
    cdn = Cdn(
        workspace.snapshot,
        browser_sdk,
        trusted_proxies=settings.trusted_proxies,
        on_unknown_key=unknown_keys.note,
    )
    app = IngestApp(
        snapshot=workspace.snapshot,
        committer=committer,
        clock=clock,
        unknown_keys=unknown_keys,
        metrics=metrics,
        options=options,
        cdn=cdn,
        extra_routes={
            "/health": health_app(lambda: workspace.report(committer.full, connected()), settings.metrics_token),
            "/metrics": metrics_app(data.metrics, publisher.publish, settings.metrics_token),
        },
    )
    server = IngestServer(app, clock, metrics, options, on_tick=unknown_keys.flush)
    stopping = asyncio.Event()
    signals.connect(stop=stopping.set, reload=workspace.reload)
    await committer.start()
    tune_interpreter()
    await server.start(socket.socket(fileno=arguments.socket_fd))
    publishing = asyncio.create_task(_publish(publisher))
    if settings.fetch_browser_sdk:
        workspace.watch(lambda snapshot: fetching.start() if snapshot.has_browser_source else None)
    await stopping.wait()
    await asyncio.to_thread(fetching.stop)
    await server.stop(settings.shutdown_grace_s)
    publishing.cancel()
    await committer.stop()
    unknown_keys.flush(at_once=True)
    config.close()
    waker.close()


async def _publish(publisher: Publisher) -> None:
    while True:
        await asyncio.sleep(PUBLISH_INTERVAL_S)
        try:
            await asyncio.to_thread(publisher.publish)
        except OSError as error:
            _log.warning("metrics.not_published", error=str(error))


class _Connected:
    """Whether a worker has ever put a workspace into force in this data directory. Until then no destination has
    books; afterwards ingest is ready whatever the worker does."""

    def __init__(self, worker_status: Path, *, wait: bool) -> None:
        self._worker_status = worker_status
        self._known = not wait

    def __call__(self) -> bool:
        self._known = self._known or self._worker_status.exists()
        return self._known


class _Workspace:
    """The snapshot in force in this process."""

    def __init__(self, config: ConfigStore) -> None:
        self._config = config
        active = config.active()
        if active is None:
            raise RuntimeError("no workspace is active; the supervisor activates one before it starts ingest")
        self._snapshot = active
        self._problems = [str(problem) for problem in config.problems()]
        self._reading: asyncio.Task[None] | None = None
        self._wanted = False
        self._on_change: Callable[[Snapshot], None] = lambda snapshot: None

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def watch(self, on_change: Callable[[Snapshot], None]) -> None:
        """Call this now and for every snapshot to come."""
        self._on_change = on_change
        on_change(self._snapshot)

    def reload(self) -> None:
        """Take the newest snapshot as soon as it has been read; keep the one at hand when it cannot be."""
        self._wanted = True
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """One reading at a time, or an older one could end after a newer one."""
        while self._wanted:
            self._wanted = False
            try:
                active, problems = await asyncio.to_thread(lambda: (self._config.active(), self._config.problems()))
            except WorkspaceError as error:
                _log.error("workspace.not_read", error=str(error))
                await asyncio.sleep(RELOAD_RETRY_S)
                self._wanted = True
                continue
            self._snapshot = active or self._snapshot
            self._problems = [str(problem) for problem in problems]
            self._on_change(self._snapshot)

    def report(self, disk_full: bool, connected: bool) -> HealthReport:
        """What ``/health`` says."""
        why = "" if connected else "The worker starts for the first time."
        if disk_full:
            why = "The disk is full; nothing is taken until there is room."
        return HealthReport(
            ready=not why,
            why=why,
            workspace=self._snapshot.slug,
            snapshot=self._snapshot.version,
            problems=self._problems,
        )
