"""The runner, its lanes and their feeds: nothing is lost, the books balance at every commit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from tests.unit.delivery.lane_setup import tight_lanes
from tests.unit.replay.replay_world import (
    BOTH,
    FAILED,
    HOUR_MS,
    OK,
    RETRY,
    WEB,
    MemoryArchive,
    ReplayWorld,
    destination,
    narrowed,
    simulate,
)
from trunkline.destinations.kit import BatchRules, Outcome
from trunkline.log.records import AcceptedEvent
from trunkline.replay import feed as feed_module
from trunkline.replay.model import plan_path, spec_path
from trunkline.replay.plan import PlanWriter, read_plan
from trunkline.state.base import Changes, LaneKey, place_of
from trunkline.testing.simulated_time import START_MS


def filled(members: int = 6, events: int = 40) -> tuple[MemoryArchive, set[str]]:
    """Of two sources, in turns."""
    archive = MemoryArchive()
    ids = set()
    for number in range(members):
        own = [f"m{number}-{line}" for line in range(events)]
        ids.update(own)
        archive.add("web" if number % 2 == 0 else "app", *own)
    return archive, ids


def test_each_event_arrives_once_meant_for_this_destination_alone(tmp_path: Path) -> None:
    archive, ids = filled()

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        await world.go()
        world.select("r", BOTH)
        await world.settle()
        line = world.line("r")
        assert (line.selected, line.delivered, line.pending) == (240, 240, 0)
        assert world.finals == {("hook", one): 1 for one in ids}
        assert {str(body["integrations"]) for body in world.bodies.values()} == {"{'All': False, 'hook': True}"}
        assert all(count == 1 for count in archive.reads.values() if count != 2), "the survey, and the replay"
        assert world.replays.pending() == {}
        assert world.dispatcher.lanes["hook"].gate.replays == []
        assert world.closed_senders == 1
        reads = archive.reads.total()
        await world.crash()
        await world.run_for(3)
        assert world.finals.total() == 240, "what has ended does not begin again"
        assert archive.reads.total() == reads
        await world.close()

    simulate(test)


def test_a_disabled_destination_under_its_name_and_two_replays_at_once(tmp_path: Path) -> None:
    archive, _ = filled()

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        world.activate(destination("hook"), destination("cold", name="Cold Tool", enabled=False))
        world.select("one", BOTH, to="cold")
        world.select("two", WEB, to="cold")
        await world.settle()
        assert world.line("one").delivered == 240
        assert world.line("two").delivered == 120
        assert {key[0] for key in world.finals} == {"cold"}
        assert world.finals.total() == 360
        assert world.bodies["cold", "m0-0"]["integrations"] == {"All": False, "Cold Tool": True}
        assert world.dispatcher.lanes["cold"].held_by, "the live lane stays held"
        await world.close()

    simulate(test)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_live_events_go_first(concurrency: int, tmp_path: Path) -> None:
    archive, _ = filled(members=10, events=200)

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive, concurrency=concurrency)
        world.latency_s = 0.05
        await world.go()
        world.select("r", BOTH)
        await world.run_for(3)
        under_way = world.finals.total()
        assert 0 < under_way < 2000
        live = [f"live{number}" for number in range(200)]
        world.dispatcher.lanes["hook"].intake.offer(
            1, [(place_of(1, at), AcceptedEvent("web", 0, one, "track", "E", b"{}")) for at, one in enumerate(live)]
        )
        async with asyncio.timeout(60):
            while world.finals["hook", live[-1]] == 0:  # noqa: ASYNC110 - the world tells nobody
                await asyncio.sleep(0.001)
        brought = world.finals.total() - under_way - len(live)
        assert brought <= max(1, concurrency // 2) * 2, "no more than what was under way when they came"
        await world.run_for(3)
        assert world.finals.total() > under_way + len(live) + brought, "and then it goes on"
        await world.close()

    simulate(test)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_replays_to_one_destination_take_turns(concurrency: int, tmp_path: Path) -> None:
    archive, _ = filled(members=10, events=200)

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive, concurrency=concurrency)
        world.latency_s = 0.05
        await world.go()
        for replay_id in ("a", "b", "c"):
            world.select(replay_id, BOTH)
        await world.run_for(30)
        delivered = [line.delivered for line in world.check()[0].values()]
        assert min(delivered) * 1.5 > max(delivered) > 0
        assert max(delivered) < 2000
        await world.close()

    simulate(test)


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_moment_nothing_is_lost(seed: int, tmp_path: Path) -> None:
    """Retries, failures, batches, filters, tight queues, a store that fails, pauses: all at once."""
    random = Random(seed)
    archive = MemoryArchive()
    wanted, failing = set(), set()
    for number in range(12):
        own = [f"{random.choice(['track/A', 'track/B', 'page/A'])}/m{number}-{line}" for line in range(30)]
        archive.add(random.choice(["web", "app"]), *own)
        wanted |= {text.split("/")[2] for text in own if text.startswith("track/A")}
    failing = {one for one in wanted if random.random() < 0.1}

    def answer(slug: str, message_id: str, before: int) -> Outcome:
        if message_id in failing:
            return FAILED
        return RETRY if random.random() < 0.3 else OK

    async def test() -> None:
        batch = BatchRules(events=random.choice([1, 7]))
        world = ReplayWorld(tmp_path, archive, answer, concurrency=random.choice([1, 4]), batch=batch, seed=seed)
        world.latency_s = random.choice([0.001, 0.05])
        await world.go()
        world.select("r", narrowed(BOTH, types=["track"], names=["A"]), rate=random.choice([None, 200.0]))
        for _ in range(25):
            await world.run_for(random.choice([0.02, 0.1, 1.1]))
            match random.randrange(5):
                case 0:
                    await world.crash()
                case 1:
                    archive.down = not archive.down
                case 2:
                    world.want("r", random.choice(["pause", "run"]))
        archive.down = False
        world.want("r", "run")
        await world.settle()
        line = world.line("r")
        assert line.selected == len(wanted) == line.delivered + line.failed
        assert line.failed == len(failing)
        assert {one for _, one in world.finals} == wanted
        assert world.finals.total() - len(world.finals) <= world.forgotten, "only what no commit knew comes twice"
        await world.close()

    with (
        tight_lanes(queue_events=random.choice([10, 10_000]), row_after_s=0.03),
        patch.object(feed_module, "SLICE_EVENTS", random.choice([3, 500])),
    ):
        simulate(test)


def test_what_the_archive_does_not_give_back_has_failed(tmp_path: Path) -> None:
    archive, _ = filled()

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive, concurrency=1)
        await world.go()
        positions = [member.position for member in archive.members()]
        archive.missing.add(positions[4])
        found = world.select("r", BOTH, rate=50)
        assert (found.unreadable, found.events) == (40, 240)
        await world.run_for(1)
        archive.corrupt.add(positions[3])
        await world.run_for(2)
        await world.crash()
        await world.settle()
        line = world.line("r")
        assert (line.selected, line.delivered, line.failed) == (240, 160, 80)
        books = world.store.read().lane_books
        assert books[LaneKey("replay:r", "app", "failed", "archive_unreadable")] == 40
        assert books[LaneKey("replay:r", "web", "failed", "archive_unreadable")] == 40
        assert archive.reads[positions[4]] == 1, "what the survey could not read is not sent later either"
        await world.close()

    simulate(test)


def test_an_index_that_was_made_anew_sends_nothing_else(tmp_path: Path) -> None:
    archive, _ = filled(members=2)

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        world.select("r", BOTH)
        other, _ = filled(members=2, events=39)
        other.add("web", "more")
        world.archive = other
        await world.go()
        await world.settle()
        assert world.line("r").failed == 80
        assert not world.attempts
        await world.close()

    simulate(test)


def test_events_that_are_too_old_are_counted_and_not_sent(tmp_path: Path) -> None:
    archive = MemoryArchive()
    archive.add("web", *[f"old{number}" for number in range(30)], at_ms=START_MS - 3 * HOUR_MS)
    archive.add("web", *[f"new{number}" for number in range(30)])

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        world.activate(destination("hook", max_event_age_s=2 * 3600))
        world.select("r", WEB)
        await world.settle()
        line = world.line("r")
        assert (line.selected, line.filtered_at_destination, line.delivered) == (60, 30, 30)
        assert {one[:3] for _, one in world.attempts} == {"new"}
        key = LaneKey("replay:r", "web", "filtered_at_destination", "max_event_age")
        assert world.store.read().lane_books[key] == 30
        await world.close()

    simulate(test)


def test_its_rate_holds_over_any_stretch(tmp_path: Path) -> None:
    archive, _ = filled()

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        await world.go()
        world.select("r", BOTH, rate=20)
        await world.settle()
        times = world.times["hook"]
        assert len(times) == 240
        for first in range(0, 240, 7):
            for last in range(first, 240, 11):
                assert last - first + 1 <= 20 * (times[last] - times[first]) + 20 + 2, (
                    "the rate, and one second's worth"
                )
        assert times[-1] - times[0] < 240 / 20 * 1.6, "and it is used"
        await world.close()

    simulate(test)


def test_a_slow_destination_piles_up_no_burst(tmp_path: Path) -> None:
    archive, _ = filled()
    blocked = True

    async def test() -> None:
        nonlocal blocked
        world = ReplayWorld(tmp_path, archive, lambda slug, one, before: RETRY if blocked else OK, concurrency=1)
        world.latency_s = 30.0
        await world.go()
        world.select("r", BOTH, rate=100)
        await world.run_for(25)
        assert world.replays.lanes["replay:r"].pending_in_memory <= 12, "a tenth of a second's worth, and one under way"
        blocked, world.latency_s = False, 0.001
        await world.settle()
        await world.close()

    simulate(test)


def test_while_the_worker_is_busy_a_replay_trickles(tmp_path: Path) -> None:
    archive, _ = filled(members=10, events=200)

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        world.busy = True
        await world.go()
        world.select("r", BOTH)
        await world.run_for(3)
        assert 100 <= world.finals.total() <= 1300
        world.busy = False
        await world.run_for(3)
        assert world.finals.total() == 2000
        await world.close()

    simulate(test)


def test_cancelled_or_without_its_destination_the_rest_has_failed(tmp_path: Path) -> None:
    archive, _ = filled()

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive, lambda slug, one, before: RETRY if one.endswith("7") else OK)
        await world.go()
        for replay_id in ("a", "b", "c"):
            world.select(replay_id, BOTH, to="cold" if replay_id == "b" else "hook", rate=30)
        await world.run_for(3)
        world.want("a", "cancel")
        await world.run_for(1.1)
        line = world.line("a")
        assert line.pending == 0 < line.delivered
        assert line.delivered + line.failed == 240
        books = world.store.read().lane_books
        assert sum(n for key, n in books.items() if key.reason == "replay_cancelled") == line.failed
        world.activate(destination("hook"))
        await world.run_for(0.1)
        line = world.line("b")
        assert line.pending == 0 < line.delivered
        assert line.delivered + line.failed == 240
        await world.crash()
        world.select("late", BOTH, to="cold")
        await world.run_for(1.1)
        late = world.line("late")
        assert (late.failed, late.pending) == (240, 0)
        assert world.line("a").failed + world.line("a").delivered == 240
        world.want("c", "cancel")
        await world.crash()
        await world.run_for(0.1)
        assert world.line("c").pending == 0
        assert world.store.read().row_counts == {}
        assert world.replays.lanes == {}
        await world.close()

    simulate(test)


def test_a_paused_replay_sends_nothing(tmp_path: Path) -> None:
    archive, _ = filled()

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        world.select("r", BOTH, wanted="pause")
        await world.go()
        await world.run_for(5)
        await world.crash()
        await world.run_for(5)
        assert not world.attempts
        assert world.line("r").pending == 240
        assert world.replays.pending() == {"r": 240}
        world.want("r", "run")
        await world.settle()
        assert world.finals.total() == 240
        await world.close()

    simulate(test)


def test_the_books_tell_of_what_is_lost(tmp_path: Path) -> None:
    archive, _ = filled()

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive, lambda slug, one, before: RETRY if one == "m0-7" else OK)
        await world.go()
        world.select("r", BOTH, rate=30)
        await world.run_for(3)
        state = world.store.read()
        assert state.row_counts == {("replay:r", "web"): 1}
        assert 0 < world.line("r").delivered < 200
        [row] = world.store.rows("replay:r")
        [state_key] = [key for key in state.lanes if key[0] == "replay:r"]
        world.store.commit(Changes(rows={row.key: None}))
        assert any("source web" in problem for problem in world.check()[1]), "a row"
        world.store.commit(Changes(rows={row.key: row}))
        assert world.check()[1] == []
        world.store.commit(Changes(lanes={state_key: None}))
        assert world.check()[1] != [], "the lane's state"
        world.store.commit(Changes(lanes={state_key: state.lanes[state_key]}))
        world.store.commit(Changes(lane_books={LaneKey("replay:r", "web", "delivered", ""): -1}))
        assert world.check()[1] != [], "a count"
        world.store.commit(Changes(lane_books={LaneKey("replay:r", "web", "delivered", ""): 1}))
        assert world.check()[1] == []
        path = plan_path(tmp_path, "r")
        sound, members = path.read_bytes(), list(read_plan(path))
        for left_out in (0, 5):
            with PlanWriter(path) as plan:
                for number, member in enumerate(members):
                    if number != left_out:
                        plan.add(member)
                plan.finish()
            assert world.check()[1] != [], f"member {left_out} of the plan"
        path.write_bytes(sound)
        assert world.check()[1] == []
        path.unlink()
        assert world.check()[1] != [], "the plan"
        path.write_bytes(sound)
        spec_path(tmp_path, "r").rename(tmp_path / "away")
        assert world.check()[1] != [], "the file that says what it is"
        await world.close()

    simulate(test)


def test_a_replay_whose_files_are_damaged_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, _ = filled()

    async def test() -> None:
        world = ReplayWorld(tmp_path, archive)
        world.select("bad", BOTH)
        world.select("good", BOTH)
        world.select("ugly", BOTH)
        path = plan_path(tmp_path, "bad")
        path.write_bytes(path.read_bytes()[:-3])
        spec_path(tmp_path, "ugly").write_text("{")
        await world.go()
        await world.replays.look()
        assert set(world.replays.lanes) == {"replay:good"}
        await world.close()

    simulate(test)
    assert capsys.readouterr().out.count("replay.not_run") >= 2
