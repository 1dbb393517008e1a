"""The conditions of an Actions trigger (``spec/event_path.md`` §6.2), as ``@segment/destination-subscriptions`` has it.

A condition is ``path operator constant``, ``contains(path, constant)``, ``match(path, "text*" or "*text")`` or the
negation of one of the two calls. The left side is ``type``, ``event``, ``name``, ``userId``, or a path below
``properties``, ``traits`` or ``context``. What a condition does:

=======================================  ==============================================================================
condition                                is true when the value
=======================================  ==============================================================================
``x = c``, ``x != c``                    is, is not the string that spells c; so ``x != c`` is true where there is no x
``x = null``, ``x != null``              is missing or null, is neither (not for ``type`` and ``event``: there ``null``
                                         is a text as any other)
``x = true``, ``x = false``              is that boolean (below objects and for ``userId``; elsewhere it is a text)
``p = 5``, ``p != 5``                    is a number and equal, is a number and different (below objects)
``x < c`` and so on                      is a number in that order to the number that c spells; below objects ``true``
                                         is 1 and ``false`` is 0
``contains``, ``match``, both negations  is a string, and holds, begins or ends with c, or does not
=======================================  ==============================================================================
"""

from __future__ import annotations

import enum
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from trunkline.fql.dialects import MISSING
from trunkline.fql.errors import FqlUnsupportedError
from trunkline.fql.paths import Event, Getter, Predicate, equals_text, index_of, orders_against, step_into
from trunkline.fql.tree import And, Call, Comparison, Literal, Node, Not, Or, Path
from trunkline.fql.values import is_number, js_number, js_text

FIELDS: Final = frozenset({"type", "event", "name", "userId"})
OBJECTS: Final = frozenset({"properties", "traits", "context"})
_WITHOUT_NULL: Final = frozenset({"type", "event"})
_WITH_BOOLEANS: Final = OBJECTS | {"userId"}

_STEP: Final = re.compile(r"[^.\[\]]+")
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_AS_STRING: Final = 'write `path operator value`, `contains(path, "text")` or `match(path, "text*")`'


def check_trigger(root: Node, text: str) -> None:
    """Refuse what no trigger can say.

    Raises:
        FqlUnsupportedError: a condition of another form, or on another field.
    """
    pending = [root]
    while pending:
        node = pending.pop()
        match node:
            case And() | Or():
                pending.extend(node.operands)
            case Not(operand=Call() as call):
                _check_call(call, text)
            case Not():
                raise _unsupported(
                    "only `contains` and `match` can be negated in a trigger", node, text, mend="use `!=`"
                )
            case Call():
                _check_call(node, text)
            case Comparison():
                _check_comparison(node, text)
            case _:
                raise _unsupported("this is no condition of a trigger", node, text, mend=_AS_STRING)


def _check_comparison(node: Comparison, text: str) -> None:
    if node.operator == "in":
        raise _unsupported("a trigger has no `in`", node, text, mend='write `(event = "A" or event = "B")`')
    _check_sides(node.left, node.right, text)


def _check_call(call: Call, text: str) -> None:
    subject, argument = call.arguments
    _check_sides(subject, argument, text)
    if isinstance(subject, Path) and subject.steps == ("type",):
        raise _unsupported(f"`{call.function}` does not look at `type`", call, text, mend='write `type = "track"`')
    if call.function == "match" and _affix(constant_text(argument))[0] == "nowhere":
        raise _unsupported(
            "a trigger matches beginnings and ends only",
            argument,
            text,
            mend="put one `*` at the end (`text*`) or at the start (`*text`), or use `contains` or `=`",
        )


def _check_sides(subject: Node, argument: Node, text: str) -> None:
    if not isinstance(subject, Path):
        raise _unsupported("a condition of a trigger begins with a path", subject, text, mend=_AS_STRING)
    if not isinstance(argument, Literal | Path):
        raise _unsupported("a trigger compares with a value", argument, text, mend=_AS_STRING)
    root, _, below = ".".join(subject.steps).partition(".")
    if root not in FIELDS | OBJECTS or (root in FIELDS and below):
        raise _unsupported(
            f"a trigger does not know the field `{'.'.join(subject.steps)}`",
            subject,
            text,
            mend="use `type`, `event`, `name`, `userId`, or a path below `properties`, `traits` or `context`",
        )
    if root in OBJECTS and not _STEP.search(below or root):
        raise _unsupported(f"`{root}.{below}` names nothing", subject, text, mend=f"name a key of `{root}`")


def _unsupported(problem: str, node: Node, text: str, *, mend: str) -> FqlUnsupportedError:
    return FqlUnsupportedError(problem, text=text, offset=node.offset, mend=mend)


def constant_text(node: Node) -> str:
    """The text that a right side is; a bare word stands for itself."""
    if isinstance(node, Path):
        return ".".join(node.steps)
    assert isinstance(node, Literal)
    if node.value is None:
        return "null"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return node.value if isinstance(node.value, str) else js_text(node.value)


