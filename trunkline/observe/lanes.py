"""What the lanes do at the moment, as the worker writes it for whoever looks: ``<data>/run/lanes.json``."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

STALE_AFTER_MS: Final = 10_000
"""The worker writes every 2 s; a file that is older speaks of a worker that does not run."""
LANES_FILE: Final = "lanes.json"
"""Its name in the data directory's ``run``."""


class LanesError(Exception):
    """The file is none of ours, or of another version."""


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One destination's lane; a replay's destination is ``replay:<id>``.

    ``held_by``: why no attempt is begun, empty unless ``status`` is ``held``. ``mode_reason``: why it does not form
    bulk batches although it is set to, else empty. ``open_for_s``: since when the circuit has not been closed.
    ``last_reason``: of the last failed attempt, empty when there was none. ``paused_for_s``: how long the rate limit
    still makes it wait. ``queued``, ``in_flight`` and ``retrying`` are events; what still lies in the log is not among
    them.
    """

    destination: str
    status: Literal["keeps up", "behind", "held"]
    held_by: list[str] = []
    mode: Literal["stream", "bulk"] = "stream"
    mode_reason: str = ""
    circuit: Literal["closed", "open", "half-open"] = "closed"
    open_for_s: float = 0.0
    last_reason: str = ""
    concurrency: int = 0
    concurrency_max: int = 0
    paused_for_s: float = 0.0
    queued: int = 0
    in_flight: int = 0
    retrying: int = 0


class LanesStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All lanes that have work, or had some lately, at one moment of the wall clock."""

    at_ms: int
    lanes: list[LaneStatus]

    def is_stale(self, now_ms: int) -> bool:
        """Whether the worker that wrote this is gone."""
        return now_ms - self.at_ms > STALE_AFTER_MS

    def of(self, destination: str) -> LaneStatus | None:
        return next((lane for lane in self.lanes if lane.destination == destination), None)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(LanesStatus)


def encode_lanes(status: LanesStatus) -> bytes:
    """What :data:`LANES_FILE` holds. Write it to a file beside it and rename."""
    return _encoder.encode(status)


def decode_lanes(text: bytes) -> LanesStatus:
    """Raises LanesError."""
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise LanesError(f"cannot be read: {error}. Run the version of trunkline that serves.") from error
