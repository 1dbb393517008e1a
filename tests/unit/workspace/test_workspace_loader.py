from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.workspace.workspace_kit import GOOD, SECRETS, TYPES, Post, Shelf
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.workspace.destination_type import SettingProblem
from trunkline.workspace.loader import Loaded, load
from trunkline.workspace.references import fingerprint
from trunkline.workspace.starter import STARTER_DESTINATION, STARTER_SOURCE, starter_yaml


def loaded(path: Path) -> Loaded:
    return load(path, TYPES, SECRETS, {})


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "acme.yaml"
    path.write_text(GOOD)
    result = loaded(path)
    assert result.problems == []
    assert result.snapshot is not None
    assert result.files == (path,)
    assert len(result.notes) == 1


def test_a_bad_file_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "acme.yaml"
    path.write_text("a: 1\n" + GOOD)
    result = loaded(path)
    assert result.snapshot is None
    assert str(result.problems[0]).startswith(f"{path}:1:1 a: there is no such key.")


def test_files_that_references_name_are_listed_for_the_watcher(tmp_path: Path) -> None:
    path = tmp_path / "acme.yaml"
    (tmp_path / "a").write_text("x")
    path.write_text(GOOD.replace("abcdefgh", "{file: a}").replace("wk_api_2", "{file: missing/b}"))
    result = loaded(path)
    assert result.snapshot is None
    assert set(result.files) == {path, tmp_path / "a", tmp_path / "missing" / "b"}


def test_a_change_while_it_is_read_is_a_change(tmp_path: Path) -> None:
    """The type stands for an editor that saves once more between the read and the end of the check."""
    path, key = tmp_path / "acme.yaml", tmp_path / "a"
    key.write_text("x")
    path.write_text(GOOD.replace("abcdefgh", "{file: a}"))

    class Editor(Post):
        def check_settings(self, settings: Mapping[str, Any]) -> list[SettingProblem]:
            path.write_text(GOOD)
            key.unlink()
            return []

    result = load(path, {"post": Editor(), "shelf": Shelf()}, SECRETS, {})
    assert result.snapshot is not None
    assert {file for file, seen in result.watched.items() if fingerprint(file) != seen} == {path, key}
    result = loaded(path)
    assert {file for file, seen in result.watched.items() if fingerprint(file) != seen} == set()


def test_the_process_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_WRITE_KEY", "wk_env")
    path = tmp_path / "acme.yaml"
    path.write_text(GOOD.replace("wk_web", "{env: TEST_WRITE_KEY}"))
    result = load(path, TYPES, SECRETS)
    assert result.snapshot is not None
    assert "wk_env" in result.snapshot.by_write_key


def test_what_is_no_file_is_a_problem(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"# " + b"x" * 10_000_000)
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 100)
    for name, reason in [
        ("missing", "No such file"),
        ("pipe", "not a regular file"),
        (".", "can't be read"),
        ("big", "larger than 4 MiB"),
        ("binary", "not"),
    ]:
        result = loaded(tmp_path / name)
        assert result.snapshot is None
        (problem,) = result.problems
        assert reason in problem.reason
        assert problem.mend


@pytest.mark.parametrize("write_key", ["wk_1", "0123", "1e5", "null", "-x", "yes"])
def test_the_starter_workspace_passes_its_own_check(tmp_path: Path, write_key: str) -> None:
    path = tmp_path / "workspace.yaml"
    path.write_text(starter_yaml(write_key, 8123))
    result = load(path, NATIVE_DESTINATIONS, SECRETS, {})
    assert [str(problem) for problem in result.problems] == []
    assert result.notes == []
    assert result.snapshot is not None
    assert result.snapshot.by_write_key[write_key].slug == STARTER_SOURCE
    destination = result.snapshot.destinations[STARTER_DESTINATION]
    assert destination.enabled
    assert destination.type == "inbox"
    assert f"curl -u {write_key}: http://127.0.0.1:8123/v1/track" in path.read_text()


def test_the_commented_examples_of_the_starter_work_too(tmp_path: Path) -> None:
    path = tmp_path / "workspace.yaml"
    head, _, tail = starter_yaml("wk_1", 8123).partition("  # - slug: hook")
    lines = ["  - slug: hook", *(line.replace("# ", "", 1) for line in tail.splitlines()[1:] if "#" in line)]
    path.write_text(head + "\n".join(line for line in lines if "Destinations may" not in line))
    result = load(path, NATIVE_DESTINATIONS, SECRETS, {"HOOK_AUTHORIZATION": "Bearer x"})
    assert [str(problem) for problem in result.problems] == []
    assert result.snapshot is not None
    assert result.snapshot.destinations["hook"].settings["headers"] == {"Authorization": "Bearer x"}
    assert str(result.snapshot.allow_private[0]) == "127.0.0.0/8"
