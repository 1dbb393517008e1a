"""Ports for servers that tests start, and start again."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

_GIVEN_BY_THE_SYSTEM = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port N that is free now, and so is N + 1. It lies below those that the system gives to connections: one of them
    might have it by the time that the server listens, or while it is started anew."""
    end = int(_GIVEN_BY_THE_SYSTEM.read_text().split()[0]) - 1
    start = min(10_000, end // 2)
    while True:
        port = start + secrets.randbelow(end - start)  # not by `random`, which Hypothesis seeds in every process alike
        try:
            with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 1)):
                return port
        except OSError:
            continue
