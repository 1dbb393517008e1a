"""The native ``webhook`` destination: one POST of the event's JSON.

Settings: ``url`` (http or https), ``headers`` (name to text), ``shared_secret`` (signs the body: ``X-Signature`` is the
hex HMAC-SHA1 of the JSON, ``spec/event_path.md`` §6.5).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from trunkline.clock import Clock
from trunkline.destinations.kit import (
    SINGLE_EVENTS,
    HttpError,
    Outcome,
    OutgoingEvent,
    Result,
    SettingsProblem,
    Surroundings,
    outcome_of_status,
)
from trunkline.workspace.model import Destination

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_RESERVED_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_DETAIL_LENGTH: Final = 200


class WebhookType:
    """See the module."""

    name = "webhook"
    storage = False
    secret_settings = frozenset({"shared_secret", "headers"})

    def check_settings(self, settings: Mapping[str, Any]) -> list[SettingsProblem]:
        problems = [
            (key, "a webhook has no such setting", "Use url, headers and shared_secret.")
            for key in settings
            if key not in {"url", "headers", "shared_secret"}
        ]
        problems += _check_url(settings.get("url"))
        secret = settings.get("shared_secret")
        if secret is not None and (not isinstance(secret, str) or not secret):
            problems.append(("shared_secret", "not a text", "Give the secret in quotes, or leave the key out."))
        problems += _check_headers(settings.get("headers", {}))
        return problems

    def open(self, destination: Destination, surroundings: Surroundings) -> WebhookSender:
        return WebhookSender(destination.settings, surroundings)


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


class WebhookSender:
    """One destination's webhook."""

    def __init__(self, settings: Mapping[str, Any], surroundings: Surroundings) -> None:
        self._url = str(settings["url"])
        self._http = surroundings.http
        self._clock = surroundings.clock
        self._headers = {"Content-Type": "application/json"} | dict(settings.get("headers", {}))
        secret = settings.get("shared_secret")
        self._secret = secret.encode() if secret else None

    batch = SINGLE_EVENTS

    async def send(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
        return [await self._send_one(event) for event in events]

    async def _send_one(self, event: OutgoingEvent) -> Outcome:
        headers = self._headers
        if self._secret is not None:
            headers = headers | {"X-Signature": hmac.new(self._secret, event.body, hashlib.sha1).hexdigest()}
        try:
            response = await self._http.post(self._url, body=event.body, headers=headers)
        except HttpError as error:
            return Outcome(Result.RETRY if error.retryable else Result.FAILED, error.code, error.detail)
        if response.status == 200:
            return outcome_of_status(200, None, "")
        detail = response.body[:_DETAIL_LENGTH].decode("utf-8", "replace")
        return outcome_of_status(response.status, retry_after_s(response.headers, self._clock), detail)

    async def close(self) -> None:
        """The client is shared; there is nothing to close."""


def retry_after_s(headers: Mapping[str, str], clock: Clock) -> float | None:
    """``Retry-After`` in seconds from now, given as seconds or as an HTTP date; None when absent or unreadable."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        at_s = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, at_s - clock.now_ms() / 1000)
