"""The SDKs under test and the processes that run them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Call = dict[str, Any]

HERE = Path(__file__).parent.parent
ANSWER_TIMEOUT_S = 120.0

CLEARTEXT_WARNING = "[Segment] Warning: proxy/cdnProxy is using http://"
"""What the React Native SDK says, rightly, of every address without TLS."""


@dataclass(frozen=True)
class Sdk:
    """One SDK: the program that drives it, what it is told, and which arguments its calls take."""

    name: str
    source_type: str
    program: tuple[str, ...]
    types: frozenset[str] = frozenset({"identify", "track", "page", "screen", "group", "alias"})
    keeps_ids_itself: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    never_closes: bool = False
    """An app goes on running; its SDK sends in its own time and is not told that no more calls come."""
    noise: tuple[str, ...] = ()
    """Beginnings of lines that the SDK prints whatever the server does."""

    @property
    def write_key(self) -> str:
        return f"wk_{self.name}"

    @property
    def needs_node(self) -> bool:
        return self.program[0] == "node"

    def takes(self, call: Call) -> Call:
        """The call without what this SDK has no argument for."""
        if not self.keeps_ids_itself:
            return call
        own = {"anonymousId"} | ({"previousId"} if self.name == "react-native" else set())
        if call["type"] not in ("identify", "alias"):
            own |= {"userId"}
        if self.name == "react-native":
            own |= {"category"}
        return {key: value for key, value in call.items() if key not in own}


class Client(Protocol):
    """A running SDK."""

    sdk: Sdk

    def call(self, call: Call) -> None: ...

    def finish(self) -> None:
        """Tell the SDK that no more calls come, as its users do, and let it send what it holds."""
        ...

    def output(self) -> list[str]:
        """What the SDK printed so far that it should not have."""
        ...

    def close(self) -> None: ...


_NODE = "node"
_PYTHON_DRIVER = (sys.executable, "-W", "error", "drivers/analytics_python.py")

BROWSER = Sdk("browser", "javascript", ("chromium",), keeps_ids_itself=True, never_closes=True)

PROGRAMS: tuple[Sdk, ...] = (
    Sdk("node", "node", (_NODE, "drivers/analytics_node.cjs")),
    Sdk("node-legacy", "node", (_NODE, "drivers/analytics_node_legacy.cjs")),
    Sdk(
        "react-native",
        "react-native",
        (_NODE, "drivers/react_native.cjs"),
        types=frozenset({"identify", "track", "screen", "group", "alias"}),
        keeps_ids_itself=True,
        never_closes=True,
        noise=(CLEARTEXT_WARNING,),
    ),
    Sdk("python", "python", _PYTHON_DRIVER, options={"module": "segment.analytics", "gzip": False}),
    Sdk("python-gzip", "python", _PYTHON_DRIVER, options={"module": "segment.analytics", "gzip": True}),
    Sdk("python-legacy", "python", _PYTHON_DRIVER, options={"module": "analytics", "gzip": False}),
)

ALL: tuple[Sdk, ...] = (*PROGRAMS, BROWSER)


class Driver:
    """One SDK in a process of its own, told what to call line by line."""

    def __init__(self, sdk: Sdk, address: str) -> None:
        self.sdk = sdk
        options = {"host": address, "writeKey": sdk.write_key, **sdk.options}
        self._process = subprocess.Popen(
            [*sdk.program, json.dumps(options)],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("NODE_")},
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._printed: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self._process.stdout, self._process.stderr)
        ]
        for reader in self._readers:
            reader.start()
        self._has_loaded = False

    def _read(self, stream: Any) -> None:
        for line in stream:
            if line.startswith("@@"):
                self._answers.put(line)
            elif line.strip() and not line.startswith(self.sdk.noise or ("\0",)):
                self._printed.append(line.rstrip("\n"))

    def _await_answer(self) -> None:
        try:
            self._answers.get(timeout=ANSWER_TIMEOUT_S)
        except queue.Empty:
            raise AssertionError(f"{self.sdk.name} does not answer; it printed {self._printed}") from None

    def _tell(self, command: dict[str, Any]) -> None:
        if not self._has_loaded:
            # Only now, so that several drivers load side by side.
            self._await_answer()
            self._has_loaded = True
        assert self._process.stdin is not None
        assert self._process.poll() is None, f"{self.sdk.name} ended; it printed {self._printed}"
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def call(self, call: Call) -> None:
        self._tell({"do": "call", "call": self.sdk.takes(call)})
        self._await_answer()

    def finish(self) -> None:
        if self.sdk.never_closes:
            return
        self._tell({"do": "close"})
        self._await_answer()
        status = self._process.wait(timeout=30)
        for reader in self._readers:
            reader.join()
        assert status == 0, f"{self.sdk.name} exited with {status}; it printed {self._printed}"

    def output(self) -> list[str]:
        return list(self._printed)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
