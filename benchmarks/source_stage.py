"""What an event costs in the source stage and at a lane's gate: CPU in one process, events of 1 KB.

Run it with ``python -m benchmarks.source_stage [--quick] [--profile]``. The source stage builds envelopes of 100 events
as the worker does, with a real dedupe index: nothing configured, a plan of 200 rules, and the plan with transformations
and schema filters, where one event in four is changed. The gate judges the same events for one destination that takes
them: consent, integrations, integration filters, destination filters, transformations; its event is decoded already, as
all lanes share that. The yardstick is the decoding of the same events, in batches of 100, into structs: the budgets
were set where it took 1.2 us. The cases take turns and medians are shown. Events that do not come out as the workspace
says are an error.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from benchmarks.support import HEADER, SYSTEM_CORE, Row, event
from trunkline.clock import SystemClock
from trunkline.dedupe import DedupeIndex
from trunkline.log.base import Record
from trunkline.log.records import RECORD_VERSION, Envelope, IngestedChunk, LoggedEvent
from trunkline.pipeline.gate import GateStage, compile_gate
from trunkline.runtime.interpreter import tune_interpreter
from trunkline.runtime.source_stage import SourceStage
from trunkline.spec.discards import Discard
from trunkline.spec.event import Event
from trunkline.spec.filters import DROP, ONLY_SEND, Filter
from trunkline.spec.plans import BLOCK, COMMON, TRACK, Enforcement, Rule, SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import IntegrationFilter, SchemaFilters
from trunkline.spec.transformations import PropertyValue, Transformation
from trunkline.workspace.model import Destination, Snapshot, Source

decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Batch(msgspec.Struct, gc=False):
    batch: list[Event]


decode_batch: Final = msgspec.json.Decoder(Batch).decode

RULES = 200
CHUNK_EVENTS = 100
ROUNDS = 9
CHUNKS = 60
DECODING_US: Final = 1.2
"""What the decoding of an event in a batch took where the budgets were set."""
SOURCE_BUDGET_US: Final = 8.0
GATE_BUDGET_US: Final = 10.0
WARM_UP_CHUNKS = 200
"""What a rule needs is compiled with its first events, and generated when the same rule was asked often."""
CHANGED_OF_FOUR = 1

NAMES = [f"Order {number} Completed" for number in range(RULES)]


def snapshot(*, plan: bool = False, transformed: bool = False) -> Snapshot:
    source = Source("web", "web", "http", ("wk",))
    if transformed:
        filters = SchemaFilters(blocked_events=("Never Sent",), omitted_identify_traits=("ssn",))
        source = replace(source, schema_filters=filters)
    return Snapshot(
        "v",
        "acme",
        "Acme",
        {"web": source},
        {},
        tracking_plans={"shop": tracking_plan()} if plan else {},
        transformations=TRANSFORMATIONS if transformed else (),
    )


def tracking_plan() -> TrackingPlan:
    """A rule for each name, a common one; nothing is violated, as most of the time."""
    rules = [Rule(TRACK, schema_of(number), name) for number, name in enumerate(NAMES)]
    common = Rule(COMMON, {"type": "object", "required": ["messageId", "type"]})
    tracked = Enforcement(unplanned_properties="omit", violations=BLOCK, common_violations=BLOCK)
    enforce = SchemaConfiguration(unplanned_events=BLOCK, track=tracked)
    return TrackingPlan("shop", "Shop", ("web",), (*rules, common), enforce)


def schema_of(number: int) -> Mapping[str, object]:
    """What an order holds, as plans have it; every rule differs from the others."""
    product = {
        "type": "object",
        "properties": {
            "product_id": {"type": "string"},
            "sku": {"type": "string", "pattern": "^S-"},
            "name": {"type": "string"},
            "price": {"type": "number", "minimum": 0},
            "category": {"type": "string", "enum": ["Games", "Books", f"Kind {number}"]},
        },
        "required": ["product_id", "price"],
    }
    properties = {
        "order_id": {"type": "string"},
        "total": {"type": "number"},
        "revenue": {"type": "number", "minimum": -number},
        "currency": {"type": "string", "enum": ["EUR", "USD", "GBP"]},
        "coupon": {"type": ["string", "null"]},
        "products": {"type": "array", "items": product},
    }
    return {
        "type": "object",
        "properties": {
            "properties": {"type": "object", "properties": properties, "required": ["order_id", "revenue"]},
            "context": {"type": "object"},
        },
        "required": ["properties"],
    }


DECODE = "the decoding that all lanes share"
FILTERS = (
    Filter('event = "Heartbeat"', DROP),
    Filter('type = "track" and contains(properties.order_id, "test")', DROP),
    Filter('type = "track" and properties.total > 10', ONLY_SEND),
)
KEPT_BACK = (IntegrationFilter(TRACK, "Never Sent", ("hook",)),)
TRANSFORMATIONS = (
    Transformation("rename", "web", 'type = "identify"', renames=(("mail", "email"),)),
    Transformation(
        "stamp",
        "web",
        'type = "track" and properties.total > 1000',
        values=(PropertyValue(("properties.large",), value=True),),
    ),
)


def chunks(seed: int, number: int) -> list[tuple[Record, IngestedChunk]]:
    """As ingest wrote them; each message id is new. One event in four has a large total."""
    random = Random(seed)
    made = []
    for place in range(number):
        events = []
        for at in range(CHUNK_EVENTS):
            content = event(seed * 1_000_000 + place * CHUNK_EVENTS + at) | {"event": random.choice(NAMES)}
            if at % 4 < CHANGED_OF_FOUR:
                assert isinstance(content["properties"], dict)
                content["properties"]["total"] = 2_000.5
            body = msgspec.json.encode(content)
            events.append(LoggedEvent(str(content["messageId"]), "track", str(content["event"]), body))
        chunk = IngestedChunk(RECORD_VERSION, "web", int(time.time() * 1000), events, [])
        made.append((Record(place, place + 1, b"", {}), chunk))
    return made


class Stage:
    """The source stage with one workspace."""

    def __init__(self, directory: Path, workspace: Snapshot, *, changed_of_four: int) -> None:
        self._dedupe = DedupeIndex(directory, secret=b"secret")
        self._stage = SourceStage(self._dedupe, SystemClock())
        self._stage.activate(workspace)
        self._changed_of_four = changed_of_four
        self.build_us(chunks(0, WARM_UP_CHUNKS))

    def build_us(self, taken: list[tuple[Record, IngestedChunk]]) -> float:
        """CPU microseconds an event."""
        used_s, envelopes = asyncio.run(self._build(taken))
        before = [found.body for _, chunk in taken for found in chunk.events]
        after = [found.body for envelope in envelopes for found in envelope.survivors]
        assert len(after) == len(before), f"{len(before) - len(after)} events did not come out"
        changed = sum(one != other for one, other in zip(before, after, strict=True))
        assert changed == len(before) * self._changed_of_four // 4, f"{changed} events were changed"
        return used_s / len(before) * 1e6

    async def _build(self, taken: list[tuple[Record, IngestedChunk]]) -> tuple[float, list[Envelope]]:
        began_s = time.process_time()  # asyncio.run has costs of its own
        envelopes = [await self._stage.build("0", [item], epoch=1, snapshot="v") for item in taken]
        return time.process_time() - began_s, envelopes

    def close(self) -> None:
        self._dedupe.close()


def source_rows(folder: Path, profile: Callable[[str, Callable[[], object]], None] | None) -> list[Row]:
    stages = {
        "nothing configured": Stage(folder / "a", snapshot(), changed_of_four=0),
        f"a plan of {RULES} rules": Stage(folder / "b", snapshot(plan=True), changed_of_four=0),
        "plan, transformations, schema filters": Stage(
            folder / "c", snapshot(plan=True, transformed=True), changed_of_four=CHANGED_OF_FOUR
        ),
    }
    costs_us: dict[str, list[float]] = {name: [] for name in stages}
    decoding_us = []
    for turn in range(1, ROUNDS + 1):
        taken = chunks(turn, CHUNKS)
        decoding_us.append(decoding_cost_us(taken))
        for name, stage in stages.items():
            costs_us[name].append(stage.build_us(taken))
    if profile is not None:
        taken = chunks(ROUNDS + 1, CHUNKS)
        for name, stage in stages.items():
            profile(name, lambda stage=stage: stage.build_us(taken))  # type: ignore[misc]
    for stage in stages.values():
        stage.close()
    return [row(f"source stage: {name}", found, decoding_us, SOURCE_BUDGET_US) for name, found in costs_us.items()]


def decoding_cost_us(taken: list[tuple[Record, IngestedChunk]]) -> float:
    """The yardstick."""
    batches = [b'{"batch":[' + b",".join(found.body for found in chunk.events) + b"]}" for _, chunk in taken]
    began_s = time.process_time()
    for batch in batches:
        decode_batch(batch)
    return (time.process_time() - began_s) / (len(batches) * CHUNK_EVENTS) * 1e6


def gate_rows() -> list[Row]:
    agreed = {"consent": {"categoryPreferences": {"Advertising": True, "Analytics": True}}}
    gates = {
        "nothing configured": gate(),
        "consent": gate(consent_categories=("Advertising",)),
        "consent, 3 filters, integration filter": gate(
            consent_categories=("Advertising",), filters=FILTERS, integration_filters=KEPT_BACK
        ),
        "the same and a transformation that changes one event in four": gate(
            consent_categories=("Advertising",),
            filters=FILTERS,
            integration_filters=KEPT_BACK,
            transformations=(TRANSFORMATIONS[1],),
        ),
    }
    costs_us: dict[str, list[float]] = {name: [] for name in (DECODE, *gates)}
    decoding_us = []
    for turn in range(ROUNDS):
        events = []
        taken = chunks(turn, CHUNKS)
        decoding_us.append(decoding_cost_us(taken))
        for _, chunk in taken:
            for logged in chunk.events:
                content = msgspec.json.decode(logged.body, type=dict[str, Any])
                content["context"] |= agreed
                events.append(LoggedEvent(logged.message_id, "track", logged.name, msgspec.json.encode(content)))
        began_s = time.process_time()
        for logged in events:
            decode(logged.body)
        costs_us[DECODE].append((time.process_time() - began_s) / len(events) * 1e6)
        decoded = [decode(logged.body) for logged in events]
        for name, one in gates.items():
            began_s = time.process_time()
            passed = 0
            for logged, content in zip(events, decoded, strict=True):
                if not one.needs(logged.type, logged.name, logged.body) or not isinstance(
                    one.passes(content, logged.body), Discard
                ):
                    passed += 1
            costs_us[name].append((time.process_time() - began_s) / len(events) * 1e6)
            assert passed == len(events), f"{len(events) - passed} events did not pass: {name}"
    return [row(f"gate: {name}", found, decoding_us, GATE_BUDGET_US) for name, found in costs_us.items()]


def gate(
    *,
    consent_categories: tuple[str, ...] = (),
    filters: tuple[Filter, ...] = (),
    integration_filters: tuple[IntegrationFilter, ...] = (),
    transformations: tuple[Transformation, ...] = (),
) -> GateStage:
    destination = Destination(
        "hook", "Hook", "webhook", ("web",), True, {}, filters=filters, consent_categories=consent_categories
    )
    return compile_gate(
        destination,
        "web",
        frozenset(consent_categories),
        Random(1),
        integration_filters=integration_filters,
        transformations=transformations,
    )


def row(what: str, costs_us: list[float], decoding_us: list[float], budget_us: float) -> Row:
    """The ratio is the median of those of the turns: a turn is over before the machine changes its speed."""
    ratio = statistics.median(cost / decoding for cost, decoding in zip(costs_us, decoding_us, strict=True))
    return Row(
        what,
        f"{statistics.median(costs_us):.1f} µs an event",
        f"decoding it in a batch: {statistics.median(decoding_us):.1f} µs",
        ratio,
        f"at most {budget_us / DECODING_US:.1f}, that is {budget_us:g} µs",
        [f"from {min(costs_us):.1f} to {max(costs_us):.1f} µs"],
    )


def show_profile(name: str, run: Callable[[], object]) -> None:
    profiler = cProfile.Profile()
    profiler.runcall(run)
    print(f"\n{name}")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(22)


def main() -> None:
    global ROUNDS, CHUNKS
    if "--quick" in sys.argv:
        ROUNDS, CHUNKS = 3, 20
    os.sched_setaffinity(0, {SYSTEM_CORE})
    tune_interpreter()
    with tempfile.TemporaryDirectory(prefix="trunkline-source-") as folder:
        rows = source_rows(Path(folder), show_profile if "--profile" in sys.argv else None) + gate_rows()
    print(HEADER, *rows, sep="\n")


if __name__ == "__main__":
    main()
