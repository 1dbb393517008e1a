from __future__ import annotations

import pytest

from trunkline.destinations.kit import (
    CATALOG_RETRYABLE_STATUSES,
    DELIVERED_OUTCOME,
    RETRYABLE_STATUSES,
    Exchange,
    Outcome,
    Result,
    outcome_of_status,
)

EXCHANGE = Exchange("POST", "https://e.com", {}, "")


@pytest.mark.parametrize("status", [*range(200, 600), 600, 999])
def test_which_statuses_are_tried_again(status: int) -> None:
    expected = Result.FAILED
    if status < 300:
        expected = Result.DELIVERED
    elif status in (408, 425, 429) or 500 <= status < 600:
        expected = Result.RETRY
    assert outcome_of_status(status).result is expected


def test_the_catalogs_own_set() -> None:
    assert {423, 425, 501} == RETRYABLE_STATUSES ^ CATALOG_RETRYABLE_STATUSES
    assert outcome_of_status(423, retryable=CATALOG_RETRYABLE_STATUSES).result is Result.RETRY
    assert outcome_of_status(501, retryable=CATALOG_RETRYABLE_STATUSES).result is Result.FAILED


def test_what_an_outcome_holds() -> None:
    assert outcome_of_status(200) is DELIVERED_OUTCOME
    assert outcome_of_status(204, 3, "x", exchange=EXCHANGE) is DELIVERED_OUTCOME
    assert outcome_of_status(200, pause_s=5, exchange=EXCHANGE) == Outcome(Result.DELIVERED, pause_s=5)
    assert outcome_of_status(429, 3, "slow", pause_s=5, exchange=EXCHANGE) == Outcome(
        Result.RETRY, "429", "slow", 3, 5, EXCHANGE
    )
    assert outcome_of_status(401, 3, "no", pause_s=5, exchange=EXCHANGE) == Outcome(
        Result.FAILED, "401", "no", None, 5, EXCHANGE
    )
