"""The native ``inbox`` destination: appends events to newline-delimited JSON in the data directory.

It lets a newcomer see what arrives without any other service. Files are ``inbox/<destination>.ndjson`` and one older
``.1``; together they stay below twice ``max_mb``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trunkline.destinations.kit import (
    DELIVERED_OUTCOME,
    BatchRules,
    Outcome,
    OutgoingEvent,
    Result,
    SettingsProblem,
    Surroundings,
)
from trunkline.spec.capabilities import METHODS, SOURCE_KINDS
from trunkline.workspace.model import Destination

DEFAULT_MAX_MB: Final = 64


def inbox_path(data_dir: Path, destination: str) -> Path:
    """Where an inbox destination keeps its newest events."""
    return data_dir / "inbox" / f"{destination}.ndjson"


class InboxType:
    """See the module."""

    name = "inbox"
    storage = False
    secret_settings: frozenset[str] = frozenset()
    methods = METHODS
    source_kinds = SOURCE_KINDS

    def check_settings(self, settings: Mapping[str, Any]) -> list[SettingsProblem]:
        problems = [(key, "an inbox has no such setting", "Use max_mb.") for key in settings if key != "max_mb"]
        size = settings.get("max_mb", DEFAULT_MAX_MB)
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 10_000:
            problems.append(("max_mb", "not a whole number from 1 to 10000", "Give the size in megabytes."))
        return problems

    def open(self, destination: Destination, surroundings: Surroundings) -> InboxSender:
        max_bytes = int(destination.settings.get("max_mb", DEFAULT_MAX_MB)) << 20
        return InboxSender(inbox_path(surroundings.data_dir, destination.slug), max_bytes)


class InboxSender:
    """Appends; a file that has grown to its limit is renamed and a new one begun."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = asyncio.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)

    batch = BatchRules(events=1000, size_bytes=1 << 20)

    async def send(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
        lines = b"".join(event.body + b"\n" for event in events)
        async with self._lock:
            try:
                await asyncio.to_thread(self._append, lines)
            except OSError as error:
                return [Outcome(Result.RETRY, "EIO", f"{self._path.name}: {error.strerror}")] * len(events)
        return [DELIVERED_OUTCOME] * len(events)

    def _append(self, lines: bytes) -> None:
        if self._path.exists() and self._path.stat().st_size + len(lines) > self._max_bytes:
            self._path.replace(self._path.with_suffix(".ndjson.1"))
        with self._path.open("ab") as file:
            file.write(lines)

    async def close(self) -> None:
        """Every append opens and closes the file."""
