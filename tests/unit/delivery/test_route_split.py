"""What a route hands to each lane is what the lane's own stages let through, body by body, whatever is looked at."""

from __future__ import annotations

import copy
import json
from collections import Counter
from random import Random
from typing import Any, cast

import pytest

from trunkline.delivery import route
from trunkline.delivery.judgement import decode_event
from trunkline.delivery.lane import Lane
from trunkline.delivery.route import MAX_REMEMBERED, SourceRoute
from trunkline.log.records import AcceptedEvent
from trunkline.pipeline.gate import TAKES_EVERYTHING, GateStage, Takes, compile_gate
from trunkline.spec.capabilities import METHODS
from trunkline.spec.discards import FILTERED_BY_RULES, UNSUPPORTED_EVENT_TYPE, Discard
from trunkline.spec.filters import Filter
from trunkline.spec.outcomes import FILTERED_AT_DESTINATION
from trunkline.spec.schema_filters import IntegrationFilter
from trunkline.spec.transformations import PropertyValue, Transformation
from trunkline.workspace.model import Destination

NAMES = ("A", "B", "C", "D")
FILTERS: tuple[tuple[Filter, ...], ...] = (
    (),
    (),
    (),
    (Filter('event = "A"', "only_send"),),
    (Filter('type = "track"', "only_send"), Filter('event in ["A", "B"]', "only_send")),
    (Filter('type = "identify" or type = "page"', "only_send"),),
    (Filter('event = "A"', "drop"),),
    (Filter("all", "drop"),),
    (Filter("properties.n > 1", "drop_properties", fields={"properties": ("n",)}),),
)
METHOD_SETS = (METHODS, METHODS, METHODS, frozenset({"track"}), frozenset({"track", "identify"}), frozenset[str]())
TRANSFORMATIONS: tuple[tuple[Transformation, ...], ...] = (
    (),
    (),
    (Transformation("t1", "web", 'event = "A"', new_event_name="Renamed"),),
    (Transformation("t2", "web", 'type = "identify"', drop=True),),
    (Transformation("t3", "web", "properties.n = 1", values=(PropertyValue(("properties.m",), 7),)),),
    (Transformation("t4", "web", "this is no FQL"),),
)
INTEGRATION_FILTERS = (
    IntegrationFilter("track", "B", ("d0", "d3", "d6")),
    IntegrationFilter("identify", "", ("d1", "d4", "d7")),
    IntegrationFilter("track", "", ("d2",)),
)


class Told:
    """Stands for a lane: hears what is told in passing."""

    def __init__(self) -> None:
        self.intake = self
        self.passed_over: list[tuple[int, tuple[Any, str, str], int]] = []

    def pass_over(self, position: int, reason: tuple[Any, str, str], events: int) -> None:
        self.passed_over.append((position, reason, events))


def random_stage(random: Random, number: int) -> GateStage:
    destination = Destination(
        f"d{number}",
        f"Destination {number}",
        "webhook",
        ("web",),
        True,
        {},
        filters=random.choice(FILTERS),
        consent_categories=("ads",) if random.random() < 0.15 else (),
    )
    return compile_gate(
        destination,
        "web",
        frozenset({"ads"}),
        random,
        kind=Takes(storage=random.random() < 0.05, methods=random.choice(METHOD_SETS)),
        source_kind="browser",
        integration_filters=INTEGRATION_FILTERS if random.random() < 0.5 else (),
        transformations=random.choice(TRANSFORMATIONS),
    )


def random_event(random: Random, number: int) -> AcceptedEvent:
    kind = random.choice(["track", "track", "track", "identify", "page", "screen", "group", "alias"])
    fields: dict[str, Any] = {"messageId": f"m{number}", "type": kind, "properties": {"n": random.randrange(4)}}
    if kind == "track" or random.random() < 0.1:
        fields["event"] = random.choice(NAMES)
    if random.random() < 0.3:
        fields["integrations"] = random.choice([{}, {"All": False}, {"All": False, "d2": True}, {"d0": True}, {"x": 1}])
    if random.random() < 0.1:
        fields["_metadata"] = {"bundledIds": ["d4"]}
    if random.random() < 0.2:
        fields["context"] = {"consent": {"categoryPreferences": {"ads": random.random() < 0.5}}}
    name = str(fields.get("event", "")) if kind == "track" else ""
    body = json.dumps(fields, separators=(",", ":")).encode()
    return AcceptedEvent("web", 0, f"m{number}", kind, name, body, "1.0")


