"""The memory that lanes share: sums that stay true, and a bound that holds."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trunkline.delivery.budget import MAX_BYTES, MIN_BYTES, LaneShare, MemoryBudget

KIB = 1024
MIB = 1024 * KIB


def is_full(share: LaneShare) -> bool:
    """A call, so that the type checker does not take the answer for one that stays."""
    return share.is_full


@pytest.mark.parametrize(
    ("total_bytes", "lanes", "full_above"),
    [
        (256 * MIB, 1, MAX_BYTES),
        (256 * MIB, 32, MAX_BYTES),
        (256 * MIB, 64, 4 * MIB),
        (256 * MIB, 100_000, MIN_BYTES),
        (1 * MIB, 1, 1 * MIB),
        (1 * MIB, 2, 512 * KIB),
        (100 * KIB, 1, MIN_BYTES),
    ],
)
def test_a_share_depends_on_how_many_hold_something(total_bytes: int, lanes: int, full_above: int) -> None:
    budget = MemoryBudget(total_bytes)
    lane = budget.share("first")
    for number in range(1, lanes):
        budget.share(f"lane{number}").add(1)
    lane.add(full_above - 2 * lanes)
    lane.add(2 * lanes)
    assert budget.holders == lanes
    assert lane.held_bytes == full_above
    if budget.held_bytes <= total_bytes:
        assert not is_full(lane)
    lane.add(1)
    assert is_full(lane)
    lane.remove(1 + full_above // 2)
    assert not is_full(lane)


def test_idle_lanes_take_nothing_from_the_others() -> None:
    budget = MemoryBudget(16 * MIB)
    shares = [budget.share(str(number)) for number in range(1000)]
    shares[0].add(7 * MIB)
    assert not is_full(shares[0])
    for share in shares[1:10]:
        share.add(KIB)
    assert is_full(shares[0])
    for share in shares[1:10]:
        share.remove(KIB)
    assert budget.holders == 1
    assert not is_full(shares[0])


def test_lanes_that_stand_still_do_not_keep_the_others_from_sending() -> None:
    budget = MemoryBudget(16 * MIB)
    for name in ("a", "b"):
        share = budget.share(name)
        while not share.is_full:
            share.add(32 * KIB)
    assert budget.held_bytes > budget.total_bytes
    late = budget.share("late")
    late.add(MIN_BYTES)
    assert not is_full(late)
    late.add(1)
    assert is_full(late)


def test_closing_gives_back() -> None:
    budget = MemoryBudget(16 * MIB)
    share = budget.share("a")
    share.add(5 * MIB)
    with pytest.raises(ValueError, match="'a' has a share"):
        budget.share("a")
    share.close()
    share.close()
    assert (budget.held_bytes, budget.holders) == (0, 0)
    share.remove(100)
    share.add(100)
    assert (budget.held_bytes, budget.holders, share.held_bytes) == (0, 0, 0)
    budget.share("a").add(7)
    assert budget.held_bytes == 7


def test_nobody_gives_back_more_than_he_holds() -> None:
    budget = MemoryBudget(MIB)
    share = budget.share("a")
    budget.share("b").add(100)
    share.add(10)
    with pytest.raises(ValueError, match="holds 10 bytes and cannot give back 11"):
        share.remove(11)
    assert (share.held_bytes, budget.held_bytes, budget.holders) == (10, 110, 2)


def test_a_budget_is_above_0() -> None:
    with pytest.raises(ValueError, match="give 1 or more"):
        MemoryBudget(0)


LARGEST_EVENT = 64 * KIB
LANES = 12


class BudgetMachine(RuleBasedStateMachine):
    """Lanes that ask before they add, under a budget that is too small for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = MemoryBudget(4 * MIB)
        self.shares = [self.budget.share(str(number)) for number in range(LANES)]
        self.held = [0] * LANES

    @rule(lane=st.integers(0, LANES - 1), size=st.integers(0, LARGEST_EVENT), times=st.integers(1, 200))
    def fill(self, lane: int, size: int, times: int) -> None:
        for _ in range(times):
            if self.shares[lane].is_full:
                assert self.held[lane] > MIN_BYTES
                return
            self.shares[lane].add(size)
            self.held[lane] += size

    @rule(lane=st.integers(0, LANES - 1), part=st.floats(0, 1))
    def drain(self, lane: int, part: float) -> None:
        size = int(self.held[lane] * part)
        self.shares[lane].remove(size)
        self.held[lane] -= size

    @rule(lane=st.integers(0, LANES - 1))
    def reopen(self, lane: int) -> None:
        self.shares[lane].close()
        self.shares[lane] = self.budget.share(str(lane))
        self.held[lane] = 0

    @invariant()
    def sums_are_true(self) -> None:
        assert [share.held_bytes for share in self.shares] == self.held
        assert self.budget.held_bytes == sum(self.held)
        assert self.budget.holders == sum(held > 0 for held in self.held)

    @invariant()
    def the_total_is_bounded(self) -> None:
        assert max(self.held) <= 4 * MIB + LARGEST_EVENT
        assert self.budget.held_bytes <= 4 * MIB + LANES * (MIN_BYTES + LARGEST_EVENT)


TestBudgetMachine = BudgetMachine.TestCase
