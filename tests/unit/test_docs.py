"""The documentation is a contract: what exists is in it, and what is in it exists.

Settings and the workspace's file are tested beside their own documents' authors' tests; this is the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import typer
from prometheus_client import CollectorRegistry

from trunkline import __version__
from trunkline.archive.metrics import ArchiveMetrics
from trunkline.cli.main import program
from trunkline.destinations.kit import NativeDestination
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.ingest.metrics import IngestMetrics
from trunkline.observe.metrics import WorkerMetrics
from trunkline.pipeline.stages import STAGES
from trunkline.runtime.layout import DataDir
from trunkline.schema.metrics import SchemaMetrics
from trunkline.settings import describe_settings
from trunkline.spec.codes import CODES
from trunkline.workspace import vocabulary

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PACKAGE = ROOT / "trunkline"

Command = click.Command
Row = list[str]


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next of the same level or a higher one."""
    level = len(heading) - len(heading.lstrip("#"))
    start = re.search(rf"^{re.escape(heading)}$", text, re.MULTILINE)
    assert start is not None, f"there is no heading {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{level}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[Row]:
    """The cells of all tables, without the rows of headings and rules."""
    found: list[Row] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        is_rule = re.fullmatch(r"\|[-:| ]+\|", line)
        is_heading = number + 1 < len(lines) and re.fullmatch(r"\|[-:| ]+\|", lines[number + 1])
        if line.startswith("|") and not is_rule and not is_heading:
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
    return found


def in_backticks(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# -- commands ----------------------------------------------------------------------------------------------------


@cache
def commands() -> dict[str, Command]:
    """Every command by what is typed after ``trunkline``."""
    found: dict[str, Command] = {}

    def walk(name: str, command: object) -> None:
        children = getattr(command, "commands", None)
        if children is None:
            found[name] = command  # type: ignore[assignment]
        else:
            for child_name, child in children.items():
                walk(f"{name} {child_name}".strip(), child)

    walk("", typer.main.get_command(program()))
    return found


def options_of(command: Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


def arguments_of(command: Command) -> set[str]:
    return {
        str(parameter.metavar or parameter.name).upper()
        for parameter in command.params
        if parameter.param_type_name == "argument"
    }


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_documented_with_exactly_its_options(name: str) -> None:
    below = section(text_of("docs/cli.md"), f"## trunkline {name}")
    documented = [option for row in rows(below) for option in in_backticks(row[0])]
    assert sorted(documented) == sorted(options_of(commands()[name]) - {"--help"})
    for argument in arguments_of(commands()[name]):
        assert argument in below


def test_no_command_is_documented_that_does_not_exist() -> None:
    headings = re.findall(r"^## trunkline (.+)$", text_of("docs/cli.md"), re.MULTILINE)
    assert sorted(headings) == sorted(commands())


def command_lines() -> Iterator[tuple[str, str]]:
    """Every line of code in the pages that runs the program, with the page's name."""
    for page in PAGES:
        text = page.read_text("utf-8")
        code = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        spans = re.findall(r"`((?:\.venv/bin/)?trunkline [^`\n]+)`", text)
        for line in [*"\n".join(code).splitlines(), *spans]:
            match = re.match(r"(?:\.venv/bin/)?trunkline (.+)", line)
            if match and not match[1].startswith("--version"):
                yield page.name, match[1]


@pytest.mark.parametrize(("page", "line"), list(command_lines()))
def test_command_lines_in_the_pages_can_be_typed(page: str, line: str) -> None:
    words = line.split()
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in commands()), None)
    assert name is not None, f"{page}: there is no command {words[0]!r}"
    unknown = set(re.findall(r"--[a-z-]+", line)) - options_of(commands()[name])
    assert not unknown, f"{page}: {line}"


