"""From a tree to a predicate on events: closures first, a function of its own once it is asked often.

::

    tree ── Closures.truth ──► closures, the reference, at once (15 µs)
      └──── generate ────────► one Python function, later       (40 to 250 µs; 4 ms for the largest)

To generate costs as much as a thousand evaluations save, and a workspace may have a thousand filters. So closures
answer first, ``EVALUATIONS_BEFORE`` times and more: predicates take turns, lest all that look at the same events are
generated during the same event.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from types import FunctionType
from typing import Any, Final

from trunkline.fql.closures import Closures
from trunkline.fql.generator import can_generate, generate
from trunkline.fql.paths import Event, Predicate
from trunkline.fql.tree import Query

EVALUATIONS_BEFORE: Final = 1_000
EVALUATIONS_BETWEEN: Final = 16
TURNS: Final = 1_024

_turns: Final = itertools.count()


def compile_fql(query: Query, *, at_once: bool = False) -> Predicate:
    """A predicate on events: decoded JSON objects, read and never changed. It always answers and never raises.

    ``at_once``: generate the function now, for what is going to be asked very often.
    """
    closure = Closures(query.dialect).truth(query.root)
    if not can_generate(query):
        return closure
    warming = _Warming(query, closure)
    if at_once:
        warming.generate()
    return warming.predicate


class _Warming:
    """Answers by closures, and after so many evaluations gives its function the code that was generated.

    To change the code of a function costs nothing afterwards; a function around the two would cost a call for ever.
    """

    def __init__(self, query: Query, closure: Predicate) -> None:
        self._query = query
        self._closure = closure
        self._evaluations_left = EVALUATIONS_BEFORE + next(_turns) % TURNS * EVALUATIONS_BETWEEN
        self._names: dict[str, Any] = {"answer": self._answer}
        self.predicate = FunctionType(_ask.__code__, self._names)

    def generate(self) -> None:
        code, names = generate(self._query)
        self._names.update(names)
        self.predicate.__code__ = code
        self._names["answer"] = self.predicate  # for a thread that has just entered `_ask`; and frees the closures

    def _answer(self, event: Event) -> bool:
        self._evaluations_left -= 1
        if self._evaluations_left == 0:
            with suppress(RecursionError):  # the caller stands too deep: closures go on
                self.generate()
        return self._closure(event)


def _ask(event: Event) -> bool:
    """The code of a predicate that is not generated yet. Its globals are ``_Warming._names``."""
    return answer(event)  # type: ignore[name-defined, no-any-return]  # noqa: F821
