"""The demonstration's traffic: every type, plausible, and wrong only on purpose."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import msgspec

from trunkline.cli.demo_tally import Tally
from trunkline.cli.demo_traffic import SOURCES, Call, Shop
from trunkline.spec.event import TYPES, decode_event
from trunkline.spec.verdicts import judge

COUNT = 5000


def calls(seed: int = 1) -> list[Call]:
    shop = Shop(Random(seed))
    return [shop.next() for _ in range(COUNT)]


def verdict(call: Call) -> str | None:
    if not isinstance(call.event.get("properties", {}), dict):
        return "properties_not_object"
    return judge(decode_event(msgspec.json.encode(call.event), None))


def test_every_type_and_source_occurs() -> None:
    made = calls()
    assert {call.event["type"] for call in made} == TYPES
    assert {call.source for call in made} == set(SOURCES)
    labels = Counter(call.label for call in made)
    funnel = ["Product Viewed", "Product Added", "Checkout Started", "Payment Info Entered"]
    counts = [labels[label] for label in funnel]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] > 0
    assert labels["Order Completed"] > 0


def test_a_few_are_wrong_and_a_few_come_twice() -> None:
    made = calls()
    verdicts = Counter(map(verdict, made))
    assert set(verdicts) == {None, "event_not_defined", "no_user_anon_id", "properties_not_object"}
    assert 0.97 < verdicts[None] / COUNT < 0.995
    again = COUNT - len({call.event["messageId"] for call in made})
    assert 0.02 < again / COUNT < 0.04
    by_id: dict[str, str] = {}
    for call in made:
        text = json.dumps(call.event, sort_keys=True)
        assert by_id.setdefault(call.event["messageId"], text) == text


def test_the_same_seed_makes_the_same_traffic() -> None:
    assert calls(3) == calls(3)
    assert calls(3) != calls(4)


def test_the_tally_counts_an_event_once_however_often_it_arrives() -> None:
    tally = Tally(0.0)
    call = Call("shop-web", {"type": "track", "event": "A", "messageId": "m"})
    tally.sending([call, call], now_s=10.0)
    tally.answered([call, call], [], retries=1, took_s=None)
    for now_s in (10.25, 10.5):
        tally.arrive("m", "track", "A", "u", now_s=now_s, now_ms=0)
    assert (tally.sent, tally.taken, tally.arrived, tally.arrived_again, tally.retries) == (2, 2, 1, 1, 1)
    assert tally.percentile_ms(0.5) == 250.0
    tally.sending([call], now_s=20.0)
    tally.arrive("m", "track", "A", "u", now_s=30.0, now_ms=0)
    assert tally.percentile_ms(0.99) == 250.0
