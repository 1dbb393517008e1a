"""The tree of an expression.

Nodes are immutable, hashable and equal when they mean the same; where a node stood in the text (``offset``, in
characters) does not count. ``And`` and ``Or`` are flat: their operands are never of their own kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from trunkline.fql.dialects import Dialect

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Path:
    """A place in the event: ``properties.product\\ 1`` is ``("properties", "product 1")``."""

    steps: tuple[str, ...]
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A constant. ``1`` and ``true`` are different constants, ``1`` and ``1.0`` are the same."""

    value: Scalar
    offset: int = field(default=0, compare=False, repr=False)

    def _key(self) -> tuple[bool, Scalar]:
        return isinstance(self.value, bool), self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True, slots=True)
class ListLiteral:
    items: tuple[Path | Literal, ...]
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[Node, ...]
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``operator`` is one of ``= != < <= > >= in``."""

    operator: str
    left: Node
    right: Node
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Node, ...]
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Node, ...]
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class All:
    """The bare word ``all`` as a whole expression: every event."""

    offset: int = field(default=0, compare=False, repr=False)


Node: TypeAlias = Path | Literal | ListLiteral | Call | Comparison | Not | And | Or | All


@dataclass(frozen=True, slots=True)
class Query:
    """A whole expression and the dialect that it is written in."""

    dialect: Dialect
    root: Node


def depth_of(node: Node) -> int:
    """How many nodes stand inside each other; a path or a constant alone is 0."""
    match node:
        case And() | Or():
            inside: tuple[Node, ...] = node.operands
        case Call():
            inside = node.arguments
        case Comparison():
            inside = (node.left, node.right)
        case Not():
            inside = (node.operand,)
        case _:
            return 0
    return 1 + max(map(depth_of, inside))


def join(kind: type[And] | type[Or], operands: list[Node]) -> Node:
    """One flat node of this kind; a single operand stays what it is."""
    flat: list[Node] = []
    for operand in operands:
        flat.extend(operand.operands if isinstance(operand, kind) else (operand,))
    return flat[0] if len(flat) == 1 else kind(tuple(flat), offset=flat[0].offset)
