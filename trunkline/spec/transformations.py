"""A transformation as it is configured (``spec/event_path.md`` §4.7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

ALGORITHMS: Final = ("sha256", "sha512", "sha1", "md5")
ENCODINGS: Final = ("hex", "base16", "base64", "base64url")
MAX_PATHS: Final = 10
"""Of one value, and values of one transformation."""
MAX_RENAME_KEYS: Final = 4
"""Keys of a path that a property is moved from or to."""


@dataclass(frozen=True)
class PropertyValue:
    """``value`` (JSON) is put at each of ``paths``: keys between dots from the event's top, ``\\.`` is a dot."""

    paths: tuple[str, ...]
    value: Any


@dataclass(frozen=True)
class PropertyHash:
    """What stands at ``paths`` is replaced by its digest; keyed (HMAC) if there is a ``key``, which is a secret."""

    paths: tuple[str, ...]
    algorithm: str = "sha256"
    encoding: str = "hex"
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Transformation:
    """What happens to events of ``source`` that meet ``condition`` (FQL). With a ``destination`` it changes only what
    that one gets.

    ``renames``: (old path, new path) below ``properties`` or ``traits``; ``fql_properties``: (path, FQL value), the
    value is computed from the event. ``drop`` excludes all else; ``fql_properties`` exclude renames and values.
    ``allow_properties``: of the properties (traits) only these stay.
    """

    slug: str
    source: str
    condition: str
    name: str = ""
    destination: str = ""
    enabled: bool = True
    drop: bool = False
    new_event_name: str = ""
    renames: tuple[tuple[str, str], ...] = ()
    values: tuple[PropertyValue, ...] = ()
    fql_properties: tuple[tuple[str, str], ...] = ()
    allow_properties: tuple[str, ...] = ()
    hash: PropertyHash | None = None
