"""How a destination says in the file how it is delivered to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workspace.workspace_kit import GOOD, SECRETS, TYPES, good, only, problems
from trunkline.workspace import vocabulary
from trunkline.workspace.codec import make_snapshot
from trunkline.workspace.model import DeliveryOptions, Destination, Source
from trunkline.workspace.yaml_out import to_yaml


def with_keys(*lines: str) -> str:
    """The good workspace whose first destination, from line 8 on, has these too."""
    return GOOD.replace("    type: post\n", "    type: post\n" + "".join(f"    {line}\n" for line in lines))


def test_all_of_them() -> None:
    snapshot = good(
        with_keys(
            "concurrency: 16",
            "timeout_s: 10",
            "rate_limit: {requests_per_s: 10, events_per_s: 1000.5}",
            "retry: {window_s: 14400, attempts: 10}",
            "max_event_age_s: 432000",
        )
    )
    assert snapshot.destinations["hook"].delivery == DeliveryOptions(16, 10, 10, 1000.5, 14400, 10, 432000)
    assert snapshot.destinations["shelf"].delivery == DeliveryOptions()


@pytest.mark.parametrize(
    "line",
    [
        "concurrency: 1",
        "concurrency: 10000",
        "timeout_s: 0.1",
        "timeout_s: 600",
        "rate_limit: {requests_per_s: 0.001}",
        "rate_limit: {events_per_s: 1000000}",
        "retry: {window_s: 60, attempts: 1}",
        "retry: {window_s: 86400, attempts: 20}",
        "max_event_age_s: 60",
        "max_event_age_s: 315360000",
    ],
)
def test_the_bounds_are_allowed(line: str) -> None:
    assert good(with_keys(line)).destinations["hook"].delivery != DeliveryOptions()


@pytest.mark.parametrize("line", ["concurrency:", "rate_limit: {}", "retry: {attempts: null}", "retry:"])
def test_what_has_no_value_says_nothing(line: str) -> None:
    assert good(with_keys(line)) == good(GOOD)


@pytest.mark.parametrize(
    ("line", "path", "reason", "mend"),
    [
        ("concurrency: 0", "concurrency", "0 is not a whole number of requests at once from 1 to 10000", "Raise it; 1"),
        ("concurrency: 10001", "concurrency", "10001 is not a whole number", "Lower it; 10000 is the most"),
        ("concurrency: 1.5", "concurrency", "not a whole number of requests at once", "such as 16"),
        ("concurrency: true", "concurrency", "not a whole number", "such as 16"),
        ("concurrency: [1]", "concurrency", "not a whole number", "such as 16"),
        ("concurrency: {env: N}", "concurrency", "not a whole number", "such as 16"),
        ("concurrency: '12'", "concurrency", "not a whole number", "Write 12, without the quotes"),
        ("timeout_s: 0", "timeout_s", "0 is not a number of seconds from 0.1 to 600", "Raise it; 0.1 is the least"),
        ("timeout_s: 601", "timeout_s", "601 is not", "Lower it; 600 is the most"),
        ("timeout_s: 10s", "timeout_s", "not a number of seconds", "Write one such as 10"),
        ("rate_limit: 10", "rate_limit", "a mapping is wanted here", "Write rate_limit: {requests_per_s: 10}"),
        ("rate_limit: {requests_per_s: 0}", "rate_limit.requests_per_s", "0 is not a number of requests", "Raise it"),
        ("rate_limit: {events_per_s: -1}", "rate_limit.events_per_s", "-1 is not a number of events", "Raise it"),
        ("rate_limit: {events_per_s: 1e+7}", "rate_limit.events_per_s", "not a number", "Write one such as 1000"),
        ("rate_limit: {events_per_s: 1000001}", "rate_limit.events_per_s", "1000001 is not", "Lower it; 1000000 is"),
        ("rate_limit: {requests: 1}", "rate_limit.requests", "no such key", "Did you mean requests_per_s?"),
        ("rate_limit: {zzz: 1}", "rate_limit.zzz", "no such key", "Use one of: requests_per_s, events_per_s"),
        ("retry: [1]", "retry", "a mapping is wanted here", "Write retry: {window_s: 14400, attempts: 10}"),
        ("retry: {window_s: 59}", "retry.window_s", "59 is not a number of seconds from 60 to 86400", "Raise it; 60"),
        ("retry: {window_s: 86401}", "retry.window_s", "86401 is not", "Lower it; 86400 is the most"),
        ("retry: {attempts: 0}", "retry.attempts", "0 is not a whole number of attempts from 1 to 20", "Raise it; 1"),
        ("retry: {attempts: 21}", "retry.attempts", "21 is not", "Lower it; 20 is the most"),
        ("retry: {atempts: 3}", "retry.atempts", "no such key", "Did you mean attempts?"),
        ("max_event_age_s: 59", "max_event_age_s", "59 is not a number of seconds, 60 at least", "Raise it; 60"),
        ("max_event_age_s: 5d", "max_event_age_s", "not a number of seconds", "such as 432000"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_and_a_mend(line: str, path: str, reason: str, mend: str) -> None:
    problem = only(with_keys(line))
    assert (problem.line, problem.path) == (8, f"destinations[0].{path}")
    assert reason in problem.reason
    assert mend in problem.mend


def test_every_wrong_value_is_reported() -> None:
    found = problems(with_keys("concurrency: 0", "retry: {attempts: 99, window_s: x}", "timeout_s: -1"))
    assert [problem.line for problem in found] == [8, 9, 9, 10]


@pytest.mark.parametrize("key", sorted(vocabulary.DESTINATION.elsewhere))
def test_a_key_of_other_tools_is_refused_with_the_one_that_is_meant(key: str) -> None:
    problem = only(with_keys(f"{key}: 10"))
    assert (problem.line, problem.path) == (8, f"destinations[0].{key}")
    assert problem.reason == "there is no such key"
    meant = (*vocabulary.DESTINATION.known, "batch_size")
    assert any(word in problem.mend for word in meant)


@pytest.mark.parametrize("key", ["batch_size", "batching", "retries", "throttle", "timeout"])
def test_the_usual_synonyms_are_known(key: str) -> None:
    assert key in vocabulary.DESTINATION.elsewhere


def test_a_key_can_not_be_listed_twice() -> None:
    with pytest.raises(ValueError, match="listed twice"):
        vocabulary._section("one two", {"two": "twos"})


options = st.builds(
    DeliveryOptions,
    st.none() | st.integers(1, 10_000),
    st.none() | st.floats(0.1, 600),
    st.none() | st.floats(0.001, 1e6),
    st.none() | st.floats(0.001, 1e6),
    st.none() | st.floats(60, 86_400),
    st.none() | st.integers(1, 20),
    st.none() | st.floats(60, 1e15),
)


@given(options)
def test_any_options_survive_the_way_out_and_in(delivery: DeliveryOptions) -> None:
    snapshot = make_snapshot(
        SECRETS,
        slug="a",
        name="A",
        sources=[Source("s", "S", "http", ("k",))],
        destinations=[Destination("d", "D", "shelf", ("s",), True, {}, delivery)],
    )
    assert good(to_yaml(snapshot, TYPES, show_secrets=False)) == snapshot
