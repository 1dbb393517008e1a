"""From a tree to closures over the decoded event: the reference of what an expression means here.

``generator`` writes the common ones anew as functions of their own, which have to answer alike. Everything that the
tree alone decides is decided here, once: paths are split, constants have comparisons of their own, groups are flat and
stop at the first operand that settles them. A closure never raises: where types do not fit, the comparison is false.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

from trunkline.fql import functions
from trunkline.fql.dialects import Conditions, Dialect
from trunkline.fql.glob import compile_glob
from trunkline.fql.paths import Event, Getter, Predicate, equals_text, getter_of, orders_against
from trunkline.fql.tree import All, And, Call, Comparison, ListLiteral, Literal, Node, Not, Or, Path, Scalar
from trunkline.fql.triggers import FIELDS, compile_condition, constant_text
from trunkline.fql.values import equal, is_number, is_scalar, scalars_equal

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
BOOLEAN_FUNCTIONS: Final = frozenset({"contains", "match", "semver", "bool"})


class Closures:
    """Closures for the nodes of one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._is_trigger = dialect.conditions is Conditions.TRIGGER_CONDITIONS

    def truth(self, node: Node) -> Predicate:
        """Whether a node is exactly ``true``: what conditions and whole expressions go by."""
        match node:
            case All():
                return _always
            case And():
                return self._conjunction(node.operands)
            case Or():
                return self._disjunction(node.operands)
        if self._is_trigger:
            return compile_condition(node)
        match node:
            case Not():
                operand = self.truth(node.operand)
                return lambda event: not operand(event)
            case Comparison():
                return self._comparison(node)
            case Call() if node.function in BOOLEAN_FUNCTIONS:
                return self._boolean_call(node)
            case Path():
                get = self.value(node)
                return lambda event: get(event) is True
            case Literal():
                return _always if node.value is True else _never
        return _never

    def _conjunction(self, operands: Sequence[Node]) -> Predicate:
        """Most expressions begin with `type = "…"`: it is tested in place, and settles most events without a call."""
        first, *others = operands
        field = self._field_test(first)
        if field is None:
            return _every([self.truth(operand) for operand in operands])
        key, text = field
        if len(others) == 1 and (second := self._field_test(others[0])):
            other_key, other_text = second
            return lambda event: event.get(key) == text and event.get(other_key) == other_text
        tests = [self.truth(operand) for operand in others]
        if len(tests) == 2:
            two, three = tests
            return lambda event: event.get(key) == text and two(event) and three(event)
        rest = tests[0] if len(tests) == 1 else _every(tests)
        return lambda event: event.get(key) == text and rest(event)

    def _disjunction(self, operands: Sequence[Node]) -> Predicate:
        """The same field compared with several strings is looked up in their set."""
        fields = [self._field_test(operand) for operand in operands]
        keys = {field[0] if field else None for field in fields}
        if len(keys) > 1 or None in keys:
            return _any([self.truth(operand) for operand in operands])
        texts = frozenset(field[1] for field in fields if field)
        key = fields[0][0] if fields[0] else ""
        return lambda event: type(value := event.get(key)) is str and value in texts

    def _field_test(self, node: Node) -> tuple[str, str] | None:
        """Field and string of `field = "text"` at the top of the event; a trigger's bare word is a string too."""
        match node:
            case Comparison("=", Path((key,)), Literal(str() as text)) if not self._is_trigger or key in FIELDS:
                return key, text
            case Comparison("=", Path(("type" | "event" as key,)), constant) if self._is_trigger:
                return key, constant_text(constant)
        return None

    def value(self, node: Node) -> Getter:
        """What a node is, in a comparison or as an argument."""
        match node:
            case Path():
                return getter_of(node.steps, self._dialect.missing)
            case Literal():
                constant = node.value
                return lambda event: constant
            case ListLiteral():
                items = [self.value(item) for item in node.items]
                return lambda event: [item(event) for item in items]
            case Call() if node.function not in BOOLEAN_FUNCTIONS:
                function = functions.one_argument(node.function, self._dialect)
                argument = self.value(node.arguments[0])
                return lambda event: function(argument(event))
        return self.truth(node)

    def _boolean_call(self, call: Call) -> Predicate:
        first, *rest = [self.value(argument) for argument in call.arguments]
        constant = _text_of(call.arguments[-1])
        if call.function == "contains":
            if constant is not None:
                return _contains_constant(first, constant)
            return lambda event: functions.contains(first(event), rest[0](event))
        if call.function == "match":
            if constant is not None:
                return _matches_constant(first, constant)
            return lambda event: functions.match(first(event), rest[0](event))
        if call.function == "semver":
            return lambda event: functions.semver(first(event), rest[0](event), rest[1](event))
        convert = functions.one_argument(call.function, self._dialect)
        return lambda event: convert(first(event)) is True

    def _comparison(self, node: Comparison) -> Predicate:
        if node.operator == "=":
            return self._equality(node)
        if node.operator == "!=":
            same = self._equality(node)
            return lambda event: not same(event)
        if node.operator == "in":
            return self._membership(node)
        return self._ordering(node)

    def _equality(self, node: Comparison) -> Predicate:
        left, right = node.left, node.right
        if isinstance(left, Literal):
            left, right = right, left
        if isinstance(right, Literal):
            if isinstance(left, Path) and isinstance(right.value, str):
                return equals_text(left.steps, right.value)
            return _equals_constant(self.value(left), right.value)
        one, other = self.value(left), self.value(right)
        return lambda event: equal(one(event), other(event))

    def _ordering(self, node: Comparison) -> Predicate:
        order = _ORDERS[node.operator]
        left, right = self.value(node.left), self.value(node.right)
        orders_text = self._dialect.orders_text
        match node.right:
            case Literal(int() | float() as bound) if not isinstance(bound, bool):
                return orders_against(left, order, bound)

        def compare(event: Event) -> bool:
            one, other = left(event), right(event)
            if is_number(one):
                return is_number(other) and order(one, other)
            return orders_text and type(one) is str and type(other) is str and order(one, other)

        return compare

    def _membership(self, node: Comparison) -> Predicate:
        left = self.value(node.left)
        if isinstance(node.right, ListLiteral):
            items = node.right.items
            constants = [item.value for item in items if isinstance(item, Literal)]
            if len(constants) == len(items):
                return _in_constants(left, constants)
        right = self.value(node.right)

        def find(event: Event) -> bool:
            wanted, values = left(event), right(event)
            return type(values) is list and is_scalar(wanted) and any(scalars_equal(wanted, item) for item in values)

        return find


