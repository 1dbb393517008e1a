"""What is wrong with a workspace's file: where, why, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

import msgspec

MAX_PROBLEMS: Final = 500


class Problem(msgspec.Struct, frozen=True):
    """One thing to mend, or one thing to know. ``line`` and ``column`` count from 1; 0 means the whole file."""

    file: str
    line: int
    column: int
    path: str
    """Such as ``destinations[0].settings.url``; empty for the whole file."""
    reason: str
    mend: str

    def __str__(self) -> str:
        """``acme.yaml:12:7 destinations[0].settings.url: not a URL. Write http:// in front of the host.``"""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        subject = f"{place} {self.path}" if self.path else place
        line = " ".join(f"{subject}: {sentence(self.reason)} {sentence(self.mend)}".split())
        # What stands in the file must not steer the terminal.
        return "".join(character if character.isprintable() else "�" for character in line)


class Report:
    """Collects problems and notes of one file. Keeps the first ``MAX_PROBLEMS`` and says when there were more."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.notes: list[Problem] = []
        self._problems: list[Problem] = []
        self._left_out = 0

    def problem(self, line: int, column: int, path: str, reason: str, mend: str) -> None:
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(Problem(self.file, line, column, path, reason, mend))
        else:
            self._left_out += 1

    def note(self, line: int, column: int, path: str, reason: str, mend: str) -> None:
        if len(self.notes) < MAX_PROBLEMS:
            self.notes.append(Problem(self.file, line, column, path, reason, mend))

    @property
    def problems(self) -> list[Problem]:
        """In the order of the file."""
        found = sorted(self._problems, key=lambda problem: (problem.line, problem.column))
        if self._left_out:
            mend = "Mend these first"
            found.append(Problem(self.file, 0, 0, "", f"{self._left_out} more problems are not listed", mend))
        return found


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    # The search is quadratic in the length of a word; no key of ours is longer than this.
    matches = get_close_matches(word[:80], list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def sentence(text: str) -> str:
    """With a full stop, unless it ends with a mark."""
    return text if not text or text.endswith((".", "?", "!")) else text + "."


def capitalised(text: str) -> str:
    """As a sentence begins."""
    return text[:1].upper() + text[1:]


def shown(text: str) -> str:
    """A value for a message, on one line and not too long."""
    short = text if len(text) <= 60 else text[:57] + "…"
    return '"' + "".join(character if character.isprintable() else "�" for character in short) + '"'
