"""How a compressed model behaves beyond its score: its loyalty to the predecessor, its calibration, its steadiness.

All of it is computed from the saved predictions on the dev splits of the tasks with classes. Values are in points: 100
times the measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy  # scipy.special, slow to import, loads where it is first used

from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import Predictions, RunRecord, read_predictions
from theseus_bench.suite.status import state
from theseus_bench.wording import NOT_APPLICABLE

BINS = 15
COLUMNS = ["method", "variant", "task", "seed", "measure", "value", "reason"]
MEASURES = {
    "label_loyalty": ("Loyalty", "labels"),
    "probability_loyalty": ("Loyalty", "probabilities"),
    "ece": ("ECE", "calibration"),
    "seed_agreement": ("Agreement", "between seeds"),
}
LOYALTIES = ("label_loyalty", "probability_loyalty")
Splits = dict[str, Predictions]


def label_loyalty(student: np.ndarray, predecessor: np.ndarray) -> float:
    """The share of examples that two models decide alike, from logits (examples, classes); in [0, 1].

    Xu et al. 2021, "Beyond Preserved Accuracy: Evaluating Loyalty and Robustness of BERT Compression", EMNLP.
    """
    return float((student.argmax(axis=1) == predecessor.argmax(axis=1)).mean())


def probability_loyalty(student: np.ndarray, predecessor: np.ndarray) -> float:
    """1 − √JSD of two models' class probabilities, mean over the examples, from logits (examples, classes).

    Xu et al. 2021. JSD, the Jensen–Shannon divergence, is taken with logarithms of base 2, so that the loyalty lies in
    [0, 1]; the paper does not name its base, and with natural logarithms the least would be 1 − √ln 2 = 0.17.
    """
    p, q = (scipy.special.softmax(logits.astype(float), axis=1) for logits in (student, predecessor))
    middle = (p + q) / 2
    divergence = (scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle)).sum(axis=1) / (2 * np.log(2))
    return float((1 - np.sqrt(divergence.clip(0, 1))).mean())  # rounding may leave [0, 1]


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """The expected calibration error (ECE) of logits (examples, classes) against labels (examples,); in [0, 1].

    Over 15 equally wide bins of the highest probability, the gap between its mean and the accuracy, weighted by the
    examples in the bin (Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML, equation 3).
    """
    probabilities = scipy.special.softmax(logits.astype(float), axis=1)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)  # a bin holds its upper edge
    return float(np.abs(np.bincount(bins, weights=right - confidence)).sum() / len(labels))


def seed_agreement(decisions: np.ndarray) -> float:
    """The share of examples that two seeds decide alike, mean over all pairs, from classes (seeds, examples)."""
    seeds, examples = decisions.shape
    votes = np.stack([(decisions == label).sum(axis=0) for label in np.unique(decisions)])
    return float((votes * (votes - 1)).sum() / (seeds * (seeds - 1) * examples))


def behaviour_frame(plan: Plan, experiment: str, folder: Path) -> pd.DataFrame:
    """What the experiment's runs did on dev: method, variant, task, seed, measure, value (points), reason.

    One row for each run and measure, and for each method and task one of `seed_agreement`, whose seed is NaN. Of
    several dev splits the value is the mean. Without a value (NaN) `reason` says why there is none. Tasks with values
    instead of classes are left out.
    """
    rows: list[tuple[Any, ...]] = []
    teachers: dict[str, tuple[Splits, str]] = {}  # the predecessor's predictions, which all methods are held against
    for runs in group_runs(plan.experiment_runs(experiment)):
        readings = [_read_run(plan, run, folder) for run in runs]
        for run, (record, predictions, reason) in zip(runs, readings, strict=True):
            teacher = plan.teacher_of(run)
            if teacher.path not in teachers:
                teachers[teacher.path] = _read_run(plan, teacher, folder)[1:]
            for measure, value, why in _of_run(run, record, predictions, reason, *teachers[teacher.path]):
                rows.append((run.spec.name, run.variant, run.task.name, run.seed, measure, 100 * value, why))
        value, why = _between_seeds([splits for _, splits, _ in readings if splits])
        run = runs[0]
        rows.append((run.spec.name, run.variant, run.task.name, np.nan, "seed_agreement", 100 * value, why))
    return pd.DataFrame(rows, columns=COLUMNS)


def group_runs(runs: list[Run]) -> Iterator[list[Run]]:
    """The runs on tasks with classes, the seeds of a method and task together."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if not run.task.regression:
            groups.setdefault((run.name, run.task.name), []).append(run)
    yield from groups.values()


def _read_run(plan: Plan, run: Run, folder: Path) -> tuple[RunRecord | None, Splits, str]:
    """A run's record, what it predicts of its dev splits, and why there is nothing of these."""
    status, reason, record = state(plan, run, folder)
    if record is None:
        return None, {}, f"{status}: {reason}"
    predictions = read_predictions(folder / run.path, run.task.dev) if record.dev_score is not None else {}
    if predictions.keys() != set(run.task.dev) or not all(
        np.isfinite(part.logits).all() for part in predictions.values()
    ):
        return record, {}, f"{status}: {reason or 'it has no predictions of the dev set'}"
    return record, predictions, ""


def _of_run(
    run: Run, record: RunRecord | None, predictions: Splits, reason: str, predecessors: Splits, teacher_reason: str
) -> Iterator[tuple[str, float, str]]:
    """Measure, value and reason of a run's loyalties and calibration."""
    has_model = record is None or record.architecture is not None
    for measure in (*LOYALTIES, "ece"):
        why = reason
        if run.spec.role == "teacher" and measure in LOYALTIES:
            why = "it is the predecessor"
        elif not has_model and measure != "label_loyalty":
            why = NOT_APPLICABLE
        elif not why and measure in LOYALTIES:
            why = f"the predecessor: {teacher_reason}" if teacher_reason else _unlike(predictions, predecessors)
        yield measure, np.nan if why else _mean_over_splits(measure, predictions, predecessors), why


def _mean_over_splits(measure: str, predictions: Splits, predecessors: Splits) -> float:
    if measure == "ece":
        return float(np.mean([calibration_error(part.logits, part.labels) for part in predictions.values()]))
    loyalty = {"label_loyalty": label_loyalty, "probability_loyalty": probability_loyalty}[measure]
    return float(np.mean([loyalty(part.logits, predecessors[split].logits) for split, part in predictions.items()]))


def _between_seeds(seeds: list[Splits]) -> tuple[float, str]:
    """The agreement of the seeds that have predictions, and why there is none."""
    if len(seeds) < 2:
        return np.nan, f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'} with predictions, and it takes two"
    why = next(filter(None, (_unlike(other, seeds[0]) for other in seeds[1:])), "")
    if why:
        return np.nan, why
    decisions = {split: np.stack([seed[split].logits.argmax(axis=1) for seed in seeds]) for split in seeds[0]}
    return float(np.mean([seed_agreement(part) for part in decisions.values()])), ""


def _unlike(one: Splits, other: Splits) -> str:
    """Why two runs' predictions cannot be held against each other; '' if they can."""
    alike = all(np.array_equal(part.idx, other[split].idx) for split, part in one.items())
    return "" if alike else "the predictions are of other examples"
