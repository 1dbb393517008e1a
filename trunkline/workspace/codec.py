"""Snapshots as bytes, and the version that names their content.

The bytes are MessagePack: a format number and one struct. A field added with a default keeps old bytes readable;
any other change raises ``FORMAT``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from ipaddress import ip_address, ip_network
from typing import Any, Final

import msgspec

from trunkline.secrets import Secrets
from trunkline.spec.filters import Filter
from trunkline.spec.plans import SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import SchemaFilters
from trunkline.spec.transformations import Transformation
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

FORMAT: Final = 1
VERSION_LENGTH: Final = 32


class _Source(msgspec.Struct, omit_defaults=True):
    slug: str
    name: str
    type: str
    write_keys: tuple[str, ...]
    enabled: bool
    schema_filters: SchemaFilters | None = None
    schema_configuration: SchemaConfiguration | None = None


class _Delivery(msgspec.Struct, omit_defaults=True):
    concurrency: int | None = None
    timeout_s: float | None = None
    requests_per_s: float | None = None
    events_per_s: float | None = None
    retry_window_s: float | None = None
    retry_attempts: int | None = None
    max_event_age_s: float | None = None


class _Filter(msgspec.Struct, omit_defaults=True):
    condition: str
    action: str
    title: str = ""
    enabled: bool = True
    percent: float | None = None
    path: str = ""
    fields: dict[str, tuple[str, ...]] = {}
    sources: tuple[str, ...] = ()


class _Destination(msgspec.Struct, omit_defaults=True):
    """What is absent is left out, so that a workspace that does not use a newer key keeps its version."""

    slug: str
    name: str
    type: str
    sources: tuple[str, ...]
    enabled: bool
    settings: dict[str, Any]
    delivery: _Delivery | None = None
    filters: tuple[_Filter, ...] = ()
    consent_categories: tuple[str, ...] = ()


class _Proxy(msgspec.Struct, omit_defaults=True):
    url: str
    username: str | None = None
    password: str | None = None


class _Egress(msgspec.Struct, omit_defaults=True):
    """All but the networks."""

    allow_ports: tuple[int, ...] = ()
    https_only: bool = False
    source_address: tuple[str, ...] = ()
    proxy: _Proxy | None = None


class _Content(msgspec.Struct, omit_defaults=True):
    """All that makes two workspaces different; ``version`` is the hash of exactly this."""

    slug: str
    name: str
    sources: list[_Source]
    destinations: list[_Destination]
    allow_private: list[str]
    egress: _Egress | None = None
    tracking_plans: list[TrackingPlan] = []
    transformations: tuple[Transformation, ...] = ()


class _Reference(msgspec.Struct):
    path: tuple[str, ...]
    kind: str
    target: str


class _Stored(msgspec.Struct):
    version: str
    content: _Content
    references: list[_Reference] = []


_encoder: Final = msgspec.msgpack.Encoder(order="sorted")
_decoder: Final = msgspec.msgpack.Decoder(tuple[int, _Stored])
_format_decoder: Final = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])


def _content(snapshot: Snapshot) -> _Content:
    sources = [
        _Source(
            source.slug,
            source.name,
            source.type,
            source.write_keys,
            source.enabled,
            None if source.schema_filters == SchemaFilters() else source.schema_filters,
            source.schema_configuration,
        )
        for source in snapshot.sources.values()
    ]
    destinations = [
        _Destination(
            item.slug,
            item.name,
            item.type,
            item.sources,
            item.enabled,
            dict(item.settings),
            None if item.delivery == DeliveryOptions() else _Delivery(**asdict(item.delivery)),
            tuple(_Filter(**asdict(rule)) for rule in item.filters),
            item.consent_categories,
        )
        for item in snapshot.destinations.values()
    ]
    return _Content(
        snapshot.slug,
        snapshot.name,
        sorted(sources, key=lambda source: source.slug),
        sorted(destinations, key=lambda destination: destination.slug),
        [str(network) for network in snapshot.egress.allow_private],
        _stored_egress(snapshot.egress),
        sorted(snapshot.tracking_plans.values(), key=lambda plan: plan.slug),
        snapshot.transformations,
    )


def _stored_egress(rules: EgressRules) -> _Egress | None:
    """None when it says nothing but networks."""
    proxy = _Proxy(rules.proxy.url, rules.proxy.username, rules.proxy.password) if rules.proxy else None
    addresses = tuple(str(address) for address in rules.source_address)
    stored = _Egress(rules.allow_ports, rules.https_only, addresses, proxy)
    return None if stored == _Egress() else stored


def make_snapshot(
    secrets: Secrets,
    *,
    slug: str,
    name: str,
    sources: Iterable[Source],
    destinations: Iterable[Destination],
    egress: EgressRules = EgressRules(),  # noqa: B008 - frozen
    references: Iterable[Reference] = (),
    tracking_plans: Iterable[TrackingPlan] = (),
    transformations: Iterable[Transformation] = (),
) -> Snapshot:
    """A snapshot whose version is the keyed hash of its content.

    The order of sources, destinations and plans makes no difference, nor do references. The hash is keyed with a
    derived secret, so that a version that is printed or logged can't confirm a guess at a short setting.
    """
    draft = Snapshot(
        version="",
        slug=slug,
        name=name,
        sources={source.slug: source for source in sources},
        destinations={destination.slug: destination for destination in destinations},
        egress=egress,
        tracking_plans={plan.slug: plan for plan in tracking_plans},
        transformations=tuple(transformations),
    )
    key = secrets.derive("snapshot-version")
    version = hmac.new(key, _encoder.encode(_content(draft)), hashlib.sha256).hexdigest()[:VERSION_LENGTH]
    return replace(draft, version=version, references=tuple(references))


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Bytes that hold resolved secrets: encrypt them before they are stored."""
    references = [_Reference(item.path, item.kind, item.target) for item in snapshot.references]
    return _encoder.encode((FORMAT, _Stored(snapshot.version, _content(snapshot), references)))


