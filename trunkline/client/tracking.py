"""Requests to a Tracking API, repeated until they are answered for good.

Errors::

    SendError            the request was not taken
    ├── Refused          the server will never take it; says why
    └── Unreachable      no good answer within the time for retries
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from trunkline import __version__
from trunkline.clock import Clock
from trunkline.delivery.retry import RetryPolicy
from trunkline.destinations.rate_limits import retry_after_s
from trunkline.spec import codes

USER_AGENT: Final = f"trunkline-send/{__version__}"
REQUEST_TIMEOUT_S: Final = 60.0
_RETRYABLE: Final = frozenset({408, 425, 429, 460})
_FINAL_5XX: Final = frozenset({501, 505, 511})


class SendError(Exception):
    """The request was not taken."""


class Refused(SendError):
    """The server will never take it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}" if code else f"{status}: {message}")
        self.status = status
        self.code = code
        self.message = message


class Unreachable(SendError):
    """No good answer within the time for retries."""


class RejectedEvent(msgspec.Struct):
    """One event that the server did not take. ``index`` is its place in the batch."""

    index: int
    code: str = ""
    message: str = ""


class _Body(msgspec.Struct):
    success: bool
    code: str = ""
    message: str = ""
    rejected_count: int = 0
    rejected: list[RejectedEvent] = []


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a request that was taken. ``rejected`` lists the first 100 of ``rejected_count``."""

    rejected: list[RejectedEvent]
    rejected_count: int
    code: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Why the client is about to wait, and for how long."""

    reason: str
    wait_s: float


def _ignore(wait: Wait) -> None:
    """Nobody wants to know."""


class TrackingClient:
    """One server, one write key. Use it on one event loop and close it there."""

    def __init__(
        self,
        url: str,
        write_key: str,
        clock: Clock,
        *,
        retry_for_s: float,
        on_wait: Callable[[Wait], None] = _ignore,
        random: Random | None = None,
    ) -> None:
        """``url``: scheme, host and port, with or without ``/v1``. Raises ValueError if it is no such address."""
        self.url = base_url(url)
        self._write_key = write_key
        self._clock = clock
        self._random = random or SystemRandom()
        self._on_wait = on_wait
        self._policy = RetryPolicy(
            window_s=retry_for_s,
            first_wait_s=0.5,
            growth=2.0,
            longest_wait_s=30.0,
            last_attempt_within_s=0.0,
            max_attempts=1000,
        )
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            credentials = base64.b64encode(f"{self._write_key}:".encode()).decode()
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
                headers={"User-Agent": USER_AGENT, "Authorization": f"Basic {credentials}"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, path: str, body: bytes, *, content_type: str = "application/json") -> Verdict:
        """POST to ``path`` below ``/v1`` until it is answered for good. Raises SendError."""
        started_s = self._clock.monotonic_s()
        attempts = 0
        while True:
            headers = {"Content-Type": content_type}
            if attempts:
                headers["X-Retry-Count"] = str(attempts)
            attempts += 1
            retry_after: float | None = None
            try:
                async with self._open().post(
                    f"{self.url}/v1/{path}", data=body, headers=headers, allow_redirects=False
                ) as response:
                    answer = await response.read()
                if response.status == 200:
                    return _verdict(answer, attempts)
                reason = _explain(response.status, answer)
                if not _is_retryable(response.status):
                    raise reason
                retry_after = retry_after_s(response.headers, self._clock)
                trouble = str(reason)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                trouble = str(error) or f"no answer within {REQUEST_TIMEOUT_S:g} s"
            elapsed_s = self._clock.monotonic_s() - started_s
            wait_s = self._policy.wait_s(attempts, elapsed_s, self._random, retry_after)
            if wait_s is None:
                raise Unreachable(f"{self.url}: {trouble} (tried {attempts} times)")
            self._on_wait(Wait(trouble, wait_s))
            await asyncio.sleep(wait_s)

    async def key_problem(self) -> str | None:
        """What is wrong with the write key, as far as the server tells; None if nothing is known to be wrong.

        The Tracking API answers an unknown key with 200, as Segment's does, so the settings that SDKs fetch are asked
        for instead.
        """
        try:
            async with self._open().get(
                f"{self.url}/v1/projects/{quote(self._write_key, safe='')}/settings", allow_redirects=False
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        if response.status != 404:
            return None
        refused = _explain(404, answer)
        return refused.message if refused.code in (codes.UNKNOWN_SOURCE, codes.SOURCE_DISABLED) else None


def base_url(url: str) -> str:
    """Scheme, host, port and path without ``/v1``. Raises ValueError with a sentence."""
    text = url if "://" in url else f"http://{url}"
    parts = urlsplit(text)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:8080")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"


def _is_retryable(status: int) -> bool:
    return status in _RETRYABLE or (status >= 500 and status not in _FINAL_5XX)


def _decode(answer: bytes) -> _Body | None:
    try:
        return msgspec.json.decode(answer, type=_Body)
    except msgspec.DecodeError:
        return None


def _verdict(answer: bytes, attempts: int) -> Verdict:
    body = _decode(answer)
    if body is None or not body.success:
        raise Refused(200, "", "the answer is not that of a Tracking API; check the address")
    return Verdict(body.rejected, body.rejected_count, body.code, body.message, attempts)


def _explain(status: int, answer: bytes) -> Refused:
    body = _decode(answer)
    if body is None:
        text = answer[:100].decode("utf-8", "replace").strip()
        hint = "a redirect; use the address that it leads to" if 300 <= status < 400 else text or "no reason given"
        return Refused(status, "", hint)
    return Refused(status, body.code, body.message)
