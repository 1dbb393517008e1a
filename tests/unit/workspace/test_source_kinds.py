"""A destination that does not work with a kind of sources says so where the file lists one of them."""

from __future__ import annotations

import pytest

from tests.unit.workspace.workspace_kit import TYPES, Post, check
from trunkline.spec.capabilities import BROWSER, MOBILE, SERVER, source_kind
from trunkline.workspace.model import BROWSER_TYPES, CLIENT_SIDE_TYPES


class Pixel(Post):
    """Works in pages and apps."""

    name = "pixel"
    source_kinds = frozenset({BROWSER, MOBILE})


FILE = """\
workspace: {slug: acme, name: Acme}
sources:
  - {slug: web, type: javascript, write_keys: [wk_web]}
  - {slug: app, type: swift, write_keys: [wk_app]}
  - {slug: api, type: http, write_keys: [wk_api]}
destinations:
  - {slug: one, type: TYPE, sources: [web, app, api], enabled: true, settings: {url: "http://x"}}
"""


def notes_on(type: str) -> list[str]:
    snapshot, report = check(FILE.replace("TYPE", type), types={**TYPES, "pixel": Pixel()})
    assert snapshot is not None, "it is no problem: others of the sources may be taken"
    return [str(note) for note in report.notes]


def test_a_kind_that_the_type_does_not_work_with_is_noted_with_its_line() -> None:
    (note,) = notes_on("pixel")
    assert "acme.yaml:7:" in note
    assert "events of api are not sent here: pixel works with browser and mobile sources, not server ones" in note
    assert "Take api out of `sources`" in note


def test_a_type_that_works_with_all_is_not_noted() -> None:
    assert notes_on("post") == []


@pytest.mark.parametrize(
    ("source_type", "kind"),
    [("javascript", BROWSER), ("amp", BROWSER), ("kotlin", MOBILE), ("roku", MOBILE), ("http", SERVER), ("x", SERVER)],
)
def test_kinds_of_sources(source_type: str, kind: str) -> None:
    assert source_kind(source_type) == kind


def test_pages_and_apps_are_client_side() -> None:
    """Pixels are too, though a mail is neither page nor app."""
    assert {kind for kind in CLIENT_SIDE_TYPES if source_kind(kind) == SERVER} == {"pixel"}
    assert {source_kind(kind) for kind in BROWSER_TYPES} == {BROWSER}
