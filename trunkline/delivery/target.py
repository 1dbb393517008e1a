"""The address of a request, read so that nobody can read it in another way, and judged as far as names allow.

Parsers differ in what they make of a backslash, a second ``@``, a tab inside of a host or a port of other digits than
0 to 9; whatever could be read in two ways is refused. A host that is an IP literal is judged here, because it is never
resolved; a name is judged by the addresses that it resolves to.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import urljoin

from yarl import URL

from trunkline.delivery.egress import EgressPolicy, EgressRefused

MAX_LENGTH: Final = 8192
_BEGINNING: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)", re.ASCII)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:", re.ASCII)
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]@%\\]+))(?::([0-9]{0,5}))?", re.ASCII)
_HOST: Final = re.compile(r"[a-z0-9._-]+", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def judge(text: str, policy: EgressPolicy) -> URL:
    """The parsed address. Raises EgressRefused, whose text never holds more of the address than its host and port."""
    _check_characters(text)
    beginning = _BEGINNING.match(text)
    if beginning is None:
        raise EgressRefused("the address does not start with http:// or https:// and a host")
    scheme, authority = beginning[1].lower(), beginning[2]
    policy.check_scheme(scheme)
    if "@" in authority:
        raise EgressRefused("the address holds a user name; send an Authorization header instead")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise EgressRefused("the address has no host, or a host or port in no usual form; write https://host:port/path")
    literal, name, port_text = parts.groups()
    port = int(port_text) if port_text else _DEFAULT_PORTS[scheme]
    policy.check_port(port)
    try:
        url = URL(text)
        host = url.raw_host or ""
    except ValueError:
        raise EgressRefused("the address can't be read; check its host") from None
    if literal is not None:
        _check_ipv6(literal, host, policy)
    else:
        _check_name(name, host, policy)
    if url.scheme != scheme or url.port != port or url.raw_user is not None:
        raise EgressRefused("the address can be read in two ways; write https://host:port/path")
    return url


def resolve_location(base: URL, location: str) -> str:
    """The address that a redirect leads to, still to be judged. Raises EgressRefused."""
    _check_characters(location)
    if _ABSOLUTE.match(location):
        return location  # as it is: joining would mend what is broken
    try:
        return urljoin(str(base), location)
    except ValueError:
        raise EgressRefused("the redirect's address can't be read") from None


def is_literal(url: URL) -> bool:
    """Whether the host of a judged address is an IP literal, which is never resolved."""
    host = url.raw_host or ""
    return ":" in host or _ends_in_number(host)


def _check_characters(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise EgressRefused(f"the address is longer than {MAX_LENGTH} characters")
    if "\\" in text or any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise EgressRefused("the address holds a line break, a backslash or another character that none may hold")


def _check_ipv6(literal: str, host: str, policy: EgressPolicy) -> None:
    try:
        address = IPv6Address(literal)
        same = IPv6Address(host) == address
    except ValueError:
        raise EgressRefused(f"[{literal[:60]}] is no IPv6 address") from None
    if not same:
        raise EgressRefused("the address can be read in two ways; write https://host:port/path")
    policy.check(str(address))


def _check_name(name: str, host: str, policy: EgressPolicy) -> None:
    """``host`` is what the client makes of ``name``: in lower case, in IDNA's form."""
    if not _HOST.fullmatch(host) or (name.isascii() and name.lower() != host):
        raise EgressRefused("the address has a host of other characters than letters, digits, hyphens and dots")
    if not _ends_in_number(host):
        return
    # 127.1, 2130706433, 0177.0.0.1 and ①②⑦.0.0.1 are 127.0.0.1 to the system: there is one way to write an address.
    try:
        policy.check(str(IPv4Address(name)))
    except ValueError:
        raise EgressRefused(
            f"{host[:60]} is no address in its usual form; write it as four numbers or as IPv6"
        ) from None


def _ends_in_number(host: str) -> bool:
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None
