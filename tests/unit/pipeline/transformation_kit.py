"""What the tests of transformations share."""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline.pipeline.transformations import TransformStage, compile_transformations
from trunkline.spec.discards import Discard
from trunkline.spec.transformations import PropertyValue, Transformation

EVENT: dict[str, Any] = {
    "type": "track",
    "event": "Order Done",
    "userId": "u1",
    "properties": {
        "total": 12.5,
        "plan": "my plan",
        "address": {"zip": "80331", "city": "München"},
        "a.b": 1,
        "products": [{"sku": "1"}, {"sku": "2"}],
        "nothing": None,
    },
    "context": {"app": {"name": "shop"}},
}
CITY = {"city": "München"}
IDENTIFY: dict[str, Any] = {"type": "identify", "userId": "u1", "traits": {"plan": "gold", "total": 3}}


def rule(**keys: Any) -> Transformation:
    return Transformation(**{"slug": "t", "source": "web", "condition": "all", **keys})


def stage(*items: Transformation) -> TransformStage:
    return compile_transformations(items)


def verdict(*items: Transformation, event: Any = EVENT) -> Any:
    """The event that goes on, decoded; None if none does."""
    found = stage(*items).verdict(event, msgspec.json.encode(event))
    return None if isinstance(found, Discard) else msgspec.json.decode(found)


def changed(base: Any, /, **keys: Any) -> Any:
    return {**base, **keys}


def properties(**keys: Any) -> dict[str, Any]:
    """Those of the event with these instead; ``...`` takes one out."""
    found = {**EVENT["properties"], **keys}
    return {key: value for key, value in found.items() if value is not ...}


def renames(*pairs: tuple[str, str]) -> Transformation:
    return rule(renames=pairs)


def sets(*pairs: tuple[str, Any]) -> Transformation:
    return rule(values=tuple(PropertyValue((path,), value) for path, value in pairs))
