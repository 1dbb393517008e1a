"""A destination filter as it is configured (``spec/event_path.md`` §5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

DROP: Final = "drop"
ONLY_SEND: Final = "only_send"
SAMPLE: Final = "sample"
DROP_PROPERTIES: Final = "drop_properties"
ALLOW_PROPERTIES: Final = "allow_properties"
ACTIONS: Final = (DROP, ONLY_SEND, SAMPLE, DROP_PROPERTIES, ALLOW_PROPERTIES)

ALL: Final = "all"
"""The condition that every event meets."""

MAX_FILTERS: Final = 10
"""For one pair of source and destination."""
MAX_TITLE_CHARACTERS: Final = 64
MAX_PATH_KEYS: Final = 50
"""Keys of a path into an event."""


@dataclass(frozen=True)
class Filter:
    """What happens to events that meet ``condition``, FQL or ``all``.

    ``percent`` (0 to 1, the part that is sent) and ``path`` belong to ``sample``: with a path, events that have the
    same value there share their fate. ``fields`` belong to ``drop_properties`` and ``allow_properties``: keys by the
    path of their parent, keys between dots; the empty path is the event itself. No ``sources``: all the destination's.
    """

    condition: str
    action: str
    title: str = ""
    enabled: bool = True
    percent: float | None = None
    path: str = ""
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def applies_to(self, source: str) -> bool:
        """Whether it has a say in the source's events."""
        return self.enabled and (not self.sources or source in self.sources)
