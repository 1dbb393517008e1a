"""Random expressions, spellings of them, and random events; all of it from one ``random.Random``."""

from __future__ import annotations

from random import Random
from typing import Any

from trunkline.fql.dialects import FILTER
from trunkline.fql.printer import format_fql
from trunkline.fql.tree import And, Call, Comparison, ListLiteral, Literal, Node, Not, Or, Path, Query, join

TEXTS = [
    "", "track", "page", "identify", "Order Completed", "order completed", "ORDER", "Order", "a", "b", "abc", "5",
    "5.0", "-1", "0", "0x10", "1e3", " 7 ", "null", "true", "false", "é", "É", "日本", "ΑΣ", "İ", "it's", "a*b", "[x]",
    "a\\b", "line\nbreak", "1.2.3", "1.10", "2", "2026-11-21T10:00:00Z", "~", "a@b.example", "😀x",
]  # fmt: skip
ASTRAL = "😀x"
NUMBERS: list[int | float] = [0, 1, -1, 2, 5, 5.0, 0.5, -2.25, 7, 16, 100, 1000, 3.0]
TYPE_NAMES = ["string", "number", "bool", "boolean", "list", "object", "null", "undefined"]
GLOBS = ["*", "", "O*", "*r", "*d*", "o?der*", "[a-z]*", "[^a-z]*", "*[0-9]", "a\\*b", "[]a]", "[x-", "\\", "?", "??",
         "a**c", "[\\]x[]*", "*.*.*", "[a-c][a-c][a-c]", "*a*b*c*", "[é-日]*", "Order *ed", "-[0-9]"]  # fmt: skip
SEMVER_OPERATORS = ["=", "!=", "<", "<=", ">", ">=", "~"]

FIELDS = ["type", "event", "name", "userId"]
OBJECTS = ["properties", "traits", "context"]
KEYS = ["a", "b", "c", "d_e", "d-e", "product 1", "über", "1st", "null", "and", "true", "$x"]

PATHS: list[tuple[str, ...]] = [
    *((field,) for field in FIELDS),
    *((root, key) for root in OBJECTS for key in KEYS),
    *((root, "nested", key) for root in OBJECTS for key in ("a", "b", "c")),
    *((root, "deep", "er", "still") for root in OBJECTS),
    *(("properties", "items", index, "price") for index in ("0", "1")),
    ("properties", "items", "0"),
    ("properties", "items"),
    ("properties", "nested"),
]
ABSENT_PATHS: list[tuple[str, ...]] = [
    ("nothing",),
    ("properties", "nothing"),
    ("nothing", "at", "all"),
    ("properties", "nested", "nothing"),
    ("properties",),
    ("event", "a"),
    ("in",),
    ("properties", "items", "9"),
]


def escape(step: str) -> str:
    """A step of a path with more escapes than it needs."""
    return "".join(char if char.isascii() and char.isalnum() and at else f"\\{char}" for at, char in enumerate(step))


