"""From a path to a snapshot: the part that ``serve``, ``check`` and the reload share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline.secrets import Secrets
from trunkline.workspace.destination_type import DestinationType
from trunkline.workspace.model import Snapshot
from trunkline.workspace.problem import Problem, Report
from trunkline.workspace.references import Fingerprint, References, fingerprint, read_regular_file
from trunkline.workspace.yaml_file import check_workspace
from trunkline.workspace.yaml_tree import MAX_BYTES, report_too_large


@dataclass(frozen=True)
class Loaded:
    """``snapshot`` is None exactly when there are problems."""

    snapshot: Snapshot | None
    problems: list[Problem]
    notes: list[Problem]
    watched: Mapping[Path, Fingerprint | None]
    """The file and those that its references name, existing or not, each as it was just before it was read: load
    again when the :func:`fingerprint` of one has become another. None of them can change unnoticed meanwhile."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files in ``watched``, the workspace's own first."""
        return tuple(self.watched)


def load(
    path: Path,
    destination_types: Mapping[str, DestinationType],
    secrets: Secrets,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read, check and resolve a workspace's file. Never raises for what the file holds or for its absence.

    ``environ`` is where ``{env: NAME}`` looks; by default the process's own.
    """
    report = Report(str(path))
    references = References(path.parent, os.environ if environ is None else environ, report)
    snapshot = None
    references.watched[path] = fingerprint(path)
    try:
        content = read_regular_file(path, MAX_BYTES)
    except OSError as error:
        mend = "Check the path and its permissions"
        report.problem(0, 0, "", f"the file can't be read ({error.strerror})", mend)
    else:
        if content is None:
            report_too_large(report)
        else:
            snapshot = check_workspace(content, report, destination_types, secrets, references)
    return Loaded(snapshot, report.problems, report.notes, references.watched)
