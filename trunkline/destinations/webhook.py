"""The native ``webhook`` destination: one POST of the event's JSON, or of a JSON array of events.

Settings: ``url`` (http or https), ``headers`` (name to text), ``shared_secret`` (signs the body: ``X-Signature`` is the
hex HMAC-SHA1 of the JSON, in a batch of its first event only, ``spec/event_path.md`` §6.5), ``enable_batching``,
``batch_size``, ``batch_bytes``, ``batch_wait_s``. A batch size of 1,000 and more asks for bulk batches as well.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from trunkline.destinations.json_array_file import JsonArrayFile
from trunkline.destinations.kit import (
    DELIVERED_OUTCOME,
    SAMPLE_BYTES,
    SINGLE_EVENTS,
    BatchRules,
    BulkBatch,
    BulkRules,
    HttpError,
    HttpResponse,
    Outcome,
    OutgoingEvent,
    Result,
    SettingsProblem,
    Surroundings,
    outcome_of_status,
)
from trunkline.destinations.multi_status import MULTI_STATUS, read_multi_status
from trunkline.destinations.rate_limits import PAUSING_STATUSES, pause_s, retry_after_s
from trunkline.destinations.recorder import Recorder
from trunkline.spec.capabilities import METHODS, SOURCE_KINDS
from trunkline.workspace.model import Destination

BULK_FROM_EVENTS: Final = 1000
DEFAULT_BATCH_SIZE: Final = 100
DEFAULT_BATCH_BYTES: Final = 4_000_000
DEFAULT_WAIT_S: Final = 1.0
DEFAULT_BULK_WAIT_S: Final = 60.0
BULK_TIMEOUT_S: Final = 60.0
BULK_BYTES_PER_S: Final = 1_000_000
"""A bulk request may take its timeout and the time that its body takes at this speed."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_RESERVED_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_RANGES: Final[Mapping[str, tuple[float, float, bool, str]]] = {
    "batch_size": (1, 1_000_000, True, "Give the number of events, such as 100."),
    "batch_bytes": (1_000, 100_000_000, True, "Give the number of bytes, such as 4000000."),
    "batch_wait_s": (0, 600, False, "Give the number of seconds, such as 1."),
}
_SETTINGS: Final = ("url", "headers", "shared_secret", "enable_batching", *_RANGES)
_NEEDS_BATCHING: Final = "Add enable_batching: true; each request is then a JSON array. Or leave this key out."
_UNREADABLE: Final = "207 without a readable outcome for each event: all count as delivered"


class WebhookType:
    """See the module."""

    name = "webhook"
    storage = False
    secret_settings = frozenset({"shared_secret", "headers"})
    methods = METHODS
    source_kinds = SOURCE_KINDS

    def check_settings(self, settings: Mapping[str, Any]) -> list[SettingsProblem]:
        known = f"Use {', '.join(_SETTINGS[:-1])} and {_SETTINGS[-1]}."
        problems = [(key, "a webhook has no such setting", known) for key in settings if key not in _SETTINGS]
        problems += _check_url(settings.get("url"))
        secret = settings.get("shared_secret")
        if secret is not None and (not isinstance(secret, str) or not secret):
            problems.append(("shared_secret", "not a text", "Give the secret in quotes, or leave the key out."))
        problems += _check_headers(settings.get("headers", {}))
        problems += _check_batching(settings)
        return problems

    def open(self, destination: Destination, surroundings: Surroundings) -> WebhookSender:
        return WebhookSender(destination, surroundings)


def _check_batching(settings: Mapping[str, Any]) -> list[SettingsProblem]:
    problems = []
    enabled = settings.get("enable_batching")
    if enabled is not None and not isinstance(enabled, bool):
        problems.append(("enable_batching", "not true or false", "Write true or false, without quotes."))
    for key, (least, most, whole, mend) in _RANGES.items():
        value = settings.get(key)
        if value is None:
            continue
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not number or not least <= value <= most:
            kind = "a whole number" if whole else "a number"
            problems.append((key, f"not {kind} from {least:.15g} to {most:.15g}", mend))
        elif enabled in (None, False) and (key != "batch_size" or value > 1):
            problems.append((key, "says nothing without enable_batching", _NEEDS_BATCHING))
    return problems