class Expressions:
    """Trees for the server and, with ``for_browsers``, only such as have a JSON form.

    ``calm`` leaves out what server and browsers see differently: lengths, type names, the order of strings.
    """

    def __init__(self, random: Random, *, for_browsers: bool = True, calm: bool = False) -> None:
        self._random = random
        self._for_browsers = for_browsers
        self._calm = calm

    def condition(self, depth: int = 3) -> Node:
        roll = self._random.random()
        if depth and roll < 0.25:
            return join(And, self._conditions(depth))
        if depth and roll < 0.5:
            return join(Or, self._conditions(depth))
        if depth and roll < 0.6:
            return Not(self.condition(depth - 1))
        return self._leaf()

    def _conditions(self, depth: int) -> list[Node]:
        return [self.condition(depth - 1) for _ in range(self._random.choice([2, 2, 2, 3, 4]))]

    def _leaf(self) -> Node:
        pick = self._random.choice
        match pick(["=", "=", "=", "!=", "order", "in", "contains", "match", "path", "literal", "semver"]):
            case "order":
                operator = pick(["<", "<=", ">", ">="])
                if self._calm:
                    return Comparison(operator, self._path(), Literal(pick(NUMBERS)))
                return Comparison(operator, self._side(), self._side())
            case "in":
                if not self._for_browsers and pick([True, False]):
                    return Comparison("in", self._operand(), self._path())
                items = tuple(self._item() for _ in range(self._random.randrange(4)))
                return Comparison("in", self._operand(), ListLiteral(items))
            case "contains":
                return Call("contains", (self._operand(), self._operand()))
            case "match":
                return Call("match", (self._operand(), Literal(pick(GLOBS)) if pick([1, 1, 0]) else self._operand()))
            case "semver":
                return Call("semver", (self._operand(), Literal(pick(SEMVER_OPERATORS)), self._operand()))
            case "path":
                return self._path()
            case "literal":
                return Literal(pick([True, False, None, 5, "x"]))
            case operator:
                return Comparison(operator, self._side(), self._side())

    def _side(self) -> Node:
        pick = self._random.choice
        if self._random.random() < 0.8:
            return self._operand()
        functions = ["lowercase", "contains", "match"]
        if not self._calm:
            functions += ["length", "typeof"]
        if not self._for_browsers:
            functions += ["uppercase", "snakecase", "kebabcase", "titlecase", "bool", "string", "number"]
        name = pick(functions)
        arguments = 2 if name in ("contains", "match") else 1
        argument = self._operand if self._for_browsers or pick([True, False]) else self._side
        return Call(name, tuple(argument() for _ in range(arguments)))

    def _operand(self) -> Node:
        if not self._for_browsers and self._random.random() < 0.05:
            return ListLiteral(tuple(self._item() for _ in range(self._random.randrange(4))))
        return self._path() if self._random.random() < 0.6 else self._literal()

    def _item(self) -> Path | Literal:
        return self._literal() if self._random.random() < 0.9 else Path((self._random.choice(FIELDS),))

    def _path(self) -> Path:
        absent = not self._calm and self._random.random() < 0.1
        return Path(self._random.choice(ABSENT_PATHS if absent else PATHS))

    def _literal(self) -> Literal:
        pick = self._random.choice
        return Literal(pick([pick(TEXTS), pick(TEXTS), pick(TYPE_NAMES), pick(NUMBERS), pick([True, False, None])]))


class Spelling:
    """Text of a tree with the freedom that the grammar leaves: spaces, quotes, parentheses, escapes."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def of(self, node: Node) -> str:
        match node:
            case And() | Or():
                word = "and" if isinstance(node, And) else "or"
                members = [self._member(operand, inside=word) for operand in node.operands]
                return self._parenthesised(f"{self._gap()}{self._word(word)}{self._gap()}".join(members))
            case Not():
                return f"!({self.of(node.operand)})"
            case Comparison():
                left, right = self._operand(node.left), self._operand(node.right)
                # `null=x` would be the path `null`: a keyword ends with a space.
                space = self._gap() if node.operator != "=" or left == "null" else self._random.choice(["", " ", "\n "])
                return self._parenthesised(f"{left}{space}{node.operator}{self._gap()}{right}")
            case Call():
                return f"{node.function}({self._space()}{self._list(node.arguments)}{self._space()})"
            case ListLiteral():
                return f"[{self._space()}{self._list(node.items)}{self._space()}]"
            case Path():
                return self._random.choice([".", ".", ".", " . "]).join(self._path(node))
            case Literal(value=str() as text) if "'" not in text and self._random.random() < 0.5:
                return f"'{text}'"
        return format_fql(Query(FILTER, node))

    def _path(self, node: Path) -> list[str]:
        first = format_fql(Query(FILTER, Path(node.steps[:1])))
        return [first, *(escape(step) for step in node.steps[1:])]

    def _member(self, node: Node, *, inside: str) -> str:
        needs = isinstance(node, Or) or (isinstance(node, And) and inside == "and")
        return f"({self.of(node)})" if needs else self.of(node)

    def _operand(self, node: Node) -> str:
        return f"({self.of(node)})" if isinstance(node, And | Or | Comparison | Not) else self.of(node)

    def _list(self, nodes: tuple[Node, ...]) -> str:
        return f"{self._space()},{self._space()}".join(self._operand(node) for node in nodes)

    def _parenthesised(self, text: str) -> str:
        return f"({self._space()}{text}{self._space()})" if self._random.random() < 0.15 else text

    def _word(self, word: str) -> str:
        return word.upper() if self._random.random() < 0.1 else word

    def _gap(self) -> str:
        return self._random.choice([" ", " ", "  ", "\n", "\t "])

    def _space(self) -> str:
        return self._random.choice(["", "", " ", "\n"])


class Triggers:
    """Texts of triggers that we and Segment's package take alike."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def text(self) -> str:
        members = [self._member() for _ in range(self._random.choice([1, 1, 2, 2, 3, 4]))]
        text = members[0]
        for member in members[1:]:
            text += f" {self._random.choice(['and', 'or'])} {member}"
        return text

    def _member(self) -> str:
        roll = self._random.random()
        if roll < 0.2:
            inside = [self._comparison() for _ in range(self._random.choice([1, 2, 3]))]
            return f"({self._random.choice([' and ', ' or ']).join(inside)})"
        return self._comparison() if roll < 0.65 else self._call()

    def _comparison(self) -> str:
        operator = self._random.choice(["=", "=", "!=", "!=", "<", "<=", ">", ">="])
        return f"{self._path(FIELDS)} {operator} {self._constant()}"

    def _call(self) -> str:
        negation = self._random.choice(["", "!"])
        path = self._path(FIELDS[1:])
        if self._random.random() < 0.5:
            return f"{negation}contains({path}, {self._constant()})"
        text = self._text()
        return f'{negation}match({path}, "{self._random.choice([text + "*", "*" + text.rstrip("*")])}")'

    def _path(self, fields: list[str]) -> str:
        if self._random.random() < 0.4:
            return self._random.choice(fields)
        below = [path for path in PATHS + ABSENT_PATHS if path[0] in OBJECTS]
        below += [("properties", "items[0].price"), ("traits", "nested.a"), ("context", "context")]
        root, *steps = self._random.choice(below)
        return ".".join([root, *(escape(step) for step in steps)])

    def _constant(self) -> str:
        pick = self._random.choice
        word = pick(["track", "x_y", "properties.b", "identify"])
        number = pick(["0", "1", "-1", "+5", "5", "5.0", "0.50", "-2.25", "007", "1000"])
        return pick([f'"{self._text()}"', f'"{self._text()}"', number, pick(["true", "false", "null"]), word])

    def _text(self) -> str:
        return self._random.choice(TEXTS).replace('"', "")


