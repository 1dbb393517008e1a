"""Events that a destination got from the browser or app itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import values
from trunkline.pipeline.client_side import may_be_client_side, sent_client_side

NAMES = ("ga-eu", "GA Europe", "Google Analytics")


@pytest.mark.parametrize(
    ("metadata", "is_sent"),
    [
        (None, False),
        ({}, False),
        ("bundled", False),
        ({"nodeVersion": "20"}, False),
        ({"bundled": ["Segment.io"], "unbundled": ["Google Analytics"], "bundledIds": []}, False),
        ({"bundled": ["Segment.io", "Google Analytics"], "unbundled": [], "bundledIds": []}, True),
        ({"bundled": ["GA Europe"]}, True),
        ({"bundled": ["google analytics"]}, False),
        ({"bundled": ["Google Analytics"], "unbundled": ["Google Analytics"], "bundledIds": ["ga-us"]}, False),
        ({"bundled": ["Google Analytics"], "unbundled": ["Google Analytics"], "bundledIds": ["ga-eu"]}, True),
        ({"bundledIds": ["ga-eu"]}, True),
        ({"bundledIds": ["GA Europe"]}, False),
        ({"bundled": "Google Analytics"}, False),
        ({"bundled": {"Google Analytics": 1}, "bundledIds": "ga-eu"}, False),
        ({"bundled": [["Google Analytics"], None, 3]}, False),
        ({"bundled": ["Google Analytics"], "unbundled": None}, True),
    ],
)
def test_the_table(metadata: Any, is_sent: bool) -> None:
    assert sent_client_side(metadata, "ga-eu", NAMES) == is_sent


@pytest.mark.parametrize(
    ("body", "may"),
    [
        (b'{"type":"track"}', False),
        (b'{"_metadata":{"nodeVersion":"20"}}', False),
        (b'{"_metadata":{"bundled":["Segment.io"],"unbundled":["hook"],"bundledIds":[]}}', False),
        (b'{"_metadata":{"bundled":[],"bundledIds":["hook"]}}', True),
        (b'{"_metadata":{"bundled":["Segment.io","hook"]}}', True),
        (b'{"_metadata":{"bundled": []}}', True),
        (b'{"_metadata":{"b\\u0075ndled":["hook"]}}', True),
        (b'{"properties":{"bundled":["Segment.io"]},"_metadata":{"bundled":["hook"]}}', True),
    ],
)
def test_the_cheap_look_at_the_bytes(body: bytes, may: bool) -> None:
    assert may_be_client_side(body) == may


texts = st.sampled_from(["Segment.io", *NAMES])
metadata = st.dictionaries(
    st.sampled_from(["bundled", "unbundled", "bundledIds"]), st.lists(texts, max_size=2) | values
)


@given(metadata, values)
def test_the_cheap_look_never_misses_anything(metadata: Any, properties: Any) -> None:
    event = {"properties": {"bundled": properties, "bundledIds": [], "x": "bundled"}, "_metadata": metadata}
    if sent_client_side(metadata, "ga-eu", NAMES):
        assert may_be_client_side(msgspec.json.encode(event))
