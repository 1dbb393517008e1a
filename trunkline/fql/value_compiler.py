"""FQL where a value is wanted instead of an answer: the computed properties of transformations (``spec/event_path.md``
§4.7), such as ``titlecase(properties.plan)`` or ``context.app.version``.

Any expression is a value: a path what stands there, a constant itself, a function its result, a comparison ``true`` or
``false``.
"""

from __future__ import annotations

from typing import Final

from trunkline.fql import functions
from trunkline.fql.compiler import compile_fql
from trunkline.fql.dialects import FILTER
from trunkline.fql.errors import FqlSyntaxError
from trunkline.fql.parser import parse_fql
from trunkline.fql.paths import Getter, getter_of
from trunkline.fql.tree import All, Call, ListLiteral, Literal, Path, Query

_CONDITIONS: Final = frozenset({"contains", "match", "semver"})
"""The functions whose answer is a condition's."""


def parse_fql_value(text: str) -> Query:
    """The value that this text is, in the dialect of filters.

    Raises:
        FqlSyntaxError: it is not FQL, or the word ``all``, which is no value.
    """
    query = parse_fql(text, FILTER)
    if isinstance(query.root, All):
        raise FqlSyntaxError(
            "`all` is a condition",
            text=text,
            offset=query.root.offset,
            expected="a value",
            mend="write a path, a constant or a function, as `lowercase(properties.plan)`",
        )
    return query


def compile_value(query: Query) -> Getter:
    """Reads the value of an event: decoded JSON that is never changed, though lists and objects may be the event's own.

    Null where nothing stands and where types do not fit. Never raises.
    """
    dialect = query.dialect
    match query.root:
        case Path(steps):
            return getter_of(steps, dialect.missing)
        case Literal(constant):
            return lambda event: constant
        case ListLiteral(items):
            getters = [compile_value(Query(dialect, item)) for item in items]
            return lambda event: [get(event) for get in getters]
        case Call(name, arguments) if name not in _CONDITIONS:
            change = functions.one_argument(name, dialect)
            argument = compile_value(Query(dialect, arguments[0]))
            return lambda event: change(argument(event))
    return compile_fql(query)
