"""The papers' numbers as data: complete enough to be compared with, and consistent where the papers are."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from suites import make_plan
from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import parse
from theseus_bench.suite.method_spec import METHODS_FOLDER, load_specs
from theseus_bench.suite.published import PublishedRow, cite_speed, paper_with_speed

TABLES = [
    (file.stem, table)
    for file in sorted(Path("results/published").glob("*.yaml"))
    for table in yaml.safe_load(file.read_text(encoding="utf-8"))["tables"]
]
ROWS = [(f"{stem} {table['table']} {name}", row) for stem, table in TABLES for name, row in table["rows"].items()]

# Printed macros that do not follow from the printed scores, with what they recompute to.
EXCEPTIONS = {"theseus Table 3 finetune": 75.67, "theseus Table 7 theseus_4_layers": 77.14}


def macro(row: dict) -> float:
    scores = [sum(value) / len(value) if isinstance(value, list) else value for value in row["scores"].values()]
    return sum(scores) / len(scores)


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, row in ROWS if row["macro"] is not None])
def test_a_printed_macro_is_the_mean_of_its_row_or_a_known_exception(name, row):
    if name in EXCEPTIONS:
        assert macro(row) == pytest.approx(EXCEPTIONS[name], abs=0.006)
        assert abs(macro(row) - row["macro"]) > 0.05
    else:
        assert macro(row) == pytest.approx(row["macro"], abs=0.0501)


def test_scores_are_points_of_known_tasks():
    tasks = load_tasks(TASKS_FILE)
    for name, row in ROWS:
        assert row["scores"].keys() <= tasks.keys(), name
        flat = [v for value in row["scores"].values() for v in (value if isinstance(value, list) else [value])]
        assert all(20 < value < 100 for value in flat), name


def test_a_number_of_one_split_names_one_that_the_task_has_and_its_metric():
    tasks = load_tasks(TASKS_FILE)
    alone = [(row, task, split) for _, row in ROWS for task, split in row.get("splits", {}).items()]
    assert len(alone) == 3  # MNLI, matched, in each row of Sun et al.
    for row, task, split in alone:
        assert split in tasks[task].dev
        assert row["metrics"][task] in tasks[task].metrics
    with pytest.raises(UserError, match=r"splits: mnli: .* name its metric too"):
        parse(PublishedRow, {"scores": {"mnli": 82.3}, "macro": None, "splits": {"mnli": "validation_matched"}}, "x")


# learning rate, temperature and α of each task's best run in Sun et al.'s kd_6layer_all.csv, and the rate in their
# ft_6layer_all.csv, which lacks CoLA.
BEST_KD = {
    "mrpc": (2e-5, 20, 0.7), "rte": (2e-5, 20, 0.7), "sst2": (2e-5, 20, 0.2), "cola": (2e-5, 5, 0.7),
    "mnli": (5e-5, 10, 0.5), "qnli": (5e-5, 5, 0.7), "qqp": (5e-5, 20, 0.7),
}  # fmt: skip
BEST_FINETUNE = {"mrpc": 2e-5, "rte": 2e-5, "mnli": 2e-5, "sst2": 5e-5, "qnli": 5e-5, "qqp": 5e-5}


def test_the_plain_baselines_have_the_best_settings_of_the_result_files():
    specs = load_specs(METHODS_FOLDER)[0]
    assert specs["vanilla_kd"].per_task.keys() == BEST_KD.keys()
    assert specs["finetune"].per_task.keys() == BEST_FINETUNE.keys()
    plan = make_plan(
        tasks=[*BEST_KD, "stsb", "wnli"],
        experiments={"first": {"title": "One", "methods": ["vanilla_kd", "finetune"]}},
    )
    for task, best in BEST_KD.items():
        settings = plan.run("vanilla_kd", task, 1).settings
        assert (settings["learning_rate"], settings["temperature"], settings["alpha"]) == best, task
        assert plan.run("finetune", task, 1).settings["learning_rate"] == BEST_FINETUNE.get(task, 5e-5), task


def test_methods_are_compared_with_rows_that_exist():
    names = {name for _, table in TABLES for name in table["rows"]}
    for spec in load_specs(METHODS_FOLDER)[0].values():
        assert set(spec.published) <= names, spec.name


def test_the_line_of_the_speed_ups_is_the_one_through_the_three_printed_numbers():
    speed = paper_with_speed().speed
    layers, speedups = np.array(list(speed.speedups.items())).T
    slope, intercept = np.polyfit(layers, 1 / speedups, 1)
    assert (speed.line.fixed, speed.line.per_layer) == pytest.approx((intercept, slope), abs=5e-4)
    for depth, value in speed.speedups.items():
        assert round(1 / (0.031 + 0.0808 * depth), 2) == value  # with as many digits as it has it gives each again
        assert speed.line.speedup(depth, 12) == pytest.approx(value, abs=0.005)
    assert slope * 12 + intercept == pytest.approx(1, abs=0.001)  # though it has not seen the predecessor
    assert cite_speed(paper_with_speed()) == "Xu et al. 2020, Tables 1 and 7"


def test_the_line_is_relative_to_a_predecessor_of_any_depth():
    line = paper_with_speed().speed.line
    assert line.speedup(6, 6) == 1
    assert line.speedup(3, 6) == pytest.approx((0.031 + 6 * 0.0808) / (0.031 + 3 * 0.0808))
