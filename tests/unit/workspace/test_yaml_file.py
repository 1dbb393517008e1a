from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workspace.workspace_kit import GOOD, check, good, only, problems
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.secrets import mask
from trunkline.workspace import vocabulary
from trunkline.workspace.model import Destination, Source
from trunkline.workspace.problem import MAX_PROBLEMS


def test_a_good_file_becomes_a_snapshot() -> None:
    snapshot, report = check(GOOD)
    assert report.problems == []
    assert snapshot is not None
    assert (snapshot.slug, snapshot.name) == ("acme", "Acme")
    assert snapshot.sources == {
        "web": Source("web", "web", "javascript", ("wk_web",)),
        "api": Source("api", "Our API", "http", ("wk_api", "wk_api_2"), enabled=False),
    }
    assert snapshot.destinations == {
        "hook": Destination(
            "hook",
            "hook",
            "post",
            ("web", "api"),
            True,
            {"url": "http://127.0.0.1:9000/hook", "headers": {"X-Key": "abcdefgh"}},
        ),
        "shelf": Destination(
            "shelf", "The shelf", "shelf", ("web",), False, {"any": [1, 2.5, True, None, {"deep": "x"}]}
        ),
    }
    assert snapshot.allow_private == (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))
    assert snapshot.by_write_key["wk_api_2"].slug == "api"
    (note,) = report.notes
    assert (note.line, note.path) == (13, "destinations[1]")
    assert "enabled: true" in note.reason


def test_a_problem_is_one_line_with_place_reason_and_mend() -> None:
    problem = only(GOOD.replace('"http://127.0.0.1:9000/hook"', "htp://x"))
    assert str(problem) == (
        "acme.yaml:11:12 destinations[0].settings.url: not an http(s) URL: 'htp://x'. "
        "Write http:// or https:// in front of the host."
    )


def test_what_stands_in_the_file_does_not_steer_the_terminal() -> None:
    text = str(only(GOOD.replace("slug: acme", 'slug: acme, "a\\e[31m\\nb": 1')))
    assert text.isprintable()


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        """\
        workspace: {slug: Acme Inc, nmae: x}
        sources:
          - {slug: web, type: http, write_keys: [wk_web, 12, "a b"], enabled: maybe}
          - {slug: web, type: "a b", write_keys: [wk_web], settings: {}}
          - just text
        destinations:
          - {slug: hook, type: pots, sources: [wbe, web, web], enabled: 1, settings: []}
          - slug: hook
            type: post
            sources: web
            settings: {headers: {a: 3}, url: 2024-01-01}
            filters: {}
          - {}
        egress: {allow_private: [10.0.0.1/8, 3, all]}
        tracking_plan: 1
        """
    )
    found_by_line = [(problem.line, problem.path) for problem in found]
    assert found_by_line == [
        (1, "workspace.name"),
        (1, "workspace.slug"),
        (1, "workspace.nmae"),
        (3, "sources[0].write_keys[1]"),
        (3, "sources[0].write_keys[2]"),
        (3, "sources[0].enabled"),
        (4, "sources[1].slug"),
        (4, "sources[1].type"),
        (4, "sources[1].write_keys[0]"),
        (4, "sources[1].settings"),
        (5, "sources[2]"),
        (7, "destinations[0].type"),
        (7, "destinations[0].sources[0]"),
        (7, "destinations[0].sources[2]"),
        (7, "destinations[0].enabled"),
        (7, "destinations[0].settings"),
        (8, "destinations[1].slug"),
        (10, "destinations[1].sources"),
        (11, "destinations[1].settings.url"),
        (12, "destinations[1].filters"),
        (13, "destinations[2].slug"),
        (13, "destinations[2].type"),
        (13, "destinations[2].sources"),
        (14, "egress.allow_private[0]"),
        (14, "egress.allow_private[1]"),
        (14, "egress.allow_private[2]"),
        (15, "tracking_plan"),
    ]
    mends = {problem.path: problem.mend for problem in found}
    assert mends["workspace.nmae"] == "Did you mean name?"
    assert "acme-inc" in mends["workspace.slug"]
    assert mends["destinations[0].type"] == "Did you mean post?"
    assert mends["destinations[0].sources[0]"] == "Did you mean web?"
    assert mends["egress.allow_private[0]"] == "Write 10.0.0.0/8"
    assert all(problem.mend for problem in found)