def decode_snapshot(encoded: bytes) -> Snapshot:
    """Raises SnapshotError."""
    try:
        number, _ = _format_decoder.decode(encoded)
        if number != FORMAT:
            raise SnapshotError(f"a snapshot of format {number}; this program knows {FORMAT}. Update Trunkline.")
        _, stored = _decoder.decode(encoded)
        egress = _egress(stored.content)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SnapshotError(f"not a snapshot: {error}") from error
    content = stored.content
    return Snapshot(
        version=stored.version,
        slug=content.slug,
        name=content.name,
        sources=_by_slug(map(_source, content.sources)),
        destinations={d.slug: _destination(d) for d in content.destinations},
        egress=egress,
        references=tuple(Reference(r.path, r.kind, r.target) for r in stored.references),
        tracking_plans={plan.slug: plan for plan in content.tracking_plans},
        transformations=content.transformations,
    )


def _source(stored: _Source) -> Source:
    return Source(
        stored.slug,
        stored.name,
        stored.type,
        stored.write_keys,
        stored.enabled,
        stored.schema_filters or SchemaFilters(),
        stored.schema_configuration,
    )


def _egress(content: _Content) -> EgressRules:
    """Raises ValueError for what are no networks or addresses."""
    stored = content.egress or _Egress()
    proxy = stored.proxy
    return EgressRules(
        allow_private=tuple(ip_network(network) for network in content.allow_private),
        allow_ports=stored.allow_ports,
        https_only=stored.https_only,
        source_address=tuple(ip_address(address) for address in stored.source_address),
        proxy=EgressProxy(proxy.url, proxy.username, proxy.password) if proxy else None,
    )


def _destination(stored: _Destination) -> Destination:
    delivery = DeliveryOptions(**msgspec.structs.asdict(stored.delivery)) if stored.delivery else DeliveryOptions()
    return Destination(
        stored.slug,
        stored.name,
        stored.type,
        stored.sources,
        stored.enabled,
        stored.settings,
        delivery,
        tuple(Filter(**msgspec.structs.asdict(rule)) for rule in stored.filters),
        stored.consent_categories,
    )


def _by_slug(sources: Iterable[Source]) -> Mapping[str, Source]:
    return {source.slug: source for source in sources}
