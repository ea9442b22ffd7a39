"""Scores of many models on resampled examples: the raw material of every interval over examples.

All models of a task are scored on the same resamples, so that differences between them are paired. Where the metric
counts (accuracy, F1, Matthews), examples on which all models have done the same are interchangeable: it is enough to
draw how often each of these joint outcomes occurs, from a multinomial, which is exact and does not grow with the number
of examples. Correlations need the examples themselves, which are drawn as weights.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence

import numpy as np

from theseus_bench.data.tasks import Task

CHUNK = 500  # resamples at a time, for the processor's cache


def resample_task(
    task: Task, decisions: dict[str, np.ndarray], labels: dict[str, np.ndarray], resamples: int
) -> np.ndarray:
    """The task's score in points of each model on each resample of its dev examples: (resamples, models) float32.

    `decisions` and `labels` by dev split: (models, examples) classes or values, and (examples,). Splits are resampled
    each for itself, and the score is the plain mean over splits and metrics, as `theseus_bench.data.metrics.score`. The
    generator is seeded by the task's name, so that the same models have the same resamples again.
    """
    random = np.random.default_rng(zlib.crc32(task.name.encode()))
    resample = resample_values if task.regression else resample_classes
    scores = [resample(task.metrics, decisions[split], labels[split], resamples, random) for split in task.dev]
    return 100 * np.asarray(np.mean(scores, axis=0, dtype=np.float32))


def resample_classes(
    metrics: Sequence[str], decisions: np.ndarray, labels: np.ndarray, resamples: int, random: np.random.Generator
) -> np.ndarray:
    """Mean of the metrics on resamples, (resamples, models): accuracy, macro F1, of two classes F1 and Matthews.

    `decisions` (models, examples) and `labels` (examples,) are classes. A metric that is undefined on a resample (one
    class alone) is 0, and macro F1 is over the classes that occur in it, as in scikit-learn.
    """
    columns = np.column_stack([labels, *decisions]).astype(np.int16)
    outcomes, counts = np.unique(columns, axis=0, return_counts=True)
    common = np.argsort(-counts, kind="stable")  # drawing ends sooner when the frequent outcomes come first
    outcomes, counts = outcomes[common], counts[common]
    truth, choices = outcomes[:, :1], outcomes[:, 1:]
    classes = _classes_that_count(metrics, outcomes)
    parts = {"right": choices == truth} if "accuracy" in metrics else {}
    for k in classes:  # examples that are of class k, that a model says are, and of which both holds
        parts |= {f"true{k}": truth == k, f"chosen{k}": choices == k, f"both{k}": (choices == k) & (truth == k)}
    matrix = np.hstack(list(parts.values())).astype(np.float32)
    ends = np.cumsum([part.shape[1] for part in parts.values()])
    models, examples = len(decisions), len(labels)
    scores = np.empty((resamples, models), np.float32)
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        draws = random.multinomial(examples, counts / examples, size=size).astype(np.float32)
        sums = (draws @ matrix).astype(np.float64)  # whole numbers below 2^24: exact in float32
        by_name = dict(zip(parts, np.split(sums, ends[:-1], axis=1), strict=True))
        values = [_from_counts(metric, by_name, classes, examples) for metric in metrics]
        scores[start : start + size] = np.mean(values, axis=0)
    return scores


def resample_values(
    metrics: Sequence[str], values: np.ndarray, labels: np.ndarray, resamples: int, random: np.random.Generator
) -> np.ndarray:
    """Mean of the correlations (Pearson, Spearman) with `labels` on resamples: (resamples, models).

    `values` (models, examples) and `labels` (examples,) are numbers. Ranks are taken anew on every resample, equal
    values sharing the mean of theirs. A correlation with a constant is 0.
    """
    examples = len(labels)
    scores = np.empty((resamples, len(values)), np.float32)
    deviations = values.astype(np.float64) - values.mean(axis=1, keepdims=True)  # sums of squares keep their digits
    target = labels.astype(np.float64) - labels.mean()
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        weights = random.multinomial(examples, np.full(examples, 1 / examples), size=size).astype(np.float64)
        correlate = {"pearson": _pearson, "spearman": _spearman}
        scores[start : start + size] = np.mean([correlate[m](deviations, target, weights) for m in metrics], axis=0)
    return scores


def _classes_that_count(metrics: Sequence[str], outcomes: np.ndarray) -> list[int]:
    """The classes whose hits have to be counted: all that occur for macro F1, class 1 for F1 and Matthews."""
    if "f1_macro" in metrics:
        return sorted({1, *np.unique(outcomes).tolist()})
    return [1] if {"f1", "matthews"} & set(metrics) else []


def _from_counts(metric: str, sums: dict[str, np.ndarray], classes: list[int], examples: int) -> np.ndarray:
    """A metric (resamples, models) from how many examples are right and, by class, true, chosen and both."""
    if metric == "accuracy":
        return sums["right"] / examples
    if metric == "f1_macro":
        f1 = [_ratio(2 * sums[f"both{k}"], sums[f"chosen{k}"] + sums[f"true{k}"]) for k in classes]
        occurs = [sums[f"chosen{k}"] + sums[f"true{k}"] > 0 for k in classes]
        return np.asarray(np.sum(f1, axis=0) / np.sum(occurs, axis=0))
    true, positives, true_positives = sums["true1"], sums["chosen1"], sums["both1"]
    if metric == "f1":
        return _ratio(2 * true_positives, positives + true)
    return _ratio(
        examples * true_positives - positives * true,
        np.sqrt(positives * (examples - positives) * true * (examples - true)),
    )


def _pearson(values: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's r of each model (models, examples) with the target under weights (resamples, examples)."""
    count = len(target)
    mean, mean_target = weights @ values.T / count, (weights @ target / count)[:, None]
    covariance = weights @ (values * target).T / count - mean * mean_target
    spread = weights @ (values**2).T / count - mean**2
    spread_target = (weights @ target**2 / count)[:, None] - mean_target**2
    constant = np.ptp(values, axis=1) == 0
    return np.where(constant, 0.0, _ratio(covariance, np.sqrt(np.clip(spread * spread_target, 0, None))))


