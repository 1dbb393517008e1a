"""One Python function for an expression: what ``closures`` answers, without a call for each part.

::

    type = "track" and properties.total > 100

    def predicate(event):
        try:
            if event.get("type") == "track" and (
                v1 > 100.0
                if (v2 := type(v1 := event.get("properties", empty).get("total"))) is float
                else v2 is int and v1 > 100
            ):
                return True
            return False
        except error:
            return closures(event)

**Why nothing that a user writes can become code.** No source text is made anywhere: the function is built as nodes
(``syntax``) and compiled from them. The user's part of a tree is strings, numbers, booleans and null; they enter as
``ast.Constant``, which the compiler loads as objects and never reads. Names are ours: ``event``, ``v1``, ``f1`` and the
types and functions of ``_GLOBALS``; a path's steps are arguments of ``get``, never names. The globals of the function
hold what it names and no builtins.

What is rare is a call of its closure (``f1(event)``), so that this file stays small and there is one reference. A path
that occurs more than once is read once: a variable that holds it is known from there on in the same group of
conditions, and outside of it if the group's first condition reads it, as that one is evaluated in any case.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, Final, TypeAlias

from trunkline import syntax
from trunkline.fql import functions
from trunkline.fql.closures import BOOLEAN_FUNCTIONS, Closures
from trunkline.fql.dialects import MISSING, Conditions
from trunkline.fql.glob import compile_glob, literal_chunks
from trunkline.fql.parser import MAX_DEPTH
from trunkline.fql.paths import Event, index_of, step_into
from trunkline.fql.tree import And, Call, Comparison, ListLiteral, Literal, Node, Not, Or, Path, Query, Scalar
from trunkline.fql.triggers import Condition, Test, condition_of, step_as_package
from trunkline.fql.values import equal

MAX_SIZE: Final = 100
"""Nodes and steps of paths in a tree that gets a function: some 25 conditions. Generating takes up to 4 ms, and events
wait meanwhile."""
MAX_STEPS: Final = 10
"""Steps of one path: each nests the code deeper, and Python's compiler has its limits."""
_MAX_CHAIN: Final = 3
"""Texts that are compared one by one; more are looked up in their set."""

_GLOBALS: Final[dict[str, Any]] = {
    "type": type,
    "dict": dict,
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "len": len,
    "missing": MISSING,
    "equal": equal,
    "into": step_into,
    "package": step_as_package,
    "empty": {},
}
_Place: TypeAlias = tuple[tuple[str, ...], bool]
"""A path, and whether it is the object that is wanted there, for what lies below."""
_NO_EVENT: Final[Event] = {}


def can_generate(query: Query) -> bool:
    """Whether the expression is small enough."""
    size = 0
    pending: list[tuple[Node, int]] = [(query.root, 0)]
    while pending:
        node, depth = pending.pop()
        size += 1
        if size + len(pending) > MAX_SIZE or depth > MAX_DEPTH:
            return False
        pending.extend((inner, depth + 1) for inner in _inside(node))
    steps = [len(path) for path in _reads(query.root, is_trigger=_is_trigger(query))]
    return size + sum(steps) <= MAX_SIZE and max(steps, default=0) <= MAX_STEPS


def generate(query: Query) -> tuple[CodeType, dict[str, Any]]:
    """The code of a predicate on events, and the globals that it needs.

    It takes for granted that an object is where a path goes on, or nothing; an event that has something else there
    raises AttributeError (a text has no ``get``), and the closures answer.
    """
    writer = _Writer(query)
    test = writer.truth(query.root)
    writer.globals |= {"error": AttributeError, "closures": writer.closures.truth(query.root)}
    return syntax.predicate(test), writer.globals


