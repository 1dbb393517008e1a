"""Which answers of a webhook lead to another attempt: network errors, 408, 425, 429 and every 5xx, nothing else."""

from __future__ import annotations

import pytest

from trunkline.destinations.kit import Result, outcome_of_status


@pytest.mark.parametrize("status", range(200, 600))
def test_only_408_429_and_5xx_are_tried_again(status: int) -> None:
    expected = Result.FAILED
    if status < 300:
        expected = Result.DELIVERED
    elif status in (408, 425, 429) or status >= 500:
        expected = Result.RETRY
    assert outcome_of_status(status, None, "").result is expected
