"""What the lanes do at the moment, as the worker writes it for whoever looks: ``<data>/run/lanes.json``."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from trunkline.observe.wording import duration_text
from trunkline.replay.model import is_replay
from trunkline.spec.delivery_codes import text_of

STALE_AFTER_MS: Final = 10_000
"""The worker writes every 2 s; a file that is older speaks of a worker that does not run."""
LANES_FILE: Final = "lanes.json"
"""Its name in the data directory's ``run``."""


_HELD_BY: Final = {
    "disabled": "it is disabled",
    "state": "the state cannot be committed, see the worker's log",
    "draining": "the worker is stopping",
    "deleted": "it was deleted",
    "paused": "it is paused",
}


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


def notes_of(lane: LaneStatus) -> list[str]:
    """What is out of the ordinary, a sentence each."""
    notes = []
    if lane.status == "held":
        notes.append(f"Begins no attempt: {held_text(lane.held_by)}.")
    elif lane.status == "behind" and not is_replay(lane.destination):
        notes.append("Has fallen behind the newest events and reads the log by itself.")
    if lane.circuit != "closed":
        why = f", last with {lane.last_reason} {text_of(lane.last_reason).title}" if lane.last_reason else ""
        notes.append(
            f"The circuit is {lane.circuit} since {duration_text(lane.open_for_s * 1000)}: nearly all attempts "
            f"failed{why}. One attempt probes it now and then; events wait."
        )
    if lane.paused_for_s > 0:
        wait = duration_text(lane.paused_for_s * 1000)
        notes.append(f"It waits for {wait} more: the destination asked for it, or the rate limit is used up.")
    if lane.mode == "bulk":
        notes.append("Sends bulk batches.")
    elif lane.mode_reason:
        notes.append(f"Forms no bulk batches: {lane.mode_reason}.")
    return notes


def held_text(held_by: list[str]) -> str:
    """Why a lane is held, in words."""
    return ", ".join(_HELD_BY.get(reason, reason) for reason in held_by) or "the reason is not known"