@pytest.mark.parametrize(
    ("what", "where"),
    [
        *[("top", key) for key in vocabulary.TOP.unbuilt],
        *[("workspace", key) for key in vocabulary.WORKSPACE.unbuilt],
        *[("source", key) for key in vocabulary.SOURCE.unbuilt],
        *[("destination", key) for key in vocabulary.DESTINATION.unbuilt],
        *[("egress", key) for key in vocabulary.EGRESS.unbuilt],
    ],
)
def test_keys_that_are_not_built_are_refused_by_name_with_their_line(what: str, where: str) -> None:
    document: dict[str, Any] = yaml.safe_load(GOOD)
    place: dict[str, Any] = {
        "top": document,
        "workspace": document["workspace"],
        "source": document["sources"][1],
        "destination": document["destinations"][0],
        "egress": document["egress"],
    }[what]
    place[where] = [{"anything": 1}]
    text = yaml.safe_dump(document, sort_keys=False)
    problem = only(text)
    assert problem.path.split(".")[-1] == where
    assert text.splitlines()[problem.line - 1].strip().removeprefix("- ").startswith(f"{where}:")
    assert "not built in this version" in problem.reason
    assert "wait for the version" in problem.mend


@pytest.mark.parametrize(
    "key",
    ["mappings", "insert_function", "function", "batch_keys", "subscriptions"],
)
def test_the_keys_of_the_contract_that_wait_are_known_by_name(key: str) -> None:
    assert key in vocabulary.DESTINATION.unbuilt


@pytest.mark.parametrize("key", ["functions", "consent", "warehouses"])
def test_the_sections_of_the_contract_that_wait_are_known_by_name(key: str) -> None:
    assert key in vocabulary.TOP.unbuilt


@pytest.mark.parametrize("kind", ["function", "actions-webhook", "bigquery"])
def test_destination_types_that_are_not_built_are_refused_by_name(kind: str) -> None:
    problem = only(GOOD.replace("type: post", f"type: {kind}"))
    assert (problem.line, problem.path) == (7, "destinations[0].type")
    assert kind in problem.reason
    assert "not built" in problem.reason


