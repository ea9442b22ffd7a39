"""A job that reads results starts at once: what takes seconds to import is not imported for it."""

import os
import subprocess
import sys

import pytest
from theseus_bench.files import write_json
from worked import copy_of

pytestmark = pytest.mark.slow  # each starts a process

COMPUTING = {"torch", "transformers", "datasets", "evaluate", "sklearn", "scipy.stats", "scipy.special"}
NOT_IMPORTED = {
    "suite.status": COMPUTING | {"pandas"},
    "evaluation.scores": COMPUTING,
    "evaluation.significance": COMPUTING,
    "tables.experiment": COMPUTING | {"matplotlib"},
    "figures.experiment": COMPUTING | {"scipy.optimize", "matplotlib.backends.backend_pdf"},
    "report.build": COMPUTING | {"matplotlib.axes", "rocrate"},
}


def modules_after(code: str) -> set[str]:
    """The modules that are imported once `code` has run in a process of its own."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    return set(process.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", NOT_IMPORTED)
def test_a_reader_of_results_imports_nothing_that_computes_them(module):
    modules = modules_after(f"import theseus_bench.commands, theseus_bench.suite.load, theseus_bench.{module}")
    assert f"theseus_bench.{module}" in modules
    assert modules & NOT_IMPORTED[module] == set()


def test_tables_of_scores_are_made_without_what_computed_the_scores(worked_example, tmp_path):
    folder = copy_of(worked_example.folder, tmp_path)
    write_json(folder / "suite.json", worked_example.plan.suite.model_dump())
    arguments = ["score-tables", str(folder), "glue"]
    # The example has published numbers of its own, in which the methods' rows are not.
    unchecked = "from theseus_bench.suite import load\nload.check_spec = lambda *_: None\n"
    modules = modules_after(f"{unchecked}from theseus_bench.commands import run\nassert run({arguments}) == 0")
    assert (folder / "tables/glue.csv").is_file()
    assert modules & NOT_IMPORTED["tables.experiment"] == set()
