"""The values of ``format`` that are checked, as Segment's validator checks them (Go's ``xeipuuv/gojsonschema``).

Formats that are not listed here check nothing. All expressions take time in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

Format = Callable[[str], bool]

_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_CLOCK: Final = r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,][0-9]+)?"
_ZONE: Final = r"(?:Z|[+-]([0-9]{2}):([0-9]{2}))"
_TIME: Final = re.compile(rf"{_CLOCK}{_ZONE}?")
_DATE_TIME: Final = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})T({_CLOCK}{_ZONE})")
_PLAIN_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?Z"
)
"""Nearly all of them, and certainly right."""
_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_LABEL: Final = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)"
_HOSTNAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_HOSTNAME: Final = 255
_UUID: Final = re.compile(r"[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}")
_POINTER: Final = r"(?:/(?:[^~/]|~[01])*)*"
_JSON_POINTER: Final = re.compile(_POINTER)
_RELATIVE_POINTER: Final = re.compile(rf"(?:0|[1-9][0-9]*)(?:#|{_POINTER})")

_ATOM_CHARACTER: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]"
_ATOMS: Final = rf"{_ATOM_CHARACTER}+(?:\.{_ATOM_CHARACTER}+)*"
_QUOTED: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\x09\x20-\x7e])*"'
_ADDRESS: Final = rf"(?:{_ATOMS}|{_QUOTED})@(?:{_ATOMS}|\[[0-9a-fA-F:.]+\])"
_EMAIL: Final = re.compile(rf"(?:[ \t]*{_ADDRESS}|(?:{_ATOM_CHARACTER}|{_QUOTED}|[ \t.])*<{_ADDRESS}>)[ \t]*")

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")
_SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_BAD_HOST: Final = re.compile(r"[ \\^`{|}/?#]|%(?!25|[89a-fA-F])")
_USER: Final = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_PORT: Final = re.compile(r"(?::[0-9]*)?")


def _is_date(text: str) -> bool:
    found = _DATE.fullmatch(text)
    if found is None:
        return False
    year, month, day = (int(part) for part in found.groups())
    if not 1 <= month <= len(_DAYS):
        return False
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= day <= (29 if month == 2 and is_leap else _DAYS[month - 1])


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    if found is None:
        return False
    hour, minute, second, zone_hour, zone_minute = (int(part or 0) for part in found.groups())
    return hour < 24 and minute < 60 and second < 60 and zone_hour <= 24 and zone_minute < 60


def _is_date_time(text: str) -> bool:
    """Times alone and dates alone pass too."""
    if _PLAIN_DATE_TIME.fullmatch(text):
        return True
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return _is_date(text) or _is_time(text)
    return _is_date(found[1]) and _is_time(found[2])


def _is_hostname(text: str) -> bool:
    return len(text) <= _MAX_HOSTNAME and _HOSTNAME.fullmatch(text) is not None


def _is_email(text: str) -> bool:
    return _EMAIL.fullmatch(text) is not None


def _is_ip(text: str) -> bool:
    try:
        if ":" in text:
            IPv6Address(text)
        else:
            IPv4Address(text)
    except (AddressValueError, ValueError):
        return False
    return "%" not in text


def _is_ipv4(text: str) -> bool:
    return "." in text and _is_ip(text)


def _is_ipv6(text: str) -> bool:
    return ":" in text and _is_ip(text)


def _path_of_uri(text: str) -> tuple[str, str] | None:
    """Scheme and path; None if the text is no URI reference."""
    if _CONTROL.search(text) or "\\" in text:
        return None
    rest, _, fragment = text.partition("#")
    if _BAD_ESCAPE.search(fragment):
        return None
    found = _SCHEME.match(rest)
    scheme = found[1] if found else ""
    rest = rest[found.end() :] if found else rest
    rest, _, _ = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return scheme, ""
        if ":" in rest.partition("/")[0]:
            return None
    elif rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        if not _is_authority(authority):
            return None
        rest = slash + path
    return None if _BAD_ESCAPE.search(rest) else (scheme, rest)


def _is_authority(text: str) -> bool:
    user, at, host = text.rpartition("@")
    if at and (not _USER.fullmatch(user) or _BAD_ESCAPE.search(user)):
        return False
    if host.startswith("["):
        inside, closed, port = host[1:].rpartition("]")
        return bool(closed) and _PORT.fullmatch(port) is not None and _is_ipv6(inside.partition("%25")[0])
    name, colon, port = host.rpartition(":")
    if colon and not _PORT.fullmatch(colon + port):
        return False
    return not _BAD_HOST.search(name if colon else host) and not _BAD_ESCAPE.search(host)


def _is_uri(text: str) -> bool:
    found = _path_of_uri(text)
    return found is not None and found[0] != ""


def _is_uri_reference(text: str) -> bool:
    return _path_of_uri(text) is not None


def _is_uri_template(text: str) -> bool:
    found = _path_of_uri(text)
    if found is None:
        return False
    _, *opened = found[1].split("{")
    return not opened or "}" in opened[-1]


def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def _is_json_pointer(text: str) -> bool:
    return _JSON_POINTER.fullmatch(text) is not None


def _is_relative_pointer(text: str) -> bool:
    return _RELATIVE_POINTER.fullmatch(text) is not None


def _is_anything(text: str) -> bool:
    return True


FORMATS: Final[Mapping[str, Format]] = {
    "date": _is_date,
    "time": _is_time,
    "date-time": _is_date_time,
    "hostname": _is_hostname,
    "email": _is_email,
    "idn-email": _is_email,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "uri": _is_uri,
    "uri-reference": _is_uri_reference,
    "iri": _is_uri,
    "iri-reference": _is_uri_reference,
    "uri-template": _is_uri_template,
    "uuid": _is_uuid,
    "json-pointer": _is_json_pointer,
    "relative-json-pointer": _is_relative_pointer,
    "regex": _is_anything,
    "idn-hostname": _is_anything,
}
"""``regex`` is left to :mod:`trunkline.pipeline.schema_engine`; ``idn-hostname`` is one that gojsonschema has not."""
