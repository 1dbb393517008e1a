"""The guard on outgoing requests: which addresses may be connected to.

Private, loopback, link-local, multicast and reserved addresses are refused unless the workspace's
``egress.allow_private`` lists them. IPv4 addresses inside IPv6 ones (mapped, 6to4, NAT64) are judged as what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from trunkline.workspace.model import Network

Address = IPv4Address | IPv6Address

_WITH_IPV4_AT_THE_END: Final = (
    IPv6Network("64:ff9b::/96"),  # NAT64
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated
    IPv6Network("::/96"),  # IPv4-compatible
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All other IPv6 addresses are reserved, local or not assigned, whatever tables of special ones say."""


class EgressRefused(Exception):
    """The policy forbids this address. The text says which, why, and what to list to allow it."""


def _effective(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if int(address) > 1 and any(address in network for network in _WITH_IPV4_AT_THE_END):
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """``allow_private`` are the networks that may be reached although they are not public."""

    allow_private: Sequence[Network] = ()

    def check(self, text: str) -> None:
        """Raise EgressRefused unless the address (an IP literal) may be connected to."""
        address = _effective(ip_address(text.partition("%")[0]))
        if address.is_global and not address.is_multicast and (address.version == 4 or address in _GLOBAL_UNICAST):
            return
        if any(address.version == network.version and address in network for network in self.allow_private):
            return
        raise EgressRefused(
            f"{address} is not a public address; list its network under egress.allow_private to allow it"
        )
