"""The keys of a workspace's file: those that work, and those of features that are not built in this version.

A key that is not built is refused by name, so that nobody believes in a filter that filters nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Section:
    """The keys that one mapping of the file may have."""

    known: tuple[str, ...]
    unbuilt: Mapping[str, str]
    """The key and what its feature is called."""
    elsewhere: Mapping[str, str]
    """Keys that people write for something that is said in another way, and the mend."""


def _section(known: str, unbuilt: Mapping[str, str], elsewhere: Mapping[str, str] | None = None) -> Section:
    keys = [*known.split(), *unbuilt, *(elsewhere or {})]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise ValueError(f"listed twice: {sorted(twice)}")
    return Section(tuple(known.split()), MappingProxyType(dict(unbuilt)), MappingProxyType(dict(elsewhere or {})))


_EVERYWHERE: Final = {
    "consent": "consent enforcement",
    "labels": "labels",
    "privacy": "privacy controls",
    "schema": "schema controls",
    "transformations": "transformations",
}

WORKSPACE: Final = _section(
    "slug name",
    {"labels": "labels", "region": "regions", "data_retention": "retention rules", "timezone": "time zones"},
)

TOP: Final = _section(
    "workspace sources destinations egress",
    {
        **_EVERYWHERE,
        "alerts": "alerts",
        "archive": "archives",
        "audiences": "audiences",
        "computed_traits": "computed traits",
        "consent_categories": "consent enforcement",
        "delivery": "delivery rules",
        "destination_filters": "destination filters",
        "event_types": "event types",
        "filters": "destination filters",
        "functions": "functions",
        "groups": "people and rights",
        "identity_resolution": "identity resolution",
        "insert_functions": "insert functions",
        "integrations": "integration defaults",
        "journeys": "journeys",
        "mappings": "mappings",
        "models": "reverse ETL models",
        "people": "people and rights",
        "profiles": "profiles",
        "property_groups": "tracking plans",
        "rate_limit": "rate limits",
        "replays": "replays",
        "retention": "retention rules",
        "reverse_etl": "reverse ETL models",
        "roles": "people and rights",
        "secrets": "named secrets",
        "spaces": "profiles",
        "sql_traits": "computed traits",
        "storage": "storage destinations",
        "subscriptions": "mappings",
        "suppressions": "privacy controls",
        "syncs": "reverse ETL models",
        "tokens": "tokens in the file",
        "tracking_plans": "tracking plans",
        "traits": "computed traits",
        "unify": "profiles",
        "users": "people and rights",
        "warehouses": "warehouses",
    },
)

SOURCE: Final = _section(
    "slug name type write_keys enabled",
    {
        **_EVERYWHERE,
        "allowed_origins": "origin checks",
        "batching": "batching",
        "connection_mode": "connection modes",
        "dedupe": "dedupe rules",
        "destinations": "connections listed at the source (list `sources` at the destination)",
        "disallowed_events": "schema event filters",
        "event_filters": "schema event filters",
        "filters": "source filters",
        "forward_blocked_events": "forwarding of blocked events",
        "forward_violations": "forwarding of violations",
        "function": "source functions",
        "insert_function": "insert functions",
        "integrations": "integration defaults",
        "oauth": "OAuth for sources",
        "rate_limit": "rate limits",
        "schedule": "reverse ETL models",
        "schema_configuration": "schema controls",
        "schema_filters": "schema event filters",
        "settings": "settings of sources",
        "tracking_plan": "tracking plans",
        "tracking_plans": "tracking plans",
        "warehouses": "warehouses",
    },
)

_FILTERS: Final = "Write filters: [{if: 'event = \"Heartbeat\"', action: drop}]"
_CONSENT: Final = "Write consent_categories: [advertising]"
_BATCHING: Final = "Batches are a matter of the type: write enable_batching and batch_size under `settings`"

DESTINATION: Final = _section(
    "slug name type sources enabled settings concurrency timeout_s rate_limit retry max_event_age_s filters "
    "consent_categories",
    {
        **{key: feature for key, feature in _EVERYWHERE.items() if key != "consent"},
        "actions": "mappings",
        "batch_keys": "batching keys",
        "connection_mode": "connection modes",
        "device_mode": "connection modes",
        "function": "destination functions",
        "insert_function": "insert functions",
        "integration": "integration names",
        "mapping": "mappings",
        "mappings": "mappings",
        "presets": "mappings",
        "replay": "replays",
        "schedule": "sync schedules",
        "selective_sync": "selective sync",
        "subscription": "mappings",
        "subscriptions": "mappings",
        "sync": "sync schedules",
        "tracking_plan": "tracking plans",
        "trigger": "mappings",
    },
    {
        "batch": _BATCHING,
        "batch_bytes": _BATCHING,
        "batch_size": _BATCHING,
        "batch_wait_s": _BATCHING,
        "batching": _BATCHING,
        "consent": _CONSENT,
        "consent_settings": _CONSENT,
        "destination_filters": _FILTERS,
        "enable_batching": _BATCHING,
        "event_filters": _FILTERS,
        "filter": _FILTERS,
        "max_batch_size": _BATCHING,
        "max_age": "Write max_event_age_s, such as 432000",
        "max_event_age": "Write max_event_age_s, such as 432000",
        "max_retries": "Write retry: {attempts: 10}",
        "retries": "Write retry: {window_s: 14400, attempts: 10}",
        "sampling": "Write filters: [{if: all, action: sample, percent: 0.1}]",
        "retry_policy": "Write retry: {window_s: 14400, attempts: 10}",
        "throttle": "Write rate_limit: {requests_per_s: 10}, or events_per_s",
        "timeout": "Write timeout_s, such as 10",
        "timeout_ms": "Write timeout_s, such as 10",
    },
)

_ACTION: Final = "Write one action: drop, only_send, sample, drop_properties or allow_properties"

FILTER: Final = _section(
    "if action title enabled percent path fields sources",
    {
        "description": "descriptions of filters",
        "hash_properties": "hashes of properties",
        "map_properties": "mapped properties",
    },
    {
        "actions": _ACTION,
        "condition": "Write if: and the condition, or if: all",
        "fql": "Write if: and the condition, or if: all",
        "name": "Write title",
        "properties": "Write fields: {properties: [email]}",
        "rate": "Write percent: 0.1, which keeps a tenth",
        "source": "Write sources: [web]",
        "type": _ACTION,
        "when": "Write if: and the condition, or if: all",
    },
)

RATE_LIMIT: Final = _section("requests_per_s events_per_s", {})

RETRY: Final = _section("window_s attempts", {})

EGRESS: Final = _section(
    "allow_private allow_ports https_only source_address proxy",
    {
        "allow": "lists of allowed hosts",
        "allow_hosts": "lists of allowed hosts",
        "deny": "lists of denied hosts",
        "deny_hosts": "lists of denied hosts",
        "tls": "egress TLS rules",
    },
)

EGRESS_PROXY: Final = _section("url username password", {"certificate": "egress TLS rules", "no_proxy": "proxy rules"})

UNBUILT_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "function": "destination functions",
        "bigquery": "warehouses",
        "databricks": "warehouses",
        "postgres": "warehouses",
        "redshift": "warehouses",
        "snowflake": "warehouses",
        "clickhouse": "warehouses",
        "s3": "storage destinations",
        "gcs": "storage destinations",
        "azure-blob": "storage destinations",
        "repeater": "repeaters",
    }
)
"""Types of destinations that will exist. Those that start with ``actions-`` are Segment's catalog."""

SOURCE_TYPES: Final = frozenset(
    {
        ".net",
        "clojure",
        "csharp",
        "dotnet",
        "elixir",
        "go",
        "http",
        "http-api",
        "java",
        "net",
        "node",
        "node.js",
        "php",
        "python",
        "ruby",
        "rust",
        "server",
    }
)
"""Server-side types; the client-side ones are in ``model.CLIENT_SIDE_TYPES``. Others are taken, with a note."""


def unbuilt_type(name: str) -> str | None:
    """What the feature of a destination type is called that this version has not, None if there is no such."""
    if name.startswith("actions-"):
        return "destinations of Segment's catalog"
    return UNBUILT_TYPES.get(name)