class _Writer:
    """Writes one expression. All it writes is free of side effects and raises nothing, whatever the event holds."""

    def __init__(self, query: Query) -> None:
        self._dialect = query.dialect
        self.closures = Closures(query.dialect)
        self._is_trigger = _is_trigger(query)
        self._tells_missing = query.dialect.missing is MISSING and not self._is_trigger
        self._uses = Counter[_Place]()
        """How often a path is read, and how often what lies below it is."""
        for steps in _reads(query.root, is_trigger=self._is_trigger):
            self._uses[steps, False] += 1
            self._uses.update((steps[:end], True) for end in range(1, len(steps)))
        self._known: dict[_Place, str] = {}
        """The variables that hold the value of a path wherever the next node is evaluated."""
        self._names = 0
        self.globals: dict[str, Any] = {"__builtins__": {}}

    def truth(self, node: Node) -> ast.expr:
        """True in a test where ``Closures.truth`` is."""
        if not any(_reads(node, is_trigger=self._is_trigger)):
            return syntax.constant(self.closures.truth(node)(_NO_EVENT))
        match node:
            case And():
                return self._group(node, settled_by=False)
            case Or():
                return self._group(node, settled_by=True)
        if self._is_trigger:
            return self._condition(condition_of(node))
        match node:
            case Not():
                return syntax.negated(self.truth(node.operand))
            case Comparison(operator="="):
                return self._equality(node.left, node.right)
            case Comparison(operator="!="):
                return syntax.negated(self._equality(node.left, node.right))
            case Comparison(operator="in", right=ListLiteral(items)):
                if (texts := _texts(items)) is not None:
                    return self._is_one_of(self.value(node.left), texts)
            case Comparison(right=Literal(str() as bound)) if self._dialect.orders_text:
                return self._of_type(
                    "str", self.value(node.left), lambda it: syntax.compared(it, node.operator, syntax.constant(bound))
                )
            case Comparison(right=Literal(int() | float() as bound)) if not isinstance(bound, bool):
                return self._is_ordered(self.value(node.left), node.operator, bound)
            case Call("contains", (subject, Literal(str() as part))):
                return self._of_type(
                    "str", self.value(subject), lambda it: syntax.compared(syntax.constant(part), "in", it)
                )
            case Call("match", (subject, Literal(str() as pattern))):
                return self._matches(self.value(subject), pattern)
            case Path():
                return syntax.compared(self._read(node.steps), "is", syntax.constant(True))
        return self._closure(self.closures.truth(node))

    def value(self, node: Node) -> ast.expr:
        """What ``Closures.value`` gives."""
        match node:
            case Path():
                return self._read(node.steps)
            case Literal():
                return syntax.constant(node.value)
            case Call(function, (argument,)) if function not in BOOLEAN_FUNCTIONS:
                return syntax.called(self._bound(functions.one_argument(function, self._dialect)), self.value(argument))
        return self._closure(self.closures.value(node))

    def _group(self, node: And | Or, *, settled_by: bool) -> ast.expr:
        outside = self._known
        if settled_by and (alternatives := self._alternatives(node)):
            steps, texts = alternatives
            return self._is_one_of(self._read(steps), texts)
        tests: list[ast.expr] = []
        after = outside
        for operand in node.operands:
            test = self.truth(operand)
            if isinstance(test, ast.Constant):
                if test.value is settled_by:
                    self._known = outside
                    return test
                continue
            if not tests:
                after = self._known
            tests.append(test)
        self._known = after
        if not tests:
            return syntax.constant(not settled_by)
        return syntax.any_of(tests) if settled_by else syntax.every(tests)

    def _alternatives(self, node: And | Or) -> tuple[tuple[str, ...], list[str]] | None:
        """The path and the texts of ``a = "x" or a = "y" or …``."""
        found: list[tuple[tuple[str, ...], str]] = []
        for operand in node.operands:
            if self._is_trigger:
                match operand:
                    case Comparison():
                        asked = condition_of(operand)
                        if asked.test is Test.TEXT:
                            found.append((asked.steps, asked.constant))
            else:
                match operand:
                    case Comparison("=", Path(steps), Literal(str() as text)):
                        found.append((steps, text))
        if len(found) < len(node.operands) or len({steps for steps, _ in found}) > 1:
            return None
        return found[0][0], [text for _, text in found]

    def _condition(self, asked: Condition) -> ast.expr:
        """A condition of a trigger, as ``triggers.compile_condition`` has it."""
        value, constant = self._read(asked.steps), asked.constant
        match asked.test:
            case Test.NULL:
                return syntax.compared(value, "is", syntax.constant(None))
            case Test.PRESENT:
                return syntax.compared(value, "is not", syntax.constant(None))
            case Test.BOOLEAN | Test.NUMBER | Test.TEXT:
                return self._equals(value, constant)
            case Test.NOT_TEXT:
                return syntax.compared(value, "!=", syntax.constant(constant))
            case Test.OTHER_NUMBER:
                return self._is_ordered(value, "!=", constant)
            case Test.ORDER:
                return self._is_ordered(value, asked.order, constant)
            case Test.CONTAINS:
                sign = "in" if asked.wanted else "not in"
                return self._of_type("str", value, lambda it: syntax.compared(syntax.constant(constant), sign, it))
            case Test.BEGINS | Test.ENDS:
                at_end = asked.test is Test.ENDS
                return self._of_type("str", value, lambda it: self._has_affix(it, constant, at_end, asked.wanted))

    def _equality(self, left: Node, right: Node) -> ast.expr:
        if isinstance(left, Literal):
            left, right = right, left
        if isinstance(right, Literal):
            return self._equals(self.value(left), right.value)
        one = self.value(left)
        return syntax.called(self._global("equal"), one, self.value(right))

    def _equals(self, value: ast.expr, constant: Scalar) -> ast.expr:
        if constant is None or isinstance(constant, bool):
            return syntax.compared(value, "is", syntax.constant(constant))
        if isinstance(constant, str) or constant not in (0, 1):
            return syntax.compared(value, "==", syntax.constant(constant))
        # `true` is no 1 here, as it is to Python.
        first, again = self._held(value)
        kind = syntax.called(self._global("type"), again)
        return syntax.every(
            [
                syntax.compared(first, "==", syntax.constant(constant)),
                syntax.compared(kind, "is not", self._global("bool")),
            ]
        )

    def _is_ordered(self, value: ast.expr, operator: str, bound: float) -> ast.expr:
        """Whether it is a number in this order to the bound."""
        first, again = self._held(value)
        kind, same_kind = self._held(syntax.called(self._global("type"), first))
        # Python compares two floats or two integers faster than one of each.
        as_float, as_int = _spellings(bound)
        return syntax.choice(
            syntax.compared(kind, "is", self._global("float")),
            syntax.compared(again, operator, syntax.constant(as_float)),
            syntax.every(
                [
                    syntax.compared(same_kind, "is", self._global("int")),
                    syntax.compared(again, operator, syntax.constant(as_int)),
                ]
            ),
        )

    def _is_one_of(self, value: ast.expr, texts: list[str]) -> ast.expr:
        if len(texts) > _MAX_CHAIN:
            return self._of_type("str", value, lambda it: syntax.compared(it, "in", syntax.constant(frozenset(texts))))
        first, again = self._held(value)
        return syntax.any_of(
            [
                syntax.compared(again if number else first, "==", syntax.constant(text))
                for number, text in enumerate(texts)
            ]
        )

    def _matches(self, value: ast.expr, pattern: str) -> ast.expr:
        chunks = literal_chunks(pattern)
        if chunks is None or len(chunks) > 3:
            matches = self._bound(compile_glob(pattern))
            return self._of_type("str", value, lambda it: syntax.called(matches, it))
        if len(chunks) == 1:
            return self._equals(value, chunks[0])
        return self._of_type("str", value, lambda it: self._has_chunks(it, chunks))

    def _has_chunks(self, text: ast.expr, chunks: list[str]) -> ast.expr:
        """Whether a text is ``first*last`` or ``first*part*last``."""
        first, *middle, last = chunks
        tests: list[ast.expr] = []
        if first:
            tests.append(self._has_affix(text, first, at_end=False))
        if last:
            tests.append(self._has_affix(text, last, at_end=True))
        if first and last and not middle:
            size = syntax.called(self._global("len"), text)
            tests.append(syntax.compared(size, ">=", syntax.constant(len(first) + len(last))))
        for part in middle:
            bounds = [syntax.constant(len(first)), *([syntax.constant(-len(last))] if last else [])]
            place = syntax.called(syntax.method(text, "find"), syntax.constant(part), *bounds)
            tests.append(
                syntax.compared(place, ">=", syntax.constant(0))
                if first or last
                else syntax.compared(syntax.constant(part), "in", text)
            )
        return syntax.every(tests) if tests else syntax.constant(True)

    def _has_affix(self, text: ast.expr, affix: str, at_end: bool, wanted: bool = True) -> ast.expr:
        """Whether a text begins or ends so. To compare a slice is faster than to call a method."""
        if not affix:
            return syntax.constant(wanted)
        part = syntax.end(text, len(affix)) if at_end else syntax.beginning(text, len(affix))
        return syntax.compared(part, "==" if wanted else "!=", syntax.constant(affix))

    def _of_type(self, kind: str, value: ast.expr, test: Callable[[ast.expr], ast.expr]) -> ast.expr:
        """Whether it is of this type, and this is true of it."""
        first, again = self._held(value)
        return syntax.every([self._is(first, kind), test(again)])

    def _is(self, value: ast.expr, kind: str) -> ast.expr:
        return syntax.compared(syntax.called(self._global("type"), value), "is", self._global(kind))

    def _read(self, steps: tuple[str, ...]) -> ast.expr:
        """The value at a path."""
        if name := self._known.get((steps, False)):
            return syntax.name(name)
        default = self._global("missing") if self._tells_missing else None
        value = self._step(steps, default)
        return self._held(value, (steps, False))[0] if self._uses[steps, False] > 1 else value

    def _object(self, steps: tuple[str, ...]) -> ast.expr:
        """What stands at a path that goes on: an empty object where nothing does."""
        if not steps:
            return syntax.name("event")
        if name := self._known.get((steps, True)):
            return syntax.name(name)
        value = self._step(steps, self._global("empty"))
        return self._held(value, (steps, True))[0] if self._uses[steps, True] > 1 else value

    def _step(self, steps: tuple[str, ...], default: ast.expr | None) -> ast.expr:
        """``get`` raises for what is no object, see ``generate``."""
        *above, step = steps
        key, index = syntax.constant(step), index_of(step)
        parent = self._object(tuple(above))
        arguments = [key] if default is None else [key, default]
        if index is None or not above:
            return syntax.called(syntax.method(parent, "get"), *arguments)
        first, again = self._held(parent)
        below = [syntax.constant(index), syntax.constant(None) if default is None else default]
        into = self._global("package" if self._is_trigger else "into")
        return syntax.choice(
            self._is(first, "dict"),
            syntax.called(syntax.method(again, "get"), *arguments),
            syntax.called(into, again, key, *below),
        )

    def _held(self, value: ast.expr, place: _Place | None = None) -> tuple[ast.expr, ast.expr]:
        """The value where it is evaluated first, and again; from now on it is known to be at ``place``."""
        if isinstance(value, ast.Name):
            return value, value
        if isinstance(value, ast.NamedExpr):
            return value, syntax.name(value.target.id)
        variable = self._new_name("v")
        if place is not None:
            self._known = {**self._known, place: variable}
        return syntax.assigned(variable, value), syntax.name(variable)

    def _closure(self, closure: Callable[[Event], Any]) -> ast.expr:
        return syntax.called(self._bound(closure), syntax.name("event"))

    def _bound(self, function: Callable[..., Any]) -> ast.expr:
        name = self._new_name("f")
        self.globals[name] = function
        return syntax.name(name)

    def _global(self, name: str) -> ast.expr:
        self.globals[name] = _GLOBALS[name]
        return syntax.name(name)

    def _new_name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"


