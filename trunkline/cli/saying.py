"""What commands say on standard error: why they end, how far they are."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer


def fail(message: str, status: int = 2) -> NoReturn:
    """Say why, and end the command with this status."""
    print(f"trunkline: {message}", file=sys.stderr)
    raise typer.Exit(status)


def show_looked_at(events: int | None) -> None:
    """How many events a command has looked at, on a terminal only; None takes the line away."""
    if sys.stderr.isatty():
        print("\r\033[K" if events is None else f"\rLooked at {events:,} events", end="", file=sys.stderr, flush=True)
