"""The HTTP client of all destinations: aiohttp behind the egress guard.

The guard sits where a name becomes addresses, and refuses literals before a connection is made, so what was checked is
what is connected to. Redirects are not followed. A response body is read up to a limit; of a longer one the connection
is dropped instead of drained.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from trunkline import __version__
from trunkline.delivery.egress import EgressPolicy, EgressRefused
from trunkline.destinations.kit import HttpError, HttpResponse

USER_AGENT: Final = f"Trunkline/{__version__}"
RESPONSE_LIMIT_BYTES: Final = 64 * 1024
DNS_CACHE_S: Final = 60
_JUDGED_URLS: Final = 1024
_DETAIL_LENGTH: Final = 300

Policy = Callable[[], EgressPolicy]


class _GuardedResolver(AbstractResolver):
    """Resolves through the system and drops what the policy refuses; nothing left is a refusal."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        policy = self._policy()
        allowed: list[ResolveResult] = []
        refusal: EgressRefused | None = None
        for result in found:
            try:
                policy.check(result["host"])
            except EgressRefused as error:
                refusal = error
            else:
                allowed.append(result)
        if refusal is not None and not allowed:
            raise refusal
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


def _check_literal(host: str, policy: EgressPolicy) -> None:
    """What the HTTP client takes for an address is never resolved, so it is checked here. Raises EgressRefused."""
    if ":" not in host and not host.replace(".", "").isdigit():
        return
    try:
        policy.check(host)
    except ValueError:
        # 127.1, 2130706433 and 0177.0.0.1 are 127.0.0.1 to the system.
        raise EgressRefused(f"{host} is no address in its usual form; write it as four numbers or as IPv6") from None


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
    return "EHOSTUNREACH" if error.errno is not None else "ECONNABORTED"


class GuardedClient:
    """See :class:`trunkline.destinations.kit.HttpClient`. One for all lanes of a worker."""

    def __init__(self, policy: Policy, *, timeout_s: float) -> None:
        self._policy = policy
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._opened_under: EgressPolicy | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._judged: dict[str, URL] = {}
        self._judged_by: EgressPolicy | None = None

    def _open(self) -> aiohttp.ClientSession:
        policy = self._policy()
        if self._session is not None and policy != self._opened_under:
            # Neither an open connection nor a remembered address may outlive the policy that allowed it.
            self._retire(self._session)
            self._session = None
        if self._session is None:
            self._opened_under = policy
            connector = aiohttp.TCPConnector(
                resolver=_GuardedResolver(self._policy),
                limit=0,  # each lane bounds its own; a shared bound would let those that hang starve the others
                ttl_dns_cache=DNS_CACHE_S,
                keepalive_timeout=30,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                headers={"User-Agent": USER_AGENT},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    def _retire(self, session: aiohttp.ClientSession) -> None:
        """Close it when the requests that are under way have ended."""

        async def close() -> None:
            try:
                await asyncio.sleep((self._timeout.total or 0) + 1)
            finally:
                await session.close()

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _target(self, url: str) -> URL:
        """The parsed address; a literal one is checked here, a name when it is resolved. Raises EgressRefused.

        Verdicts are remembered as long as the policy is the same object.
        """
        policy = self._policy()
        if policy is not self._judged_by or len(self._judged) >= _JUDGED_URLS:
            self._judged = {}
            self._judged_by = policy
        target = self._judged.get(url)
        if target is None:
            target = URL(url)
            _check_literal(target.host or "", policy)
            self._judged[url] = target
        return target

    async def post(
        self,
        url: str,
        *,
        body: bytes | AsyncIterable[bytes],
        headers: Mapping[str, str],
        timeout_s: float | None = None,
    ) -> HttpResponse:
        timeout = self._timeout if timeout_s is None else aiohttp.ClientTimeout(total=timeout_s)
        try:
            target = self._target(url)
            async with self._open().post(
                target, data=body, headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                answer = await _beginning(response) if response.content_length != 0 else b""
                return HttpResponse(response.status, response.headers, answer)
        except EgressRefused as error:
            raise HttpError("EGRESS_REFUSED", str(error), retryable=False) from error
        except TimeoutError as error:
            raise HttpError("ETIMEDOUT", f"no answer within {timeout.total:g} s") from error
        except aiohttp.ClientConnectorDNSError as error:
            raise HttpError("ENOTFOUND", f"{error.host}: {error.os_error}") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise HttpError("CERTIFICATE", str(error.certificate_error)) from error
        except aiohttp.ServerDisconnectedError as error:
            raise HttpError("ECONNRESET", "the peer closed the connection without an answer") from error
        except aiohttp.ClientOSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, EgressRefused) else None
            if cause is not None:
                raise HttpError("EGRESS_REFUSED", str(cause), retryable=False) from error
            os_error = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            # Without a number the text is the client's own, with the address in it, which may hold a secret.
            detail = os_error.strerror if os_error.errno is not None else "the connection broke off"
            raise HttpError(_error_code(os_error), detail or type(os_error).__name__) from error
        except aiohttp.ClientResponseError as error:
            raise HttpError("EPROTO", f"no valid HTTP: {error.message}"[:_DETAIL_LENGTH]) from error
        except aiohttp.ClientError as error:
            raise HttpError("EPROTO", type(error).__name__) from error
        except (OSError, ValueError) as error:
            # ValueError: a name that no resolver takes, a header that can't be sent.
            raise HttpError("EPROTO", f"{type(error).__name__}: {error}"[:_DETAIL_LENGTH]) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        closing = list(self._closing)
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
