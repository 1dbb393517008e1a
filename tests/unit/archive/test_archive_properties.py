"""Whatever comes, in whatever order: each accepted event is in the archive once, in order, and is found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.crashing import Killed
from tests.support.hand_clock import HandClock
from tests.unit.archive.archive_world import DAY_MS, T0, World, blocked_event, event
from trunkline.archive.errors import ArchiveError
from trunkline.archive.local_store import LocalStore
from trunkline.log.records import AcceptedEvent, BlockedEvent
from trunkline.testing.memory_log import MemoryLog

EVENTS = st.lists(
    st.builds(
        lambda source, day, kind, pad: (source, day, kind, pad),
        st.sampled_from(["web", "shop", "app"]),
        st.integers(0, 2),
        st.sampled_from(["track", "identify", "object"]),
        st.sampled_from([0, 0, 200, 3000]),
    ),
    max_size=12,
)
STEPS = st.one_of(
    st.tuples(st.just("append"), EVENTS, EVENTS),
    st.tuples(st.just("fence"), st.none()),
    st.tuples(st.just("gather"), st.none()),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("restart"), st.sampled_from([3_000, 20_000, 1 << 20])),
    st.tuples(st.just("fail"), st.integers(1, 3)),
    st.tuples(st.just("die_before"), st.integers(0, 3)),
    st.tuples(st.just("die_after"), st.integers(0, 3)),
)


def step(world: World, work: Callable[[], object]) -> None:
    """As the process does: an error is tried again later, a death is followed by a new start."""
    try:
        with suppress(ArchiveError):
            work()
    except Killed:
        world.restart()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=40), st.booleans(), st.integers(0, 100))
def test_each_event_is_archived_once_and_found(steps: list[tuple[Any, ...]], kafka_like: bool, seed: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        world = World(
            root,
            LocalStore(root / "objects"),
            log=MemoryLog(kafka_like, seed, clock=HandClock(T0 + 1000)),
            file_bytes=5_000,
            buffer_bytes=20_000,
        )
        serial = epoch = 0
        for action, value, *more in steps:
            if action == "append":
                events: list[AcceptedEvent] = []
                for source, day, kind, pad in value:
                    events.append(event(f"e{serial}", source=source, at_ms=T0 + day * DAY_MS, kind=kind, pad=pad))
                    serial += 1
                blocked: list[BlockedEvent] = []
                for source, day, _, pad in more[0]:
                    blocked.append(blocked_event(f"e{serial}", source=source, at_ms=T0 + day * DAY_MS, pad=pad))
                    serial += 1
                world.append(*events, blocked=blocked, epoch=epoch)
            elif action == "fence":
                epoch += 1
                world.append(fence=True, epoch=epoch)
            elif action == "gather":
                step(world, world.gather)
            elif action == "flush":
                step(world, world.writer.flush)
            elif action == "restart":
                world.settings["file_bytes"] = value
                world.restart()
            elif action == "fail":
                world.store.failures = value
            elif action == "die_before":
                world.store.die_before = value
            else:
                world.store.die_after = value
        world.store.failures, world.store.die_before, world.store.die_after = 0, None, None
        while world.writer.advance() or world.writer.flush():
            pass
        world.check()
        for sent in world.appended:
            found = world.reader.find(sent.message_id, source=sent.source)
            assert found is not None
            assert found.body == sent.body
        for gone in world.blocked:
            assert world.blocked_reader.find(gone.message_id) == [gone]
            assert world.reader.find(gone.message_id) is None
        world.index.close()