def _check_url(url: object) -> list[SettingsProblem]:
    if url is None:
        return [("url", "missing", "Add the address that takes the events, such as https://example.com/hook.")]
    if not isinstance(url, str):
        return [("url", "not a text", "Put the address in quotes.")]
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return [("url", f"not an address: {url!r}", "Check the host and the port.")]
    if parts.scheme not in {"http", "https"}:
        return [("url", f"not an http(s) address: {url!r}", "Write http:// or https:// in front of the host.")]
    if not valid:
        return [("url", f"the address has no host: {url!r}", "Write it as https://host/path.")]
    if parts.username is not None:
        return [("url", "holds a user name", "Send an Authorization header instead, with its value from a secret.")]
    return []


def _check_headers(headers: object) -> list[SettingsProblem]:
    if not isinstance(headers, Mapping):
        return [("headers", "not a mapping of names to texts", "Write each as `Name: value`.")]
    problems = []
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            problems.append((f"headers.{name}", "not a header name", "Use letters, digits and hyphens."))
        elif name.lower() in _RESERVED_HEADERS:
            problems.append((f"headers.{name}", "is set by the client itself", "Remove it."))
        if not isinstance(value, str) or not value.isprintable():
            problems.append((f"headers.{name}", "the value is not a text of one line", "Put it in quotes."))
    return problems


@dataclass(frozen=True, slots=True)
class Batching:
    """How one webhook groups its events."""

    enabled: bool
    stream: BatchRules
    bulk: BulkRules | None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Batching:
        """``settings``: checked ones."""
        if not settings.get("enable_batching"):
            return cls(False, SINGLE_EVENTS, None)
        events = int(_either(settings.get("batch_size"), DEFAULT_BATCH_SIZE))
        size_bytes = int(_either(settings.get("batch_bytes"), DEFAULT_BATCH_BYTES))
        wait_s: float | None = settings.get("batch_wait_s")
        if events < BULK_FROM_EVENTS:
            return cls(True, BatchRules(events, size_bytes, _either(wait_s, DEFAULT_WAIT_S)), None)
        # What is said for bulk batches is too much to hold in memory, and too long to wait for, in the other mode.
        stream = BatchRules(
            BULK_FROM_EVENTS,
            min(size_bytes, DEFAULT_BATCH_BYTES),
            min(_either(wait_s, DEFAULT_WAIT_S), DEFAULT_WAIT_S),
        )
        return cls(True, stream, BulkRules(events, size_bytes, _either(wait_s, DEFAULT_BULK_WAIT_S)))


def _either(value: float | None, default: float) -> float:
    return default if value is None else value


