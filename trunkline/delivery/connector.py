"""Where connections are made: the resolver that drops what the policy refuses, and the sockets that leave by the
address that the policy names.

The socket's maker sees the very address that is connected to next, so a name that resolves differently between check
and connect gains nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import sys
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from trunkline.delivery.egress import EgressPolicy, EgressRefused
from trunkline.delivery.resolver import Resolver

RECEIVE_BUFFER_BYTES: Final = 16 * 1024
"""Answers are small. This bounds what a peer can make us parse in one go of the event loop (Linux doubles it)."""

KEEP_ALIVE_S: Final = 30
_BIND_ADDRESS_NO_PORT: Final = 24
"""Linux: the port is chosen at connect, so that one source address serves as many connections as it has peers."""


class AddressRefused(OSError):
    """An :class:`EgressRefused` on its way through a client that knows system errors only."""


class GuardedResolver(AbstractResolver):
    """The addresses of a name that may be connected to; none left is a refusal."""

    def __init__(self, resolver: Resolver, policy: EgressPolicy) -> None:
        self._resolver = resolver
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError, EgressRefused."""
        addresses = await self._resolver.addresses(host)
        allowed = []
        refusal: EgressRefused | None = None
        for address in addresses:
            try:
                if self._policy.proxy is None:
                    self._policy.check(address)
            except EgressRefused as error:
                refusal = error
            else:
                allowed.append(address)
        if refusal is not None and not allowed:
            raise refusal
        return [
            ResolveResult(hostname=host, host=address, port=port, family=_family(address), proto=0, flags=0)
            for address in _reachable(host, allowed, self._policy)
        ]

    async def close(self) -> None:
        """Nothing of its own."""


async def check_every_address(host: str, resolver: Resolver, policy: EgressPolicy) -> None:
    """For a proxy, which chooses among a name's addresses itself. Raises OSError, EgressRefused."""
    for address in await resolver.addresses(host):
        policy.check(address)


class _NewestFirst(aiohttp.TCPConnector):
    """Takes the connection that was used last, where aiohttp takes the one that has rested longest: what is needed at
    a time stays in the caches of the machine, and what a burst left over goes after :data:`KEEP_ALIVE_S`."""

    async def _get(self, key: Any, traces: list[aiohttp.tracing.Trace]) -> Any:
        resting = self._conns.get(key)
        if resting is not None:
            resting.rotate(1)
        return await super()._get(key, traces)


def make_connector(resolver: Resolver, policy: EgressPolicy, tls: ssl.SSLContext | None) -> aiohttp.TCPConnector:
    """``tls`` None: as the system trusts. No bound of its own: each lane has one, and a shared one would let those that
    hang starve the others."""

    def make_socket(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if policy.proxy is None:
            try:
                policy.check(address[0])
            except EgressRefused as error:
                raise AddressRefused(errno.EACCES, str(error)) from error
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            _bind(made, policy)
        except BaseException:
            made.close()
            raise
        return made

    return _NewestFirst(
        resolver=GuardedResolver(resolver, policy),
        use_dns_cache=False,  # the resolver remembers, and what is remembered is judged again
        limit=0,
        keepalive_timeout=KEEP_ALIVE_S,
        socket_factory=make_socket,
        ssl=True if tls is None else tls,
    )


def _bind(made: socket.socket, policy: EgressPolicy) -> None:
    if not policy.source_address:
        return
    version = 6 if made.family == socket.AF_INET6 else 4
    source = next((str(item) for item in policy.source_address if item.version == version), None)
    if source is None:
        raise AddressRefused(errno.EACCES, f"egress.source_address has no IPv{version} address to reach this host from")
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    try:
        made.bind((source, 0))
    except OSError as error:
        raise OSError(errno.EADDRNOTAVAIL, f"can't send from {source}: {os.strerror(error.errno or 0)}") from error


def _reachable(host: str, addresses: list[str], policy: EgressPolicy) -> list[str]:
    """Those of a family that requests can leave by."""
    if not policy.source_address:
        return addresses
    families = {socket.AF_INET6 if item.version == 6 else socket.AF_INET for item in policy.source_address}
    found = [address for address in addresses if _family(address) in families]
    if not found:
        have = "IPv6" if socket.AF_INET6 in families else "IPv4"
        raise EgressRefused(f"egress.source_address is {have} only, and {host[:100]} has no such address")
    return found


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
