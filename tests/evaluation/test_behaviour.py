"""Loyalty, calibration and agreement against scipy, hand calculation and plain loops, and how gaps are said."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from suites import deciding, leave_run, make_plan
from theseus_bench.evaluation.behaviour import (
    behaviour_frame,
    calibration_error,
    label_loyalty,
    probability_loyalty,
    seed_agreement,
)
from theseus_bench.tables.behaviour import behaviour_table

DEV = ["validation_matched", "validation_mismatched"]


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_probability_loyalty_is_one_minus_scipys_distance_in_base_2(random):
    one, other = random.normal(0, 3, (2, 50, 3)).astype(np.float32)
    distances = jensenshannon(softmax(one, axis=1), softmax(other, axis=1), base=2, axis=1)
    assert probability_loyalty(one, other) == pytest.approx(1 - distances.mean(), abs=1e-5)
    assert probability_loyalty(one, one) == 1
    sure = 1000 * np.eye(2)
    assert probability_loyalty(sure, sure[::-1]) == 0  # nothing in common


def test_label_loyalty_looks_at_decisions_alone():
    assert label_loyalty(deciding([0, 1, 1, 0], 2), 9 * deciding([0, 1, 0, 0], 2)) == 0.75


def test_calibration_error_by_hand():
    """Three examples at 0.9 of which two are right, one at 0.6 that is right: 3/4 · |2/3 − 0.9| + 1/4 · |1 − 0.6|."""
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
    assert calibration_error(logits, np.array([0, 1, 1, 0])) == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.4)


def test_calibration_error_is_guos_sum_over_bins(random):
    logits, labels = random.normal(0, 2, (400, 3)), random.integers(0, 3, 400)
    confidence, predictions = softmax(logits, axis=1).max(axis=1), logits.argmax(axis=1)
    expected = 0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            gap = (predictions == labels)[inside].mean() - confidence[inside].mean()
            expected += inside.mean() * abs(gap)
    assert calibration_error(logits, labels) == pytest.approx(expected)


def test_agreement_is_the_mean_over_pairs_of_seeds(random):
    decisions = random.integers(0, 3, (5, 40))
    pairs = [(a == b).mean() for a, b in itertools.combinations(decisions, 2)]
    assert seed_agreement(decisions) == pytest.approx(np.mean(pairs))
    assert seed_agreement(np.zeros((4, 7), int)) == 1


def suite_of(**experiment):
    settings = {"title": "One", "methods": ["majority", "predecessor", "finetune"], "tasks": ["rte"]} | experiment
    return make_plan(experiments={"first": settings}, seeds=[1, 2])


def leave(plan, folder, name, seed, classes, task="rte", scale=1.0, splits=("validation",), idx=None, **record):
    run = plan.run(name, task, seed)
    classes = np.broadcast_to(classes, (len(splits), np.shape(classes)[-1]))
    idx = range(classes.shape[1]) if idx is None else idx
    parts = {
        split: (idx, [0] * len(part), scale * deciding(part, run.task.outputs))
        for split, part in zip(splits, classes, strict=True)
    }
    leave_run(plan, run, folder, parts, **record)


def value(frame, measure, method, seed=None):
    rows = frame[(frame["measure"] == measure) & (frame["method"] == method)]
    rows = rows[rows["seed"].isna()] if seed is None else rows[rows["seed"] == seed]
    assert len(rows) == 1
    return rows["value"].item()


def test_an_experiment_without_a_task_with_classes_has_no_row_and_says_so(tmp_path):
    table = behaviour_table(make_plan(tasks=["stsb"]), "first", tmp_path)
    assert table.rows == ()
    assert table.notes[0] == "The experiment has no task with classes."


def test_each_run_is_held_against_the_predecessor_of_its_seed(tmp_path):
    plan = suite_of()
    leave(plan, tmp_path, "predecessor", 1, [0, 0, 0, 0])
    leave(plan, tmp_path, "predecessor", 2, [1, 1, 1, 1])
    leave(plan, tmp_path, "finetune", 1, [0, 0, 0, 1])
    leave(plan, tmp_path, "finetune", 2, [0, 0, 1, 1])
    frame = behaviour_frame(plan, "first", tmp_path)
    assert [value(frame, "label_loyalty", "finetune", seed) for seed in (1, 2)] == [75, 50]
    assert value(frame, "seed_agreement", "finetune") == 75
    assert value(frame, "seed_agreement", "predecessor") == 0
    sure = 100 * np.e / (1 + np.e)  # of every decision; the labels are all 0
    assert value(frame, "ece", "finetune", 2) == pytest.approx(sure - 50)
    table = behaviour_table(plan, "first", tmp_path)
    row = {row.label: row for row in table.rows}["Fine-tuning"]
    assert row.cells[0].value == 62.5  # mean over the seeds
    assert row.cells[0].notes == ()


def test_of_two_dev_splits_and_of_the_tasks_the_mean_counts(tmp_path):
    plan = suite_of(methods=["predecessor", "finetune"], tasks=["mnli", "rte", "stsb"], seeds=[1])
    leave(plan, tmp_path, "predecessor", 1, [0, 1, 2, 0], "mnli", splits=DEV)
    leave(plan, tmp_path, "finetune", 1, [[0, 1, 2, 0], [0, 1, 1, 1]], "mnli", splits=DEV)  # 4 and 2 of 4
    leave(plan, tmp_path, "predecessor", 1, [0, 1])
    leave(plan, tmp_path, "finetune", 1, [1, 1])
    frame = behaviour_frame(plan, "first", tmp_path)
    assert set(frame["task"]) == {"mnli", "rte"}  # STS-B has no classes
    cells = behaviour_table(plan, "first", tmp_path).rows[1].cells
    assert cells[0].value == (75 + 50) / 2
    assert cells[3].notes == ("1 seed with predictions, and it takes two",)


def test_a_gap_says_why(tmp_path):
    plan = suite_of()
    for seed in (1, 2):
        leave(plan, tmp_path, "majority", seed, [0, 0], scale=100, architecture=None)
        leave(plan, tmp_path, "finetune", seed, [0, 0])
    leave(plan, tmp_path, "predecessor", 1, [0, 1])
    majority, predecessor, finetune = behaviour_table(plan, "first", tmp_path).rows
    assert majority.cells[0].value == 50
    assert majority.cells[0].notes == ("1 of 2 runs: the predecessor: missing: not run",)
    assert [cell.value for cell in majority.cells[1:3]] == [None, None]
    assert majority.cells[2].notes == ("not applicable: there is no trained model",)
    assert predecessor.cells[0].notes == ("it is the predecessor",)
    assert predecessor.cells[3].notes == ("1 seed with predictions, and it takes two",)
    assert finetune.cells[1].notes == ("1 of 2 runs: the predecessor: missing: not run",)


def test_no_mean_over_tasks_without_each_of_them(tmp_path):
    plan = suite_of(methods=["finetune", "pd_bert"], tasks=["cola", "rte"], seeds=[1])
    leave(plan, tmp_path, "finetune", 1, [0, 0])
    finetune = behaviour_table(plan, "first", tmp_path).rows[0]
    assert finetune.cells[2].value is None
    assert finetune.cells[2].notes == ("no mean without a value on CoLA: missing: not run",)


@pytest.mark.parametrize("fault", ["other examples", "not finite", "no file"])
def test_predictions_that_cannot_be_compared_are_a_gap(tmp_path, fault):
    plan = suite_of(methods=["finetune"], seeds=[1])
    leave(plan, tmp_path, "predecessor", 1, [0, 1])
    options = {"other examples": {"idx": [5, 6]}, "not finite": {"scale": np.nan}, "no file": {}}[fault]
    leave(plan, tmp_path, "finetune", 1, [0, 1], **options)
    if fault == "no file":
        (tmp_path / plan.run("finetune", "rte", 1).path / "predictions.parquet").unlink()
    cell = behaviour_table(plan, "first", tmp_path).rows[0].cells[0]
    assert cell.value is None
    expected = {
        "other examples": "the predictions are of other examples",
        "not finite": "complete: it has no predictions of the dev set",
        "no file": "missing: its predictions are gone; the same snakemake command mends it",
    }
    assert cell.notes == (expected[fault],)
