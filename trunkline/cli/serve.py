"""``trunkline serve``: start everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets as random
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.clock import SystemClock
from trunkline.runtime.layout import DataDir
from trunkline.runtime.logging import configure_logging
from trunkline.runtime.supervisor import ROLES, ServeError, Supervisor
from trunkline.settings import Settings
from trunkline.workspace.model import Snapshot, Source
from trunkline.workspace.starter import starter_yaml


def serve(
    data_dir: DataDirOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The workspace's YAML file. Default: a starter workspace.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port of the Tracking API and the CDN.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="Run only this role (ingest, worker, archive).")
    ] = None,
) -> None:
    """Take events in, process them, deliver them. Stops in order on SIGTERM or Ctrl-C; SIGHUP reloads the workspace."""
    flags = {
        name: value
        for name, value in {"data_dir": data_dir, "config": config, "port": port, "host": host}.items()
        if value is not None
    }
    settings = settings_for(**flags)
    os.umask(0o077)
    roles = tuple(role or ROLES)
    for name in roles:
        if name not in ROLES:
            raise typer.BadParameter(f"there is no role {name!r}; use {' or '.join(ROLES)}", param_hint="--role")
    configure_logging("supervisor")
    try:
        _make_data_dir(settings.data_dir)
        if settings.config is None:
            flags["config"] = _starter(settings)
            settings = settings_for(**flags)
        supervisor = Supervisor(settings, _portable(flags), SystemClock(), roles)
        problems = supervisor.load_workspace()
        for problem in problems:
            print(problem, file=sys.stderr)
        if not supervisor.has_workspace:
            raise ServeError(f"{settings.config} cannot be used and there is no earlier workspace to go on with.")
        if problems:
            print("trunkline: the file is refused; the last good workspace stays in force.", file=sys.stderr)
        address = supervisor.bind() if "ingest" in roles else ""
    except ServeError as error:
        print(f"trunkline: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    banner = _banner(supervisor.snapshot, address, settings) if address else ""
    asyncio.run(supervisor.run(lambda: _say(banner)))


def _portable(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags as the children read them, whatever folder they start in."""
    return {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in flags.items()}


def _make_data_dir(path: Path) -> None:
    """Raises ServeError unless it is there, or can be made, and can be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServeError(
            f"{path}: the data directory can't be made ({error.strerror}). Name another one with --data-dir."
        ) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ServeError(
            f"{path}: the data directory can't be written to. Make it this user's, or name another one with --data-dir."
        )


def _starter(settings: Settings) -> Path:
    """The starter workspace's file in the data directory, written at the first start."""
    path = DataDir(settings.data_dir).starter
    if not path.exists():
        path.write_text(starter_yaml(f"wk_{random.token_hex(12)}", settings.port), "utf-8")
    return path


def _say(text: str) -> None:
    """Nobody has to listen: a closed standard output must not keep the server from serving."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def _banner(snapshot: Snapshot, address: str, settings: Settings) -> str:
    """What a newcomer needs: the address, a write key, a line to paste, where to look."""
    lines = [f"Trunkline listens on {address}", f"Workspace {snapshot.name} from {settings.config}"]
    source = _source_to_try(snapshot)
    if source is None:
        return "\n".join(
            [*lines, "No source is enabled yet: add one to the workspace's file; it is reloaded by itself."]
        )
    key = source.write_keys[0]
    event = json.dumps({"userId": "user-1", "event": "Order Completed", "properties": {"revenue": 42}})
    lines += [
        f"Write key of source {source.slug}: {key}",
        "",
        "Send an event:",
        f"  curl {address}/v1/track -u {key}: -H 'Content-Type: application/json' -d '{event}'",
        "",
        "See what arrived:",
    ]
    lines += [
        f"  tail -F {settings.data_dir / 'inbox' / (destination.slug + '.ndjson')}"
        for destination in snapshot.destinations.values()
        if destination.type == "inbox" and destination.enabled and source.slug in destination.sources
    ]
    lines += [f"  trunkline verify --data-dir {settings.data_dir}", ""]
    return "\n".join(lines)


def _source_to_try(snapshot: Snapshot) -> Source | None:
    """One that takes events, if possible one whose events are delivered somewhere."""
    heard = {slug for place in snapshot.destinations.values() if place.enabled for slug in place.sources}
    enabled = [source for source in snapshot.sources.values() if source.enabled]
    return next((source for source in enabled if source.slug in heard), next(iter(enabled), None))


def register(app: typer.Typer) -> None:
    app.command()(serve)
