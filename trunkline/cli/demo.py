"""``trunkline demo``: see it work, without any set-up."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

from trunkline.cli.demo_drive import Driver
from trunkline.cli.demo_server import INBOX, DemoError, DemoServer, Totals
from trunkline.cli.demo_sink import DemoSink
from trunkline.cli.demo_tally import Tally
from trunkline.cli.demo_traffic import SOURCES, Shop
from trunkline.cli.demo_view import Scene, books_table, live_view, plain_books, plain_line
from trunkline.client.tracking import TrackingClient, base_url
from trunkline.clock import Clock, SystemClock
from trunkline.destinations.inbox import inbox_path
from trunkline.log.base import LogError
from trunkline.observe.books import Books

REFRESH_S: Final = 0.25
PLAIN_INTERVAL_S: Final = 1.0
DRAIN_S: Final = 20.0
RETRY_FOR_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class DemoJob:
    """What the command line asked for. ``url`` and ``write_key``: send to a running server instead."""

    seconds: float
    rate: float
    data_dir: Path | None
    url: str | None
    write_key: str | None


def demo(
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=3600, help="How long to send.")] = 20.0,
    rate: Annotated[float, typer.Option("--rate", min=1, max=500, help="Events a second.")] = 100.0,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Use this directory and keep it. Default: a temporary one.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Send to this server instead of starting one.")] = None,
    write_key: Annotated[str | None, typer.Option("--write-key", help="With --url: the write key.")] = None,
) -> None:
    """Start a shop's worth of traffic and watch it arrive: needs no set-up and leaves nothing behind.

    Starts a server of its own with three sources, a webhook whose other end it plays itself, and an inbox; sends
    events of every type, some of them twice and some of them wrong; ends with the books.

    Exit status: 0 the books balance, 1 they do not, 2 it could not run.
    """
    try:
        if (url is None) != (write_key is None):
            raise DemoError("--url and --write-key belong together.")
        if url is not None and data_dir is not None:
            raise DemoError("--data-dir is for a server of the demonstration's own; --url names another.")
        status = asyncio.run(_run(DemoJob(seconds, rate, data_dir, url, write_key), SystemClock()))
    except (DemoError, LogError, OSError) as error:
        typer.echo(f"trunkline: {error}", err=True)
        raise typer.Exit(2) from None
    except asyncio.CancelledError:
        raise typer.Exit(130) from None
    raise typer.Exit(status)


async def _run(job: DemoJob, clock: Clock) -> int:
    stop = asyncio.Event()
    with _stop_on_signals(stop):
        if job.url is not None and job.write_key is not None:
            return await _against_url(job, job.url, job.write_key, clock, stop)
        if job.data_dir is not None:
            return await _with_own_server(job, job.data_dir, clock, stop)
        directory = Path(tempfile.mkdtemp(prefix="trunkline-demo-"))
        try:
            return await _with_own_server(job, directory, clock, stop)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """The first signal ends the demonstration in order, the second at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        # What is left is tidying up; another signal must not cut it short.
        for number in numbers:
            loop.add_signal_handler(number, lambda: None)


# -- the two ways ------------------------------------------------------------------------------------------------


async def _with_own_server(job: DemoJob, data_dir: Path, clock: Clock, stop: asyncio.Event) -> int:
    tally = Tally(clock.monotonic_s())
    server = DemoServer(data_dir)
    sink = DemoSink(tally, clock)
    clients: dict[str, TrackingClient] = {}
    try:
        typer.echo("Starting a server of the demonstration's own …")
        await server.start(await sink.start())
        before = server.totals()
        for slug, key in server.write_keys.items():
            clients[slug] = TrackingClient(server.url, key, clock, retry_for_s=RETRY_FOR_S)
        tally.started_s = clock.monotonic_s()
        driver = Driver(Shop(SystemRandom()), clients, tally, clock, rate=job.rate, time_answers=False)
        phase = "sending"

        def scene() -> Scene:
            totals = _since(before, server.totals())
            return Scene(server.url, phase, clock.monotonic_s() - tally.started_s, tally, totals)

        async with _shown(scene):
            await _drive(driver, job.seconds, stop)
            phase = "waiting for the last deliveries"
            books = await _settle(server, clock)
        problems = _compare(books, tally, _since(before, server.totals()))
    finally:
        for client in clients.values():
            await client.close()
        await server.stop()
        await sink.stop()
    _report(books, problems, tally, data_dir if job.data_dir is not None else None)
    return 1 if problems else 0


