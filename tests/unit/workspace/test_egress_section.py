"""The keys under ``egress``."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from tests.unit.workspace.workspace_kit import SECRETS, TYPES, check, good, problems
from trunkline.secrets import mask
from trunkline.workspace.codec import decode_snapshot, encode_snapshot, make_snapshot
from trunkline.workspace.model import EgressProxy, EgressRules
from trunkline.workspace.yaml_out import to_yaml

BARE = "workspace: {slug: a, name: A}\nsources: [{slug: s, type: http, write_keys: [k]}]\n"
WHOLE = (
    BARE
    + """\
egress:
  allow_private: [10.0.0.0/8]
  allow_ports: [6379, 22, 22]
  https_only: true
  source_address: ["::1", 127.0.0.1]
  proxy: {url: "http://Proxy.example:3128/", username: {env: PROXY_USER}, password: {file: proxy-password}}
"""
)
ENVIRON = {"PROXY_USER": "trunkline"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "proxy-password").write_text("hunter2hunter2\n")
    return tmp_path


def test_all_keys_are_read(base: Path) -> None:
    assert good(WHOLE, base=base, environ=ENVIRON).egress == EgressRules(
        allow_private=(ip_network("10.0.0.0/8"),),
        allow_ports=(22, 6379),
        https_only=True,
        source_address=(ip_address("127.0.0.1"), ip_address("::1")),
        proxy=EgressProxy("http://proxy.example:3128", "trunkline", "hunter2hunter2"),
    )
    assert good(BARE).egress == EgressRules()


def test_they_are_stored_and_change_the_version(base: Path) -> None:
    snapshot = good(WHOLE, base=base, environ=ENVIRON)
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
    versions = {snapshot.version, good(BARE).version}
    changes = [
        ("22, 22", "23"),
        ("https_only: true", "https_only: false"),
        ('"::1", ', ""),
        ("3128", "3129"),
        ("{env: PROXY_USER}", "else"),
        ("{file: proxy-password}", "other"),
    ]
    for old, new in changes:
        assert old in WHOLE
        versions.add(good(WHOLE.replace(old, new), base=base, environ=ENVIRON).version)
    assert len(versions) == 2 + len(changes)


def test_an_export_keeps_references_and_masks_a_literal_password(base: Path) -> None:
    snapshot = good(WHOLE, base=base, environ=ENVIRON)
    exported = to_yaml(snapshot, TYPES, show_secrets=False)
    assert "hunter2" not in exported
    assert yaml.safe_load(exported)["egress"]["proxy"]["password"] == {"file": "proxy-password"}
    assert good(exported, base=base, environ=ENVIRON) == snapshot
    assert good(to_yaml(snapshot, TYPES, show_secrets=True)) == snapshot

    literal = good(WHOLE.replace("{file: proxy-password}", "hunter2hunter2"), environ=ENVIRON)
    exported = to_yaml(literal, TYPES, show_secrets=False)
    assert yaml.safe_load(exported)["egress"]["proxy"]["password"] == mask("hunter2hunter2")
    (refused,) = problems(exported, environ=ENVIRON)
    assert (refused.path, "masked" in refused.reason) == ("egress.proxy.password", True)
    assert "hunter2" not in repr(literal)


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ("allow_ports: [0]", "allow_ports[0]"),
        ("allow_ports: [65536]", "allow_ports[0]"),
        ("allow_ports: ['22']", "allow_ports[0]"),
        ("allow_ports: [true]", "allow_ports[0]"),
        ("allow_ports: [22.0]", "allow_ports[0]"),
        ("allow_ports: 22", "allow_ports"),
        ("allow_private: 10.0.0.0/8", "allow_private"),
        ("https_only: 'yes'", "https_only"),
        ("source_address: 127", "source_address"),
        ("source_address: localhost", "source_address"),
        ("source_address: 0.0.0.0", "source_address"),
        ("source_address: '::'", "source_address"),
        ("source_address: 224.0.0.1", "source_address"),
        ("source_address: 'fe80::1%lo'", "source_address"),
        ("source_address: '::ffff:127.0.0.1'", "source_address"),
        ("source_address: 127.0.0.1/32", "source_address"),
        ("source_address: [127.0.0.1, 127.0.0.2]", "source_address[1]"),
        ("proxy: 'http://p:1'", "proxy"),
        ("proxy: {username: a}", "proxy"),
        ("proxy: {url: 'https://p:1'}", "proxy.url"),
        ("proxy: {url: 'socks5://p:1'}", "proxy.url"),
        ("proxy: {url: 'p:3128'}", "proxy.url"),
        ("proxy: {url: 'http://p:0'}", "proxy.url"),
        ("proxy: {url: 'http://p:x'}", "proxy.url"),
        ("proxy: {url: 'http://p:70000'}", "proxy.url"),
        ("proxy: {url: 'http://:1'}", "proxy.url"),
        ("proxy: {url: 'http://u:p@p:1'}", "proxy.url"),
        ("proxy: {url: 'http://p:1/path'}", "proxy.url"),
        ("proxy: {url: 'http://p:1?q'}", "proxy.url"),
        ('proxy: {url: "http://p\\r\\nX: y:1"}', "proxy.url"),
        ("proxy: {url: {env: P}}", "proxy.url"),
        ("proxy: {url: 'http://p:1', password: p}", "proxy.password"),
        ("proxy: {url: 'http://p:1', username: 'a:b'}", "proxy.username"),
        ("proxy: {url: 'http://p:1', username: \"a\\r\\nb\"}", "proxy.username"),
        ("proxy: {url: 'http://p:1', username: {env: NONE}}", "proxy.username"),
        ("proxy: {url: 'http://p:1', user: a}", "proxy.user"),
        ("proxy: {url: 'http://p:1', no_proxy: a}", "proxy.no_proxy"),
    ],
)
def test_what_is_wrong_has_its_place_and_its_mend(keys: str, path: str) -> None:
    (problem,) = problems(BARE + f"egress: {{{keys}}}\n")
    assert problem.path == f"egress.{path}"
    assert problem.line == 3
    assert problem.mend


def test_an_address_that_this_machine_has_not_is_a_note() -> None:
    snapshot, report = check(BARE + "egress: {source_address: [203.0.113.9, '::1']}\n")
    assert snapshot is not None
    (note,) = report.notes
    assert note.path == "egress.source_address[0]"
    assert "203.0.113.9 can't be bound here" in note.reason


def test_a_workspace_without_the_newer_keys_keeps_its_version() -> None:
    networks = (ip_network("10.0.0.0/8"),)
    rules = [EgressRules(networks), EgressRules(networks, https_only=False, allow_ports=())]
    versions = {
        make_snapshot(SECRETS, slug="a", name="A", sources=[], destinations=[], egress=item).version for item in rules
    }
    assert len(versions) == 1
