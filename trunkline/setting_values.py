"""Values of settings: read from what was written, and written out again.

What reads one, or is made here to read one within bounds, raises :class:`Refused`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final

Network = IPv4Network | IPv6Network

MIB: Final = 2**20
GIB: Final = 2**30

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


class Refused(Exception):
    """Why a value was refused: part of a sentence."""


def number(least: float, most: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise Refused("not a number")
        try:
            given = float(value)
        except (ValueError, OverflowError):
            raise Refused("not a number") from None
        if not math.isfinite(given) or not least <= given <= most:
            raise Refused(f"not between {least:g} and {most:g}")
        return given

    return parse


def whole_number(least: int, most: int) -> Callable[[object], int]:
    parse_number = number(least, most)

    def parse(value: object) -> int:
        given = parse_number(value)
        if given != int(given):
            raise Refused("not a whole number")
        return int(given)

    return parse


def size(least: int, most: int = 2**60) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str):
            match = _SIZE.fullmatch(value.strip())
            unit = _SIZE_UNITS.get(match[2].lower()) if match else None
            if match is None or unit is None:
                raise Refused("not a size; write bytes or a unit, such as 64MiB")
            value = math.floor(float(match[1]) * unit) if len(match[1]) < 20 else 2**62
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise Refused("not a size; write bytes or a unit, such as 64MiB")
        if not least <= value <= most:
            raise Refused(f"not between {least} and {most} bytes")
        return int(value)

    return parse


def one_of(*choices: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        for choice in choices:
            if not isinstance(value, bool) and str(value).strip() == str(choice):
                return choice
        raise Refused(f"not one of {', '.join(map(str, choices))}")

    return parse


def parse_switch(value: object) -> bool:
    switches = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    on = switches.get(str(value).strip().lower())
    if on is None:
        raise Refused("not true or false")
    return on


def parse_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Refused("not a text, or empty")
    return value.strip()


def parse_path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    text = parse_text(value)
    if "\0" in text:
        raise Refused("not a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise Refused("the home directory that ~ stands for is unknown") from None


def parse_networks(value: object) -> tuple[Network, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise Refused("not a list of networks")
    networks: list[Network] = []
    for item in value:
        try:
            if not isinstance(item, str | IPv4Network | IPv6Network):
                raise ValueError
            networks.append(ip_network(item))
        except ValueError:
            raise Refused(f"{item!r} is not a network such as 10.0.0.0/8 or 192.0.2.7") from None
    return tuple(networks)


def format_value(value: object) -> str:
    """A setting's value as one would write it in the environment; secrets must not come here."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= MIB:
        for unit, unit_bytes in (("GiB", GIB), ("MiB", MIB)):
            if value % unit_bytes == 0:
                return f"{value // unit_bytes}{unit}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
