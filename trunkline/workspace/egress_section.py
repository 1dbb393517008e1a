"""The keys under ``egress``: what outgoing requests may reach, and how they leave."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from trunkline.secrets import is_masked, mask
from trunkline.workspace import vocabulary
from trunkline.workspace.model import Address, EgressProxy, EgressRules, Network
from trunkline.workspace.problem import shown
from trunkline.workspace.yaml_tree import At, Broken, items

ReadSection = Callable[[At, vocabulary.Section], dict[str, At] | None]
Say = Callable[[At, str, str], None]
"""Reports a place, a reason and a mend."""
ReadText = Callable[[At, tuple[str, ...]], str | None]
"""A text, or what a reference stands for; the steps are those of the reference's path."""

HIGHEST_PORT: Final = 65_535
_PROXY: Final = "proxy: {url: http://proxy.example:3128}"


class EgressSection:
    """``section`` reads a mapping against its vocabulary; what is wrong is refused, and left out."""

    def __init__(self, section: ReadSection, text: ReadText, refuse: Say, note: Say) -> None:
        self._section = section
        self._text = text
        self._refuse = refuse
        self._note = note

    def rules(self, at: At | None) -> EgressRules:
        keys = (self._section(at, vocabulary.EGRESS) or {}) if at else {}
        return EgressRules(
            allow_private=self._networks(keys.get("allow_private")),
            allow_ports=self._ports(keys.get("allow_ports")),
            https_only=self._https_only(keys.get("https_only")),
            source_address=self._source_addresses(keys.get("source_address")),
            proxy=self._proxy(keys.get("proxy")),
        )

    def _networks(self, at: At | None) -> tuple[Network, ...]:
        networks: list[Network] = []
        for item in self._list(at):
            text = self._plain_text(item)
            if text is None:
                continue
            try:
                networks.append(ip_network(text))
            except ValueError:
                self._refuse(item, f"not a network: {shown(text)}", _network_mend(text))
        return tuple(networks)

    def _ports(self, at: At | None) -> tuple[int, ...]:
        ports: set[int] = set()
        for item in self._list(at):
            value = item.node.value
            if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= HIGHEST_PORT:
                ports.add(value)
            elif not isinstance(value, Broken):
                self._refuse(item, "not a port", f"Write a whole number from 1 to {HIGHEST_PORT}, without quotes")
        return tuple(sorted(ports))

    def _https_only(self, at: At | None) -> bool:
        if at is not None and not isinstance(at.node.value, bool | Broken):
            self._refuse(at, "true or false is wanted here", "Write https_only: true, or leave the key out")
        return at is not None and at.node.value is True

    def _source_addresses(self, at: At | None) -> tuple[Address, ...]:
        listed = self._list(at) if at and isinstance(at.node.value, list) else [at] if at else []
        found: dict[int, Address] = {}
        for item in listed:
            text = self._plain_text(item)
            address = self._source_address(item, text) if text is not None else None
            if address is None:
                continue
            if address.version in found:
                reason = f"a second IPv{address.version} address"
                self._refuse(item, reason, "List one IPv4 and one IPv6 address at most")
                continue
            found[address.version] = address
            if (error := bind_error(address)) is not None:
                mend = "Give this machine the address, or list one that it has; requests fail until then"
                self._note(item, f"{address} can't be bound here ({error})", mend)
        return tuple(found[version] for version in sorted(found))

    def _source_address(self, at: At, text: str) -> Address | None:
        try:
            address = ip_address(text)
        except ValueError:
            mend = "Write an address that this machine has, such as 192.0.2.10"
            self._refuse(at, f"not an address: {shown(text)}", mend)
            return None
        scoped = address.version == 6 and (address.scope_id is not None or address.ipv4_mapped is not None)
        if scoped or address.is_unspecified or address.is_multicast or address.is_link_local:
            self._refuse(at, f"{shown(text)} is no address to send from", "Write one that peers could answer to")
            return None
        return address

    def _proxy(self, at: At | None) -> EgressProxy | None:
        if at is None:
            return None
        if not isinstance(at.node.value, dict | Broken):
            self._refuse(at, "a mapping is wanted here", f"Write {_PROXY}")
            return None
        keys = self._section(at, vocabulary.EGRESS_PROXY)
        if keys is None:
            return None
        url = self._proxy_url(at, keys.get("url"))
        username = self._credential(keys.get("username"), "username")
        password = self._credential(keys.get("password"), "password")
        if "password" in keys and "username" not in keys:
            self._refuse(keys["password"], "a password without a user name", "Add username")
        if username is not None and ":" in username:
            self._refuse(keys["username"], "a user name can't hold a colon", "Ask the proxy's owner for another name")
        return EgressProxy(url, username, password) if url is not None else None

    def _proxy_url(self, proxy: At, at: At | None) -> str | None:
        if at is None:
            self._refuse(proxy, "the proxy's url is missing", f"Write {_PROXY}")
            return None
        text = self._plain_text(at)
        if text is None:
            return None
        mend = "Write it as http://host:port"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            self._refuse(at, "not an address", mend)
            return None
        if parts.scheme != "http":
            mend += "; the connection through it is encrypted all the same when the destination's address is https"
            self._refuse(at, "not the address of an HTTP proxy", mend)
        elif parts.username is not None or parts.password is not None:
            self._refuse(at, "holds a user name or password", "Put them under username and password")
        elif not parts.hostname or port == 0 or not text.isascii() or not text.isprintable() or " " in text:
            self._refuse(at, "not an address", mend)
        elif parts.path not in ("", "/") or parts.query or parts.fragment:
            self._refuse(at, "more than a host and a port", mend)
        else:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"http://{host}:{port or 80}"
        return None

    def _credential(self, at: At | None, key: str) -> str | None:
        if at is None:
            return None
        value = self._text(at, ("egress", "proxy", key))
        if value is None:
            return None
        if is_masked(value):
            mend = "Put the value itself here, or a reference such as {env: NAME}"
            self._refuse(at, "a masked value, as an export shows it", mend)
        elif not value.isprintable():
            self._refuse(at, "more than one line, or characters that can't be printed", "Write a text of one line")
        else:
            return value
        return None

    def _list(self, at: At | None) -> list[At]:
        if at is not None and not isinstance(at.node.value, list | Broken):
            self._refuse(at, "a list is wanted here", "Write it as [one, another], or each on a line after a hyphen")
        return items(at)

    def _plain_text(self, at: At) -> str | None:
        if isinstance(at.node.value, str) and at.node.value:
            return at.node.value
        if not isinstance(at.node.value, Broken):
            self._refuse(at, "text is wanted here", "Put it in quotes")
        return None


