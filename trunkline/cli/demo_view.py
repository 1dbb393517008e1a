"""What the demonstration shows: a live view on a terminal, plain lines elsewhere, the books at the end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trunkline.cli.demo_server import Totals
from trunkline.cli.demo_tally import Tally
from trunkline.observe.books import Books

LABELS: Final = 7
BAR_WIDTH: Final = 24
_OUTCOMES: Final = (
    "received",
    "failed_on_ingest",
    "filtered_at_source",
    "filtered_at_destination",
    "delivered",
    "failed",
    "pending",
)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the demonstration stands. ``totals`` is None when only the answers are known."""

    url: str
    phase: str
    elapsed_s: float
    tally: Tally
    totals: Totals | None

    @property
    def rate(self) -> float:
        """Events sent a second, on average."""
        return self.tally.sent / self.tally.sending_for_s if self.tally.sending_for_s > 0 else 0.0


def live_view(scene: Scene) -> RenderableType:
    """Fits 80 columns and 24 lines."""
    tally = scene.tally
    head = Text.assemble(
        ("Trunkline demo  ", "bold"), (scene.url, "cyan"), f"   {scene.phase}, {scene.elapsed_s:.0f} s"
    )
    parts: list[RenderableType] = [head, _numbers(scene), _by_label(tally, scene.totals is not None)]
    if scene.totals is not None:
        parts += ["", _last(tally)]
    if tally.trouble:
        parts.append(Text(tally.trouble, "red"))
    parts.append(Text("Ctrl-C ends it in order.", "dim"))
    return Group(*parts)


def _numbers(scene: Scene) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    values = _values(scene)
    for name in values:
        table.add_column(name, justify="right")
    table.add_row(*values.values())
    return table


def _values(scene: Scene) -> dict[str, str]:
    tally, totals = scene.tally, scene.totals
    values = {"sent": f"{tally.sent:,}", "a second": f"{scene.rate:,.0f}"}
    if totals is None:
        values |= {"taken": f"{tally.taken:,}", "rejected": f"{tally.rejected.total():,}"}
        values |= {"retries": f"{tally.retries:,}"}
    else:
        values |= {
            "rejected": f"{totals.rejected:,}",
            "deduped": f"{totals.duplicates:,}",
            "delivered": f"{totals.delivered:,}",
            "in inbox": f"{totals.in_inbox:,}",
        }
    return values | {"p50": _ms(tally.percentile_ms(0.5)), "p99": _ms(tally.percentile_ms(0.99))}


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"


def _by_label(tally: Tally, arrivals: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("event", min_width=22)
    table.add_column("sent", justify="right", min_width=6)
    if arrivals:
        table.add_column("arrived", justify="right", min_width=8)
    table.add_column("")
    common = tally.sent_by_label.most_common()
    largest = common[0][1] if common else 1
    rows = common[:LABELS]
    for label, count in rows:
        bar = Text("━" * max(1, round(count / largest * BAR_WIDTH)), "green")
        arrived = [f"{tally.arrived_by_label[label]:,}"] if arrivals else []
        table.add_row(label, f"{count:,}", *arrived, bar)
    if len(common) > LABELS:
        rest = common[LABELS:]
        arrived = [f"{sum(tally.arrived_by_label[label] for label, _ in rest):,}"] if arrivals else []
        table.add_row(f"{len(rest)} others", f"{sum(count for _, count in rest):,}", *arrived, "")
    return table


def _last(tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False, title="last arrivals at the sink", title_justify="left", show_header=False)
    for arrival in reversed(tally.last):
        time = datetime.fromtimestamp(arrival.at_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
        name = arrival.label if arrival.type == "track" else ""
        table.add_row(Text(time, "dim"), arrival.type, name, arrival.who, _ms(arrival.after_s * 1000))
    return table


def plain_line(scene: Scene) -> str:
    """One line of progress without control codes."""
    values = ", ".join(f"{name} {value}" for name, value in _values(scene).items())
    return f"{scene.elapsed_s:5.1f} s: {scene.phase}: {values}"


def books_table(books: Books) -> Table:
    """The books with a column a destination: few destinations, many outcomes."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("the books")
    for slug in books.destinations:
        table.add_column(slug, justify="right")
    for outcome in _OUTCOMES:
        sign = "" if outcome == "received" else "= " if outcome == _OUTCOMES[1] else "+ "
        cells = [f"{getattr(line, outcome):,}" for line in books.destinations.values()]
        table.add_row(sign + outcome.replace("_", " "), *cells)
    return table


def plain_books(books: Books) -> list[str]:
    """The books as lines without control codes."""
    return [
        f"{slug}: " + ", ".join(f"{outcome.replace('_', ' ')} {getattr(line, outcome):,}" for outcome in _OUTCOMES)
        for slug, line in books.destinations.items()
    ]
