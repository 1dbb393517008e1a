"""From tokens to a tree: recursive descent over the grammar of ``spec/event_path.md`` §5.3."""

from __future__ import annotations

from typing import Final

from trunkline.fql.dialects import FILTER, FUNCTIONS, Conditions, Dialect
from trunkline.fql.errors import FqlSyntaxError, FqlUnsupportedError
from trunkline.fql.lexer import COMPARATORS, END, MAX_FQL_BYTES, NUMBER, STRING, WORD, Token, tokens_of
from trunkline.fql.tree import (
    All,
    And,
    Call,
    Comparison,
    ListLiteral,
    Literal,
    Node,
    Not,
    Or,
    Path,
    Query,
    depth_of,
    join,
)
from trunkline.fql.triggers import check_trigger

MAX_DEPTH: Final = 25
"""Groups, negations, comparisons and calls inside each other."""
MAX_BRACKETS: Final = 60
"""Parentheses inside each other, needed or not; more than ``format_fql`` ever writes for a tree of that depth."""

ARITY: Final = dict.fromkeys(FUNCTIONS, 1) | {"contains": 2, "match": 2, "semver": 3}
_MEND_DEPTH: Final = "take out parentheses that are not needed, or split the expression"
_OPERATORS: Final = frozenset(COMPARATORS)
_WORDS: Final = {"true": True, "false": False}


def parse_fql(text: str, dialect: Dialect = FILTER, *, max_bytes: int = MAX_FQL_BYTES) -> Query:
    """The expression that this text is.

    ``max_bytes`` is for texts of our own: what ``format_fql`` writes can be longer than what was read.

    Raises:
        FqlSyntaxError: it is not FQL; says where, what was expected and how to mend it.
        FqlUnsupportedError: it is, but not in this dialect.
    """
    tokens = tokens_of(text, max_bytes)
    if dialect.takes_all and len(tokens) == 2 and tokens[0].is_plain and tokens[0].value == "all":
        return Query(dialect, All(tokens[0].offset))
    root = _Parser(text, tokens, dialect).whole()
    if (depth := depth_of(root)) > MAX_DEPTH:
        raise FqlSyntaxError(f"{depth} conditions inside each other, and {MAX_DEPTH} are allowed", mend=_MEND_DEPTH)
    if dialect.conditions is Conditions.TRIGGER_CONDITIONS:
        check_trigger(root, text)
    return Query(dialect, root)


