"""The circuit breaker: what opens it, what must not, and that it always comes back."""

from __future__ import annotations

from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.dedupe.dedupe_clock import HandClock
from trunkline.delivery.breaker import KEPT_PERIODS, Breaker, BreakerSettings
from trunkline.delivery.retry import ATTEMPTS_BOUNDS, RetryPolicy

STEADY = BreakerSettings(jitter=0.0)


def state_of(breaker: Breaker) -> str:
    """A call, so that the type checker does not take the state for one that stays."""
    return breaker.state


class Peer:
    """A breaker and the attempts behind it."""

    def __init__(self, settings: BreakerSettings = STEADY) -> None:
        self.clock = HandClock()
        self.breaker = Breaker(self.clock, Random(1), settings)

    def attempt(self, healthy: bool, first_attempt: bool = True) -> None:
        assert self.breaker.wait_s() == 0.0
        probe = self.breaker.begin()
        self.breaker.end(healthy, probe, first_attempt)

    def pass_s(self, seconds: float) -> None:
        self.clock.seconds += seconds

    def open(self) -> None:
        for _ in range(20):
            self.attempt(False)
        assert state_of(self.breaker) == "open"


@pytest.mark.parametrize(
    ("healthy", "failed_firsts", "failed_retries", "state"),
    [
        (0, 19, 0, "closed"),
        (0, 20, 0, "open"),
        (4, 16, 0, "open"),
        (5, 19, 0, "closed"),  # 79 %
        (5, 20, 0, "open"),
        (0, 9, 11, "closed"),
        (0, 10, 10, "open"),
        (0, 0, 40, "closed"),  # two events, each tried 20 times
        (0, 9, 31, "closed"),
        (0, 0, 41, "open"),  # a backlog of nothing but retries
        (100, 0, 40, "closed"),
        (100, 0, 41, "open"),
        (1000, 19, 0, "closed"),
        (1000, 20, 0, "open"),  # a peer that dies amid much good traffic
        (1000, 9, 11, "closed"),
        (1000, 10, 10, "open"),
    ],
)
def test_what_opens_it(healthy: int, failed_firsts: int, failed_retries: int, state: str) -> None:
    peer = Peer()
    for is_healthy, first, times in (
        (True, True, healthy),
        (False, False, failed_retries),
        (False, True, failed_firsts),
    ):
        for _ in range(times):
            peer.attempt(is_healthy, first)
    assert state_of(peer.breaker) == state
    assert (peer.breaker.wait_s() > 0) == (state == "open")


def test_two_poison_events_never_open_it() -> None:
    """With the quickest retries that a destination may ask for, and nothing healthy in between."""
    policy = RetryPolicy.bounded(60, ATTEMPTS_BOUNDS[1])
    for seed in range(200):
        peer = Peer()
        random = Random(seed)
        due = [(peer.clock.seconds, 1), (peer.clock.seconds + random.random(), 1)]
        began_s = [at_s for at_s, _ in due]
        while any(at_s < inf for at_s, _ in due):
            event = min((0, 1), key=lambda event: due[event][0])
            at_s, attempt = due[event]
            peer.clock.seconds = at_s
            peer.attempt(False, first_attempt=attempt == 1)
            wait_s = policy.wait_s(attempt, at_s - began_s[event], random)
            due[event] = (inf if wait_s is None else at_s + wait_s, attempt + 1)
        assert state_of(peer.breaker) == "closed"


def test_outcomes_older_than_a_minute_are_forgotten() -> None:
    peer = Peer()
    for _ in range(19):
        peer.attempt(False)
    peer.pass_s(60.001)
    peer.attempt(False)
    assert state_of(peer.breaker) == "closed"
    for _ in range(18):
        peer.attempt(False)
    assert state_of(peer.breaker) == "closed"
    peer.attempt(False)
    assert state_of(peer.breaker) == "open"


def test_outcomes_of_the_last_50_seconds_are_remembered() -> None:
    peer = Peer()
    for _ in range(19):
        peer.attempt(False)
        peer.pass_s(50 / 20)
    peer.attempt(False)
    assert state_of(peer.breaker) == "open"


def test_a_trickle_of_failures_does_not_open_it() -> None:
    peer = Peer()
    for _ in range(1000):
        peer.attempt(False)
        peer.pass_s(4)
    assert state_of(peer.breaker) == "closed"


