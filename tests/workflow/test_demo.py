"""The demo as a user calls it: its main table is whole and worth reading, and the other experiments are a name away."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
from copies import copy_project
from theseus_bench.strict_yaml import read_config
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.status import states

pytestmark = pytest.mark.long

DEMO, MORE = Path("config/demo.yaml"), Path("config/demo-more.yaml")
SUITE = Path("results/demo")
METHODS = ["majority", "predecessor", "finetune", "vanilla_kd", "pkd", "distilbert", "theseus"]
TASKS = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]


def build(project: Path, *configs: Path, overrides: tuple[str, ...] = ()) -> str:
    """Build the suite of these configuration files, with overrides for --config; what snakemake said."""
    command = ["theseus-bench", "with-preload", "snakemake", "--cores", "2", "--configfile", *map(str, configs)]
    command += ["--config", *overrides] if overrides else []
    process = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-4000:]
    return process.stdout + process.stderr


def incomplete(project: Path, *configs: Path, **overrides) -> list[tuple[str, str, str]]:
    """The runs of the suite that failed or are missing, with the reason."""
    run_states = states(load_plan(read_config(*configs) | overrides), project / SUITE)
    return [(run.path, status, reason) for run, status, reason in run_states if status != "complete"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """A copy of the project with the demo in it."""
    project = tmp_path_factory.mktemp("project")
    copy_project(project)
    build(project, DEMO)
    return project


def table_of(project: Path) -> pd.DataFrame:
    """The main table by method, without the published numbers."""
    table = pd.read_csv(project / SUITE / "tables/glue_dev.csv")
    return table[~table["role"].isin(["printed", "difference"])].set_index("method")


def test_the_main_table_has_every_method_on_every_task_with_three_seeds(demo):
    scores = pd.read_parquet(demo / SUITE / "scores/glue_dev.parquet")
    scores = scores[(scores["metric"] == "score") & scores["value"].notna()]
    assert {tuple(row) for row in scores[["method", "task", "seed"]].to_numpy()} == {
        (method, task, seed) for method in METHODS for task in TASKS for seed in (1, 2, 3)
    }
    table = table_of(demo)
    assert list(table.index) == METHODS
    assert table[[*TASKS, "macro"]].notna().all(axis=None)


def test_no_run_has_failed(demo):
    assert incomplete(demo, DEMO) == []


def test_every_predecessor_is_ten_points_above_the_majority_class(demo):
    table = table_of(demo).astype({task: float for task in TASKS})
    above = table.loc["predecessor", TASKS] - table.loc["majority", TASKS]
    assert above.min() >= 10, above.to_dict()


def test_it_has_tests_files_for_the_server_and_a_report(demo):
    suite = demo / SUITE
    assert pd.read_csv(suite / "tables/glue_dev_significance.csv")["p"].notna().any()
    assert {file.stem for file in (suite / "submissions/glue_dev").glob("*.zip")} == set(METHODS)
    page = (suite / "report/index.html").read_text()
    titles = [experiment.title for experiment in load_plan(read_config(DEMO)).suite.experiments.values()]
    assert [title for title in titles if title not in page] == []


def test_the_other_experiments_are_laid_over_it_and_train_none_of_its_runs_again(demo):
    one_seed = ("seeds=[1]",)  # is enough here
    records = {file: file.read_bytes() for file in (demo / SUITE).glob("runs/*/*/*/run.json")}
    build(demo, DEMO, MORE, overrides=one_seed)
    assert {file: file.read_bytes() for file in records} == records
    assert incomplete(demo, DEMO, MORE, seeds=[1]) == []
    page = (demo / SUITE / "report/index.html").read_text()
    for name, experiment in load_plan(read_config(DEMO, MORE)).suite.experiments.items():
        assert experiment.title in page
        assert (demo / SUITE / f"tables/{name}.csv").is_file()
    assert "Nothing to be done" in build(demo, DEMO, MORE, overrides=one_seed)
