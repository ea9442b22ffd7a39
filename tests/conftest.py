"""Every test runs from the project's root, where the tasks and methods are, on one processor thread."""

import os
import shutil
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def program():
    """A program's path by its name, or by the first of several: the test is skipped without it, but fails in CI."""

    def find(*names: str) -> str:
        found = next(filter(None, map(shutil.which, names)), None)
        if found is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{names[0]} is not installed: make tools")
        return found

    return find
