"""What an event must be for an expression to be true: the index of route tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Final

from trunkline.fql.dialects import Conditions
from trunkline.fql.tree import And, Comparison, ListLiteral, Literal, Node, Or, Path, Query
from trunkline.fql.triggers import constant_text


@dataclass(frozen=True, slots=True)
class Constants:
    """An event can match only if its ``type`` is in ``types`` and its ``event`` in ``events``; None is no bound.

    Sound, not complete: it never excludes an event that could match. When no event can match both are empty.
    """

    types: frozenset[str] | None
    events: frozenset[str] | None

    @property
    def is_never(self) -> bool:
        return self.types == frozenset() and self.events == frozenset()


ANY: Final = Constants(None, None)
NEVER: Final = Constants(frozenset(), frozenset())


def constants(query: Query) -> Constants:
    """The bounds that an expression puts on ``type`` and ``event``."""
    return _of(query.root, is_trigger=query.dialect.conditions is Conditions.TRIGGER_CONDITIONS)


def _of(node: Node, *, is_trigger: bool) -> Constants:
    match node:
        case And():
            return reduce(_both, (_of(operand, is_trigger=is_trigger) for operand in node.operands))
        case Or():
            return reduce(_either, (_of(operand, is_trigger=is_trigger) for operand in node.operands))
        case Comparison(operator="="):
            if isinstance(node.right, Path) and not isinstance(node.left, Path):
                return _bound(node.right, _texts(node.left, is_trigger=is_trigger))
            return _bound(node.left, _texts(node.right, is_trigger=is_trigger))
        case Comparison(operator="in", right=ListLiteral() as items):
            texts = [_texts(item, is_trigger=is_trigger) for item in items.items]
            known = [text for text in texts if text is not None]
            return _bound(node.left, frozenset().union(*known) if len(known) == len(texts) else None)
        case Literal():
            return ANY if node.value is True else NEVER
    return ANY


def _texts(node: Node, *, is_trigger: bool) -> frozenset[str] | None:
    """The string that a side is; None when it may be something else."""
    if is_trigger:
        return frozenset({constant_text(node)})
    return frozenset({node.value}) if isinstance(node, Literal) and isinstance(node.value, str) else None


def _bound(subject: Node, texts: frozenset[str] | None) -> Constants:
    if not isinstance(subject, Path) or texts is None:
        return ANY
    if not texts:
        return NEVER
    if subject.steps == ("type",):
        return Constants(texts, None)
    if subject.steps == ("event",):
        return Constants(None, texts)
    return ANY


def _both(one: Constants, other: Constants) -> Constants:
    types, events = _common(one.types, other.types), _common(one.events, other.events)
    return NEVER if types == frozenset() or events == frozenset() else Constants(types, events)


def _common(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _either(one: Constants, other: Constants) -> Constants:
    if one.is_never or other.is_never:
        return other if one.is_never else one
    return Constants(
        None if one.types is None or other.types is None else one.types | other.types,
        None if one.events is None or other.events is None else one.events | other.events,
    )
