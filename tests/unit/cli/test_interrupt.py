"""Ctrl-C: one line and exit status 130, whatever a command is at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trunkline.cli.main import program

LINE = "trunkline: interrupted.\n"

PRESSING = """
import os, signal, sys

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, {handler})
from trunkline.cli.main import main
sys.meta_path.insert(0, Press())
sys.argv = ["trunkline", *{command!r}]
main()
"""


def run(name: str, *command: str, handler: str = "signal.default_int_handler") -> subprocess.CompletedProcess[str]:
    """A command during which Ctrl-C is pressed when a module is about to be imported."""
    text = PRESSING.format(name=name, handler=handler, command=command)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["typer", "rich.console", "trunkline.rehearsal.run", "trunkline.workspace.errors"])
def test_while_the_program_is_put_together(name: str) -> None:
    done = run(name, "rehearse", "--help")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", LINE)


def test_a_program_that_was_started_to_ignore_it_does_so() -> None:
    done = run("typer", "--version", handler="signal.SIG_IGN")
    assert (done.returncode, done.stderr) == (0, "")


def test_while_a_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trunkline.cli.check.load", load)
    monkeypatch.setattr("trunkline.cli.root.typer.echo", load)
    for arguments in (["check", str(tmp_path / "workspace.yaml")], ["--version"]):
        done = CliRunner().invoke(program(["check", "lanes"]), arguments)
        assert (done.exit_code, done.stdout, done.stderr) == (130, "", LINE)