def _is_trigger(query: Query) -> bool:
    return query.dialect.conditions is Conditions.TRIGGER_CONDITIONS


def _reads(node: Node, *, is_trigger: bool) -> Iterator[tuple[str, ...]]:
    """The paths that a node reads, once for each time."""
    if isinstance(node, Path):
        yield node.steps
    elif is_trigger and isinstance(node, Comparison | Call):
        yield condition_of(node).steps
    else:
        for inner in _inside(node):
            yield from _reads(inner, is_trigger=is_trigger)


def _inside(node: Node) -> tuple[Node, ...]:
    match node:
        case And() | Or():
            return node.operands
        case Not():
            return (node.operand,)
        case Comparison():
            return node.left, node.right
        case Call():
            return node.arguments
        case ListLiteral():
            return node.items
    return ()


def _spellings(bound: float) -> tuple[float, float]:
    """The same number as a float and as an integer, where there is such a one."""
    try:
        as_float, as_int = float(bound), int(bound)
    except (OverflowError, ValueError):  # an integer beyond floats, infinity, no number
        return bound, bound
    return as_float if as_float == bound else bound, as_int if as_int == bound else bound


def _texts(items: tuple[Path | Literal, ...]) -> list[str] | None:
    """The items if all of them are texts, and there are some."""
    texts = [item.value for item in items if isinstance(item, Literal) and isinstance(item.value, str)]
    return texts if texts and len(texts) == len(items) else None