def test_a_built_type_is_not_refused_for_a_name_that_was_foreseen() -> None:
    types = {"function": NATIVE_DESTINATIONS["inbox"]}
    text = GOOD.replace("type: post", "type: function").replace("type: shelf", "type: function")
    found = problems(text, types=types)
    assert all("not built" not in problem.reason for problem in found)


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "reason"),
    [
        ("workspace: {slug: acme, name: Acme}\n", "", 1, "workspace", "missing"),
        ("{slug: acme, name: Acme}", "acme", 1, "workspace", "a mapping is wanted here, not text"),
        ("name: Acme", "name: 3", 1, "workspace.name", "text is wanted here, not a number"),
        ("name: Acme", "name: ''", 1, "workspace.name", "empty"),
        ("name: Acme", "name: {env: X}", 1, "workspace.name", "text is wanted here, not a mapping"),
        ("name: Acme", "name: " + "x" * 201, 1, "workspace.name", "longer than 200"),
        ("slug: web", "slug: -web", 3, "sources[0].slug", "not a slug"),
        ("slug: shelf", "slug: " + "x" * 65, 13, "destinations[1].slug", "not a slug"),
        ("write_keys: [wk_web]", "write_keys: []", 3, "sources[0].write_keys", "needs a write key"),
        ("write_keys: [wk_web]", "write_keys: wk_web", 3, "sources[0].write_keys", "a list is wanted here"),
        (", write_keys: [wk_web]", "", 3, "sources[0].write_keys", "missing"),
        ("[wk_web]", "['a:b']", 3, "sources[0].write_keys[0]", "letters, digits"),
        ("[wk_web]", "[wk_api]", 4, "sources[1].write_keys[0]", "taken already by sources[0].write_keys[0] in line 3"),
        ("[wk_web]", "[wk_web, wk_web]", 3, "sources[0].write_keys[1]", "taken already"),
        ("[wk_web]", f"['{mask('wk_web_1234')}']", 3, "sources[0].write_keys[0]", "masked"),
        ("type: javascript, ", "", 3, "sources[0].type", "missing"),
        ("slug: shelf", "slug: hook", 13, "destinations[1].slug", "taken already in line 6"),
        ("sources: [web]", "sources: []", 13, "destinations[1].sources", "needs a source"),
        ("sources: [web]", "sources: [hook]", 13, "destinations[1].sources[0]", "no source"),
        ("X-Key: abcdefgh", f"X-Key: '{mask('abcdefgh')}'", 12, "destinations[0].settings.headers.X-Key", "masked"),
        ("X-Key: abcdefgh", "X.Y: [1]", 12, "destinations[0].settings.headers.X.Y", "not text"),
        ("any: [", "any: [2024-01-01, ", 13, "destinations[1].settings.any[0]", "a date"),
        ("any: [", "any: [*no, ", 13, "destinations[1].settings.any[0]", "no anchor"),
        ("egress: {allow", "egress: {allow_privat: [], allow", 14, "egress.allow_privat", "no such key"),
        ("egress: {allow_private: [", "egress: {allow_private: {a: [", 0, "", ""),
        ("sources:\n", "sources: {a: b}\nx:\n", 0, "", ""),
    ],
)
def test_one_mistake(old: str, new: str, line: int, path: str, reason: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if not path:
        assert problems(text)
        return
    found = [problem for problem in problems(text) if problem.path == path]
    assert [problem.line for problem in found] == [line]
    assert reason in found[0].reason


def test_a_mistake_makes_no_other_problem() -> None:
    """The slug of a source that has a problem of its own still counts as declared."""
    assert len(problems(GOOD.replace("[wk_web]", "[]"))) == 1
    assert len(problems(GOOD.replace('url: "http://127.0.0.1:9000/hook"', "url: {env: NOPE}"))) == 1
    assert len(problems(GOOD.replace('url: "http://127.0.0.1:9000/hook"', "url: 2024-01-01"))) == 1


def test_a_missing_setting_is_reported_where_settings_are_or_would_be() -> None:
    assert only(GOOD.replace("url:", "headers2:")).path == "destinations[0].settings.url"
    assert only(GOOD.replace("url:", "headers2:")).line == 11
    text = "workspace: {slug: a, name: A}\nsources: [{slug: s, type: http, write_keys: [k]}]\ndestinations:\n"
    problem = only(text + "  - {slug: d, type: post, sources: [s]}")
    assert (problem.line, problem.path) == (4, "destinations[0].settings.url")


def test_problems_are_capped_and_counted() -> None:
    found = problems(GOOD + "".join(f"k{number}: 1\n" for number in range(MAX_PROBLEMS + 7)))
    assert len(found) == MAX_PROBLEMS + 1
    assert "7 more problems" in found[-1].reason


def test_notes() -> None:
    _, report = check("workspace: {slug: a, name: A}")
    assert "no source" in report.notes[0].reason
    _, report = check(GOOD.replace("type: http", "type: htpp"))
    assert "If http is meant" in report.notes[0].mend
    assert report.problems == []


def test_null_counts_as_absent() -> None:
    assert good("workspace: {slug: a, name: A}\nsources:\ndestinations:\negress:\n").sources == {}


def test_anchors_and_merge_keys_work() -> None:
    snapshot = good(
        """\
        workspace: {slug: a, name: A}
        sources: [{slug: s, type: http, write_keys: [k]}]
        destinations:
          - &base {slug: d1, type: post, sources: [s], enabled: true, settings: &url {url: "http://h"}}
          - {<<: *base, slug: d2}
          - {slug: d3, type: post, sources: [s], enabled: true, settings: {<<: *url, headers: {a: b}}}
        """
    )
    assert snapshot.destinations["d2"].settings == {"url": "http://h"}
    assert snapshot.destinations["d3"].settings == {"url": "http://h", "headers": {"a": "b"}}


# References


def test_references_are_resolved_and_remembered(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    (tmp_path / "lines").write_bytes(b"a\nb\r\n")
    text = GOOD.replace("[wk_web]", "[{env: WK}]").replace("X-Key: abcdefgh", "A: {file: key}, B: {file: lines}")
    snapshot = good(text, environ={"WK": "wk_env"}, base=tmp_path)
    assert snapshot.sources["web"].write_keys == ("wk_env",)
    assert snapshot.destinations["hook"].settings["headers"] == {"A": "s3cret", "B": "a\nb"}
    assert [(item.path, item.kind, item.target) for item in snapshot.references] == [
        (("sources", "web", "write_keys", "0"), "env", "WK"),
        (("destinations", "hook", "settings", "headers", "A"), "file", "key"),
        (("destinations", "hook", "settings", "headers", "B"), "file", "lines"),
    ]
    literal = GOOD.replace("[wk_web]", "[wk_env]").replace("X-Key: abcdefgh", 'A: s3cret, B: "a\\nb"')
    assert good(literal).version == snapshot.version


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("{env: NOPE}", "the environment has no variable NOPE"),
        ("{env: EMPTY}", "the variable EMPTY is empty"),
        ("{env: BYTES}", "not UTF-8"),
        ("{env: 3}", "env needs the name of a variable"),
        ("{env: ''}", "env needs the name of a variable"),
        ("{env: [A]}", "env needs the name of a variable"),
        ("{file: nope}", "the file nope can't be read (No such file or directory)"),
        ("{file: .}", "can't be read"),
        ("{file: pipe}", "not a regular file"),
        ("{file: big}", "larger than 64 KiB"),
        ("{file: empty}", "is empty"),
        ("{file: latin}", "not UTF-8"),
        ('{file: "a\\0b"}', "not a path"),
        ("{file: null}", "file needs a path"),
        ("{file: " + "x" * 500 + "}", "can't be read"),
    ],
)
def test_references_that_lead_nowhere(tmp_path: Path, reference: str, reason: str) -> None:
    (tmp_path / "big").write_bytes(b"x" * 70_000)
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "latin").write_bytes(b"\xe9")
    os.mkfifo(tmp_path / "pipe")
    environ = {"EMPTY": "", "BYTES": "\udcff"}
    for old, path, line in [
        ("abcdefgh", "destinations[0].settings.headers.X-Key", 12),
        ("wk_api_2", "sources[1].write_keys[1]", 4),
    ]:
        problem = only(GOOD.replace(old, reference), environ=environ, base=tmp_path)
        assert (problem.line, problem.path) == (line, path)
        assert reason in problem.reason
        assert problem.mend


