"""How much is kept of what sources send. Beyond it, things are counted together under :data:`OTHER`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OTHER: Final = "$other"
"""The name of the event, property or violation that stands for all beyond a limit."""

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
HOURS_KEPT_MS: Final = 2 * DAY_MS
"""Counts are kept by the hour for so long at least, by the day after that."""
DAYS_KEPT: Final = 31

MAX_PATH_CHARACTERS: Final = 250
MAX_NAME_CHARACTERS: Final = 500
MAX_DESCRIPTION_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Limits:
    """``events``: names a source and type (``spec/event_path.md`` §9). ``max_bytes``: size of the database at which
    nothing new is taken up. ``cached_rows``: of events and properties that are held in memory, so that known ones need
    no look-up. ``always``: events of each name whose properties are looked at between two commits, however little time
    there is; ``cpu_share``: of a core, for looking at more of them."""

    events: int = 4_000
    properties: int = 300
    traits: int = 300
    violations: int = 2_000
    samples: int = 3
    sample_bytes: int = 4_096
    max_bytes: int = 1 << 30
    cached_rows: int = 100_000
    always: int = 3
    cpu_share: float = 0.05
