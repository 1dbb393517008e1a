"""The context object of events: checked, and completed where the server must add something.

The clients of one app send the same contexts again and again (one library, one device, one page), so what was
found out about a context is remembered by its bytes: for most events neither the search for duplicate keys nor any
decoding takes place.
"""

from __future__ import annotations

from typing import Final

from trunkline.spec.strict_json import load_unique

HAS_LIBRARY: Final = 1
HAS_IP: Final = 2
HAS_USER_AGENT: Final = 4
DIRECT: Final = 8
EMPTY: Final = 16

UNKNOWN_LIBRARY: Final = b'"library":{"name":"unknown","version":"unknown"}'
"""Added to an event whose context names no library (``spec/event_path.md`` §1.7)."""


class NotAnObject(Exception):
    """The value is JSON, but neither an object nor null."""


class ObjectMemory:
    """JSON objects that were proved to hold no key twice, by their bytes, with facts about them.

    Two generations of at most ``entries`` objects of at most ``max_bytes`` each: old ones go when the younger
    generation is full.
    """

    def __init__(self, entries: int = 2048, max_bytes: int = 2048) -> None:
        self._entries = entries
        self._max_bytes = max_bytes
        self.proved: dict[bytes, int] = {}
        """Facts of the objects seen last; what is not here may still be known to :meth:`facts`."""
        self._old: dict[bytes, int] = {}

    def facts(self, text: bytes) -> int:
        """Facts about an object as bits. Raises NotAnObject, InvalidJson."""
        facts = self.proved.get(text)
        if facts is not None:
            return facts
        facts = self._old.get(text)
        if facts is None:
            facts = _find_facts(text)
        if len(text) <= self._max_bytes:
            if len(self.proved) >= self._entries:
                self._old = self.proved.copy()
                self.proved.clear()
            self.proved[text] = facts
        return facts


def _find_facts(text: bytes) -> int:
    if text[0] != 0x7B:
        raise NotAnObject
    value = load_unique(text)
    if not value:
        return EMPTY
    return (
        (HAS_LIBRARY if "library" in value else 0)
        | (HAS_IP if "ip" in value else 0)
        | (HAS_USER_AGENT if "userAgent" in value else 0)
        | (DIRECT if value.get("direct") is True else 0)
    )


def append_members(text: bytes, members: bytes, empty: bool) -> bytes:
    """The JSON object ``text`` with members at its end. The caller knows that their keys are new."""
    head = text.rstrip()[:-1]
    return b"%b%b}" % (head, members) if empty else b"%b,%b}" % (head, members)
