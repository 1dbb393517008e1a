"""Destination filters as browsers and apps apply them to what they send to a destination themselves: the
``routingRules`` of a source's settings (``spec/event_path.md`` §5.8).

A rule does what :mod:`trunkline.pipeline.destination_filters` does on the server. Where it can't, it drops every
event: the filter may be the one that guards personal data. Its steps are evaluated one after the other on what is
left of the event, so a step whose condition looks at something comes before those that remove it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trunkline.fql import FILTER, FqlError, Query, format_fql, parse_fql, to_matcher
from trunkline.fql.tree import All, Literal, Node, Not
from trunkline.pipeline.browser_conditions import for_browsers, paths_of
from trunkline.pipeline.fields import split_path
from trunkline.spec.filters import ALLOW_PROPERTIES, DROP, DROP_PROPERTIES, ONLY_SEND, SAMPLE, Filter

Json = dict[str, Any]

_EVERY_EVENT: Final[Json] = {"type": "all", "ir": "", "config": {"expr": "all"}}
_DROP: Final[Json] = {"type": "drop"}
_ORDER: Final = (SAMPLE, DROP, ONLY_SEND, DROP_PROPERTIES, ALLOW_PROPERTIES)


class _Inexpressible(Exception):
    """A filter that a rule can't stand for."""


@dataclass(frozen=True)
class _Taking:
    """The keys that are taken out below ``parent``; ``keeps``: all keys but these."""

    parent: tuple[str, ...]
    keys: frozenset[str]
    keeps: bool

    def touches(self, path: tuple[str, ...]) -> bool:
        """Whether what stands at the path may be another afterwards."""
        depth = len(self.parent)
        if path[:depth] != self.parent[: len(path)]:
            return False
        if len(path) <= depth:
            return True
        return (path[depth] in self.keys) is not self.keeps or path[depth].isdecimal()


@dataclass
class _Reshaping:
    """What is taken out of events that meet one condition."""

    node: Node
    transformers: list[Json] = field(default_factory=list)
    takings: list[_Taking] = field(default_factory=list)

    def disturbs(self, other: _Reshaping) -> bool:
        """Whether it may change what the other's condition looks at."""
        return any(taking.touches(path) for path in paths_of(other.node) for taking in self.takings)


def routing_rule(name: str, filters: Iterable[Filter], source: str) -> Json | None:
    """The rule for the destination that clients call ``name``; None if no filter has a say in the source's events."""
    own = [item for item in filters if item.applies_to(source)]
    if not own:
        return None
    try:
        steps = _steps(own)
    except (_Inexpressible, FqlError, ValueError):
        steps = [(_EVERY_EVENT, [_DROP])]
    return {
        "scope": "destinations",
        "target_type": "workspace::project::destination::config",
        "destinationName": name,
        "matchers": [matcher for matcher, _ in steps],
        "transformers": [transformers for _, transformers in steps],
    }


def _steps(filters: Sequence[Filter]) -> list[tuple[Json, list[Json]]]:
    steps: list[tuple[Json, list[Json]]] = []
    reshapings: dict[Node, _Reshaping] = {}
    for item in sorted(filters, key=_place):
        node = parse_fql(item.condition).root
        if item.action == SAMPLE:
            steps.append((_matcher(node), [_sample(item)]))
        elif item.action == DROP:
            steps.append((_matcher(node), [_DROP]))
        elif item.action == ONLY_SEND:
            steps.append((_matcher(Literal(False) if isinstance(node, All) else Not(node)), [_DROP]))
        else:
            _add(item, reshapings.setdefault(node, _Reshaping(node)))
    return steps + [(_matcher(item.node), item.transformers) for item in _in_order(list(reshapings.values()))]


def _place(item: Filter) -> int:
    if item.action not in _ORDER:
        raise _Inexpressible
    return _ORDER.index(item.action)


def _matcher(node: Node) -> Json:
    if isinstance(node, All):
        return _EVERY_EVENT
    matcher = to_matcher(Query(FILTER, for_browsers(node)))
    return {**matcher, "config": {"expr": format_fql(Query(FILTER, node))}}


def _sample(item: Filter) -> Json:
    if item.percent is None:
        raise _Inexpressible
    return {"type": "sample_event", "config": {"sample": {"percent": item.percent, "path": item.path}}}


def _add(item: Filter, reshaping: _Reshaping) -> None:
    if not item.fields:
        raise _Inexpressible
    keeps = item.action == ALLOW_PROPERTIES
    fields = {path: list(keys) for path, keys in item.fields.items()}
    reshaping.transformers.append({"type": item.action, "config": {"allow" if keeps else "drop": fields}})
    reshaping.takings += [_Taking(split_path(path), frozenset(keys), keeps) for path, keys in item.fields.items()]


def _in_order(items: Sequence[_Reshaping]) -> list[_Reshaping]:
    """Each after those whose conditions it would disturb. What they take out does not depend on their order."""
    left, found = list(items), []
    while left:
        free = next((one for one in left if not any(one.disturbs(other) for other in left if other is not one)), None)
        if free is None:
            raise _Inexpressible
        left.remove(free)
        found.append(free)
    return found
