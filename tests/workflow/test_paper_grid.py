"""How many jobs the paper's suite has with its budget, counted by hand, planned, and listed by a dry run."""

import re
import subprocess
from pathlib import Path

import pytest
from theseus_bench.evaluation.cost import Cost
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan

SEEDS, SEARCH_SEEDS, BUDGET, TASKS = 5, 3, 8, 9


def count_runs(settings: int, tasks: int = TASKS) -> int:
    """A method's runs: on each task every setting with every seed of the search, and its final runs."""
    return tasks * (settings * SEARCH_SEEDS + SEEDS)


FULL = count_runs(BUDGET)  # a grid of 8 settings or more
PREDECESSOR = FULL + TASKS * SEARCH_SEEDS  # the search's seeds need one too
PUBLISHED = {
    "finetune": count_runs(3),  # learning rates
    "vanilla_kd": FULL,  # 3 · 3 · 3
    "pkd": FULL,  # 3 · 3 · 3 · 4 · 2
    "distilbert": count_runs(3),
    "pd_bert": FULL,  # 4 · 4
    "layerdrop": FULL,  # 4 · 3
    "tinybert": FULL,  # 4 · 3
    "minilm": FULL,  # 4 · 3
    "theseus": FULL,  # 2 · 2 · 2 on the four small tasks, 2 · 2 · 3 or 4 on the others
}
# The rate is fixed: two learning rates with two N on the small tasks, three on SST-2 and WNLI, four on three others.
CONSTANT = count_runs(4, 4) + count_runs(6, 2) + count_runs(BUDGET, 3)
ANTI = count_runs(4)  # it falls over the whole run: 2 · 2
EXPECTED = {
    "glue_dev": TASKS * SEEDS + 2 * PREDECESSOR + sum(PUBLISHED.values()) + 9 * FULL,
    "glue_test": 2 * PREDECESSOR
    + sum(PUBLISHED[name] for name in ("finetune", "vanilla_kd", "pkd", "pd_bert", "theseus"))
    + 5 * FULL,
    "transfer": count_runs(BUDGET, 7) + 7 * SEARCH_SEEDS + count_runs(BUDGET, 7) + 6 * SEEDS,
    "modules": count_runs(BUDGET, 3) + 6 * 3 * SEEDS,  # nothing is left to search but for the predecessor
    "schedules": PREDECESSOR + FULL + 3 * CONSTANT + ANTI,
    "depths": PREDECESSOR + 3 * (PUBLISHED["finetune"] + PUBLISHED["theseus"]),
    "rates": count_runs(BUDGET, 2) + 9 * 2 * SEEDS,
    "starts": PREDECESSOR + 7 * 2 * FULL,
}
# What an experiment adds to those before it; the rest are runs that it shares.
NEW = {
    "glue_test": 0,
    "transfer": 6 * SEEDS,
    "modules": 6 * 3 * SEEDS,
    "schedules": 3 * CONSTANT + ANTI,
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
    assert len(plan.suite.search.seeds) == SEARCH_SEEDS
    assert len(plan.suite.seeds) == SEEDS


@pytest.mark.parametrize("experiment", EXPECTED)
def test_an_experiment_has_the_runs_that_were_counted(plan, experiment):
    assert len(plan.all_runs(experiment)) == EXPECTED[experiment]


def test_a_run_shared_by_experiments_is_trained_once(plan):
    assert len(plan.runs) == EXPECTED["glue_dev"] + sum(NEW.values())


def test_the_pages_have_its_runs_days_and_disk_as_they_are_planned(plan, tmp_path):
    cost = Cost(plan, tmp_path, "a100")
    size = f"{len(plan.runs):,} runs"
    days = f"some {cost.device_seconds / 86400:.0f} days of one"
    running = " ".join(Path("docs/running.md").read_text(encoding="utf-8").split())
    assert f"it is {size}: by an A100's data sheet {days}" in running
    assert f"and {cost.disk_bytes / 1e10:.0f}0 GB" in running
    assert f"The paper is {size}, {days} A100 by its data sheet" in Path("README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("experiment", ["glue_test", "transfer", "modules", "schedules", "depths", "rates"])
def test_the_dry_run_lists_them(experiment):
    assert train_jobs(experiment) == EXPECTED[experiment]


@pytest.mark.long
def test_the_dry_run_of_everything_lists_each_run_once():
    assert train_jobs() == EXPECTED["glue_dev"] + sum(NEW.values())


def train_jobs(*targets: str) -> int:
    """The training jobs that a dry run of the paper's suite counts."""
    command = ["snakemake", "--cores", "1", "--dry-run", *targets, "--config", "suite=grid"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    counts = re.findall(r"^(train|train_teacher) +(\d+)$", process.stdout + process.stderr, re.MULTILINE)
    return sum(int(count) for count in dict(counts).values())  # the table comes at the beginning and the end
