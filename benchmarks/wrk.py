"""The load generator ``wrk`` (Debian's package) with bodies of its own, and nginx as the yardstick of HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support import GENERATOR_CORE, WRITE_KEY, event, free_port, pinned

_MARK = 999_999_999_999


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    requests: int
    seconds: float
    bad: int
    p99_ms: float

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def _script(path: str, body: str, ids: int, start: int) -> str:
    """Each request gets ids of its own in place of the mark; Lua holds the rest."""
    return f"""
local n = {start}
local pieces = {{}}
local body = [=[{body}]=]
local mark = "{_MARK:012d}"
local at = 1
while true do
  local s, e = string.find(body, mark, at, true)
  if not s then break end
  table.insert(pieces, string.sub(body, at, s - 1))
  at = e + 1
end
table.insert(pieces, string.sub(body, at))
local head = "POST {path} HTTP/1.1\\r\\nHost: bench\\r\\nAuthorization: Basic {_basic()}\\r\\n" ..
  "Content-Type: application/json\\r\\nContent-Length: " .. #body .. "\\r\\n\\r\\n"
function request()
  local out = {{head}}
  for i = 1, #pieces - 1 do
    if (i - 1) % {ids} == 0 then n = n + 1 end
    out[#out + 1] = pieces[i]
    out[#out + 1] = string.format("%012d", n)
  end
  out[#out + 1] = pieces[#pieces]
  return table.concat(out)
end
"""


def _basic() -> str:
    import base64

    return base64.b64encode(f"{WRITE_KEY}:".encode()).decode()


def single_body() -> str:
    return json.dumps(event(_MARK), separators=(",", ":"))


def batch_body(size: int) -> str:
    return json.dumps({"batch": [event(_MARK)] * size, "sentAt": "2026-11-21T10:00:01.000Z"}, separators=(",", ":"))


def ids_per_event() -> int:
    """How often an event holds its number in full."""
    return single_body().count(f"{_MARK:012d}")


def run(port: int, path: str, body: str, *, seconds: int, connections: int, start: int) -> Load:
    """Drive a server from the generator's core. Raises SystemExit when wrk is not installed."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_script(path, body, ids_per_event(), start))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script.name]
        try:
            done = subprocess.run(
                pinned(GENERATOR_CORE, [*command, f"http://127.0.0.1:{port}{path}"]),
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise SystemExit("wrk and taskset are needed: apt-get install wrk util-linux") from None
    return _parse(done.stdout)


def _parse(text: str) -> Load:
    counted = re.search(r"(\d+) requests in ([\d.]+)(m?s)", text)
    if counted is None:
        raise SystemExit(f"wrk said:\n{text}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    return Load(
        int(counted[1]),
        float(counted[2]) * (0.001 if counted[3] == "ms" else 1),
        int(bad[1]) if bad else 0,
        float(p99[1]) * scale[p99[2]] if p99 else 0.0,
    )


@contextmanager
def nginx(core: int) -> Iterator[int]:
    """nginx with one worker that answers 200 to everything; its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="trunkline-nginx-") as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(
            f"""
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/body; keepalive_requests 100000000;
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 '{{"success":true}}'; }} }}
}}
"""
        )
        try:
            process = subprocess.Popen(
                pinned(core, ["nginx", "-c", str(config), "-p", folder]), stderr=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise SystemExit("nginx is needed: apt-get install nginx-light") from None
        try:
            time.sleep(0.5)
            yield port
        finally:
            process.terminate()
            process.wait(10)
