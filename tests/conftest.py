"""Every test runs from the project's root, where the tasks and methods are, on one processor thread."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from scope import once

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
ROOT = Path(__file__).parent.parent


SLOW = ("workflow", "slurm", "methods", "training", "modeling")  # the folders whose tests train, or start processes


def pytest_collection_modifyitems(items):
    """`slow`: what trains or starts the workflow; `tools`: what needs programs besides Python's packages.

    The files of the longest tests come first, so that of two processes none waits for the other in the end.
    """
    items.sort(key=lambda item: item.path.parent.name != "workflow")
    for item in items:
        if item.path.relative_to(ROOT / "tests").parts[0] in SLOW:
            item.add_marker("slow")
        if "program" in item.fixturenames:
            item.add_marker("tools")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def program():
    """A program's path by its name, or by the first of several: the test is skipped without it, but fails in CI."""

    def find(*names: str) -> str:
        path = next(filter(None, map(shutil.which, names)), None)
        if path is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{names[0]} is not installed: make tools")
        return path

    return find


WorkedSuite = namedtuple("WorkedSuite", "plan folder root")


@pytest.fixture(scope=once)
def worked_suite(tmp_path_factory):
    """The plan and the folder of the suite of worked.py, its differences tested."""
    from worked import compare_methods, leave_worked_suite  # it imports what other tests can do without

    root, before = tmp_path_factory.mktemp("worked"), Path.cwd()
    os.chdir(ROOT)
    try:
        plan, folder = leave_worked_suite(root)
        os.chdir(root)
        compare_methods(plan, folder)
    finally:
        os.chdir(before)
    return WorkedSuite(plan, folder, root)


@pytest.fixture
def worked_example(worked_suite, monkeypatch):
    """The same, from the folder where the paper of the example is the published one."""
    monkeypatch.chdir(worked_suite.root)
    return worked_suite