def test_open_for_5_s_then_doubling_to_60() -> None:
    peer = Peer()
    opened_at_s = peer.clock.seconds
    peer.open()
    for wait_s in (5, 10, 20, 40, 60, 60):
        assert peer.breaker.wait_s() == pytest.approx(wait_s)
        peer.pass_s(wait_s - 0.001)
        assert peer.breaker.wait_s() > 0
        peer.pass_s(0.002)
        peer.attempt(False)
        assert peer.breaker.opened_at_s == opened_at_s, "it has been open all the time"
    peer.pass_s(60.001)
    peer.attempt(True)
    assert state_of(peer.breaker) == "closed"
    assert peer.breaker.opened_at_s is None
    peer.open()
    assert peer.breaker.wait_s() == pytest.approx(5), "the next outage begins anew"


def test_the_waits_are_jittered_by_a_fifth() -> None:
    clock = HandClock()
    waits = []
    for seed in range(300):
        breaker = Breaker(clock, Random(seed))
        for _ in range(20):
            breaker.end(False, breaker.begin(), True)
        waits.append(breaker.wait_s())
    assert 4.0 <= min(waits) < 4.1
    assert 5.9 < max(waits) <= 6.0


def test_one_probe_at_a_time() -> None:
    peer = Peer()
    peer.open()
    peer.pass_s(5.1)
    assert peer.breaker.wait_s() == 0.0
    assert peer.breaker.begin()
    assert state_of(peer.breaker) == "half-open"
    assert 0 < peer.breaker.wait_s() < inf
    peer.pass_s(1000)
    assert peer.breaker.wait_s() > 0
    assert not peer.breaker.begin(), "an attempt that did not ask is no probe"
    peer.breaker.end(True, False, True)
    assert state_of(peer.breaker) == "half-open", "and decides nothing"
    peer.breaker.end(True, True, True)
    assert state_of(peer.breaker) == "closed"


def test_a_lost_probe_is_followed_by_another() -> None:
    peer = Peer()
    peer.open()
    peer.pass_s(5.1)
    for _ in range(3):
        assert peer.breaker.begin()
        peer.breaker.cancel(True)
        assert state_of(peer.breaker) == "open"
        assert peer.breaker.wait_s() == pytest.approx(5), "not at once, and not doubled: it says nothing of the peer"
        peer.pass_s(5.1)
    peer.attempt(True)
    assert state_of(peer.breaker) == "closed"


def test_a_healthy_probe_clears_the_counts() -> None:
    peer = Peer()
    peer.open()
    peer.pass_s(5.1)
    peer.attempt(True)
    for _ in range(19):
        peer.attempt(False)
    assert state_of(peer.breaker) == "closed"
    peer.attempt(False)
    assert state_of(peer.breaker) == "open"


def test_attempts_that_hung_through_the_outage_do_not_open_it_again() -> None:
    peer = Peer()
    for _ in range(100):
        peer.breaker.begin()
    for _ in range(20):
        peer.breaker.end(False, False, True)
    assert state_of(peer.breaker) == "open"
    opened_at_s = peer.breaker.opened_at_s
    peer.pass_s(2)
    for _ in range(20):
        peer.breaker.end(False, False, True)
    assert peer.breaker.opened_at_s == opened_at_s
    assert peer.breaker.wait_s() == pytest.approx(3), "nor do they keep it open"
    peer.breaker.end(True, False, True)
    assert state_of(peer.breaker) == "open", "nor do they close it"
    peer.pass_s(3.1)
    peer.attempt(True)
    peer.breaker.cancel(False)
    for _ in range(58):
        peer.breaker.end(False, False, True)
    assert state_of(peer.breaker) == "closed"
    peer.open()


def test_open_time() -> None:
    peer = Peer()
    breaker = peer.breaker
    start_s = peer.clock.seconds
    assert breaker.open_time_s(start_s, start_s + 100) == 0
    peer.open()
    peer.pass_s(10)
    assert breaker.open_time_s(start_s, start_s + 10) == 10
    assert breaker.open_time_s(start_s - 50, start_s + 4) == 4
    assert breaker.begin()
    assert breaker.open_time_s(start_s, start_s + 10) == 10, "half-open is not closed"
    breaker.end(True, True, False)
    peer.pass_s(10)
    peer.open()
    peer.pass_s(10)
    assert breaker.open_time_s(start_s, start_s + 30) == 20
    assert breaker.open_time_s(start_s + 5, start_s + 25) == 10
    assert breaker.open_time_s(start_s + 10, start_s + 20) == 0
    assert breaker.open_time_s(start_s + 30, start_s + 10) == 0


