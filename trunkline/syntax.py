"""The few forms of Python that are generated, as nodes of ``ast``: predicates for expressions and for schemas.

Nothing here takes source text. A name is one of ours (``_NAME``), everything of the user's is a constant.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from types import CodeType
from typing import Any, Final, TypedDict

_NAME: Final = re.compile(r"[a-z]+[0-9]*")
_LOAD: Final = ast.Load()
_STORE: Final = ast.Store()
_OPERATORS: Final[dict[str, ast.cmpop]] = {
    "==": ast.Eq(),
    "!=": ast.NotEq(),
    "<": ast.Lt(),
    "<=": ast.LtE(),
    ">": ast.Gt(),
    ">=": ast.GtE(),
    "in": ast.In(),
    "not in": ast.NotIn(),
    "is": ast.Is(),
    "is not": ast.IsNot(),
}


class _Place(TypedDict):
    lineno: int
    col_offset: int


_AT: Final[_Place] = {"lineno": 1, "col_offset": 0}


def constant(value: str | float | bool | frozenset[str] | None) -> ast.Constant:
    return ast.Constant(value, **_AT)  # type: ignore[arg-type]  # typeshed forgets frozenset


def name(identifier: str) -> ast.Name:
    return ast.Name(_ours(identifier), _LOAD, **_AT)


def assigned(identifier: str, value: ast.expr) -> ast.NamedExpr:
    return ast.NamedExpr(ast.Name(_ours(identifier), _STORE, **_AT), value, **_AT)


def compared(left: ast.expr, operator: str, right: ast.expr) -> ast.Compare:
    return ast.Compare(left, [_OPERATORS[operator]], [right], **_AT)


def called(function: ast.expr, *arguments: ast.expr) -> ast.Call:
    return ast.Call(function, list(arguments), [], **_AT)


def method(subject: ast.expr, identifier: str) -> ast.Attribute:
    return ast.Attribute(subject, _ours(identifier), _LOAD, **_AT)


def attribute(subject: ast.expr, identifier: str) -> ast.Attribute:
    """``identifier``: a field of one of our structs, checked by the caller's own list of them."""
    assert identifier.isidentifier(), identifier
    return ast.Attribute(subject, identifier, _LOAD, **_AT)


def item(subject: ast.expr, key: ast.expr) -> ast.expr:
    """``subject[key]``"""
    return ast.Subscript(subject, key, _LOAD, **_AT)


def beginning(text: ast.expr, size: int) -> ast.expr:
    """``text[:size]``"""
    return ast.Subscript(text, ast.Slice(None, constant(size), None, **_AT), _LOAD, **_AT)


def end(text: ast.expr, size: int) -> ast.expr:
    """``text[-size:]``"""
    return ast.Subscript(text, ast.Slice(constant(-size), None, None, **_AT), _LOAD, **_AT)


def every(tests: Sequence[ast.expr]) -> ast.expr:
    return tests[0] if len(tests) == 1 else ast.BoolOp(ast.And(), list(tests), **_AT)


def any_of(tests: Sequence[ast.expr]) -> ast.expr:
    return tests[0] if len(tests) == 1 else ast.BoolOp(ast.Or(), list(tests), **_AT)


def negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test, **_AT)


def choice(test: ast.expr, then: ast.expr, otherwise: ast.expr) -> ast.expr:
    return ast.IfExp(test, then, otherwise, **_AT)


_ANSWERS: Final = {answer: ast.Return(constant(answer), **_AT) for answer in (False, True)}


def predicate(test: ast.expr) -> CodeType:
    """The code of this function; nothing is run to make it::

    def predicate(event):
        try:
            if test:
                return True
            return False
        except error:
            return closures(event)
    """
    return _function("event", _unless_error(test, called(name("closures"), name("event"))))


def checked_predicate(parameter: str, test: ast.expr, enclosing: Iterable[str]) -> CodeType:
    """As :func:`predicate`, but False where ``error`` is raised. Of ``enclosing``, the names that are used become the
    code's free variables."""
    return _inner_function(_ours(parameter), _unless_error(test, constant(value=False)), enclosing)


def predicate_of_items(test: ast.expr, enclosing: Iterable[str]) -> CodeType:
    """The code of this function, where what is raised is left to the caller::

    def predicate(items):
        for item in items:
            if test:
                continue
            return False
        return True
    """
    body: list[ast.stmt] = [ast.If(test, [ast.Continue(**_AT)], [], **_AT), _ANSWERS[False]]
    loop = ast.For(ast.Name("item", _STORE, **_AT), name("items"), body, [], None, **_AT)
    return _inner_function("items", [loop, _ANSWERS[True]], enclosing)


def _unless_error(test: ast.expr, otherwise: ast.expr) -> list[ast.stmt]:
    handler = ast.ExceptHandler(name("error"), None, [ast.Return(otherwise, **_AT)], **_AT)
    return [ast.Try(_answer(test), [handler], [], [], **_AT)]


def _answer(test: ast.expr) -> list[ast.stmt]:
    # A test that ends in jumps is faster than one whose value is returned.
    return [
        ast.If(test, [_ANSWERS[True]], [], **_AT),
        _ANSWERS[False],
    ]


def _function(parameter: str, body: list[ast.stmt]) -> CodeType:
    return _compiled(_definition([parameter], body))


def _inner_function(parameter: str, body: list[ast.stmt], enclosing: Iterable[str]) -> CodeType:
    inner = _definition([parameter], body)
    return _only_code(_compiled(_definition(map(_ours, enclosing), [inner])).co_consts)


def _definition(parameters: Iterable[str], body: list[ast.stmt]) -> ast.FunctionDef:
    arguments = [ast.arg(parameter, **_AT) for parameter in parameters]
    return ast.FunctionDef("predicate", ast.arguments([], arguments, None, [], [], None, []), body, [], **_AT)


def _compiled(function: ast.FunctionDef) -> CodeType:
    module = compile(ast.Module([function], []), "<generated>", "exec", dont_inherit=True)
    return _only_code(module.co_consts)


def _only_code(constants: Sequence[Any]) -> CodeType:
    (code,) = [item for item in constants if isinstance(item, CodeType)]
    return code


def _ours(identifier: str) -> str:
    assert _NAME.fullmatch(identifier), identifier
    return identifier
