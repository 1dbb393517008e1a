from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trunkline.workspace.problem import Problem, Report
from trunkline.workspace.yaml_tree import MAX_BYTES, MAX_DEPTH, Broken, Node, parse_tree

LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


def parse(content: str | bytes, loader: Any = yaml.SafeLoader) -> tuple[Node | None, list[Problem]]:
    report = Report("f.yaml")
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return parse_tree(raw, report, loader), report.problems


def plain(node: Node | None) -> Any:
    assert node is not None
    match node.value:
        case Broken():
            return "BROKEN"
        case list():
            return [plain(item) for item in node.value]
        case dict():
            return {key: plain(item) for key, item in node.value.items()}
        case value:
            return value


def good(content: str, loader: Any = yaml.SafeLoader) -> Any:
    node, problems = parse(content, loader)
    assert problems == []
    return plain(node)


def one(content: str | bytes, loader: Any = yaml.SafeLoader) -> Problem:
    _, problems = parse(content, loader)
    (problem,) = problems
    return problem


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, 'y', \"z\", 1.5, -3, 0x1F, 1_000, yes, off, ~, null, '']",
        "- !!str 12\n- !!int '12'\n- !!float 3\n- ! 7\n- .5\n- 1e3\n- 012",
        "a: &x {k: 1, l: [2]}\nb: *x\nc: {<<: *x, l: 3, m: 4}",
        "a: &x {k: 1}\nb: &y {k: 2, z: 5}\nc: {<<: [*x, *y]}\nd: {k: 9, <<: *y}",
        "text: |\n  one\n  two\nfolded: >\n  a\n  b\nempty:\n",
        "%YAML 1.1\n---\na: b\n...\n",
        "\ufeffa: b",
        "é: 😀",
        "just text",
    ],
)
def test_values_are_those_of_the_safe_loader(text: str, loader: Any) -> None:
    assert good(text, loader) == yaml.safe_load(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@pytest.mark.parametrize("loader", LOADERS)
@given(value=json_values)
def test_what_json_holds_comes_through(value: Any, loader: Any) -> None:
    assert good(yaml.safe_dump(value), loader) == value


def test_lines_and_columns() -> None:
    node, _ = parse("a:\n  - x\n  -   {b: y}\n")
    assert node is not None
    assert isinstance(node.value, dict)
    assert node.key_places == {"a": (1, 1)}
    items = node.value["a"].value
    assert isinstance(items, list)
    assert [(item.line, item.column) for item in items] == [(2, 5), (3, 7)]
    assert items[1].key_places == {"b": (3, 8)}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("text", "line", "path", "reason"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a", "a second time, after line 1"),
        ("x:\n- {k: 1, k: 2}", 2, "x[0].k", "a second time"),
        ("a: {<<: {b: 1}, c: 1, c: 2}", 1, "a.c", "a second time"),
        ("a: 2024-01-01", 1, "a", "a date can't be a value"),
        ("2024-01-01: a", 1, "", "a date can't be a key"),
        ("a:\n  yes: 1", 2, "a", "a key that is not text"),
        ("a:\n  1: 1", 2, "a", "a key that is not text"),
        ("? [a]\n: 1", 1, "", "a key that is not text"),
        ("a: .nan", 1, "a", "JSON can't hold"),
        ("a: -.inf", 1, "a", "JSON can't hold"),
        ("a: 99999999999999999999999", 1, "a", "JSON can't hold"),
        ("a: " + "9" * 5000, 1, "a", "not a value of the tag int"),
        ("a: !!int x", 1, "a", "not a value of the tag int"),
        ("a: !!bool x", 1, "a", "not a value of the tag bool"),
        ("a: !!binary aGk=", 1, "a", "tag tag:yaml.org,2002:binary is not allowed"),
        ("a: !!python/object/apply:os.system [x]", 1, "a", "is not allowed"),
        ("a: !thing x", 1, "a", "tag !thing is not allowed"),
        ("a: !!set {x}", 1, "a", "is not allowed"),
        ("a: *x", 1, "a", "no anchor &x comes before it"),
        ("a: &x [1, *x]", 1, "a[1]", "inside of what it repeats"),
        ("a: &x {b: *x}", 1, "a.b", "inside of what it repeats"),
        ("a: {<<: 3}", 1, "a", "<< needs a mapping"),
        ("a: 1\n---\nb: 1", 2, "", "a second document"),
        ("a: [1", 1, "", "not valid YAML"),
        ("a: b: c", 1, "", "not valid YAML"),
        ("\ta: b", 1, "", "not valid YAML"),
        ("a: 1\nb: \x07", 2, "", "U+0007 is not allowed"),
        ("a: äöü\nb: ä\x00", 2, "", "U+0000 is not allowed"),
        ("", 0, "", "holds nothing"),
        ("# only a comment\n", 0, "", "holds nothing"),
    ],
)
def test_problems_have_their_place(text: str, line: int, path: str, reason: str, loader: Any) -> None:
    problem = one(text, loader)
    assert reason in problem.reason
    assert problem.path == path
    # At the end of the text the two parsers count one line apart.
    assert problem.line in ((line, line + 1) if text == "a: [1" else (line,))
    assert problem.mend


