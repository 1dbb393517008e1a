"""From a tree back to text, in one spelling: single spaces, double quotes, parentheses only where they are needed."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from trunkline.fql.errors import FqlUnsupportedError
from trunkline.fql.lexer import KEYWORDS
from trunkline.fql.tree import All, And, Call, Comparison, ListLiteral, Literal, Node, Not, Or, Path, Query, Scalar

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]")
_RESERVED: Final = frozenset({"true", "false", "in", "all"})


def format_fql(query: Query) -> str:
    """The text of an expression: parsed in the same dialect it gives an equal tree.

    It can be longer than 5 KB where what was read had fewer spaces; ``parse_fql`` takes it with ``max_bytes``.

    Raises:
        FqlUnsupportedError: a string that holds both kinds of quotes; only the JSON form can have one.
    """
    return _node(query.root)


def _node(node: Node) -> str:
    match node:
        case All():
            return "all"
        case Path():
            return _path(node)
        case Literal():
            return _scalar(node.value)
        case ListLiteral():
            return f"[{', '.join(_node(item) for item in node.items)}]"
        case Call():
            return f"{node.function}({', '.join(_argument(argument) for argument in node.arguments)})"
        case Comparison():
            return f"{_operand(node.left)} {node.operator} {_operand(node.right)}"
        case Not():
            return f"!{_node(node.operand)}" if isinstance(node.operand, Call) else f"!({_node(node.operand)})"
        case And():
            return " and ".join(_member(operand) for operand in node.operands)
        case Or():
            return " or ".join(_member(operand) for operand in node.operands)


def _member(node: Node) -> str:
    """A group inside a group has its parentheses even where precedence would do without: so both dialects read it."""
    return f"({_node(node)})" if isinstance(node, And | Or) else _node(node)


def _argument(node: Node) -> str:
    return f"({_node(node)})" if isinstance(node, And | Or) else _node(node)


def _operand(node: Node) -> str:
    return f"({_node(node)})" if isinstance(node, And | Or | Comparison | Not) else _node(node)


def _path(path: Path) -> str:
    steps = [_step(step) for step in path.steps]
    if (len(steps) == 1 and steps[0] in _RESERVED) or steps[0].lower() in KEYWORDS:
        steps[0] = "\\" + steps[0]
    return ".".join(steps)


def _step(step: str) -> str:
    escaped = "".join(char if _PLAIN.match(char) else "\\" + char for char in step)
    return "\\" + escaped if (step[:1].isdigit() and step[:1].isascii()) or step[:1] == "-" else escaped


def _scalar(value: Scalar) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    if '"' not in value:
        return f'"{value}"'
    if "'" not in value:
        return f"'{value}'"
    raise FqlUnsupportedError(
        f"the string {value[:40]!r} has both kinds of quotes",
        mend="FQL has no escapes in strings: match it with a glob",
    )
