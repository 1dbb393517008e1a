"""Values that stand outside of the file: ``{env: NAME}`` and ``{file: PATH}``."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trunkline.workspace.problem import Report
from trunkline.workspace.yaml_tree import Node

KINDS: Final = ("env", "file")
MAX_FILE_BYTES: Final = 64 * 1024


Fingerprint = tuple[int, int, int]
"""Of a file: time of the last change in ns, size in bytes, inode."""


def fingerprint(path: Path) -> Fingerprint | None:
    """What differs when the file was changed or replaced; None when it can't be looked at."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Unresolved(Exception):
    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mend = mend


@dataclass
class References:
    """Resolves the references of one file. ``base`` is the directory that paths are relative to."""

    base: Path
    environ: Mapping[str, str]
    report: Report
    watched: dict[Path, Fingerprint | None] = field(default_factory=dict)
    """Files that were looked at, missing ones included, as they were just before."""

    @staticmethod
    def kind(node: Node) -> str | None:
        """``env`` or ``file`` when the node is a reference: a mapping of just this key."""
        if isinstance(node.value, dict) and len(node.value) == 1:
            key = next(iter(node.value))
            return key if key in KINDS else None
        return None

    def resolve(self, node: Node, path: str) -> tuple[str, str, str] | None:
        """Kind, target and value; None when it can't be had (the report says why)."""
        kind = self.kind(node)
        if kind is None or not isinstance(node.value, dict):
            raise ValueError("not a reference")
        target = node.value[kind].value
        try:
            if not isinstance(target, str) or not target:
                what = "the name of a variable" if kind == "env" else "a path"
                raise _Unresolved(f"{kind} needs {what} as text", f"Write {{{kind}: …}}")
            value = self._variable(target) if kind == "env" else self._file(target)
        except _Unresolved as unresolved:
            self.report.problem(node.line, node.column, path, unresolved.reason, unresolved.mend)
            return None
        return kind, target, value

    def _variable(self, name: str) -> str:
        value = self.environ.get(name)
        if value is None:
            raise _Unresolved(f"the environment has no variable {name}", f"Set {name} where Trunkline is started")
        if not value:
            raise _Unresolved(f"the variable {name} is empty", f"Give {name} a value")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _Unresolved(f"the variable {name} is not UTF-8 text", f"Give {name} a text")
        return value

    def _file(self, target: str) -> str:
        if "\0" in target:
            raise _Unresolved("not a path", "Write the path of a file")
        file = self.base / target
        self.watched[file] = fingerprint(file)
        try:
            content = read_regular_file(file, MAX_FILE_BYTES)
            value = None if content is None else content.decode("utf-8")
        except OSError as error:
            reason = f"the file {target} can't be read ({error.strerror})"
            raise _Unresolved(reason, f"Put the value in {file}, readable for Trunkline's user") from error
        except UnicodeDecodeError as error:
            raise _Unresolved(f"the file {target} is not UTF-8 text", "Save it as UTF-8 text") from error
        if value is None:
            raise _Unresolved(f"the file {target} is larger than 64 KiB", "Name a file of just the value")
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            raise _Unresolved(f"the file {target} is empty", "Put the value in it")
        return value


def read_regular_file(path: Path, max_bytes: int) -> bytes | None:
    """The content, None when it is larger. Never blocks on a pipe or device: raises OSError for these."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        content = file.read(max_bytes + 1)
    return None if len(content) > max_bytes else content
