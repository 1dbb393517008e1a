"""A real server of S3's protocol on loopback: moto's."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType

from tests.support.ports import free_port
from tests.support.waiting import wait_until

SECRET = "a-secret-that-no-message-repeats"


class S3Server:
    """Runs while it is entered; has a bucket ``archive``. ``environment`` is what a client needs."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "s3.log"
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def __enter__(self) -> S3Server:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)], stdout=out, stderr=out
            )
        wait_until(self._is_up, "the S3 server answers", timeout_s=90)
        self.request("PUT", "archive")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text("utf-8")
        try:
            self.request("GET", "moto-api/")
        except OSError:
            return False
        return True

    def request(self, method: str, path: str) -> bytes:
        """Without a signature, which this server does not check. Raises HTTPError."""
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{path}", method=method), timeout=30) as answer:
            return bytes(answer.read())
