"""Yardstick: a bare loop of the product's HTTP client, 16 requests at a time, nothing around it.

Usage: ``python -m benchmarks.bare_post PORT EVENTS``; prints events a second.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from ipaddress import ip_network

import uvloop

from benchmarks.support import event
from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.http import GuardedClient

CONCURRENCY = 16


async def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    bodies = iter([json.dumps(event(number)).encode() for number in range(count)])
    policy = EgressPolicy((ip_network("127.0.0.0/8"),))
    client = GuardedClient(lambda: policy, timeout_s=10)
    url = f"http://127.0.0.1:{port}/hook"

    async def loop() -> None:
        for body in bodies:
            await client.post(url, body=body, headers={"Content-Type": "application/json"})

    started = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(CONCURRENCY)))
    print(count / (time.perf_counter() - started))
    await client.close()


if __name__ == "__main__":
    uvloop.run(main())
