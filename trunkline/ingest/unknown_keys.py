"""The trace that requests with an unknown or disabled write key leave: the last 100 kinds of them.

Requests of the same key, address and SDK are one entry with a count. Each ingest process writes its own file (JSON,
replaced atomically, at most once a second); :func:`read_unknown_keys` joins them.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from trunkline.clock import Clock

MAX_ENTRIES: Final = 100
_WRITE_EVERY_S: Final = 1.0
_FILE_PREFIX: Final = "unknown-keys-"
_MAX_TEXT: Final = 100


@dataclass(slots=True)
class UnknownKey:
    """``key_end`` are the last four characters of the key (empty: none was sent); times are epoch milliseconds.

    ``reason`` is ``unknown_source`` or ``source_disabled``; ``count`` is the number of requests.
    """

    last_ms: int
    key_end: str
    address: str
    sdk: str
    reason: str
    count: int


class UnknownKeys:
    """The entries of one process."""

    def __init__(self, clock: Clock, directory: Path | None = None, process: str = "ingest") -> None:
        """``directory`` is made if need be; without one nothing is written."""
        self._clock = clock
        self._path = None if directory is None else directory / f"{_FILE_PREFIX}{process}.json"
        self._entries: OrderedDict[tuple[str, str, str, str], UnknownKey] = OrderedDict()
        self._changed = False
        self._written_s = float("-inf")
        self.total = 0
        """Requests seen since the start."""

    def note(self, key: str | None, address: str, sdk: str, reason: str) -> None:
        """Remember a request."""
        self.total += 1
        key_end = (key or "")[-4:]
        sdk = sdk[:_MAX_TEXT]
        identity = (key_end, address, sdk, reason)
        entry = self._entries.get(identity)
        if entry is None:
            entry = UnknownKey(0, key_end, address[:_MAX_TEXT], sdk, reason, 0)
            self._entries[identity] = entry
            if len(self._entries) > MAX_ENTRIES:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(identity)
        entry.count += 1
        entry.last_ms = self._clock.now_ms()
        self._changed = True
        self.flush()

    def entries(self) -> list[UnknownKey]:
        """The newest first."""
        return list(reversed(self._entries.values()))

    def flush(self, at_once: bool = False) -> None:
        """Write the file if something changed and the last time is a second ago; ``at_once`` does not wait.

        Call it now and then (a timer), so that the last change is not left behind. A disk that can't take the file
        must not stop ingest: the attempt is repeated.
        """
        now_s = self._clock.monotonic_s()
        if self._path is None or not self._changed or (now_s - self._written_s < _WRITE_EVERY_S and not at_once):
            return
        self._written_s = now_s
        text = json.dumps([asdict(entry) for entry in self.entries()])
        temporary = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self._path)  # noqa: PTH105
        except OSError:
            return
        self._changed = False


def read_unknown_keys(directory: Path) -> list[UnknownKey]:
    """The last entries of all processes that wrote to the directory, the newest first, at most 100."""
    found: list[UnknownKey] = []
    for path in sorted(directory.glob(f"{_FILE_PREFIX}*.json")):
        try:
            found += [UnknownKey(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            continue
    found.sort(key=lambda entry: entry.last_ms, reverse=True)
    return found[:MAX_ENTRIES]
