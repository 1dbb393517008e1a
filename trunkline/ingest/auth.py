"""Which write key a request names (``spec/event_path.md`` §1.2), and where it came from.

A key may stand in three places. The nearest to the event wins: the event's own ``writeKey`` (in a batch), then the
body's, then the ``Authorization`` header's, because a header may have been set once for all by a proxy or a wrapper.
Segment's clients send the same key everywhere.

A write key is no secret (it stands in the source of every web page that uses it), so looking it up in a dictionary
gives nothing away that an attacker does not have. A bearer token is accepted unverified: OAuth is not built yet, and
the write key in the body decides.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from trunkline.ingest.options import Network

_MAX_REMEMBERED: Final = 4096


class Credentials:
    """Write keys of ``Authorization`` headers; remembers what it decoded."""

    def __init__(self) -> None:
        self._known: dict[bytes, str | None] = {}

    def write_key(self, header: bytes | None) -> str | None:
        """The key of a Basic header, with or without the colon; None if there is none."""
        if header is None:
            return None
        try:
            return self._known[header]
        except KeyError:
            key = _decode_basic(header)
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        if len(header) < 512:
            self._known[header] = key
        return key


def _decode_basic(header: bytes) -> str | None:
    scheme, _, token = header.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    token = token.strip().rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    try:
        text = b64decode(token + b"=" * (-len(token) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return text.partition(":")[0].strip() or None


class Callers:
    """Addresses of callers; ``X-Forwarded-For`` counts only if a trusted proxy set it."""

    def __init__(self, trusted_proxies: tuple[Network, ...]) -> None:
        self._trusted = trusted_proxies
        self._ipv4: dict[str, str | None] = {}

    def address(self, scope: Mapping[str, Any], forwarded_for: bytes | None) -> str:
        """The caller's address as text; empty if the server does not know it."""
        client = scope.get("client")
        peer: str = client[0] if client else ""
        if not self._trusted or forwarded_for is None or not self._trusts(peer):
            return peer
        hops = [hop.strip() for hop in forwarded_for.decode("latin-1").split(",")]
        for hop in reversed(hops):
            if _parse(hop) is None:
                return peer
            if not self._trusts(hop):
                return hop
            peer = hop
        return peer

    def ipv4(self, address: str) -> str | None:
        """The address in dotted form if it is IPv4, also one inside an IPv6 address; else None (§1.7)."""
        try:
            return self._ipv4[address]
        except KeyError:
            parsed = _parse(address)
        if isinstance(parsed, IPv6Address):
            parsed = parsed.ipv4_mapped
        text = None if parsed is None else str(parsed)
        if len(self._ipv4) >= _MAX_REMEMBERED:
            self._ipv4.clear()
        self._ipv4[address] = text
        return text

    def _trusts(self, address: str) -> bool:
        parsed = _parse(address)
        if parsed is None:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._trusted if network.version == parsed.version)


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address)
    except (ValueError, AddressValueError):
        return None
