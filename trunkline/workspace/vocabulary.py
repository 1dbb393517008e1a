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
}

WORKSPACE: Final = _section(
    "slug name",
    {"labels": "labels", "region": "regions", "data_retention": "retention rules", "timezone": "time zones"},
)

TOP: Final = _section(
    "workspace sources destinations tracking_plans transformations egress",
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
        "property_groups": "property groups",
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
        "traits": "computed traits",
        "unify": "profiles",
        "users": "people and rights",
        "warehouses": "warehouses",
    },
    {
        "plans": "Write tracking_plans",
        "schema": "Write schema_filters at a source",
        "tracking_plan": "Write tracking_plans, a list",
        "transformation": "Write transformations, a list",
    },
)

_BLOCKED: Final = "Write schema_filters: {blocked_events: [Secret Event]}"
_PLAN: Final = "List the source under `sources` of a plan in `tracking_plans`"

SOURCE: Final = _section(
    "slug name type write_keys enabled schema_configuration schema_filters",
    {
        **_EVERYWHERE,
        "allowed_origins": "origin checks",
        "batching": "batching",
        "connection_mode": "connection modes",
        "dedupe": "dedupe rules",
        "destinations": "connections listed at the source (list `sources` at the destination)",
        "filters": "source filters",
        "function": "source functions",
        "insert_function": "insert functions",
        "integrations": "integration defaults",
        "oauth": "OAuth for sources",
        "rate_limit": "rate limits",
        "schedule": "reverse ETL models",
        "settings": "settings of sources",
        "warehouses": "warehouses",
    },
    {
        "disallowed_events": _BLOCKED,
        "event_filters": _BLOCKED,
        "forward_blocked_events": "Write schema_configuration: {forward_blocked_events_to: …}, or the same in the plan",
        "forward_violations": "Write schema_configuration: {forward_violations_to: …}, or the same in the plan",
        "schema": "Write schema_filters, or with a tracking plan schema_configuration",
        "tracking_plan": _PLAN,
        "tracking_plans": _PLAN,
        "transformations": "Write transformations at the top of the file, each with source: and this one's slug",
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
        "schema": "Write schema_filters: {integrations: [{type: track, event: …, destinations: […]}]} at the source",
        "sampling": "Write filters: [{if: all, action: sample, percent: 0.1}]",
        "retry_policy": "Write retry: {window_s: 14400, attempts: 10}",
        "tracking_plan": _PLAN,
        "transformations": "Write transformations at the top of the file, each with destination: and this one's slug",
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

_CONDITION: Final = "Write if: and the condition"
_RENAME_EVENT: Final = "Write rename_event: Order Completed"
_RENAME_PROPERTIES: Final = "Write rename_properties: {total: revenue}"
_SET: Final = "Write set: [{paths: [properties.channel], value: web}]"
_FQL_PROPERTIES: Final = "Write fql_properties: {plan: 'lowercase(properties.plan)'}"
_ALLOW: Final = "Write allow_properties: [revenue, currency]"
_HASH: Final = "Write hash: {paths: [properties.email]}"

TRANSFORMATION: Final = _section(
    "slug name source destination if enabled rename_event rename_properties set fql_properties allow_properties "
    "hash drop",
    {"description": "descriptions of transformations", "labels": "labels"},
    {
        "action": "Write what it does as a key: rename_event, rename_properties, set, …",
        "allow": _ALLOW,
        "allowProperties": _ALLOW,
        "condition": _CONDITION,
        "destinationMetadataId": "Write destination: and its slug",
        "destinations": "A transformation is for one destination or for all: write destination: hook",
        "drop_properties": "Write allow_properties, or drop_properties as a filter of the destination",
        "event": "Write if: 'event = \"Order Done\"'",
        "fql": _CONDITION,
        "fqlDefinedProperties": _FQL_PROPERTIES,
        "hashPropertiesConfiguration": _HASH,
        "hash_properties": _HASH,
        "newEventName": _RENAME_EVENT,
        "new_event_name": _RENAME_EVENT,
        "order": "They apply in the order of the file",
        "propertyRenames": _RENAME_PROPERTIES,
        "propertyValueTransformations": _SET,
        "rename_traits": f"{_RENAME_PROPERTIES}; it is for traits too",
        "renames": _RENAME_PROPERTIES,
        "sourceId": "Write source: web",
        "sources": "A transformation has one source: write source: web",
        "title": "Write name",
        "type": "Write if: 'type = \"identify\"'",
        "values": _SET,
        "when": _CONDITION,
    },
)

TRANSFORMATION_VALUE: Final = _section("paths value", {}, {"path": "Write paths: [properties.channel]"})

TRANSFORMATION_HASH: Final = _section(
    "paths algorithm encoding key",
    {},
    {
        "path": "Write paths: [properties.email]",
        "properties": "Write paths: [properties.email]",
        "salt": "Write key: {env: HASH_KEY}, which makes the digest an HMAC",
        "secret": "Write key: {env: HASH_KEY}",
    },
)

RATE_LIMIT: Final = _section("requests_per_s events_per_s", {})

RETRY: Final = _section("window_s attempts", {})

_RULE: Final = "Write rules: [{type: track, event: Order Completed, schema: {…}}]"
_ENFORCE: Final = "Write enforce: {unplanned_events: block}"

TRACKING_PLAN: Final = _section(
    "slug name sources enforce rules file",
    {"description": "descriptions of plans", "labels": "labels", "libraries": "libraries of plans"},
    {
        "common": "Write rules: [{type: common, schema: {…}}]",
        "events": _RULE,
        "rule": _RULE,
        "schema_configuration": _ENFORCE,
        "settings": _ENFORCE,
        "source": "Write sources: [web]",
    },
)

_BY_KIND: Final = "Kinds stand below what they are for: write violations: {track: block}"

ENFORCE: Final = _section(
    "unplanned_events unplanned_properties violations common_violations forward_violations_to "
    "forward_blocked_events_to",
    {},
    {
        "common": "Write common_violations",
        "forward_blocked_events": "Write forward_blocked_events_to",
        "forward_violations": "Write forward_violations_to",
        "group": _BY_KIND,
        "identify": _BY_KIND,
        "track": _BY_KIND,
        "unplanned_traits": "Write unplanned_properties; traits are meant too",
    },
)

_TRACK: Final = "Page and screen calls follow track: leave it out"

ENFORCE_KINDS: Final = _section(
    "track identify group", {}, {"common": "Write common_violations", "page": _TRACK, "screen": _TRACK}
)

_IN_SCHEMA: Final = "Put it into the schema: schema: {description: …, type: object, …}"

RULE: Final = _section(
    "type event version schema",
    {},
    {
        "description": _IN_SCHEMA,
        "jsonSchema": "Write schema",
        "json_schema": "Write schema",
        "key": "Write event",
        "labels": _IN_SCHEMA,
        "name": "Write event",
        "properties": "Write schema: {type: object, properties: {properties: {type: object, properties: {…}}}}",
    },
)

SCHEMA_FILTERS: Final = _section(
    "blocked_events blocked_types omitted_traits integrations",
    {},
    {
        "blocked": _BLOCKED,
        "omitted_group_traits": "Write omitted_traits: {group: […]}",
        "omitted_identify_traits": "Write omitted_traits: {identify: […]}",
    },
)

OMITTED_TRAITS: Final = _section("identify group", {})

INTEGRATION_FILTER: Final = _section(
    "type event destinations", {}, {"destination": "Write destinations: [hook]", "integrations": "Write destinations"}
)

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