@pytest.mark.parametrize("loader", LOADERS)
def test_text_that_is_no_unicode(loader: Any) -> None:
    assert "surrogate" in one('a: "\\ud800"', loader).reason or "YAML" in one('a: "\\ud800"', loader).reason
    assert one('a: "\\U00110000"', loader).reason.startswith("not valid YAML")
    problem = one(b"a: 1\nb: x\xff", loader)
    assert (problem.reason, problem.line, problem.column) == ("not UTF-8 text", 2, 5)
    assert one("a: b".encode("utf-16"), loader).reason == "not UTF-8 text"


def test_several_problems_come_in_the_order_of_the_file() -> None:
    _, problems = parse("a: !x 1\nb: 2024-01-01\na: .nan\nc: *y")
    assert [problem.line for problem in problems] == [1, 2, 3, 3, 4]


@pytest.mark.parametrize("loader", LOADERS)
def test_nesting_is_bounded(loader: Any) -> None:
    assert good("[" * MAX_DEPTH + "]" * MAX_DEPTH, loader) is not None
    for text in ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "[" * 100_000, "- " * 100_000 + "x", "{a: " * 100_000):
        assert "nested deeper" in one(text, loader).reason


@pytest.mark.parametrize("loader", LOADERS)
def test_alias_bombs_are_bounded(loader: Any) -> None:
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    assert "too many values" in one("\n".join(laughs), loader).reason
    merges = ["m0: &m0 {a: 1}"]
    merges += [f"m{n}: &m{n} {{p{n}: *m{n - 1}, q{n}: *m{n - 1}, <<: *m{n - 1}}}" for n in range(1, 40)]
    assert "too many values" in one("\n".join(merges), loader).reason
    long_text = "a: &a " + "x" * 1_000_000 + "\nb: [" + ", ".join(["*a"] * 1000) + "]"
    assert "too many values" in one(long_text, loader).reason
    long_key = "a: &a {" + "x" * 900 + ": 1}\nb: [" + ", ".join(["*a"] * 50_000) + "]"
    assert "too many values" in one(long_key, loader).reason


def test_size_is_bounded() -> None:
    assert "larger than 4 MiB" in one(b"a" * (MAX_BYTES + 1)).reason
    assert good("a: " + "x" * (MAX_BYTES - 10)) == {"a": "x" * (MAX_BYTES - 10)}


@pytest.mark.parametrize("loader", LOADERS)
@given(
    content=st.binary(max_size=200) | st.text(alphabet="-:[]{}&*!|>'\"%@` \n\tab<~?,#=\\", max_size=80).map(str.encode)
)
def test_junk_is_a_tree_or_a_problem(content: bytes, loader: Any) -> None:
    node, problems = parse(content, loader)
    assert node is not None or problems
    assert all(str(problem) and "\n" not in str(problem) for problem in problems)
