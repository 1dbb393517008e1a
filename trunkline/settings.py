"""Process settings: what an operator may tune, every default in this one place.

A value comes from, strongest first: a flag of the command line, an environment variable ``TRUNKLINE_<NAME>``,
``trunkline.toml`` in the data directory, the default below. Nothing is ignored: unknown names, values of the
wrong type and values out of range are all reported, together, by :class:`SettingsError`.

Sizes may be written as a number of bytes or with a unit (``64MiB``, ``20 GB``); lists in the environment are
separated by commas.

Errors::

    SettingsError    everything that is wrong with the settings; one line each in ``problems``
"""

# ruff: noqa: RUF009
# The defaults are dataclass fields made by a helper of this module, which the rule takes for shared objects.

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

from trunkline.setting_values import (
    GIB,
    MIB,
    Network,
    Refused,
    format_value,
    number,
    one_of,
    parse_networks,
    parse_path,
    parse_switch,
    parse_text,
    size,
    whole_number,
)

ENVIRONMENT_PREFIX: Final = "TRUNKLINE_"
FILE_NAME: Final = "trunkline.toml"

_OTHER_VARIABLES: Final = frozenset({"TRUNKLINE_FAILPOINTS"})
"""Variables of ours that are no settings."""

_KUBERNETES_SERVICE_LINK: Final = re.compile(r"TRUNKLINE_(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_\w+)")
"""Kubernetes sets these (and ``TRUNKLINE_PORT=tcp://…``) in each pod beside a Service ``trunkline``."""


