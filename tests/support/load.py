"""Load: batches of numbered events, sent again until acknowledged, as an SDK does."""

from __future__ import annotations

import http.client
import json
import threading
import time
from types import TracebackType

RETRY_PAUSE_S = 0.05


class Load:
    """Sends from threads of its own between entering and leaving.

    ``acked`` are the ids that were answered 200; ``sent`` all that were ever put on the wire; ``failures`` are
    attempts that got another answer or none, as text; ``refused`` how often nobody listened.
    """

    def __init__(
        self,
        port: int,
        write_key: str,
        prefix: str,
        *,
        events_per_s: float = 500,
        batch: int = 10,
        threads: int = 2,
        filler_bytes: int = 200,
    ) -> None:
        self._port = port
        self._write_key = write_key
        self._prefix = prefix
        self._batch = batch
        self._pause_s = batch * threads / events_per_s
        self._filler = "x" * filler_bytes
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"load-{prefix}-{number}", daemon=True)
            for number in range(threads)
        ]
        self.acked: list[str] = []
        self.sent: list[str] = []
        self.failures: list[str] = []
        self.refused = 0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more. What is not acknowledged by now stays so."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "the load does not end: a request hangs"

    def _run(self, thread_number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        number = 0
        due_s = time.monotonic()
        while not self._stopping.is_set():
            ids = [f"{self._prefix}-{thread_number}-{number + at}" for at in range(self._batch)]
            number += self._batch
            body = self._body(ids)
            with self._lock:
                self.sent += ids
            while True:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                try:
                    connection.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    answer.read()
                    failure = "" if answer.status == 200 else str(answer.status)
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    connection = None
                    failure = type(error).__name__
                with self._lock:
                    if not failure:
                        self.acked += ids
                        break
                    self.failures.append(failure)
                    self.refused += failure == "ConnectionRefusedError"
                if self._stopping.wait(RETRY_PAUSE_S):
                    break
            due_s = max(due_s + self._pause_s, time.monotonic() - 1)
            self._stopping.wait(max(0.0, due_s - time.monotonic()))
        if connection is not None:
            connection.close()

    def _body(self, ids: list[str]) -> bytes:
        batch = [
            {
                "type": "track",
                "event": "Thing Done",
                "userId": "u1",
                "messageId": message_id,
                "properties": {"filler": self._filler},
            }
            for message_id in ids
        ]
        return json.dumps({"writeKey": self._write_key, "batch": batch}).encode()
