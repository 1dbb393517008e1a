"""Entry of a child process: ``python -m trunkline.runtime.child ROLE ARGUMENTS`` (JSON).

A child ends when it gets SIGTERM and when its supervisor is gone: it holds the reading end of a pipe whose other end
only the supervisor has.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
import uvloop

from trunkline.runtime.logging import configure_logging
from trunkline.settings import Settings, load_settings

RELOAD_SIGNAL: Final = signal.SIGURG
"""Tells a child to look for a newer snapshot. By default it is ignored, so a child that is still starting survives it,
and reads the newest snapshot anyway."""


class ChildArguments(msgspec.Struct, frozen=True):
    """What a supervisor tells a child. ``flags`` are settings given on the command line."""

    flags: dict[str, Any]
    alive_fd: int
    socket_fd: int = -1
    index: int = 0


Stop = Callable[[], None]
Reload = Callable[[], None]
Role = Callable[[Settings, ChildArguments, "Signals"], Coroutine[Any, Any, None]]


class Signals:
    """What a role wants to be told."""

    def __init__(self, alive_fd: int) -> None:
        self._stop: Stop = lambda: None
        self._reload: Reload = lambda: None
        self.stopping = False
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(RELOAD_SIGNAL, self._on_reload)
        # From a terminal these go to the supervisor, which stops its children in order.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        if alive_fd >= 0:
            loop.add_reader(alive_fd, self._supervisor_gone, alive_fd)

    def connect(self, *, stop: Stop, reload: Reload) -> None:
        self._stop, self._reload = stop, reload
        if self.stopping:
            stop()

    def _on_stop(self) -> None:
        self.stopping = True
        self._stop()

    def _on_reload(self) -> None:
        self._reload()

    def _supervisor_gone(self, alive_fd: int) -> None:
        asyncio.get_running_loop().remove_reader(alive_fd)
        self._on_stop()


def _role(name: str) -> Role:
    """Imported late: a worker need not load the HTTP server, nor ingest the HTTP client."""
    if name == "worker":
        from trunkline.runtime.worker_process import run_worker

        return run_worker
    if name == "ingest":
        from trunkline.runtime.ingest_process import run_ingest

        return run_ingest
    raise SystemExit(f"unknown role {name!r}")


def main() -> None:
    """Run one role until told to stop."""
    role, arguments = _role(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=ChildArguments)
    settings = load_settings(os.environ, arguments.flags)
    configure_logging(role=sys.argv[1] if sys.argv[1] == "worker" else f"ingest.{arguments.index}")

    async def run() -> None:
        await role(settings, arguments, Signals(arguments.alive_fd))

    uvloop.run(run())


if __name__ == "__main__":
    main()
