"""The worked example, made once for all the tests that look at a part of it."""

import os
from collections import namedtuple
from pathlib import Path

import pytest
from scope import once

Worked = namedtuple("Worked", "plan folder root")


@pytest.fixture(scope=once)
def worked_suite(tmp_path_factory):
    """The plan and the folder of the suite of worked.py, its differences tested."""
    from worked import compare_methods, leave_worked_suite  # it imports what other tests can do without

    root, before = tmp_path_factory.mktemp("worked"), Path.cwd()
    os.chdir(Path(__file__).parents[2])
    try:
        plan, folder = leave_worked_suite(root)
        os.chdir(root)
        compare_methods(plan, folder)
    finally:
        os.chdir(before)
    return Worked(plan, folder, root)


@pytest.fixture
def worked(worked_suite, monkeypatch):
    """The same, from the folder where the paper of the example is the published one."""
    monkeypatch.chdir(worked_suite.root)
    return worked_suite