def _always(_event: Event) -> bool:
    return True


def _never(_event: Event) -> bool:
    return False


def _every(operands: Sequence[Predicate]) -> Predicate:
    if len(operands) == 2:
        one, two = operands
        return lambda event: one(event) and two(event)
    if len(operands) == 3:
        first, second, third = operands
        return lambda event: first(event) and second(event) and third(event)

    def every(event: Event) -> bool:
        for operand in operands:  # noqa: SIM110  a loop is faster than a generator
            if not operand(event):
                return False
        return True

    return every


def _any(operands: Sequence[Predicate]) -> Predicate:
    if len(operands) == 2:
        one, two = operands
        return lambda event: one(event) or two(event)
    if len(operands) == 3:
        first, second, third = operands
        return lambda event: first(event) or second(event) or third(event)

    def any_of(event: Event) -> bool:
        for operand in operands:  # noqa: SIM110  a loop is faster than a generator
            if operand(event):
                return True
        return False

    return any_of


def _equals_constant(get: Getter, constant: Scalar) -> Predicate:
    if constant is None or isinstance(constant, bool):
        return lambda event: get(event) is constant
    if isinstance(constant, str):
        return lambda event: get(event) == constant
    return lambda event: (value := get(event)) == constant and type(value) is not bool


def _in_constants(get: Getter, constants: list[Scalar]) -> Predicate:
    texts = frozenset(item for item in constants if isinstance(item, str))
    numbers = frozenset(item for item in constants if is_number(item))
    others = tuple(item for item in constants if item is None or isinstance(item, bool))

    def find(event: Event) -> bool:
        value = get(event)
        kind = type(value)
        if kind is str:
            return value in texts
        if kind is int or kind is float:
            return value in numbers
        return any(value is other for other in others)

    return find


def _contains_constant(get: Getter, part: str) -> Predicate:
    return lambda event: type(value := get(event)) is str and part in value


def _matches_constant(get: Getter, pattern: str) -> Predicate:
    matches = compile_glob(pattern)
    return lambda event: type(value := get(event)) is str and matches(value)


def _text_of(node: Node) -> str | None:
    return node.value if isinstance(node, Literal) and isinstance(node.value, str) else None
