"""The official test suite of JSON Schema, draft 7, as the source package of PyPI's ``jsonschema`` ships it.

Every case is put to a rule of a plan. Where we answer otherwise on purpose it is listed here, and
``docs/decisions/0016-json-schema.md`` has the reasons; a listed case that comes out right fails too.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.expected import missing
from trunkline.pipeline.plan_rules import CompiledRule
from trunkline.pipeline.plan_schema import check_schema
from trunkline.pipeline.schema_document import SchemaDocument
from trunkline.pipeline.schema_functions import generate_check
from trunkline.spec.plans import Rule

PACKAGE = "jsonschema==4.26.0"
SHA256 = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326"
FOLDER = "/json/tests/draft7/"
DOWNLOAD_TIMEOUT_S = 150
LEAST_CASES = 1400
LEAST_FUNCTIONS = 5

NOTHING_IS_FETCHED = {
    "definitions: validate definition against metaschema",
    "ref: remote ref, containing refs itself",
    "refRemote: $ref to $ref finds location-independent $id",
    "refRemote: Location-independent identifier in remote ref",
    "refRemote: base URI change",
    "refRemote: base URI change - change folder",
    "refRemote: base URI change - change folder in subschema",
    "refRemote: fragment within remote ref",
    "refRemote: ref within remote ref",
    "refRemote: remote ref",
    "refRemote: remote ref with ref to definitions",
    "refRemote: retrieved nested refs resolve relative to their URI not $id",
    "refRemote: root ref in remote ref",
    "optional/cross-draft: refs to future drafts are processed as future drafts",
}
"""Refused: the schema leads out of itself, even if only to the schema of schemas."""

AS_SEGMENTS_VALIDATOR = {
    "optional/content: validation of binary string-encoding": 1,
    "optional/content: validation of binary-encoded media type documents": 2,
    "optional/content: validation of string-encoded content based on media type": 1,
    "optional/format/date-time: validation of date-time strings": 4,
    "optional/format/idn-hostname: validation of internationalized host names": 30,
    "optional/format/idn-hostname: validation of separators in internationalized host names": 4,
    "optional/format/iri: validation of IRIs": 1,
    "optional/format/time: validation of time strings": 11,
}
"""Optional parts of the suite, and how many cases of each come out otherwise: encodings of content and idn-hostname
check nothing; times are Go's (no leap seconds, a zone of 24 hours, capital letters only), IRIs are checked as URIs."""


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> dict[str, list[dict[str, Any]]]:
    """Groups of cases by file."""
    folder = Path(request.config.cache.mkdir("json-schema-suite"))
    archive = folder / f"{PACKAGE.replace('==', '-')}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--no-binary=jsonschema", "--dest", str(folder), PACKAGE],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
        if done.returncode != 0:
            missing(f"pip download of {PACKAGE} failed: {done.stderr[-2_000:]}")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
    groups = {}
    with tarfile.open(archive) as files:
        for member in files:
            _, found, name = member.name.partition(FOLDER)
            if found and name.endswith(".json"):
                content = files.extractfile(member)
                assert content is not None
                groups[name.removesuffix(".json")] = json.load(content)
    return groups


def test_official_suite_of_draft_7(suite: dict[str, list[dict[str, Any]]]) -> None:
    refused = set()
    different: dict[str, int] = {}
    count = functions = 0
    for file, groups in suite.items():
        for group in groups:
            name = f"{file}: {group['description']}"
            schema = group["schema"]
            whole = {"allOf": [schema]} if isinstance(schema, bool) else schema
            count += len(group["tests"])
            if check_schema(whole):
                refused.add(name)
                continue
            rule = CompiledRule(Rule("common", whole), checks_names=False)
            generated = generate_check(SchemaDocument(whole), {}, of_head=False)
            wrong = sum((not rule.findings(case["data"])) is not case["valid"] for case in group["tests"])
            if wrong:
                different[name] = wrong
            if generated is not None:
                functions += 1
                for case in group["tests"]:
                    if isinstance(case["data"], dict):
                        assert case["valid"] or not generated(case["data"]), name
    assert refused == NOTHING_IS_FETCHED
    assert different == AS_SEGMENTS_VALIDATOR
    assert count > LEAST_CASES
    assert functions > LEAST_FUNCTIONS