@pytest.mark.parametrize("seed", range(60))
def test_a_lane_gets_what_its_stages_let_through(seed: int) -> None:
    random = Random(seed)
    stages = [random_stage(random, number) for number in range(12)]
    lanes = [Told() for _ in stages]
    found = SourceRoute("web", [(cast(Lane, lane), stage) for lane, stage in zip(lanes, stages, strict=True)])
    for turn in range(8):
        events = [random_event(random, number) for number in range(random.randrange(1, 12))]
        taken = [(100 + number, event) for number, event in enumerate(events)]
        before = copy.deepcopy([event.body for event in events])
        split = {id(lane): (own, refused) for lane, own, refused in found.split(taken, turn if turn % 2 else None)}
        assert [event.body for event in events] == before
        for lane, stage in zip(lanes, stages, strict=True):
            own, refused = split.get(id(lane), ([], {}))
            for position, (kind, outcome, reason), number in lane.passed_over:
                assert (position, outcome) == (turn, FILTERED_AT_DESTINATION)
                assert not refused
                refused = {(kind, reason): number}
            lane.passed_over.clear()
            check(stage, events, [(place, event.body) for place, event in own], Counter(refused))


def check(
    stage: GateStage, events: list[AcceptedEvent], own: list[tuple[int, bytes]], refused: Counter[tuple[Any, str]]
) -> None:
    expected: list[tuple[int, bytes]] = []
    reasons: list[tuple[AcceptedEvent, str]] = []
    for number, event in enumerate(events):
        verdict = stage.passes(decode_event(event.body), event.body)
        if isinstance(verdict, Discard):
            reasons.append((event, verdict.reason))
        else:
            expected.append((100 + number, verdict))
    assert own == expected
    assert refused.total() == len(reasons)
    methods = METHODS if stage.methods is None else stage.methods
    unsupported = Counter(event.type for event in events if event.type not in methods)
    by_type = {kind[1]: count for (kind, reason), count in refused.items() if reason == UNSUPPORTED_EVENT_TYPE}
    assert by_type == unsupported, "counted by type, whatever else would have refused them"
    exact = Counter(
        ((event.source, event.type, event.name, event.app_version), reason)
        for event, reason in reasons
        if event.type in methods
    )
    left_out = refused[("web", "", "", ""), FILTERED_BY_RULES]
    named = {key: count for key, count in refused.items() if key[0][2:] != ("", "") and count}
    assert all(named[key] <= exact[key] for key in named)
    assert sum(named.values()) + left_out + unsupported.total() == len(reasons)


def test_what_nobody_looks_at_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event is decoded once at most, and only for a lane that it concerns."""
    decoded: list[bytes] = []

    def counted(body: bytes) -> Any:
        decoded.append(body)
        return decode_event(body)

    monkeypatch.setattr(route, "decode_event", counted)
    rename = Transformation("t", "web", 'type = "track" and event = "A"', new_event_name="Renamed")
    lanes = []
    for number in range(4):
        destination = Destination(f"d{number}", "D", "webhook", ("web",), True, {})
        stage = compile_gate(
            destination,
            "web",
            frozenset(),
            Random(0),
            kind=Takes(methods=frozenset({"track", "page"})) if number == 3 else TAKES_EVERYTHING,
            integration_filters=(IntegrationFilter("track", "B", ("d0", "d1", "d3")),),
            transformations=(rename,) if number < 2 else (),
        )
        lanes.append((cast(Lane, Told()), stage))
    found = SourceRoute("web", lanes)
    bodies = {
        name: json.dumps({"type": "track", "event": name, "messageId": name}, separators=(",", ":")).encode()
        for name in NAMES
    }
    events = [AcceptedEvent("web", 0, name, "track", name, body) for name, body in bodies.items()]
    events += [AcceptedEvent("web", 0, "s", "screen", "B", b'{"type":"screen"}')]
    kept = {id(lane): [event.message_id for _, event in own] for lane, own, _ in found.split(list(enumerate(events)))}
    assert decoded == [bodies["A"], bodies["B"]]
    assert [kept[id(lane)] for lane, _ in lanes] == [
        ["A", "C", "D", "s"],
        ["A", "C", "D", "s"],
        ["A", "B", "C", "D", "s"],
        ["A", "C", "D"],
    ]


def test_names_without_end_are_not_all_remembered() -> None:
    destination = Destination("d0", "D", "webhook", ("web",), True, {})
    stage = compile_gate(
        destination, "web", frozenset(), Random(0), integration_filters=(IntegrationFilter("track", "B", ("d0",)),)
    )
    found = SourceRoute("web", [(cast(Lane, Told()), stage)])
    for number in range(MAX_REMEMBERED + 100):
        event = AcceptedEvent("web", 0, "m", "track", f"N{number}", b'{"type":"track"}')
        [(_, own, _)] = found.split([(1, event)])
        assert len(own) == 1
    assert len(found._concerned) <= MAX_REMEMBERED
