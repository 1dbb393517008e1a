"""``trunkline plans``: the tracking plans of the workspace that is in force."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

import typer

from trunkline.cli.in_force import workspace_in_force
from trunkline.cli.options import DataDirOption
from trunkline.cli.plans_infer import infer
from trunkline.cli.plans_transfer import register as register_transfer
from trunkline.cli.printing import console, paragraph, plain, table
from trunkline.observe.wording import count_text
from trunkline.spec.plans import RULE_TYPES, TrackingPlan


def list_plans(
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the tracking plans with their rules and sources.

    Works beside a running server.

    Exit status: 0 listed, 2 there is no workspace.
    """
    plans = list(workspace_in_force(data_dir).tracking_plans.values())
    if as_json:
        print(json.dumps([_as_json(plan) for plan in plans], indent=2))
        return
    screen = console()
    if not plans:
        paragraph(screen, "The workspace has no tracking plan. Add one under `tracking_plans` in its file.")
        return
    listed = table("plan", "name", "rules", "of them", "sources", numbers=(2,))
    for plan in plans:
        sources = ", ".join(plan.sources) or "none"
        listed.add_row(plain(plan.slug), plain(plan.name), f"{len(plan.rules):,}", _by_type(plan), plain(sources))
    screen.print(listed)
    screen.print(f"{count_text(len(plans), 'plan')}.")


def _by_type(plan: TrackingPlan) -> str:
    """``track 12, identify 1``."""
    rules = Counter(rule.type for rule in plan.rules)
    return ", ".join(f"{kind} {rules[kind]:,}" for kind in RULE_TYPES if rules[kind])


def _as_json(plan: TrackingPlan) -> dict[str, Any]:
    rules = Counter(rule.type for rule in plan.rules)
    return {
        "slug": plan.slug,
        "name": plan.name,
        "sources": list(plan.sources),
        "rules": {kind: rules[kind] for kind in RULE_TYPES},
    }


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Tracking plans: list, export, import, infer.", no_args_is_help=True)
    group.command("list")(list_plans)
    register_transfer(group)
    group.command("infer")(infer)
    app.add_typer(group, name="plans")