class Events:
    """Events that fit and events that do not. ``whole`` ones have something at every path of ``PATHS``."""

    def __init__(self, random: Random, *, whole: bool = False) -> None:
        self._random = random
        self._whole = whole

    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = {}
        for field in FIELDS:
            if self._has():
                likely = TEXTS[1:6] if field in ("type", "event") else TEXTS
                odd = [None, 5, True] if self._odd() else []
                event[field] = self._random.choice([*likely, self._random.choice(TEXTS), *odd])
        for root in OBJECTS:
            if self._has():
                event[root] = self._object()
                if not self._whole and self._odd():
                    event[root] = self._random.choice([None, [], "", 0, "x"])
        return event

    def _object(self) -> dict[str, Any]:
        found: dict[str, Any] = {key: self.value() for key in KEYS if self._has()}
        if self._has():
            found["nested"] = {key: self.value() for key in "abc" if self._has()} if not self._odd() else self.scalar()
        if self._whole:
            found["nested"] = {key: self.value() for key in "abc"}
        if self._has():
            er = {"still": self.value()} if self._whole or not self._odd() else self.scalar()
            found["deep"] = {"er": er}
        if self._has():
            found["items"] = [{"price": self.value()}, {"price": self.value()}]
            if not self._whole and self._odd():
                found["items"] = self._random.choice([None, 0, {}, [], False, [{"price": self.value()}]])
        return found

    def value(self, depth: int = 2) -> Any:
        roll = self._random.random()
        if depth and roll < 0.1:
            return [self.value(depth - 1) for _ in range(self._random.randrange(3))]
        if depth and roll < 0.2:
            keys = self._random.sample(["a", "b", "c", "über"], self._random.randrange(3))
            return {key: self.value(depth - 1) for key in keys}
        return self.scalar()

    def scalar(self) -> Any:
        pick = self._random.choice
        return pick([pick(TEXTS), pick(TEXTS), pick(NUMBERS), pick([True, False, None])])

    def _has(self) -> bool:
        return self._whole or self._random.random() < 0.75

    def _odd(self) -> bool:
        return self._random.random() < 0.15
