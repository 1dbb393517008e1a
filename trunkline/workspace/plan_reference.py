"""The rules of a plan that the workspace's file only names: ``file: plans/shop.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from trunkline.spec.plans import Rule
from trunkline.workspace.plan_csv import parse_csv
from trunkline.workspace.plan_file import MAX_FILE_BYTES, PlanFile, PlanFileError
from trunkline.workspace.plan_json import parse_json
from trunkline.workspace.references import References, fingerprint, read_regular_file
from trunkline.workspace.section_reader import Refuse
from trunkline.workspace.yaml_tree import At, Broken

_MAX_REPORTED: Final = 50
"""Problems of one file: they all stand at the line that names it."""


def parse_plan(content: bytes, name: str) -> PlanFile:
    """CSV by the name's ending, else JSON. Raises PlanFileError."""
    return parse_csv(content) if Path(name).suffix.lower() == ".csv" else parse_json(content)


def rules_of_file(at: At, references: References, refuse: Refuse) -> tuple[Rule, ...] | None:
    """``at`` is the path, relative to the workspace's file. The file is watched. None: refused."""
    target = at.node.value
    if isinstance(target, Broken):
        return None
    if not isinstance(target, str) or not target or "\0" in target:
        refuse(at, "a path is wanted here", "Write the path of an exported plan: file: plans/shop.json")
        return None
    file = references.base / target
    references.watched[file] = fingerprint(file)
    try:
        content = read_regular_file(file, MAX_FILE_BYTES)
    except OSError as error:
        reason = f"the file {target} can't be read ({error.strerror})"
        refuse(at, reason, f"Put the plan in {file}, readable for Trunkline's user")
        return None
    if content is None:
        reason = f"the file {target} is larger than {MAX_FILE_BYTES // 2**20} MiB"
        refuse(at, reason, "Take rules out: no plan needs so many")
        return None
    try:
        return parse_plan(content, target).rules
    except PlanFileError as error:
        for problem in error.problems[:_MAX_REPORTED]:
            place = f"{problem.place}: " if problem.place else ""
            refuse(at, f"{target}: {place}{problem.reason}", problem.mend)
        return None
