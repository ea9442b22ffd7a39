"""Scores on resamples are those that the metrics give on the resampled examples themselves."""

import numpy as np
import pytest
from scipy import stats
from theseus_bench.data.metrics import measure
from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.evaluation.resampling import resample_classes, resample_task, resample_values

TASKS = load_tasks(TASKS_FILE)


class RecordingGenerator:
    """A generator that remembers its draws."""

    def __init__(self):
        self.random, self.draws = np.random.default_rng(3), []

    def multinomial(self, *arguments, **keywords):
        self.draws.append(self.random.multinomial(*arguments, **keywords))
        return self.draws[-1]


def draw_decisions(models: int, examples: int, classes: int = 2):
    random = np.random.default_rng(0)
    labels = random.integers(classes, size=examples)
    wrong = random.random((models, examples)) < 0.25
    return np.where(wrong, (labels + 1) % classes, labels), labels


@pytest.mark.parametrize(
    ("metrics", "classes", "examples"),
    [
        (["accuracy"], 2, 60),
        (["f1", "accuracy"], 2, 60),
        (["matthews"], 2, 60),
        (["accuracy", "f1_macro"], 3, 60),
        (["f1_macro"], 4, 5),  # so few that a class is often in no resample
    ],
)
def test_counts_give_the_metric_of_the_examples(metrics, classes, examples):
    decisions, labels = draw_decisions(4, examples, classes)
    random = RecordingGenerator()
    resamples = resample_classes(metrics, decisions, labels, 20, random)
    outcomes, counts = np.unique(np.column_stack([labels, *decisions]), axis=0, return_counts=True)
    outcomes = outcomes[np.argsort(-counts, kind="stable")]
    for draw, scores in zip(random.draws[0], resamples, strict=True):
        rows = np.repeat(outcomes, draw, axis=0)
        expected = [np.mean([measure(m, rows[:, 1 + k], rows[:, 0]) for m in metrics]) for k in range(4)]
        assert scores == pytest.approx(expected, abs=1e-6)


def test_values_give_the_correlation_of_the_examples():
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, 80) / 5
    values = np.vstack([labels + random.normal(size=80), np.round(labels * 3), np.full(80, 2.5), np.full(80, 0.1)])
    generator = RecordingGenerator()
    resamples = resample_values(["pearson", "spearman"], values, labels, 20, generator)
    for draw, scores in zip(generator.draws[0], resamples, strict=True):
        examples = np.repeat(np.arange(80), draw)
        expected = [
            np.mean([measure(m, row[examples], labels[examples]) for m in ("pearson", "spearman")]) for row in values
        ]
        assert scores == pytest.approx(expected, abs=1e-5)


def test_the_error_of_an_accuracy_is_the_binomial_one():
    decisions, labels = draw_decisions(models=2, examples=400)
    scores = resample_classes(["accuracy"], decisions, labels, 20_000, np.random.default_rng(0))
    share = (decisions[0] == labels).mean()
    assert scores[:, 0].mean() == pytest.approx(share, abs=0.001)
    assert scores[:, 0].std() == pytest.approx((share * (1 - share) / 400) ** 0.5, rel=0.03)


def test_models_share_their_resamples():
    """Two models that differ on one example differ on a resample by how often it was drawn."""
    labels = np.zeros(50, int)
    first, second = np.zeros(50, int), np.eye(50, dtype=int)[7]
    scores = resample_classes(["accuracy"], np.array([first, second]), labels, 5000, np.random.default_rng(0))
    times = np.round((scores[:, 0] - scores[:, 1]) * 50).astype(int)
    expected = stats.binom.pmf(range(3), 50, 1 / 50)
    assert np.bincount(times)[:3] / 5000 == pytest.approx(expected, abs=0.03)


def test_a_task_is_resampled_split_by_split_in_points_and_the_same_each_time():
    decisions, labels = draw_decisions(models=3, examples=90, classes=3)
    matched, mismatched = TASKS["mnli"].dev
    parts = {matched: decisions[:, :60], mismatched: decisions[:, 60:]}
    truth = {matched: labels[:60], mismatched: labels[60:]}
    scores = resample_task(TASKS["mnli"], parts, truth, 3000)
    expected = [np.mean([100 * (parts[s][k] == truth[s]).mean() for s in parts]) for k in range(3)]
    assert scores.shape == (3000, 3)
    assert scores.mean(axis=0) == pytest.approx(expected, abs=0.5)
    assert (resample_task(TASKS["mnli"], parts, truth, 3000) == scores).all()
    assert (resample_task(TASKS["mnli"], {s: p[:1] for s, p in parts.items()}, truth, 10)).shape == (10, 1)
