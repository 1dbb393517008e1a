"""Entry of a child process: ``python -m trunkline.runtime.child ROLE ARGUMENTS`` (JSON).

A child ends when it gets SIGTERM and when its supervisor is gone: it holds the reading end of a pipe whose other end
only the supervisor has.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import uvloop

from trunkline.runtime.lifecycle import ChildArguments, Signals
from trunkline.runtime.logging import configure_logging
from trunkline.settings import Settings, load_settings

Role = Callable[[Settings, ChildArguments, Signals], Coroutine[Any, Any, None]]


def _role(name: str) -> Role:
    """Imported late: a worker need not load the HTTP server, nor ingest the HTTP client."""
    if name == "worker":
        from trunkline.runtime.worker_process import run_worker

        return run_worker
    if name == "ingest":
        from trunkline.runtime.ingest_process import run_ingest

        return run_ingest
    if name == "archive":
        from trunkline.runtime.archive_process import run_archive

        return run_archive
    raise SystemExit(f"unknown role {name!r}")


def _allow_many_files() -> None:
    """Each connection is an open file, and the usual soft limit of 1,024 is below what the settings allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _allow_many_lookups() -> None:
    """The loop looks names up in threads, by default in four: as many slow name servers would keep every other
    destination waiting. Must come before the first lookup."""
    os.environ.setdefault("UV_THREADPOOL_SIZE", "64")


def main() -> None:
    """Run one role until told to stop."""
    role, arguments = _role(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=ChildArguments)
    _allow_many_files()
    _allow_many_lookups()
    settings = load_settings(os.environ, arguments.flags)
    configure_logging(role=f"ingest.{arguments.index}" if sys.argv[1] == "ingest" else sys.argv[1])

    async def run() -> None:
        await role(settings, arguments, Signals(arguments.alive_fd))

    uvloop.run(run())


if __name__ == "__main__":
    main()
