"""Significance at the scale of the paper: how long it takes, and whether its tests keep their promises.

    python benchmarks/significance.py time       all tasks, methods and ten seeds at the full sizes of GLUE's dev sets
    python benchmarks/significance.py size       a difference on one task: rejections without one and with one

Predictions are simulated: examples differ in difficulty, methods in what they find difficult, seeds in skill.
"""

from __future__ import annotations

import itertools
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tasks are what runs side by side

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats
from theseus_bench.data.metrics import decide, measure, score
from theseus_bench.data.tasks import Task
from theseus_bench.evaluation import statistics
from theseus_bench.evaluation.resampling import resample_classes
from theseus_bench.evaluation.scores import COLUMNS
from theseus_bench.evaluation.significance import write_significance
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.plan import Plan

SEEDS = list(range(1, 11))
ACCURACY = {
    "cola": 0.80,
    "mrpc": 0.86,
    "qqp": 0.91,
    "mnli": 0.82,
    "qnli": 0.89,
    "rte": 0.66,
    "sst2": 0.91,
    "wnli": 0.56,
}
SIMULATED_TASKS = {  # examples, metrics, share that is solved, share of class 1
    "RTE": (277, ["accuracy"], 0.66, 0.53),
    "MRPC": (408, ["f1", "accuracy"], 0.85, 0.68),
    "CoLA": (1043, ["matthews"], 0.80, 0.69),
}


def main() -> None:
    {"time": measure_time, "size": measure_size}[sys.argv[1]]()


def measure_time(experiment: str = "glue_dev") -> None:
    """Time write_significance, beside resampling the examples of one task one comparison at a time."""
    plan = load_plan(read_yaml(Path("config/config.yaml")) | {"seeds": SEEDS})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        leave_predictions(plan, experiment, folder)
        began = time.monotonic()
        write_significance(plan, experiment, folder, workers=2)
        seconds = time.monotonic() - began
    names = plan.experiment_names(experiment)
    print(
        f"{len(names)} methods (both protocols), {len(SEEDS)} seeds, {len(plan.trained_tasks)} tasks, "
        f"{plan.suite.significance.resamples} resamples: {seconds:.1f} s of clock, "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most"
    )


def leave_predictions(plan: Plan, experiment: str, folder: Path) -> None:
    """Predictions of every run, and the scores file, at the sizes of the official dev sets."""
    rows = []
    for task in plan.experiment_tasks(plan.suite.experiments[experiment]):
        random = np.random.default_rng(len(rows))
        labels = {split: _labels(task, task.rows[split], random) for split in task.dev}
        hard = {split: random.normal(size=len(values)) for split, values in labels.items()}
        for name in plan.experiment_names(experiment):
            own = {split: random.normal(size=len(values)) for split, values in labels.items()}
            for seed in SEEDS:
                run = plan.run(name, task.name, seed)
                logits = {s: _logits(task, labels[s], hard[s] + 0.4 * own[s], random) for s in task.dev}
                table = [_table(split, logits[split], labels[split]) for split in task.dev]
                (folder / run.path).mkdir(parents=True)
                pq.write_table(pa.concat_tables(table), folder / run.path / "predictions.parquet")
                values = {
                    (s, m): measure(m, decide(logits[s], task), labels[s]) for s in task.dev for m in task.metrics
                }
                about = (plan.suite.suite, experiment, run.spec.name, run.variant, task.name, seed)
                rows.append((*about, "dev", "score", 100 * score(values)))
    (folder / "scores").mkdir()
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(folder / "scores" / f"{experiment}.parquet")


def measure_size(simulations: int = 1000, resamples: int = 400) -> None:
    """Rejections at α = .05 without a difference (the size) and with one of a few points (the power)."""
    low, high = stats.binom.interval(0.95, simulations, 0.05)
    print(f"at α = .05, {simulations} simulations: {low / simulations:.3f} to {high / simulations:.3f} is as promised")
    for task, (examples, metrics, accuracy, positive) in SIMULATED_TASKS.items():
        for seeds, spread, gain in itertools.product((2, 3, 5, 10), (0.0, 0.15, 0.4), (0.0, 0.2)):
            rejections, points, deviations = np.zeros(2), [], []
            for run in range(simulations):
                random = np.random.default_rng([run, seeds, examples])
                observed, draws = simulate(
                    examples, seeds, metrics, accuracy, positive, gain, resamples, random, spread
                )
                p = conclude_alone(observed, draws, examples).p
                percentile = percentile_p(multi_bootstrap(draws[0] - draws[1], random))
                rejections += [p < 0.05, percentile < 0.05]
                points.append((observed[0] - observed[1]).mean())
                deviations.append((observed[0] - observed[1]).std(ddof=1))
            rates = rejections / simulations
            print(
                f"{task}, {seeds} seeds whose differences have a deviation of {np.mean(deviations):.1f} points, true "
                f"difference {np.mean(points) if gain else 0:.1f}: rejects {rates[0]:.3f}, plain multi-bootstrap "
                f"{rates[1]:.3f}",
                flush=True,
            )


