"""The three readings of one language; every difference between them is a field here, nowhere else.

============================  =======================  ==========================  ================================
difference                    ``FILTER`` (the server)  ``DEVICE`` (browsers)       ``TRIGGER`` (Actions)
============================  =======================  ==========================  ================================
``missing``                   a missing path is null   is nothing, unlike null     is nothing; ``= null`` is true
``type_names``                number bool list null …  number boolean object …     no ``typeof``
``length_of_text``            bytes of UTF-8           UTF-16 units                no ``length``
``length_of_others``          null                     not a number                no ``length``
``length_of_missing``         0                        not a number                no ``length``
``orders_text``               two strings compare      numbers only                numbers only
``functions``                 all                      what tsub has               ``contains``, ``match``
``conditions``                any nesting              any nesting                 path operator constant, and groups
``last_word_joins``           ``and`` binds tighter    ``and`` binds tighter       the group's last ``and``/``or``
``takes_all``                 ``all``                  ``all``                     no
============================  =======================  ==========================  ================================

Sources: FILTER is Segment's documentation (``spec/event_path.md`` §5.4, §5.5, §12 nos. 7 to 10), DEVICE is what
``@segment/tsub`` does with the JSON form, TRIGGER is ``@segment/destination-subscriptions`` (§6.2). How a trigger's
condition compares is told in ``triggers``, which is the field ``conditions``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from math import nan
from typing import Any, Final


class Missing(enum.Enum):
    """What a path that leads nowhere has, where that is not null."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


class Conditions(enum.Enum):
    EXPRESSIONS = "expressions"
    """Whatever the grammar allows."""
    TRIGGER_CONDITIONS = "trigger conditions"
    """``path operator constant``, ``contains``, ``match`` and their negations, joined in groups."""


@dataclass(frozen=True, slots=True)
class TypeNames:
    text: str
    number: str
    boolean: str
    list: str
    object: str
    null: str
    missing: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """One reading. Two dialects are the same when they have the same name."""

    name: str
    missing: Any = field(compare=False)
    type_names: TypeNames = field(compare=False)
    length_of_text: Callable[[str], int] = field(compare=False)
    length_of_others: float | None = field(compare=False)
    length_of_missing: float = field(compare=False)
    orders_text: bool = field(compare=False)
    functions: frozenset[str] = field(compare=False)
    conditions: Conditions = field(compare=False)
    last_word_joins: bool = field(compare=False)
    takes_all: bool = field(compare=False)


def utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def utf16_units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


TSUB_FUNCTIONS: Final = frozenset({"contains", "match", "length", "lowercase", "typeof", "semver"})
"""The functions that ``@segment/tsub`` has."""
TRIGGER_FUNCTIONS: Final = frozenset({"contains", "match"})
FUNCTIONS: Final = TSUB_FUNCTIONS | {"uppercase", "snakecase", "kebabcase", "titlecase", "bool", "string", "number"}

FILTER: Final = Dialect(
    name="filter",
    missing=None,
    type_names=TypeNames("string", "number", "bool", "list", "object", "null", "null"),
    length_of_text=utf8_bytes,
    length_of_others=None,
    length_of_missing=0,
    orders_text=True,
    functions=FUNCTIONS,
    conditions=Conditions.EXPRESSIONS,
    last_word_joins=False,
    takes_all=True,
)
"""Destination filters, transformations, plan conditions: what the server evaluates."""

DEVICE: Final = Dialect(
    name="device",
    missing=MISSING,
    type_names=TypeNames("string", "number", "boolean", "object", "object", "object", "undefined"),
    length_of_text=utf16_units,
    length_of_others=nan,
    length_of_missing=nan,
    orders_text=False,
    functions=TSUB_FUNCTIONS,
    conditions=Conditions.EXPRESSIONS,
    last_word_joins=False,
    takes_all=True,
)
"""The same expression as a browser SDK evaluates its JSON form."""

TRIGGER: Final = Dialect(
    name="trigger",
    missing=MISSING,
    type_names=FILTER.type_names,
    length_of_text=utf8_bytes,
    length_of_others=None,
    length_of_missing=0,
    orders_text=False,
    functions=TRIGGER_FUNCTIONS,
    conditions=Conditions.TRIGGER_CONDITIONS,
    last_word_joins=True,
    takes_all=False,
)
"""The trigger of a mapping."""
