"""What a supervisor and its children agree on: arguments, signals, the end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any, Final

import msgspec

RELOAD_SIGNAL: Final = signal.SIGURG
"""Tells a child to look for a newer snapshot. By default it is ignored, so a child that is still starting survives it,
and reads the newest snapshot anyway."""


class ChildArguments(msgspec.Struct, frozen=True):
    """What a supervisor tells a child. ``flags`` are settings given on the command line; ``with_worker`` says whether
    the supervisor runs a worker too."""

    flags: dict[str, Any]
    alive_fd: int
    socket_fd: int = -1
    index: int = 0
    with_worker: bool = False


Stop = Callable[[], None]
Reload = Callable[[], None]


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
