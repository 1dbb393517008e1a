"""What a native destination implements, and what it is given.

A destination type checks its settings when the workspace is loaded, and opens a *sender* when its lane first has work.
A sender never raises for what the peer did: every event gets an :class:`Outcome`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from trunkline.clock import Clock
from trunkline.workspace.model import Destination

SettingsProblem = tuple[str, str, str]
"""(path of the setting, what is wrong with it, how to mend it)."""


class Result(Enum):
    """How one attempt at one event ended."""

    DELIVERED = "delivered"
    RETRY = "retry"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, secrets masked, bodies cut at :data:`SAMPLE_BYTES`. ``status`` is 0 when there was no
    answer. A batch's events share one exchange object: that is how the record knows them for one request."""

    method: str
    url: str
    request_headers: Mapping[str, str]
    request_body: str
    status: int = 0
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response_body: str = ""

    def request_json(self) -> str:
        """As a sample keeps it."""
        return _json(method=self.method, url=self.url, headers=dict(self.request_headers), body=self.request_body)

    def response_json(self) -> str:
        """As a sample keeps it; empty when there was no answer."""
        if not self.status:
            return ""
        return _json(status=self.status, headers=dict(self.response_headers), body=self.response_body)


SAMPLE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class BatchRules:
    """How a sender likes its events. ``send`` gets at most ``events`` of them, ``size_bytes`` of bodies together (one
    event alone may be larger); a batch that is not full waits up to ``wait_s`` from its first event."""

    events: int = 1
    size_bytes: int = 1 << 20
    wait_s: float = 0.0


SINGLE_EVENTS: Final = BatchRules()


@dataclass(frozen=True, slots=True)
class BulkRules:
    """How a sender likes its bulk batches: closed at ``events``, ``size_bytes`` or ``wait_s`` after the first."""

    events: int
    size_bytes: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class BulkBatch:
    """A file that holds the events of a bulk batch, one JSON text a line."""

    path: Path
    events: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt. ``reason`` is a delivery error code (``spec/event_path.md`` §8.3), ``detail`` free text
    without secrets, ``retry_after_s`` the peer's own wish for this event, ``pause_s`` its wish for the whole lane (a
    rate limit that is used up), ``exchange`` what was said, for the samples; never with ``DELIVERED``."""

    result: Result
    reason: str = ""
    detail: str = ""
    retry_after_s: float | None = None
    pause_s: float | None = None
    exchange: Exchange | None = None


DELIVERED_OUTCOME: Final = Outcome(Result.DELIVERED)


class OutgoingEvent(msgspec.Struct, eq=False, gc=False):
    """One event for a sender, which must not change it. ``body`` is the event's JSON, ``app_version`` its
    ``context.app.version``."""

    message_id: str
    source: str
    type: str
    name: str
    body: bytes
    app_version: str = ""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """``body`` is cut at the client's limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpError(Exception):
    """No response was had. ``code`` is a delivery error code such as ``ECONNREFUSED``; ``retryable`` whether another
    attempt can succeed."""

    def __init__(self, code: str, detail: str, *, retryable: bool = True) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retryable = retryable


class HttpClient(Protocol):
    """The one way out: guarded, bounded in time and in bytes. Follows no redirect."""

    async def post(
        self,
        url: str,
        *,
        body: bytes | AsyncIterable[bytes],
        headers: Mapping[str, str],
        timeout_s: float | None = None,
    ) -> HttpResponse:
        """``timeout_s`` None: the client's own. A body in pieces is streamed. Raises HttpError."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a sender may use."""

    http: HttpClient
    data_dir: Path
    clock: Clock


class Sender(Protocol):
    """Delivers to one destination. Called concurrently up to the lane's concurrency.

    A sender that takes bulk batches is a :class:`BulkSender` too.
    """

    @property
    def batch(self) -> BatchRules: ...

    async def send(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
        """One outcome an event, in order."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class BulkSender(Protocol):
    """A sender with the bulk capability."""

    @property
    def bulk(self) -> BulkRules | None:
        """None: this destination's settings do not ask for it."""
        ...

    async def send_bulk(self, batch: BulkBatch) -> Outcome:
        """One outcome for all. The file must be streamed, not read into memory."""
        ...


class NativeDestination(Protocol):
    """A type of destination."""

    @property
    def name(self) -> str: ...

    @property
    def storage(self) -> bool: ...

    @property
    def methods(self) -> frozenset[str]:
        """The calls that it takes, of :data:`trunkline.spec.capabilities.METHODS`."""
        ...

    @property
    def source_kinds(self) -> frozenset[str]:
        """The kinds of sources that it works with, of :data:`trunkline.spec.capabilities.SOURCE_KINDS`."""
        ...

    @property
    def secret_settings(self) -> frozenset[str]: ...

    def check_settings(self, settings: Mapping[str, Any]) -> list[SettingsProblem]: ...

    def open(self, destination: Destination, surroundings: Surroundings) -> Sender: ...


SERVER_ERRORS: Final = frozenset(range(500, 600))
RETRYABLE_STATUSES: Final = frozenset({408, 425, 429}) | SERVER_ERRORS
"""Answers of native destinations after which another attempt is made: the peer asks for it, or had trouble itself."""
CATALOG_RETRYABLE_STATUSES: Final = (frozenset({408, 423, 429}) | SERVER_ERRORS) - {501}
"""The same for destinations of Segment's catalog, as Segment has it (``spec/event_path.md`` §6.4)."""


def outcome_of_status(
    status: int,
    retry_after_s: float | None = None,
    detail: str = "",
    *,
    pause_s: float | None = None,
    exchange: Exchange | None = None,
    retryable: Set[int] = RETRYABLE_STATUSES,
) -> Outcome:
    """2xx is delivered, ``retryable`` may be tried again, all else (redirects too) fails at once, with the status for
    its reason."""
    if 200 <= status < 300:
        return DELIVERED_OUTCOME if pause_s is None else Outcome(Result.DELIVERED, pause_s=pause_s)
    if status in retryable:
        return Outcome(Result.RETRY, str(status), detail, retry_after_s, pause_s, exchange)
    return Outcome(Result.FAILED, str(status), detail, None, pause_s, exchange)


def _json(**members: object) -> str:
    return msgspec.json.encode(members).decode()
