"""What the tests of the workspace share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

from trunkline.secrets import Secrets
from trunkline.spec.capabilities import METHODS, SOURCE_KINDS
from trunkline.workspace.destination_type import DestinationType, SettingProblem
from trunkline.workspace.model import Snapshot
from trunkline.workspace.problem import Problem, Report
from trunkline.workspace.references import References
from trunkline.workspace.yaml_file import check_workspace

SECRETS = Secrets(bytes(range(32)))


class Post:
    """A small destination type: an address that must be http(s), a key, headers."""

    name = "post"
    storage = False
    methods = METHODS
    source_kinds = SOURCE_KINDS
    secret_settings = frozenset({"key", "headers", "nested.deep", "list[1]"})

    def check_settings(self, settings: Mapping[str, Any]) -> list[SettingProblem]:
        url = settings.get("url")
        if url is None:
            return [("url", "missing", "Add the address")]
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            return [("url", f"not an http(s) URL: {url!r}", "Write http:// or https:// in front of the host")]
        headers = settings.get("headers", {})
        if not isinstance(headers, dict):
            return [("headers", "not a mapping", "Write names and values")]
        return [
            (f"headers.{name}", "not text", "Quote it") for name, value in headers.items() if not isinstance(value, str)
        ]


class Shelf:
    """A type that takes anything."""

    name = "shelf"
    storage = True
    methods = METHODS
    source_kinds = SOURCE_KINDS
    secret_settings: frozenset[str] = frozenset()

    def check_settings(self, settings: Mapping[str, Any]) -> list[SettingProblem]:
        return []


TYPES: Mapping[str, DestinationType] = {"post": Post(), "shelf": Shelf()}

GOOD = """\
workspace: {slug: acme, name: Acme}
sources:
  - {slug: web, type: javascript, write_keys: [wk_web]}
  - {slug: api, name: Our API, type: http, write_keys: [wk_api, wk_api_2], enabled: false}
destinations:
  - slug: hook
    type: post
    sources: [web, api]
    enabled: true
    settings:
      url: "http://127.0.0.1:9000/hook"
      headers: {X-Key: abcdefgh}
  - {slug: shelf, name: The shelf, type: shelf, sources: [web], settings: {any: [1, 2.5, true, null, {deep: x}]}}
egress: {allow_private: ["127.0.0.0/8", "fd00::/8"]}
"""


def check(
    content: str | bytes,
    *,
    environ: Mapping[str, str] | None = None,
    base: Path = Path("/nonexistent"),
    types: Mapping[str, DestinationType] = TYPES,
) -> tuple[Snapshot | None, Report]:
    """Check a file's content as ``acme.yaml``."""
    raw = content if isinstance(content, bytes) else dedent(content).encode()
    report = Report("acme.yaml")
    snapshot = check_workspace(raw, report, types, SECRETS, References(base, environ or {}, report))
    return snapshot, report


def problems(content: str | bytes, **how: Any) -> list[Problem]:
    """The problems of a bad file."""
    snapshot, report = check(content, **how)
    assert snapshot is None
    assert report.problems
    return report.problems


def only(content: str | bytes, **how: Any) -> Problem:
    """The one problem of a bad file."""
    (problem,) = problems(content, **how)
    return problem


def good(content: str | bytes, **how: Any) -> Snapshot:
    """The snapshot of a good file."""
    snapshot, report = check(content, **how)
    assert report.problems == []
    assert snapshot is not None
    return snapshot
