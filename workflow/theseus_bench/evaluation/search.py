"""The search for a method's settings: which are chosen, at which cost, and how much choosing flatters.

The paper chooses settings by the score on the dev set and reports the score on that same set, and so does the protocol
`published` here. Under `equal` they are chosen by the score on the slice held out of train. Either way by that of the
search's own seeds, and then trained with others, so that the final runs' seeds had no part in the choice. How much
choosing flatters is measured beside it: settings chosen on one half of the examples are scored on the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from theseus_bench.data.metrics import measure_task, score
from theseus_bench.errors import UserError
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import read_predictions
from theseus_bench.suite.search import save_choice
from theseus_bench.suite.status import state

Splits = dict[str, np.ndarray]  # something for each dev split
HALVINGS = 20  # of the dev set at random; each gives two choices, one on either half


def select_settings(plan: Plan, run: Run, folder: Path) -> None:
    """Choose the settings of a searched run from its trials, into its search file.

    theseus_bench.suite.search says what is in the file.
    """
    if not run.trials:
        raise UserError(f"{run.name} on {run.task.name} is not searched: its budget is 1, or it has nothing to vary")
    runs, seeds = plan.trials_of(run), plan.suite.search.seeds
    records = []
    for trial in runs:
        status, reason, record = state(plan, trial, folder)
        if record is None:
            raise UserError(f"{folder / trial.path}: {status}: {reason}; all trials must have run before the choice")
        records.append(record)
    choice_scores = [record.choice_score for record in records]
    scores = np.array([-np.inf if value is None else 100 * value for value in choice_scores]).reshape(-1, len(seeds))
    best = int(np.argmax(scores.mean(axis=1)))  # the first of equals, so the default if nothing is better
    if not np.isfinite(scores[best]).all():
        raise UserError(f"{folder / run.search_file}: no trial has a score with every search seed")
    trials: list[dict[str, Any]] = [
        {
            "trial": k,
            "settings": settings,
            "scores": {str(seed): _finite(value) for seed, value in zip(seeds, scores[k], strict=True)},
            "status": [record.status for record in records[k * len(seeds) : (k + 1) * len(seeds)]],
            "seconds": sum(record.seconds["all"] for record in records[k * len(seeds) : (k + 1) * len(seeds)]),
        }
        for k, settings in enumerate(run.trials)
    ]
    choice = {
        "chosen": {
            "trial": best,
            "settings": runs[best * len(seeds)].settings,
            "score": float(scores[best].mean()),
        },
        "trials": trials,
        "device_seconds": sum(trial["seconds"] for trial in trials),
        "nested": nested_selection(run, [folder / trial.path for trial in runs], len(seeds)),
    }
    save_choice(folder / run.search_file, choice)


def nested_selection(run: Run, trials: list[Path], seeds: int) -> dict[str, float]:
    """How much choosing flatters, in points of the task's score, from the trials' predictions.

    `trials` are the folders of the runs, the seeds of a setting side by side. Over random halvings of the examples to
    choose by, the setting that is best on one half has the mean score `same_half` on that half and `other_half` on the
    other. Their difference `flatters` is what selection gains by reporting on the examples that it chose by, on a set
    of half the size. That each run kept its best evaluation on the whole set is in both and not undone here.
    """
    logits, labels = _predictions(run, trials)
    random = np.random.default_rng(0)
    same, other = [], []
    for _ in range(HALVINGS):
        halves = _halve({split: len(values) for split, values in labels.items()}, random)
        table = np.array([[_score(run, one, labels, half) for half in halves] for one in logits])
        table = table.reshape(-1, seeds, 2).mean(axis=1)  # (settings, halves)
        for first, second in ((0, 1), (1, 0)):
            best = int(np.argmax(table[:, first]))
            same.append(table[best, first])
            other.append(table[best, second])
    result = {"same_half": float(np.mean(same)), "other_half": float(np.mean(other))}
    return result | {"flatters": result["same_half"] - result["other_half"]}


def _predictions(run: Run, trials: list[Path]) -> tuple[list[Splits], Splits]:
    """Each trial's logits by split to choose by, and the labels."""
    logits, labels = [], {}
    splits = run.task.dev if run.settings["choose_on"] == "dev" else [run.settings["choose_on"]]
    for folder in trials:
        parts = read_predictions(folder, splits)
        logits.append({split: part.logits for split, part in parts.items()})
        labels = {split: part.labels for split, part in parts.items()}
    return logits, labels


def _halve(sizes: dict[str, int], random: np.random.Generator) -> tuple[Splits, Splits]:
    """The examples of each split, by number, in two halves."""
    orders = {split: random.permutation(size) for split, size in sizes.items()}
    first = {split: order[: len(order) // 2] for split, order in orders.items()}
    return first, {split: order[len(order) // 2 :] for split, order in orders.items()}


def _score(run: Run, logits: Splits, labels: Splits, half: Splits) -> float:
    """The task's score in points on a part of the examples; −∞ where the logits are not finite."""
    part = {split: logits[split][examples] for split, examples in half.items()}
    values = measure_task(run.task, part, {split: labels[split][examples] for split, examples in half.items()})
    value = 100 * score(values)
    return value if np.isfinite(value) else -np.inf


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
