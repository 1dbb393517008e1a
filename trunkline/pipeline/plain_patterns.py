"""Patterns that Python's expressions can ask in place of the schema engine's: whatever they find, the engine finds.

The other way round need not hold: ``.`` stands for printable ASCII, ``\\d`` for ten digits. Only anchored patterns of
single characters, of which at most one repeats without a fixed number, so time is in proportion to the text.
"""

from __future__ import annotations

import re
from typing import Final

_PIECE: Final = re.compile(
    r"(?P<literal>[A-Za-z0-9 _,:;@/#%&='\"<>!~`-]|\\[-./+*?()|{}^$\[\]\\])"
    r"|(?P<class>\[(?:[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|[A-Za-z0-9_ .])+-?\])"
    r"|(?P<short>\\d|\\w|\.)"
)
_REPEAT: Final = re.compile(r"\{([1-9][0-9]?)\}|[+*?]")
_SHORT: Final = {"\\d": "[0-9]", "\\w": "[A-Za-z0-9_]", ".": "[ -~]"}
_MAX_LENGTH: Final = 200


def plain_pattern(pattern: str) -> str | None:
    """The expression for ``re.search``; None for a pattern that is not plain."""
    if not pattern.startswith("^") or len(pattern) > _MAX_LENGTH:
        return None
    written = [r"\A"]
    repeats = 0
    at = 1
    while at < len(pattern):
        if pattern[at:] == "$":
            written.append(r"\Z")
            break
        piece = _PIECE.match(pattern, at)
        if piece is None:
            return None
        at = piece.end()
        written.append(_SHORT.get(piece.group(), piece.group()))
        repeat = _REPEAT.match(pattern, at)
        if repeat is not None:
            repeats += repeat.group(1) is None
            at = repeat.end()
            written.append(repeat.group())
        if repeats > 1 or (at < len(pattern) and pattern[at] in "+*?{"):
            return None
    return "".join(written)