class WebhookSender:
    """One destination's webhook."""

    def __init__(self, destination: Destination, surroundings: Surroundings) -> None:
        settings = destination.settings
        self._url = str(settings["url"])
        self._http = surroundings.http
        self._clock = surroundings.clock
        self._timeout_s = destination.delivery.timeout_s
        own_headers = dict(settings.get("headers") or {})
        own_names = {name.lower() for name in own_headers}
        # The client hands on bodies as they come: a compressed one could not be read.
        defaults = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        self._headers = {name: value for name, value in defaults.items() if name.lower() not in own_names} | own_headers
        secret = settings.get("shared_secret")
        self._secret = secret.encode() if secret else None
        self._recorder = Recorder(self._url, own_headers, *([secret] if secret else []))
        self._batching = Batching.of(settings)

    @property
    def batch(self) -> BatchRules:
        return self._batching.stream

    @property
    def bulk(self) -> BulkRules | None:
        return self._batching.bulk

    async def send(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
        if self._batching.enabled:
            return await self._send_batch(events)
        if len(events) == 1:
            return [await self._send_one(events[0])]
        return [await self._send_one(event) for event in events]

    async def _send_one(self, event: OutgoingEvent) -> Outcome:
        headers = self._signed(event.body)
        try:
            response = await self._http.post(self._url, body=event.body, headers=headers, timeout_s=self._timeout_s)
        except HttpError as error:
            return self._unanswered(error, headers, event.body)
        return self._outcome(response, headers, event.body)

    async def _send_batch(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
        body = b"[" + b",".join([event.body for event in events]) + b"]"
        headers = self._signed(events[0].body)
        try:
            response = await self._http.post(self._url, body=body, headers=headers, timeout_s=self._timeout_s)
        except HttpError as error:
            return [self._unanswered(error, headers, body)] * len(events)
        if response.status == MULTI_STATUS:
            return self._outcomes(response, headers, body, len(events))
        return [self._outcome(response, headers, body)] * len(events)

    async def send_bulk(self, batch: BulkBatch) -> Outcome:
        """A 207 counts as delivered: a bulk batch has one outcome."""
        array = JsonArrayFile(batch.path)
        try:
            await array.open()
        except OSError as error:
            return _unreadable_file(error)
        headers = self._signed(array.first_event) | {"Content-Length": str(array.size_bytes)}
        beginning = b"[" + array.beginning[: 2 * SAMPLE_BYTES].replace(b"\n", b",")
        timeout_s = _either(self._timeout_s, BULK_TIMEOUT_S) + array.size_bytes / BULK_BYTES_PER_S
        body: AsyncIterable[bytes] = array.pieces()
        try:
            response = await self._http.post(self._url, body=body, headers=headers, timeout_s=timeout_s)
        except HttpError as error:
            if array.error is not None:
                return _unreadable_file(array.error)
            return self._unanswered(error, headers, beginning)
        outcome = self._outcome(response, headers, beginning)
        if response.status == MULTI_STATUS:
            return Outcome(Result.DELIVERED, detail=_UNREADABLE, pause_s=outcome.pause_s)
        return outcome

    def _signed(self, event: bytes) -> dict[str, str]:
        if self._secret is None:
            return self._headers
        return self._headers | {"X-Signature": hmac.new(self._secret, event, hashlib.sha1).hexdigest()}

    def _unanswered(self, error: HttpError, headers: Mapping[str, str], body: bytes) -> Outcome:
        result = Result.RETRY if error.retryable else Result.FAILED
        exchange = self._recorder.exchange(headers, body, None)
        return Outcome(result, error.code, self._recorder.clean(error.detail), exchange=exchange)

    def _outcome(self, response: HttpResponse, headers: Mapping[str, str], body: bytes) -> Outcome:
        pause = pause_s(response.status, response.headers, self._clock)
        if 200 <= response.status < 300:
            return outcome_of_status(response.status, pause_s=pause)
        return outcome_of_status(
            response.status,
            retry_after_s(response.headers, self._clock),
            self._recorder.detail(response),
            pause_s=pause,
            exchange=self._recorder.exchange(headers, body, response),
        )

    def _outcomes(
        self, response: HttpResponse, headers: Mapping[str, str], body: bytes, events: int
    ) -> Sequence[Outcome]:
        """Those of a batch that was answered with 207."""
        statuses = read_multi_status(response.body, events)
        if statuses is None:
            pause = pause_s(response.status, response.headers, self._clock)
            return [Outcome(Result.DELIVERED, detail=_UNREADABLE, pause_s=pause)] * events
        # An event that is to wait because the peer is full says so of the whole peer.
        full = next((item.status for item in statuses if item.status in PAUSING_STATUSES), response.status)
        pause = pause_s(full, response.headers, self._clock)
        wait_s = retry_after_s(response.headers, self._clock)
        delivered = DELIVERED_OUTCOME if pause is None else Outcome(Result.DELIVERED, pause_s=pause)
        exchange = None
        outcomes = []
        for item in statuses:
            if item.status < 300:
                outcomes.append(delivered)
                continue
            exchange = exchange or self._recorder.exchange(headers, body, response)
            detail = self._recorder.clean(item.detail)
            outcomes.append(outcome_of_status(item.status, wait_s, detail, pause_s=pause, exchange=exchange))
        return outcomes

    async def close(self) -> None:
        """The client is shared; there is nothing to close."""


def _unreadable_file(error: OSError) -> Outcome:
    return Outcome(Result.RETRY, "EIO", f"the file of the bulk batch: {error.strerror or type(error).__name__}")
