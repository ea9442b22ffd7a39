"""GLUE's metrics and the score of a task, over scikit-learn and scipy.

`evaluate_module` offers the same as an `evaluate` module; nothing is fetched at run time.
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy  # scipy.stats, slow to import, loads where it is first used: who reads scores does without

from theseus_bench.data.tasks import Task


def decide(logits: np.ndarray, task: Task) -> np.ndarray:
    """Predictions (examples,) from logits (examples, outputs): the class of the highest, or the value itself."""
    return logits[:, 0] if task.regression else logits.argmax(axis=1)


def measure(metric: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """One metric of predictions (examples,) against labels (examples,).

    `f1` is of class 1, `f1_macro` the mean over the classes that occur. A correlation with a constant is 0: it orders
    nothing.
    """
    if metric in ("pearson", "spearman"):
        correlate = scipy.stats.pearsonr if metric == "pearson" else scipy.stats.spearmanr
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
            value = float(correlate(predictions, labels).statistic)
        return 0.0 if np.ptp(predictions) == 0 or np.ptp(labels) == 0 else value
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef  # here: readers of scores do without

    if metric == "f1_macro":
        return float(f1_score(labels, predictions, average="macro"))
    compute = {"accuracy": accuracy_score, "f1": f1_score, "matthews": matthews_corrcoef}[metric]
    return float(compute(labels, predictions))


def measure_task(
    task: Task, logits: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> dict[tuple[str, str], float]:
    """Every (split, metric) of the splits in `logits`, in [0, 1] or [-1, 1]; NaN where the logits are not finite."""
    values = {}
    for split in logits:
        finite = np.isfinite(logits[split]).all()
        for metric in task.metrics:
            values[split, metric] = (
                measure(metric, decide(logits[split], task), labels[split]) if finite else float("nan")
            )
    return values


def score(values: dict[tuple[str, str], float]) -> float:
    """A task's score: the plain mean over the splits and metrics (paper, section 4.1)."""
    return float(np.mean(list(values.values())))
