from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workspace.test_yaml_tree import json_values
from tests.unit.workspace.workspace_kit import GOOD, SECRETS, TYPES, good, problems
from trunkline.secrets import is_masked, mask
from trunkline.workspace.codec import make_snapshot
from trunkline.workspace.model import Destination, Source
from trunkline.workspace.yaml_out import to_yaml


def test_with_secrets_the_text_loads_to_the_same_version(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    for text in (GOOD, GOOD.replace("abcdefgh", "{file: key}"), "workspace: {slug: a, name: A}"):
        snapshot = good(text, base=tmp_path)
        exported = to_yaml(snapshot, TYPES, show_secrets=True)
        assert good(exported) == snapshot


def test_the_delivery_options_come_through_and_are_left_out_when_there_are_none() -> None:
    text = GOOD.replace(
        "type: post\n",
        "type: post\n    concurrency: 4\n    timeout_s: 2.5\n    retry: {window_s: 7200, attempts: 3}\n"
        "    rate_limit: {events_per_s: 10}\n    max_event_age_s: 3600\n",
    )
    snapshot = good(text)
    exported = to_yaml(snapshot, TYPES, show_secrets=False)
    first, second = yaml.safe_load(exported)["destinations"]
    options = ("concurrency", "timeout_s", "rate_limit", "retry", "max_event_age_s")
    assert {key: first[key] for key in options} == {
        "concurrency": 4,
        "timeout_s": 2.5,
        "rate_limit": {"events_per_s": 10},
        "retry": {"window_s": 7200, "attempts": 3},
        "max_event_age_s": 3600,
    }
    assert "timeout_s: 2.5\n" in exported
    assert "window_s: 7200\n" in exported
    assert not any(key in second for key in options)
    assert good(to_yaml(snapshot, TYPES, show_secrets=True)) == snapshot


def is_reference(value: Any) -> bool:
    if isinstance(value, dict):
        return (len(value) == 1 and next(iter(value)) in ("env", "file")) or any(map(is_reference, value.values()))
    return any(map(is_reference, value)) if isinstance(value, list) else isinstance(value, str) and is_masked(value)


@given(
    st.dictionaries(st.text(), json_values, max_size=3).filter(
        lambda value: not any(map(is_reference, value.values()))
    ),
    st.text(min_size=1, max_size=50),
)
def test_any_settings_come_through(settings: dict[str, Any], name: str) -> None:
    snapshot = make_snapshot(
        SECRETS,
        slug="a",
        name=name,
        sources=[Source("s", "S", "http", ("k",))],
        destinations=[Destination("d", name, "shelf", ("s",), True, settings)],
    )
    assert good(to_yaml(snapshot, TYPES, show_secrets=True)) == snapshot


def test_without_secrets_they_are_masked_and_the_checker_refuses_masks() -> None:
    snapshot = good(
        GOOD.replace(
            "headers: {X-Key: abcdefgh}",
            "headers: {X-Key: abcdefgh, Z: {env: Z}}, key: [sec1sec2, 12345678, null, true]\n"
            "      nested: {deep: {er: 0123abcd}, shown: 1}\n      list: [shown, hidden12]\n",
        ).replace(", key", "\n      key"),
        environ={"Z": "fromoutside"},
    )
    exported = to_yaml(snapshot, TYPES, show_secrets=False)
    settings = yaml.safe_load(exported)["destinations"][0]["settings"]
    assert settings == {
        "url": "http://127.0.0.1:9000/hook",
        "headers": {"X-Key": mask("abcdefgh"), "Z": {"env": "Z"}},
        "key": [mask("sec1sec2"), mask("12345678"), None, True],
        "nested": {"deep": {"er": mask("0123abcd")}, "shown": 1},
        "list": ["shown", mask("hidden12")],
    }
    for secret in ("abcdefgh", "sec1sec2", "12345678", "0123abcd", "hidden12", "fromoutside"):
        assert secret not in exported
    refused = problems(exported, environ={"Z": "fromoutside"})
    assert {problem.path for problem in refused} == {
        "destinations[0].settings.headers.X-Key",
        "destinations[0].settings.key[0]",
        "destinations[0].settings.key[1]",
        "destinations[0].settings.nested.deep.er",
        "destinations[0].settings.list[1]",
    }


def test_references_are_written_back_so_that_the_export_loads(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    environ = {"WK": "wk_env"}
    text = GOOD.replace("abcdefgh", "{file: key}").replace("wk_api_2", "{env: WK}")
    snapshot = good(text, base=tmp_path, environ=environ)
    exported = to_yaml(snapshot, TYPES, show_secrets=False)
    assert "s3cret" not in exported
    assert "wk_env" not in exported
    again = good(exported, base=tmp_path, environ=environ)
    assert again == snapshot
    assert again.references == snapshot.references


def test_all_settings_of_an_unknown_type_are_masked() -> None:
    exported = to_yaml(good(GOOD), {}, show_secrets=False)
    assert "127.0.0.1:9000" not in exported
    assert mask("http://127.0.0.1:9000/hook") in exported
