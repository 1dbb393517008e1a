"""The JSON form of an expression, which browser SDKs evaluate (``spec/event_path.md`` §2.2, §5.8).

::

    type = "track" and contains(event, "Order")
    ["and", ["=", "type", {"value": "track"}], ["contains", "event", {"value": "Order"}]]

A string is a path, ``{"value": …}`` a constant, an array an operator or a function with its operands. ``and`` and
``or`` take two operands and nest to the right, as in Segment's own. What remains different between server and browser
for an expression that has this form is the column DEVICE of ``dialects``.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final, TypeAlias

import msgspec

from trunkline.fql.dialects import FILTER, FUNCTIONS, TSUB_FUNCTIONS, Conditions
from trunkline.fql.errors import FqlSyntaxError, FqlUnsupportedError
from trunkline.fql.lexer import COMPARATORS, MAX_FQL_BYTES
from trunkline.fql.parser import ARITY, MAX_DEPTH
from trunkline.fql.printer import format_fql
from trunkline.fql.tree import All, And, Call, Comparison, ListLiteral, Literal, Node, Not, Or, Path, Query, join

Json: TypeAlias = Any

_BOOLEAN_FUNCTIONS: Final = frozenset({"contains", "match", "semver"})
_MAX_OPERANDS: Final = MAX_FQL_BYTES
"""An expression of 5 KB can't have as many."""


def to_ir(query: Query) -> Json:
    """The JSON form, as plain lists, dicts and scalars.

    Raises:
        FqlUnsupportedError: browsers would evaluate it to something else or not at all; such a filter can only be
            applied on the server. Also for ``all`` (it has no JSON form, see ``to_matcher``) and for triggers.
    """
    if query.dialect.conditions is Conditions.TRIGGER_CONDITIONS:
        raise _refused("a trigger has no JSON form", query.root, "give the browser the trigger's text (`subscribe`)")
    return _condition(query.root)


def to_matcher(query: Query) -> dict[str, Json]:
    """The entry of ``matchers`` in a routing rule: its ``ir`` is JSON in a string (§5.8).

    Raises:
        FqlUnsupportedError: see ``to_ir``.
    """
    if isinstance(query.root, All):
        return {"type": "all", "ir": "", "config": {"expr": "all"}}
    text = msgspec.json.encode(to_ir(query)).decode()
    return {"type": "fql", "ir": text, "config": {"expr": format_fql(query)}}


def _condition(node: Node) -> Json:
    match node:
        case And() | Or():
            word = "and" if isinstance(node, And) else "or"
            form = _condition(node.operands[-1])
            for operand in reversed(node.operands[:-1]):
                form = [word, _condition(operand), form]
            return form
        case Not():
            return ["!", _condition(node.operand)]
        case Comparison(operator="in"):
            return _membership(node)
        case Comparison():
            return [node.operator, _side(node.left), _side(node.right)]
        case Call() if node.function in _BOOLEAN_FUNCTIONS:
            return _call(node)
        case Path():
            return _path(node)
        case Literal():
            return {"value": node.value}
        case All():
            raise _refused("`all` has no JSON form", node, "use a matcher of type `all`")
    raise _refused("browsers take this for true whenever it is not empty", node, "compare it with something: `… = …`")


def _side(node: Node) -> Json:
    """A side of a comparison: browsers evaluate one call there, nothing deeper."""
    return _call(node) if isinstance(node, Call) else _leaf(node)


def _call(call: Call) -> Json:
    if call.function not in TSUB_FUNCTIONS:
        known = ", ".join(sorted(TSUB_FUNCTIONS))
        raise _refused(f"browsers have no function `{call.function}`", call, f"use {known}")
    return [call.function, *(_leaf(argument) for argument in call.arguments)]


def _leaf(node: Node) -> Json:
    match node:
        case Path():
            return _path(node)
        case Literal():
            return {"value": node.value}
        case ListLiteral():
            raise _refused("browsers can't compare with a list", node, "use `in`")
    raise _refused("browsers evaluate nothing inside this", node, "use a path or a constant here")


