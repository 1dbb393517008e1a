"""Having the archive write what was accepted so far, before a command reads it."""

from __future__ import annotations

import fcntl
import sys
import time
from typing import Final

from trunkline.archive.index import committed_cursor
from trunkline.runtime.layout import PARTITION, DataDir
from trunkline.runtime.wake import Waker

_TIMEOUT_S: Final = 30.0
_ASK_EVERY_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.1


def wait_for_archive(data: DataDir, needed: int, *, is_on: bool) -> int:
    """Ask for what was accepted below position ``needed``, and wait for it; up to which position it is archived.

    Asks nobody where the archive is off, and waits only as long as a server runs.
    """
    waker = None
    timeout_s = _TIMEOUT_S if is_on else 0.0
    waited_s, asked_s = 0.0, 0.0
    while (archived := committed_cursor(data.archive_index).get(PARTITION, 0)) < needed:
        if waited_s >= timeout_s or not is_served(data):
            break
        if waker is None:
            waker = Waker(data.archive_wake)
            print("Waiting for the archive to take what was accepted ...", file=sys.stderr)
        if waited_s >= asked_s:
            waker.wake()
            asked_s = waited_s + _ASK_EVERY_S
        time.sleep(_LOOK_EVERY_S)
        waited_s += _LOOK_EVERY_S
    if waker is not None:
        waker.close()
    return archived


def is_served(data: DataDir) -> bool:
    """Whether a server runs on the directory: it holds the lock as long as it lives."""
    try:
        with data.lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # there was none yet, or it is another user's: then nobody here could ask it anything
    return False
