"""The product as its users start it: ``trunkline serve`` in a process tree of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from .loop import wait_until

COMMAND = (sys.executable, "-m", "trunkline")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


def free_port() -> int:
    """A port N that is free now, and so is N + 1."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    return port
            except OSError:
                continue


class Product:
    """A data directory, a configuration, and the process tree that serves them when it is started."""

    def __init__(self, directory: Path, config: str) -> None:
        self.data_dir = directory / "data"
        self.config_file = directory / "trunkline.yaml"
        self.config_file.write_text(config, "utf-8")
        self.log_file = directory / "serve.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when ``/health`` answers 200."""
        command = ["serve", "--data-dir", self.data_dir, "--config", self.config_file, "--port", str(self.port)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._is_up, lambda: f"/health answers 200; the log ends:\n{self.log_tail()}", START_TIMEOUT_S)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended by itself:\n{self.log_tail()}"
        return self.status_of("/health") == 200

    def status_of(self, path: str) -> int | None:
        """What GET answers; None when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return None

    def fetch_browser_sdk(self) -> str | None:
        """``trunkline cdn install``, beside the running server. Why it failed, if it did."""
        command = [*COMMAND, "cdn", "install", "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        return None if done.returncode == 0 else done.stdout + done.stderr

    def kill(self) -> None:
        """SIGKILL to every process of the tree at once."""
        assert self._process is not None
        for pid in [self._process.pid, *_descendants(self._process.pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._process = None

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.terminate()
        try:
            status = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None
        return status

    def close(self) -> None:
        """Leave no process behind."""
        if self._process is not None:
            self.kill()

    def books(self) -> dict[str, dict[str, int]]:
        """``verify --json`` by destination; fails the test when the books do not balance."""
        command = [*COMMAND, "verify", "--json", "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["balanced"] is True
        books: dict[str, dict[str, int]] = report["destinations"]
        return books

    def wait_until_settled(self) -> None:
        """Nothing is pending anywhere: what was sent is also committed."""
        wait_until(
            lambda: all(book["pending"] == 0 for book in self.books().values()),
            lambda: f"nothing is pending: {self.books()}",
            timeout_s=60,
            pause_s=0.2,
        )

    def log_tail(self) -> str:
        return self.log_file.read_text("utf-8", "replace")[-4_000:] if self.log_file.exists() else "(no log)"


def _descendants(pid: int) -> list[int]:
    """The processes below this one, by /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for known in found:
        found.extend(child for child, parent in parents.items() if parent == known)
    return found[1:]
