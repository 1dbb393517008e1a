"""Small durable file operations."""

from __future__ import annotations

import os
import time


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write everything; ``os.write`` may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def give_way() -> None:
    """Give the interpreter's lock away, for background work between pieces of about a millisecond: a waiting loop
    would otherwise get it only after the switch interval.
    """
    time.sleep(0)
