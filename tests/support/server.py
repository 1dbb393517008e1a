"""``trunkline serve`` in a process tree of its own, as its users start it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.processes import arguments_of, descendants, is_alive, kill
from tests.support.waiting import wait_until
from trunkline.clock import SystemClock
from trunkline.log.embedded import EmbeddedLog
from trunkline.observe.books import Books, check_books
from trunkline.runtime.layout import DataDir
from trunkline.state.sqlite import SqliteStateStore

TRUNKLINE = Path(sys.executable).with_name("trunkline")
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0


def clean_environment() -> dict[str, str]:
    """The tests' own environment without settings of Trunkline."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}


def run_trunkline(*arguments: str | Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [TRUNKLINE, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        env=clean_environment(),
    )


class Answer:
    """A response, read whole. ``headers`` are keyed in lower case."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.header_list = [(name.lower(), value) for name, value in response.getheaders()]
        self.headers = dict(self.header_list)
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A data directory, a workspace's file, and the process tree that serves them once it is started."""

    def __init__(
        self, directory: Path, config: str, *, data_dir: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """``settings`` become environment variables, by the setting's name in lower case."""
        directory.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir or directory / "data"
        self.config_file = directory / "workspace.yaml"
        self.config_file.write_text(config, "utf-8")
        self.log_file = directory / "serve.log"
        self.settings = dict(settings or {})
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._children: set[int] = set()
        self._former_ingest: list[int] = []  # of a killed supervisor: answers for a moment more on the same port

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self, *, failpoints: str = "", wait: bool = True) -> None:
        """Return when this tree's ``/health`` answers 200, unless told not to ``wait``."""
        self.spawn(failpoints=failpoints)
        if wait:
            self.wait_until_up()

    def spawn(self, *, failpoints: str = "") -> None:
        """Start the process tree and return at once."""
        assert self._process is None, "the server runs already"
        environment = clean_environment() | {"TRUNKLINE_FETCH_BROWSER_SDK": "false"}
        environment |= {f"TRUNKLINE_{name.upper()}": value for name, value in self.settings.items()}
        if failpoints:
            environment["TRUNKLINE_FAILPOINTS"] = failpoints
        command: list[str | Path] = [
            "serve",
            "--data-dir",
            self.data_dir,
            "--config",
            self.config_file,
            "--port",
            str(self.port),
        ]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [TRUNKLINE, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
                umask=0o022,
            )

    def wait_until_up(self) -> None:
        def is_up() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"the server ended by itself:\n{self.log_tail()}"
            return not any(is_alive(pid) for pid in self._former_ingest) and self.is_healthy()

        wait_until(is_up, lambda: f"/health answers 200; the log ends:\n{self.log_tail()}", timeout_s=START_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def children(self, role: str = "") -> list[int]:
        """Process ids of the children, of one role (``ingest``, ``worker``) or of all."""
        found = []
        for pid in descendants(self.pid):
            arguments = arguments_of(pid)
            if "trunkline.runtime.child" in arguments:
                self._children.add(pid)
                if role in ("", arguments[arguments.index("trunkline.runtime.child") + 1]):
                    found.append(pid)
        return found

    def child(self, role: str) -> int:
        """The process id of the one child of a role, waiting for it to be there."""
        wait_until(lambda: bool(self.children(role)), f"there is a child {role}")
        return self.children(role)[0]

    def kill_child(self, role: str) -> int:
        """SIGKILL to the one child of a role; its id."""
        pid = self.child(role)
        kill(pid)
        return pid

    def kill_supervisor(self) -> list[int]:
        """SIGKILL to the supervisor only; the ids of the children that are left."""
        left = self.children()
        self._former_ingest = self.children("ingest")
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None
        return left

    def kill(self) -> None:
        """SIGKILL to every process of the tree at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # or it would start children anew between two kills
        for pid in [*descendants(self._process.pid), self._process.pid]:
            kill(pid)
        self._process.wait()
        self._process = None

    def terminate(self) -> None:
        """SIGTERM to the supervisor, without waiting."""
        assert self._process is not None
        self._process.terminate()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.terminate()
        return self.wait_for_end()

    def wait_for_end(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit status of a server that ends by itself or has been told to."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            tail = self.log_tail()
            self.kill()
            raise AssertionError(f"the server did not end within {timeout_s:g} s; its log ends:\n{tail}") from None
        self._process = None
        return status

    def close(self) -> None:
        """Leave no process behind."""
        if self._process is not None:
            if self._process.poll() is None:
                self.kill()
            else:
                self._process.wait()
        for pid in self._children:
            if is_alive(pid) and "trunkline.runtime.child" in arguments_of(pid):
                kill(pid)

    # -- talking to it -------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30,
    ) -> Answer:
        """One request on a connection of its own. Raises OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, dict(headers or {}))
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def post(self, path: str, payload: object) -> Answer:
        """POST a JSON document that carries its own ``writeKey``."""
        return self.request("POST", path, json.dumps(payload).encode(), {"Content-Type": "application/json"})

    def send(self, write_key: str, *events: Mapping[str, Any]) -> None:
        """A batch that must be acknowledged."""
        answer = self.post("/v1/batch", {"writeKey": write_key, "batch": list(events)})
        assert answer.status == 200, answer.body

    def is_healthy(self) -> bool:
        try:
            return self.request("GET", "/health", timeout_s=5).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def health(self) -> Any:
        return self.request("GET", "/health").json()

    def reconfigure(self, config: str) -> None:
        """Write the workspace's file anew, in one step."""
        draft = self.config_file.with_suffix(".draft")
        draft.write_text(config, "utf-8")
        draft.replace(self.config_file)

    def wait_for_workspace(self, version_before: str) -> str:
        """Until ingest and worker are on another workspace than ``version_before``; the version."""

        def worker_version() -> str:
            try:
                status = json.loads(DataDir(self.data_dir).worker_status.read_bytes())
            except FileNotFoundError:
                return ""
            return str(status["snapshot"])

        wait_until(lambda: self.health()["snapshot"] != version_before, "ingest takes the new workspace")
        version = str(self.health()["snapshot"])
        wait_until(lambda: worker_version() == version, "the worker takes the new workspace")
        return version

    def log_text(self) -> str:
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    def log_tail(self) -> str:
        return self.log_text()[-4_000:] or "(no log)"

    # -- the books -----------------------------------------------------------------------------------------------

    def books(self) -> Books:
        """The books as ``trunkline verify`` sees them, at any time."""
        store = SqliteStateStore(DataDir(self.data_dir).state, read_only=True)
        try:
            data = DataDir(self.data_dir)
            return check_books(store.read(), EmbeddedLog(data.log, SystemClock()), data.replays)
        finally:
            store.close()

    def balanced_books(self) -> Books:
        """The books, which must balance."""
        books = self.books()
        assert books.balanced, (books.problems, books.as_json())
        return books

    def verify(self) -> tuple[int, dict[str, Any]]:
        """``trunkline verify --json``: exit status and what it prints."""
        done = run_trunkline("verify", "--json", "--data-dir", self.data_dir)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def wait_until_drained(self, *destinations: str, timeout_s: float = 120) -> Books:
        """Until these destinations (all, when none are named) have books and nothing is pending there; the books.

        They must balance all the while.
        """
        last: list[Books] = []

        def drained() -> bool:
            books = self.balanced_books()
            last[:] = [books]
            lines = [books.destinations.get(slug) for slug in destinations or books.destinations]
            return bool(lines) and all(line is not None and line.pending == 0 for line in lines)

        wait_until(
            drained,
            lambda: f"nothing is pending: {last[0].as_json()['destinations']}\n{self.log_tail()}",
            timeout_s=timeout_s,
            pause_s=0.1,
        )
        return last[0]
