"""One of each call, rich enough that a lost or bent field shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from .sdks import Call, Sdk

MOMENT = "2026-02-03T04:05:06.789+00:00"

CONTEXT: dict[str, Any] = {
    "ip": "192.0.2.44",
    "locale": "de-CH",
    "campaign": {"name": "Frühling", "source": "news", "medium": "email"},
    "app": {"name": "Wire", "version": "1.2.3"},
    "groupId": "g-7",
}

PROPERTIES: dict[str, Any] = {
    "revenue": 19.95,
    "quantity": 3,
    "currency": "CHF",
    "gift": True,
    "coupon": None,
    "products": [{"sku": "a-1", "tags": ["new", "größe"]}, {"sku": "b-2", "tags": []}],
    "note": 'quotes " and \\ and \n and 日本 and 🚚',
}

TRAITS: dict[str, Any] = {"email": "ada@example.com", "plan": "pro", "logins": 42, "address": {"city": "Zürich"}}


def one_of_each(sdk: Sdk) -> list[Call]:
    """The calls that this SDK knows, each with an id, a time and a context of its own; then one with none."""
    who = {"userId": "u-1", "anonymousId": "anon-1"}
    calls: list[Call] = [
        {"type": "identify", **who, "traits": TRAITS},
        {"type": "track", **who, "event": "Order Completed", "properties": PROPERTIES},
        {"type": "page", **who, "category": "Docs", "name": "Index", "properties": {"section": "intro"}},
        {"type": "screen", **who, "category": "Settings", "name": "Profile", "properties": {"dark": True}},
        {"type": "group", **who, "groupId": "g-7", "traits": {"name": "Acme", "employees": 11}},
        {"type": "alias", "userId": "u-1", "previousId": "anon-1"},
    ]
    given = [
        {
            **call,
            "messageId": f"{sdk.name}-{call['type']}-1",
            "timestamp": MOMENT,
            "context": CONTEXT | {"call": call["type"]},
            "integrations": {"Mixpanel": False},
        }
        for call in calls
        if call["type"] in sdk.types
    ]
    bare: Call = {"type": "track", **who, "event": "Bare", "properties": {"n": 1}}
    return [*given, bare]


def numbered(sdk: Sdk, number: int) -> Call:
    """A call that can be told from the others of a run; the SDK gives it its id."""
    return {"type": "track", "userId": "u-1", "event": f"Step {number}", "properties": {"number": number}}


def instant(text: str) -> datetime:
    """An ISO 8601 time of any SDK's spelling."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
