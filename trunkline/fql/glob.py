"""Glob patterns: ``*`` any run, ``?`` one character, ``[a-z]`` one of, ``[^a]`` none of, ``\\x`` literally (§5.6).

A pattern of literals and stars becomes a chain of ``str.find``. Every other one becomes an automaton whose states are
the bits of one integer, all advanced at once by each character: the time is the length of the text times the pattern's
in machine words, whatever both are. There is no backtracking.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

Matcher: TypeAlias = Callable[[str], bool]

MAX_AUTOMATON_PATTERN: Final = 5 * 1024
"""Characters of a pattern with ``?`` or classes. No expression is longer; a pattern that an event brings may be, and
then matches nothing."""

_LAST: Final = 0x10FFFF


@dataclass(frozen=True, slots=True)
class _Class:
    """One character out of ranges of code points; ``?`` is the negation of none."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool


_STAR: Final = None
_ANY: Final = _Class((), negated=True)
_Item: TypeAlias = str | _Class | None


def compile_glob(pattern: str) -> Matcher:
    """A predicate on whole strings, case-sensitive. A malformed pattern matches nothing."""
    items = _items(pattern)
    if items is None:
        return _nothing
    chunks = _chunks(items)
    if chunks is not None:
        return _literal_matcher(chunks)
    if len(pattern) > MAX_AUTOMATON_PATTERN:
        return _nothing
    return _automaton(items)


def literal_chunks(pattern: str) -> list[str] | None:
    """The texts between the stars, the first and the last one may be empty; None for a pattern with more than stars."""
    items = _items(pattern)
    return None if items is None else _chunks(items)


def _nothing(_text: str) -> bool:
    return False


def _items(pattern: str) -> list[_Item] | None:
    """One item for each character to match, ``None`` for a run of stars; None instead of a list if malformed."""
    items: list[_Item] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if not items or items[-1] is not _STAR:
                items.append(_STAR)
        elif char == "?":
            items.append(_ANY)
        elif char == "[":
            parsed = _class(pattern, at)
            if parsed is None:
                return None
            item, at = parsed
            items.append(item)
        elif char == "\\":
            if at == len(pattern):
                return None
            items.append(pattern[at])
            at += 1
        else:
            items.append(char)
    return items


def _class(pattern: str, at: int) -> tuple[_Class, int] | None:
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[tuple[int, int]] = []
    while not (ranges and pattern[at : at + 1] == "]"):
        low = _class_char(pattern, at)
        if low is None:
            return None
        char, at = low
        last = char
        if pattern[at : at + 1] == "-":
            high = _class_char(pattern, at + 1)
            if high is None:
                return None
            last, at = high
        ranges.append((ord(char), ord(last)))
    return _Class(tuple(ranges), negated), at + 1


def _class_char(pattern: str, at: int) -> tuple[str, int] | None:
    """A character inside a class, escaped or not; the class must go on after it."""
    if pattern[at : at + 1] in ("", "-", "]"):
        return None
    at += pattern[at] == "\\"
    if at + 1 >= len(pattern):
        return None
    return pattern[at], at + 1


def _chunks(items: list[_Item]) -> list[str] | None:
    chunks = [""]
    for item in items:
        if isinstance(item, str):
            chunks[-1] += item
        elif item is _STAR:
            chunks.append("")
        else:
            return None
    return chunks


def _literal_matcher(chunks: list[str]) -> Matcher:
    first, last = chunks[0], chunks[-1]
    if len(chunks) == 1:
        return first.__eq__
    middle = chunks[1:-1]
    if not middle and not last:
        return lambda text: text.startswith(first)
    if not middle and not first:
        return lambda text: text.endswith(last)
    if len(middle) == 1 and not first and not last:
        (part,) = middle
        return lambda text: part in text
    shortest = len(first) + len(last)

    def match(text: str) -> bool:
        if len(text) < shortest or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for chunk in middle:
            # The leftmost place is the best one: it leaves most for the rest.
            at = text.find(chunk, at, end)
            if at < 0:
                return False
            at += len(chunk)
        return True

    return match


def _automaton(items: list[_Item]) -> Matcher:
    """Bit i of the state: the text so far matches the first i items. A star makes its bit stay."""
    steps = [item for item in items if item is not _STAR]
    stays = 0
    position = 0
    for item in items:
        if item is _STAR:
            stays |= 1 << position
        else:
            position += 1
    final = 1 << len(steps)
    starts, masks = _class_masks(steps)
    literals: dict[str, int] = {}
    for index, step in enumerate(steps):
        if isinstance(step, str):
            literals[step] = literals.get(step, 0) | 1 << index
    prefix = _leading_literal(items)

    def match(text: str) -> bool:
        if not text.startswith(prefix):
            return False
        state = 1
        for char in text:
            wanted = literals.get(char, 0) | masks[bisect_right(starts, ord(char)) - 1]
            state = (state & wanted) << 1 | state & stays
            if not state:
                return False
        return state & final != 0

    return match


def _leading_literal(items: list[_Item]) -> str:
    prefix = ""
    for item in items:
        if not isinstance(item, str):
            break
        prefix += item
    return prefix


def _class_masks(steps: list[str | _Class]) -> tuple[list[int], list[int]]:
    """Where the intervals of code points begin over which no class changes its mind, and which classes take each."""
    always = 0
    flips: dict[int, int] = {0: 0}
    for index, step in enumerate(steps):
        if not isinstance(step, _Class):
            continue
        bit = 1 << index
        always |= bit if step.negated else 0
        for low, high in _disjoint(step.ranges):
            flips[low] = flips.get(low, 0) ^ bit
            if high < _LAST:
                flips[high + 1] = flips.get(high + 1, 0) ^ bit
    starts = sorted(flips)
    masks = []
    mask = always
    for start in starts:
        mask ^= flips[start]
        masks.append(mask)
    return starts, masks


def _disjoint(ranges: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if low > high:
            continue
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged
