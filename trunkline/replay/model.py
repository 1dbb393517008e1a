"""What a replay is, and the file that says so: ``<data>/replays/<id>.json``.

Only the command line writes it, the worker follows it. What became of the events is in the state, under the replay's
own lane.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from trunkline.files import write_atomically
from trunkline.replay.errors import SpecDamaged
from trunkline.state.base import LaneState, place_of

REPLAY_PARTITION: Final = "replay"
"""Stands for the accepted log's partition in the state of a replay's lane: its places are those of the archive."""
KEY_PREFIX: Final = "replay:"
VERSION: Final = 1

Wanted = Literal["run", "pause", "cancel"]
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,199}")


class PlaceRange(msgspec.Struct, frozen=True):
    """Events of a source whose place in the accepted log is in [``first``, ``end``)."""

    source: str
    first: int
    end: int


class ReplaySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A replay. ``since_ms`` and ``until_ms`` bound receivedAt (half open); ``ranges`` not empty: only events in one
    of them; ``types`` and ``names`` empty: all. ``selected`` are the events of its plan by source; ``end`` is the
    position behind the plan's last member; ``wanted`` is what the operator wants of it."""

    version: int = VERSION
    id: str
    destination: str
    sources: list[str]
    since_ms: int | None = None
    until_ms: int | None = None
    types: list[str] = []
    names: list[str] = []
    ranges: list[PlaceRange] = []
    events_per_s: float | None = None
    created_at_ms: int
    wanted: Wanted = "run"
    selected: dict[str, int] = {}
    end: int = 0

    @property
    def key(self) -> str:
        """The name of its lane in the state."""
        return KEY_PREFIX + self.id

    @property
    def end_state(self) -> LaneState:
        """The state of its lane when nothing is left to read."""
        return LaneState(self.key, REPLAY_PARTITION, place_of(self.end, 0))


def is_replay(lane_key: str) -> bool:
    """Whether a lane in the state is a replay's: a destination's slug holds no colon."""
    return lane_key.startswith(KEY_PREFIX)


def spec_path(directory: Path, replay_id: str) -> Path:
    return directory / f"{replay_id}.json"


def plan_path(directory: Path, replay_id: str) -> Path:
    return directory / f"{replay_id}.plan"


def new_id(destination: str, now_ms: int, taken: Collection[str]) -> str:
    """Date, time and destination: sorts by age, and says what it is."""
    first = f"{datetime.fromtimestamp(now_ms // 1000, UTC):%Y%m%d-%H%M%S}-{destination}"[:190]
    candidate, number = first, 1
    while candidate in taken:
        number += 1
        candidate = f"{first}-{number}"
    return candidate


def replay_ids(directory: Path) -> list[str]:
    """The replays that there are, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(path.stem for path in directory.glob("*.json") if _ID.fullmatch(path.stem))


def read_spec(directory: Path, replay_id: str) -> ReplaySpec:
    """Raises SpecDamaged."""
    path = spec_path(directory, replay_id)
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=ReplaySpec)
    except (OSError, msgspec.MsgspecError) as error:
        raise SpecDamaged(f"{path}: cannot be read: {error}. Restore it from a backup") from error
    if spec.version != VERSION:
        raise SpecDamaged(f"{path}: of version {spec.version}; this program reads {VERSION}. Run the newer one")
    if spec.id != replay_id:
        raise SpecDamaged(f"{path}: is of replay {spec.id!r}: give the file its own name back")
    return spec


def write_spec(directory: Path, spec: ReplaySpec) -> None:
    """Durably. Raises OSError."""
    content = msgspec.json.format(msgspec.json.encode(spec), indent=2)
    write_atomically(spec_path(directory, spec.id), content + b"\n", durable=True)
