"""``trunkline``: puts the subcommands together."""

from __future__ import annotations

import sys

import typer

from trunkline import __version__
from trunkline.cli import (
    cdn,
    check,
    deliveries,
    demo,
    egress,
    export,
    gaps,
    lanes,
    replay,
    send,
    serve,
    unknown_keys,
    verify,
    why,
)
from trunkline.secrets import SecretsError
from trunkline.settings import SettingsError
from trunkline.state.base import StateError
from trunkline.workspace.errors import WorkspaceError

app = typer.Typer(
    name="trunkline",
    help="A self-hosted customer data platform that Segment's own SDKs run against unchanged.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trunkline {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Options of every subcommand."""


for command in (
    serve,
    demo,
    send,
    check,
    verify,
    why,
    deliveries,
    gaps,
    lanes,
    replay,
    export,
    egress,
    unknown_keys,
    cdn,
):
    command.register(app)


def main() -> None:
    """The console script. Errors that an operator can mend are one line on standard error, exit status 2."""
    try:
        app()
    except (SettingsError, SecretsError, StateError, WorkspaceError) as error:
        print(f"trunkline: {error}", file=sys.stderr)
        sys.exit(2)
