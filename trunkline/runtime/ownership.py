"""Taking over a partition from a predecessor that is still ending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from trunkline.log.base import Appender, LogLocked

PATIENCE_S: Final = 25.0
"""The children of a supervisor that was killed end by themselves within their grace."""
POLL_S: Final = 0.2

_log = structlog.get_logger(__name__)


async def patiently(open_appender: Callable[[], Appender], stopping: Callable[[], bool]) -> Appender:
    """Open as soon as the predecessor has gone. Raises LogLocked when it stays, or when it is we who have to stop."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    waited = False
    while True:
        try:
            return await asyncio.to_thread(open_appender)
        except LogLocked:
            if stopping() or loop.time() > deadline:
                raise
            if not waited:
                _log.info("log.waits_for_predecessor")
                waited = True
            await asyncio.sleep(POLL_S)
