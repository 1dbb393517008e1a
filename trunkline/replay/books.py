"""The books of replays: what became of every event that one selected.

For each replay, at every moment: ``selected = filtered at destination + delivered + failed + pending``. ``pending`` is
counted, never subtracted: events of the plan that the lane has not settled, and retry rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline.replay.errors import ReplayError
from trunkline.replay.model import KEY_PREFIX, REPLAY_PARTITION, ReplaySpec, is_replay, plan_path, read_spec, replay_ids
from trunkline.replay.plan import count_plan
from trunkline.spec.outcomes import DELIVERED, FAILED, FILTERED_AT_DESTINATION
from trunkline.state.base import State


@dataclass(slots=True)
class ReplayBooks:
    """One replay's line."""

    selected: int = 0
    filtered_at_destination: int = 0
    delivered: int = 0
    failed: int = 0
    pending: int = 0


def check_replays(state: State, directory: Path) -> tuple[dict[str, ReplayBooks], list[str]]:
    """All replays, and what is wrong with them. ``state`` must have been read before this call."""
    books: dict[str, ReplayBooks] = {}
    problems: list[str] = []
    for replay_id in replay_ids(directory):
        try:
            spec = read_spec(directory, replay_id)
            books[replay_id], wrong = count_replay(state, directory, spec)
        except ReplayError as error:
            problems.append(str(error))
        else:
            problems += wrong
    known = {KEY_PREFIX + replay_id for replay_id in replay_ids(directory)}
    keys = {key.destination for key in state.lane_books} | {destination for destination, _ in state.row_counts}
    keys |= {destination for destination, _ in state.lanes}
    problems += [
        f"replay {key.removeprefix(KEY_PREFIX)}: is in the books, but its files are not in {directory}"
        for key in sorted(keys)
        if is_replay(key) and key not in known
    ]
    return books, problems


def count_replay(state: State, directory: Path, spec: ReplaySpec) -> tuple[ReplayBooks, list[str]]:
    """One replay's line and what is wrong with it, source by source. Raises PlanDamaged."""
    line = ReplayBooks(selected=sum(spec.selected.values()))
    plan = plan_path(directory, spec.id)
    counts = count_plan(plan, state.lanes.get((spec.key, REPLAY_PARTITION)))
    accounted = dict(counts.unsettled)
    for (destination, source), count in state.row_counts.items():
        if destination == spec.key:
            accounted[source] = accounted.get(source, 0) + count
    line.pending = sum(accounted.values())
    for key, count in state.lane_books.items():
        if key.destination == spec.key and key.outcome in (FILTERED_AT_DESTINATION, DELIVERED, FAILED):
            setattr(line, key.outcome, getattr(line, key.outcome) + count)
            accounted[key.source] = accounted.get(key.source, 0) + count
    problems = _differences(spec, accounted)
    if counts.selected != spec.selected:
        problems.append(f"replay {spec.id}: {plan} does not hold the events that were selected")
    return line, problems


def _differences(spec: ReplaySpec, accounted: Mapping[str, int]) -> list[str]:
    return [
        f"replay {spec.id}: source {source}: selected {spec.selected.get(source, 0)}, accounted for "
        f"{accounted.get(source, 0)} ({spec.selected.get(source, 0) - accounted.get(source, 0):+d})"
        for source in sorted(set(spec.selected) | set(accounted))
        if spec.selected.get(source, 0) != accounted.get(source, 0)
    ]
