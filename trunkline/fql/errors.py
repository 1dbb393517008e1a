"""What is wrong with an expression.

::

    FqlError                the expression can't be used
    ├── FqlSyntaxError      it can't be read: characters, grammar, size, nesting, unknown functions
    └── FqlUnsupportedError it can be read, but says what this place can't do: a trigger, a browser
"""

from __future__ import annotations


class FqlError(ValueError):
    """An expression that can't be used, and how to mend it.

    ``offset`` counts characters from 0; ``line`` and ``column`` count from 1. ``expected`` says what could have stood
    there, ``""`` when that is no help. An expression without text (from the JSON form) has offset 0.
    """

    def __init__(self, problem: str, *, mend: str, text: str = "", offset: int = 0, expected: str = "") -> None:
        self.problem = problem
        self.mend = mend
        self.expected = expected
        self.offset = offset
        before = text[:offset]
        self.line = before.count("\n") + 1
        self.column = offset - (before.rfind("\n") + 1) + 1
        expectation = f", expected {expected}" if expected else ""
        super().__init__(f"line {self.line}, column {self.column}: {problem}{expectation}; {mend}")


class FqlSyntaxError(FqlError):
    """The text is not FQL."""


class FqlUnsupportedError(FqlError):
    """FQL, but not what the place it is for can evaluate."""
