"""``trunkline egress``."""

from __future__ import annotations

import json
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from trunkline.cli import egress
from trunkline.clock import SystemClock
from trunkline.delivery import outgoing
from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.outgoing import outgoing_addresses, source_towards
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.secrets import Secrets
from trunkline.workspace.loader import load
from trunkline.workspace.model import EgressProxy
from trunkline.workspace.store import ConfigStore


def run(directory: Path, keys: str, *options: str) -> Any:
    """The result of the command with these keys under ``egress``."""
    file = directory / "w.yaml"
    file.write_text(
        "workspace: {slug: a, name: A}\nsources: [{slug: s, type: http, write_keys: [k]}]\n" + f"egress: {{{keys}}}\n"
    )
    data = directory / "data"
    secrets = Secrets.open(data)
    loaded = load(file, NATIVE_DESTINATIONS, secrets)
    assert loaded.snapshot is not None, loaded.problems
    with ConfigStore(data, secrets, SystemClock()) as store:
        store.activate(loaded.snapshot, "w.yaml")
    app = typer.Typer()
    app.callback()(lambda: None)
    egress.register(app)
    return CliRunner().invoke(app, ["egress", "--data-dir", str(data), *options])


def routes(monkeypatch: pytest.MonkeyPatch, four: str | None, six: str | None) -> None:
    def towards(address: str) -> Any:
        source = six if ":" in address else four
        return source and ip_address(source)

    monkeypatch.setattr(outgoing, "source_towards", towards)


def test_without_names_the_machines_own_addresses_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routes(monkeypatch, "10.1.2.3", "2a00:1450::1")
    result = run(tmp_path, "allow_private: [10.0.0.0/8], allow_ports: [22], https_only: true", "--json")
    assert result.exit_code == 0
    shown = json.loads(result.output)
    assert shown["addresses"] == [
        {"address": "10.1.2.3", "version": 4, "named": False, "public": False, "error": None},
        {"address": "2a00:1450::1", "version": 6, "named": False, "public": True, "error": None},
    ]
    assert shown["policy"] == {"allow_private": ["10.0.0.0/8"], "allow_ports": [22], "https_only": True}
    assert shown["proxy"] is None
    private, chosen = shown["notes"]
    assert "10.1.2.3 is private" in private
    assert "NAT gateway" in private
    assert "egress.source_address" in chosen


def test_named_addresses_are_listed_and_tried(tmp_path: Path) -> None:
    result = run(tmp_path, "source_address: [127.0.0.9, '2001:db8::9']", "--json")
    assert result.exit_code == 1
    four, six = json.loads(result.output)["addresses"]
    assert (four["address"], four["named"], four["error"]) == ("127.0.0.9", True, None)
    assert (six["address"], six["named"]) == ("2001:db8::9", True)
    assert six["error"]
    assert run(tmp_path, "source_address: 127.0.0.9", "--json").exit_code == 0


def test_a_machine_without_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routes(monkeypatch, None, None)
    result = run(tmp_path, "", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["addresses"] == []
    assert "no way out" in result.output


def test_a_proxy_is_shown_without_its_credentials(tmp_path: Path) -> None:
    keys = 'proxy: {url: "http://127.0.0.1:3128", username: someone, password: hunter2}'
    result = run(tmp_path, keys, "--json")
    assert result.exit_code == 0
    shown = json.loads(result.output)
    assert shown["proxy"] == {"url": "http://127.0.0.1:3128", "credentials": True, "addresses": ["127.0.0.1"]}
    assert [item["address"] for item in shown["addresses"]] == ["127.0.0.1"], "the address that the proxy sees"
    assert any("proxy itself sends from" in note for note in shown["notes"])
    for text in (result.output, run(tmp_path, keys).output):
        assert "hunter2" not in text
        assert "someone" not in text


def test_a_proxy_that_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    result = run(tmp_path, 'proxy: {url: "http://proxy.test:3128"}')
    assert result.exit_code == 1
    assert "can't be resolved" in result.output


def test_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routes(monkeypatch, "10.1.2.3", None)
    result = run(tmp_path, "allow_private: [10.0.0.0/8, 'fd00::/8'], allow_ports: [6379]")
    assert result.exit_code == 0
    words = " ".join(result.output.split())
    assert "10.1.2.3 private the system ready" in words
    assert "private networks that are listed: 10.0.0.0/8, fd00::/8" in words
    assert "ports of other protocols that are listed: 6379" in words
    assert "by http and https" in words


def test_a_directory_without_a_workspace(tmp_path: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    egress.register(app)
    result = CliRunner().invoke(app, ["egress", "--data-dir", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "--data-dir" in result.output
    assert not (tmp_path / "none").exists()


def test_the_way_is_asked_of_the_system() -> None:
    assert source_towards("127.0.0.1") == ip_address("127.0.0.1")
    assert source_towards("::1") == ip_address("::1")
    proxied = outgoing_addresses(EgressPolicy(proxy=EgressProxy("http://127.0.0.1:3128")))
    assert [(str(item.address), item.named, item.public) for item in proxied] == [("127.0.0.1", False, False)]