def bind_error(address: Address) -> str | None:
    """Why connections can't leave from this address of ours; None when they can."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def egress_keys(rules: EgressRules, *, show_secrets: bool) -> dict[str, Any]:
    """The keys that :meth:`EgressSection.rules` reads these from; those that say nothing are left out."""
    addresses = [str(address) for address in rules.source_address]
    keys: dict[str, Any] = {
        "allow_private": [str(network) for network in rules.allow_private],
        "allow_ports": list(rules.allow_ports),
        "https_only": rules.https_only,
        "source_address": addresses[0] if len(addresses) == 1 else addresses,
        "proxy": _proxy_keys(rules.proxy, show_secrets=show_secrets) if rules.proxy else None,
    }
    return {key: value for key, value in keys.items() if value}


def _proxy_keys(proxy: EgressProxy, *, show_secrets: bool) -> Mapping[str, str]:
    password = proxy.password if show_secrets or proxy.password is None else mask(proxy.password)
    keys = {"url": proxy.url, "username": proxy.username, "password": password}
    return {key: value for key, value in keys.items() if value is not None}


def _network_mend(text: str) -> str:
    try:
        return f"Write {ip_network(text, strict=False)}"
    except ValueError:
        return "Write it as 127.0.0.0/8 or 192.0.2.7"
