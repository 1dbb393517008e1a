"""A rehearsal's findings for people, 80 columns wide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from rich.console import Console

from trunkline.cli.printing import paragraph, plain
from trunkline.cli.rehearsing import Outcome, covered_text
from trunkline.cli.times import time_text
from trunkline.observe.wording import count_text
from trunkline.rehearsal.difference import Difference
from trunkline.rehearsal.findings import AT_SOURCE, Change, Comparison, Connection, ConnectionFindings, Sample, Stop
from trunkline.rehearsal.report import by_size, kinds_by_size, not_rehearsed, places_by_size
from trunkline.spec.delivery_codes import text_of

_KINDS_SHOWN: Final = 5
_PLACES_SHOWN: Final = 10
_DIFFERENCES_SHOWN: Final = 12
_VALUE_CHARACTERS: Final = 100
_EVENTS_FOR_A_COST: Final = 1000
"""Of fewer, much of the time goes into what happens once: compiling, filling caches."""
_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}
_OWN_REASONS: Final[Mapping[str, str]] = {
    "no_source": "the workspace does not hold the source",
    "not_forwarded": "the event is not forwarded to this source",
    "unreadable_event": "a stage could not read the event",
}


def print_findings(screen: Console, outcome: Outcome) -> None:
    """All but what was compared with what."""
    findings = outcome.rehearsal.findings
    paragraph(screen, covered_text(outcome))
    print_notes(screen, outcome)
    if findings.connections:
        screen.print()
        screen.print("Connections", style="bold")
        for connection, found in findings.connections.items():
            _print_connection(screen, connection, found)
    unchanged = []
    for heading, verb, compared in (
        ("source", "pass", findings.sources),
        ("destination", "are sent", findings.destinations),
    ):
        for slug, comparison in sorted(compared.items()):
            if comparison.is_change:
                _print_comparison(screen, f"{plain(slug)} ({heading})", verb, comparison)
            else:
                unchanged.append(f"{plain(slug)} ({heading}, {count_text(comparison.events, 'event')})")
    screen.print()
    if not findings.is_change and outcome.coverage.events:
        screen.print("Nothing would change.", style="green")
    if unchanged:
        paragraph(screen, f"Without a change: {', '.join(unchanged)}.")
    print_cost(screen, outcome)


def print_notes(screen: Console, outcome: Outcome) -> None:
    """What is to be known before the figures are read."""
    for note in outcome.notes:
        paragraph(screen, f"Note: {plain(note)}", style="yellow")
    for trouble in outcome.coverage.troubles:
        paragraph(screen, f"Note: {plain(trouble)}", style="yellow")


def print_cost(screen: Console, outcome: Outcome) -> None:
    """Time, if there were enough events to tell, and what the figures leave out."""
    cost, rehearsal = outcome.rehearsal.cost, outcome.rehearsal
    if cost.today_us is not None and cost.new_us is not None and cost.events >= _EVENTS_FOR_A_COST:
        paragraph(
            screen,
            f"Cost of stages 5 to 11: {cost.today_us:.1f} µs an event today, {cost.new_us:.1f} µs with the change, "
            f"measured in this run.",
        )
    left_out = not_rehearsed(rehearsal.today.snapshot, rehearsal.new.snapshot, outcome.coverage)
    paragraph(screen, f"Not rehearsed: {plain(' '.join(left_out))}", style="dim")


def _print_connection(screen: Console, connection: Connection, found: ConnectionFindings) -> None:
    slug, source = plain(connection.destination), plain(connection.source)
    if connection.appears:
        text, sent = f"+ {slug} would get {source}", "would be sent"
    else:
        text, sent = f"- {slug} would no longer get {source}", "are sent today"
    text += f" ({connection.why}): {count_text(found.passing.events, 'event')} {sent}"
    for stop, count in sorted(found.stopped.items(), key=lambda item: -item[1]):
        text += f", {count:,} dropped ({plain(stop.reason)})"
    paragraph(screen, text, indent=2, style="green" if connection.appears else "red")
    if found.passing.events:
        print_kinds(screen, found.passing)


def _print_comparison(screen: Console, heading: str, verb: str, found: Comparison) -> None:
    screen.print()
    screen.print(heading, style="bold")
    paragraph(
        screen,
        f"{count_text(found.events, 'event')}: {found.passed_today:,} {verb} today, {found.passed_new:,} would.",
        indent=2,
    )
    at_source = verb == "pass"
    stopped, released = ("blocked", "let through") if at_source else ("dropped", "delivered")
    for stop, change in by_size(found.stopped):
        _print_change(screen, f"{change.events:,} newly {stopped}: {_reason(stop, at_source)}", change, "red")
    for stop, change in by_size(found.released):
        _print_change(screen, f"{change.events:,} newly {released}. Today: {_reason(stop, at_source)}", change, "green")
    for (today, new), change in by_size(found.other_reason):
        text = f"{change.events:,} {stopped} for another reason: {_reason(new, at_source)}. "
        text += f"Today: {_reason(today, at_source)}"
        _print_change(screen, text, change, "")
    if found.changed.events:
        print_changed(screen, found)


def _reason(stop: Stop, heading_at_source: bool) -> str:
    """The reason with its title; where it was decided only if that is another place than the heading's."""
    text = text_of(stop.reason)
    title = _OWN_REASONS.get(stop.reason) or text.title
    shown = stop.reason if title == stop.reason else f"{stop.reason} ({title})"
    return plain(f"at the source, {shown}" if stop.stage == AT_SOURCE and not heading_at_source else shown)


