"""Every reason that the code gives has a text, and the docs hold it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trunkline.destinations.kit import RETRYABLE_STATUSES
from trunkline.spec import outcomes
from trunkline.spec.codes import CODES
from trunkline.spec.delivery_codes import DELIVERY_CODES, text_of

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "trunkline"
REASON = r"E[A-Z]{2}[A-Z_]*|CERTIFICATE|INTERNAL|[A-Z]+_(?:[A-Z]+_)*(?:SETTINGS|REJECTED|TYPE|REFUSED)"


def reasons_in(source: str) -> set[str]:
    """Reasons that a module gives: texts in capitals, and codes after which an outcome is made."""
    found = set(re.findall(rf'"({REASON})"', source))
    found |= set(re.findall(r'(?:HttpError|Outcome)\(\s*(?:Result\.\w+,\s*)?"([^"]+)"', source))
    return found


def given_in_code() -> set[str]:
    found: set[str] = set()
    for room in ("delivery", "destinations", "archive", "replay", "runtime"):
        for path in (PACKAGE / room).rglob("*.py"):
            found |= reasons_in(path.read_text("utf-8"))
    return found


def test_every_reason_that_the_code_gives_has_a_text_of_its_own() -> None:
    found = given_in_code()
    assert {"ECONNREFUSED", "ENOTFOUND", "EGRESS_REFUSED", "EIO", "INTERNAL", "ETIMEDOUT", "CERTIFICATE"} <= found
    assert found - set(DELIVERY_CODES) == set()


def test_the_search_for_reasons_finds_new_ones() -> None:
    source = 'raise HttpError("EWEIRD", "…")\nreturn Outcome(Result.FAILED, "odd_reason", detail)\nx = "BAD_SETTINGS"\n'
    assert reasons_in(source) == {"EWEIRD", "odd_reason", "BAD_SETTINGS"}


def test_every_reason_of_the_outcomes_has_a_text_of_its_own() -> None:
    endings = {outcomes.FAILED_ON_INGEST, outcomes.FILTERED_AT_SOURCE, outcomes.ACCEPTED, outcomes.OBJECT}
    endings |= {outcomes.ENTERED, outcomes.FILTERED_AT_DESTINATION, outcomes.DELIVERED, outcomes.FAILED}
    texts = {value for name, value in vars(outcomes).items() if name.isupper() and isinstance(value, str)}
    assert {"duplicate", "destination_deleted", "RETRY"} <= texts
    assert texts - endings - set(DELIVERY_CODES) == set()


def test_statuses_say_of_themselves_whether_they_are_tried_again() -> None:
    for status in range(200, 600):
        assert text_of(str(status)).again == (status in RETRYABLE_STATUSES), status


@pytest.mark.parametrize(
    ("reason", "title"),
    [
        ("401", "Invalid API key"),
        ("403", "Invalid API key"),
        ("429", "Rate limit exceeded"),
        ("422", "Schema violation"),
        ("418", "Refused with 418"),
        ("599", "Server error 599"),
        ("302", "Redirect 302"),
        ("no_user_anon_id", "No user anon id"),
        ("BespokeError", "BespokeError"),
        ("", "Retries exhausted"),
        ("9999", "9999"),
    ],
)
def test_any_reason_has_a_text(reason: str, title: str) -> None:
    text = text_of(reason)
    assert text.title == title
    assert text.meaning.endswith(".")
    assert text.mend
    if reason in CODES:
        assert (text.meaning, text.mend) == (CODES[reason].meaning, CODES[reason].mend)


def test_texts_are_plain_sentences() -> None:
    for code, text in DELIVERY_CODES.items():
        assert text.title, code
        assert not text.title.endswith("."), code
        assert text.meaning.endswith("."), code
        assert text.mend.endswith("."), code
        assert "|" not in text.meaning + text.mend, code


def test_the_docs_list_every_reason_with_its_text() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    section = re.split(r"^## ", page.split("\n## Deliveries\n")[1], flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{code}` | {text.title} | {'yes' if text.again else 'no'} | {text.meaning} | {text.mend} |"
        for code, text in DELIVERY_CODES.items()
    ]
    assert lines == expected
