"""What sources have sent, beside what their plans say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.schema.schema_world import T0, World, accepted, blocked
from trunkline.observe.planned import PlanView
from trunkline.observe.schema import csv_name, read_schema, schema_csv
from trunkline.schema.limits import OTHER
from trunkline.spec.plans import Rule, TrackingPlan
from trunkline.workspace.model import Snapshot, Source

ORDER = {
    "type": "object",
    "properties": {
        "properties": {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "open": {"type": "object"},
                "items": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}},
                "a.b": {"type": "object", "properties": {"c": {}}},
            },
        }
    },
}
ANY: dict[str, Any] = {"type": "object"}


def plan(*rules: Rule) -> TrackingPlan:
    return TrackingPlan("shop", "Shop", ("web",), rules)


def view(*rules: Rule) -> PlanView:
    return PlanView(plan(*rules))


@pytest.mark.parametrize(
    ("event", "planned"),
    [
        (("track", "Order Completed"), True),
        (("track", "order completed"), False),
        (("track", OTHER), None),
        (("page", "Home"), None),
        (("screen", "Start"), True),
        (("identify", ""), True),
        (("group", ""), None),
        (("alias", ""), None),
    ],
)
def test_events_that_the_plan_knows(event: tuple[str, str], planned: bool | None) -> None:
    rules = (Rule("track", ORDER, "Order Completed"), Rule("track", ANY, "Screen Viewed"), Rule("identify", ANY))
    assert view(*rules, Rule("common", ANY)).event(*event) is planned


def test_pages_are_unplanned_only_if_the_plan_has_pages() -> None:
    assert view(Rule("page", ANY, "Home")).event("page", "Shop") is False
    assert view(Rule("page", ANY)).event("page", "Shop") is True


@pytest.mark.parametrize("of", [None, plan(Rule("common", ANY))])
def test_without_rules_for_events_nothing_is_said(of: TrackingPlan | None) -> None:
    assert PlanView(of).event("track", "X") is None
    assert PlanView(of).property("track", "X", "id") is None


@pytest.mark.parametrize(
    ("path", "planned"),
    [
        ("id", True),
        ("new", False),
        ("open", True),
        ("open.anything", True),
        ("items", True),
        ("items.$", True),
        ("items.$.price", True),
        ("items.$.sku", False),
        ("a\\.b.c", True),
        ("a.b", False),
        (OTHER, None),
    ],
)
def test_properties_that_the_rule_names(path: str, planned: bool | None) -> None:
    assert view(Rule("track", ORDER, "Order Completed")).property("track", "Order Completed", path) is planned


def test_only_the_oldest_version_counts() -> None:
    newer = {"type": "object", "properties": {"properties": {"type": "object", "properties": {"other": {}}}}}
    both = view(Rule("track", newer, "Order Completed", 2), Rule("track", ORDER, "Order Completed", 1))
    assert both.property("track", "Order Completed", "id") is True
    assert both.property("track", "Order Completed", "other") is False


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.append(
        accepted(properties={"id": 1, "new": "x"}),
        accepted("=cmd()", {"+sum": 1}, at_ms=T0 + 61_000),
        blocked(properties={"id": 1}),
        accepted("", {"email": "e"}, kind="identify"),
    )
    made.observe()
    return made


def snapshot() -> Snapshot:
    source = Source("web", "Web", "javascript", ("k",))
    shop = plan(Rule("track", ORDER, "Order Completed"))
    return Snapshot("v", "acme", "Acme", {"web": source}, {}, tracking_plans={"shop": shop})


def test_the_table_has_segments_columns_and_no_formulas(world: World) -> None:
    rows = read_schema(world.reader, snapshot(), source="web", event_type="track", with_properties=True)
    assert schema_csv(rows, "track") == (
        "Event Name,Last Seen At (UTC),Property Name,Allowed,Blocked,Total,Planned\n"
        "'=cmd(),2024-10-04 01:01:01,,1,0,1,Unplanned\n"
        "'=cmd(),2024-10-04 01:01:01,'+sum,1,0,1,\n"
        "Order Completed,2024-10-04 01:00:00,,1,1,2,Planned\n"
        "Order Completed,2024-10-04 01:00:00,id,1,1,2,Planned\n"
        "Order Completed,2024-10-04 01:00:00,new,1,0,1,Unplanned\n"
    )
    rows = read_schema(world.reader, snapshot(), source="web", event_type="identify", with_properties=True)
    assert schema_csv(rows, "identify") == (
        "Trait Name,Last Seen At (UTC),Allowed,Blocked,Total,Planned\nemail,2024-10-04 01:00:00,1,0,1,\n"
    )
    assert csv_name(snapshot(), "web", "track", T0) == "acme-web-track--2024-10-04--01-00-utc.csv"