class _Parser:
    def __init__(self, text: str, tokens: list[Token], dialect: Dialect) -> None:
        self._text = text
        self._tokens = tokens
        self._dialect = dialect
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        if self._tokens[0].kind == END:
            raise self._error("the expression is empty", expected="a condition", mend='write one, as `type = "track"`')
        root = self._conditions()
        token = self._peek()
        if token.kind != END:
            raise self._error(
                f"{token.described()} stands where the expression could end",
                expected="`and`, `or` or the end",
                mend="put a space after `and`, `or`"
                if token.value.lower() in ("and", "or")
                else "join conditions with `and` or `or`; a comparison has one operator",
            )
        return root

    def _conditions(self) -> Node:
        """Operands of ``and`` and ``or``; how they group is the dialect's."""
        if self._dialect.last_word_joins:
            return self._last_word_joins()
        alternatives = [self._conjunction()]
        while self._accept("or"):
            alternatives.append(self._conjunction())
        return join(Or, alternatives)

    def _conjunction(self) -> Node:
        operands = [self._unary()]
        while self._accept("and"):
            operands.append(self._unary())
        return join(And, operands)

    def _last_word_joins(self) -> Node:
        operands = [self._unary()]
        word = "and"
        while (kind := self._peek().kind) in ("and", "or"):
            word = kind
            self._take()
            operands.append(self._unary())
        return join(And if word == "and" else Or, operands)

    def _unary(self) -> Node:
        token = self._peek()
        if token.kind != "!":
            return self._comparison()
        self._take()
        return Not(self._unary(), token.offset)

    def _comparison(self) -> Node:
        left = self._operand()
        token = self._peek()
        if token.kind in _OPERATORS:
            operator = token.kind
        elif token.is_plain and token.value == "in":
            operator = "in"
        else:
            return left
        self._take()
        right = self._operand()
        if operator == "in" and not isinstance(right, ListLiteral | Path):
            raise self._error(
                "`in` looks into a list",
                at=right.offset,
                expected="a list or a path",
                mend='write `type in ["track", "page"]` or `"x" in properties.tags`',
            )
        return Comparison(operator, left, right, left.offset)

    def _operand(self) -> Node:
        token = self._peek()
        if token.kind == "(":
            self._take()
            self._enter(token)
            inside = self._conditions()
            self._close(")", token)
            return inside
        if token.kind == "[":
            return self._list()
        if token.kind in (STRING, NUMBER, "null"):
            return self._literal()
        if token.kind == WORD:
            if self._tokens[self._next + 1].kind == "(":
                return self._call()
            return self._path()
        before = self._tokens[self._next - 1] if self._next else None
        doubled = token.kind == "=" and before is not None and before.kind == "="
        raise self._error(
            f"{token.described()} can't stand here",
            expected="a path, a value, a function or `(`",
            mend="write one `=`" if doubled else "text stands in quotes, paths and functions stand bare",
        )

    def _list(self) -> ListLiteral:
        opening = self._take()
        items: list[Path | Literal] = []
        if self._peek().kind != "]":
            items.append(self._item())
            while self._accept(","):
                items.append(self._item())
        if not self._accept("]"):
            raise self._unclosed("]", opening)
        return ListLiteral(tuple(items), opening.offset)

    def _item(self) -> Path | Literal:
        kind = self._peek().kind
        if kind in (STRING, NUMBER, "null"):
            return self._literal()
        if kind == WORD and self._tokens[self._next + 1].kind != "(":
            return self._path()
        raise self._error(
            f"{self._peek().described()} can't be an item of a list",
            expected="a value or a path",
            mend="lists hold strings, numbers, `true`, `false`, `null` and paths, with commas between them",
        )

    def _literal(self) -> Literal:
        token = self._take()
        if token.kind == STRING:
            return Literal(token.value, token.offset)
        if token.kind == NUMBER:
            return Literal(float(token.value) if "." in token.value else int(token.value), token.offset)
        return Literal(None, token.offset)

    def _path(self) -> Path | Literal:
        first = self._take()
        steps = [first.value]
        while self._accept("."):
            if self._peek().kind != WORD:
                raise self._error(
                    f"{self._peek().described()} can't follow the point of a path",
                    expected="a name",
                    mend="a name that begins with something else than a letter or `_` is escaped: `properties.\\1st`",
                )
            steps.append(self._take().value)
        if len(steps) == 1 and first.is_plain and first.value in _WORDS:
            return Literal(_WORDS[first.value], first.offset)
        return Path(tuple(steps), first.offset)

    def _call(self) -> Call:
        name = self._take()
        if not name.is_plain or name.value not in self._dialect.functions:
            known = ", ".join(sorted(self._dialect.functions))
            mend = f"there are {known}"
            if name.value.lower() in ("and", "or", "in"):
                mend = f"put a space after `{name.text}`"
            error = FqlUnsupportedError if name.value in FUNCTIONS else FqlSyntaxError
            where = " in a trigger" if name.value in FUNCTIONS else ""
            raise error(
                f"there is no function {name.described()}{where}", text=self._text, offset=name.offset, mend=mend
            )
        opening = self._take()
        self._enter(name)
        arguments: list[Node] = []
        if self._peek().kind != ")":
            arguments.append(self._argument())
            while self._accept(","):
                arguments.append(self._argument())
        self._close(")", opening)
        if len(arguments) != ARITY[name.value]:
            raise self._error(
                f"`{name.value}` has {len(arguments)} arguments",
                at=name.offset,
                expected=f"{ARITY[name.value]}",
                mend='separate arguments by commas, as in `contains(event, "Order")`',
            )
        return Call(name.value, tuple(arguments), name.offset)

    def _argument(self) -> Node:
        return self._comparison() if self._peek().kind != "!" else self._unary()

    def _enter(self, token: Token) -> None:
        self._depth += 1
        if self._depth > MAX_BRACKETS:
            raise self._error(
                f"more than {MAX_BRACKETS} parentheses inside each other", at=token.offset, mend=_MEND_DEPTH
            )

    def _close(self, kind: str, opening: Token) -> None:
        if not self._accept(kind):
            raise self._unclosed(kind, opening)
        self._depth -= 1

    def _unclosed(self, kind: str, opening: Token) -> FqlSyntaxError:
        return self._error(
            f"{self._peek().described()} can't stand here",
            expected=f"`{kind}` for the `{opening.text}` at character {opening.offset + 1}",
            mend=f"close what `{opening.text}` opens, and separate items by commas",
        )

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _accept(self, kind: str) -> bool:
        if self._tokens[self._next].kind != kind:
            return False
        self._next += 1
        return True

    def _error(self, problem: str, *, mend: str, expected: str = "", at: int | None = None) -> FqlSyntaxError:
        offset = self._peek().offset if at is None else at
        return FqlSyntaxError(problem, text=self._text, offset=offset, expected=expected, mend=mend)