def test_make_targets_in_the_readme_exist() -> None:
    makefile = text_of("Makefile")
    targets = set(re.findall(r"^make ([a-z-]+)", text_of("README.md"), re.MULTILINE))
    assert {"run", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


# -- the lists that the code holds -------------------------------------------------------------------------------


def test_the_stages_are_those_of_the_code_in_its_order() -> None:
    text = text_of("docs/architecture.md")
    table = text[text.index("<!-- stages -->") : text.index("<!-- /stages -->")]
    expected = [[str(stage.number), f"`{stage.name}`", stage.scope.value, stage.does] for stage in STAGES]
    assert rows(table) == expected
    assert [stage.number for stage in STAGES] == sorted(stage.number for stage in STAGES)


def test_every_rejection_code_is_documented_with_its_mend() -> None:
    documented = rows(section(text_of("docs/troubleshooting.md"), "## Rejected events"))
    assert documented == [[f"`{code}`", text.meaning, text.mend] for code, text in CODES.items()]


def test_every_refusal_is_documented() -> None:
    refused = section(text_of("docs/troubleshooting.md"), "## Refused requests")
    documented = {code for row in rows(refused) for code in in_backticks(row[1])}
    source = "\n".join(path.read_text("utf-8") for path in (PACKAGE / "ingest").glob("*.py"))
    in_code = set(re.findall(r'(?:refusal|retry_later)\(\s*\d+,\s*"([a-z_]+)"', source))
    in_code |= set(re.findall(r'(?:unavailable|not_found)\(\s*"([a-z_]+)"', source))
    assert len(in_code) >= 8
    assert in_code <= documented
    statuses = {int(row[0]) for row in rows(refused)}
    assert {int(status) for status in re.findall(r"(?:refusal|retry_later)\(\s*(\d+),", source)} <= statuses


def test_every_reason_of_a_delivery_is_documented() -> None:
    documented = in_backticks(section(text_of("docs/troubleshooting.md"), "## Deliveries"))
    source = text_of("trunkline/delivery/http.py") + text_of("trunkline/destinations/inbox.py")
    in_code = set(re.findall(r'"(E[A-Z_]{2,}|CERTIFICATE)"', source))
    assert {"ECONNREFUSED", "ENOTFOUND", "EGRESS_REFUSED", "EIO"} <= in_code
    assert in_code <= set(documented)


def test_the_metrics_are_those_that_are_exposed() -> None:
    registry = CollectorRegistry()
    IngestMetrics(registry)
    worker = WorkerMetrics(registry)
    ArchiveMetrics(registry)
    SchemaMetrics(registry)
    exposed = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()} | {
        table.name for table in worker.tables
    }
    assert len(exposed) > 10
    documented = rows(section(text_of("docs/operations.md"), "## Metrics"))
    assert sorted(in_backticks(row[0])[0] for row in documented) == sorted(exposed)


def test_labels_of_metrics_are_documented() -> None:
    source = text_of("trunkline/observe/metrics.py") + text_of("trunkline/ingest/metrics.py")
    source += text_of("trunkline/archive/metrics.py") + text_of("trunkline/schema/metrics.py")
    for name, labels, _ in rows(section(text_of("docs/operations.md"), "## Metrics")):
        bare = in_backticks(name)[0].removesuffix("_total")
        defined = re.search(rf'"{bare}",.*?\)\n', source, re.DOTALL)
        assert defined is not None
        for label in filter(None, labels.split(", ")):
            assert f'"{label}"' in defined[0], (bare, label)


def test_the_data_directory_is_documented() -> None:
    documented = " ".join(row[0] for row in rows(section(text_of("docs/operations.md"), "## The data directory")))
    data = DataDir(Path("DATA"))
    for path in (
        data.log,
        data.state,
        data.archive,
        data.archive_index,
        data.schema,
        data.bulk,
        data.dedupe,
        data.run,
        data.starter,
    ):
        assert path.name in documented
    for name in ("config.db", "master.key", "trunkline.toml", "inbox", "cache"):
        assert name in documented


@pytest.mark.parametrize("name", sorted(NATIVE_DESTINATIONS))
def test_every_native_destination_is_documented_with_its_settings(name: str) -> None:
    below = section(text_of("docs/destinations.md"), f"## {name}")
    documented = {setting for row in rows(below) for setting in in_backticks(row[0])}
    settings = _settings_of(NATIVE_DESTINATIONS[name])
    assert settings
    assert documented == settings


def _settings_of(kind: NativeDestination) -> set[str]:
    """An unknown setting is refused with a sentence that lists those that there are."""
    [mend] = [mend for path, _, mend in kind.check_settings({"no-such": 1}) if path == "no-such"]
    return set(re.findall(r"[a-z_]+", mend.removeprefix("Use"))) - {"and"}


def test_every_room_is_documented() -> None:
    documented = [in_backticks(row[0])[0] for row in rows(section(text_of("docs/architecture.md"), "## The rooms"))]
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(documented) == rooms


def test_settings_that_the_pages_name_exist() -> None:
    known = {info.name for info in describe_settings()}
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    variables = {name.lower() for name in re.findall(r"TRUNKLINE_([A-Z_]+)", text)}
    assert variables - known <= {"service_host", "failpoints", "port_", "crash_rounds"}
    named = set(
        re.findall(r"`([a-z]+(?:_[a-z]+)*_(?:s|bytes|requests|processes|concurrency|hours|proxies|token))`", text)
    )
    named = {name for name in named if not name.startswith("trunkline_")} - set(CODES)
    assert "reserve_bytes" in named
    known |= {*vocabulary.DESTINATION.known, *vocabulary.RATE_LIMIT.known, *vocabulary.RETRY.known}
    known |= {setting for kind in NATIVE_DESTINATIONS.values() for setting in _settings_of(kind)}
    assert named - known == set()


# -- the pages themselves ----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link, as Git hosts make it."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"[a-z]+:", target):
                yield page, target


@pytest.mark.parametrize(
    ("page", "target"), [pytest.param(page, target, id=f"{page.name}: {target}") for page, target in links()]
)
def test_every_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    linked = (page.parent / path).resolve() if path else page
    assert linked.exists(), target
    assert linked.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(linked), sorted(anchors(linked))


def test_every_page_can_be_found() -> None:
    linked = {(page.parent / target.partition("#")[0]).resolve() for page, target in links()}
    lost = [page.name for page in PAGES if page.resolve() not in linked and page.parent != ROOT]
    assert lost == []


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{__version__}]" in text_of("CHANGELOG.md")
