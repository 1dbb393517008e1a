"""The process tree of the demonstration: its workspace, its start, its end, and what its state tells."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from trunkline.cli.demo_traffic import SOURCES
from trunkline.clock import SystemClock
from trunkline.log.embedded import EmbeddedLog
from trunkline.observe.books import Books, check_books
from trunkline.runtime.layout import DataDir
from trunkline.settings import ENVIRONMENT_PREFIX
from trunkline.spec.outcomes import DELIVERED, DUPLICATE, FAILED, FAILED_ON_INGEST
from trunkline.state.base import StateError
from trunkline.state.sqlite import SqliteStateStore

WEBHOOK: Final = "sink"
INBOX: Final = "inbox"
CONFIG_NAME: Final = "demo-workspace.yaml"
LOG_NAME: Final = "serve.log"
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
_BANNER: Final = "Trunkline listens on "
_LOG_TAIL: Final = 1500


class DemoError(Exception):
    """The demonstration can't go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the state knew at one moment: events, all sources together, and by destination."""

    rejected: int = 0
    duplicates: int = 0
    delivered: int = 0
    in_inbox: int = 0
    failed: int = 0


def workspace_yaml(sink_url: str, write_keys: dict[str, str]) -> str:
    """The demonstration's workspace."""
    sources = "\n".join(
        f"  - {{slug: {slug}, type: {kind}, write_keys: [{write_keys[slug]}]}}" for slug, kind in SOURCES.items()
    )
    listed = ", ".join(SOURCES)
    return f"""\
# Written by `trunkline demo`, anew at each start.
workspace: {{slug: demo, name: Demo shop}}
sources:
{sources}
destinations:
  - slug: {WEBHOOK}
    type: webhook
    sources: [{listed}]
    enabled: true
    settings: {{url: "{sink_url}"}}
  - {{slug: {INBOX}, type: inbox, sources: [{listed}], enabled: true}}
egress: {{allow_private: ["127.0.0.0/8"]}}
"""


def _environment() -> dict[str, str]:
    """Without settings that are meant for another server; no browser will ask for the SDK, so it is not fetched."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    return inherited | {f"{ENVIRONMENT_PREFIX}FETCH_BROWSER_SDK": "false"}


class DemoServer:
    """``trunkline serve`` on a free port."""

    def __init__(self, data_dir: Path) -> None:
        """Raises DemoError for a directory that holds something else."""
        config = data_dir / CONFIG_NAME
        if data_dir.exists() and any(data_dir.iterdir()) and not config.exists():
            raise DemoError(f"{data_dir} holds something that is not a demonstration's; name another directory.")
        self._data = DataDir(data_dir)
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.write_keys = {slug: f"wk_demo_{secrets.token_hex(8)}" for slug in SOURCES}

    async def start(self, sink_url: str) -> None:
        """Returns when the server is ready. Raises DemoError."""
        root = self._data.root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._config.write_text(workspace_yaml(sink_url, self.write_keys), "utf-8")
        command = ["-m", "trunkline", "serve", "--data-dir", root, "--config", self._config]
        with (root / LOG_NAME).open("wb") as log:
            # A session of its own: Ctrl-C is for the demonstration, which then ends the server in order.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *map(str, command),
                *("--host", "127.0.0.1", "--port", "0"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.url = await self._read_address(self._process)
                await self._wait_until_ready()
        except TimeoutError:
            raise DemoError(f"the server did not start in time:\n{self._log_tail()}") from None

    async def _read_address(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(_BANNER.encode()):
                return line.decode().removeprefix(_BANNER).strip()
        raise DemoError(f"the server ended while it started:\n{self._log_tail()}")

    async def _wait_until_ready(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{self.url}/health") as response:
                        if response.status == 200 and self._data.worker_status.exists():
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    def _log_tail(self) -> str:
        return (self._data.root / LOG_NAME).read_text("utf-8", "replace")[-_LOG_TAIL:].strip()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to whoever does not heed it."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                # Its children see their supervisor gone and end by themselves.
                process.send_signal(signal.SIGKILL)
                await process.wait()
        # Drops the pipe, whose transport would otherwise outlive the loop.
        await process.communicate()

    def totals(self) -> Totals:
        """What the state tells, from the last commit; zeros while there is none."""
        try:
            store = SqliteStateStore(self._data.state, read_only=True)
        except StateError:
            return Totals()
        try:
            rejected = duplicates = 0
            for key, count in store.source_books().items():
                rejected += count if key.outcome == FAILED_ON_INGEST else 0
                duplicates += count if key.reason == DUPLICATE else 0
            lanes: dict[tuple[str, str], int] = {}
            for lane, count in store.read().lane_books.items():
                lanes[lane.destination, lane.outcome] = lanes.get((lane.destination, lane.outcome), 0) + count
        finally:
            store.close()
        return Totals(
            rejected,
            duplicates,
            lanes.get((WEBHOOK, DELIVERED), 0),
            lanes.get((INBOX, DELIVERED), 0),
            sum(count for (_, outcome), count in lanes.items() if outcome == FAILED),
        )

    def books(self) -> Books:
        """What `trunkline verify` checks. Raises StateError, LogError."""
        store = SqliteStateStore(self._data.state, read_only=True)
        try:
            return check_books(store.read(), EmbeddedLog(self._data.log, SystemClock()))
        finally:
            store.close()
