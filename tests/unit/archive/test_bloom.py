"""The filters of messageIds: nothing is missed, and little is found that is not there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.archive import bloom


def holds(slices: list[bytes], message_id: str) -> bool:
    key = bloom.hash_id(message_id)
    return bloom.may_hold(slices[bloom.slice_of(key, len(slices))], key)


@given(st.lists(st.text(max_size=40), max_size=200))
def test_every_id_that_was_put_in_is_found(ids: list[str]) -> None:
    slices = bloom.build([bloom.hash_id(message_id) for message_id in ids])
    assert all(holds(slices, message_id) for message_id in ids)


@pytest.mark.parametrize("count", [1, 500, 4096, 30_000])
def test_about_one_in_a_thousand_is_found_that_is_not_there(count: int) -> None:
    slices = bloom.build([bloom.hash_id(f"in-{number}") for number in range(count)])
    assert len(slices) == max(1, round(count / 4096))
    assert sum(map(len, slices)) <= max(8, count * 1.85)
    wrong = sum(holds(slices, f"out-{number}") for number in range(20_000))
    assert wrong <= 60
