"""The HTTP client of all destinations: aiohttp behind the egress guard.

An address is judged before anything else, a name where it becomes addresses, and each socket once more where it is
made, so what was checked is what is connected to. With a proxy the addresses of the target are checked before it is
handed on. Redirects are followed only when asked for, each hop judged like the first address. A response body is read
up to a limit; of a longer one the connection is dropped instead of drained.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Final

import aiohttp
from yarl import URL

from trunkline import __version__
from trunkline.clock import Clock, SystemClock
from trunkline.delivery.connector import AddressRefused, check_every_address, make_connector
from trunkline.delivery.egress import EgressPolicy, EgressRefused
from trunkline.delivery.resolver import Resolver
from trunkline.delivery.response import BoundedResponse
from trunkline.delivery.target import is_literal, judge, resolve_location
from trunkline.destinations.kit import HttpError, HttpResponse
from trunkline.workspace.model import EgressProxy

USER_AGENT: Final = f"Trunkline/{__version__}"
RESPONSE_LIMIT_BYTES: Final = 64 * 1024
_JUDGED_URLS: Final = 16_384
_DETAIL_LENGTH: Final = 300
_REPEATED: Final = frozenset({307, 308})
"""Redirects after which method and body stay what they are. After the others the method is to become GET, which tells
nobody of the event, so they are returned as answers."""
_SAFE_ELSEWHERE: Final = frozenset({"accept", "content-encoding", "content-length", "content-type", "user-agent"})
"""The headers that go along to another origin: no others can be known to hold no secret."""

Policy = Callable[[], EgressPolicy]


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The body up to the limit. The status has come and decides; a body that breaks off or never ends changes nothing
    of it, and an event that was taken must not be sent again for it."""
    answer = b""
    try:
        while len(answer) < RESPONSE_LIMIT_BYTES and not response.content.at_eof():
            answer += await response.content.read(RESPONSE_LIMIT_BYTES - len(answer))
    except (aiohttp.ClientError, OSError):
        response.close()
    if not response.content.at_eof():
        response.close()
    return answer