def test_the_memory_of_open_times_is_bounded() -> None:
    peer = Peer()
    start_s = peer.clock.seconds
    for _ in range(KEPT_PERIODS + 10):
        peer.open()
        peer.pass_s(10)
        peer.attempt(True)
    assert peer.breaker.open_time_s(start_s, peer.clock.seconds) == KEPT_PERIODS * 10


@settings(max_examples=200)
@given(
    st.integers(),
    st.lists(st.tuples(st.floats(0.1, 50), st.booleans()), max_size=30),
    st.floats(0, 600),
    st.floats(0, 600),
)
def test_open_time_adds_up(seed: int, steps: list[tuple[float, bool]], middle: float, end: float) -> None:
    clock = HandClock()
    breaker = Breaker(clock, Random(seed))
    for seconds, healthy in steps:
        while breaker.wait_s() == 0.0 and not breaker.begin():
            breaker.end(False, False, True)
        clock.seconds += seconds
        if state_of(breaker) == "half-open":
            breaker.end(healthy, True, False)
    since, until = 1000.0, 1000.0 + max(middle, end)
    between = 1000.0 + min(middle, end)
    whole = breaker.open_time_s(since, until)
    assert 0 <= whole <= until - since + 1e-9
    assert whole == pytest.approx(breaker.open_time_s(since, between) + breaker.open_time_s(between, until))


class BreakerMachine(RuleBasedStateMachine):
    """Senders that ask first, in any order, with attempts that end as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.breaker = Breaker(self.clock, Random(7))
        self.under_way: list[bool] = []
        self.unhealthy: list[float] = []
        self.opened_at_s: float | None = None

    @rule(attempts=st.integers(1, 30))
    def begin(self, attempts: int) -> None:
        for _ in range(attempts):
            if self.breaker.wait_s() > 0 or len(self.under_way) > 60:
                return
            closed = state_of(self.breaker) == "closed"
            probe = self.breaker.begin()
            assert probe != closed
            self.under_way.append(probe)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), healthy=st.booleans(), first=st.booleans(), times=st.integers(1, 30))
    def end(self, data: st.DataObject, healthy: bool, first: bool, times: int) -> None:
        for _ in range(min(times, len(self.under_way))):
            probe = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
            before = state_of(self.breaker)
            if not healthy:
                self.unhealthy.append(self.clock.seconds)
            self.breaker.end(healthy, probe, first)
            after = state_of(self.breaker)
            if probe:
                assert (before, after) == ("half-open", "closed" if healthy else "open")
            elif before != after:
                assert (before, after, healthy) == ("closed", "open", False)
                assert sum(at_s >= self.clock.seconds - 60 for at_s in self.unhealthy) >= 16

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        probe = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.breaker.cancel(probe)
        assert not probe or state_of(self.breaker) == "open"

    @rule(seconds=st.floats(0, 90))
    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule()
    def come_back(self) -> None:
        """Whatever happened: let the probe end, wait as told, answer one attempt, and all is well."""
        if True in self.under_way:
            self.under_way.remove(True)
            self.breaker.end(False, True, False)
        wait_s = self.breaker.wait_s()
        assert wait_s <= 72
        self.clock.seconds += wait_s + 1e-6
        assert self.breaker.wait_s() == 0.0
        self.breaker.end(True, self.breaker.begin(), True)
        assert state_of(self.breaker) == "closed"

    @invariant()
    def holds(self) -> None:
        probes = sum(self.under_way)
        assert probes <= 1
        assert (state_of(self.breaker) == "half-open") == (probes == 1)
        assert 0 <= self.breaker.wait_s() <= 72
        assert (self.breaker.opened_at_s is None) == (state_of(self.breaker) == "closed")
        if self.opened_at_s is not None and self.breaker.opened_at_s is not None:
            assert self.breaker.opened_at_s >= self.opened_at_s
        self.opened_at_s = self.breaker.opened_at_s


TestBreakerMachine = BreakerMachine.TestCase


def test_who_has_mended_something_need_not_wait_for_the_probe() -> None:
    peer = Peer()
    peer.open()
    assert peer.breaker.wait_s() > 0
    peer.breaker.hasten()
    assert peer.breaker.wait_s() == 0
    assert peer.breaker.begin(), "a probe, and only one"
    assert peer.breaker.wait_s() > 0
    peer.breaker.end(True, True, True)
    assert state_of(peer.breaker) == "closed"
