"""The status of lanes: what the worker writes is what the command reads."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from trunkline.cli.lanes import print_lanes
from trunkline.observe.lanes import LanesError, LanesStatus, LaneStatus, decode_lanes, encode_lanes, notes_of

KEEPS_UP = LaneStatus(destination="ok", status="keeps up", concurrency=4, concurrency_max=16, in_flight=4)
DOWN = LaneStatus(
    destination="down",
    status="behind",
    circuit="open",
    open_for_s=150.0,
    last_reason="503",
    concurrency=1,
    concurrency_max=16,
    queued=5000,
    retrying=10_000,
)
HELD = LaneStatus(destination="off", status="held", held_by=["disabled", "state"], mode_reason="an insert function")
SLOW = LaneStatus(destination="slow", status="keeps up", paused_for_s=30.0, mode="bulk")


def printed(status: LanesStatus, *, stale: bool = False) -> str:
    out = StringIO()
    print_lanes(Console(file=out, width=80, markup=False, highlight=False, color_system=None), status, stale=stale)
    return out.getvalue()


def test_what_is_written_is_read_again() -> None:
    status = LanesStatus(at_ms=1, lanes=[KEEPS_UP, DOWN, HELD, SLOW])
    assert decode_lanes(encode_lanes(status)) == status
    assert status.of("down") == DOWN
    assert status.of("none") is None


def test_a_newer_worker_may_tell_more() -> None:
    text = b'{"at_ms": 5, "more": 1, "lanes": [{"destination": "a", "status": "behind", "news": true}]}'
    assert decode_lanes(text).lanes[0].status == "behind"


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"at_ms": 1}', b'{"at_ms": 1, "lanes": [{"destination": "a", "status": "x"}]}']
)
def test_what_is_none_of_ours_is_said(text: bytes) -> None:
    with pytest.raises(LanesError, match="cannot be read"):
        decode_lanes(text)


def test_it_is_stale_after_ten_seconds() -> None:
    status = LanesStatus(at_ms=1_000, lanes=[])
    assert not status.is_stale(11_000)
    assert status.is_stale(11_001)


def test_the_table_and_what_is_out_of_the_ordinary() -> None:
    text = printed(LanesStatus(at_ms=1, lanes=[KEEPS_UP, DOWN, HELD, SLOW]))
    assert max(len(line) for line in text.splitlines()) <= 80
    joined = " ".join(text.split())
    assert (
        "down: The circuit is open since 2 min: nearly all attempts failed, last with 503 Service unavailable" in joined
    )
    assert "off: Begins no attempt: it is disabled, the state cannot be committed" in joined
    assert "off: Forms no bulk batches: an insert function." in joined
    assert "slow: It waits for 30.0 s more: the destination asked for it" in joined
    assert "does not run" not in joined
    assert notes_of(KEEPS_UP) == []
    # A replay reads the archive all the while.
    assert notes_of(LaneStatus(destination="replay:r1", status="behind")) == []


def test_a_worker_that_is_gone_is_said_first() -> None:
    assert printed(LanesStatus(at_ms=0, lanes=[KEEPS_UP]), stale=True).startswith("The worker does not run")
    assert "No lane" in printed(LanesStatus(at_ms=0, lanes=[]))
