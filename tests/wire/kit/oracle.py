"""Segment's own engines in a Node process, asked line by line."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from . import sdks


class Oracle:
    """Close it when done."""

    def __init__(self, driver: str) -> None:
        self._process = subprocess.Popen(
            ["node", f"drivers/{driver}"],
            cwd=sdks.HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def ask_line(self, question: Any) -> str:
        """The answer's text."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def ask_all(self, questions: list[dict[str, Any]]) -> list[Any]:
        """An answer to each question."""
        answers: list[Any] = json.loads(self.ask_line(questions))
        assert len(answers) == len(questions)
        return answers

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(timeout=10)
