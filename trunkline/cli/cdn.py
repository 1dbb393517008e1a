"""``trunkline cdn``: the browser SDK that the CDN serves."""

from __future__ import annotations

from typing import Annotated

import typer

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.ingest.analytics_js import AnalyticsJsAssets, CdnError

cdn = typer.Typer(no_args_is_help=True, help="The browser SDK that the CDN serves.")


@cdn.callback()
def _group() -> None:
    """Keeps ``install`` a subcommand while it is the only one."""


@cdn.command()
def install(
    data_dir: DataDirOption = None,
    timeout_s: Annotated[float, typer.Option(min=1.0, help="Give up after so many seconds.")] = 180.0,
) -> None:
    """Fetch Segment's browser SDK from npm into the data directory.

    The server does the same by itself when it starts; this is for a machine that had no network then. The folder
    cache/analytics-next of another data directory may be copied instead.
    """
    try:
        AnalyticsJsAssets(settings_for(data_dir=data_dir).data_dir).install(progress=print, timeout_s=timeout_s)
    except CdnError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(cdn, name="cdn")
