from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.destinations.kit import SINGLE_EVENTS, BatchRules, BulkRules
from trunkline.destinations.webhook import Batching, WebhookType

URL = "https://example.com/hook"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 1},
        {"enable_batching": False},
        {"enable_batching": None},
        {"enable_batching": True},
        {"enable_batching": True, "batch_size": 1},
        {"enable_batching": True, "batch_size": 1_000_000, "batch_bytes": 100_000_000, "batch_wait_s": 600},
        {"enable_batching": True, "batch_bytes": 1_000, "batch_wait_s": 0},
        {"enable_batching": True, "batch_wait_s": 0.5, "batch_size": None},
    ],
)
def test_good_settings(settings: dict[str, Any]) -> None:
    assert WebhookType().check_settings({"url": URL, **settings}) == []


@pytest.mark.parametrize(
    ("settings", "key", "reason", "mend"),
    [
        ({"enable_batching": "yes"}, "enable_batching", "not true or false", "without quotes"),
        ({"enable_batching": 0}, "enable_batching", "not true or false", "without quotes"),
        ({"batch_size": 2}, "batch_size", "says nothing without", "Add enable_batching: true"),
        ({"enable_batching": False, "batch_size": 100}, "batch_size", "says nothing", "Add enable_batching: true"),
        ({"batch_bytes": 5000}, "batch_bytes", "says nothing", "Add enable_batching: true"),
        ({"batch_wait_s": 1}, "batch_wait_s", "says nothing", "Add enable_batching: true"),
        ({"enable_batching": True, "batch_size": 0}, "batch_size", "from 1 to 1000000", "such as 100"),
        ({"enable_batching": True, "batch_size": 1_000_001}, "batch_size", "from 1 to 1000000", "such as 100"),
        ({"enable_batching": True, "batch_size": True}, "batch_size", "a whole number", "such as 100"),
        ({"enable_batching": True, "batch_size": "100"}, "batch_size", "a whole number", "such as 100"),
        ({"enable_batching": True, "batch_size": 10.5}, "batch_size", "a whole number", "such as 100"),
        ({"enable_batching": True, "batch_bytes": 999}, "batch_bytes", "from 1000 to 100000000", "such as 4000000"),
        ({"enable_batching": True, "batch_bytes": 10**8 + 1}, "batch_bytes", "from 1000", "such as 4000000"),
        ({"enable_batching": True, "batch_wait_s": -0.1}, "batch_wait_s", "a number from 0 to 600", "such as 1"),
        ({"enable_batching": True, "batch_wait_s": 601}, "batch_wait_s", "a number from 0 to 600", "such as 1"),
        ({"batchsize": 3}, "batchsize", "no such setting", "enable_batching, batch_size, batch_bytes"),
    ],
)
def test_bad_settings(settings: dict[str, Any], key: str, reason: str, mend: str) -> None:
    [problem] = WebhookType().check_settings({"url": URL, **settings})
    assert problem[0] == key
    assert reason in problem[1]
    assert mend in problem[2]


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
batch_keys = st.sampled_from(["enable_batching", "batch_size", "batch_bytes", "batch_wait_s"])


@given(st.dictionaries(batch_keys, json_values))
def test_settings_that_pass_the_check_give_rules_within_bounds(settings: dict[str, Any]) -> None:
    if WebhookType().check_settings({"url": URL, **settings}):
        return
    batching = Batching.of(settings)
    assert 1 <= batching.stream.events <= 1000
    assert 0 <= batching.stream.wait_s <= 600
    assert batching.bulk is None or batching.bulk.events >= 1000


@pytest.mark.parametrize(
    ("settings", "stream", "bulk"),
    [
        ({}, SINGLE_EVENTS, None),
        ({"batch_size": 1}, SINGLE_EVENTS, None),
        ({"enable_batching": True}, BatchRules(100, 4_000_000, 1.0), None),
        (
            {"enable_batching": True, "batch_size": 999, "batch_bytes": 9_000_000, "batch_wait_s": 0},
            BatchRules(999, 9_000_000, 0),
            None,
        ),
        (
            {"enable_batching": True, "batch_size": 1000},
            BatchRules(1000, 4_000_000, 1.0),
            BulkRules(1000, 4_000_000, 60.0),
        ),
        (
            {"enable_batching": True, "batch_size": 50_000, "batch_bytes": 90_000_000, "batch_wait_s": 300},
            BatchRules(1000, 4_000_000, 1.0),
            BulkRules(50_000, 90_000_000, 300),
        ),
    ],
)
def test_the_rules(settings: dict[str, Any], stream: BatchRules, bulk: BulkRules | None) -> None:
    batching = Batching.of(settings)
    assert (batching.stream, batching.bulk) == (stream, bulk)