def simulate(
    examples: int,
    seeds: int,
    metrics: list[str],
    accuracy: float,
    positive: float,
    gain: float,
    resamples: int,
    random: np.random.Generator,
    spread: float = 0.1,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Observed (seeds,) and resampled (resamples, seeds) scores, in points, of two methods of `seeds` runs each.

    An example is solved where skill exceeds difficulty: skill differs between seeds by `spread`, difficulty between
    examples, and for either method in its own way. `gain` is added to the first method's skill.
    """
    labels = (random.random(examples) < positive).astype(int)
    difficulty = random.normal(size=examples)
    skill = stats.norm.ppf(accuracy) * 1.35
    decisions = []
    for method in range(2):
        own = 0.3 * random.normal(size=examples)
        for _ in range(seeds):
            excess = skill + gain * (method == 0) + spread * random.normal() + 0.7 * random.normal(size=examples)
            decisions.append(np.where(excess > difficulty + own, labels, 1 - labels))
    decisions = np.array(decisions)
    scores = np.array([100 * np.mean([quick(metric, row, labels) for metric in metrics]) for row in decisions])
    draws = 100 * resample_classes(metrics, decisions, labels, resamples, random)
    return (scores[:seeds], scores[seeds:]), (draws[:, :seeds], draws[:, seeds:])


def conclude_alone(observed, draws, examples: int) -> statistics.Conclusion:
    """The test of two methods that have only each other to moderate their variances."""
    names = ("first", "second")
    own = {name: scores.var(ddof=1) for name, scores in zip(names, observed, strict=True)}
    dfs = {name: len(scores) - 1.0 for name, scores in zip(names, observed, strict=True)}
    variances = statistics.moderate_by_name(own, dfs)
    both = variances["first"], variances["second"]
    return statistics.conclude([statistics.spread_of(observed, draws, both, examples)])


def multi_bootstrap(draws: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mean differences (resamples,) with the seeds resampled too (Sellam et al. 2022, section 3)."""
    seeds = draws.shape[1]
    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(draws)) / seeds
    return np.einsum("rs,rs->r", draws, weights)


def percentile_p(draws: np.ndarray) -> float:
    """The p at which the percentile interval of bootstrap draws would just leave zero out."""
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    return min(1.0, 2 * (float(tail) + 1) / (len(draws) + 1))


def quick(metric: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy, F1 of class 1 or Matthews of two classes, without what scikit-learn checks every time."""
    if metric == "accuracy":
        return float((predictions == labels).mean())
    both, positives, true, n = int((predictions & labels).sum()), int(predictions.sum()), int(labels.sum()), len(labels)
    if metric == "f1":
        return 2 * both / (positives + true)
    return (n * both - positives * true) / float(np.sqrt(float(positives * (n - positives)) * true * (n - true)))


def _labels(task: Task, examples: int, random: np.random.Generator) -> np.ndarray:
    if task.regression:
        return np.round(random.random(examples) * 25) / 5
    return random.integers(task.outputs, size=examples).astype(np.float32)


def _logits(task: Task, labels: np.ndarray, difficulty: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Logits (examples, outputs) of a run that solves about the task's share of the examples."""
    if task.regression:
        return (labels + 0.6 * difficulty + 0.5 * random.normal(size=len(labels)))[:, None]
    skill = stats.norm.ppf(ACCURACY[task.name]) * 1.3 + 0.1 * random.normal()
    correct = skill + 0.5 * random.normal(size=len(labels)) > difficulty
    wrong = (labels + 1 + random.integers(task.outputs - 1, size=len(labels))) % task.outputs
    return np.eye(task.outputs)[np.where(correct, labels, wrong).astype(int)]


def _table(split: str, logits: np.ndarray, labels: np.ndarray) -> pa.Table:
    columns = {"split": pa.array([split] * len(labels)).dictionary_encode(), "idx": np.arange(len(labels))}
    columns["label"] = labels.astype(np.float32)
    flat = pa.array(logits.ravel().astype(np.float32))
    return pa.table(columns | {"logits": pa.FixedSizeListArray.from_arrays(flat, logits.shape[1])})


if __name__ == "__main__":
    main()
