"""``docs/configuration.md`` is held against the program: settings, keys and examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.workspace.workspace_kit import SECRETS
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.settings import SettingInfo, describe_settings
from trunkline.workspace import vocabulary
from trunkline.workspace.loader import load

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"
TEXT = DOCUMENT.read_text("utf-8")


def row(info: SettingInfo) -> str:
    default = f"`{info.default}`" if info.default else "none"
    doc = info.doc if info.in_file else f"{info.doc} *Not in the file.*"
    return f"| `{info.name}` | `{info.env}` | {info.type} | {default} | {doc} |"


def settings_table() -> str:
    head = ["| setting | variable | type | default | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*head, *map(row, describe_settings())])


def test_the_table_of_settings_is_the_one_of_the_program() -> None:
    written = TEXT.partition("<!-- settings -->\n")[2].partition("\n<!-- /settings -->")[0]
    assert written == settings_table(), f"put this between the marks of {DOCUMENT.name}:\n{settings_table()}"


@pytest.mark.parametrize(
    ("section", "prefix"),
    [
        (vocabulary.WORKSPACE, "workspace."),
        (vocabulary.SOURCE, "sources[]."),
        (vocabulary.DESTINATION, "destinations[]."),
        (vocabulary.EGRESS, "egress."),
        (vocabulary.EGRESS_PROXY, "egress.proxy."),
    ],
)
def test_every_key_of_the_file_is_documented(section: vocabulary.Section, prefix: str) -> None:
    for key in section.known:
        assert f"`{prefix}{key}`" in TEXT


@pytest.mark.parametrize("kind", sorted(NATIVE_DESTINATIONS))
def test_every_destination_type_is_documented(kind: str) -> None:
    assert f"Settings of a `{kind}`" in TEXT or f"Settings of an `{kind}`" in TEXT


def test_the_example_passes_the_check(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hook").write_text("s3cret\n")
    (tmp_path / "acme.yaml").write_text(example)
    loaded = load(tmp_path / "acme.yaml", NATIVE_DESTINATIONS, SECRETS, {"HOOK_AUTHORIZATION": "Bearer x"})
    assert [*map(str, loaded.problems), *map(str, loaded.notes)] == []


def test_the_example_of_a_problem_is_what_the_check_prints(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hook").write_text("s3cret\n")
    path = tmp_path / "acme.yaml"
    path.write_text(example.replace("https://data.example.com/events", "htp://x"))
    loaded = load(path, NATIVE_DESTINATIONS, SECRETS, {"HOOK_AUTHORIZATION": "Bearer x"})
    (problem,) = loaded.problems
    assert str(problem).replace(str(path), "acme.yaml") in TEXT
