"""Fixtures of this suite."""

from __future__ import annotations

from tests.support.fixtures import make_server, sink

__all__ = ["make_server", "sink"]
