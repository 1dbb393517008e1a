"""Conditions of filters in the words of browsers, which read FQL differently (the table in ``trunkline.fql.dialects``).

What a browser would evaluate to something else than the server is written anew so that both agree: a browser holds a
missing field for something else than null, and calls types by other names. What can't be written so is refused: lengths
(bytes here, UTF-16 units there), the order of texts, ``semver`` (published, but not in analytics.js), and what the JSON
form does not have.

What stays different are the values that no condition shows: ``docs/decisions/0014-fql.md`` lists them.
"""

from __future__ import annotations

from typing import Final

from trunkline.fql import FqlUnsupportedError
from trunkline.fql.tree import And, Call, Comparison, ListLiteral, Literal, Node, Not, Or, Path, join

_EQUAL: Final = ("=", "!=")
_TYPE_NAMES: Final = {"string": "string", "number": "number", "bool": "boolean"}
_LARGEST_EXACT: Final = 2**53
_ANSWERS: Final = frozenset({"contains", "match"})
"""Functions that are true or false, whatever they are given."""
_OF_SCRIPT: Final = frozenset(
    {
        "length",
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
        "__proto__",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
    }
)
"""Names that JavaScript finds where the event has nothing."""


def for_browsers(node: Node) -> Node:
    """The condition that a browser evaluates as the server does ``node``.

    Raises:
        FqlUnsupportedError: there is none.
    """
    match node:
        case And() | Or():
            return join(type(node), [for_browsers(operand) for operand in node.operands])
        case Not():
            return Not(for_browsers(node.operand))
        case Comparison(operator="in"):
            return _membership(node)
        case Comparison(operator=("=" | "!=")):
            equal = _equality(node)
            return equal if node.operator == "=" else Not(equal)
        case Comparison():
            return _order(node)
        case Call():
            return _checked(node)
        case Path() | Literal():
            return _checked(node)
    return node


def paths_of(node: Node) -> frozenset[tuple[str, ...]]:
    """What a condition looks at."""
    match node:
        case Path():
            return frozenset({node.steps})
        case And() | Or():
            inside: tuple[Node, ...] = node.operands
        case Not():
            inside = (node.operand,)
        case Comparison():
            inside = (node.left, node.right)
        case Call():
            inside = node.arguments
        case ListLiteral():
            inside = node.items
        case _:
            inside = ()
    return frozenset().union(*(paths_of(item) for item in inside))


def _equality(node: Comparison) -> Node:
    left, right = node.left, node.right
    if _is_typeof(right) and not _is_typeof(left):
        left, right = right, left
    if isinstance(left, Call) and _is_typeof(left):
        return _type_is(left, right)
    equal = Comparison("=", _checked(left), _checked(right))
    if _may_be_null(left) and _may_be_null(right) and (isinstance(left, Path) or isinstance(right, Path)):
        both = [found for found in (_is_null(left), _is_null(right)) if found is not None]
        return join(Or, [equal, join(And, both)])
    return equal


def _type_is(call: Call, other: Node) -> Node:
    (argument,) = call.arguments
    if isinstance(other, Literal):
        if other.value == "null":
            found = _is_null(argument)
            if found is not None:
                return found
        elif isinstance(other.value, str) and other.value in _TYPE_NAMES:
            return Comparison("=", Call("typeof", (_checked(argument),)), Literal(_TYPE_NAMES[other.value]))
    raise _refused("browsers have other names of types than the server", call)


def _order(node: Comparison) -> Node:
    sides = (node.left, node.right)
    if not any(
        (isinstance(side, Literal) and not isinstance(side.value, str))
        or (isinstance(side, Call) and side.function in _ANSWERS)
        for side in sides
    ):
        raise _refused("browsers do not order texts", node)
    return Comparison(node.operator, _checked(node.left), _checked(node.right))


def _membership(node: Comparison) -> Node:
    if not isinstance(node.right, ListLiteral) or any(isinstance(item, Path) for item in node.right.items):
        raise _refused("browsers can't look into a list of the event", node)
    for item in node.right.items:
        _checked(item)
    found = Comparison("in", _checked(node.left), node.right)
    if isinstance(node.left, Path) and Literal(None) in node.right.items:
        return join(Or, [found, _is_missing(node.left)])
    return found


def _may_be_null(side: Node) -> bool:
    match side:
        case Path():
            return True
        case Literal():
            return side.value is None
    return isinstance(side, Call) and side.function == "lowercase"


def _is_null(side: Node) -> Node | None:
    """That the side is null or missing; None: it always is."""
    if isinstance(side, Literal) and side.value is None:
        return None
    null = Comparison("=", _checked(side), Literal(None))
    return join(Or, [null, _is_missing(side)]) if isinstance(side, Path) else null


def _is_missing(path: Path) -> Node:
    return Comparison("=", Call("typeof", (path,)), Literal("undefined"))


def _is_typeof(node: Node) -> bool:
    return isinstance(node, Call) and node.function == "typeof"


def _checked(node: Node) -> Node:
    """The node, if browsers read it as the server does."""
    match node:
        case Path() if not _OF_SCRIPT.isdisjoint(node.steps):
            raise _refused("JavaScript has names of its own", node)
        case Literal(value=int() as number) if abs(number) > _LARGEST_EXACT:
            raise _refused("browsers round this number", node)
        case Call(function="semver"):
            raise _refused("the engine in analytics.js has no function `semver`", node)
        case Call(function=("length" | "typeof")):
            raise _refused(f"`{node.function}` means something else to browsers", node)
        case Call():
            for argument in node.arguments:
                _checked(argument)
    return node


def _refused(problem: str, node: Node) -> FqlUnsupportedError:
    return FqlUnsupportedError(problem, offset=node.offset, mend="apply the filter on the server only")
