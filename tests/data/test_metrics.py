"""The metrics, against values worked out by hand, and the `evaluate` module that offers the same."""

import socket
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
from theseus_bench.data.evaluate_module import Glue
from theseus_bench.data.metrics import decide, measure, measure_task, score
from theseus_bench.data.tasks import load_tasks

TASKS = load_tasks(Path("config/tasks.yaml"))
MODULE = Path("workflow/theseus_bench/data/evaluate_module.py").resolve()
# 3 hits among 4 of class 1, 1 false alarm: TP 3, FN 1, FP 1, TN 3
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=np.float32)
GUESSES = np.array([1, 1, 1, 0, 1, 0, 0, 0])
# deviations (-1, -1, 2) and (-1, 0, 1): 3 / sqrt(6 * 2)
VALUES, RATINGS = np.array([1.0, 1.0, 4.0]), np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("metric", "predictions", "labels", "value"),
    [
        ("accuracy", GUESSES, LABELS, 6 / 8),
        ("f1", GUESSES, LABELS, 2 * 3 / (2 * 3 + 1 + 1)),
        ("f1", [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], 2 * 1 / (2 * 1 + 2)),  # of class 1; of class 0 it is 4 / 6
        # F1 of class 0 is 2·1/(2+2), of 1 2·1/(2+1), of 2 2·0/(1+0)
        ("f1_macro", [0, 0, 0, 1], [0, 1, 2, 1], (2 / 4 + 2 / 3 + 0) / 3),
        ("f1_macro", [1, 1, 0], [1, 1, 1], (2 * 2 / 5 + 0) / 2),  # class 2 does not occur
        ("matthews", GUESSES, LABELS, (3 * 3 - 1 * 1) / np.sqrt(4 * 4 * 4 * 4)),
        ("matthews", [0, 1], [1, 0], -1),
        ("pearson", VALUES, RATINGS, 3 / np.sqrt(12)),
        ("spearman", VALUES, RATINGS, 1.5 / np.sqrt(1.5 * 2)),  # ranks 1.5, 1.5, 3
        ("spearman", [0.0, 1.0, 100.0], [1.0, 2.0, 3.0], 1),  # order alone counts
    ],
)
def test_a_metric_has_the_value_worked_out_by_hand(metric, predictions, labels, value):
    assert measure(metric, np.asarray(predictions), np.asarray(labels)) == pytest.approx(value)


@pytest.mark.parametrize("metric", ["pearson", "spearman", "matthews"])
@pytest.mark.parametrize("constant", ["predictions", "labels"])
def test_a_correlation_with_a_constant_is_zero(metric, constant, recwarn):
    flat, steps = np.ones(4), np.array([0.0, 1.0, 2.0, 3.0])
    pair = (flat, steps) if constant == "predictions" else (steps, flat)
    assert measure(metric, *pair) == 0.0
    assert not [str(warning.message) for warning in recwarn]


def test_a_decision_is_the_highest_logit_or_the_value_itself():
    assert decide(np.array([[0.1, 0.9], [2.0, -1.0]]), TASKS["rte"]).tolist() == [1, 0]
    assert decide(np.array([[0.5], [4.5]]), TASKS["stsb"]).tolist() == [0.5, 4.5]


def one_hot(codes, width):
    return np.eye(width)[np.asarray(codes)]


def test_mnli_is_the_mean_over_both_dev_splits_however_long_they_are():
    task = TASKS["mnli"]
    logits = {"validation_matched": one_hot([0, 1, 2, 0], 3), "validation_mismatched": one_hot([2, 2], 3)}
    labels = {"validation_matched": np.array([0, 1, 2, 1]), "validation_mismatched": np.array([2, 0])}
    values = measure_task(task, logits, labels)
    assert values == {("validation_matched", "accuracy"): 0.75, ("validation_mismatched", "accuracy"): 0.5}
    assert score(values) == pytest.approx((0.75 + 0.5) / 2)


def test_mrpc_is_the_mean_of_f1_and_accuracy():
    values = measure_task(
        TASKS["mrpc"], {"validation": one_hot([1, 1, 1, 0], 2)}, {"validation": np.array([1, 0, 0, 0])}
    )
    assert values == {("validation", "f1"): 0.5, ("validation", "accuracy"): 0.5}
    values = measure_task(TASKS["mrpc"], {"validation": one_hot([1, 1, 1], 2)}, {"validation": np.array([1, 1, 0])})
    assert score(values) == pytest.approx((0.8 + 2 / 3) / 2)


def test_logits_that_are_not_finite_have_no_score():
    values = measure_task(TASKS["rte"], {"validation": np.array([[np.nan, 1.0]])}, {"validation": np.array([1])})
    assert np.isnan(score(values))


def example(task):
    if task.regression:
        return np.array([0.5, 4.0, 2.5, 2.0]), np.array([1.0, 5.0, 2.0, 3.0])
    rng = np.random.default_rng(len(task.name))
    return rng.integers(task.outputs, size=40), rng.integers(task.outputs, size=40)


@pytest.mark.parametrize("name", TASKS)
def test_the_evaluate_module_agrees_and_leaves_no_file(name, tmp_path, monkeypatch):
    predictions, references = example(TASKS[name])
    metric = Glue(config_name=name, keep_in_memory=True, cache_dir=str(tmp_path))
    values = metric.compute(predictions=predictions, references=references)
    assert values == pytest.approx({m: measure(m, predictions, references) for m in TASKS[name].metrics})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_evaluate_module_loads_from_its_file_without_a_network(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("something was to be fetched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(sys, "path", [*sys.path])  # evaluate adds its folder of modules
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path / "modules"))
    metric = evaluate.load(str(MODULE), "mrpc", cache_dir=str(tmp_path / "cache"), keep_in_memory=True)
    assert metric.compute(predictions=[1, 1, 1], references=[1, 1, 0]) == pytest.approx({"accuracy": 2 / 3, "f1": 0.8})
    assert str(tmp_path) in sys.modules[type(metric).__module__].__file__
