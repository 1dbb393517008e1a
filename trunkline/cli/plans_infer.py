"""``trunkline plans infer``: a tracking plan made of the events that the archive holds of a source."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from trunkline.archive.errors import ArchiveCorrupt, ArchiveError, ObjectMissing
from trunkline.archive.open_store import open_store
from trunkline.archive.reader import ArchiveReader
from trunkline.cli.archive_wait import wait_for_archive
from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.priority import give_way
from trunkline.cli.saying import show_looked_at
from trunkline.cli.stores import open_state, read_workspace
from trunkline.clock import SystemClock
from trunkline.observe.wording import count_text
from trunkline.runtime.layout import PARTITION, DataDir
from trunkline.schema.inference import PlanInference
from trunkline.schema.limits import DAY_MS
from trunkline.settings import Settings
from trunkline.spec.plans import Rule
from trunkline.state.base import StateError
from trunkline.workspace.plan_file import PlanFile
from trunkline.workspace.plan_json import format_json
from trunkline.workspace.yaml_out import dump_yaml

_PROGRESS_EVERY: Final = 10_000
_NOT_WHOLE: Final = "The newest events are not archived yet: start the server (trunkline serve), then try again."


class PlanFormat(StrEnum):
    """``yaml`` is an entry of the workspace's file, ``json`` a plan as Segment's Public API has it."""

    YAML = "yaml"
    JSON = "json"


def infer(
    source: Annotated[str, typer.Option(help="The source whose events are looked at.")],
    data_dir: DataDirOption = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How many days back.")] = 7,
    slug: Annotated[
        str | None, typer.Option(help="The plan's slug. Default: the source's.", show_default=False)
    ] = None,
    min_events: Annotated[
        int,
        typer.Option(min=1, help="So many events of a name must be there before a property that all have is required."),
    ] = 10,
    enum_values: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="List a property's values where at most so many different ones came, each ten times on average. They "
            "stand in the plan then. 0: never.",
        ),
    ] = 0,
    format: Annotated[
        PlanFormat, typer.Option(help="An entry of the workspace's file, or Segment's JSON.")
    ] = PlanFormat.YAML,
) -> None:
    """Print a tracking plan that every archived event of a source keeps to.

    Read it before it blocks anything: what should not have come is in it too.

    Exit status: 0 printed, 1 there is no event to learn from, 2 the archive cannot be read.
    """
    settings, clock = settings_for(data_dir=data_dir), SystemClock()
    give_way()
    inference = PlanInference(least=min_events, enum_values=enum_values)
    try:
        is_whole = _have_archived(settings)
        unreadable = _look_at_all(settings, source, clock.now_ms() - days * DAY_MS, inference)
    except (ArchiveError, StateError) as error:
        show_looked_at(None)
        print(f"trunkline: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    show_looked_at(None)
    if not inference.events:
        _say_there_is_nothing(settings, source, days, clock, is_whole=is_whole)
        raise typer.Exit(1)
    slug = slug or source
    rules = inference.rules()
    if format is PlanFormat.JSON:
        sys.stdout.write(format_json(PlanFile(slug, slug, tuple(rules))).decode())
    else:
        sys.stdout.write(plan_yaml(slug, source, rules))
    _sum_up(inference, unreadable, len(rules), days, is_whole=is_whole)


def _have_archived(settings: Settings) -> bool:
    """Ask a running server to archive what it accepted so far; whether it has. Raises StateError, ArchiveError."""
    data = DataDir(settings.data_dir)
    if not data.state.exists():
        return True
    with open_state(data) as store:
        accepted = store.read().accepted.get(PARTITION, 0)
    return wait_for_archive(data, accepted, is_on=settings.archive) >= accepted


def _look_at_all(settings: Settings, source: str, since_ms: int, inference: PlanInference) -> int:
    """Member by member; how many events cannot be read. Raises StoreError, IndexFailed."""
    data = DataDir(settings.data_dir)
    archive = ArchiveReader(data.archive_index, open_store(settings.archive_url, data.archive))
    unreadable, said = 0, 0
    for member in archive.members(sources=[source], since_ms=since_ms, stop=archive.last_position() + 1):
        try:
            events = archive.read_member(member.position)
        except (ObjectMissing, ArchiveCorrupt):
            unreadable += member.events
            continue
        for event in events:
            if event.received_at_ms >= since_ms:
                inference.add(event.type, event.name, event.body)
        if inference.events >= said + _PROGRESS_EVERY:
            said = inference.events
            show_looked_at(said)
    return unreadable


def plan_yaml(slug: str, source: str, rules: Sequence[Rule]) -> str:
    """An entry of the workspace's file, with the key that it stands under."""
    plan = {"slug": slug, "sources": [source], "rules": [_rule(rule) for rule in rules]}
    return dump_yaml({"tracking_plans": [plan]})


def _rule(rule: Rule) -> dict[str, Any]:
    named = {"event": rule.event} if rule.event else {}
    return {"type": rule.type, **named, "schema": rule.schema}


def _say_there_is_nothing(settings: Settings, source: str, days: int, clock: SystemClock, *, is_whole: bool) -> None:
    snapshot = read_workspace(settings, clock)
    if snapshot is not None and source not in snapshot.sources:
        mend = f"The workspace has no source of this slug. It has: {', '.join(sorted(snapshot.sources)) or 'none'}."
    elif not settings.archive:
        mend = "The setting `archive` is off: turn it on, start the server again, and wait for events."
    elif not is_whole:
        mend = _NOT_WHOLE
    else:
        mend = "Look further back with --days, or send events."
    print(f"The archive holds no event of {source} of the last {count_text(days, 'day')}. {mend}", file=sys.stderr)


def _sum_up(inference: PlanInference, unreadable: int, rules: int, days: int, *, is_whole: bool) -> None:
    """On standard error: standard output is the plan."""
    lines = [f"{count_text(rules, 'rule')} of {count_text(inference.events, 'event')} of {count_text(days, 'day')}."]
    if inference.left_out:
        lines.append(f"{count_text(inference.left_out, 'event')} have other names: a plan does not hold so many.")
    if inference.incomplete:
        lines.append("Not all properties are in it: there are too many different ones.")
    if not is_whole:
        lines.append(_NOT_WHOLE)
    if unreadable:
        lines.append(f"{count_text(unreadable, 'event')} cannot be read from the archive.")
    lines.append("Try it with `trunkline check`; it blocks nothing before `enforce` says so.")
    print("\n".join(lines), file=sys.stderr)