async def _against_url(job: DemoJob, url: str, write_key: str, clock: Clock, stop: asyncio.Event) -> int:
    try:
        address = base_url(url)
    except ValueError as error:
        raise DemoError(str(error)) from None
    tally = Tally(clock.monotonic_s())
    client = TrackingClient(address, write_key, clock, retry_for_s=RETRY_FOR_S)
    try:
        if problem := await client.key_problem():
            raise DemoError(f"{problem} The server would answer 200 and drop the events.")
        clients = dict.fromkeys(SOURCES, client)
        driver = Driver(Shop(SystemRandom()), clients, tally, clock, rate=job.rate, time_answers=True)
        async with _shown(lambda: Scene(address, "sending", clock.monotonic_s() - tally.started_s, tally, None)):
            await _drive(driver, job.seconds, stop)
    finally:
        await client.close()
    rejected = ", ".join(f"{code} {count:,}" for code, count in tally.rejected.most_common())
    typer.echo(
        f"Sent {tally.sent:,} events in {tally.requests:,} requests: {tally.taken:,} taken, "
        f"{tally.rejected.total():,} rejected{f' ({rejected})' if rejected else ''}, {tally.unsent:,} not answered."
    )
    typer.echo("What became of them is known to the server: `trunkline verify --data-dir DIR` beside it.")
    if tally.unsent:
        typer.echo(f"The last trouble: {tally.trouble}", err=True)
        return 1
    return 0


async def _drive(driver: Driver, seconds: float, stop: asyncio.Event) -> None:
    try:
        await driver.run(seconds, stop)
    except asyncio.CancelledError:
        await driver.cancel()
        raise


async def _settle(server: DemoServer, clock: Clock) -> Books:
    """The books when nothing is pending any more, or as they are when that takes too long."""
    until_s = clock.monotonic_s() + DRAIN_S
    while True:
        books = await asyncio.to_thread(server.books)
        waiting = any(line.pending for line in books.destinations.values())
        if not waiting or clock.monotonic_s() > until_s:
            return books
        if not server.alive:
            raise DemoError("the server ended by itself")
        await asyncio.sleep(REFRESH_S)


def _since(before: Totals, now: Totals) -> Totals:
    """A directory that is used again holds the counts of earlier runs."""
    return Totals(
        now.rejected - before.rejected,
        now.duplicates - before.duplicates,
        now.delivered - before.delivered,
        now.in_inbox - before.in_inbox,
        now.failed - before.failed,
    )


def _compare(books: Books, tally: Tally, totals: Totals) -> list[str]:
    """Problems of the books, and where they differ from what was counted outside of them."""
    problems = list(books.problems)
    # A request that was repeated or given up may have been recorded without our having read the answer.
    if not tally.unsent and not tally.retries and totals.rejected != tally.rejected.total():
        problems.append(f"the answers rejected {tally.rejected.total():,} events, the books {totals.rejected:,}")
    if not any(line.pending for line in books.destinations.values()) and totals.delivered != tally.arrived:
        problems.append(f"{tally.arrived:,} events reached the sink, the books say {totals.delivered:,}")
    return problems


# -- what is shown -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def _shown(scene: Callable[[], Scene]) -> AsyncIterator[None]:
    """Show the scene while the body runs."""
    console = Console()
    if console.is_terminal:
        with Live(live_view(scene()), console=console, auto_refresh=False) as live:
            showing = asyncio.create_task(_repeat(lambda: live.update(live_view(scene()), refresh=True), REFRESH_S))
            try:
                yield
            finally:
                showing.cancel()
                live.update(live_view(scene()), refresh=True)
    else:
        showing = asyncio.create_task(_repeat(lambda: typer.echo(plain_line(scene())), PLAIN_INTERVAL_S))
        try:
            yield
        finally:
            showing.cancel()
            typer.echo(plain_line(scene()))


async def _repeat(show: Callable[[], None], interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        show()


def _report(books: Books, problems: list[str], tally: Tally, kept: Path | None) -> None:
    console = Console()
    if console.is_terminal:
        console.print(books_table(books))
    else:
        for line in plain_books(books):
            typer.echo(line)
    rejected = ", ".join(f"{count:,} {code}" for code, count in tally.rejected.most_common())
    typer.echo(
        f"Sent {tally.sent:,} events, {tally.rejected.total():,} rejected{f' ({rejected})' if rejected else ''}; "
        f"{tally.arrived:,} reached the sink, {tally.arrived_again:,} of them more than once."
    )
    pending = sum(line.pending for line in books.destinations.values())
    if pending:
        typer.echo(f"{pending:,} deliveries were still pending when the demonstration ended.")
    if tally.unsent:
        typer.echo(f"{tally.unsent:,} events were not sent: {tally.trouble}", err=True)
    for problem in problems:
        typer.echo(problem, err=True)
    typer.echo("The books do not balance." if problems else "The books balance.")
    if kept is not None:
        typer.echo(f"What arrived: {inbox_path(kept, INBOX)}")


def register(app: typer.Typer) -> None:
    app.command()(demo)
