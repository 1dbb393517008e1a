"""The local archive of a server, read as any other tool would: gunzip and a parser of JSON."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

DAY_MS = 86_400_000


def archived_events(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The events of every file, by source. What is being written or removed at the moment may be missing."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("segment-logs/*/*/*.gz")):
        assert int(path.parent.name) % DAY_MS == 0
        lines = gzip.decompress(path.read_bytes()).splitlines()
        found.setdefault(path.parent.parent.name, []).extend(json.loads(line) for line in lines)
    return found


def archived_ids(folder: Path) -> Counter[str]:
    """How often each messageId is in the archive."""
    return Counter(event["messageId"] for events in archived_events(folder).values() for event in events)
