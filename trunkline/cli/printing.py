"""What the commands that read the record have in common on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDTH: Final = 80
"""Columns at least: where the output goes to no terminal, too."""

_SIGNS: Final = ("- ", "+ ", "~ ")


def plain(text: str) -> str:
    """Another's text without anything that a terminal would act on."""
    return "".join(letter if letter.isprintable() else "�" if letter not in "\n\t" else " " for letter in text)


def console() -> Console:
    """Prints texts as they are: nothing in them is markup, nothing is highlighted."""
    return Console(markup=False, highlight=False, emoji=False)


def paragraph(screen: Console, text: str, *, indent: int = 0, style: str = "") -> None:
    """Wrapped, all of it indented; what follows the sign of a list's item is aligned behind it."""
    if not text.startswith(_SIGNS):
        screen.print(Padding(Text(text, style=style), (0, 0, 0, indent)))
        return
    item = Table.grid()
    item.add_column()
    item.add_column(overflow="fold")
    item.add_row(Text(text[:2], style=style), Text(text[2:], style=style))
    screen.print(Padding(item, (0, 0, 0, indent)))


def table(*headings: str, numbers: Sequence[int] = ()) -> Table:
    """Without lines. ``numbers`` are the columns that are aligned to the right."""
    made = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for at, heading in enumerate(headings):
        right = at in numbers
        made.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=right)
    return made


def percent(rate: float | None) -> str:
    """Two decimals, never rounded up to 100 %."""
    if rate is None:
        return "-"
    hundredths = int(rate * 10_000) if rate < 1 else 10_000
    return f"{hundredths / 100:.2f} %"
