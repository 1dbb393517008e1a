"""What the settings of a source say of its schema, its tracking plan and its destinations' filters."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from trunkline.ingest import cdn_settings
from trunkline.ingest.cdn_settings import SourceSettings
from trunkline.spec.filters import Filter
from trunkline.spec.plans import BLOCK, Rule, SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import IntegrationFilter, SchemaFilters
from trunkline.workspace.model import Destination, Snapshot, Source

NO_FILTERS = SchemaFilters()
OPEN = {"enabled": True, "integrations": {}}
SHUT = {"enabled": False, "integrations": {}}


def destination(slug: str, name: str, *, enabled: bool = True, **more: Any) -> Destination:
    return Destination(slug, name, "webhook", ("web",), enabled, {}, **more)


def workspace(
    *destinations: Destination,
    type: str = "javascript",
    filters: SchemaFilters = NO_FILTERS,
    plan: TrackingPlan | None = None,
) -> Snapshot:
    source = Source("web", "Web", type, ("wk",), schema_filters=filters)
    return Snapshot(
        "v1",
        "acme",
        "Acme",
        {"web": source},
        {item.slug: item for item in destinations},
        tracking_plans={} if plan is None else {plan.slug: plan},
    )


def settings_of(snapshot: Snapshot) -> dict[str, Any]:
    source = snapshot.sources["web"]
    body = asyncio.run(SourceSettings().encode(snapshot, source, "wk", "https", "events.example.com"))
    found: dict[str, Any] = json.loads(body)
    return found


def plan_of(snapshot: Snapshot) -> dict[str, Any]:
    found: dict[str, Any] = settings_of(snapshot)["plan"]
    return found


def test_without_any_schema_everything_is_open() -> None:
    settings = settings_of(workspace(destination("hook", "Hook")))
    assert settings["middlewareSettings"] == {}
    assert settings["plan"] == {
        "track": {"__default": OPEN},
        "identify": {"__default": {"enabled": True}},
        "group": {"__default": {"enabled": True}},
    }


def test_blocked_events_and_omitted_traits_are_off() -> None:
    filters = SchemaFilters(("Secret", "__default"), ("page",), ("ssn", "__default"), ("vat",))
    assert plan_of(workspace(filters=filters)) == {
        "track": {"__default": OPEN, "Secret": SHUT},
        "identify": {"__default": {"enabled": True}, "ssn": {"enabled": False}},
        "group": {"__default": {"enabled": True}, "vat": {"enabled": False}},
    }


def test_track_calls_as_a_whole_can_be_off() -> None:
    assert plan_of(workspace(filters=SchemaFilters(blocked_types=("track",))))["track"] == {"__default": SHUT}


RULES = (Rule("track", {}, "Order Completed"), Rule("identify", {}), Rule("track", {}, "Signed Up", 2))


@pytest.mark.parametrize(
    ("rules", "unplanned", "track"),
    [
        (RULES, "block", {"__default": SHUT, "Order Completed": OPEN, "Signed Up": OPEN}),
        (RULES, "allow", {"__default": OPEN}),
        ((Rule("common", {}),), "block", {"__default": OPEN}),
        ((Rule("page", {}),), "block", {"__default": SHUT}),
    ],
)
def test_a_plan_that_blocks_names_what_is_planned(
    rules: tuple[Rule, ...], unplanned: str, track: dict[str, Any]
) -> None:
    plan = TrackingPlan("shop", "Shop", ("web",), rules, SchemaConfiguration(unplanned))
    ignored = SchemaFilters(("Order Completed",), ("track",), ("ssn",))
    found = plan_of(workspace(filters=ignored, plan=plan))
    assert found["track"] == track
    assert found["identify"] == {"__default": {"enabled": True}}


def test_the_sources_own_configuration_has_the_say() -> None:
    plan = TrackingPlan("shop", "Shop", ("web",), RULES, SchemaConfiguration(BLOCK))
    snapshot = workspace(plan=plan)
    web = replace(snapshot.sources["web"], schema_configuration=SchemaConfiguration())
    assert plan_of(replace(snapshot, sources={"web": web}))["track"] == {"__default": OPEN}


def keeping_back(*filters: IntegrationFilter) -> SchemaFilters:
    return SchemaFilters(integrations=filters)


def test_integration_filters_turn_destinations_off_by_name() -> None:
    filters = keeping_back(
        IntegrationFilter("track", "A", ("hook", "gone", "off")),
        IntegrationFilter("track", "", ("other",)),
        IntegrationFilter("identify", "", ("hook",)),
    )
    snapshot = workspace(
        destination("hook", "Hook"), destination("other", "Other"), destination("off", "Off", enabled=False),
        filters=filters,
    )  # fmt: skip
    assert plan_of(snapshot)["track"] == {
        "__default": {"enabled": True, "integrations": {"Other": False}},
        "A": {"enabled": True, "integrations": {"Hook": False, "Other": False}},
    }


@pytest.mark.parametrize("name", ["Segment.io", "All", "other", "webhook"])
def test_a_name_that_means_more_than_the_destination_is_not_turned_off(name: str) -> None:
    snapshot = workspace(
        destination("hook", name),
        destination("other", "Other"),
        filters=keeping_back(IntegrationFilter("track", "A", ("hook",))),
    )
    assert plan_of(snapshot)["track"]["A"] == OPEN


def test_of_two_with_one_name_both_must_be_kept_from_it() -> None:
    two = (destination("one", "Same"), destination("two", "Same"))
    for slugs, off in ((("one",), {}), (("one", "two"), {"Same": False})):
        snapshot = workspace(*two, filters=keeping_back(IntegrationFilter("track", "A", slugs)))
        assert plan_of(snapshot)["track"]["A"]["integrations"] == off


def test_an_unplanned_event_stays_shut_beside_an_integration_filter() -> None:
    plan = TrackingPlan("shop", "Shop", ("web",), RULES, SchemaConfiguration(BLOCK))
    filters = keeping_back(IntegrationFilter("track", "Odd", ("hook",)))
    track = plan_of(workspace(destination("hook", "Hook"), filters=filters, plan=plan))["track"]
    assert track["Odd"] == {"enabled": False, "integrations": {"Hook": False}}
    assert track["Signed Up"] == OPEN


DROP = (Filter('event = "Heartbeat"', "drop", title="ours alone"),)


def test_only_destinations_with_filters_have_rules() -> None:
    snapshot = workspace(
        destination("hook", "Hook", filters=DROP),
        destination("plain", "Plain"),
        destination("off", "Off", enabled=False, filters=DROP),
        destination("elsewhere", "Elsewhere", filters=(replace(DROP[0], sources=("app",)),)),
        destination("us", "Segment.io", filters=DROP),
    )
    assert settings_of(snapshot)["middlewareSettings"] == {
        "routingRules": [
            {
                "scope": "destinations",
                "target_type": "workspace::project::destination::config",
                "destinationName": "Hook",
                "matchers": [
                    {
                        "type": "fql",
                        "ir": '["=","event",{"value":"Heartbeat"}]',
                        "config": {"expr": 'event = "Heartbeat"'},
                    }
                ],
                "transformers": [[{"type": "drop"}]],
            }
        ]
    }


def test_servers_get_no_rules() -> None:
    assert settings_of(workspace(destination("hook", "Hook", filters=DROP), type="http"))["middlewareSettings"] == {}


def test_a_new_snapshot_has_new_settings() -> None:
    settings = SourceSettings()

    async def default_of(snapshot: Snapshot) -> Any:
        body = await settings.encode(snapshot, snapshot.sources["web"], "wk", "https", "h")
        return json.loads(body)["plan"]["track"]["__default"]

    async def ask() -> None:
        assert await default_of(workspace()) == OPEN
        assert await default_of(workspace(filters=SchemaFilters(blocked_types=("track",)))) == SHUT

    asyncio.run(ask())


def test_the_loop_answers_others_while_settings_are_made_and_they_are_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[threading.Thread] = []
    may_end = threading.Event()
    make = cdn_settings._fixed_parts

    def make_slowly(snapshot: Snapshot, source: Source) -> dict[str, Any]:
        made.append(threading.current_thread())
        assert may_end.wait(30)
        return make(snapshot, source)

    monkeypatch.setattr(cdn_settings, "_fixed_parts", make_slowly)
    settings, snapshot = SourceSettings(), workspace()

    async def ask() -> None:
        asked = [
            asyncio.create_task(settings.encode(snapshot, snapshot.sources["web"], "wk", "https", "h"))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        asked[0].cancel()  # a client that goes away takes nothing from the others
        await asyncio.sleep(0)
        may_end.set()
        bodies = await asyncio.gather(*asked[1:])
        assert bodies[0] == bodies[1]

    asyncio.run(ask())
    assert len(made) == 1
    assert made[0] is not threading.main_thread()
