"""The log between processes: what a reader sees, who may append, what kill -9 leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.unit.log.log_place import Place, new
from trunkline.log.base import INGESTED, LogLocked

WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from trunkline.clock import SystemClock
    from trunkline.log.base import NewRecord
    from trunkline.log.embedded import EmbeddedLog

    root, segment_bytes, appends, size = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    log = EmbeddedLog(root, SystemClock(), segment_bytes=segment_bytes)
    appender = log.appender("ingested", "p")
    number = appender.head
    print("open", number, flush=True)
    for _ in range(appends):
        appender.append([NewRecord(b"%08d" % (number + at) + b"x" * 100, {"web": 1}) for at in range(size)])
        number += size
        print(number, flush=True)
    sys.stdin.read()
    """
)


def start_writer(place: Place, appends: int, size: int = 3, failpoints: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place.root), str(place.segment_bytes), str(appends), str(size)],
        env={**os.environ, "TRUNKLINE_FAILPOINTS": failpoints},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(writer: subprocess.Popen[str]) -> list[int]:
    """Let a writer end; return what it said was durable."""
    out, _ = writer.communicate()
    return [int(line) for line in out.splitlines() if not line.startswith("open")]


def numbers(place: Place) -> list[int]:
    return [int(payload[:8]) for payload in place.payloads()]


def test_a_reader_follows_another_process_over_segments(tmp_path: Path) -> None:
    place = Place(tmp_path / "log", segment_bytes=2000)
    log = place.log()
    reader = log.reader(INGESTED, "p")
    assert reader.read(1000) == []
    writer = start_writer(place, 200)
    assert writer.stdout is not None
    seen: list[int] = []
    durable = 0
    for line in writer.stdout:
        durable = int(line.split()[-1])
        # All that the writer was told to be durable is there at once; what it was not told yet may be there.
        while len(seen) < durable:
            found = reader.read(700)
            assert found, f"{durable} records are durable, but the reader ends after {len(seen)}"
            seen += [int(record.payload[:8]) for record in found]
        if durable == 600:
            break
    assert seen == list(range(600))
    assert reader.read(1000) == []
    assert len(place.segments) > 10
    assert log.totals(INGESTED, "p").counts == {"web": 600}
    writer.communicate()
    reader.close()


def test_a_reader_in_another_process_sees_no_append_before_it_is_durable(place: Place) -> None:
    """The writer stands still after its write and before its sync: its bytes are in the file, and nobody reads them."""
    script = WRITER.replace(
        "for _ in",
        "import os; real = os.fdatasync\n"
        'def slow(fd):\n    print("written", flush=True); sys.stdin.readline(); real(fd)\n'
        "os.fdatasync = slow\nfor _ in",
        1,
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(place.root), str(place.segment_bytes), "2", "3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open 0\n"
    for durable in (0, 3):
        assert writer.stdout.readline() == "written\n"
        (segment,) = place.segments
        assert b"%08d" % durable in segment.read_bytes()
        assert numbers(place) == list(range(durable))
        assert place.log().totals(INGESTED, "p").counts.get("web", 0) == durable
        assert place.check() == []
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == f"{durable + 3}\n"
    assert numbers(place) == list(range(6))
    writer.communicate()


def test_another_process_holds_the_appender_until_it_ends(place: Place) -> None:
    writer = start_writer(place, 1)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open 0\n"
    with pytest.raises(LogLocked, match=f"process {writer.pid} appends"):
        place.appender()
    assert place.log().appender(INGESTED, "other").append([new(b"x")]) == [0]
    assert writer.stdout.readline() == "3\n"
    writer.kill()
    writer.communicate()
    assert numbers(place) == [0, 1, 2], "without any appender the log is read up to the durable head"
    assert place.log().totals(INGESTED, "p").counts == {"web": 3}
    assert place.appender().head == 3


FAILPOINTS = [
    "log.append.before_write",
    "log.append.after_write",
    "log.append.after_fsync",
    "log.roll.before_fsync",
    "log.roll.after_fsync",
]


@pytest.mark.parametrize("nth", [1, 2, 7])
@pytest.mark.parametrize("name", FAILPOINTS)
def test_a_kill_at_every_step_loses_nothing_that_was_durable(tmp_path: Path, name: str, nth: int) -> None:
    place = Place(tmp_path / "log", segment_bytes=2000)
    writer = start_writer(place, 60, failpoints=f"{name}=kill@{nth}")
    told = finish(writer)
    assert writer.returncode == -signal.SIGKILL
    acked = told[-1] if told else 0
    assert numbers(place) == list(range(acked)), "readers see what was published, before anybody mends"
    assert place.check() == []
    appender = place.appender()
    found = numbers(place)
    assert found == list(range(len(found)))
    assert acked <= len(found) <= acked + 3
    assert appender.head == len(found)
    appender.append([new(b"%08d" % appender.head)])
    assert place.check() == []
    assert place.log().totals(INGESTED, "p").counts == {"web": len(found) + 1}
    place.close()


def test_kill_at_random_moments_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    place = Place(tmp_path / "log", segment_bytes=3000)
    acked = 0
    for round_number in range(12):
        writer = start_writer(place, 10_000)
        assert writer.stdout is not None
        for _ in range(1 + 7 * round_number):
            acked = int(writer.stdout.readline().split()[-1])
        writer.kill()
        acked = max([acked, *finish(writer)])
        found = numbers(place)
        assert found == list(range(len(found)))
        assert len(found) >= acked
    appender = place.appender()
    assert numbers(place) == list(range(appender.head))
    assert appender.head >= acked
    assert place.check() == []
    place.close()


def test_retention_by_another_process_moves_a_reader_on(tmp_path: Path) -> None:
    place = Place(tmp_path / "log", segment_bytes=1000)
    appender = place.appender()
    for number in range(40):
        appender.append([new(b"%08d" % number + b"x" * 300)])
    fresh, inside, at_end = (place.log().reader(INGESTED, "p") for _ in range(3))
    inside.read(1)
    at_end.read(1_000_000, int(place.segments[1].stem))
    script = """
        import sys
        from pathlib import Path
        from trunkline.clock import SystemClock
        from trunkline.log.embedded import EmbeddedLog
        log = EmbeddedLog(Path(sys.argv[1]), SystemClock())
        print(log.retain("ingested", "p", consumed=35, older_than_ms=0, max_bytes=0))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(place.root)], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) > 0
    oldest = int(place.segments[0].stem)
    assert 10 < oldest <= 35
    assert fresh.read(1)[0].position == oldest
    assert at_end.read(1)[0].position == oldest
    last = [record.position for record in inside.read(1_000_000)]
    assert last == [*range(1, int(last[last.index(oldest) - 1]) + 1), *range(oldest, 40)]
    assert appender.append([new(b"y")]) == [40]
    for reader in (fresh, inside, at_end):
        assert reader.read(1_000_000)[-1].position == 40
        reader.close()
