"""``docs/fql.md`` says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from trunkline.fql import compile_fql, parse_fql
from trunkline.fql.dialects import FUNCTIONS, TSUB_FUNCTIONS
from trunkline.fql.parser import MAX_DEPTH

PAGE = (Path(__file__).parents[3] / "docs" / "fql.md").read_text()
EVENT = {
    "type": "track",
    "event": "Button Clicked",
    "properties": {"features": ["discounts", "dark-mode"], "total": 30},
}


def test_every_function_has_its_row() -> None:
    below = PAGE.split("## Functions")[1].split("\n## ")[0]
    first_cells = [line.split("|")[1] for line in below.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)\(", " ".join(first_cells))) == FUNCTIONS


def test_the_functions_of_browsers() -> None:
    known = PAGE.split("They know")[1].split("and see")[0]
    assert set(re.findall(r"`(\w+)`", known)) == TSUB_FUNCTIONS


def test_the_examples() -> None:
    rows = re.findall(r"^\| `(.+)` \| (true|false) \|$", PAGE.split("<!-- examples -->")[1], re.MULTILINE)
    assert len(rows) > 10
    for text, expected in rows:
        assert compile_fql(parse_fql(text))(EVENT) is (expected == "true"), text


def test_the_limits() -> None:
    assert f"at most 5 KB and {MAX_DEPTH} conditions inside each other" in PAGE.replace("\n", " ")
