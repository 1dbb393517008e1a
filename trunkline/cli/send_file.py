"""``trunkline send --file``: the run over a file, as the terminal shows it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from trunkline.client.lines import FileProblem, Lines, Mark
from trunkline.client.position import VERSION, Position, PositionError, read_position, write_position
from trunkline.client.tracking import Refused, SendError, TrackingClient, Wait
from trunkline.client.upload import Rejection, Upload
from trunkline.clock import Clock

LISTED_REJECTIONS: Final = 20
REPORT_INTERVAL_S: Final = 5.0
KEY_END: Final = 4
STATE_SUFFIX: Final = ".trunkline-send"


class UsageProblem(Exception):
    """The command can't be carried out as it was given."""


@dataclass(frozen=True, slots=True)
class FileJob:
    """What the command line asked for. ``file`` is ``-`` for standard input."""

    file: str
    url: str
    write_key: str
    rate: float | None
    state: Path | None
    restart: bool
    reject_file: Path | None
    retry_for_s: float


def tell(text: str) -> None:
    """A line on standard error, above the progress bar if there is one."""
    print(text, file=sys.stderr, flush=True)


def print_wait(wait: Wait) -> None:
    """Tell that the server could not take it now."""
    tell(f"{wait.reason}; trying again in {wait.wait_s:.1f} s")


def send_file(job: FileJob, clock: Clock) -> bool:
    """Whether every line was taken. Raises UsageProblem, SendError."""
    path = None if job.file == "-" else Path(job.file)
    state = job.state or (None if path is None else path.with_name(path.name + STATE_SUFFIX))
    try:
        with Lines(path) as lines:
            position, resumed = _begin(job, lines, state)
            with _open_keeper(job, state, resumed) as keeper:
                return _run(job, lines, position, keeper, clock)
    except (FileProblem, PositionError) as error:
        raise UsageProblem(str(error)) from error


def _begin(job: FileJob, lines: Lines, state: Path | None) -> tuple[Position, bool]:
    """The position to start from, and whether it is that of an earlier run."""
    fresh = Position(VERSION, job.url, job.write_key[-KEY_END:])
    position = None if state is None or job.restart else read_position(state)
    if position is None:
        return fresh, False
    if (position.server, position.key_end) != (fresh.server, fresh.key_end):
        raise UsageProblem(
            f"{state} speaks of {position.server} and a write key that ends in {position.key_end}, not of "
            f"{fresh.server} and {fresh.key_end}; use --restart to send all to it, or name another file with --state"
        )
    if position.offset_bytes and not lines.skip_to(Mark(position.line, position.offset_bytes, position.fingerprint)):
        raise UsageProblem(
            f"{lines.name} is not the content that {state} speaks of: its first {position.line:,} lines have changed. "
            "Use --restart to send all of it, or name another file with --state"
        )
    return position, position.line > 0


class _Keeper:
    """Writes the position and the rejected lines, and lists the first of these."""

    def __init__(self, state: Path | None, rejects: BinaryIO | None) -> None:
        self._state = state
        self._rejects = rejects
        self._listed = 0
        self.unlisted = 0

    @property
    def keeps(self) -> bool:
        """Whether a later run can go on."""
        return self._state is not None

    def reject(self, rejections: Sequence[Rejection]) -> None:
        for rejection in rejections:
            if self._listed < LISTED_REJECTIONS:
                self._listed += 1
                tell(f"line {rejection.line}: {rejection.code}: {rejection.message}")
            else:
                self.unlisted += 1
        if self._rejects is not None:
            self._rejects.write(b"".join(_as_json(rejection) for rejection in rejections))
            self._rejects.flush()

    def keep(self, position: Position) -> None:
        if self._state is not None:
            write_position(self._state, position)


def _as_json(rejection: Rejection) -> bytes:
    return (
        msgspec.json.encode(
            {
                "line": rejection.line,
                "code": rejection.code,
                "message": rejection.message,
                "text": rejection.text.decode("utf-8", "replace"),
            }
        )
        + b"\n"
    )


@contextmanager
def _open_keeper(job: FileJob, state: Path | None, resumed: bool) -> Iterator[_Keeper]:
    if job.reject_file is None:
        yield _Keeper(state, None)
        return
    try:
        file = job.reject_file.open("ab" if resumed else "wb")
    except OSError as error:
        raise UsageProblem(f"{job.reject_file}: {error.strerror}") from error
    with file:
        yield _Keeper(state, file)


def _run(job: FileJob, lines: Lines, position: Position, keeper: _Keeper, clock: Clock) -> bool:
    client = TrackingClient(job.url, job.write_key, clock, retry_for_s=job.retry_for_s, on_wait=print_wait)
    upload = Upload(lines, position, client, keeper, clock, rate=job.rate)
    if position.line:
        tell(f"Going on behind line {position.line:,}.")
    before = position.line
    with asyncio.Runner() as runner, _progress(lines, clock) as show:
        try:
            if problem := runner.run(client.key_problem()):
                raise Refused(200, "", f"{problem} The server would answer 200 and drop the events.")
            for batch in upload.batches():
                runner.run(upload.send(batch))
                show(position)
        except (SendError, FileProblem, KeyboardInterrupt) as error:
            again = " The same command goes on there." if keeper.keeps else ""
            tell(f"Stopped behind line {position.line:,}.{again}")
            if isinstance(error, KeyboardInterrupt):
                raise typer.Exit(130) from None
            raise
        finally:
            runner.run(client.close())
    return _summary(upload, keeper, before, lines.name)


def _summary(upload: Upload, keeper: _Keeper, before: int, name: str) -> bool:
    position = upload.position
    if keeper.unlisted:
        tell(f"… and {keeper.unlisted:,} more; --reject-file keeps all of them")
    if upload.unended is not None:
        tell(
            f"line {upload.unended.number}: not sent: the file ends within it. Run the command again when it is whole."
        )
    earlier = f" ({before:,} of them in earlier runs)" if before else ""
    typer.echo(
        f"{name}: {position.line:,} lines{earlier}, {position.taken:,} events taken, {position.rejected:,} rejected."
    )
    return position.rejected == 0 and upload.unended is None


@contextmanager
def _progress(lines: Lines, clock: Clock) -> Iterator[Callable[[Position], None]]:
    """A bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal or lines.size_bytes is None:
        said_s = clock.monotonic_s()

        def say(position: Position) -> None:
            nonlocal said_s
            if clock.monotonic_s() - said_s >= REPORT_INTERVAL_S:
                said_s = clock.monotonic_s()
                tell(f"line {position.line:,}: {position.taken:,} taken, {position.rejected:,} rejected")

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("0 events", total=lines.size_bytes)

        def show(position: Position) -> None:
            text = f"{position.taken:,} taken, {position.rejected:,} rejected"
            progress.update(task, completed=lines.read_bytes, description=text)

        yield show
