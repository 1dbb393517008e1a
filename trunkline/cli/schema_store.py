"""Opening the record of what sources have sent; what to say where it is empty."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import typer
from rich.console import Console

from trunkline.cli.printing import paragraph, plain
from trunkline.observe.wording import count_text, time_text
from trunkline.runtime.layout import DataDir
from trunkline.schema.errors import SchemaError
from trunkline.schema.reader import SchemaReader
from trunkline.settings import Settings


@contextlib.contextmanager
def open_schema(settings: Settings) -> Iterator[SchemaReader]:
    """What cannot be read ends the command with status 2."""
    try:
        yield SchemaReader(DataDir(settings.data_dir).schema)
    except SchemaError as error:
        print(f"trunkline: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def say_nothing_was_seen(
    screen: Console, settings: Settings, reader: SchemaReader, what: str, mend: str, *, source: str | None = None
) -> None:
    """``what`` is not there; ``mend`` is for the case that there is something else, of ``source`` if one was named."""
    seen = {event.source for event in reader.events()} if reader.exists else set()
    if seen and source is not None and source not in seen:
        paragraph(
            screen, f"Nothing was seen of the source {plain(source)}. Seen were: {plain(', '.join(sorted(seen)))}."
        )
    elif seen:
        paragraph(screen, f"{what} {mend}")
    elif not settings.schema:
        paragraph(screen, "Nothing is recorded: turn the setting `schema` on, and start the server again.")
    else:
        paragraph(
            screen,
            "Nothing was seen yet. Start the server (trunkline serve) and send an event (trunkline send): it is here "
            "some seconds later.",
        )


def say_what_was_skipped(screen: Console, reader: SchemaReader) -> None:
    skipped = reader.skipped()
    if skipped is not None:
        paragraph(
            screen,
            f"Note: {count_text(skipped.events, 'accepted event')} went from the log before being counted here, last "
            f"{time_text(skipped.last_ms)}. Give the log more time (`log_retention_hours`) or space.",
            style="yellow",
        )