def test_a_value_from_outside_is_never_shown() -> None:
    text = GOOD.replace('"http://127.0.0.1:9000/hook"', "{env: URL}")
    problem = only(text, environ={"URL": "ftp://user:it's-a-secret@host"})
    assert "secret" not in str(problem)
    assert problem.reason == f"not an http(s) URL: {mask('ftp://user:it-s-a-secret@host')!r}".replace("'", '"')
    text = GOOD.replace("[wk_web]", "[{env: KEY}]")
    assert "topsecret" not in str(only(text, environ={"KEY": "not allowed: topsecret"}))


# Arbitrary documents

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
words = st.sampled_from(
    [
        *vocabulary.TOP.known,
        *vocabulary.SOURCE.known,
        *vocabulary.DESTINATION.known,
        *vocabulary.EGRESS.known,
        "env",
        "file",
        "url",
        "headers",
        "shared_secret",
        "max_mb",
        "filters",
        "functions",
    ]
)
values = st.recursive(
    scalars | st.sampled_from(["web", "webhook", "inbox", "http", "wk", "10.0.0.0/8", "http://[", "http://a:b"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)
documents = st.fixed_dictionaries(
    {"workspace": st.just({"slug": "a", "name": "A"}) | values},
    optional={
        "sources": values | st.lists(st.dictionaries(st.sampled_from(vocabulary.SOURCE.known), values), max_size=3),
        "destinations": values
        | st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["webhook", "inbox"])},
                optional={"settings": values, "sources": values, "slug": values, "filters": values},
            ),
            max_size=3,
        ),
        "egress": values | st.dictionaries(st.sampled_from(vocabulary.EGRESS.known), values),
        "functions": values,
    },
)


@given(documents | values)
def test_no_document_crashes_the_checker(document: Any) -> None:
    text = yaml.safe_dump(document, sort_keys=False)
    snapshot, report = check(text, types=NATIVE_DESTINATIONS, environ={"PATH": "/bin"})
    assert (snapshot is None) == bool(report.problems)
    lines = text.count("\n") + 2
    for problem in [*report.problems, *report.notes]:
        assert 0 <= problem.line <= lines
        assert problem.reason
        assert problem.mend
        assert str(problem).isprintable()


@given(st.data())
def test_no_damage_to_a_good_file_crashes_the_checker(data: st.DataObject) -> None:
    raw = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(start, min(len(raw), start + 20)))
        raw[start:end] = data.draw(st.binary(max_size=4) | st.sampled_from([b": ", b"- ", b"\n", b"*a", b"&a ", b"["]))
    snapshot, report = check(bytes(raw))
    assert (snapshot is None) == bool(report.problems)
