"""A disk that is full, and a disk that is broken."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.small_disk import mount_small_disk
from tests.unit.log.log_place import Place, new
from trunkline.log.base import INGESTED, LogError, LogFull
from trunkline.log.embedded import appender as appender_module


def failing(place_name: str, times: int = 1, error: int = errno.ENOSPC) -> Callable[[str], None]:
    """A failpoint that raises the first few times it is passed."""
    left = times

    def failpoint(name: str) -> None:
        nonlocal left
        if name == place_name and left:
            left -= 1
            raise OSError(error, os.strerror(error))

    return failpoint


PLACES = ["log.append.before_write", "log.append.after_write", "log.append.after_fsync"]
ROLL_PLACES = ["log.roll.before_fsync", "log.roll.after_fsync"]


@pytest.mark.parametrize("at", [*PLACES, *ROLL_PLACES])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_leaves_the_log_as_it_was_and_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, error: int
) -> None:
    place = Place(tmp_path / "log", segment_bytes=300)
    appender = place.appender()
    appender.append([new(b"one" * 90, web=1)])
    appender.append([new(b"two" * 10, web=2)])
    before = place.read()
    monkeypatch.setattr(appender_module, "failpoint", failing(at, 2, error))
    for _ in range(1 if at == "log.roll.after_fsync" else 2):  # a new segment that was made stays
        with pytest.raises(LogFull):
            appender.append([new(b"three" * 60, web=50), new(b"four", app=60)])
        assert place.read() == before
        assert place.check() == []
        assert appender.head == 2
        assert place.log().totals(INGESTED, "p").counts == {"web": 3}
    assert appender.append([new(b"five" * 60, web=4)]) == [2]
    appender.close()
    assert place.payloads() == [b"one" * 90, b"two" * 10, b"five" * 60]
    assert place.check() == []
    assert place.appender().head == 3
    assert place.log().totals(INGESTED, "p").counts == {"web": 7}


@pytest.mark.parametrize("at", PLACES)
def test_another_write_error_ends_the_appender(place: Place, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    appender = place.appender()
    appender.append([new(b"one")])
    monkeypatch.setattr(appender_module, "failpoint", failing(at, 1, errno.EIO))
    for _ in range(2):
        with pytest.raises(LogError, match="open the partition anew") as caught:
            appender.append([new(b"two")])
        assert not isinstance(caught.value, LogFull)
    appender.close()
    again = place.appender()
    assert again.head == 1
    again.append([new(b"three")])
    assert place.payloads() == [b"one", b"three"]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_ends_the_appender(place: Place, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    appender = place.appender()
    appender.append([new(b"one")])
    real = os.fdatasync

    def broken(fd: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(LogError, match="could not be synced") as caught:
        appender.append([new(b"two")])
    assert not isinstance(caught.value, LogFull)
    monkeypatch.setattr(os, "fdatasync", real)
    with pytest.raises(LogError, match="could not be synced"):
        appender.append([new(b"three")])
    assert place.payloads() == [b"one"]
    appender.close()
    again = place.appender()
    assert again.head == 1, "what could not be synced is not trusted later"
    again.append([new(b"four")])
    assert place.payloads() == [b"one", b"four"]
    assert place.check() == []


def test_an_interrupted_append_ends_the_appender(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    appender = place.appender()

    def interrupt(name: str) -> None:
        if name == "log.append.after_write":
            raise KeyboardInterrupt

    monkeypatch.setattr(appender_module, "failpoint", interrupt)
    with pytest.raises(KeyboardInterrupt):
        appender.append([new(b"one")])
    with pytest.raises(LogError, match="interrupted"):
        appender.append([new(b"two")])
    assert place.payloads() == []


def test_an_append_that_is_too_large_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender_module, "MAX_BLOCK_BYTES", 1000)
    appender = place.appender()
    with pytest.raises(LogError, match="1001 bytes"):
        appender.append([new(b"x" * 1001)])
    assert appender.append([new(b"x" * 1000)]) == [0]


def test_the_environments_failpoint_fills_the_disk_once(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from trunkline.clock import SystemClock
        from trunkline.log.base import LogFull, NewRecord
        from trunkline.log.embedded import EmbeddedLog

        log = EmbeddedLog(Path(sys.argv[1]), SystemClock())
        appender = log.appender("ingested", "p")
        for number in range(3):
            try:
                appender.append([NewRecord(b"%d" % number, {"web": 1})])
            except LogFull as error:
                print("full", number, error)
        print([record.payload for record in log.reader("ingested", "p").read(100)])
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        env={**os.environ, "TRUNKLINE_FAILPOINTS": "log.append.after_write=enospc@2"},
        capture_output=True,
        text=True,
        check=True,
    )
    full, seen = ran.stdout.splitlines()
    assert full.startswith("full 1 ")
    assert seen == "[b'0', b'2']"


def test_a_short_write_is_taken_back(tmp_path: Path) -> None:
    """With a limit on the size of files the kernel writes a part and then refuses, as a disk does that fills up."""
    script = """
        import resource, sys
        from pathlib import Path
        from trunkline.clock import SystemClock
        from trunkline.log.base import LogFull, NewRecord
        from trunkline.log.embedded import EmbeddedLog

        log = EmbeddedLog(Path(sys.argv[1]), SystemClock())
        appender = log.appender("ingested", "p")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        appender.append([NewRecord(b"one" * 1000, {"web": 1})])
        size = log.size_bytes("ingested")
        for _ in range(2):
            try:
                appender.append([NewRecord(b"two" * 5000, {"web": 1})])
            except LogFull as error:
                assert "too large" in str(error), error
                assert log.size_bytes("ingested") == size
                print("full")
        appender.append([NewRecord(b"three" * 1000, {"web": 1})])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        appender.append([NewRecord(b"four", {"web": 1})])
        assert log.check("ingested", "p") == []
        print([record.payload[:4] for record in log.reader("ingested", "p").read(100_000)])
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == ["full", "full", "[b'oneo', b'thre', b'four']"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    with mount_small_disk(tmp_path / "small", 1 << 20) as path:
        yield path


@pytest.mark.parametrize("segment_bytes", [50_000, 10_000_000])
def test_a_disk_that_is_really_full(small_disk: Path, segment_bytes: int) -> None:
    place = Place(small_disk / "log", segment_bytes)
    appender = place.appender()
    appended = 0
    for _ in range(2):
        refused = 0
        while refused < 3:
            assert appended < 1000
            try:
                appender.append([new(b"%06d" % (appended + at) + b"x" * 3000, web=1) for at in range(3)])
                appended += 3
            except LogFull:
                refused += 1
                assert [int(payload[:6]) for payload in place.payloads()][-1] == appended - 1
        assert place.check() == []
        assert place.log().totals(INGESTED, "p").counts == {"web": appended}
        # A smaller append may still fit; a restart must work without any room at all.
        (small_disk / "filler").write_bytes(b"")
        with (small_disk / "filler").open("r+b", buffering=0) as filler:
            try:
                while filler.write(bytes(512)):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017
        appender.close()
        appender = place.appender()
        assert appender.head == appended
        with pytest.raises(LogFull):
            appender.append([new(b"y" * 5000)])
        with pytest.raises(LogFull):
            place.log().appender(INGESTED, "another")
        (small_disk / "filler").unlink()
        if segment_bytes == 10_000_000:
            break
        assert place.log().retain(INGESTED, "p", consumed=10**9, older_than_ms=0, max_bytes=200_000) > 0
    if segment_bytes == 50_000:
        appender.append([new(b"again", web=1)])
        assert place.payloads()[-1] == b"again"
        assert place.log().totals(INGESTED, "p").counts == {"web": appended + 1}
    assert place.check() == []
    place.close()
