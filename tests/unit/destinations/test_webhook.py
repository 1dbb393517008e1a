"""The webhook against a real server on loopback: bodies, headers, outcomes, what is kept of an exchange."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from tests.support.sink import HANG, Hit, Place, Reply, Sink
from tests.unit.destinations.webhook_kit import event, events, send
from trunkline.delivery.egress import EgressPolicy
from trunkline.destinations.kit import DELIVERED_OUTCOME, Outcome, Result
from trunkline.secrets import mask
from trunkline.workspace.model import DeliveryOptions


def ends(outcomes: list[Outcome]) -> list[tuple[Result, str]]:
    return [(outcome.result, outcome.reason) for outcome in outcomes]


def signature(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()


# -- one event a request


def test_one_event_is_posted_as_it_is(place: Place) -> None:
    [outcome] = send(place.url, [event("m1")], headers={"X-Own": "1"}, shared_secret="s3cret")
    assert outcome is DELIVERED_OUTCOME
    [hit] = place.hits
    assert hit.body == event("m1").body
    assert hit.headers["content-type"] == "application/json"
    assert hit.headers["accept-encoding"] == "identity"
    assert hit.headers["x-own"] == "1"
    assert hit.headers["x-signature"] == signature("s3cret", hit.body)


def test_own_headers_win_whatever_their_case(place: Place) -> None:
    send(place.url, [event("m1")], headers={"content-type": "application/x-mine"})
    assert place.hits[0].headers["content-type"] == "application/x-mine"


def test_without_batching_every_event_has_a_request_of_its_own(place: Place) -> None:
    place.answer = lambda hit: Reply(503) if hit.message_id == "m1" else Reply(207, body=b'[{"status": 500}]')
    outcomes = send(place.url, events(3))
    assert ends(outcomes) == [(Result.DELIVERED, ""), (Result.RETRY, "503"), (Result.DELIVERED, "")]
    assert len(place.hits) == 3


def test_what_is_kept_of_a_failure(sink: Sink) -> None:
    place = sink.place("kept?api_key=12345678&v=2")
    place.always(Reply(400, {"Set-Cookie": "sid=0123456789", "X-Trace": "t1"}, b"bad: Bearer tok3n-of-ours"))
    [outcome] = send(
        place.url,
        [event("m1")],
        headers={"Authorization": "Bearer tok3n-of-ours"},
        shared_secret="s3cret-s3cret",
    )
    assert (outcome.result, outcome.reason) == (Result.FAILED, "400")
    assert outcome.detail == f"bad: {mask('Bearer tok3n-of-ours')}"
    exchange = outcome.exchange
    assert exchange is not None
    assert exchange.url == place.url.replace("12345678", mask("12345678"))
    assert exchange.request_body.encode() == event("m1").body
    assert exchange.request_headers["Authorization"] == mask("Bearer tok3n-of-ours")
    assert exchange.request_headers["X-Signature"] == mask(signature("s3cret-s3cret", event("m1").body))
    assert exchange.status == 400
    assert exchange.response_headers["Set-Cookie"] == mask("sid=0123456789")
    assert exchange.response_headers["X-Trace"] == "t1"
    assert exchange.response_body == outcome.detail
    assert "tok3n-of-ours" not in repr(outcome)


def test_a_redirect_fails_at_once_and_says_what_to_do(place: Place) -> None:
    place.always(Reply(307, {"Location": "https://u:pw@elsewhere.test/"}))
    [outcome] = send(place.url, [event("m1")])
    assert (outcome.result, outcome.reason) == (Result.FAILED, "307")
    assert "elsewhere.test" in outcome.detail
    assert "put the final address into url" in outcome.detail
    assert "pw" not in outcome.detail
    assert len(place.hits) == 1


def test_a_limit_that_is_used_up_pauses_the_lane_after_a_delivery_too(place: Place) -> None:
    place.always(Reply(200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}))
    assert send(place.url, [event("m1")]) == [Outcome(Result.DELIVERED, pause_s=30)]
    place.always(Reply(429, {"Retry-After": "7"}))
    [outcome] = send(place.url, [event("m1")])
    assert (outcome.reason, outcome.retry_after_s, outcome.pause_s) == ("429", 7, 7)
    place.always(Reply(500, {"Retry-After": "7"}))
    [outcome] = send(place.url, [event("m1")])
    assert (outcome.reason, outcome.retry_after_s, outcome.pause_s) == ("500", 7, None)


def test_the_destinations_own_timeout_holds(place: Place) -> None:
    place.always(HANG)
    [outcome] = send(place.url, [event("m1")], delivery=DeliveryOptions(timeout_s=0.1))
    assert (outcome.result, outcome.reason) == (Result.RETRY, "ETIMEDOUT")
    assert outcome.detail == "no answer within 0.1 s"
    assert outcome.exchange is not None
    assert outcome.exchange.status == 0
    place.let_go()


def test_an_address_that_is_refused_fails_at_once() -> None:
    [outcome] = send("http://127.0.0.1:9/hook", [event("m1")], policy=EgressPolicy(()))
    assert (outcome.result, outcome.reason) == (Result.FAILED, "EGRESS_REFUSED")
    assert outcome.exchange is not None


# -- batches


def test_a_batch_is_one_array_of_the_bodies_signed_over_its_first(place: Place) -> None:
    batch = events(5)
    outcomes = send(place.url, batch, enable_batching=True, shared_secret="s3cret")
    assert all(outcome is DELIVERED_OUTCOME for outcome in outcomes)
    assert len(outcomes) == 5
    [hit] = place.hits
    assert hit.body == b"[" + b",".join(item.body for item in batch) + b"]"
    assert hit.json() == [json.loads(item.body) for item in batch]
    assert hit.headers["x-signature"] == signature("s3cret", batch[0].body)


def test_with_batching_one_event_is_an_array_too(place: Place) -> None:
    send(place.url, [event("m1")], enable_batching=True)
    assert place.hits[0].json() == [json.loads(event("m1").body)]


@pytest.mark.parametrize(("status", "result"), [(503, Result.RETRY), (425, Result.RETRY), (413, Result.FAILED)])
def test_a_batch_that_fails_on_one_answer_shares_one_exchange(place: Place, status: int, result: Result) -> None:
    place.always(Reply(status, body=b"no"))
    outcomes = send(place.url, events(4), enable_batching=True)
    assert ends(outcomes) == [(result, str(status))] * 4
    assert outcomes[0].exchange is not None
    assert len({id(outcome.exchange) for outcome in outcomes}) == 1


def test_a_batch_without_an_answer_shares_one_exchange(sink: Sink) -> None:
    other = Sink()
    other.close()
    outcomes = send(f"http://127.0.0.1:{other.port}/x", events(3), enable_batching=True)
    assert ends(outcomes) == [(Result.RETRY, "ECONNREFUSED")] * 3
    assert len({id(outcome.exchange) for outcome in outcomes}) == 1


def multi(*entries: Any, headers: dict[str, str] | None = None) -> Reply:
    return Reply(207, headers or {}, json.dumps(entries).encode())


def test_each_event_has_its_own_outcome(place: Place) -> None:
    place.always(
        multi(
            {"status": 200},
            {"status": 400, "errortype": "PAYLOAD_VALIDATION_FAILED", "errormessage": "no email"},
            {"status": 429, "errormessage": "slow down"},
            None,
            headers={"Retry-After": "9"},
        )
    )
    outcomes = send(place.url, events(5), enable_batching=True)
    assert ends(outcomes) == [
        (Result.DELIVERED, ""),
        (Result.FAILED, "400"),
        (Result.RETRY, "429"),
        (Result.RETRY, "500"),
        (Result.RETRY, "500"),
    ]
    assert outcomes[1].detail == "PAYLOAD_VALIDATION_FAILED: no email"
    assert [outcome.retry_after_s for outcome in outcomes] == [None, None, 9, 9, 9]
    assert {outcome.pause_s for outcome in outcomes} == {9}
    assert outcomes[0].exchange is None
    assert len({id(outcome.exchange) for outcome in outcomes[1:]}) == 1
    assert outcomes[1].exchange is not None
    assert outcomes[1].exchange.status == 207


def test_an_answer_that_delivers_all_needs_no_exchange(place: Place) -> None:
    place.always(multi({"status": 200}, {"status": 201}, headers={"Retry-After": "9"}))
    assert all(outcome is DELIVERED_OUTCOME for outcome in send(place.url, events(2), enable_batching=True))


@pytest.mark.parametrize("body", [b"", b"fine", b"[]", b'[{"status": 200},{"status": 500},{"status": 500}]'])
def test_a_207_that_can_not_be_read_counts_as_delivered_and_says_so(place: Place, body: bytes) -> None:
    place.always(Reply(207, body=body))
    outcomes = send(place.url, events(2), enable_batching=True)
    assert [outcome.result for outcome in outcomes] == [Result.DELIVERED] * 2
    assert all("207" in outcome.detail for outcome in outcomes)


def test_statuses_of_other_answers_are_not_read(place: Place) -> None:
    place.always(Reply(200, body=b'[{"status": 500},{"status": 500}]'))
    assert all(outcome is DELIVERED_OUTCOME for outcome in send(place.url, events(2), enable_batching=True))


def test_a_whole_batch_of_a_thousand_arrives(place: Place) -> None:
    seen: list[int] = []

    def answer(hit: Hit) -> Reply:
        seen.append(len(hit.json()))
        return multi(*({"status": 200 if number % 2 else 503} for number in range(1000)))

    place.answer = answer
    outcomes = send(place.url, events(1000), enable_batching=True, batch_size=1000)
    assert seen == [1000]
    assert [outcome.result for outcome in outcomes] == [Result.RETRY, Result.DELIVERED] * 500
