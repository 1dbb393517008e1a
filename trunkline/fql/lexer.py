"""From text to tokens (``spec/event_path.md`` §5.2). One pass, no backtracking."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from trunkline.fql.errors import FqlSyntaxError

MAX_FQL_BYTES: Final = 5 * 1024
"""The size of one expression, in bytes of UTF-8 (§5.1)."""
MAX_NUMBER_CHARACTERS: Final = 300

WORD, STRING, NUMBER, END = "word", "string", "number", "end"
KEYWORDS: Final = frozenset({"and", "or", "null"})
COMPARATORS: Final = ("!=", "<=", ">=", "=", "<", ">")

_SPACE: Final = re.compile(r"[ \t\n]*")
_WORD: Final = re.compile(r"(?:[A-Za-z_]|\\[\s\S])(?:[A-Za-z0-9_-]|\\[\s\S])*")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_ESCAPE: Final = re.compile(r"\\([\s\S])")
_AFTER_WORD: Final = frozenset(" \t\n,]).(=!")
_AFTER_KEYWORD: Final = frozenset(" \t\n,])")


@dataclass(frozen=True, slots=True)
class Token:
    """``kind`` is a word for words, strings, numbers and the end, and the sign itself for everything else."""

    kind: str
    text: str
    """As written."""
    value: str
    """Without quotes and escapes."""
    offset: int

    @property
    def is_plain(self) -> bool:
        """A word without an escape: only such a word can be ``true``, ``in`` or ``all``."""
        return self.kind == WORD and "\\" not in self.text

    def described(self) -> str:
        return "the end" if self.kind == END else f"`{self.text[:40]}`"


def tokens_of(text: str, max_bytes: int = MAX_FQL_BYTES) -> list[Token]:
    """All tokens, the last one is the end.

    Raises:
        FqlSyntaxError: a character that can't stand where it stands, or more than ``max_bytes`` of UTF-8.
    """
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > max_bytes:
        raise FqlSyntaxError(
            f"the expression has {size_bytes:,} bytes and may have {max_bytes:,}",
            mend="split it into several filters, or use `in` with a list instead of many `or`",
        )
    tokens: list[Token] = []
    offset = 0
    while True:
        space = _SPACE.match(text, offset)
        offset = space.end() if space else offset
        if offset == len(text):
            tokens.append(Token(END, "", "", offset))
            return tokens
        after_dot = bool(tokens) and tokens[-1].kind == "."
        token = _token_at(text, offset, after_dot=after_dot)
        tokens.append(token)
        offset += len(token.text)


def _token_at(text: str, offset: int, *, after_dot: bool) -> Token:
    char = text[offset]
    if char in ".,()[]":
        return Token(char, char, char, offset)
    if char in "\"'":
        return _string(text, offset)
    if char == "!" and _follows_negation(text, offset + 1):
        return Token("!", char, char, offset)
    for sign in COMPARATORS:
        if text.startswith(sign, offset):
            return Token(sign, sign, sign, offset)
    if word := _WORD.match(text, offset):
        return _word(text, word.group(), offset, after_dot=after_dot)
    if number := _NUMBER.match(text, offset):
        return _number(text, number.group(), offset)
    raise FqlSyntaxError(f"{_shown(char)} can't stand here", text=text, offset=offset, mend=_mend_of(char))


def _follows_negation(text: str, offset: int) -> bool:
    following = text[offset : offset + 1]
    return following == "(" or (following.isascii() and following.isalpha())


def _shown(char: str) -> str:
    return f"`{char}`" if char.isprintable() else f"the character U+{ord(char):04X}"


def _mend_of(char: str) -> str:
    if char == "!":
        return "`!` stands directly before a function, a name or `(`; write `!( … )` around anything else"
    if char == "\\":
        return "a backslash takes the character after it literally, so the expression can't end with one"
    if char == "\r":
        return "end lines with a line feed alone"
    if char in "+-":
        return "a sign belongs to a number: `-5`, `-0.5`"
    if char in "\u201c\u201d\u2018\u2019`":
        return "quote strings with \" or '"
    if char in "&|":
        word = "and" if char == "&" else "or"
        return f"to join conditions write `{word}`; in a path write `\\{char}`, and put text in quotes"
    return f"in a path write `\\{char}`, and put text in quotes"


def _string(text: str, offset: int) -> Token:
    end = text.find(text[offset], offset + 1)
    if end < 0:
        raise FqlSyntaxError(
            "a string begins here and never ends",
            text=text,
            offset=offset,
            expected=f"a closing {text[offset]}",
            mend="close it with the quote that it began with; around a quote use the other kind",
        )
    return Token(STRING, text[offset : end + 1], text[offset + 1 : end], offset)


def _word(text: str, written: str, offset: int, *, after_dot: bool) -> Token:
    end = offset + len(written)
    following = text[end : end + 1]
    keyword = written.lower()
    is_keyword = (keyword in ("and", "or") or written == "null") and not after_dot
    if is_keyword and (not following or following in _AFTER_KEYWORD):
        return Token(keyword, written, keyword, offset)
    if following and following not in _AFTER_WORD:
        raise FqlSyntaxError(
            f"{_shown(following)} can't follow a name directly",
            text=text,
            offset=end,
            expected="a space, `.`, `,`, `(`, `)`, `]`, `=` or `!=`",
            mend=_mend_of(following)
            if following in "\r\\"
            else f"put a space before it, or write `\\{following}` when it belongs to the name",
        )
    return Token(WORD, written, _ESCAPE.sub(r"\1", written), offset)


def _number(text: str, written: str, offset: int) -> Token:
    if len(written) > MAX_NUMBER_CHARACTERS:
        raise FqlSyntaxError(
            f"a number of {len(written):,} digits", text=text, offset=offset, mend="numbers have at most 300 digits"
        )
    if text[offset + len(written) : offset + len(written) + 1] == ".":
        raise FqlSyntaxError(
            "a second or a last point in a number",
            text=text,
            offset=offset + len(written),
            expected="digits on both sides of one point",
            mend="write `5`, `5.0` or `0.5`; put versions such as 1.2.3 in quotes",
        )
    return Token(NUMBER, written, written, offset)
