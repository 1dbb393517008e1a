"""The addresses that requests leave from, as this machine knows them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from trunkline.delivery.egress import EgressPolicy, is_public
from trunkline.workspace.egress_section import bind_error
from trunkline.workspace.model import Address, EgressProxy

_ELSEWHERE: Final = {socket.AF_INET: "198.41.0.4", socket.AF_INET6: "2001:503:ba3e::2:30"}
"""Addresses out in the internet (a root name server's), to ask for the way to them. Nothing is sent there."""


@dataclass(frozen=True, slots=True)
class OutgoingAddress:
    """``named``: by ``egress.source_address``, else chosen by the system. ``error``: why nothing can leave from it."""

    address: Address
    named: bool
    error: str | None = None

    @property
    def public(self) -> bool:
        """Whether peers see this very address. Not so behind a gateway that translates addresses."""
        return is_public(self.address)


def outgoing_addresses(policy: EgressPolicy) -> Sequence[OutgoingAddress]:
    """Those named by the policy, else those that the system's routes give at this moment. May ask the name server for
    the proxy."""
    if policy.source_address:
        return [OutgoingAddress(item, True, bind_error(item)) for item in policy.source_address]
    towards = proxy_addresses(policy.proxy) if policy.proxy else list(_ELSEWHERE.values())
    found = [source_towards(address) for address in towards]
    return [OutgoingAddress(address, False) for address in dict.fromkeys(found) if address is not None]


def proxy_addresses(proxy: EgressProxy) -> Sequence[str]:
    """None when its name can't be resolved."""
    parts = urlsplit(proxy.url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def source_towards(address: str) -> Address | None:
    """The address that a connection to ``address`` would leave from; None when there is no way. Sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return ip_address(str(probe.getsockname()[0]).partition("%")[0])
    except OSError:
        return None
