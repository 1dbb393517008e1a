"""``trunkline deliveries``: what became of the events at each destination, and why not all arrived."""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal

import typer
from rich.console import Console

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph, percent, plain, table
from trunkline.cli.stores import open_state
from trunkline.cli.times import TIME_HELP, minute_text, parse_time, time_text
from trunkline.clock import SystemClock
from trunkline.observe.deliveries import (
    Deliveries,
    DestinationLine,
    Grouping,
    ReasonLine,
    SourceLine,
    aligned,
    read_deliveries,
)
from trunkline.observe.wording import count_text, duration_text
from trunkline.runtime.layout import DataDir
from trunkline.state.base import Sample

DEFAULT_SINCE: Final = "24h"
_GROUPS_SHOWN: Final = 50


def deliveries(
    data_dir: DataDirOption = None,
    destination: Annotated[str | None, typer.Option(help="Only this destination; `replay:ID` is a replay.")] = None,
    source: Annotated[str | None, typer.Option(help="Only events of this source.")] = None,
    since: Annotated[str, typer.Option(help=f"From when on. {TIME_HELP}")] = DEFAULT_SINCE,
    until: Annotated[str, typer.Option(help="Up to when.")] = "now",
    by: Annotated[
        Literal["reason", "type", "name", "source", "app-version"] | None, typer.Option(help="Break the counts down.")
    ] = None,
    samples: Annotated[bool, typer.Option("--samples", help="Print up to 10 samples of each reason.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show deliveries by destination: counts, rates, latencies, and each reason of failure with its mend.

    An event counts in the minute in which it ended. Works beside a running server and after it has ended.

    Exit status: 0 shown, 2 there is no record to read.
    """
    clock = SystemClock()
    now_ms = clock.now_ms()
    since_ms, until_ms = parse_time(since, clock), parse_time(until, clock)
    if until_ms <= since_ms and until != "now":
        raise typer.BadParameter("--until must be later than --since.")
    since_ms, until_ms = aligned(since_ms, until_ms, now_ms)
    with open_state(DataDir(settings_for(data_dir=data_dir).data_dir)) as store:
        view = read_deliveries(
            store,
            since_ms,
            until_ms,
            destination=destination,
            source=source,
            by=by,
            samples=samples,
            with_pending=until_ms >= now_ms,
        )
    if as_json:
        print(json.dumps(view.as_json(), indent=2))
    else:
        print_deliveries(console(), view)


def print_deliveries(screen: Console, view: Deliveries) -> None:
    """For people, 80 columns wide."""
    screen.print(f"{minute_text(view.since_ms)} to {minute_text(view.until_ms)} (UTC)", style="dim")
    if not view.destinations and not view.sources:
        screen.print("Nothing was counted in this time.")
        paragraph(
            screen,
            "Look further back with --since 7d. To see whether events come in at all: trunkline verify, and "
            "trunkline unknown-keys for those whose write key no source has.",
        )
        return
    if view.sources:
        _print_sources(screen, view)
    if not view.destinations:
        screen.print()
        paragraph(
            screen,
            "No event has reached a destination in this time. A destination is off until it says enabled: true; "
            "trunkline check FILE says which are.",
        )
        return
    _print_counts(screen, view)
    for slug, line in view.destinations.items():
        if line.groups:
            _print_groups(screen, slug, line, view.by)
    for slug, line in view.destinations.items():
        if line.reasons or line.samples:
            _print_reasons(screen, slug, line)


def _print_sources(screen: Console, view: Deliveries) -> None:
    made = table("source", "accepted", "filtered\nat source", "failed\non ingest", "why", numbers=(1, 2, 3))
    for slug, line in view.sources.items():
        made.add_row(
            slug,
            f"{line.accepted:,}",
            f"{line.filtered_at_source:,}",
            f"{line.failed_on_ingest:,}",
            _source_reasons(line),
        )
    screen.print()
    screen.print(made)


def _source_reasons(line: SourceLine) -> str:
    reasons = [f"{reason} {count:,}" for reason, count in sorted(line.reasons.items(), key=lambda item: -item[1])]
    return ", ".join([f"{line.entered:,} forwarded to it", *reasons] if line.entered else reasons)


def _print_counts(screen: Console, view: Deliveries) -> None:
    counts = table(
        "destination",
        "delivered",
        "filtered",
        "failed",
        "waiting\nfor retry",
        "at first\nattempt",
        "in the\nend",
        numbers=range(1, 7),
    )
    speed = table("destination", "retries", "p50", "p95", "p99", numbers=range(1, 5))
    for slug, line in view.destinations.items():
        tally = line.tally
        counts.add_row(
            slug,
            f"{tally.delivered:,}",
            f"{tally.filtered:,}",
            f"{tally.failed:,}",
            f"{line.pending_retry:,}",
            percent(line.first_attempt_rate),
            percent(line.final_rate),
        )
        latency = line.latency_ms or {}
        bounds = [duration_text(latency[name]) if name in latency else "-" for name in ("p50", "p95", "p99")]
        speed.add_row(slug, f"{tally.retries:,}", *bounds)
    screen.print()
    screen.print(counts)
    screen.print()
    screen.print(speed)
    paragraph(screen, "Latency is from receivedAt to the destination's answer, of delivered events.", style="dim")


def _print_groups(screen: Console, slug: str, line: DestinationLine, by: Grouping | None) -> None:
    # Of a reason a share would say nothing, and reasons need the room.
    shares = () if by == "reason" else ("at first\nattempt", "in the\nend")
    headings = (f"{slug}\nby {by}", "delivered", "filtered", "failed", "attempts\nrepeated", *shares)
    made = table(*headings, numbers=range(1, len(headings)))
    ordered = sorted(line.groups.items(), key=lambda item: -(item[1].delivered + item[1].failed + item[1].filtered))
    for name, tally in ordered[:_GROUPS_SHOWN]:
        made.add_row(
            plain(name) or "(none)",
            f"{tally.delivered:,}",
            f"{tally.filtered:,}",
            f"{tally.failed:,}",
            f"{tally.repeated:,}",
            *((percent(tally.first_attempt_rate()), percent(tally.final_rate)) if shares else ()),
        )
    screen.print()
    screen.print(made)
    if len(ordered) > _GROUPS_SHOWN:
        screen.print(f"and {len(ordered) - _GROUPS_SHOWN:,} more: --json has them all", style="dim")


def _print_reasons(screen: Console, slug: str, line: DestinationLine) -> None:
    screen.print()
    screen.print(f"{slug}: why not", style="bold")
    samples = list(line.samples)
    for reason in line.reasons.values():
        text = reason.text
        title = text.title if text.title == reason.reason else f"{reason.reason} {text.title}".strip()
        paragraph(screen, f"{plain(title)}: {_how_many(reason)}", indent=2)
        paragraph(screen, f"{text.meaning} {text.mend}", indent=6, style="dim")
        for sample in [sample for sample in samples if sample.reason == reason.reason]:
            samples.remove(sample)
            _print_sample(screen, sample)


def _how_many(reason: ReasonLine) -> str:
    parts = []
    if reason.failed.events:
        asked = count_text(reason.failed.requests, "request") if reason.failed.requests else "without a request"
        parts.append(f"{asked}, {count_text(reason.failed.events, 'event')} failed")
    if reason.repeated.events:
        asked = count_text(reason.repeated.requests, "request")
        parts.append(f"{asked}, {count_text(reason.repeated.events, 'event')} to be tried again")
    if reason.filtered:
        parts.append(f"{count_text(reason.filtered, 'event')} filtered")
    return "; ".join(parts)


def _print_sample(screen: Console, sample: Sample) -> None:
    screen.print()
    paragraph(screen, f"{time_text(sample.at_ms)}  messageId {plain(sample.message_id)}", indent=6, style="bold")
    for heading, text in (("event", sample.sent), ("request", sample.request), ("answer", sample.response)):
        paragraph(screen, f"{heading}: {plain(text) if text else '(none)'}", indent=6)


def register(app: typer.Typer) -> None:
    app.command()(deliveries)
