"""The supervisor: owns the listening socket and the workspace's file, keeps the children alive."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from trunkline.archive.errors import StoreAddressError
from trunkline.archive.open_store import open_store
from trunkline.clock import Clock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.files import write_atomically
from trunkline.runtime.layout import DataDir
from trunkline.runtime.lifecycle import RELOAD_SIGNAL, ChildArguments
from trunkline.secrets import Secrets
from trunkline.settings import Settings
from trunkline.state.base import StateError, StateTooNew
from trunkline.state.sqlite import SqliteStateStore
from trunkline.workspace.errors import WorkspaceError
from trunkline.workspace.loader import load
from trunkline.workspace.model import Snapshot
from trunkline.workspace.problem import Problem
from trunkline.workspace.references import Fingerprint, fingerprint
from trunkline.workspace.store import ConfigStore

WATCH_INTERVAL_S: Final = 1.0
RELOAD_RETRY_S: Final = 5.0
_NEVER_SEEN: Final[Fingerprint] = (-1, -1, -1)
FIRST_BACKOFF_S: Final = 0.1
LONGEST_BACKOFF_S: Final = 5.0
HEALTHY_AFTER_S: Final = 5.0
KILL_MARGIN_S: Final = 7.0
"""After the grace for sends, how long a child may take to commit and leave before it is killed."""
BACKLOG: Final = 2048
ROLES: Final = ("ingest", "worker", "archive")

_log = structlog.get_logger(__name__)


class ServeError(Exception):
    """Serving cannot begin; the text says why and how to mend it."""


@dataclass(eq=False)
class _Child:
    role: str
    index: int
    process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        return self.role if self.role != "ingest" else f"ingest.{self.index}"


class Supervisor:
    """One for a data directory; a second one is refused."""

    def __init__(self, settings: Settings, flags: dict[str, Any], clock: Clock, roles: Sequence[str] = ROLES) -> None:
        """``flags`` are the settings of the command line, handed on to the children."""
        self._settings = settings
        self._flags = flags
        self._clock = clock
        self._data = DataDir(settings.data_dir)
        if settings.archive:
            try:
                open_store(settings.archive_url, self._data.archive)
            except StoreAddressError as error:
                raise ServeError(str(error)) from error
        self._stopping = asyncio.Event()
        self._reload = asyncio.Event()
        self._alive_read, self._alive_write = os.pipe()
        self._lock_fd = self._lock()
        self._secrets = Secrets.open(settings.data_dir, settings.master_key)
        self._config = ConfigStore(settings.data_dir, self._secrets, clock)
        self._create_state()
        self._watched: dict[Path, Fingerprint | None] = {}
        self._socket: socket.socket | None = None
        self._children = [
            _Child(role, index)
            for role in roles
            if role != "archive" or settings.archive or settings.schema
            for index in range(settings.ingest_processes if role == "ingest" else 1)
        ]

    # -- start ---------------------------------------------------------------------------------------------------

    def _lock(self) -> int:
        self._data.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self._data.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise ServeError(
                f"{self._settings.data_dir} is being served already (process {holder}). "
                "Stop that one first, or choose another directory with --data-dir."
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        return fd

    def _create_state(self) -> None:
        """Or bring it up to date, before the first event can come: the books can be checked from then on."""
        existed = self._data.state.exists()
        try:
            SqliteStateStore(self._data.state).close()
        except StateError as error:
            if not existed or isinstance(error, StateTooNew):
                raise ServeError(str(error)) from error
            _log.error("state.not_opened", error=str(error))  # a full disk, for one: the worker tries again

    def bind(self) -> str:
        """Take the port, tell it to other commands, return the base URL. Raises ServeError."""
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._settings.host, self._settings.port))
        except OSError as error:
            raise ServeError(
                f"cannot listen on {self._settings.host}:{self._settings.port}: {error.strerror}. "
                "Choose another port with --port, or stop what uses this one."
            ) from error
        listener.listen(BACKLOG)
        self._socket = listener
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._settings.host, self._settings.host)  # noqa: S104
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        write_atomically(self._data.address, address.encode())
        return address

    def load_workspace(self) -> list[Problem]:
        """Activate the workspace's file if it is sound; return its problems. The last good one stays otherwise."""
        path = self._settings.config
        if path is None:
            return []
        loaded = load(path, NATIVE_DESTINATIONS, self._secrets)
        self._watched = dict(loaded.watched)
        if loaded.snapshot is None:
            self._config.report_problems(loaded.problems)
            return loaded.problems
        if loaded.snapshot.version != self._config.active_version() or self._config.problems():
            self._config.activate(loaded.snapshot, str(path))
        return []

    @property
    def has_workspace(self) -> bool:
        return self._config.active_version() is not None

    @property
    def snapshot(self) -> Snapshot:
        """The active workspace. Raises ServeError when there is none."""
        snapshot = self._config.active()
        if snapshot is None:
            raise ServeError("no workspace is active")
        return snapshot

    # -- run -----------------------------------------------------------------------------------------------------

    async def run(self, on_started: Callable[[], None]) -> None:
        """Until SIGTERM or SIGINT. ``on_started`` is called when the children have been started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        shutil.rmtree(self._data.metrics, ignore_errors=True)
        self._data.metrics.mkdir(parents=True)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        watcher = asyncio.create_task(self._watch_workspace())
        on_started()
        await self._stopping.wait()
        _log.info("supervisor.stops")
        if self._socket is not None:
            self._socket.close()
            self._data.address.unlink(missing_ok=True)
        for child in self._children:
            _signal(child, signal.SIGTERM)
        watcher.cancel()
        patience_s = self._settings.shutdown_grace_s + KILL_MARGIN_S
        _, late = await asyncio.wait(keepers, timeout=patience_s)
        if late:
            for child in self._children:
                _signal(child, signal.SIGKILL)
            await asyncio.wait(late)
        self._config.close()
        os.close(self._lock_fd)

    async def _keep(self, child: _Child) -> None:
        """Start the child anew whenever it dies."""
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        while not self._stopping.is_set():
            started_s = loop.time()
            try:
                child.process = await self._spawn(child)
            except OSError as error:  # no memory, no process or no file to be had at the moment
                _log.error("child.not_started", child=child.name, error=str(error), again_in_s=backoff_s)
            else:
                if self._stopping.is_set():
                    _signal(child, signal.SIGTERM)
                code = await child.process.wait()
                if self._stopping.is_set():
                    return
                if loop.time() - started_s > HEALTHY_AFTER_S:
                    backoff_s = FIRST_BACKOFF_S
                _log.error("child.died", child=child.name, code=code, again_in_s=backoff_s)
            try:
                async with asyncio.timeout(backoff_s):
                    await self._stopping.wait()
            except TimeoutError:
                backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)

    async def _spawn(self, child: _Child) -> asyncio.subprocess.Process:
        passed = [self._alive_read]
        socket_fd = -1
        if child.role == "ingest":
            assert self._socket is not None
            socket_fd = self._socket.fileno()
            passed.append(socket_fd)
        with_worker = any(other.role == "worker" for other in self._children)
        arguments = ChildArguments(self._flags, self._alive_read, socket_fd, child.index, with_worker)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "trunkline.runtime.child",
            child.role,
            msgspec.json.encode(arguments, enc_hook=str).decode(),
            pass_fds=passed,
            start_new_session=True,
        )

    # -- the workspace's file ------------------------------------------------------------------------------------

    async def _watch_workspace(self) -> None:
        while True:
            try:
                async with asyncio.timeout(WATCH_INTERVAL_S):
                    await self._reload.wait()
            except TimeoutError:
                if all(fingerprint(path) == known for path, known in self._watched.items()):
                    continue
            self._reload.clear()
            try:
                problems = await asyncio.to_thread(self.load_workspace)
            except (WorkspaceError, OSError) as error:
                # The last good one stays in force. Nothing counts as seen, so that the file is read again.
                _log.error("workspace.not_activated", error=str(error), again_in_s=RELOAD_RETRY_S)
                self._watched = dict.fromkeys(self._watched, _NEVER_SEEN)
                await asyncio.sleep(RELOAD_RETRY_S)
                continue
            for problem in problems:
                _log.error("workspace.refused", problem=str(problem))
            for child in self._children:
                _signal(child, RELOAD_SIGNAL)


def _signal(child: _Child, number: int) -> None:
    if child.process is not None and child.process.returncode is None:
        child.process.send_signal(number)
