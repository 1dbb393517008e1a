"""The dedupe index under load: speed, memory and time to restart.

    python benchmarks/dedupe.py [--keys 2000000] [--operations 200000] [--directory DIR]

1. Fill: ``--keys`` random keys, evenly over 24 hours, are written as runs through the index's own writer, filter
   growth and merges included, but without passing ``add_new`` (which would take 17 minutes for 100 million).
2. A fresh process opens the index and does look-ups with inserts, 2 % of them duplicates of keys on disk, in batches
   of 1, 10, 100 and 1,000, flushing whenever the index asks for it. Every answer is checked. Yardstick: the same keys
   against a bare dict in the same process.
3. That process is killed with SIGKILL while keys are unflushed; the time that the next one takes to open is measured.
   Then the same after an ordered close, after a power cut (another boot id, and the bits that were not synced cleared)
   and with the filter's file removed.

Keys are drawn beforehand; the cost of hashing a messageId is shown on a line of its own. 100 million keys need 2.6 GB
of disk and some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from trunkline.dedupe import DAY_MS, HOUR_MS, DedupeIndex, KeyMaker
from trunkline.dedupe.filter import SlicedFilter
from trunkline.dedupe.manifest import load
from trunkline.dedupe.rows import Rows
from trunkline.dedupe.store import Store

SECRET = b"benchmark"
HOURS = 24
FIRST_HOUR = 500_000
NOW_MS = (FIRST_HOUR + HOURS) * HOUR_MS - 1000
PIECE = 1_000_000
SAMPLE = 200_000


def fill(directory: Path, total: int) -> None:
    directory.mkdir(parents=True)
    store = Store(directory, secret_check=KeyMaker(SECRET).fingerprint)
    random = np.random.default_rng(1)
    sample: list[bytes] = []
    times: list[int] = []
    began = time.perf_counter()
    for hour in range(FIRST_HOUR, FIRST_HOUR + HOURS):
        left = total // HOURS
        while left:
            count = min(left, PIECE)
            left -= count
            hi = random.integers(0, 2**64, count, dtype=np.uint64)
            lo = random.integers(0, 2**64, count, dtype=np.uint64)
            rows = Rows(hi, lo, random.integers(0, HOUR_MS, count, dtype=np.uint32)).sorted()
            store.write([(hour, rows)], "fill")
            for at in random.integers(0, count, max(count * SAMPLE // total, 1)).tolist():
                sample.append(int(rows.hi[at]).to_bytes(8, "big") + int(rows.lo[at]).to_bytes(8, "big"))
                times.append(hour * HOUR_MS + int(rows.offset_ms[at]))
        store.sync_closed()
        while store.merge_some():
            pass
        print(f"  filled {(hour - FIRST_HOUR + 1) / HOURS:.0%}, {time.perf_counter() - began:.0f} s", flush=True)
    store.close()
    (directory / "sample.json").write_text(json.dumps([[key.hex() for key in sample], times]))


def resident() -> dict[str, int]:
    """Resident memory in MB: all, peak, anonymous, mapped files."""
    wanted = {"VmRSS": "rss", "VmHWM": "peak", "RssAnon": "anon", "RssFile": "file"}
    found: dict[str, int] = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in wanted:
            found[wanted[name]] = int(value.split()[0]) // 1024
    return found


def measure(directory: Path, operations: int) -> None:
    base = resident()
    sample = json.loads((directory / "sample.json").read_text())
    known = list(zip([bytes.fromhex(key) for key in sample[0]], sample[1], strict=True))
    del sample
    began = time.perf_counter()
    index = DedupeIndex(directory, secret=SECRET)
    print(f"  opened in {time.perf_counter() - began:.3f} s; {index.stats().keys:,} keys", flush=True)
    random = np.random.default_rng(os.getpid())
    for batch in (1, 10, 100, 1000):
        raw = random.bytes(16 * operations)
        keys = [raw[at : at + 16] for at in range(0, len(raw), 16)]
        expected = [True] * operations
        for at in range(0, operations, 50):
            keys[at] = known[int(random.integers(len(known)))][0]
            expected[at] = False
        times = [NOW_MS] * batch
        answers: list[bool] = []
        slowest = 0.0
        cpu = time.process_time()
        began = time.perf_counter()
        for start in range(0, operations, batch):
            call = time.perf_counter()
            answers += index.add_new(keys[start : start + batch], times)
            if index.should_flush:
                index.flush("bench")
            slowest = max(slowest, time.perf_counter() - call)
        spent = time.perf_counter() - began
        cpu = time.process_time() - cpu
        if answers != expected:
            wrong = sum(a != b for a, b in zip(answers, expected, strict=True))
            sys.exit(f"{wrong} wrong answers in batches of {batch}")
        table: dict[bytes, int] = {}
        began = time.perf_counter()
        for start in range(0, operations, batch):
            for key in keys[start : start + batch]:
                if key not in table:
                    table[key] = NOW_MS
        yardstick = time.perf_counter() - began
        del table
        print(
            f"  batches of {batch:>5}: {operations / spent:>9,.0f} a second, {spent / operations * 1e6:5.2f} us a key "
            f"({cpu / operations * 1e6:.2f} us of CPU, background included), "
            f"slowest call {slowest * 1e3:.1f} ms; {spent / yardstick:.1f} times a bare dict",
            flush=True,
        )
        del raw, keys, answers, expected
    maker = KeyMaker(SECRET)
    names = [f"ajs-next-1700000000000-{at:032x}" for at in range(100_000)]
    began = time.perf_counter()
    maker.keys(names)
    print(f"  hashing: {(time.perf_counter() - began) * 10:.2f} us a messageId")
    print(f"  memory before opening {base}, now {resident()}")
    print(f"  {index.stats()}", flush=True)
    index.add_new([os.urandom(16)], [NOW_MS])
    print("ready", flush=True)
    time.sleep(600)


def reopen(directory: Path) -> None:
    began = time.perf_counter()
    index = DedupeIndex(directory, secret=SECRET)
    opened = time.perf_counter() - began
    sample = json.loads((directory / "sample.json").read_text())
    keys = [bytes.fromhex(key) for key in sample[0]][:10_000]
    first = time.perf_counter()
    index.add_new(keys[:1], [NOW_MS])
    second = time.perf_counter()
    wrong = sum(index.add_new(keys, sample[1][:10_000]))
    print(f"  opened in {opened:.3f} s, first answer {(second - first) * 1e3:.2f} ms, {wrong} forgotten; {resident()}")
    began = time.perf_counter()
    index.close()
    print(f"  ordered close {time.perf_counter() - began:.2f} s", flush=True)
    if wrong:
        sys.exit("keys were forgotten")


def cut_power(directory: Path) -> None:
    manifest = load(directory)
    assert manifest is not None
    identity = bytes.fromhex(manifest.filter_identity)
    table = SlicedFilter(directory / manifest.filter_name, manifest.filter_words, identity, create=False)
    table.mark_covers(manifest.synced_generation, b"another start of the machine")
    unsynced = {run.slice for run in manifest.runs} - set(manifest.synced)
    for number in unsynced:
        table.clear(number)
    print(
        f"  {len(unsynced)} slices unsynced, {sum(run.rows for run in manifest.runs if run.slice in unsynced):,} keys"
    )


def child(step: str, directory: Path, operations: int) -> list[str]:
    return [sys.executable, __file__, "--step", step, "--directory", str(directory), "--operations", str(operations)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=2_000_000)
    parser.add_argument("--operations", type=int, default=200_000, help="look-ups with inserts for each batch size")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="where to put the index")
    parser.add_argument("--step", choices=("measure", "reopen"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "measure":
        return measure(options.directory, options.operations)
    if options.step == "reopen":
        return reopen(options.directory)
    assert HOURS * HOUR_MS == DAY_MS
    home = Path(tempfile.mkdtemp(prefix="dedupe-bench-", dir=options.directory))
    directory = home / "index"
    try:
        print(f"fill with {options.keys:,} keys")
        fill(directory, options.keys)
        print("measure")
        with subprocess.Popen(
            child("measure", directory, options.operations), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == "ready":
                    process.send_signal(signal.SIGKILL)
                    break
                print(line, end="", flush=True)
        print("restart after SIGKILL")
        subprocess.run(child("reopen", directory, 0), check=True)
        print("restart after an ordered close")
        subprocess.run(child("reopen", directory, 0), check=True)
        print("restart after a power cut (slices that were not synced are read again)")
        cut_power(directory)
        subprocess.run(child("reopen", directory, 0), check=True)
        print("restart after the filter was lost (built anew)")
        for path in directory.glob("*.filter"):
            path.unlink()
        subprocess.run(child("reopen", directory, 0), check=True)
    finally:
        shutil.rmtree(home)
    return None


if __name__ == "__main__":
    main()