def _spearman(values: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's ρ of each model with the target: Pearson's r of the ranks that the weights give.

    Written with weights (examples, resamples), so that sorting examples moves whole rows. Half numbers below 2^24 are
    exact in float32, and halving the memory that moves halves the time.
    """
    weights = np.ascontiguousarray(weights.T, np.float32)
    cubes = (weights**3).sum(axis=0, dtype=np.float64)
    ranks, spread_target = _ranks(target, weights, cubes)
    pull = weights * (ranks - (len(target) + 1) / 2)  # the mean rank is the same on every resample
    correlations = np.empty((weights.shape[1], len(values)))
    for model, numbers in enumerate(values):
        ranks, spread = _ranks(numbers, weights, cubes)
        correlations[:, model] = _ratio(np.einsum("er,er->r", ranks, pull), np.sqrt(spread * spread_target))
    return correlations


def _ranks(numbers: np.ndarray, weights: np.ndarray, cubes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (examples, resamples) of examples drawn `weights` times, equal ones sharing their mean, and their spread.

    The spread is the sum of squares about the mean rank: (n³ − n)/12, less as much for every group of equals. `cubes`:
    the sum of the cubed weights, which is that of the groups where no two examples are equal.
    """
    _, group, size = np.unique(numbers, return_inverse=True, return_counts=True)
    counts = weights[np.argsort(group, kind="stable")]
    if len(size) < len(numbers):
        counts = np.add.reduceat(counts, np.cumsum(size) - size, axis=0)
        cubes = (counts.astype(np.float64) ** 3).sum(axis=0)
    ranks = (1 - counts) / 2
    for previous, row in itertools.pairwise(counts):  # many resamples a row: several times faster than numpy's cumsum
        row += previous
    ranks += counts
    return ranks[group], (float(len(numbers)) ** 3 - cubes) / 12


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(
        above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below > 0
    )
    return ratio
