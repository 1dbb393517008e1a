from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workspace.workspace_kit import GOOD, SECRETS, good
from trunkline.secrets import Secrets
from trunkline.workspace.codec import FORMAT, decode_snapshot, encode_snapshot, make_snapshot
from trunkline.workspace.errors import SnapshotError
from trunkline.workspace.model import (
    DeliveryOptions,
    Destination,
    EgressProxy,
    EgressRules,
    Reference,
    Snapshot,
    Source,
)

texts = st.text(max_size=12)
slugs = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)
settings = st.dictionaries(
    texts,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
tuples = st.lists(slugs, max_size=3).map(tuple)
sources = st.builds(Source, slugs, texts, texts, tuples, st.booleans())
amounts = st.none() | st.floats(0.001, 1e6)
counts = st.none() | st.integers(1, 10_000)
deliveries = st.builds(DeliveryOptions, counts, amounts, amounts, amounts, amounts, counts, amounts)
destinations = st.builds(Destination, slugs, texts, texts, tuples, st.booleans(), settings, deliveries)
references = st.builds(Reference, st.lists(texts).map(tuple), st.sampled_from(["env", "file"]), texts)


proxies = st.builds(EgressProxy, texts, st.none() | texts, st.none() | texts)
egress_rules = st.builds(
    EgressRules,
    allow_private=st.lists(st.ip_addresses().map(ip_network), max_size=2).map(tuple),
    allow_ports=st.lists(st.integers(1, 65_535), max_size=2).map(tuple),
    https_only=st.booleans(),
    source_address=st.lists(st.ip_addresses(), max_size=2).map(tuple),
    proxy=st.none() | proxies,
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    return make_snapshot(
        SECRETS,
        slug=draw(slugs),
        name=draw(texts),
        sources=draw(st.lists(sources, max_size=3, unique_by=lambda source: source.slug)),
        destinations=draw(st.lists(destinations, max_size=3, unique_by=lambda item: item.slug)),
        egress=draw(egress_rules),
        references=draw(st.lists(references, max_size=2)),
    )


@given(snapshots())
def test_round_trip(snapshot: Snapshot) -> None:
    again = decode_snapshot(encode_snapshot(snapshot))
    assert again == snapshot
    assert again.references == snapshot.references


def test_the_version_is_stable_over_releases() -> None:
    """A changed value means that every running workspace would be activated anew: a decision, not an accident."""
    assert good(GOOD).version == "a0fc7000eb41b56a7db90e18f1983c16"


def test_a_snapshot_from_before_the_delivery_options_is_read() -> None:
    """Bytes without the field, as older versions wrote them: what has no options is still written so."""
    snapshot = good(GOOD)
    stored = msgspec.msgpack.decode(encode_snapshot(snapshot))
    assert all("delivery" not in destination for destination in stored[1]["content"]["destinations"])
    assert decode_snapshot(msgspec.msgpack.encode(stored)).destinations["hook"].delivery == DeliveryOptions()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: Acme", "name: Acmo"),
        ("slug: acme", "slug: acmo"),
        ("[wk_web]", "[wk_web2]"),
        ("type: http", "type: go"),
        ("enabled: false", "enabled: true"),
        ("sources: [web, api]", "sources: [web]"),
        ("abcdefgh", "abcdefgi"),
        ("[1, 2.5,", "[1, 3.5,"),
        ("127.0.0.0/8", "10.0.0.0/8"),
        ("type: shelf,", "type: shelf, concurrency: 3,"),
        ("type: shelf,", "type: shelf, rate_limit: {events_per_s: 3},"),
    ],
)
def test_any_change_of_content_changes_the_version(old: str, new: str) -> None:
    assert good(GOOD).version != good(GOOD.replace(old, new)).version


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("slug: acme, name: Acme", "name: Acme, slug: acme"),
        ("type: javascript,", "type: javascript, enabled: true,"),
        ("slug: web, type", "slug: web, name: web, type"),
        ("workspace:", "# a comment\nworkspace:"),
        ("type: shelf,", "type: shelf, timeout_s: null, retry: {},"),
    ],
)
def test_spelling_does_not_change_the_version(old: str, new: str) -> None:
    assert old in GOOD
    assert good(GOOD).version == good(GOOD.replace(old, new)).version


def test_the_order_of_sections_does_not_change_the_version() -> None:
    snapshot = good(GOOD)
    turned = make_snapshot(
        SECRETS,
        slug=snapshot.slug,
        name=snapshot.name,
        sources=reversed(list(snapshot.sources.values())),
        destinations=reversed(list(snapshot.destinations.values())),
        egress=snapshot.egress,
    )
    assert turned.version == snapshot.version


def test_the_version_is_keyed() -> None:
    empty: dict[str, Any] = {"slug": "a", "name": "A", "sources": [], "destinations": []}
    assert make_snapshot(SECRETS, **empty).version != make_snapshot(Secrets(bytes(32)), **empty).version


def test_bytes_that_are_no_snapshot_are_refused() -> None:
    encoded = encode_snapshot(good(GOOD))
    future = msgspec.msgpack.encode((FORMAT + 1, {"anything": 1}))
    with pytest.raises(SnapshotError, match=r"format 2; this program knows 1\. Update"):
        decode_snapshot(future)
    for broken in (b"", b"\xc1", encoded[:-1], encoded + b"x", b"\x92\x01\x80", b"\x91" * 100_000):
        with pytest.raises(SnapshotError):
            decode_snapshot(broken)
    bad_network = msgspec.msgpack.decode(encoded)
    bad_network[1]["content"]["allow_private"] = ["nonsense"]
    with pytest.raises(SnapshotError):
        decode_snapshot(msgspec.msgpack.encode(bad_network))


@given(st.binary(max_size=60))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(SnapshotError):
        decode_snapshot(junk)


def test_settings_stay_out_of_repr() -> None:
    assert "abcdefgh" not in repr(good(GOOD))
