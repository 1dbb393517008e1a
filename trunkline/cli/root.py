"""The program without its subcommands: what ``trunkline`` itself does and takes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final

import typer
from typer.core import TyperGroup

from trunkline import __version__

INTERRUPTED: Final = 130
"""Exit status of a command that Ctrl-C ended: 128 and the signal's number, as shells have it."""


class _Root(TyperGroup):
    """Ends with one line where a command leaves Ctrl-C to others. Those that have something to say catch it."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        with _interruptible():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        with _interruptible():
            return super().invoke(ctx)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("trunkline: interrupted.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trunkline {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Options of every subcommand."""


def new_root() -> typer.Typer:
    app = typer.Typer(
        name="trunkline",
        cls=_Root,
        help="A self-hosted customer data platform that Segment's own SDKs run against unchanged.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    return app
