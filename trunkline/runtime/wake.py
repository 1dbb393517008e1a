"""One coalesced signal between processes: a named pipe.

The waiter keeps both ends open, so the pipe never reports an end; a full pipe means that a signal is already on its
way. Works between processes that do not know each other; a lost signal costs at most the waiter's own time-out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

_CHUNK = 65_536


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)


class Waiter:
    """The end that sleeps. Use it on the running loop."""

    def __init__(self, path: Path) -> None:
        _make(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._event = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._drain)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._fd, _CHUNK)) == _CHUNK:
                pass
        self._event.set()

    def set(self) -> None:
        """Wake from within the process."""
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Until a signal or the time-out; whether there was a signal. Signals that came meanwhile count."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


class Waker:
    """The end that signals. Never blocks, never fails: whoever is not there need not be woken."""

    def __init__(self, path: Path) -> None:
        _make(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._fd, b"\0")

    def close(self) -> None:
        os.close(self._fd)
