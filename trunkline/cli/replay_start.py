"""``trunkline replay start``: select, show what will happen, ask, start."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer

from trunkline.archive.errors import ArchiveError
from trunkline.archive.open_store import open_store
from trunkline.archive.reader import ArchiveReader
from trunkline.cli.archive_wait import is_served, wait_for_archive
from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph, table
from trunkline.cli.saying import fail, show_looked_at
from trunkline.cli.stores import active_snapshot, open_state
from trunkline.cli.times import TIME_HELP, parse_time, time_text
from trunkline.clock import Clock, SystemClock
from trunkline.log.base import ACCEPTED, LogError
from trunkline.log.embedded import EmbeddedLog
from trunkline.observe.wording import count_text, duration_text
from trunkline.replay.errors import NothingMissed, ReplayError
from trunkline.replay.gaps import missed
from trunkline.replay.model import PlaceRange, ReplaySpec, new_id, plan_path, read_spec, replay_ids, write_spec
from trunkline.replay.plan import PlanWriter
from trunkline.replay.survey import Selection, Survey, survey
from trunkline.runtime.layout import PARTITION, DataDir
from trunkline.settings import Settings
from trunkline.state.base import State, place_of, position_of
from trunkline.workspace.model import Destination, Snapshot

_TYPES: Final = ("track", "identify", "page", "screen", "group", "alias")


class _Failed(Exception):
    """It cannot be started; the text says why and how to mend it."""


@dataclass(slots=True)
class _Offer:
    """What will be done, if it is wanted."""

    spec: ReplaySpec
    found: Survey
    warnings: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        rate = self.spec.events_per_s
        return None if rate is None else self.found.events / rate

    def as_json(self, *, started: bool) -> dict[str, Any]:
        found = self.found
        return {
            "started": started,
            "id": self.spec.id if started else None,
            "destination": self.spec.destination,
            "events": found.events,
            "by_type": [
                {"source": source, "type": kind, "events": count}
                for (source, kind), count in sorted(found.by_type.items())
            ],
            "first_received_at": None if found.first_ms is None else time_text(found.first_ms),
            "last_received_at": None if found.last_ms is None else time_text(found.last_ms),
            "size_bytes": found.size_bytes,
            "seconds_at_rate": self.seconds,
            "too_old": found.too_old,
            "unreadable": found.unreadable,
            "warnings": self.warnings,
        }


def start(
    to: Annotated[str, typer.Option("--to", help="Slug of the destination. It may be disabled.")],
    data_dir: DataDirOption = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="Only events of this source; may be repeated. Default: those connected to the destination."),
    ] = None,
    since: Annotated[str | None, typer.Option(help=f"Received from when on. {TIME_HELP}")] = None,
    until: Annotated[str | None, typer.Option(help="Received before.")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(help="Only track events of this name, or pages and screens; may be repeated."),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Events a second at most.", min=0.001)] = None,
    gap: Annotated[
        bool, typer.Option("--gap", help="What the destination missed while it was disabled or not connected.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs; without --yes nothing is started.")
    ] = False,
) -> None:
    """Send archived events to a destination once more.

    Shows what will be sent and asks before it starts. A running server takes it up within a second or two; otherwise
    it begins with the next start.

    Exit status: 0 started (or shown), 1 nothing is selected or it was not wanted, 2 it cannot be started.
    """
    clock = SystemClock()
    since_ms = None if since is None else parse_time(since, clock)
    until_ms = None if until is None else parse_time(until, clock)
    if since_ms is not None and until_ms is not None and until_ms <= since_ms:
        raise typer.BadParameter("--until must be later than --since.")
    if since_ms is None and not gap:
        raise typer.BadParameter("say from when on with --since, or --gap for what the destination missed.")
    unknown = sorted(set(type_ or ()) - set(_TYPES))
    if unknown:
        raise typer.BadParameter(f"--type {unknown[0]}: there is no such type. Use one of {', '.join(_TYPES)}.")
    settings = settings_for(data_dir=data_dir)
    try:
        _start(
            settings,
            clock,
            _Wish(to, source or [], since_ms, until_ms, type_ or [], event or [], rate, gap),
            yes=yes,
            as_json=as_json,
        )
    except (_Failed, ReplayError, ArchiveError, LogError, OSError) as error:
        fail(str(error), 1 if isinstance(error, NothingMissed) else 2)


@dataclass(frozen=True, slots=True)
class _Wish:
    """The options of the command line."""

    destination: str
    sources: Sequence[str]
    since_ms: int | None
    until_ms: int | None
    types: Sequence[str]
    names: Sequence[str]
    events_per_s: float | None
    gap: bool


def _start(settings: Settings, clock: Clock, wish: _Wish, *, yes: bool, as_json: bool) -> None:
    data = DataDir(settings.data_dir)
    snapshot = active_snapshot(settings, clock)
    if snapshot is None:
        raise _Failed(f"{settings.data_dir} holds no workspace. Name the directory that `trunkline serve` uses.")
    destination = _destination(snapshot, wish.destination)
    archive = ArchiveReader(data.archive_index, open_store(settings.archive_url, data.archive))
    sources = _sources(snapshot, archive, destination, wish.sources)
    with open_state(data) as store:
        state = store.read()
    accepted = state.accepted.get(PARTITION, 0)
    ranges, endless = None, list[str]()
    needed = accepted
    if wish.gap:
        ranges, endless = _ranges(data, state, wish, destination, sources, place_of(accepted, 0))
        needed = min(accepted, max(position_of(one.end - 1) + 1 for one in ranges))
    archived = wait_for_archive(data, needed, is_on=settings.archive)
    missing = _missing(data, sources, archived, needed)
    if missing and settings.archive and not is_served(data):
        raise _Failed(
            f"{count_text(missing, 'event')} in {data.root} are accepted and not archived yet, and no server runs "
            "there that would archive them. Start it (trunkline serve), then try again."
        )
    if ranges is not None:
        # What is not archived is not part of it, so that a later replay of the gap brings it.
        ranges = [one for one in (_cut(one, place_of(archived, 0)) for one in ranges) if one.first < one.end]
    selection = Selection(sources, wish.since_ms, wish.until_ms, wish.types, wish.names, ranges)
    now_ms = clock.now_ms()
    max_age_s = destination.delivery.max_event_age_s
    replay_id = new_id(destination.slug, now_ms, replay_ids(data.replays))
    with PlanWriter(plan_path(data.replays, replay_id)) as plan:
        found = survey(
            archive,
            selection,
            plan,
            oldest_ms=None if max_age_s is None else now_ms - int(max_age_s * 1000),
            on_progress=show_looked_at,
        )
        show_looked_at(None)
        spec = ReplaySpec(
            id=replay_id,
            destination=destination.slug,
            sources=list(sources),
            since_ms=wish.since_ms,
            until_ms=wish.until_ms,
            types=list(wish.types),
            names=list(wish.names),
            ranges=ranges or [],
            events_per_s=wish.events_per_s,
            created_at_ms=now_ms,
            selected=found.selected,
            end=plan.end,
        )
        offer = _Offer(spec, found, _warnings(found, destination, missing, endless))
        if not as_json:
            _print(offer, destination)
        wanted = bool(found.events) and (yes or (not as_json and _ask()))
        if wanted:
            plan.finish()
            write_spec(data.replays, spec)
    if as_json:
        print(json.dumps(offer.as_json(started=wanted), indent=2))
    elif wanted:
        console().print(f"Replay {replay_id} is started. See how it goes: trunkline replay show {replay_id}")
    raise typer.Exit(0 if wanted or (as_json and found.events) else 1)


def _destination(snapshot: Snapshot, slug: str) -> Destination:
    destination = snapshot.destinations.get(slug)
    if destination is None:
        known = ", ".join(sorted(snapshot.destinations)) or "none"
        raise _Failed(f"the workspace has no destination {slug!r}. Its destinations: {known}.")
    return destination


def _sources(
    snapshot: Snapshot, archive: ArchiveReader, destination: Destination, wanted: Sequence[str]
) -> Sequence[str]:
    if not wanted:
        return destination.sources
    known = set(snapshot.sources) | {file.source for file in archive.files()}
    for slug in wanted:
        if slug not in known:
            raise _Failed(
                f"neither the workspace nor the archive knows a source {slug!r}. Sources: {', '.join(sorted(known))}."
            )
    return list(dict.fromkeys(wanted))


def _ranges(
    data: DataDir, state: State, wish: _Wish, destination: Destination, sources: Sequence[str], head: int
) -> tuple[list[PlaceRange], list[str]]:
    """What was missed, and the sources of which nobody can say so."""
    earlier = [read_spec(data.replays, replay_id) for replay_id in replay_ids(data.replays)]
    return missed(
        state.intervals,
        destination.slug,
        sources,
        head=head,
        since_ms=wish.since_ms,
        until_ms=wish.until_ms,
        earlier=earlier,
    )


def _cut(one: PlaceRange, end: int) -> PlaceRange:
    return PlaceRange(one.source, one.first, min(one.end, end))


def _missing(data: DataDir, sources: Sequence[str], archived: int, needed: int) -> int:
    """Events that are accepted and not archived, below position ``needed``."""
    if archived >= needed:
        return 0
    log = EmbeddedLog(data.log, SystemClock())
    before = log.totals(ACCEPTED, PARTITION, archived).counts
    after = log.totals(ACCEPTED, PARTITION, needed).counts
    return sum(after.get(source, 0) - before.get(source, 0) for source in sources)


def _warnings(found: Survey, destination: Destination, missing: int, endless: Sequence[str]) -> list[str]:
    warnings = []
    if not destination.enabled:
        warnings.append(f"{destination.slug} is disabled: the replay goes to it nevertheless.")
    if found.too_old:
        warnings.append(
            f"{count_text(found.too_old, 'event')} are older than {destination.slug} takes (max_event_age_s: "
            f"{destination.delivery.max_event_age_s:g}): they will not be sent, but counted as filtered."
        )
    if missing:
        warnings.append(
            f"{count_text(missing, 'event')} are accepted and not archived yet: they are not part of it. Is the server "
            "running, and is the setting `archive` on? Replay them later."
        )
    if endless:
        warnings.append(
            f"{destination.slug} was never connected to {', '.join(endless)} before: nobody can say since when it "
            "missed those events, so they are not part of it. With --since they are."
        )
    if found.unreadable:
        warnings.append(
            f"{count_text(found.unreadable, 'event')} cannot be read from the archive: they will be counted as failed "
            f"(archive_unreadable). {' '.join(found.troubles)}"
        )
    return warnings


def _print(offer: _Offer, destination: Destination) -> None:
    found = offer.found
    screen = console()
    if not found.events:
        screen.print("The archive holds no such event. See what came in with: trunkline deliveries --since 7d")
        for warning in offer.warnings:
            paragraph(screen, f"Note: {warning}", style="yellow")
        return
    screen.print(f"To {destination.slug} ({destination.name}, {destination.type}):")
    made = table("source", "type", "events", numbers=(2,))
    for (source, kind), count in sorted(found.by_type.items()):
        made.add_row(source, kind, f"{count:,}")
    if found.unreadable:
        made.add_row("", "unreadable", f"{found.unreadable:,}")
    screen.print(made)
    if found.first_ms is not None and found.last_ms is not None:
        screen.print(f"Received from {time_text(found.first_ms)} to {time_text(found.last_ms)}.")
    pace = "as fast as the destination takes them, live events first"
    if offer.seconds is not None:
        pace = f"at {offer.spec.events_per_s:g} events a second: {duration_text(offer.seconds * 1000)} at least"
    screen.print(f"{count_text(found.events, 'event')}, {_size_text(found.size_bytes)}, {pace}.")
    for warning in offer.warnings:
        paragraph(screen, f"Note: {warning}", style="yellow")


def _size_text(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:,.1f} kB"


def _ask() -> bool:
    if not sys.stdin.isatty():
        raise _Failed("nobody can be asked here. Add --yes to start it.")
    return typer.confirm("Start?")
