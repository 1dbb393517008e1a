"""A tracking plan outside of the workspace's file: what its rules are, not which sources follow it, nor how.

Errors::

    PlanFileError    the file is no plan, or can't hold this one; its problems say where, why, and how to mend it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from trunkline.spec.plans import Rule, TrackingPlan
from trunkline.workspace.problem import sentence

MAX_FILE_BYTES: Final = 15 * 2**20
"""As Segment has it for CSV (``spec/event_path.md`` §4.1)."""
MAX_PROBLEMS: Final = 500


class FileProblem(NamedTuple):
    """``place`` is a path such as ``rules[3].jsonSchema.type``, or of a table ``row 7, Property Name``; empty for the
    whole file. ``row`` counts from 1, the header included; 0 where there are none."""

    place: str
    reason: str
    mend: str
    row: int = 0

    def __str__(self) -> str:
        text = f"{self.place}: {self.reason}" if self.place else self.reason
        return f"{sentence(text)} {sentence(self.mend)}"


class PlanFileError(Exception):
    """The first ``MAX_PROBLEMS`` problems, at least one."""

    def __init__(self, problems: Sequence[FileProblem]) -> None:
        super().__init__("; ".join(map(str, problems[:3])))
        self.problems = tuple(problems[:MAX_PROBLEMS])


@dataclass(frozen=True)
class PlanFile:
    """``slug`` and ``name`` are empty if the file does not say them."""

    slug: str
    name: str
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, plan: TrackingPlan) -> PlanFile:
        return cls(plan.slug, plan.name, plan.rules)