class SettingsError(Exception):
    """The settings can't be used. ``problems`` holds one sentence each, with the mend."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _setting(
    default: Any,
    type_name: str,
    parse: Callable[[object], Any],
    doc: str,
    *,
    secret: bool = False,
    home: str = "",
) -> Any:
    """``home`` names the only place that may set it: ``environment``, or ``outside`` (all but the file)."""
    metadata = {"type": type_name, "parse": parse, "doc": doc, "secret": secret, "home": home}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All process settings, parsed. Sizes are bytes, ``_s`` seconds, ``_hours`` hours, ``_days`` days."""

    data_dir: Path = _setting(
        Path("data"), "path", parse_path, "Directory that holds everything Trunkline keeps.", home="outside"
    )
    config: Path | None = _setting(
        None,
        "path",
        parse_path,
        "The workspace's YAML file. Without it `workspace.yaml` in the data directory, which the first start writes.",
    )
    host: str = _setting("127.0.0.1", "text", parse_text, "Address to listen on. `0.0.0.0` listens on all of IPv4.")
    port: int = _setting(
        8080, "integer", whole_number(0, 65534), "Port of the Tracking API and the CDN. 0 takes any free port."
    )
    ingest_processes: int = _setting(
        1, "integer", whole_number(1, 64), "Processes that answer the Tracking API. One uses about one core."
    )
    ingest_queue_bytes: int = _setting(
        64 * MIB,
        "size",
        size(MIB),
        "Requests of one ingest process that are being received or wait for the disk, in bytes. Above it, requests "
        "get 429 with `Retry-After`.",
    )
    ingest_queue_requests: int = _setting(
        10_000,
        "integer",
        whole_number(1, 1_000_000),
        "Requests of one ingest process that may wait for the disk. Above it, requests get 429 with `Retry-After`.",
    )
    max_connections: int = _setting(
        4096,
        "integer",
        whole_number(1, 1_000_000),
        "Connections that one ingest process holds open at once. Above it, requests get 503 with `Retry-After`.",
    )
    header_timeout_s: float = _setting(
        10.0, "seconds", number(0.1, 3600), "Time for a client to send the whole header of a request."
    )
    body_timeout_s: float = _setting(
        30.0, "seconds", number(0.1, 3600), "Time for a client to send the whole body of a request."
    )
    unknown_key_status: int = _setting(
        200,
        "200 or 401",
        one_of(200, 401),
        "HTTP status for an unknown or disabled write key. 200 is what Segment answers; the request leaves a "
        "trace either way.",
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        (),
        "networks",
        parse_networks,
        "Networks of your own proxies. Only their `X-Forwarded-For`, `-Host` and `-Proto` are believed.",
    )
    fetch_browser_sdk: bool = _setting(
        True,
        "true or false",
        parse_switch,
        "Whether the server fetches Segment's browser SDK from npm when a source needs it and it is not there yet. "
        "Without it run `trunkline cdn install`.",
    )
    metrics_token: str | None = _setting(
        None,
        "text",
        parse_text,
        "Bearer token for `/metrics`. Without one `/metrics` answers callers on this machine only.",
        secret=True,
    )
    master_key: str | None = _setting(
        None,
        "base64 or hex",
        parse_text,
        "Key that protects secrets at rest: 32 bytes in base64 or hex. Without it the key is in `master.key` "
        "in the data directory, created at the first start.",
        secret=True,
        home="environment",
    )
    reserve_bytes: int = _setting(
        256 * MIB,
        "size",
        size(0),
        "Free disk space that is left untouched. Below it, ingest answers 503 until space returns.",
    )
    log_retention_hours: float = _setting(
        24.0, "hours", number(0, 24 * 366), "How long the event log is kept at least."
    )
    log_max_bytes: int = _setting(
        20 * GIB,
        "size",
        size(MIB),
        "Size of one topic of the event log (`ingested`, `accepted`) above which its oldest segments go "
        "early, once every reader has passed them.",
    )
    log_segment_bytes: int = _setting(
        64 * MIB,
        "size",
        size(64 * 1024, 4 * GIB),
        "Size of one file of the event log; space is freed by the file.",
    )
    archive: bool = _setting(
        True,
        "true or false",
        parse_switch,
        "Whether accepted events are archived, and blocked ones kept. Without it nothing can be replayed.",
    )
    archive_url: str = _setting(
        "",
        "address",
        parse_text,
        "Where the archive's files go: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or "
        "`file:///PATH`. Without it `archive` in the data directory.",
    )
    archive_retention_days: float = _setting(
        365.0,
        "days",
        number(1, 36_500),
        "How long the archive keeps events, counted from the end of the day on which they were received.",
    )
    blocked_retention_days: float = _setting(
        30.0,
        "days",
        number(1, 36_500),
        "How long events that the source stage blocked are kept beside the archive, counted likewise.",
    )
    archive_flush_s: float = _setting(
        300.0,
        "seconds",
        number(0.1, 86_400),
        "Time after which events that were received are written to the archive, in files of one source each.",
    )
    archive_file_bytes: int = _setting(
        64 * MIB,
        "size",
        size(64 * 1024, 4 * GIB),
        "Size of the events in one file of the archive, before compression. No file is larger than 100 MB.",
    )
    schema: bool = _setting(
        True,
        "true or false",
        parse_switch,
        "Whether it is recorded which events, properties and violations each source sends. Without it "
        "`trunkline schema`, `violations` and `blocked` have nothing to show.",
    )
    schema_retention_days: float = _setting(
        90.0,
        "days",
        number(1, 36_500),
        "How long an event, property or violation that is not seen any more is remembered.",
    )
    schema_max_bytes: int = _setting(
        GIB,
        "size",
        size(MIB),
        "Size of that record above which events, properties and violations that are new are counted as `$other`.",
    )
    schema_cpu_percent: float = _setting(
        5.0,
        "percent",
        number(0, 100),
        "Share of one core that looking at properties may take. Beyond it not every event is looked at, and their "
        "counts are estimates; counts of events stay exact.",
    )
    schema_samples: int = _setting(
        3,
        "integer",
        whole_number(0, 20),
        "How many of the newest events are kept of each violation, 4 KB of each. 0 keeps none.",
    )
    dedupe_memtable_keys: int = _setting(
        250_000,
        "integer",
        whole_number(1000, 100_000_000),
        "Message ids that the dedupe index holds in memory before it writes them to a file. More is faster "
        "and takes more memory.",
    )
    lane_concurrency: int = _setting(
        16, "integer", whole_number(1, 10_000), "Requests in flight for one destination, unless it says otherwise."
    )
    lane_memory_bytes: int = _setting(
        256 * MIB,
        "size",
        size(MIB),
        "Memory for the events that all destinations together have queued. A destination that is behind reads the log "
        "in slices that fit.",
    )
    send_timeout_s: float = _setting(
        10.0, "seconds", number(0.1, 600), "Time for one request to a destination, answer included."
    )
    shutdown_grace_s: float = _setting(
        10.0,
        "seconds",
        number(0, 600),
        "Time after SIGTERM for sends in flight to end. What is left stays pending and is sent after the next start.",
    )


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """What the documentation and the command line say about a setting. ``default`` is text, empty for none."""

    name: str
    env: str
    type: str
    default: str
    doc: str
    secret: bool
    in_file: bool
    """Whether ``trunkline.toml`` may hold it."""


