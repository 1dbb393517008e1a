"""A replay from the archive to a webhook, beside live traffic of the same webhook.

``python -m benchmarks.replay [--quick]``. The sink verifies every event, the second time too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.batches import TALLY, WARM_UP, webhook
from benchmarks.counting_sink import counting_sink
from benchmarks.generator import Plan, generate
from benchmarks.support import HEADER, SYSTEM_CORE, TRUNKLINE, Row, Server, cpu_s, pinned, server

EVENTS = 1_000_000
QUICK_EVENTS = 50_000


def throughput(*, quick: bool = False) -> Row:
    """Events a second from the first to the last arrival, nothing else going on; live from the first request on."""
    events = QUICK_EVENTS if quick else EVENTS
    with counting_sink() as sink, server([webhook(sink)], core=SYSTEM_CORE) as running:
        generate(Plan(running.port, WARM_UP))
        sink.wait_for(TALLY, WARM_UP)
        sink.reset()
        sent = generate(Plan(running.port, events, first=WARM_UP))
        seen = sink.wait_for(TALLY, events)
        seen.check(WARM_UP, events)
        live_per_s = events / (seen.last_s - sent.started_s)
        sink.reset()
        before_s, asked_s = cpu_s(running.pids), time.time()
        _start(running, WARM_UP + events)
        started_s = time.time()
        seen = sink.wait_for(TALLY, WARM_UP + events)
        used_s = cpu_s(running.pids) - before_s
        seen.check(0, WARM_UP + events)
        running.verify()
    per_s = (WARM_UP + events) / (seen.last_s - seen.first_s)
    return Row(
        f"replay of {events:,} events from the archive to a webhook in batches of 100",
        f"{per_s:,.0f}/s",
        f"live: {live_per_s:,.0f}/s",
        per_s / live_per_s,
        "1.0",
        [
            f"{used_s / events * 1e6:.0f} µs CPU an event",
            f"{started_s - asked_s:.1f} s to archive the newest events and to count them",
            f"{max(0.0, seen.first_s - started_s):.1f} s more to the first arrival",
        ],
    )


def _start(running: Server, events: int) -> None:
    command = [str(TRUNKLINE), "replay", "start", "--data-dir", str(running.data_dir), "--to", "hook", "--since", "1d"]
    done = subprocess.run(pinned(SYSTEM_CORE, [*command, "--yes", "--json"]), stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"the replay was not started, see {running.log} and above")
    if (selected := json.loads(done.stdout)["events"]) != events:
        raise SystemExit(f"{events} events were accepted, the replay selects {selected}")


def main() -> None:
    print(f"{HEADER}\n{throughput(quick='--quick' in sys.argv)}")


if __name__ == "__main__":
    main()
