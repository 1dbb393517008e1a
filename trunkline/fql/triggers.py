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

import operator
import re
from collections.abc import Callable
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


def compile_condition(node: Node) -> Predicate:
    """The closure of one condition that ``check_trigger`` let through."""
    match node:
        case Not(operand=Call() as call):
            return _text_condition(call, negated=True)
        case Call():
            return _text_condition(node, negated=False)
        case Comparison(left=Path() as path):
            return _comparison(node.operator, path, node.right)
    raise AssertionError(f"not a condition of a trigger: {node!r}")


def _comparison(sign: str, path: Path, right: Node) -> Predicate:
    get, root = _getter(path), path.steps[0].partition(".")[0]
    constant = right.value if isinstance(right, Literal) else constant_text(right)
    if sign in _ORDERS:
        order, bound = _ORDERS[sign], js_number(constant_text(right))
        if isinstance(constant, bool) and root in OBJECTS:
            bound = float(constant)
        return orders_against(get, order, bound)
    if constant is None and root not in _WITHOUT_NULL:
        if sign == "=":
            return lambda event: (value := get(event)) is None or value is MISSING
        return lambda event: (value := get(event)) is not None and value is not MISSING
    if isinstance(constant, bool) and sign == "=" and root in _WITH_BOOLEANS:
        return lambda event: get(event) is constant
    if is_number(constant) and root in OBJECTS:
        if sign == "=":
            return lambda event: (value := get(event)) == constant and type(value) is not bool
        return lambda event: is_number(value := get(event)) and value != constant
    text = constant_text(right)
    if sign == "!=":
        return lambda event: get(event) != text
    if root in FIELDS:
        return lambda event: event.get(root) == text
    if text:
        _, _, below = ".".join(path.steps).partition(".")
        return equals_text((root, *_STEP.findall(below or root)), text)
    return lambda event: get(event) == text


def _text_condition(call: Call, *, negated: bool) -> Predicate:
    subject, argument = call.arguments
    assert isinstance(subject, Path)
    get, part, wanted = _getter(subject), constant_text(argument), not negated
    if call.function == "contains":
        return lambda event: type(value := get(event)) is str and (part in value) is wanted
    kind, affix = _affix(part)
    if kind == "beginning":
        return lambda event: type(value := get(event)) is str and value.startswith(affix) is wanted
    return lambda event: type(value := get(event)) is str and value.endswith(affix) is wanted


def _affix(pattern: str) -> tuple[str, str]:
    """What ``text*`` or ``*text`` looks for, and where; whatever else the text holds is literal."""
    if pattern.endswith("*"):
        return "beginning", pattern[:-1]
    return ("end", pattern[1:]) if pattern.startswith("*") else ("nowhere", "")


def _getter(path: Path) -> Getter:
    """Reads as the package does: a value on the way that counts as false (0, "", false, null) is the result."""
    root, _, below = ".".join(path.steps).partition(".")
    if root in FIELDS:
        return lambda event: event.get(root, MISSING)
    steps = [(step, index_of(step)) for step in _STEP.findall(below or root)]
    if len(steps) == 1 and steps[0][1] is None:
        ((only, _),) = steps

        def below_root(event: Event) -> Any:
            inner = event.get(root, MISSING)
            return inner.get(only, MISSING) if type(inner) is dict else _step(inner, only, None)

        return below_root
    if len(steps) == 2 and steps[0][1] is None and steps[1][1] is None:
        (upper, _), (lower, _) = steps

        def two_below_root(event: Event) -> Any:
            value = event.get(root, MISSING)
            value = value.get(upper, MISSING) if type(value) is dict else _step(value, upper, None)
            return value.get(lower, MISSING) if type(value) is dict else _step(value, lower, None)

        return two_below_root

    def read(event: Event) -> Any:
        value = event.get(root, MISSING)
        for step, index in steps:
            value = _step(value, step, index)
        return value

    return read


def _step(value: Any, step: str, index: int | None) -> Any:
    if value is None or value is False or ((type(value) is str or is_number(value)) and not value):
        return value
    return step_into(value, step, index, MISSING)
