"""``trunkline send``: one event from the command line, or a file of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from trunkline import __version__
from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.send_file import FileJob, UsageProblem, print_wait, send_file
from trunkline.client.tracking import Refused, SendError, TrackingClient, base_url
from trunkline.clock import Clock, SystemClock
from trunkline.runtime.layout import DataDir
from trunkline.secrets import Secrets, SecretsError
from trunkline.settings import Settings
from trunkline.spec.event import TYPES
from trunkline.workspace.errors import WorkspaceError
from trunkline.workspace.model import Source
from trunkline.workspace.store import FILE_NAME, ConfigStore

RETRY_FOR_S: Final = 60.0
RETRY_FOR_FILE_S: Final = 3600.0
Pairs = list[str] | None


def send(
    data_dir: DataDirOption = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Default: the data directory's server.", show_default=False),
    ] = None,
    write_key: Annotated[
        str | None,
        typer.Option("--write-key", help="Write key. Default: that of --source in the data directory's workspace."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Slug of the source to send as. Default: the first that is enabled.")
    ] = None,
    kind: Annotated[str, typer.Option("--type", help="track, identify, page, screen, group or alias.")] = "track",
    event: Annotated[str | None, typer.Option("--event", help="Name of a track event.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of a page or screen.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="userId.")] = None,
    anonymous: Annotated[str | None, typer.Option("--anonymous", help="anonymousId.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="groupId of a group call.")] = None,
    previous: Annotated[str | None, typer.Option("--previous", help="previousId of an alias call.")] = None,
    properties: Annotated[
        Pairs, typer.Option("--property", metavar="NAME=VALUE", help="A property; JSON or text. May be repeated.")
    ] = None,
    traits: Annotated[
        Pairs, typer.Option("--trait", metavar="NAME=VALUE", help="A trait; JSON or text. May be repeated.")
    ] = None,
    timestamp: Annotated[str | None, typer.Option("--timestamp", help="When it happened. Default: now.")] = None,
    message_id: Annotated[str | None, typer.Option("--message-id", help="messageId. Default: a new one.")] = None,
    json_text: Annotated[
        str | None, typer.Option("--json", metavar="JSON", help="The whole event as JSON; other flags add to it.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", metavar="FILE", help="Send the events of this file, one JSON object a line; - is standard input."
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, help="With --file: at most so many a second.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="With --file: where the position is kept. Default: FILE.trunkline-send."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="With --file: begin anew, whatever was sent.")] = False,
    reject_file: Annotated[
        Path | None, typer.Option("--reject-file", help="With --file: write the lines that were not taken here.")
    ] = None,
    retry_for_s: Annotated[
        float | None,
        typer.Option(
            "--retry-for", min=0, help="Go on trying for so many seconds. Default: 60, with --file 3600 a request."
        ),
    ] = None,
) -> None:
    """Send one event and print the server's verdict, or send a file of events.

    A file is plain, gzip or zstd. What was sent is remembered, so the same command goes on where it stopped.
    Timestamps and messageIds of the file's events are kept.

    Exit status: 0 all were taken, 1 some were rejected, 2 not sent.
    """
    clock = SystemClock()
    try:
        target = _target(data_dir, url, write_key, source)
        if file is None:
            fields = {
                "event": event,
                "name": name,
                "userId": user,
                "anonymousId": anonymous,
                "groupId": group,
                "previousId": previous,
                "timestamp": timestamp,
                "messageId": message_id,
            }
            if rate or state or restart or reject_file:
                raise UsageProblem("--rate, --state, --restart and --reject-file belong to --file")
            body = _event(kind, json_text, fields, properties, traits)
            taken = asyncio.run(_send_one(target, body, clock, RETRY_FOR_S if retry_for_s is None else retry_for_s))
        else:
            wait_s = RETRY_FOR_FILE_S if retry_for_s is None else retry_for_s
            job = FileJob(file, target.url, target.write_key, rate, state, restart, reject_file, wait_s)
            taken = send_file(job, clock)
    except (UsageProblem, SendError, SecretsError, WorkspaceError) as error:
        typer.echo(f"trunkline: {error}", err=True)
        if isinstance(error, SendError) and not isinstance(error, Refused):
            typer.echo(
                "If that is the wrong server: name another with --url, or its directory with --data-dir.", err=True
            )
        raise typer.Exit(2) from None
    raise typer.Exit(0 if taken else 1)


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    write_key: str


def _target(data_dir: Path | None, url: str | None, write_key: str | None, source: str | None) -> _Target:
    """Where to send and as whom: what was given, the rest from the data directory."""
    settings = settings_for(data_dir=data_dir)
    if write_key is not None and source is not None:
        raise UsageProblem("--write-key and --source both name a source; give one")
    try:
        address = base_url(url if url is not None else _address(settings))
    except ValueError as error:
        raise UsageProblem(str(error)) from None
    return _Target(address, write_key or _key(settings, source))


def _address(settings: Settings) -> str:
    """Of the server that serves the data directory now; else what the settings would make it."""
    with contextlib.suppress(OSError):
        return DataDir(settings.data_dir).address.read_text("utf-8")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _key(settings: Settings, slug: str | None) -> str:
    if not (settings.data_dir / FILE_NAME).exists():
        raise UsageProblem(
            f"{settings.data_dir} holds no workspace to take a write key from; give --write-key, or the directory that "
            "`trunkline serve` uses with --data-dir"
        )
    with ConfigStore(settings.data_dir, Secrets.open(settings.data_dir, settings.master_key), SystemClock()) as store:
        snapshot = store.active()
    sources = snapshot.sources if snapshot is not None else {}
    if slug is not None and slug not in sources:
        raise UsageProblem(f"there is no source {slug!r}; there are: {', '.join(sources) or 'none'}")
    found: Source | None = (
        sources[slug] if slug is not None else next((item for item in sources.values() if item.enabled), None)
    )
    if found is None:
        raise UsageProblem("the workspace has no source that is enabled; give --write-key")
    return found.write_keys[0]


def _event(
    kind: str, json_text: str | None, fields: dict[str, str | None], properties: Pairs, traits: Pairs
) -> dict[str, Any]:
    """The event that the flags describe. Raises UsageProblem."""
    event: dict[str, Any] = {"type": kind}
    if json_text is not None:
        try:
            given = json.loads(json_text)
        except ValueError as error:
            raise UsageProblem(f"--json: {error}") from None
        if not isinstance(given, dict):
            raise UsageProblem("--json: not a JSON object")
        event |= given
    event |= {name: value for name, value in fields.items() if value is not None}
    for name, pairs in (("properties", properties), ("traits", traits)):
        if pairs:
            event[name] = {**event.get(name, {}), **_pairs(pairs)}
    if event["type"] not in TYPES:
        raise UsageProblem(f"there is no type {event['type']!r}; use track, identify, page, screen, group or alias")
    # Of our own making, so that a try after a lost answer is taken out as a duplicate.
    event.setdefault("messageId", f"cli-{uuid.uuid4()}")
    event.setdefault("context", {"library": {"name": "trunkline-send", "version": __version__}})
    return event


def _pairs(pairs: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageProblem(f"{pair!r} is not NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


async def _send_one(target: _Target, event: dict[str, Any], clock: Clock, retry_for_s: float) -> bool:
    """Whether the event was taken; prints the verdict. Raises SendError."""
    client = TrackingClient(target.url, target.write_key, clock, retry_for_s=retry_for_s, on_wait=print_wait)
    try:
        if problem := await client.key_problem():
            raise Refused(200, "", f"{problem} The server would answer 200 and drop the event.")
        verdict = await client.post(event["type"], msgspec.json.encode(event))
    finally:
        await client.close()
    label = " ".join(filter(None, (event["type"], json.dumps(event["event"]) if "event" in event else "")))
    for rejected in verdict.rejected:
        typer.echo(f"Rejected ({rejected.code}): {rejected.message}")
    if verdict.rejected_count:
        return False
    typer.echo(f"Taken: {label}, messageId {event['messageId']}. It is stored on {target.url} and will be delivered.")
    return True


def register(app: typer.Typer) -> None:
    app.command()(send)
