"""The policy on outgoing requests: which addresses, ports and schemes may be connected to, and by which way.

Private, loopback, link-local, multicast, reserved and documentation addresses are refused unless the workspace's
``egress.allow_private`` lists them. IPv4 addresses inside IPv6 ones (mapped, translated, compatible, 6to4, NAT64) are
judged as what they are. The metadata services of clouds hand out credentials to whoever asks, so a network that
contains one does not open it: its address has to be listed by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Self

from trunkline.workspace.model import Address, EgressRules

_WITH_IPV4_AT_THE_END: Final = (
    IPv6Network("64:ff9b::/96"),  # NAT64
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated
    IPv6Network("::/96"),  # IPv4-compatible
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All other IPv6 addresses are reserved, local or not assigned, whatever tables of special ones say."""

_SPECIAL: Final = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments; a cloud has its metadata service in it
    IPv4Network("192.88.99.0/24"),  # relays of 6to4, given up
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("3fff::/20"),  # documentation
)
"""Not public either. The standard library's tables differ between releases of Python, or lack these."""

_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
        ),
    )
)

PORTS_OF_OTHER_PROTOCOLS: Final = frozenset(
    [
        *(1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104),
        *(109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 138, 139, 143, 161, 162, 179, 389, 427, 445, 465, 512),
        *(513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 873, 989, 990, 993, 995),
        *(1433, 1434, 1521, 1719, 1720, 1723, 2049, 2181, 3306, 3389, 3659, 4045, 4190, 5060, 5061, 5432, 5672, 5900),
        *(6000, 6379, 6380, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9042, 9092, 10080, 11211),
        *(27017, 27018, 27019),
    ]
)
"""Those that browsers refuse, and those of data stores: a request to them is an attack on a protocol that takes the
lines of a body for commands, or a mistake."""


class EgressRefused(Exception):
    """The policy forbids this request. The text says which, why, and what to list to allow it."""


def _effective(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if int(address) > 1 and any(address in network for network in _WITH_IPV4_AT_THE_END):
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether the whole internet could answer from here, as far as tables tell."""
    address = _effective(address)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if any(address.version == network.version and address in network for network in _SPECIAL):
        return False
    return address.version == 4 or address in _GLOBAL_UNICAST


@dataclass(frozen=True)
class EgressPolicy(EgressRules):
    """A workspace's rules, applied. Equal rules make equal policies."""

    @classmethod
    def of(cls, rules: EgressRules) -> Self:
        return cls(**{field.name: getattr(rules, field.name) for field in fields(EgressRules)})

    def check(self, text: str) -> None:
        """Raise EgressRefused unless the address (an IP literal) may be connected to. ValueError: it is none."""
        address = _effective(ip_address(text.partition("%")[0]))
        if address in _METADATA:
            if not any(network.num_addresses == 1 and address in network for network in self._matching(address)):
                raise EgressRefused(
                    f"{address} is a cloud's metadata service; list this address by itself under egress.allow_private "
                    "to allow it"
                )
        elif not is_public(address) and next(self._matching(address), None) is None:
            raise EgressRefused(
                f"{address} is not a public address; list its network under egress.allow_private to allow it"
            )

    def _matching(self, address: Address) -> Iterator[IPv4Network | IPv6Network]:
        return (item for item in self.allow_private if item.version == address.version and address in item)

    def check_scheme(self, scheme: str) -> None:
        """Raise EgressRefused unless requests may be made by it (in lower case)."""
        if scheme not in ("http", "https"):
            raise EgressRefused("only http and https addresses are sent to")
        if self.https_only and scheme != "https":
            raise EgressRefused("egress.https_only is set, and the address does not start with https://")

    def check_port(self, port: int) -> None:
        """Raise EgressRefused unless requests may be made to it."""
        if not 1 <= port <= 65_535:
            raise EgressRefused(f"{port} is no port")
        if port in PORTS_OF_OTHER_PROTOCOLS and port not in self.allow_ports:
            raise EgressRefused(f"port {port} is another protocol's; list it under egress.allow_ports to allow it")
