"""A file system of its own, small enough to be filled."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.expected import missing


@contextmanager
def mount_small_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """Mount one on a new directory. Processes that use it may end later than the context."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "trunkline-test", str(directory)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        said = mounted.stderr.strip().partition("\n")[0]
        missing(
            f"a small file system cannot be mounted: {said} Run the tests as root (in a container with CAP_SYS_ADMIN),"
            " or as anybody under `unshare --map-root-user --mount`",
            needs_root=True,
        )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