def _membership(node: Comparison) -> Json:
    if not isinstance(node.right, ListLiteral):
        raise _refused("browsers can't look into a list of the event", node.right, 'list the values: `in ["a", "b"]`')
    return ["in", _leaf(node.left), {"value": [_leaf(item) for item in node.right.items]}]


def _path(path: Path) -> str:
    for step in path.steps:
        if "." in step:
            raise _refused(
                f"browsers take the point in `{step}` for the end of a name", path, "use keys without points"
            )
    return ".".join(path.steps)


def _refused(problem: str, node: Node, mend: str) -> FqlUnsupportedError:
    return FqlUnsupportedError(problem, offset=node.offset, mend=f"{mend}, or apply the filter on the server only")


def from_ir(form: Json) -> Query:
    """The expression that a JSON form is.

    Raises:
        FqlSyntaxError: it is none.
    """
    return Query(FILTER, _node(form, 0))


def _node(form: Json, depth: int) -> Node:
    match form:
        case str():
            return _path_of(form)
        case {"value": value} if len(form) == 1:
            return _constant(value)
        case [("and" | "or") as word, _, *_]:
            return _group(word, form, depth)
    if depth >= MAX_DEPTH:
        raise _bad(f"more than {MAX_DEPTH} arrays inside each other", form)
    match form:
        case ["!", operand]:
            return Not(_node(operand, depth + 1))
        case [str() as word, left, right] if word in COMPARATORS:
            return Comparison(word, _node(left, depth + 1), _node(right, depth + 1))
        case ["in", left, right]:
            values = _node(right, depth + 1)
            if isinstance(values, ListLiteral | Path):
                return Comparison("in", _node(left, depth + 1), values)
        case [str() as name, *arguments] if name in FUNCTIONS and len(arguments) == ARITY[name]:
            return Call(name, tuple(_node(argument, depth + 1) for argument in arguments))
    raise _bad("no operator or function with its operands", form)


def _group(word: str, form: list[Json], depth: int) -> Node:
    """The operands of a group and of the groups of its kind that end it, however long that chain is."""
    kind: type[And] | type[Or] = And if word == "and" else Or
    operands: list[Node] = []
    if depth >= MAX_DEPTH:
        raise _bad(f"more than {MAX_DEPTH} arrays inside each other", form)
    while True:
        *before, last = form[1:]
        operands.extend(_node(operand, depth + 1) for operand in before)
        if len(operands) > _MAX_OPERANDS:
            raise _bad(f"more than {_MAX_OPERANDS:,} conditions", form)
        if not (isinstance(last, list) and len(last) > 1 and last[0] == word):
            operands.append(_node(last, depth + 1))
            return join(kind, operands)
        form = last


def _constant(value: Json) -> Node:
    if isinstance(value, list):
        items = [_node(item, 0) for item in value if isinstance(item, str | dict)]
        leaves = tuple(item for item in items if isinstance(item, Path | Literal))
        if len(leaves) == len(value):
            return ListLiteral(leaves)
    elif value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and isfinite(value)):
        return Literal(value)
    raise _bad("no constant", value)


def _path_of(form: str) -> Path:
    steps = tuple(form.split("."))
    if not all(steps):
        raise _bad("a path with an empty name", form)
    return Path(steps)


def _bad(problem: str, form: Json) -> FqlSyntaxError:
    return FqlSyntaxError(
        f"{problem}: {_excerpt(form)}",
        expected='a path, {"value": …} or an array',
        mend="take the JSON form that an SDK's settings have",
    )


def _excerpt(form: Json) -> str:
    """The kind of a form and, of a string or an array, how it begins; never the whole of something deep."""
    if isinstance(form, list) and form and isinstance(form[0], str):
        return f"an array of {len(form)} that begins with {form[0][:40]!r}"
    return repr(form[:40]) if isinstance(form, str) else f"a {type(form).__name__}"
