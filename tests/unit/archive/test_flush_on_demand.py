"""Somebody asks for what was accepted so far."""

from __future__ import annotations

import threading

import pytest

from tests.support.waiting import wait_until
from tests.unit.archive.archive_world import event
from tests.unit.archive.conftest import MakeWorld
from tests.unit.archive.test_archivist import Run
from trunkline.archive.errors import StoreError


def test_it_is_written_at_once_and_only_once(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world, flush_s=300)
    world.append(event("a"))
    run.archivist.work()
    assert world.archived() == []
    run.archivist.flush_soon()
    run.archivist.work()
    world.check()
    world.append(event("b"))
    run.archivist.work()
    assert len(world.archived()) == 1, "the next ones wait as usual"


def test_a_store_that_fails_does_not_make_it_forgotten(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world, flush_s=300)
    world.append(event("a"))
    run.archivist.flush_soon()
    world.store.failures = 1
    with pytest.raises(StoreError):
        run.archivist.work()
    run.archivist.work()
    world.check()


def test_one_that_sleeps_is_woken(make_world: MakeWorld) -> None:
    world = make_world()
    run = Run(world, flush_s=300)
    thread = threading.Thread(target=run.archivist.run)
    thread.start()
    try:
        world.append(event("a"))
        run.archivist.flush_soon()
        wait_until(lambda: len(world.archived()) == 1, "the event is archived")
    finally:
        run.archivist.stop()
        thread.join()