def _print_change(screen: Console, text: str, change: Change, style: str) -> None:
    paragraph(screen, text, indent=2, style=style)
    print_kinds(screen, change)
    for sample in change.samples:
        print_sample(screen, sample)


def print_changed(screen: Console, found: Comparison) -> None:
    """What would be different in events that are sent either way."""
    paragraph(screen, f"{found.changed.events:,} with another content:", indent=2, style="yellow")
    places = places_by_size(found)
    for (kind, place), count in places[:_PLACES_SHOWN]:
        paragraph(screen, f"{_SIGNS[kind]} {plain(place)}: {kind} in {count_text(count, 'event')}", indent=4)
    if len(places) > _PLACES_SHOWN:
        paragraph(screen, f"and {len(places) - _PLACES_SHOWN:,} places more: --json", indent=4, style="dim")
    print_kinds(screen, found.changed)
    for sample in found.changed.samples:
        print_sample(screen, sample)


def print_kinds(screen: Console, change: Change) -> None:
    """Which events, by type and name."""
    kinds = kinds_by_size(change)
    several = len({kind.source for kind, _ in kinds}) > 1
    shown = []
    for kind, count in kinds[:_KINDS_SHOWN]:
        name = f'{kind.type} "{kind.name}"' if kind.name else kind.type
        shown.append(f"{kind.source} {name} {count:,}" if several else f"{name} {count:,}")
    if len(kinds) > _KINDS_SHOWN:
        shown.append(f"and {len(kinds) - _KINDS_SHOWN} kinds more")
    paragraph(screen, plain(", ".join(shown)), indent=4, style="dim")


def print_sample(screen: Console, sample: Sample) -> None:
    """One event: which, what was said of it, what is different in it."""
    name = f' "{sample.name}"' if sample.name else ""
    head = f"{time_text(sample.received_at_ms)} {sample.type}{name}, messageId {sample.message_id}"
    paragraph(screen, plain(head), indent=6)
    if sample.detail:
        paragraph(screen, plain(sample.detail), indent=8, style="dim")
    for one in sample.differences[:_DIFFERENCES_SHOWN]:
        paragraph(screen, plain(_difference(one)), indent=8)
    more = len(sample.differences) - _DIFFERENCES_SHOWN
    if more > 0:
        paragraph(screen, f"and {more:,} differences more: --json", indent=8, style="dim")


def _difference(one: Difference) -> str:
    sign = _SIGNS[one.kind]
    if one.kind == "added":
        return f"{sign} {one.path}: {_value(one.after)}"
    if one.kind == "removed":
        return f"{sign} {one.path}: {_value(one.before)}"
    return f"{sign} {one.path}: {_value(one.before)} → {_value(one.after)}"


def _value(value: Any) -> str:
    text = msgspec.json.encode(value).decode("utf-8", "replace")
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[: _VALUE_CHARACTERS - 1]}…"
