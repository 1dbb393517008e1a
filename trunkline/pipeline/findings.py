"""What was found to be wrong with an event: counted, scored, and put into words where it is told."""

from __future__ import annotations

from typing import Final, NamedTuple

from trunkline.spec.violations import Violation

MAX_VIOLATIONS: Final = 20
"""Of one event by one schema; the first ones count."""
MAX_TEXT: Final = 1000
"""Characters of a field or a description; the rest is cut off."""

Path = tuple[str | int, ...]


class Finding(NamedTuple):
    """``culprit``: the path of the value that must go for the violation to be gone; empty where there is none."""

    violation: Violation
    culprit: Path


class Enough(Exception):
    """A result has as many findings as are asked for."""


class Note(NamedTuple):
    """A finding that is not put into words yet: most are only counted. ``path`` is that of the field."""

    kind: str
    path: Path
    description: str
    culprit: Path
    names_field: bool
    """Whether the description begins with the field."""

    def finding(self) -> Finding:
        field = ".".join(map(str, self.path)) if self.path else "(root)"
        description = f"{field} {self.description}" if self.names_field else self.description
        violation = Violation(self.kind.replace("_", " ").title(), _cut(field), _cut(description))
        return Finding(violation, self.culprit)


class Result:
    __slots__ = ("_most", "count", "notes", "score")

    def __init__(self, most: int = 0) -> None:
        """``most``: raise Enough when there are so many findings; 0 if only the score tells."""
        self._most = most
        self.notes: list[Note] = []
        """The first MAX_VIOLATIONS."""
        self.count = 0
        self.score = 0

    def add(
        self, kind: str, path: Path, description: str, culprit: Path | None = None, *, names_field: bool = False
    ) -> None:
        """``path`` is the culprit too unless another is named."""
        self.count += 1
        self.score -= 2
        if len(self.notes) < MAX_VIOLATIONS:
            self.notes.append(Note(kind, path, description, path if culprit is None else culprit, names_field))
            if len(self.notes) == self._most:
                raise Enough

    def merge(self, other: Result) -> None:
        self.count += other.count
        self.score += other.score
        for note in other.notes[: MAX_VIOLATIONS - len(self.notes)]:
            self.notes.append(note)
            if len(self.notes) == self._most:
                raise Enough


def better_of(best: Result | None, part: Result) -> Result:
    """The one with more points; of equals the first."""
    return part if best is None or part.score > best.score else best


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
