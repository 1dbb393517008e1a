"""The machine's clock jumps by a day, forth and back: counts stay exact, by time too, and samples go on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hand_clock import HandClock
from tests.unit.schema.schema_world import T0, World, accepted, blocked
from trunkline.schema.limits import DAY_MS, HOUR_MS, Limits

JUMPS = [-3 * DAY_MS, -DAY_MS, -HOUR_MS, HOUR_MS, DAY_MS, 3 * DAY_MS]
PROTOCOLS = {"sourceId": "web", "violations": [{"type": "Required", "field": "a", "description": "a is required"}]}


class JumpingClock(HandClock):
    """Its wall clock jumps, time as such does not."""

    def __init__(self, now_ms: int) -> None:
        super().__init__(now_ms)
        self._passed_s = 0.0

    def monotonic_s(self) -> float:
        return self._passed_s

    def pass_s(self, seconds: float) -> None:
        super().pass_s(seconds)
        self._passed_s += seconds

    def jump(self, by_ms: int) -> None:
        self.ms += by_ms


def make(world: World) -> JumpingClock:
    """Let a world go by a clock that jumps; some days after its start, at noon."""
    clock = JumpingClock(T0 + 10 * DAY_MS + 11 * HOUR_MS)
    world.clock = clock
    world.restart()
    return clock


def send(world: World, message_id: str = "m") -> None:
    at_ms = world.clock.now_ms()
    world.append(accepted(properties={"n": 1}, at_ms=at_ms, protocols=PROTOCOLS, message_id=message_id))
    world.append(blocked(properties={"n": 1}, at_ms=at_ms))


def counted(world: World, since_ms: int | None) -> tuple[int, int, int, int]:
    """Allowed, blocked, blocked as another view has it, violations."""
    events = world.reader.events(since_ms=since_ms)
    stopped = world.reader.blocked(since_ms=since_ms)
    broken = world.reader.violations(since_ms=since_ms)
    return (
        sum(event.allowed for event in events),
        sum(event.blocked for event in events),
        sum(one.count for one in stopped),
        sum(one.count for one in broken),
    )


@pytest.mark.parametrize("jump_ms", [-DAY_MS, DAY_MS])
def test_commits_and_tidying_go_by_time_that_passes(jump_ms: int, world: World) -> None:
    clock = make(world)
    for _ in range(3):
        send(world)
        while world.observer.advance():
            pass
        before = world.counts()
        clock.jump(jump_ms)
        world.observer.advance()
        assert world.counts() == before, "a jump is no time that passes"
        assert world.observer.lag_s() >= 0
        clock.pass_s(6)
        world.observer.advance()
        assert world.counts() == world.expected
        jump_ms = -jump_ms


def test_what_was_folded_into_a_day_counts_after_the_clock_went_back(world: World) -> None:
    clock = make(world)
    for _ in range(6):
        send(world)
        clock.pass_s(3600)
    world.observe()
    since_ms = clock.ms - 2 * HOUR_MS
    clock.jump(3 * DAY_MS)  # now these hours lie behind those that are kept
    world.observer.tidy(90)
    clock.jump(-3 * DAY_MS)
    send(world)
    world.observe()
    world.observer.tidy(90)
    assert counted(world, None) == (7, 7, 7, 7)
    # Nobody can tell any more how many of the day's there were in its last hours: all of them, never less.
    assert counted(world, since_ms) == (7, 7, 7, 7)


def test_samples_go_on_after_the_clock_went_back(world: World) -> None:
    world.limits = Limits(samples=2)
    clock = make(world)
    clock.jump(DAY_MS)
    for number in range(2):
        send(world, f"ahead-{number}")
        clock.pass_s(60)
    world.observe()
    clock.jump(-DAY_MS)
    for number in range(3):
        send(world, f"right-{number}")
        clock.pass_s(60)
    world.observe()
    [broken] = world.reader.violations(samples=True)
    assert {sample.message_id for sample in broken.samples} == {"right-1", "right-2"}


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from([*JUMPS, "send", "send", "observe", "tidy", "restart"]), max_size=20))
def test_any_jumps(steps: list[int | str], tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("schema"))
    clock = make(world)
    sent_ms: list[int] = []
    for step in steps:
        if isinstance(step, int):
            clock.jump(step)
        elif step == "send":
            sent_ms.append(clock.ms)
            send(world)
            clock.pass_s(40)
        elif step == "observe":
            world.observe()
        elif step == "tidy":
            world.observer.tidy(90)
        else:
            world.restart()
    world.observe()
    assert world.counts() == world.expected
    assert counted(world, None) == (len(sent_ms),) * 4
    for since_ms in sent_ms:
        # Exact to the day at the worst: never less than there were, never what came before that day.
        counts = counted(world, since_ms)
        least = sum(at_ms >= since_ms for at_ms in sent_ms)
        most = sum(at_ms >= since_ms - since_ms % DAY_MS for at_ms in sent_ms)
        assert all(least <= count <= most for count in counts), (counts, least, most)
    world.database.close()