def _fields() -> Mapping[str, Field[Any]]:
    return {item.name: item for item in fields(Settings)}


def describe_settings() -> list[SettingInfo]:
    """Every setting there is, in the order of :class:`Settings`."""
    return [
        SettingInfo(
            name=item.name,
            env=ENVIRONMENT_PREFIX + item.name.upper(),
            type=item.metadata["type"],
            default="" if item.default is MISSING else format_value(item.default),
            doc=item.metadata["doc"],
            secret=item.metadata["secret"],
            in_file=not item.metadata["home"],
        )
        for item in _fields().values()
    ]


def load_settings(environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> Settings:
    """Settings from flags, environment, ``trunkline.toml`` and defaults.

    ``flags`` are those the command line was given, by the setting's name; ``None`` values count as not given.
    Raises SettingsError with every problem found.
    """
    problems: list[str] = []
    given: dict[str, tuple[str, object]] = {}
    _take_environment(environ, given, problems)
    for name, value in (flags or {}).items():
        if value is None:
            continue
        if name not in _fields():
            raise TypeError(f"no setting is called {name!r}")
        given[name] = (f"--{name.replace('_', '-')}", value)

    source, raw = given.get("data_dir", ("", Settings().data_dir))
    try:
        data_dir = parse_path(raw)
    except Refused as refused:
        raise SettingsError([*problems, f"{source}: {refused}."]) from None
    for name, (place, value) in _read_file(data_dir / FILE_NAME, problems).items():
        given.setdefault(name, (place, value))

    values: dict[str, Any] = {}
    for name, (place, value) in given.items():
        metadata = _fields()[name].metadata
        try:
            values[name] = metadata["parse"](value)
        except Refused as refused:
            shown = "" if metadata["secret"] else f": {value!r}"
            problems.append(f"{place}: {refused}{shown}. Its type is {metadata['type']}.")
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


def _take_environment(environ: Mapping[str, str], given: dict[str, tuple[str, object]], problems: list[str]) -> None:
    by_variable = {ENVIRONMENT_PREFIX + name.upper(): name for name in _fields()}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        if _KUBERNETES_SERVICE_LINK.fullmatch(variable):
            continue
        if variable == "TRUNKLINE_PORT" and value.startswith(("tcp://", "udp://")):
            continue
        if variable in by_variable:
            given[by_variable[variable]] = (variable, value)
        else:
            problems.append(
                f"{variable}: no setting has this variable{_nearest(variable, list(by_variable))} Rename or remove it."
            )


def _read_file(path: Path, problems: list[str]) -> dict[str, tuple[str, object]]:
    try:
        document = cast("dict[str, object]", tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.append(f"{path}: can't be read ({error.strerror}). Make it readable for this user.")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        problems.append(f"{path}: not valid TOML ({error}). Mend the file.")
        return {}
    known = _fields()
    taken: dict[str, tuple[str, object]] = {}
    for name, value in document.items():
        if name not in known:
            problems.append(
                f"{path}: {name}: no setting is called so{_nearest(name, list(known))} Rename or remove it."
            )
        elif known[name].metadata["home"] == "environment":
            variable = ENVIRONMENT_PREFIX + name.upper()
            problems.append(f"{path}: {name}: may not be in a file beside the data it protects. Set {variable}.")
        elif known[name].metadata["home"]:
            problems.append(f"{path}: {name}: the file itself is found through it. Set it outside the file.")
        else:
            taken[name] = (f"{path}: {name}", value)
    return taken


def _nearest(name: str, known: list[str]) -> str:
    """What ends the sentence."""
    matches = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else "."
