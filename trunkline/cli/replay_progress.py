"""How far a replay is, from the state and its plan."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trunkline.cli.times import time_text
from trunkline.replay.books import ReplayBooks, count_replay
from trunkline.replay.model import ReplaySpec
from trunkline.state.base import State

ENDED: Final = frozenset({"done", "cancelled"})


@dataclass(slots=True)
class ReplayProgress:
    """``status`` is running, paused, cancelling, cancelled or done. ``events_per_s`` None: not measured."""

    spec: ReplaySpec
    books: ReplayBooks
    status: str
    problems: list[str]
    events_per_s: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """At the rate that was measured; None when nothing can be said."""
        if not self.events_per_s:
            return None
        return self.books.pending / self.events_per_s

    def as_json(self) -> dict[str, Any]:
        spec = self.spec
        return {
            "id": spec.id,
            "destination": spec.destination,
            "status": self.status,
            "started_at": time_text(spec.created_at_ms),
            "sources": spec.sources,
            "since": None if spec.since_ms is None else time_text(spec.since_ms),
            "until": None if spec.until_ms is None else time_text(spec.until_ms),
            "types": spec.types,
            "names": spec.names,
            "gap": bool(spec.ranges),
            "rate_limit": spec.events_per_s,
            **dataclasses.asdict(self.books),
            "events_per_s": self.events_per_s,
            "seconds_left": self.seconds_left,
            "problems": self.problems,
        }


def read_progress(state: State, directory: Path, spec: ReplaySpec) -> ReplayProgress:
    """``state`` must have been read before this call. Raises PlanDamaged."""
    books, problems = count_replay(state, directory, spec)
    if books.pending:
        status = {"run": "running", "pause": "paused", "cancel": "cancelling"}[spec.wanted]
    else:
        status = "cancelled" if spec.wanted == "cancel" else "done"
    return ReplayProgress(spec, books, status, problems)
