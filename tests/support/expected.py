"""What a test needs of the machine and does not find."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str, *, needs_root: bool = False) -> NoReturn:
    """Skip on a developer's machine; under ``CI=true`` everything must be there, so fail.

    What only root can have (``needs_root``) may be missing in CI too, if it does not run as root.
    """
    if os.environ.get("CI") == "true" and (os.geteuid() == 0 or not needs_root):
        pytest.fail(f"{reason} (with CI=true a test that cannot run fails)", pytrace=False)
    pytest.skip(reason)
