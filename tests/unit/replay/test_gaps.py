"""What a destination missed: complementary to what it was connected for, to the place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.replay.errors import NothingMissed
from trunkline.replay.gaps import gaps_of, missed, subtract
from trunkline.replay.model import PlaceRange, ReplaySpec
from trunkline.state.base import Interval

HEAD = 1000


def intervals(*bounds: tuple[int, int | None], destination: str = "hook", source: str = "web") -> list[Interval]:
    return [
        Interval(
            number,
            destination,
            source,
            opened_at_ms=first * 10,
            open_place=first,
            open_received={},
            open_books={},
            closed_at_ms=None if end is None else end * 10,
            close_place=end,
        )
        for number, (first, end) in enumerate(bounds, 1)
    ]


def spec(replay_id: str, *ranges: PlaceRange, **more: object) -> ReplaySpec:
    return ReplaySpec(
        id=replay_id,
        destination="hook",
        sources=["web"],
        created_at_ms=0,
        ranges=list(ranges),
        **more,  # type: ignore[arg-type]
    )


def ask(
    known: list[Interval], *earlier: ReplaySpec, since_ms: int | None = None, sources: tuple[str, ...] = ("web",)
) -> list[PlaceRange]:
    ranges, endless = missed(known, "hook", sources, head=HEAD, since_ms=since_ms, until_ms=None, earlier=earlier)
    assert endless == ([] if since_ms is not None else [one for one in sources if one == "never"])
    return ranges


@given(st.lists(st.integers(0, 50), unique=True, max_size=8).map(sorted))
def test_gaps_and_intervals_share_no_place_and_leave_none_out(bounds: list[int]) -> None:
    pairs: list[tuple[int, int | None]] = list(zip(bounds[::2], [*bounds[1::2], None], strict=False))
    known = intervals(*pairs)
    gaps = gaps_of([*known, *intervals((3, 9), destination="other"), *intervals((3, 9), source="app")], "hook", "web")
    for place in range(60):
        in_gap = sum(gap.first <= place < (1 << 62 if gap.end is None else gap.end) for gap in gaps)
        assert in_gap + any(interval.holds(place) for interval in known) == 1


def test_the_last_gap_or_with_a_time_all() -> None:
    known = intervals((10, 20), (30, 40), (60, None))
    assert ask(known) == [PlaceRange("web", 40, 60)]
    assert ask(known, since_ms=0) == [PlaceRange("web", 0, 10), PlaceRange("web", 20, 30), PlaceRange("web", 40, 60)]
    assert ask(intervals((10, 20))) == [PlaceRange("web", 20, HEAD)], "it is disabled still"


def test_a_source_that_was_never_connected_is_named() -> None:
    assert ask(intervals((10, 20)), sources=("web", "never")) == [PlaceRange("web", 20, HEAD)]
    assert ask(intervals((10, 20)), sources=("never",), since_ms=0) == [PlaceRange("never", 0, HEAD)]


def test_what_an_earlier_replay_brought_comes_no_more() -> None:
    known = intervals((10, 20))
    half = PlaceRange("web", 20, 300)
    assert ask(known, spec("a", half)) == [PlaceRange("web", 300, HEAD)]
    assert ask(known, spec("a", half, wanted="cancel")) == [PlaceRange("web", 20, HEAD)]
    assert ask(known, spec("a", half, types=["page"])) == [PlaceRange("web", 20, HEAD)]
    with pytest.raises(NothingMissed, match=r"replayed by a\."):
        ask(known, spec("a", PlaceRange("web", 0, HEAD)))


def test_where_nothing_was_missed_it_says_why() -> None:
    with pytest.raises(NothingMissed, match="missed nothing"):
        ask(intervals((0, 20), (20, None)))
    with pytest.raises(NothingMissed, match="never connected to web before"):
        ask(intervals((10, None)))
    with pytest.raises(NothingMissed, match="--since"):
        ask([])
    assert ask([], since_ms=0) == [PlaceRange("web", 0, HEAD)]


def ranges() -> st.SearchStrategy[list[PlaceRange]]:
    bound = st.integers(0, 30)
    return st.lists(
        st.builds(lambda source, a, b: PlaceRange(source, min(a, b), max(a, b)), st.sampled_from("ab"), bound, bound),
        max_size=4,
    )


@given(ranges(), ranges())
def test_subtraction_is_exact(wanted: list[PlaceRange], others: list[PlaceRange]) -> None:
    def held(parts: list[PlaceRange]) -> set[tuple[str, int]]:
        return {(part.source, place) for part in parts for place in range(part.first, part.end)}

    left = subtract(wanted, others)
    assert held(left) == held(wanted) - held(others)
    assert all(part.first < part.end for part in left)
