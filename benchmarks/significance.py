"""Significance at the scale of the paper: how long it takes, and whether its tests keep their promises.

    python benchmarks/significance.py time       all tasks, methods and ten seeds at the full sizes of GLUE's dev sets
    python benchmarks/significance.py size       a difference on one task: rejections without one and with one
    python benchmarks/significance.py family     whole families of them: how often one is found where there is none

Predictions are simulated: examples differ in difficulty, methods in what they find difficult, seeds in skill. For
families most scores are normal deviates with the same parts, which is a thousand times as fast.
"""

from __future__ import annotations

import itertools
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
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
    {"time": measure_time, "size": measure_size, "family": measure_family}[sys.argv[1]]()


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
    """The test of two methods that have no fellows but each other."""
    own = [scores.var(ddof=1) for scores in observed]
    variances, dfs = statistics.moderate(np.array(own), np.array([len(scores) - 1.0 for scores in observed]))
    variance_and_df = tuple(zip(variances.tolist(), dfs.tolist(), strict=True))
    return statistics.conclude([statistics.spread_of(observed, draws, variance_and_df, examples)])


def multi_bootstrap(draws: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mean differences (resamples,) with the seeds resampled too (Sellam et al. 2022, section 3)."""
    seeds = draws.shape[1]
    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(draws)) / seeds
    return np.einsum("rs,rs->r", draws, weights)


def percentile_p(draws: np.ndarray) -> float:
    """The p at which the percentile interval of bootstrap draws would just leave zero out."""
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    return min(1.0, 2 * (float(tail) + 1) / (len(draws) + 1))


@dataclass(frozen=True)
class Design:
    """Experiments without a difference: 9 methods, the first of which meets the others, on 9 tasks (8 in the macro).

    `ratio`: the variance of a difference's mean over seeds, as a multiple of its variance over examples, which is 1.
    `wild`: the method whose seeds spread four times as much. `uneven`: tasks differ in all their spreads, as GLUE's do.
    `failing`: the share of seeds on half of the tasks that fall by ten standard errors of the examples. `discrete`: the
    scores are accuracies on 277 examples, and `ratio` the seeds' spread in skill.
    """

    seeds: int
    ratio: float
    wild: int | None = None
    uneven: bool = False
    failing: float = 0.0
    discrete: bool = False

    METHODS = 9
    TASKS = 9
    EXAMPLES = 277
    INTERACTION = 0.25  # of a method's seeds with the examples, beside its share of 0.5 in the variance over examples
    UNEVEN = (1.0, 0.3, 0.8, 0.3, 0.1, 0.15, 0.2, 1.5, 3.0)


@dataclass(frozen=True)
class Experiments:
    """Simulated experiments: scores (n, methods, tasks, seeds), the variance over examples of the mean difference from
    the first method (n, methods - 1, tasks), and the interaction in each method's mean (n, methods, tasks)."""

    scores: np.ndarray
    over_examples: np.ndarray
    interaction: np.ndarray


def draw(design: Design, n: int, random: np.random.Generator) -> Experiments:
    """`n` experiments of the design."""
    shape = (n, design.METHODS, design.TASKS, design.seeds)
    wild = np.ones(design.METHODS)
    if design.wild is not None:
        wild[design.wild] = 4
    if design.discrete:
        parts = [_draw_accuracies(design, n, random, wild) for _ in range(design.TASKS)]
        return Experiments(*(np.stack(values, axis=2) for values in zip(*parts, strict=True)))
    skill = np.sqrt(design.ratio * design.seeds / 2) * wild[:, None, None] * random.normal(size=shape)
    noise = np.sqrt(design.INTERACTION) * random.normal(size=shape)
    scores = np.sqrt(0.5) * random.normal(size=shape[:3])[..., None] + skill + noise
    half = np.arange(design.TASKS) < design.TASKS // 2
    scores -= 10 * half[:, None] * (random.random(shape) < design.failing)
    scale = np.array(design.UNEVEN if design.uneven else np.ones(design.TASKS))
    df = design.EXAMPLES - 1
    over = (1 + 2 * design.INTERACTION / design.seeds) * random.chisquare(df, size=(n, 8, design.TASKS)) / df
    interaction = np.full(shape[:3], design.INTERACTION / design.seeds)
    return Experiments(scores * scale[:, None], over * scale**2, interaction * scale**2)


def _draw_accuracies(design: Design, n: int, random: np.random.Generator, wild: np.ndarray):
    """The parts of `Experiments` of one task, in points, from which examples each run of each method has right."""
    right = np.empty((n, design.METHODS, design.seeds, design.EXAMPLES), np.float32)
    for i in range(n):
        hard = random.normal(size=design.EXAMPLES) + 0.3 * random.normal(size=(design.METHODS, 1, design.EXAMPLES))
        skill = 0.55 + design.ratio * wild[:, None, None] * random.normal(size=(design.METHODS, design.seeds, 1))
        right[i] = skill + 0.7 * random.normal(size=right.shape[1:]) > hard
    mean = right.mean(axis=2)  # (n, methods, examples)
    over = 1e4 * (mean[:, :1] - mean[:, 1:]).var(axis=-1, ddof=1) / design.EXAMPLES
    apart = (right - mean[:, :, None]).var(axis=-1, ddof=1).sum(axis=2)
    interaction = 1e4 * apart / design.EXAMPLES / (design.seeds - 1) / design.seeds
    return 100 * right.mean(axis=-1), over, interaction


def p_of_families(experiments: Experiments, moderated: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """p of the macro difference of each method from the first (n, 8), and of each on each task (n, 8, 9).

    As `statistics.spread_of` and `statistics.conclude` make them, for all experiments at once. Not `moderated`: with
    the variance of the differences of paired seeds alone.
    """
    scores, seeds = experiments.scores, experiments.scores.shape[-1]
    if moderated:
        own = np.moveaxis(scores.var(axis=-1, ddof=1), 1, -1)  # (n, tasks, methods)
        variance, df = statistics.moderate(own, np.full(scores.shape[1], seeds - 1.0))
        variance, df = (np.moveaxis(values, -1, 1) for values in (variance / seeds, df))
        parts = [(np.broadcast_to(variance[:, :1], variance[:, 1:].shape), df[:, :1]), (variance[:, 1:], df[:, 1:])]
    else:
        parts = [((scores[:, :1] - scores[:, 1:]).var(axis=-1, ddof=1) / seeds, seeds - 1)]
    whole = sum(part for part, _ in parts)
    interaction = experiments.interaction[:, :1] + experiments.interaction[:, 1:]
    least = np.minimum(np.minimum(interaction, whole), experiments.over_examples)
    parts.append((experiments.over_examples - least, Design.EXAMPLES - 1))
    difference = (scores[:, :1] - scores[:, 1:]).mean(axis=-1)
    variance = sum(part for part, _ in parts)
    weight = sum(part**2 / df for part, df in parts)
    return _p_of(*(values[..., :8].sum(axis=-1) for values in (difference, variance, weight))), _p_of(
        difference, variance, weight
    )


def _p_of(difference: np.ndarray, variance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * stats.t.sf(np.abs(difference) / np.sqrt(variance), variance**2 / weight)
    return np.where(variance > 0, p, difference == 0)


def count_alarms(design: Design, n: int, moderated: bool = True, chunk: int = 1000) -> dict[str, float]:
    """Of `n` experiments without a difference: the share of p below .05 and .0006 on single tasks, and the share of
    experiments in which Holm finds a difference on some task (of 72), and in some macro (of 8)."""
    random = np.random.default_rng([design.seeds, int(100 * design.ratio), int(design.discrete)])
    rates = np.zeros(5)
    for _ in range(n // chunk):
        macro, tasks = p_of_families(draw(design, chunk, random), moderated)
        tasks = tasks.reshape(chunk, -1)
        family = [(p.min(axis=1) < 0.05 / p.shape[1]).mean() for p in (tasks, macro)]  # Holm's first step
        rates += [(tasks < 0.05).mean(), (tasks < 0.0006).mean(), (macro < 0.05).mean(), *family]
    return dict(zip(("task_05", "task_0006", "macro_05", "tasks", "macro"), rates / (n // chunk), strict=True))


FAMILIES = {
    "as the seeds' ratio says": {},
    "one baseline 4 times": {"wild": 3},
    "the proposed method 4 times": {"wild": 0},
    "tasks as uneven as GLUE's": {"uneven": True},
    "a tenth of seeds fails on half of the tasks": {"failing": 0.1},
    "all of it: uneven, a baseline 4 times, a twentieth fails": {"uneven": True, "wild": 3, "failing": 0.05},
}


def measure_family(n: int = 20_000) -> None:
    """Family-wise errors by simulation: of the primary family, the macros, and of the secondary one, the tasks."""
    print(
        "| spread | seeds | ratio | tasks: p < .05 | p < .0006 | tasks, Holm | macros, Holm | before: tasks | macros |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    rows = [(words, changes, ratio) for words, changes in FAMILIES.items() for ratio in (0, 1, 3, 10)]
    rows += [("accuracies of 277 examples", {"discrete": True}, spread) for spread in (0.0, 0.15, 0.4)]
    rows += [("accuracies, a baseline 4 times", {"discrete": True, "wild": 3}, spread) for spread in (0.05, 0.15)]
    for words, changes, ratio in rows:
        for seeds in (3, 5, 10):
            design = Design(seeds, ratio, **changes)
            size, chunk = (2_000, 50) if design.discrete else (n, 1000)
            alarms, before = (count_alarms(design, size, moderated, chunk) for moderated in (True, False))
            cells = [f"{alarms[key]:.{digits}f}" for key, digits in (("task_05", 3), ("task_0006", 4))]
            cells += [_with_interval(one[key], size) for one in (alarms, before) for key in ("tasks", "macro")]
            print(f"| {words} | {seeds} | {ratio:g} | {' | '.join(cells)} |", flush=True)
    for seeds, ratio in itertools.product((3, 5, 10), (1, 3)):
        powers = [power(Design(seeds, ratio), 2000, moderated) for moderated in (True, False)]
        print(
            f"{seeds} seeds, ratio {ratio}, true macro differences of three errors: found {powers[0]:.3f}, before "
            f"{powers[1]:.3f}"
        )
    for seeds in (3, 5, 10):
        print(
            f"{seeds} seeds, four of eight differ: all intervals hold together in "
            f"{joint_coverage(seeds, 1.0, 2000):.3f}"
        )


def power(design: Design, n: int, moderated: bool) -> float:
    """The share of true macro differences, of three standard errors each, that Holm finds."""
    experiments = draw(design, n, np.random.default_rng(0))
    scores = experiments.scores.copy()
    scores[:, 0] += 3 * np.sqrt((1 + design.ratio) / 8)
    macro, _ = p_of_families(replace(experiments, scores=scores), moderated)
    return float(np.mean([np.array(statistics.holm(row)) < 0.05 for row in macro]))


def joint_coverage(seeds: int, ratio: float, n: int) -> float:
    """The share of experiments whose intervals of the macro differences all hold the true ones, four of which are "
    "not 0."""
    experiments = draw(Design(seeds, ratio), n, np.random.default_rng(0))
    truth = np.array([0.0] * 4 + [3 * np.sqrt((1 + ratio) / 8)] * 4)
    coverage = 0
    for i in range(n):
        conclusions = []
        own = experiments.scores[i].var(axis=-1, ddof=1)
        variances = [statistics.moderate(own[:, task], np.full(9, seeds - 1.0)) for task in range(8)]
        for other in range(8):
            spreads = []
            for task, (variance, df) in enumerate(variances):
                parts = tuple((variance[m] / seeds, df[m]) for m in (0, other + 1))
                over = experiments.over_examples[i, other, task]
                interaction = experiments.interaction[i, 0, task] + experiments.interaction[i, other + 1, task]
                examples_variance = over - min(interaction, sum(part for part, _ in parts), over)
                difference = (experiments.scores[i, 0, task] - experiments.scores[i, other + 1, task]).mean() + truth[
                    other
                ]
                spreads.append(statistics.Spread(difference, Design.EXAMPLES, parts, examples_variance))
            conclusions.append(statistics.conclude(spreads))
        _, intervals = statistics.adjust_family(conclusions, 0.05, [(-100.0, 100.0)] * 8)
        coverage += all(low <= true <= high for (low, high), true in zip(intervals, truth, strict=True))
    return coverage / n


def _with_interval(share: float, n: int) -> str:
    """A share with its 95 % binomial interval (Clopper and Pearson)."""
    low, high = stats.binomtest(round(share * n), n).proportion_ci()
    return f"{share:.3f} ({low:.3f}–{high:.3f})"


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
