"""All benchmarks of delivery in one run: ``python -m benchmarks.delivery [--quick]``. Prints a Markdown table."""

from __future__ import annotations

import os
import sys
import time

from benchmarks import backlog, bad_neighbour, batches, many_destinations, replay, routes
from benchmarks.support import HEADER


def main() -> None:
    quick = "--quick" in sys.argv
    started_s = time.monotonic()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n\n{HEADER}", flush=True)
    print(many_destinations.side_by_side(quick=quick), flush=True)
    print(many_destinations.throughput(quick=quick), flush=True)
    print(many_destinations.routing(quick=quick), flush=True)
    print(routes.row(), flush=True)
    print(bad_neighbour.latency(quick=quick), flush=True)
    print(batches.throughput(quick=quick), flush=True)
    for row in backlog.drain(quick=quick):
        print(row, flush=True)
    print(replay.throughput(quick=quick), flush=True)
    print(f"\n{(time.monotonic() - started_s) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