def _error_code(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "ECONNREFUSED"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "ECONNRESET"
    if isinstance(error, socket.gaierror):
        return "EAI_AGAIN" if error.errno == socket.EAI_AGAIN else "ENOTFOUND"
    if error.errno == errno.ETIMEDOUT:
        return "ETIMEDOUT"
    if error.errno == errno.EADDRNOTAVAIL:
        return "EADDRNOTAVAIL"
    return "EHOSTUNREACH" if error.errno is not None else "ECONNABORTED"


def _error_text(error: OSError) -> str:
    """What the system says. The client's own texts have the whole address in them, which may hold a secret."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return error.strerror or type(error).__name__
    return os.strerror(error.errno) if error.errno is not None else "the connection broke off"


def _http_error(error: Exception, timeout_s: float) -> HttpError:
    """The code and the sentence for what an attempt raised."""
    match error:
        case EgressRefused():
            return HttpError("EGRESS_REFUSED", str(error), retryable=False)
        case TimeoutError():
            return HttpError("ETIMEDOUT", f"no answer within {timeout_s:g} s")
        case aiohttp.ClientConnectorError(os_error=AddressRefused() as refused):
            return HttpError("EGRESS_REFUSED", str(refused.strerror), retryable=False)
        case aiohttp.ClientProxyConnectionError():
            return HttpError("EPROXY", f"the proxy of egress.proxy can't be reached: {_error_text(error.os_error)}")
        case aiohttp.ClientHttpProxyError():
            return HttpError("EPROXY", f"the proxy of egress.proxy refused with status {error.status}")
        case aiohttp.ClientConnectorDNSError():
            return HttpError(_error_code(error.os_error), f"{error.host}: {_error_text(error.os_error)}")
        case aiohttp.ClientConnectorCertificateError():
            return HttpError("CERTIFICATE", str(error.certificate_error)[:_DETAIL_LENGTH])
        case aiohttp.ClientConnectorSSLError():
            reason = getattr(error.os_error, "reason", None)
            return HttpError("EPROTO", f"no TLS connection: {reason or type(error.os_error).__name__}"[:_DETAIL_LENGTH])
        case aiohttp.ServerDisconnectedError():
            return HttpError("ECONNRESET", "the peer closed the connection without an answer")
        case aiohttp.ClientOSError():
            os_error = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            return HttpError(_error_code(os_error), _error_text(os_error))
        case aiohttp.ClientResponseError():
            return HttpError("EPROTO", f"no valid HTTP: {error.message}"[:_DETAIL_LENGTH])
        case aiohttp.ClientError():
            return HttpError("EPROTO", type(error).__name__)
        case OSError():
            return HttpError(_error_code(error), _error_text(error))
    # ValueError: a header that can't be sent.
    return HttpError("EPROTO", f"{type(error).__name__}: {error}"[:_DETAIL_LENGTH])


class GuardedClient:
    """See :class:`trunkline.destinations.kit.HttpClient`. One for all lanes of a worker."""

    def __init__(
        self, policy: Policy, *, timeout_s: float, clock: Clock | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """``policy`` is asked at each request. ``tls`` None: certificates as the system trusts them."""
        self._policy = policy
        self._timeout_s = timeout_s
        self._longest_s = timeout_s
        self._clock = clock or SystemClock()
        self._tls = tls
        self._resolver: Resolver | None = None
        self._session: aiohttp.ClientSession | None = None
        self._opened_under: EgressPolicy | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._judged: dict[str, URL] = {}
        self._judged_by: EgressPolicy | None = None

    def _open(self, policy: EgressPolicy) -> tuple[aiohttp.ClientSession, Resolver]:
        if self._resolver is None:
            self._resolver = Resolver(self._clock)
        if self._session is not None and policy is not self._opened_under:
            if policy != self._opened_under:
                # Neither an open connection nor a remembered address may outlive the policy that allowed it.
                self._retire(self._session)
                self._session = None
            self._opened_under = policy
        if self._session is None:
            self._opened_under = policy
            self._session = aiohttp.ClientSession(
                connector=make_connector(self._resolver, policy, self._tls),
                headers={"User-Agent": USER_AGENT},
                cookie_jar=aiohttp.DummyCookieJar(),
                response_class=BoundedResponse,
                auto_decompress=False,
                trust_env=False,
            )
        return self._session, self._resolver

    def _retire(self, session: aiohttp.ClientSession) -> None:
        """Close it when the requests that are under way have ended."""

        async def close() -> None:
            try:
                await asyncio.sleep(self._longest_s + 1)
            finally:
                await session.close()

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _target(self, url: str, policy: EgressPolicy) -> URL:
        """The parsed address; a literal one is checked here, a name when it is resolved. Raises EgressRefused.

        Verdicts are remembered as long as the policy is the same object.
        """
        if policy is not self._judged_by or len(self._judged) >= _JUDGED_URLS:
            self._judged = {}
            self._judged_by = policy
        target = self._judged.get(url)
        if target is None:
            target = self._judged[url] = judge(url, policy)
        return target

    async def post(
        self,
        url: str,
        *,
        body: bytes | AsyncIterable[bytes],
        headers: Mapping[str, str],
        timeout_s: float | None = None,
        follow_redirects: int = 0,
    ) -> HttpResponse:
        """``timeout_s`` covers all, redirects and the answer's body included. ``follow_redirects``: how many of status
        307 and 308; the one after them, and all others, are returned as they are. Raises HttpError."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        self._longest_s = max(self._longest_s, limit_s)
        policy = self._policy()
        try:
            target = self._target(url, policy)
            if not follow_redirects and policy.proxy is None:
                return await self._exchange(policy, target, body, headers, limit_s)
            return await self._post_along(url, body, headers, limit_s, follow_redirects)
        except (EgressRefused, aiohttp.ClientError, OSError, ValueError) as error:
            raise _http_error(error, limit_s) from error

    async def _post_along(
        self, url: str, body: bytes | AsyncIterable[bytes], headers: Mapping[str, str], limit_s: float, hops: int
    ) -> HttpResponse:
        """Through redirects and past a proxy, in one time limit, each step under the policy of its moment."""
        deadline_s = self._clock.monotonic_s() + limit_s
        while True:
            policy = self._policy()
            target = self._target(url, policy)
            if policy.proxy is not None and not is_literal(target):
                async with asyncio.timeout(max(deadline_s - self._clock.monotonic_s(), 0)):
                    await check_every_address(target.raw_host or "", self._open(policy)[1], policy)
                if self._policy() is not policy:
                    continue
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise TimeoutError
            response = await self._exchange(policy, target, body, headers, left_s)
            location = response.headers.get("Location")
            again = response.status in _REPEATED and location is not None and isinstance(body, bytes)
            if not again or not hops:
                return response
            hops -= 1
            url = resolve_location(target, location or "")
            following = self._target(url, self._policy())
            if following.scheme == "http" and target.scheme == "https":
                raise EgressRefused("the redirect leads from https to http")
            if following.origin() != target.origin():
                headers = {name: value for name, value in headers.items() if name.lower() in _SAFE_ELSEWHERE}

    async def _exchange(
        self,
        policy: EgressPolicy,
        target: URL,
        body: bytes | AsyncIterable[bytes],
        headers: Mapping[str, str],
        limit_s: float,
    ) -> HttpResponse:
        session, _ = self._open(policy)
        timeout = aiohttp.ClientTimeout(total=limit_s)
        proxy = policy.proxy
        if proxy is None:
            request = session.post(target, data=body, headers=headers, allow_redirects=False, timeout=timeout)
        else:
            credentials = _proxy_credentials(proxy)
            if target.scheme == "http":
                headers, credentials = {**headers, **credentials}, {}
            request = session.post(
                target,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
                proxy=proxy.url,
                proxy_headers=credentials,
            )
        async with request as response:
            if proxy is not None and response.status == 407:
                raise HttpError("EPROXY", "the proxy of egress.proxy refused with status 407")
            answer = await _beginning(response) if response.content_length != 0 else b""
            return HttpResponse(response.status, response.headers, answer)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        closing = list(self._closing)
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None


def _proxy_credentials(proxy: EgressProxy) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{proxy.username}:{proxy.password or ''}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}
