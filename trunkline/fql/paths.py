"""From a path to a closure that reads it: split once, no loop for the lengths that occur."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Event: TypeAlias = Mapping[str, Any]
Getter: TypeAlias = Callable[[Event], Any]
Predicate: TypeAlias = Callable[[Event], bool]


def getter_of(steps: tuple[str, ...], missing: Any) -> Getter:
    """Reads the value at these steps; ``missing`` where there is none.

    A step into a list is the index of an item, as in both of Segment's engines (``properties.products.\\0.price``).
    """
    if any(index_of(step) is not None for step in steps[1:]):
        return _with_indices(steps, missing)
    if len(steps) == 1:
        (only,) = steps
        return lambda event: event.get(only, missing)
    if len(steps) == 2:
        first, second = steps

        def two(event: Event) -> Any:
            inner = event.get(first)
            return inner.get(second, missing) if type(inner) is dict else missing

        return two
    if len(steps) == 3:
        top, below, lowest = steps

        def three(event: Event) -> Any:
            inner = event.get(top)
            if type(inner) is not dict:
                return missing
            inner = inner.get(below)
            return inner.get(lowest, missing) if type(inner) is dict else missing

        return three
    first, *middle, last = steps

    def many(event: Event) -> Any:
        inner = event.get(first)
        for step in middle:
            if type(inner) is not dict:
                return missing
            inner = inner.get(step)
        return inner.get(last, missing) if type(inner) is dict else missing

    return many


def _with_indices(steps: tuple[str, ...], missing: Any) -> Getter:
    first = steps[0]
    rest = [(step, index_of(step)) for step in steps[1:]]

    def read(event: Event) -> Any:
        value = event.get(first, missing)
        for step, index in rest:
            value = step_into(value, step, index, missing)
        return value

    return read


def step_into(value: Any, step: str, index: int | None, missing: Any) -> Any:
    """What ``step`` leads to in an object or a list."""
    if type(value) is dict:
        return value.get(step, missing)
    if type(value) is list and index is not None and index < len(value):
        return value[index]
    return missing


def index_of(step: str) -> int | None:
    """The index that a step is, spelled as JavaScript spells one; none has more than 9 digits."""
    if step.isascii() and step.isdigit() and len(step) < 10 and (step == "0" or step[0] != "0"):
        return int(step)
    return None


def orders_against(get: Getter, order: Callable[[Any, Any], bool], bound: float) -> Predicate:
    """Whether the value is a number in this order to ``bound``."""

    def compare(event: Event) -> bool:
        value = get(event)
        kind = type(value)
        return (kind is int or kind is float) and order(value, bound)

    return compare


def equals_text(steps: tuple[str, ...], text: str) -> Predicate:
    """Whether the value at a path is this very string; nothing but a string equals one, so there is no more to ask."""
    if len(steps) == 1:
        (only,) = steps
        return lambda event: event.get(only) == text
    if len(steps) == 2 and index_of(steps[1]) is None:
        first, second = steps

        def two(event: Event) -> bool:
            inner = event.get(first)
            if type(inner) is not dict:
                return False
            value: object = inner.get(second)
            return value == text

        return two
    get = getter_of(steps, None)
    return lambda event: get(event) == text
