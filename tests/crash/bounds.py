"""How often an event may arrive twice after a kill.

A kill forgets what was sent and not yet committed: the attempts in flight (at most the lane's concurrency), and the
outcomes since the beginning of the last commit that ended. A commit begins 20 ms after the one before has ended and
takes as long as the disk takes, so those are the outcomes of 20 ms and two commits. How long a sync takes is measured
beside the test, on the same file system; while one takes too long, nothing is sent.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType

from trunkline.runtime.state_writer import COMMIT_INTERVAL_S, STALL_S

COMMITS_AT_RISK = 2
SYNCS_A_COMMIT = 2
SCHEDULING_S = 0.1
"""Three processes, a sink and a load share two cores: what the worker's thread may wait for its turn."""


class DiskProbe:
    """Notes how long a small write with a sync takes, every 20 ms."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "probe"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk-probe", daemon=True)
        self.longest_s = 0.0

    def __enter__(self) -> DiskProbe:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while not self._stopping.wait(0.02):
                started_s = time.monotonic()
                os.pwrite(fd, b"x" * 4096, 0)
                os.fdatasync(fd)
                self.longest_s = max(self.longest_s, time.monotonic() - started_s)
        finally:
            os.close(fd)


def most_doubles(concurrency: int, events_per_s: float, longest_sync_s: float) -> int:
    """The bound of one kill for one destination."""
    commit_s = min(SYNCS_A_COMMIT * longest_sync_s, STALL_S)
    window_s = COMMIT_INTERVAL_S + COMMITS_AT_RISK * commit_s + SCHEDULING_S
    return concurrency + int(events_per_s * window_s)
