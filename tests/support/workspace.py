"""Workspaces for tests, as YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def source(slug: str, write_key: str = "", **more: Any) -> dict[str, Any]:
    return {"slug": slug, "name": slug, "type": "http", "write_keys": [write_key or f"wk_{slug}"], **more}


def webhook(slug: str, url: str, sources: Sequence[str], *, enabled: bool = True, **settings: Any) -> dict[str, Any]:
    return {
        "slug": slug,
        "name": slug,
        "type": "webhook",
        "sources": list(sources),
        "enabled": enabled,
        "settings": {"url": url, **settings},
    }


def workspace(sources: Sequence[Mapping[str, Any]], destinations: Sequence[Mapping[str, Any]], **more: Any) -> str:
    """JSON is YAML. Loopback is allowed. ``more``: further keys of the file."""
    return json.dumps(
        {
            "workspace": {"slug": "acme", "name": "Acme"},
            "sources": list(sources),
            "destinations": list(destinations),
            "egress": {"allow_private": ["127.0.0.0/8"]},
            **more,
        },
        indent=1,
    )
