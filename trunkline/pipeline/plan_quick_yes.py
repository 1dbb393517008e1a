"""Whether an event fits its rules, asked of its bytes: nearly all events do, and need not be decoded for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from trunkline.pipeline.plan_shape import MISFITS, Reader, compile_shape
from trunkline.spec.plans import Rule

EVENTS_BEFORE: Final = 20
"""So many events come before a type is made for them: making one takes as long as judging some forty in full."""
MAX_TYPES = 0
"""Of one plan at one source: a type takes some 15 KB. None are made for now: a process that made and dropped
thousands of them has crashed in native code, and it is not known why (decision 0016)."""

_VERSION: Final = b"event_version"
_ESCAPE: Final = b"\\u"


class UsableRule(Protocol):
    """A rule that will have been asked about events before."""

    @property
    def rule(self) -> Rule: ...

    @property
    def is_usable(self) -> bool:
        """Whether its schema was compiled, and is one that can be used."""
        ...


class TypeStore:
    """What the rules of one plan share: types of the same objects, and the number of types that may still be made."""

    __slots__ = ("known", "left")

    def __init__(self) -> None:
        self.known: dict[bytes, type] = {}
        self.left = MAX_TYPES


class QuickYes:
    """For the events of one name."""

    __slots__ = ("_has_versions", "_is_open", "_read", "_rules", "_seen", "_store")

    def __init__(self, rules: Sequence[tuple[UsableRule, str]], store: TypeStore, *, has_versions: bool) -> None:
        """``rules``: all that the events must fit, and below which name of theirs all names must be planned, if any.
        ``has_versions``: these are for events that ask for no version; there are others."""
        self._rules = rules
        self._store = store
        self._has_versions = has_versions
        self._seen = 0
        self._is_open = bool(rules)
        self._read: Reader | None = None

    def fits(self, body: bytes) -> bool:
        """True: certainly. False: that is not known."""
        if self._read is None:
            if self._is_open:
                self._wait()
            return not self._rules
        if self._has_versions and (_VERSION in body or _ESCAPE in body):
            return False
        try:
            self._read(body)
        except MISFITS:
            return False
        return True

    def _wait(self) -> None:
        self._seen += 1
        if self._seen <= EVENTS_BEFORE or not all(rule.is_usable for rule, _ in self._rules):
            return
        self._is_open = False
        if self._store.left > 0:
            schemas = [(rule.rule.schema, closed_below) for rule, closed_below in self._rules]
            self._read = compile_shape(schemas, self._store.known)
            self._store.left -= self._read is not None
