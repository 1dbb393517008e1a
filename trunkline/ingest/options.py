"""How the Tracking API behaves where an operator may choose."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from trunkline.settings import Settings

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """Sizes in bytes, times in seconds; see :class:`trunkline.settings.Settings` for what each one means."""

    unknown_key_status: int = 200
    body_timeout_s: float = 30.0
    header_timeout_s: float = 10.0
    keep_alive_s: float = 75.0
    trusted_proxies: tuple[Network, ...] = ()
    max_connections: int = 4096
    max_header_bytes: int = 64 * 1024
    """Request line and headers together; beyond it 431."""
    max_reading_bytes: int = 64 * 2**20
    """Bodies that are being received, all connections together; beyond it 429."""
    retry_after_s: int = 1
    """What 429 and 503 tell the client to wait."""

    @classmethod
    def from_settings(cls, settings: Settings) -> IngestOptions:
        return cls(
            unknown_key_status=settings.unknown_key_status,
            body_timeout_s=settings.body_timeout_s,
            header_timeout_s=settings.header_timeout_s,
            trusted_proxies=settings.trusted_proxies,
            max_connections=settings.max_connections,
            max_reading_bytes=settings.ingest_queue_bytes,
        )
