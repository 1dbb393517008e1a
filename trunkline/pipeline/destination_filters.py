"""Destination filters, compiled (``spec/event_path.md`` §5.1).

They apply in a fixed order whatever the order in the workspace: sample, drop (``only_send`` drops what does not meet
its condition), drop properties, allow properties. Every condition looks at the event as it came, so no filter hides
anything from another. A filter that can't be read lets nothing pass: it may be the one that guards personal data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, Final

from trunkline.fql import FILTER, FqlError, Query, compile_fql, constants, parse_fql
from trunkline.fql.constants import ANY
from trunkline.fql.tree import All, And, Comparison, Literal, Node, Not, Or, join
from trunkline.pipeline.fields import Reshape
from trunkline.pipeline.sampling import Sampler, compile_sampler
from trunkline.spec.discards import FILTERED_BY_RULES, INVALID_FILTER, Discard
from trunkline.spec.filters import ALLOW_PROPERTIES, DROP, DROP_PROPERTIES, ONLY_SEND, SAMPLE, Filter

Condition = Callable[[Mapping[str, Any]], bool]

DROPPED: Final = Discard(FILTERED_BY_RULES)
"""One for all events, so that dropping allocates nothing."""


class _Unreadable(Exception):
    """A filter that can't be compiled, and why."""


class CompiledFilters:
    """The filters of one destination for the events of one source."""

    __slots__ = ("_drops", "_onlys", "_refusal", "_reshapes", "_samples", "constants", "is_pure_pass")

    def __init__(self, filters: Iterable[Filter], source: str, random: Random) -> None:
        self._refusal: Discard | None = None
        self._samples: list[tuple[Condition, Sampler]] = []
        self._drops: list[Condition] = []
        self._onlys: list[Condition] = []
        self._reshapes: list[tuple[Condition, tuple[Reshape, ...]]] = []
        self.is_pure_pass = True
        """Whether every event passes as it is."""
        allowed: list[tuple[Condition, tuple[Reshape, ...]]] = []
        needed: list[Node] = []
        for number, item in enumerate(filters, 1):
            if item.applies_to(source):
                self.is_pure_pass = False
                try:
                    self._add(item, random, allowed, needed)
                except _Unreadable as error:
                    title = f" ({item.title})" if item.title else ""
                    self._refusal = self._refusal or Discard(INVALID_FILTER, f"filter {number}{title}: {error}")
        self._reshapes += allowed
        self.constants = constants(Query(FILTER, join(And, needed))) if needed and not self._refusal else ANY
        """What ``type`` and ``event`` must be for an event not to be dropped."""

    def _add(
        self, item: Filter, random: Random, allowed: list[tuple[Condition, tuple[Reshape, ...]]], needed: list[Node]
    ) -> None:
        """``allowed``: the reshapes that come last. ``needed``: what holds for every event that is not dropped."""
        try:
            query = parse_fql(item.condition)
            condition = compile_fql(query)
        except FqlError as error:
            raise _Unreadable(str(error)) from error
        if item.action == SAMPLE:
            self._samples.append((condition, _sampler(item, random)))
        elif item.action == DROP:
            self._drops.append(condition)
            needed.append(_negation(query.root))
        elif item.action == ONLY_SEND:
            self._onlys.append(condition)
            needed.append(query.root)
        elif item.action == DROP_PROPERTIES:
            self._reshapes.append((condition, _reshapes(item, keep=False)))
        elif item.action == ALLOW_PROPERTIES:
            allowed.append((condition, _reshapes(item, keep=True)))
        else:
            raise _Unreadable(f"the action {item.action[:60]!r} is not known")

    def verdict(self, event: Mapping[str, Any], body: bytes) -> bytes | Discard:
        """What to send, or why nothing is sent.

        ``event`` is ``body`` decoded; neither is changed. An event that no filter touches comes back as the same
        ``body``. Raises msgspec.MsgspecError if ``body`` is not the event's JSON.
        """
        if self._refusal is not None:
            return self._refusal
        for condition, keeps in self._samples:
            if condition(event) and not keeps(event):
                return DROPPED
        for condition in self._drops:
            if condition(event):
                return DROPPED
        for condition in self._onlys:
            if not condition(event):
                return DROPPED
        for condition, reshapes in self._reshapes:
            if condition(event):
                for reshape in reshapes:
                    if reshape.touches(event):
                        body = reshape.rewrite(body)
        return body


def compile_filters(filters: Iterable[Filter], source: str, random: Random) -> CompiledFilters:
    """The filters that have a say in the source's events. ``random``: for samples without a path."""
    return CompiledFilters(filters, source, random)


def _negation(node: Node) -> Node:
    """True where ``node`` is not, written so that its constants can be seen."""
    match node:
        case All():
            return Literal(False)
        case Not():
            return node.operand
        case Comparison(operator="!="):
            return Comparison("=", node.left, node.right)
        case And():
            return join(Or, [_negation(operand) for operand in node.operands])
        case Or():
            return join(And, [_negation(operand) for operand in node.operands])
    return Not(node)


def _sampler(item: Filter, random: Random) -> Sampler:
    if item.percent is None:
        raise _Unreadable("a sample without percent")
    try:
        return compile_sampler(item.percent, item.path, random)
    except ValueError as error:
        raise _Unreadable(str(error)) from error


def _reshapes(item: Filter, *, keep: bool) -> tuple[Reshape, ...]:
    if not item.fields:
        raise _Unreadable("no fields")
    try:
        return tuple(Reshape(path, keys, keep=keep) for path, keys in item.fields.items())
    except ValueError as error:
        raise _Unreadable(str(error)) from error
