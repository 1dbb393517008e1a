"""``trunkline plans export`` and ``import``: a tracking plan as a file of its own, in Segment's shapes."""

from __future__ import annotations

import csv
import os
import secrets
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from trunkline.cli.in_force import workspace_in_force
from trunkline.cli.options import DataDirOption
from trunkline.cli.printing import plain
from trunkline.cli.saying import fail
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.observe.wording import count_text
from trunkline.secrets import KEY_BYTES, Secrets
from trunkline.spec.plans import TrackingPlan
from trunkline.workspace.codec import make_snapshot
from trunkline.workspace.loader import load
from trunkline.workspace.model import Snapshot, Source
from trunkline.workspace.plan_csv import format_csv, parse_csv
from trunkline.workspace.plan_file import MAX_FILE_BYTES, FileProblem, PlanFile, PlanFileError
from trunkline.workspace.plan_json import format_json, parse_json
from trunkline.workspace.plan_rules import key_of
from trunkline.workspace.plans_section import plan_keys
from trunkline.workspace.problem import Report, nearest
from trunkline.workspace.references import References, read_regular_file
from trunkline.workspace.yaml_file import SLUG, check_workspace
from trunkline.workspace.yaml_out import dump_yaml, to_yaml

FormatOption = Annotated[
    Literal["json", "csv"] | None,
    typer.Option("--format", help="Default: by the ending of the file's name, else json.", show_default=False),
]
_REPORT_COLUMNS: Final = ("Row", "Place", "Problem", "Mend")
_SHOWN: Final = 50
MAX_INLINE_BYTES: Final = 512 * 1024
"""A larger plan's rules would take up much of what a workspace's file may hold, and are slow to read as YAML."""


def export_plan(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="As `trunkline plans list` shows it.")],
    data_dir: DataDirOption = None,
    format: FormatOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write to this file. Default: standard output.", show_default=False)
    ] = None,
) -> None:
    """Write the rules of a plan as JSON, in the shape of Segment's Public API, or as CSV.

    CSV can't say all that a schema can; a plan that it can't say is refused.

    Exit status: 0 written, 1 CSV can't hold the plan, 2 there is no such plan, or the file can't be written.
    """
    plans = workspace_in_force(data_dir).tracking_plans
    plan = plans.get(slug)
    if plan is None:
        guess = nearest(slug, plans)
        mend = f"Did you mean {guess}?" if guess else "See `trunkline plans list` for those that there are."
        fail(f"the workspace has no tracking plan {plain(slug)!r}. {mend}")
    try:
        content = (format_csv if _format(format, out) == "csv" else format_json)(PlanFile.of(plan))
    except PlanFileError as error:
        _say_problems(slug, error.problems)
        raise typer.Exit(1) from None
    if out is None:
        sys.stdout.write(content.decode())
        return
    try:
        out.write_bytes(content)
    except OSError as error:
        fail(f"{out} can't be written ({error.strerror}). Name another file with --out.")
    typer.echo(f"{out}: {count_text(len(plan.rules), 'rule')} of the plan {slug}.", err=True)


def import_plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A plan as JSON or CSV.")],
    slug: Annotated[str | None, typer.Option(help="What the plan is called. Default: as the file says.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name for people. Default: as the file says.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="A source that follows the plan; may be repeated.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Check how the plan fits into this workspace's file. It is not changed.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write what is wrong with FILE here too, as CSV.", show_default=False),
    ] = None,
    format: FormatOption = None,
) -> None:
    """Print a plan from a file as the section that goes into the workspace's file.

    Read are what `trunkline plans export` writes, answers of Segment's Public API, plan.json of Typewriter, and CSV.

    Exit status: 0 printed, 1 the file has problems or does not fit, 2 it can't be read.
    """
    try:
        content = _content(file)
        read = (parse_csv if _format(format, file) == "csv" else parse_json)(content)
    except PlanFileError as error:
        _say_problems(str(file), error.problems)
        if report is not None:
            _write_report(report, error.problems)
        raise typer.Exit(1) from None
    slug = slug or read.slug
    if not SLUG.fullmatch(slug):
        reason = f"{plain(slug)!r} is no slug" if slug else "the file does not say what the plan is called"
        fail(f"{reason}. Name it with --slug: a-z, 0-9, hyphens and underscores, 64 at most.")
    plan = TrackingPlan(slug, name or read.name or slug, tuple(dict.fromkeys(source or ())), read.rules)
    if config is None:
        _check_alone(plan)
    else:
        plan = _check_in(config, plan)
    if len(content) <= MAX_INLINE_BYTES:
        keys = plan_keys(plan)
    else:
        keys = {**plan_keys(plan, rules=False), "file": _path_for(file, config, format)}
        typer.echo(f"{file} is large, so the section names it instead of holding its rules.", err=True)
    typer.echo(dump_yaml({"tracking_plans": [keys]}), nl=False)


