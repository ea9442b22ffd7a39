"""The records in git: readable, whole, of the settings that their configuration asks for, and without a sentence."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.status import state

PLAN = load_plan(read_yaml(Path("config/reference.yaml")))
FOLDER = Path(PLAN.folder)
PATHS = sorted(str(file.parent.relative_to(FOLDER)) for file in FOLDER.glob("runs/*/*/*/run.json"))


def test_there_are_some():
    assert PATHS


@pytest.mark.parametrize("path", PATHS)
def test_a_record_is_of_a_run_that_the_suite_asks_for_and_holds(path):
    status, reason, record = state(PLAN, PLAN.runs[path], FOLDER)
    assert record is not None, f"{status}: {reason}"
    assert record.chosen_on in ("held_out", "nothing")
    assert "dirty" not in record.provenance["code"]
    table = pq.read_schema(FOLDER / path / "predictions.parquet")
    assert table.names == ["split", "idx", "label", "logits"]


WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "torch" else super().find_spec(name, path, target)

sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
from theseus_bench.commands import run
sys.exit(run(sys.argv[1:]))
"""
RESULTS = ("scores", "significance", "tables", "figures", "report")


def test_scores_tables_figures_and_report_in_git_are_what_the_records_give_without_torch(tmp_path):
    folder = tmp_path / "minilm"
    folder.mkdir()
    for name in ("runs", "speed"):
        (folder / name).symlink_to((FOLDER / name).absolute())
    for command in (["configure", str(folder), "config/reference.yaml"], ["report", "--partial", str(folder)]):
        subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *command], check=True)
    files, expected = (
        {file.relative_to(part): file.read_bytes() for name in RESULTS for file in (part / name).rglob("*.*")}
        for part in (folder / "partial", FOLDER / "partial")
    )
    assert files.keys() == expected.keys()
    assert [str(name) for name in files if files[name] != expected[name]] == [], (
        "make them again: theseus-bench configure results/reference/minilm config/reference.yaml && "
        "theseus-bench report --partial results/reference/minilm"
    )
