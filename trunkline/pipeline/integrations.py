"""Whether an event's ``integrations`` let it go to a destination (``spec/event_path.md`` §2.3).

Keys are names of destinations, case-sensitive. A destination answers to several: its slug, its name and the names of
its type, so that an event can turn off one instance or all of a kind. What stands under the first of them decides;
without one, ``All`` does, and without ``All`` the event goes everywhere.

Values count as they do in Segment's browser SDK: an object (options for the destination) turns it on, as true does;
``false``, 0 and an empty text turn it off; null says nothing. ``All`` turns off with ``false`` only. A key that names
no destination of the workspace has no effect: Segment's reason ``UNKNOWN_INTEGRATION`` is never given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from trunkline.spec.discards import FILTERED_BY_INTEGRATIONS_OBJECT

ALL: Final = "All"
_KEY: Final = b'"integrations"'
_SAYS_NOTHING: Final = b'"integrations":{}'


def integrations_allow(integrations: Any, names: Sequence[str]) -> str | None:
    """None if the event may go to the destination that answers to ``names``, the most specific first, else the
    reason. ``integrations``: the event's, whatever it holds."""
    if not integrations or not isinstance(integrations, Mapping):
        return None
    for name in names:
        value = integrations.get(name)
        if value is not None:
            return None if value or isinstance(value, Mapping | list) else FILTERED_BY_INTEGRATIONS_OBJECT
    return FILTERED_BY_INTEGRATIONS_OBJECT if integrations.get(ALL) is False else None


def name_one_of(integrations: Any, names: Sequence[str]) -> bool:
    """Whether the event says something about the destination itself, not only about ``All``."""
    return isinstance(integrations, Mapping) and any(integrations.get(name) is not None for name in names)


def say_something(integrations: Any) -> bool:
    """Whether the event has ``integrations`` that are not empty."""
    return isinstance(integrations, Mapping) and bool(integrations)


def may_say_something(body: bytes) -> bool:
    """Whether the encoded event can have ``integrations`` that are not empty. Cheap; wrong only by saying yes.

    Holds for the bytes of the logs and the archive, whose field names are never written with escapes.
    """
    mentions = body.count(_KEY)
    return mentions > 0 and mentions != body.count(_SAYS_NOTHING)


class IntegrationsOf:
    """:func:`integrations_allow` for one destination."""

    __slots__ = ("names",)

    def __init__(self, names: Iterable[str]) -> None:
        """``names``: the most specific first. Those that come again, are empty or ``All`` are left out."""
        self.names = tuple(name for name in dict.fromkeys(names) if name and name != ALL)

    def allow(self, integrations: Any) -> str | None:
        return integrations_allow(integrations, self.names)
