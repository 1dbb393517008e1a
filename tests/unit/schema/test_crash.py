"""Killed anywhere: every event counts once."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.crashing import Failpoints, Killed, failpoints_in
from tests.unit.schema.conftest import MakeWorld
from tests.unit.schema.schema_world import World, accepted, blocked
from trunkline.schema import database as database_module
from trunkline.schema.database import SchemaDatabase
from trunkline.schema.errors import SchemaFailed, SchemaLocked, SchemaTooNew

STEPS = ["schema.commit.between", "schema.commit.before", "schema.commit.after", "schema.tidy.before_commit"]


@pytest.fixture
def failpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[Failpoints]:
    yield from failpoints_in(monkeypatch, database_module)


def fill(world: World, number: int) -> None:
    protocols = {"sourceId": "web", "violations": [{"type": "Required", "field": "a", "description": "a is required"}]}
    world.append(accepted(f"E{number}", {"a": 1, f"p{number}": 2}), accepted(properties={"a": 1}, protocols=protocols))
    world.append(blocked(properties={"a": 1}), blocked(f"E{number}", reason="event_setting"))


def observe_and_tidy(world: World) -> None:
    world.observe()
    world.observer.tidy(90)


def check(world: World, rounds: int) -> None:
    assert world.counts() == world.expected
    assert world.properties()["a"] == (rounds, rounds, 0)
    assert world.reader.violations()[0].count == rounds
    for number in range(rounds):
        assert world.properties(f"E{number}") == {"a": (1, 0, 0), f"p{number}": (1, 0, 0)}


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("name", STEPS)
def test_a_kill_at_each_step(name: str, nth: int, make_world: MakeWorld, failpoints: Failpoints) -> None:
    world = make_world()
    failpoints.name, failpoints.nth = name, nth
    rounds = 0
    killed = False
    while not killed and rounds < 6:
        fill(world, rounds)
        rounds += 1
        try:
            observe_and_tidy(world)
        except Killed:
            killed = True
    world.restart()
    fill(world, rounds)
    world.observe()
    check(world, rounds + 1)


@pytest.mark.parametrize("name", STEPS)
def test_a_full_disk_at_each_step(name: str, make_world: MakeWorld, failpoints: Failpoints) -> None:
    """The process goes on, and tries again."""
    world = make_world()
    failpoints.name, failpoints.error = name, OSError(errno.ENOSPC, "No space left on device")
    fill(world, 0)
    with pytest.raises((SchemaFailed, OSError)):
        observe_and_tidy(world)
    fill(world, 1)
    world.observe()
    check(world, 2)


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.sampled_from(["fill", "observe", "advance", "kill", "tidy"]), max_size=25))
def test_any_order_of_steps(steps: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("schema"))
    rounds = 0
    for step in steps:
        if step == "fill":
            fill(world, rounds)
            rounds += 1
        elif step == "observe":
            world.observe()
        elif step == "advance":
            world.clock.pass_s(3)
            world.observer.advance()
        elif step == "tidy":
            world.observer.tidy(90)
        else:
            world.restart()
    fill(world, rounds)
    world.observe()
    check(world, rounds + 1)
    world.database.close()


def test_one_writer_at_a_time(world: World) -> None:
    with pytest.raises(SchemaLocked):
        SchemaDatabase(world.path)


def test_a_newer_database_is_left_alone(world: World) -> None:
    world.database._db.execute("PRAGMA user_version=99")
    world.database.close()
    with pytest.raises(SchemaTooNew, match="99"):
        SchemaDatabase(world.path)
    with pytest.raises(SchemaTooNew):
        world.reader.events()
    world.database = None  # type: ignore[assignment]
