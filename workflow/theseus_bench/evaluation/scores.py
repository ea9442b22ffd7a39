"""From predictions to tidy scores, one experiment at a time.

A score is computed again here from the saved predictions, through the `evaluate` module, and not taken from the run's
own record. Scores are in points: 100 times the metric.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from theseus_bench.checksums import check_files
from theseus_bench.data.metrics import decide, measure, score
from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.files import AGAIN, atomic
from theseus_bench.suite.outputs import list_of
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import read_predictions
from theseus_bench.suite.status import state

COLUMNS = ["suite", "experiment", "method", "variant", "task", "seed", "split", "metric", "value"]


def write_scores(plan: Plan, experiment: str, folder: Path) -> None:
    """Score every run of the experiment that has a record, into `folder`/scores/<experiment>.parquet and .csv.

    A run that diverged before its first evaluation has the majority's score, and no other row. UserError where the
    score that is computed from a run's predictions is not that of its record.
    Beside them <experiment>_curves.csv has one row for each evaluation during training: step, epoch, loss, score
    (points) and what the method logged, as Theseus its replacing rate (paper, figure 2).
    """
    rows, curves = [], []
    for run in plan.experiment_runs(experiment):
        record = state(plan, run, folder)[2]
        if record is not None:
            common = (plan.suite.suite, experiment, run.spec.name, run.variant, run.task.name, run.seed)
            if record.dev_score is None:  # it diverged before it could be evaluated, and is worth no more than a guess
                rows.append((*common, "dev", "score", 100 * record.majority_score))
                continue
            scores = score_run(run, folder / run.path)
            _check_score(folder / run.path / "run.json", 100 * record.dev_score, scores[-1][-1])
            rows += [(*common, *row) for row in scores]
            run_columns = dict(zip(COLUMNS, common, strict=False))
            curves += [run_columns | _curve_entry(entry) for entry in record.curve]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    with atomic(folder / "scores" / f"{experiment}.parquet") as scratch:
        frame.to_parquet(scratch, index=False)
    for name, table in ((experiment, frame), (f"{experiment}_curves", pd.DataFrame(curves))):
        with atomic(folder / "scores" / f"{name}.csv") as scratch:
            table.to_csv(scratch, index=False, float_format="%.6g")


def _check_score(file: Path, recorded: float, computed: float) -> None:
    """UserError unless a record's dev score, in points, is that of its run's predictions."""
    if not math.isclose(recorded, computed, abs_tol=1e-4):
        raise UserError(
            f"{file}: its dev score, {recorded:.4f}, is not that of its predictions, {computed:.4f}; delete "
            f"{file.parent}, and {AGAIN}"
        )


def _curve_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of a run's curve without its single metrics, its scores in points."""
    values = {name: value for name, value in entry.items() if "/" not in name}
    return values | {key: 100 * values[key] for key in ("score", "dev_score") if key in values}


def score_run(run: Run, folder: Path) -> list[tuple[str, str, float]]:
    """(split, metric, points) of a run for each split whose labels are known, and the task's score as (dev, score).

    The slice of train that was held out to choose by, where one was, is a split of its own, held_out.
    """
    from theseus_bench.data.evaluate_module import Glue  # here: it takes seconds, and who reads scores does without

    values: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as cache:  # `evaluate` would make its folder in the user's home
        for split, part in read_predictions(folder, [*run.task.splits, "held_out"]).items():
            logits, labels = part.logits, part.labels
            if (labels >= 0).all():
                metric = Glue(config_name=run.task.name, keep_in_memory=True, cache_dir=cache)
                finite = bool(np.isfinite(logits).all())
                by_metric = metric.compute(predictions=decide(logits, run.task), references=labels) if finite else {}
                values |= {(split, name): by_metric.get(name, float("nan")) for name in run.task.metrics}
    dev = {key: value for key, value in values.items() if key[0] in run.task.dev}
    return [(split, name, 100 * value) for (split, name), value in values.items()] + [
        ("dev", "score", 100 * score(dev))
    ]


def majority_decisions(task: Task, labels: np.ndarray, majority: float) -> np.ndarray:
    """What predicting the majority of the training set decides on `labels` (examples,), by its score there.

    Of a regression the value is of no matter, as any constant orders nothing.
    """
    guesses = [np.full(len(labels), value) for value in (range(1) if task.regression else range(task.outputs))]
    values = [np.mean([measure(metric, guess, labels) for metric in task.metrics]) for guess in guesses]
    return guesses[int(np.argmin(np.abs(np.array(values) - majority)))]


def read_scores(experiment: str, folder: Path) -> pd.DataFrame:
    """The tidy scores that `write_scores` has left; UserError where it has not."""
    file = folder / "scores" / f"{experiment}.parquet"
    if not file.is_file():
        raise UserError(f"{file}: no such file; make it with: theseus-bench score {folder} {experiment}")
    check_files(list_of("score", experiment, folder), [file.name])
    try:
        return pd.read_parquet(file)
    except (pa.ArrowException, OSError) as error:
        fault = str(error).splitlines()[0]
        raise UserError(f"{file}: not readable as scores ({fault}); delete it, and {AGAIN}") from None