def register(group: typer.Typer) -> None:
    """Add the commands to ``trunkline plans``."""
    group.command("export")(export_plan)
    group.command("import")(import_plan)


# -- how a plan fits ---------------------------------------------------------------------------------------------


def _throwaway() -> Secrets:
    """The version of a snapshot depends on a key; here nobody asks for it."""
    return Secrets(secrets.token_bytes(KEY_BYTES))


def _check_alone(plan: TrackingPlan) -> None:
    sources = [Source(slug, slug, "http", (f"wk_{index}",)) for index, slug in enumerate(plan.sources)]
    key = _throwaway()
    _check(make_snapshot(key, slug="a", name="A", sources=sources, destinations=()), [plan], key, plan.slug)


def _check_in(config: Path, plan: TrackingPlan) -> TrackingPlan:
    """The plan with what the file's own of the same slug has beside its rules."""
    key = _throwaway()
    loaded = load(config, NATIVE_DESTINATIONS, key)
    now = loaded.snapshot
    if now is None:
        for problem in loaded.problems:
            typer.echo(str(problem), err=True)
        fail(f"{config} has problems of its own: mend these first.", 1)
    known = now.tracking_plans.get(plan.slug)
    if known is not None:
        plan = replace(plan, sources=plan.sources or known.sources, enforce=known.enforce)
    _check(now, {**now.tracking_plans, plan.slug: plan}.values(), key, plan.slug)
    typer.echo(f"{config}: {_difference(known, plan)}", err=True)
    return plan


def _check(snapshot: Snapshot, plans: Iterable[TrackingPlan], key: Secrets, slug: str) -> None:
    """Ends the command unless a file of the snapshot with these plans would load. Rules are good when they are read."""
    bare = {plan.slug: replace(plan, rules=()) for plan in plans}
    text = to_yaml(replace(snapshot, tracking_plans=bare), NATIVE_DESTINATIONS, show_secrets=True)
    checked = Report(slug)
    check_workspace(text.encode(), checked, NATIVE_DESTINATIONS, key, References(Path(), {}, checked))
    if not checked.problems:
        return
    # The lines are those of a file that nobody has.
    _say_problems(slug, [FileProblem(item.path, item.reason, item.mend) for item in checked.problems])
    raise typer.Exit(1)


def _difference(old: TrackingPlan | None, new: TrackingPlan) -> str:
    if old is None:
        return f"the plan {new.slug} is new there; add it to `tracking_plans`."
    before, after = ({key_of(rule): rule for rule in plan.rules} for plan in (old, new))
    added, removed = after.keys() - before.keys(), before.keys() - after.keys()
    changed = [key for key in after.keys() & before.keys() if after[key] != before[key]]
    if not added and not removed and not changed:
        return f"the plan {new.slug} has these rules already."
    return (
        f"the plan {new.slug} is there already; replace it. Rules: {len(added)} added, {len(removed)} removed, "
        f"{len(changed)} changed."
    )


# -- the steps ---------------------------------------------------------------------------------------------------


def _format(named: str | None, file: Path | None) -> str:
    return named or ("csv" if file is not None and file.suffix.lower() == ".csv" else "json")


def _content(file: Path) -> bytes:
    """Raises PlanFileError for what is too large, whatever is in it."""
    try:
        content = read_regular_file(file, MAX_FILE_BYTES)
    except OSError as error:
        fail(f"{file} can't be read ({error.strerror}). Check the path and its permissions.")
    if content is None:
        reason = f"larger than {MAX_FILE_BYTES // 2**20} MiB"
        raise PlanFileError([FileProblem("", reason, "Take rules out: no plan needs so many")])
    return content


def _path_for(file: Path, config: Path | None, named: str | None) -> str:
    """What `file:` says: the path as seen from the workspace's file, if that is known."""
    if named is not None and named != _format(None, file):
        fail(f"{file} is too large for the workspace's file, and can't be named there: give it the ending .{named}.")
    return str(file) if config is None else os.path.relpath(file, config.parent)


def _say_problems(file: str, problems: Sequence[FileProblem]) -> None:
    for problem in problems[:_SHOWN]:
        typer.echo(plain(f"{file}: {problem}"), err=True)
    if len(problems) > _SHOWN:
        typer.echo(f"{file}: {count_text(len(problems) - _SHOWN, 'problem')} more, see --report.", err=True)


def _write_report(path: Path, problems: Sequence[FileProblem]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_REPORT_COLUMNS)
            writer.writerows((item.row or "", item.place, item.reason, item.mend) for item in problems)
    except OSError as error:
        fail(f"{path} can't be written ({error.strerror}). Name another file with --report.")
