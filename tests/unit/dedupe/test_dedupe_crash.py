"""Kills and full disks at every failpoint of the room, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.dedupe.dedupe_child import FIRST, NEXT, open_and_restore, read_envelopes
from trunkline.failpoints import ENVIRONMENT_VARIABLE

CHILD = Path(__file__).with_name("dedupe_child.py")
ROUNDS = 12

PLACES = [
    "dedupe.flush.before_fsync=@4",
    "dedupe.flush.after_fsync=@4",
    "dedupe.manifest.before_rename=@1",
    "dedupe.manifest.before_rename=@2",
    "dedupe.manifest.before_rename=@3",
    "dedupe.manifest.before_rename=@9",
    "dedupe.merge.before_fsync=@1",
    "dedupe.merge.after_fsync=@1",
]
AFTER = ["dedupe.manifest.after_rename=@1", "dedupe.manifest.after_rename=@7"]


def run_child(directory: Path, failpoints: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | {ENVIRONMENT_VARIABLE: failpoints}
    return subprocess.run(
        [sys.executable, str(CHILD), str(directory), str(ROUNDS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("power_cut", [False, True])
@pytest.mark.parametrize("place", PLACES + AFTER)
def test_a_kill_forgets_nothing(tmp_path: Path, place: str, power_cut: bool) -> None:
    result = run_child(tmp_path, place.replace("=@", "=kill@"))
    assert result.returncode == -signal.SIGKILL, result.stdout + result.stderr
    if power_cut:
        for path in (tmp_path / "index").glob("*.filter"):
            path.write_bytes(bytes(path.stat().st_size))
    index = open_and_restore(tmp_path)
    entries = read_envelopes(tmp_path)
    try:
        assert not any(index.add_new([key for key, _ in entries], [time_ms for _, time_ms in entries]))
        assert index.stats().lost_hours_ms == ()
        strays = {path.name for path in (tmp_path / "index").iterdir()}
        assert len(strays) <= index.stats().runs + 4
    finally:
        index.close()
    # And the next process goes on from there.
    result = run_child(tmp_path, "")
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "done None"), result.stdout + result.stderr
    assert len(read_envelopes(tmp_path)) == len(entries) + FIRST + (ROUNDS - 1) * NEXT


@pytest.mark.parametrize("place", [place for place in PLACES if place != "dedupe.manifest.before_rename=@1"])
def test_a_full_disk_forgets_nothing_and_heals(tmp_path: Path, place: str) -> None:
    result = run_child(tmp_path, place.replace("=@", "=enospc@"))
    assert result.returncode == 0, result.stdout + result.stderr
    *errors, last = result.stdout.splitlines()
    assert last.startswith("done")
    if "merge" in place:
        assert "dedupe.background_failed" in result.stdout
    elif flushes := [line for line in errors if line.startswith("Dedupe")]:
        assert len(flushes) == 1
        assert re.fullmatch(rf"DedupeFull .*No space left on device.* ({FIRST}|{NEXT}) .*", flushes[0])
    else:
        # The failure hit a merge's manifest, which is only tidying.
        assert "manifest" in place
        assert "dedupe.background_failed" in result.stdout
    index = open_and_restore(tmp_path)
    entries = read_envelopes(tmp_path)
    try:
        assert index.unflushed == 0
        assert not any(index.add_new([key for key, _ in entries], [time_ms for _, time_ms in entries]))
    finally:
        index.close()


def test_a_full_disk_at_creation_says_so(tmp_path: Path) -> None:
    result = run_child(tmp_path, "dedupe.manifest.before_rename=enospc@1")
    assert result.returncode == 1
    assert "DedupeFull: dedupe index" in result.stderr
    assert run_child(tmp_path, "").returncode == 0
