"""A kill at every failpoint that ``trunkline serve`` passes: before and after every sync and commit."""

from __future__ import annotations

import itertools
import re
from functools import partial
from pathlib import Path

import pytest

import trunkline
from tests.crash.bounds import most_doubles
from tests.support.archive import archived_ids
from tests.support.fixtures import MakeServer
from tests.support.load import Load
from tests.support.server import Server
from tests.support.sink import Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.runtime.layout import DataDir

CONCURRENCY = 8
EVENTS_PER_S = 1_000
SETTINGS = {
    "lane_concurrency": str(CONCURRENCY),
    "log_segment_bytes": "65536",
    "dedupe_memtable_keys": "1000",
    "shutdown_grace_s": "1",
    "archive_flush_s": "0.5",
}

UNDER_LOAD = {
    "log.append.before_write": 40,
    "log.append.after_write": 40,
    "log.append.after_fsync": 40,
    "log.roll.before_fsync": 4,
    "log.roll.after_fsync": 4,
    "worker.envelope.before_append": 30,
    "worker.envelope.after_append": 30,
    "ingest.commit.before_append": 30,
    "ingest.commit.after_append": 30,
    "state.commit.before": 20,
    "state.commit.after": 20,
    "dedupe.flush.before_fsync": 1,
    "dedupe.flush.after_fsync": 1,
    "dedupe.manifest.before_rename": 2,
    "dedupe.manifest.after_rename": 2,
    "dedupe.merge.before_fsync": 1,
    "dedupe.merge.after_fsync": 1,
    "archive.plan.before_commit": 2,
    "archive.plan.after_commit": 2,
    "archive.upload.before": 2,
    "archive.put.before_fsync": 2,
    "archive.put.before_rename": 2,
    "archive.put.after_rename": 2,
    "archive.upload.after": 2,
    "archive.commit.before": 2,
    "archive.commit.after": 2,
}
"""The passage at which a process dies, far enough from the start that events are under way."""

FIRST_STARTS = (
    (
        "secrets.key.before_fsync",
        "secrets.key.after_fsync",
        "config.migrate.before_commit",
        "state.migrate.before",
        "state.migrate.after",
        "config.activate.before_commit",
        "config.activate.after_commit",
    ),
    ("files.directory.before_fsync",),
    ("files.directory.after_fsync",),
)
"""These end ``serve`` itself, before it listens: one start after the other on the same data directory."""

WHEN_OPENING = (
    "log.head.before_fsync",
    "log.head.after_fsync",
    "log.recovery.before_fsync",
    "log.recovery.after_fsync",
)
"""A child dies there whenever it opens a log that holds something."""

ELSEWHERE = {
    "config.forget.before_commit": "no part of serve; tests/unit/workspace kills there",
    "archive.migrate.before_commit": "an archive has nothing then; tests/unit/archive kills there",
    "archive.migrate.after_commit": "an archive has nothing then; tests/unit/archive kills there",
    "archive.expire.before_commit": "no file is old enough under load; tests/unit/archive kills there",
    "archive.expire.after_commit": "no file is old enough under load; tests/unit/archive kills there",
    "bulk.spool.before_fsync": "only with bulk batches; test_delivery_engine.py kills there",
    "bulk.spool.after_fsync": "only with bulk batches; test_delivery_engine.py kills there",
    "schema.commit.between": "once in five seconds; tests/unit/schema kills there",
    "schema.commit.before": "once in five seconds; tests/unit/schema kills there",
    "schema.commit.after": "once in five seconds; tests/unit/schema kills there",
    "schema.tidy.before_commit": "once an hour; tests/unit/schema kills there",
}


