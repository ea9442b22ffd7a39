"""How many jobs the paper's suite has with a budget of 16, counted by hand, planned, and listed by a dry run."""

import re
import subprocess
from pathlib import Path

import pytest
from theseus_bench.config import read_yaml
from theseus_bench.suites import load_plan

SEEDS, BUDGET, TASKS = 5, 16, 9
PREDECESSOR = TASKS * (SEEDS + 1)  # the search's seed needs one too


def searched(tries: int, tasks: int = TASKS) -> int:
    """A method's runs: on each task its tries, with one seed, and its final runs."""
    return tasks * (tries + SEEDS)


FULL = searched(BUDGET)  # a grid of 16 settings or more
PUBLISHED = {
    "finetune": searched(3),  # learning rates
    "vanilla_kd": FULL,  # 3 · 3 · 3
    "pkd": FULL,  # 3 · 3 · 3 · 4 · 2
    "distilbert": searched(3),
    "pd_bert": FULL,  # 4 · 4
    "layerdrop": searched(12),  # 4 · 3
    "tinybert": searched(12, 6) + searched(13, 3),  # its default on the three largest tasks is not in its grid
    "minilm": searched(12),
    "theseus": FULL,  # 2 · 2 · 4, as the paper's
}
CONSTANT = searched(8, 8) + searched(9, 1)  # 2 · 4; WNLI's default is not in the grid
EXPECTED = {
    "glue_dev": TASKS * SEEDS + PREDECESSOR + sum(PUBLISHED.values()) + 9 * FULL,
    "glue_test": PREDECESSOR
    + sum(PUBLISHED[name] for name in ("finetune", "vanilla_kd", "pkd", "pd_bert", "theseus"))
    + 5 * FULL,
    "transfer": 7 * (SEEDS + 1) + searched(BUDGET, 7) + 6 * SEEDS,
    "modules": 3 * SEEDS + 6 * 3 * SEEDS,  # nothing is left to search
    "schedules": PREDECESSOR + 2 * FULL + 3 * CONSTANT,
    "depths": PREDECESSOR + 3 * (PUBLISHED["finetune"] + PUBLISHED["theseus"]),
    "rates": 2 * SEEDS + 9 * 2 * SEEDS,
    "starts": PREDECESSOR + 7 * 2 * FULL,
}
# What an experiment adds to those before it; the rest are runs that it shares.
NEW = {
    "glue_test": 0,
    "transfer": 6 * SEEDS,
    "modules": 6 * 3 * SEEDS,
    "schedules": FULL + 3 * CONSTANT,
    "depths": 2 * (PUBLISHED["finetune"] + PUBLISHED["theseus"]),
    "rates": 9 * 2 * SEEDS,
    "starts": 7 * 2 * FULL,
}


@pytest.fixture(scope="module")
def plan():
    return load_plan(read_yaml(Path("config/config.yaml")))


def test_the_paper_has_every_table_and_figure(plan):
    assert list(plan.suite.experiments) == list(EXPECTED)
    assert plan.suite.search.budget == BUDGET
    assert len(plan.suite.seeds) == SEEDS


@pytest.mark.parametrize("experiment", EXPECTED)
def test_an_experiment_has_the_runs_that_were_counted(plan, experiment):
    assert len(plan.all_runs(experiment)) == EXPECTED[experiment]


def test_a_run_shared_by_experiments_is_trained_once(plan):
    assert len(plan.runs) == EXPECTED["glue_dev"] + sum(NEW.values())


@pytest.mark.parametrize("experiment", ["glue_test", "transfer", "modules", "schedules", "depths", "rates"])
def test_the_dry_run_lists_them(experiment):
    assert train_jobs(experiment) == EXPECTED[experiment]


def test_the_dry_run_of_everything_lists_each_run_once():
    assert train_jobs() == EXPECTED["glue_dev"] + sum(NEW.values())


def train_jobs(*targets: str) -> int:
    """The training jobs that a dry run of the paper's suite counts."""
    command = ["snakemake", "--cores", "1", "--dry-run", *targets, "--config", "suite=grid"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = re.findall(r"^(train|train_teacher) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return sum(int(count) for count in dict(counts).values())  # the table comes at the beginning and the end
