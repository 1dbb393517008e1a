"""All benchmarks that have a yardstick, in one run: ``python -m benchmarks.run [--quick]``. Prints a Markdown table."""

from __future__ import annotations

import os
import sys

from benchmarks import end_to_end, ingest, memory
from benchmarks.support import HEADER


def main() -> None:
    quick = "--quick" in sys.argv
    if quick:
        ingest.ROUNDS = end_to_end.ROUNDS = 1
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n\n{HEADER}", flush=True)
    print(ingest.single(), flush=True)
    print(ingest.batch(), flush=True)
    row = end_to_end.throughput()
    print(row, flush=True)
    maximum = float(row.figure.removesuffix("/s").replace(",", ""))
    print(end_to_end.latency(maximum), flush=True)
    print(memory.idle(), flush=True)
    print(memory.slope(memory.QUICK_EVENTS if quick else memory.EVENTS), flush=True)


if __name__ == "__main__":
    main()