class Test(enum.Enum):
    """What a condition asks of the value at its path."""

    NULL = "is missing or null"
    PRESENT = "is neither missing nor null"
    BOOLEAN = "is this boolean"
    NUMBER = "is this number"
    OTHER_NUMBER = "is another number"
    ORDER = "is a number in this order to this one"
    TEXT = "is this text"
    NOT_TEXT = "is not this text"
    CONTAINS = "is a text that holds this one, or does not"
    BEGINS = "is a text that begins with this one, or does not"
    ENDS = "is a text that ends with this one, or does not"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a trigger. ``order`` is one of ``< <= > >=`` with ``Test.ORDER``; ``wanted`` is false for the
    negation of a call."""

    steps: tuple[str, ...]
    test: Test
    constant: Any = None
    order: str = ""
    wanted: bool = True


def condition_of(node: Node) -> Condition:
    """What a condition that ``check_trigger`` let through asks."""
    match node:
        case Not(operand=Call(arguments=(Path() as path, argument)) as call):
            return _text_condition(call.function, path, argument, wanted=False)
        case Call(arguments=(Path() as path, argument)):
            return _text_condition(node.function, path, argument, wanted=True)
        case Comparison(left=Path() as path):
            return _comparison(node.operator, path, node.right)
    raise AssertionError(f"not a condition of a trigger: {node!r}")


def _comparison(sign: str, path: Path, right: Node) -> Condition:
    steps = _steps(path)
    root = steps[0]
    constant = right.value if isinstance(right, Literal) else constant_text(right)
    if sign in _ORDERS:
        bound = js_number(constant_text(right))
        if isinstance(constant, bool) and root in OBJECTS:
            bound = float(constant)
        return Condition(steps, Test.ORDER, bound, order=sign)
    if constant is None and root not in _WITHOUT_NULL:
        return Condition(steps, Test.NULL if sign == "=" else Test.PRESENT)
    if isinstance(constant, bool) and sign == "=" and root in _WITH_BOOLEANS:
        return Condition(steps, Test.BOOLEAN, constant)
    if is_number(constant) and root in OBJECTS:
        return Condition(steps, Test.NUMBER if sign == "=" else Test.OTHER_NUMBER, constant)
    return Condition(steps, Test.TEXT if sign == "=" else Test.NOT_TEXT, constant_text(right))


def _text_condition(function: str, path: Path, argument: Node, *, wanted: bool) -> Condition:
    text = constant_text(argument)
    if function == "contains":
        return Condition(_steps(path), Test.CONTAINS, text, wanted=wanted)
    kind, affix = _affix(text)
    return Condition(_steps(path), Test.BEGINS if kind == "beginning" else Test.ENDS, affix, wanted=wanted)


def _steps(path: Path) -> tuple[str, ...]:
    """The package's reading of a path: brackets separate too, and an object alone is the key of its own name."""
    root, _, below = ".".join(path.steps).partition(".")
    return (root,) if root in FIELDS else (root, *_STEP.findall(below or root))


def compile_condition(node: Node) -> Predicate:
    """The closure of one condition that ``check_trigger`` let through."""
    asked = condition_of(node)
    get, constant, wanted = _getter(asked.steps), asked.constant, asked.wanted
    match asked.test:
        case Test.NULL:
            return lambda event: (value := get(event)) is None or value is MISSING
        case Test.PRESENT:
            return lambda event: (value := get(event)) is not None and value is not MISSING
        case Test.BOOLEAN:
            return lambda event: get(event) is constant
        case Test.NUMBER:
            return lambda event: (value := get(event)) == constant and type(value) is not bool
        case Test.OTHER_NUMBER:
            return lambda event: is_number(value := get(event)) and value != constant
        case Test.ORDER:
            return orders_against(get, _ORDERS[asked.order], constant)
        case Test.TEXT:
            return equals_text(asked.steps, constant) if constant else lambda event: get(event) == constant
        case Test.NOT_TEXT:
            return lambda event: get(event) != constant
        case Test.CONTAINS:
            return lambda event: type(value := get(event)) is str and (constant in value) is wanted
        case Test.BEGINS:
            return lambda event: type(value := get(event)) is str and value.startswith(constant) is wanted
        case Test.ENDS:
            return lambda event: type(value := get(event)) is str and value.endswith(constant) is wanted


def _affix(pattern: str) -> tuple[str, str]:
    """What ``text*`` or ``*text`` looks for, and where; whatever else the text holds is literal."""
    if pattern.endswith("*"):
        return "beginning", pattern[:-1]
    return ("end", pattern[1:]) if pattern.startswith("*") else ("nowhere", "")


def _getter(steps: tuple[str, ...]) -> Getter:
    """Reads as the package does: a value on the way that counts as false (0, "", false, null) is the result."""
    if len(steps) == 1:
        (field,) = steps
        return lambda event: event.get(field, MISSING)
    root, *names = steps
    below = [(name, index_of(name)) for name in names]

    def read(event: Event) -> Any:
        value = event.get(root, MISSING)
        for name, index in below:
            value = value.get(name, MISSING) if type(value) is dict else step_as_package(value, name, index, MISSING)
        return value

    return read


def step_as_package(value: Any, step: str, index: int | None, missing: Any) -> Any:
    """What ``step`` leads to; of a value that counts as false it is that value."""
    if value is None or value is False or ((type(value) is str or is_number(value)) and not value):
        return value
    return step_into(value, step, index, missing)
