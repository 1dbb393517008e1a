"""How transformations stand in the workspace's file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.workspace.workspace_kit import GOOD, SECRETS, TYPES, check, good, only, problems
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.pipeline.transformations import compile_transformations
from trunkline.spec.discards import Discard
from trunkline.spec.transformations import ALGORITHMS, ENCODINGS, PropertyHash, PropertyValue, Transformation
from trunkline.workspace import vocabulary
from trunkline.workspace.codec import decode_snapshot, encode_snapshot, make_snapshot
from trunkline.workspace.loader import load
from trunkline.workspace.model import Destination, Snapshot, Source
from trunkline.workspace.yaml_out import to_yaml

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "transformations.md"
FIRST = GOOD.count("\n") + 2
"""The line of the first transformation."""


def with_transformations(*lines: str) -> str:
    """The good workspace with these, each on a line of its own."""
    return GOOD + "transformations:\n" + "".join(f"  - {line}\n" for line in lines)


def one(keys: str, condition: str = 'event = "Order Done"') -> str:
    return with_transformations(f"{{slug: t, source: web, if: '{condition}', {keys}}}")


def test_all_of_them() -> None:
    snapshot = good(
        with_transformations(
            "{slug: a, name: A name, source: web, destination: hook, if: 'event = \"A\"', enabled: false,\n"
            "   rename_event: B, rename_properties: {total: revenue, address.zip: a\\.b}, allow_properties: [x, y.z],\n"
            "   set: [{paths: [properties.c, context.app.kind], value: {x: [1, null]}}, {paths: [userId], value: u}],\n"
            "   hash: {paths: [properties.email], algorithm: sha512, encoding: base64url, key: {env: HASH_KEY}}}",
            "{slug: b, source: web, if: all, fql_properties: {plan: 'titlecase(properties.plan)'}}",
            "{slug: c, source: api, if: all, hash: {paths: [traits.email]}}",
            "{slug: d, source: api, if: 'event = \"A\"', drop: true}",
        ),
        environ={"HASH_KEY": "a long secret"},
    )
    values = (PropertyValue(("properties.c", "context.app.kind"), {"x": [1, None]}), PropertyValue(("userId",), "u"))
    assert snapshot.transformations == (
        Transformation(
            "a",
            "web",
            'event = "A"',
            name="A name",
            destination="hook",
            enabled=False,
            new_event_name="B",
            renames=(("total", "revenue"), ("address.zip", "a\\.b")),
            values=values,
            allow_properties=("x", "y.z"),
            hash=PropertyHash(("properties.email",), "sha512", "base64url", "a long secret"),
        ),
        Transformation("b", "web", "all", fql_properties=(("plan", "titlecase(properties.plan)"),)),
        Transformation("c", "api", "all", hash=PropertyHash(("traits.email",))),
        Transformation("d", "api", 'event = "A"', drop=True),
    )
    assert [item.slug for item in snapshot.transformations_of("web")] == ["b"]
    assert [item.slug for item in snapshot.transformations_of("api")] == ["c", "d"]
    assert snapshot.transformations_of("web", "hook") == ()


@pytest.mark.parametrize(
    ("keys", "path", "reason", "mend"),
    [
        ("", "", "it changes nothing", "Add one of rename_event"),
        ("rename_event: 5", "rename_event", "text is wanted here", "Put it in quotes"),
        ("rename_event: ''", "rename_event", "empty", "Write the new name"),
        ("rename_event: ' '", "rename_event", "the name is blank", "Write a name"),
        ("rename_event: Order Done", "rename_event", "the events are called so already", "Remove it"),
        ("rename_properties: []", "rename_properties", "a mapping is wanted here", "Write rename_properties: {total"),
        ("rename_properties: {}", "rename_properties", "nothing is named", "Write rename_properties: {total"),
        ("rename_properties: {a: 5}", "rename_properties.a", "text is wanted here", "Put it in quotes"),
        ("rename_properties: {a: }", "rename_properties.a", "text is wanted here", "Write rename_properties"),
        ("rename_properties: {a..b: x}", "rename_properties.a..b", "a key is empty", "Write keys with a dot"),
        ("rename_properties: {x: a.b.c.d.e}", "rename_properties.x", "5 keys; 4 are the most", "Name a place"),
        ("rename_properties: {products.$.x: a}", "rename_properties.products.$.x", "into lists", "Name what stands"),
        (
            "rename_properties: {properties.x: a}",
            "rename_properties.properties.x",
            "counts from prop",
            "Write x; a prop",
        ),
        ("rename_properties: {x: context.y}", "rename_properties.x", "only properties and traits", "Set writes to"),
        ("rename_properties: {a: a}", "rename_properties.a", "called so already", "Write another name"),
        ("rename_properties: {a: x, a.b: y}", "rename_properties.a.b", "name the same property", "Keep one of them"),
        ("rename_properties: {a: x, b: x.y}", "rename_properties.b", '"a" goes to "x" already', "Give each property"),
        ("set: {}", "set", "a list is wanted here", "Write set: [{paths"),
        ("set: []", "set", "nothing is listed", "Write set: [{paths"),
        ("set: [5]", "set[0]", "a mapping is wanted here", "Write set: [{paths"),
        ("set: [{value: 1}]", "set[0].paths", "missing", "Add paths: [properties"),
        ("set: [{paths: [properties.a]}]", "set[0].value", "missing", "Add value: web"),
        ("set: [{paths: properties.a, value: 1}]", "set[0].paths", "a list is wanted here", "Write paths"),
        ("set: [{path: [properties.a], value: 1, paths: [properties.a]}]", "set[0].path", "no such key", "Write paths"),
        ("set: [{paths: [channels], value: x}]", "set[0].paths[0]", "no field channels at the top", "Begin with"),
        ("set: [{paths: [propertys.x], value: x}]", "set[0].paths[0]", "no field propertys at the top", "Begin with"),
        ("set: [{paths: [messageId], value: x}]", "set[0].paths[0]", "messageId can't be changed", "Name another"),
        ("set: [{paths: [event], value: x}]", "set[0].paths[0]", "event can't be changed", "Name another"),
        ("set: [{paths: [userId], value: 5}]", "set[0].value", "userId must be text", "Put the value in quotes"),
        ("set: [{paths: [userId], value: null}]", "set[0].value", "userId must be text", "Put the value in quotes"),
        ("set: [{paths: [context], value: 5}]", "set[0].value", "context must be an object", "Name a key in it"),
        ("set: [{paths: [properties.a], value: {env: X}}]", "set[0].value", "is no secret", "Write the value itself"),
        ("set: [{paths: [properties.a, properties.a], value: 1}]", "set[0].paths[1]", "set here twice", "Keep one"),
        (
            "set: [{paths: [properties.a], value: 1}, {paths: [context.b, properties.a.b], value: 2}]",
            "set[1].paths[1]",
            "or stands in another path",
            "Keep one",
        ),
        (
            "rename_properties: {a: b}, set: [{paths: [properties.a], value: 1}]",
            "set[0].paths[0]",
            'rename_properties changes "a" too',
            "Do one of the two",
        ),
        (
            "rename_properties: {a: b.c}, set: [{paths: [properties.b], value: 1}]",
            "set[0].paths[0]",
            'rename_properties changes "b.c" too',
            "Do one of the two",
        ),
        (f"set: [{{paths: {[f'properties.p{n}' for n in range(11)]}, value: 1}}]", "set[0].paths", "11 paths", "Take"),
        (f"set: {[{'paths': [f'properties.p{n}'], 'value': n} for n in range(11)]}", "set", "11 values", "Take some"),
        (f"set: [{{paths: [properties.a], value: {'x' * 16400}}}]", "set", "16,384 are the most", "Make them smaller"),
        ("fql_properties: []", "fql_properties", "a mapping is wanted here", "Write fql_properties: {plan"),
        ("fql_properties: {a: '1', b: '2'}", "fql_properties", "1 is the most", "Use a transformation for each"),
        ("fql_properties: {a: 'lowercase(b'}", "fql_properties.a", "not a value: character 12", "Close what"),
        ("fql_properties: {a: 'lowercas(b)'}", "fql_properties.a", "there is no function", "There are bool, "),
        ("fql_properties: {a: all}", "fql_properties.a", "`all` is a condition", "Write a path"),
        ("fql_properties: {a: 'null'}", "fql_properties.a", "null writes nothing", "Write set"),
        (
            "fql_properties: {properties.a: properties.a}",
            "fql_properties.properties.a",
            "its own value",
            "Write a func",
        ),
        ("fql_properties: {a..b: '1'}", "fql_properties.a..b", "a key is empty", "Write keys"),
        ("fql_properties: {a: '1'}, rename_event: N", "rename_event", "exclude each other", "Use two transformations"),
        ("fql_properties: {a: '1'}, rename_properties: {a: b}", "rename_properties", "exclude each other", "Use two"),
        ("fql_properties: {a: '1'}, set: [{paths: [userId], value: x}]", "set", "exclude each other", "Use two"),
        ("allow_properties: total", "allow_properties", "a list is wanted here", "Write allow_properties"),
        ("allow_properties: []", "allow_properties", "nothing is listed", "Write allow_properties"),
        ("allow_properties: [a, a]", "allow_properties[1]", '"a" stands here twice', "Keep one"),
        ("allow_properties: [properties.a]", "allow_properties[0]", "counts from properties", "Write a; a property"),
        (f"allow_properties: {[f'p{n}' for n in range(1001)]}", "allow_properties", "1000 are the most", "Take some"),
        ("hash: []", "hash", "a mapping is wanted here", "Write hash: {paths"),
        ("hash: {algorithm: md5}", "hash.paths", "missing", "Add paths"),
        ("hash: {paths: [properties]}", "hash.paths[0]", "properties itself can't be hashed", "Name what it holds"),
        ("hash: {paths: [email]}", "hash.paths[0]", "no field email at the top", "Begin with properties"),
        ("hash: {paths: [context.a, context.a.b]}", "hash.paths[1]", "would be hashed twice", "Keep one"),
        ("hash: {paths: [context.a], algorithm: SHA-256}", "hash.algorithm", "no algorithm", "Did you mean sha256?"),
        ("hash: {paths: [context.a], algorithm: rot}", "hash.algorithm", "no algorithm", "Use one of: sha256"),
        ("hash: {paths: [context.a], encoding: HEX}", "hash.encoding", "no encoding", "Did you mean hex?"),
        ("hash: {paths: [context.a], key: 5}", "hash.key", "text is wanted here", "Put it in quotes"),
        ("hash: {paths: [context.a], key: {env: NOPE}}", "hash.key", "no variable NOPE", "Set NOPE"),
        ("hash: {paths: [context.a], key: '********'}", "hash.key", "a masked value", "Put the key itself"),
        ("hash: {paths: [context.a], salt: x}", "hash.salt", "no such key", "Write key: {env: HASH_KEY}"),
        ("drop: yes please", "drop", "true or false is wanted here", "Write true or false"),
        ("drop: true, rename_event: N", "rename_event", "says nothing with drop: true", "Remove it, or the drop"),
        ("drop: true, hash: {paths: [context.a]}", "hash", "says nothing with drop: true", "Remove it, or the drop"),
        ("drop: true, enabled: 1", "enabled", "true or false is wanted here", "Write true or false"),
        ("drop: true, name: 5", "name", "text is wanted here", "Put it in quotes"),
        (f"drop: true, name: {'n' * 201}", "name", "longer than 200 characters", "Shorten it"),
        ("drop: true, destination: shelf", "destination", "storage destinations get every", "Leave the key out"),
        ("drop: true, destination: hok", "destination", 'no destination "hok"', "Did you mean hook?"),
        ("drop: true, newEventName: N", "newEventName", "no such key", "Write rename_event"),
        ("drop: true, sources: [web]", "sources", "no such key", "write source: web"),
        ("drop: true, enable: true", "enable", "no such key", "Did you mean enabled?"),
    ],
)
def test_mistakes(keys: str, path: str, reason: str, mend: str) -> None:
    problem = only(one(keys))
    assert (problem.line, problem.path) == (FIRST, f"transformations[0].{path}".rstrip("."))
    assert reason in problem.reason
    assert mend in problem.mend


@pytest.mark.parametrize(
    ("line", "path", "reason", "mend"),
    [
        ("5", "", "a mapping is wanted here", "Write a mapping"),
        ("{source: web, if: all, drop: true}", "slug", "missing", "Add slug"),
        ("{slug: T, source: web, if: all, drop: true}", "slug", "not a slug", "such as t"),
        ("{slug: t, if: all, drop: true}", "source", "missing", "Add source: web"),
        ("{slug: t, source: wep, if: all, drop: true}", "source", 'no source "wep"', "Did you mean web?"),
        ("{slug: t, source: 5, if: all, drop: true}", "source", "text is wanted", "Put it in quotes"),
        ("{slug: t, source: web, drop: true}", "if", "missing", "Add if: "),
        ("{slug: t, source: web, if: 'event = ', drop: true}", "if", "not a condition: character 9", "Text stands"),
        (
            "{slug: t, source: web, if: 'type = \"page\"', rename_event: N}",
            "rename_event",
            "only track",
            "set: [{paths",
        ),
    ],
)
def test_mistakes_of_where_it_applies(line: str, path: str, reason: str, mend: str) -> None:
    problem = only(with_transformations(line))
    assert (problem.line, problem.path) == (FIRST, f"transformations[0].{path}".rstrip("."))
    assert reason in problem.reason
    assert mend in problem.mend


def test_a_destination_must_get_events_of_the_source() -> None:
    text = with_transformations("{slug: t, source: api, destination: hook, if: all, drop: true}")
    assert good(text)
    problem = only(text.replace("sources: [web, api]", "sources: [web]"))
    assert problem.path == "transformations[0].destination"
    assert problem.reason == "the destination hook gets nothing from the source api"


def test_there_is_one_for_each_source_condition_and_destination() -> None:
    first = '{slug: a, source: web, if: \'event = "A" and type = "track"\', drop: true}'
    others = (
        first.replace("slug: a, source: web", "slug: b, source: api"),
        first.replace("slug: a,", "slug: c, destination: hook,"),
        first.replace("slug: a", "slug: d").replace('"A"', '"B"'),
    )
    assert len(good(with_transformations(first, *others)).transformations) == 4
    again = "{slug: e, source: web, if: \"type='track' and (event='A')\", enabled: false, rename_event: N}"
    problem = only(with_transformations(first, *others, again))
    assert (problem.line, problem.path) == (FIRST + 4, "transformations[4]")
    assert f"the one in line {FIRST} has the same source, condition and destination" in problem.reason


def test_slugs_are_unique() -> None:
    first = "{slug: a, source: web, if: 'event = \"A\"', drop: true}"
    problem = only(with_transformations(first, first.replace('"A"', '"B"')))
    assert problem.path == "transformations[1].slug"


def test_every_mistake_is_reported() -> None:
    found = problems(
        with_transformations(
            "{slug: a, source: no, if: (, rename_properties: {a: 5, properties.b: x}, hash: {paths: [x], key: 1}}",
            "{slug: b, source: web, if: all, drop: true}",
            "{slug: c, source: web, if: event = 5, set: [{paths: [x], value: 1}, {paths: [y, userId], value: 1}]}",
        )
    )
    assert [(item.line - FIRST, item.path.partition(".")[2]) for item in found] == [
        (0, "source"),
        (0, "if"),
        (0, "rename_properties.a"),
        (0, "hash.paths[0]"),
        (0, "hash.key"),
        (2, "set[0].paths[0]"),
        (2, "set[1].paths[0]"),
        (2, "set[1].value"),
    ]


@pytest.mark.parametrize("section", ["SOURCE", "DESTINATION"])
def test_elsewhere_the_check_says_where_they_stand(section: str) -> None:
    assert "at the top of the file" in getattr(vocabulary, section).elsewhere["transformations"]


@pytest.mark.parametrize("text", ["transformations: {}\n", "transformations: x\n"])
def test_they_are_a_list(text: str) -> None:
    problem = only(GOOD + text)
    assert (problem.path, problem.reason) == ("transformations", "a list is wanted here")


def test_what_passes_the_check_can_be_compiled() -> None:
    snapshot, report = check(
        with_transformations(
            r"{slug: a, source: web, if: all, rename_properties: {\properties.x: '\context', 'a b': ü}}",
            r"""{slug: b, source: web, if: "type = 'page'", fql_properties: {'context.x\.y': '[userId, 5]'}}""",
        )
    )
    assert report.problems == []
    assert snapshot is not None
    event = {"type": "page", "properties": {"properties": {"x": 1}, "a b": 2}}
    found = compile_transformations(snapshot.transformations).verdict(event, msgspec.json.encode(event))
    assert not isinstance(found, Discard)
    assert msgspec.json.decode(found) == {
        "type": "page",
        "properties": {"properties": {}, "context": 1, "ü": 2},
        "context": {"x.y": [None, 5]},
    }


# Out and in again

PATHS = ("a", "b.c", "d\\.e", "x y", "ü", "f.g.h", "yes", "0123")
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts.map("k{}".format), inner, max_size=2),
    max_leaves=4,
)
hashes = st.builds(
    PropertyHash,
    st.lists(st.sampled_from(PATHS), min_size=1, unique=True).map(lambda keys: tuple(f"traits.{key}" for key in keys)),
    st.sampled_from(ALGORITHMS),
    st.sampled_from(ENCODINGS),
    st.none() | texts.map("key {}".format),
)
renames = st.permutations(PATHS).map(lambda keys: tuple((key, f"n{number}") for number, key in enumerate(keys[:3])))
sets = st.lists(st.sampled_from(PATHS), min_size=1, max_size=3, unique=True).flatmap(
    lambda keys: st.tuples(*[st.builds(PropertyValue, st.just((f"context.{key}",)), values) for key in keys])
)
bare = st.builds(
    Transformation, st.just("t"), st.sampled_from(["web", "api"]), st.just("all"), name=texts | st.just("")
)
kinds = st.one_of(
    st.just({"drop": True}),
    st.fixed_dictionaries({"new_event_name": texts, "renames": renames, "hash": hashes}),
    st.fixed_dictionaries({"values": sets, "allow_properties": st.permutations(PATHS).map(tuple)}),
    st.sampled_from(["lowercase(event)", "[1, 'x']", "a.\\0"]).map(
        lambda fql: {"fql_properties": (("context.x", fql),)}
    ),
)
transformations = st.lists(
    st.tuples(bare, kinds, st.booleans(), st.sampled_from(["", "hook"])), max_size=4
).map(
    lambda drawn: tuple(
        Transformation(
            **{
                **{name: getattr(item, name) for name in ("source", "name")},
                "slug": f"t{number}",
                "condition": f'event = "E {number}"',
                "enabled": enabled,
                "destination": destination,
                **keys,
            }
        )
        for number, (item, keys, enabled, destination) in enumerate(drawn)
    )
)  # fmt: skip


def snapshot_with(found: tuple[Transformation, ...]) -> Snapshot:
    return make_snapshot(
        SECRETS,
        slug="a",
        name="A",
        sources=[Source("web", "W", "http", ("k",)), Source("api", "P", "http", ("p",))],
        destinations=[Destination("hook", "D", "post", ("web", "api"), True, {"url": "http://x"})],
        transformations=found,
    )


@settings(max_examples=60)
@given(transformations)
def test_any_of_them_survive_the_way_out_and_in(found: tuple[Transformation, ...]) -> None:
    snapshot = snapshot_with(found)
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
    again = good(to_yaml(snapshot, TYPES, show_secrets=True))
    assert again == snapshot
    assert again.version == snapshot.version
    shown = to_yaml(snapshot, TYPES, show_secrets=False)
    assert not any(item.hash and item.hash.key and item.hash.key in shown for item in found)


SECRET = one("hash: {paths: [properties.email], key: {env: HASH_KEY}}")


def test_the_key_of_a_hash_is_a_reference_again_or_masked() -> None:
    snapshot = good(SECRET, environ={"HASH_KEY": "abcdefghijklmnop"})
    assert "abcdefghijklmnop" not in repr(snapshot)
    text = to_yaml(snapshot, TYPES, show_secrets=False)
    assert yaml.safe_load(text)["transformations"][0]["hash"]["key"] == {"env": "HASH_KEY"}
    literal = good(SECRET.replace("{env: HASH_KEY}", "abcdefghijklmnop"))
    assert literal.version == snapshot.version
    text = to_yaml(literal, TYPES, show_secrets=False)
    masked = yaml.safe_load(text)["transformations"][0]["hash"]["key"]
    assert masked == "********mnop"
    (problem,) = [item for item in problems(text) if item.path.startswith("transformations")]
    assert problem.reason == "a masked value, as an export shows it"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rename_event: A", "rename_event: B"),
        ("{a: b}", "{a: c}"),
        ("value: 1", "value: 2"),
        ("[a, b]", "[b, a]"),
        ("sha512", "sha256"),
        ("enabled: true, rename", "enabled: false, rename"),
        ("'event = \"X\"'", "'event = \"Y\"'"),
        ("destination: hook, ", ""),
        ("slug: t,", "slug: u,"),
        ("key: k", "key: l"),
    ],
)
def test_any_change_changes_the_version(old: str, new: str) -> None:
    text = with_transformations(
        "{slug: t, source: web, destination: hook, if: 'event = \"X\"', enabled: true, rename_event: A, "
        "rename_properties: {a: b}, set: [{paths: [context.x], value: 1}], allow_properties: [a, b], "
        "hash: {paths: [context.y], algorithm: sha512, key: k}}"
    )
    assert text.count(old) == 1
    assert good(text).version != good(text.replace(old, new)).version


def test_their_order_is_part_of_the_version() -> None:
    lines = [f"{{slug: t{n}, source: web, if: 'event = \"{n}\"', drop: true}}" for n in range(2)]
    assert good(with_transformations(*lines)).version != good(with_transformations(*reversed(lines))).version


def test_a_workspace_without_any_is_stored_as_before_they_were_known() -> None:
    stored = msgspec.msgpack.decode(encode_snapshot(good(GOOD)))
    assert "transformations" not in stored[1]["content"]
    assert "transformations" not in yaml.safe_load(to_yaml(good(GOOD), TYPES, show_secrets=False))


def test_what_says_nothing_is_not_exported() -> None:
    exported: dict[str, Any] = yaml.safe_load(to_yaml(good(one("rename_event: N")), TYPES, show_secrets=False))
    assert exported["transformations"] == [
        {"slug": "t", "source": "web", "if": 'event = "Order Done"', "enabled": True, "rename_event": "N"}
    ]


# The documentation


def test_the_examples_of_the_documentation_pass_the_check(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert len(examples) >= 1
    head = (
        "workspace: {slug: a, name: A}\nsources:\n  - {slug: web, type: http, write_keys: [k]}\ndestinations:\n"
        "  - {slug: hook, type: webhook, sources: [web], enabled: true, settings: {url: 'https://x.example/'}}\n"
    )
    for example in examples:
        (tmp_path / "acme.yaml").write_text(head + example)
        loaded = load(tmp_path / "acme.yaml", NATIVE_DESTINATIONS, SECRETS, {"HASH_KEY": "k"})
        assert [*map(str, loaded.problems), *map(str, loaded.notes)] == []


@pytest.mark.parametrize(
    "section", [vocabulary.TRANSFORMATION, vocabulary.TRANSFORMATION_VALUE, vocabulary.TRANSFORMATION_HASH]
)
def test_every_key_is_documented(section: vocabulary.Section) -> None:
    text = DOCUMENT.read_text("utf-8")
    for key in section.known:
        assert re.search(rf"^\| `(set\[\]\.|hash\.)?{key}`", text, re.MULTILINE), key
