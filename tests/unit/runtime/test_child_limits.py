"""What a child process allows itself before it begins."""

from __future__ import annotations

import subprocess
import sys

_THREADS_OF_A_LOOKUP = """
import asyncio, os, uvloop
from trunkline.runtime.child import _allow_many_lookups

_allow_many_lookups()

async def look_up():
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    print(len(os.listdir("/proc/self/task")))

uvloop.run(look_up())
"""


def test_slow_name_servers_do_not_keep_each_other_waiting() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _THREADS_OF_A_LOOKUP], check=True, capture_output=True, text=True, timeout=60
    )
    assert int(done.stdout) > 64