def test_every_failpoint_has_its_case() -> None:
    """A failpoint that is new must be put on one of the lists."""
    package = Path(trunkline.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        text = path.read_text("utf-8")
        found |= set(re.findall(r'failpoint\("([^"]+)"\)', text))
        if "_failpoint_prefix +" in text:
            prefixes = {"dedupe.flush", "dedupe.merge"}
            found |= {prefix + end for prefix in prefixes for end in re.findall(r'_prefix \+ "([^"]+)"', text)}
    assert found == {*UNDER_LOAD, *itertools.chain(*FIRST_STARTS), *WHEN_OPENING, *ELSEWHERE}


def make(make_server: MakeServer, sink: Sink) -> Server:
    config = workspace([source("web")], [webhook("hook", sink.place("hook").url, ["web"])])
    return make_server(config, settings=SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNDER_LOAD)
def test_a_kill_under_load_loses_nothing(name: str, sink: Sink, make_server: MakeServer) -> None:
    """The process dies there; the whole tree is killed on the spot and started without the failpoint."""
    hook = sink.place("hook")
    server = make(make_server, sink)
    server.start(failpoints=f"{name}=kill@{UNDER_LOAD[name]}")
    with Load(server.port, "wk_web", "e", events_per_s=EVENTS_PER_S, batch=20) as load:
        wait_until(lambda: "child.died" in server.log_text(), lambda: f"{name} is passed\n{server.log_tail()}")
        server.kill()
        deaths = server.log_text().count("child.died") + 1
        server.balanced_books()
        server.start()
        acked = len(load.acked)
        wait_until(lambda: len(load.acked) > acked, "load is taken again")
    books = server.wait_until_drained()
    assert set(load.acked) <= hook.ids(), f"lost: {sorted(set(load.acked) - hook.ids())[:5]}"
    assert hook.ids() <= set(load.sent)
    assert books.destinations["hook"].delivered == len(hook.ids())
    folder = DataDir(server.data_dir).archive
    wait_until(lambda: len(archived_ids(folder)) == len(hook.ids()), "all that was accepted is archived")
    assert archived_ids(folder) == dict.fromkeys(hook.ids(), 1)
    bound = most_doubles(CONCURRENCY) * deaths
    print(f"{name}: {len(load.acked)} acked, {deaths} deaths, {hook.doubles()} doubles, bound {bound}")
    assert hook.doubles() <= bound


@pytest.mark.slow
@pytest.mark.parametrize("names", FIRST_STARTS, ids=lambda names: names[0])
def test_a_kill_at_the_first_start_leaves_nothing_half_made(
    names: tuple[str, ...], sink: Sink, make_server: MakeServer
) -> None:
    hook = sink.place("hook")
    server = make(make_server, sink)
    for name in names:
        server.spawn(failpoints=f"{name}=kill@1")
        assert server.wait_for_end() != 0, name
    server.start()
    server.send("wk_web", {"type": "track", "event": "E", "userId": "u", "messageId": "m1"})
    books = server.wait_until_drained("hook")
    assert (books.destinations["hook"].delivered, hook.taken) == (1, {"m1": 1})


@pytest.mark.slow
@pytest.mark.parametrize("name", WHEN_OPENING)
def test_a_kill_while_a_log_is_opened_loses_nothing(name: str, sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    server = make(make_server, sink)
    server.start()
    with Load(server.port, "wk_web", "e", events_per_s=EVENTS_PER_S, batch=20) as load:
        wait_until(lambda: len(load.acked) > 200, "load is taken")
        server.kill()
    deaths = server.log_text().count("child.died")
    server.spawn(failpoints=f"{name}=kill@1")
    wait_until(partial(_died_since, server, deaths), lambda: f"{name} is passed\n{server.log_tail()}")
    server.kill()
    server.balanced_books()
    server.start()
    books = server.wait_until_drained("hook")
    assert set(load.acked) <= hook.ids() <= set(load.sent)
    assert books.destinations["hook"].delivered == len(hook.ids())


def _died_since(server: Server, deaths: int) -> bool:
    return server.log_text().count("child.died") >= deaths + 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        "log.append.before_write=enospc@30",
        "log.append.after_write=enospc@30",
        "log.roll.before_fsync=enospc@3",
        "state.commit.before=enospc@10",
        "dedupe.flush.before_fsync=enospc@1",
        "dedupe.manifest.before_rename=enospc@2",
    ],
)
def test_a_disk_that_is_full_for_a_moment_stops_nothing(place: str, sink: Sink, make_server: MakeServer) -> None:
    """No process dies, so nothing comes twice either."""
    hook = sink.place("hook")
    server = make(make_server, sink)
    server.start(failpoints=place)
    with Load(server.port, "wk_web", "e", events_per_s=EVENTS_PER_S, batch=20) as load:
        wait_until(lambda: len(load.acked) > 3_000, lambda: f"load is taken\n{server.log_tail()}")
    books = server.wait_until_drained("hook")
    assert "child.died" not in server.log_text()
    assert hook.taken == dict.fromkeys(load.acked, 1)
    assert books.destinations["hook"].delivered == len(load.acked)
    assert server.stop() == 0
    assert server.verify()[0] == 0
