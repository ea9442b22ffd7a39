"""Whether what the papers print is reproduced, number by number.

A printed number is *reproduced* where the interval of our difference from it lies within the tolerance of the suite's
configuration, *not reproduced* where it lies outside, and *undecided* between. It is *not comparable* where the suite
has another backbone or other data, or the number is of another kind, and *not run* where ours is missing. Dev is only
ever compared with dev, test with test, and only runs by the authors' recipe with what the authors print.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from theseus_bench.data.tasks import Task
from theseus_bench.evaluation.counterparts import compared_tables, counterparts, kind_of
from theseus_bench.evaluation.statistics import FEWEST, Parts, parts_of_seeds, t_interval
from theseus_bench.evaluation.variances import list_pools, moderate_seeds
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.published import Paper, PublishedRow, PublishedTable
from theseus_bench.suite.run_names import PUBLISHED, RunName

REPRODUCED, UNDECIDED, NOT_REPRODUCED = "reproduced", "undecided", "not reproduced"
NOT_COMPARABLE, NOT_RUN = "not comparable", "not run"
GENERATED = "generated sentences"
SCORE = "score"
MEDIAN = math.pi / 2  # the variance of a median of many runs, as a multiple of that of their mean
Values = dict[tuple[str, str, str, str, str], pd.Series]


@dataclass(frozen=True)
class Verdict:
    """One printed number beside ours, in points. `target` is a task's name or 'macro'.

    `low` and `high` are the ends of the interval of ours less the printed; None below FEWEST seeds.
    """

    table: str
    row: str  # of the table
    name: str  # of our runs
    target: str
    metric: str  # 'score', or the one metric that is printed
    reported_score: float
    mean: float | None  # ours
    low: float | None
    high: float | None
    seeds: int
    verdict: str
    reason: str
    split: str = ""  # the one that is printed, of a task with several; '' for all of them


@dataclass(frozen=True)
class ReportedRow:
    """A printed row, and those of an experiment's names that it is compared with."""

    key: str  # of the table
    paper: Paper
    table: PublishedTable
    row_name: str
    row: PublishedRow
    names: list[str]


def reported_rows(plan: Plan, experiment: str) -> Iterator[ReportedRow]:
    """The rows of the experiment's `compare_with` tables that it has runs of, by the authors' recipe."""
    names = [n for n in plan.experiment_names(experiment) if RunName.parse(n).protocol == PUBLISHED]
    for key, (paper, table) in compared_tables(plan, experiment).items():
        for row_name, row in table.rows.items():
            kinds = counterparts(plan, paper, row_name)
            matches = [name for name in names if kind_of(plan, name) in kinds]
            if matches:
                yield ReportedRow(key, paper, table, row_name, row, matches)


def judge_numbers(plan: Plan, experiment: str, scores: pd.DataFrame) -> list[Verdict]:
    """A verdict on every number, each once, that the experiment's `compare_with` tables print for one of its rows.

    `scores` is the tidy frame of theseus_bench.evaluation.scores. Where the paper does not say which of several
    settings a row is of, the number is compared with the best of ours, and the verdict says so.
    """
    values = _by_key(scores)
    return [verdict for row in reported_rows(plan, experiment) for verdict in _judge_row(plan, experiment, values, row)]


def _judge_row(plan: Plan, experiment: str, scores: Values, entry: ReportedRow) -> Iterator[Verdict]:
    key, table, row = entry.key, entry.table, entry.row
    task_names = {task.name for task in plan.experiment_tasks(plan.suite.experiments[experiment])}
    seeds = len(plan.experiment_seeds(plan.suite.experiments[experiment]))
    server = "the labels are the GLUE server's"
    for task_name, numbers in row.scores.items():
        if task_name not in task_names:
            continue
        task = plan.tasks[task_name]
        numbers = numbers if isinstance(numbers, list) else [numbers]
        for number, (splits, metric) in zip(numbers, _splits_and_metrics(task, table.split, row, numbers), strict=True):
            by_name = {name: _by_seed(scores, name, task_name, splits, metric) for name in entry.names}
            name = _best({name: values.mean() for name, values in by_name.items() if len(values)}, entry.names)
            values, parts = by_name[name], _error(plan, experiment, scores, name, task_name, splits, metric, table)
            tolerance = plan.suite.verdicts.tolerance_by_task.get(task_name, plan.suite.verdicts.tolerance)
            reason = incomparable(plan, entry.paper, table, name, [task])
            why_missing = server if table.split == "test" else "no run of it has a score"
            mean = float(values.mean()) if len(values) else None
            judgement = _verdict(plan, number, mean, parts, len(values), seeds, tolerance, reason, why_missing)
            split = splits[0] if len(task.dev) > 1 and len(splits) == 1 and splits != ["dev"] else ""
            yield _with_choice(entry, Verdict(key, entry.row_name, name, task_name, metric, number, *judgement, split))
    if row.macro is not None and row.scores.keys() <= task_names:
        tasks = list(row.scores)
        dev = table.split == "dev"
        by_name = {
            name: [_by_seed(scores, name, task, ["dev"], SCORE) for task in tasks] if dev else []
            for name in entry.names
        }
        is_complete = {name: all(map(len, values)) and bool(values) for name, values in by_name.items()}
        means = {n: float(np.mean([values.mean() for values in by_name[n]])) for n in entry.names if is_complete[n]}
        name = _best(means, entry.names)
        seed_count = min(map(len, by_name[name])) if is_complete[name] else 0
        by_task = (
            [_error(plan, experiment, scores, name, task, ["dev"], SCORE, table) for task in tasks]
            if seed_count > 1
            else []
        )
        shares: Parts = [(part / len(tasks) ** 2, df) for parts in by_task for part, df in parts]
        reason = incomparable(plan, entry.paper, table, name, [plan.tasks[task] for task in tasks])
        rule, why_missing = plan.suite.verdicts.tolerance, "a task is missing" if dev else server
        judgement = _verdict(plan, row.macro, means.get(name), shares, seed_count, seeds, rule, reason, why_missing)
        yield _with_choice(entry, Verdict(key, entry.row_name, name, "macro", SCORE, row.macro, *judgement))


def _best(means: dict[str, float], names: list[str]) -> str:
    """The name with the highest mean; the first of all where none has one."""
    return max(means, key=lambda name: means[name]) if means else names[0]


def _with_choice(entry: ReportedRow, verdict: Verdict) -> Verdict:
    """The verdict, saying so where it is the best of several that the printed number may be of."""
    if len(entry.names) == 1 or verdict.mean is None:
        return verdict
    words = f"the best of {len(entry.names)} settings here: the paper does not say which it is"
    return replace(verdict, reason="; ".join(filter(None, [verdict.reason, words])))


def _error(
    plan: Plan,
    experiment: str,
    scores: Values,
    name: str,
    task: str,
    splits: list[str],
    metric: str,
    table: PublishedTable,
) -> Parts:
    """The variance of our mean less the printed number, with its degrees of freedom; nothing under two seeds."""
    names = plan.experiment_names(experiment)
    pool = list_pools(plan, names, task)[name]
    by_seed = {one: _by_seed(scores, one, task, splits, metric).to_numpy() for one in pool}
    variances = moderate_seeds({name: pool}, by_seed)
    if name not in variances:
        return []
    runs = 1 / len(by_seed[name])
    if table.runs is not None:
        runs += (MEDIAN if table.statistic == "median" else 1.0) / table.runs
    return parts_of_seeds((variances[name], runs))


def _splits_and_metrics(task: Task, split: str, row: PublishedRow, numbers: list[float]) -> list[tuple[list[str], str]]:
    """The splits and the metric of each printed number."""
    if split == "dev":
        metric = row.metrics.get(task.name, SCORE)
        splits = [row.splits[task.name]] if task.name in row.splits else task.dev
        return [(["dev"] if metric == SCORE else splits, metric)]
    if len(task.test) > 1:
        return [([name], task.metrics[0]) for name in task.test]
    return [(task.test, metric) for metric in task.metrics[: len(numbers)]]


def _by_key(scores: pd.DataFrame) -> Values:
    """The tidy scores by method, variant, task, split and metric, a series over the seeds each: often looked up."""
    variants = scores["variant"].fillna("")
    values: dict[tuple[str, str, str, str, str], dict[int, float]] = {}
    columns = (scores["method"], variants, scores["task"], scores["split"], scores["metric"])
    for *key, seed, value in zip(*columns, scores["seed"], scores["value"], strict=True):
        values.setdefault(tuple(key), {})[seed] = value
    return {key: pd.Series(by_seed, dtype=float) for key, by_seed in values.items()}


def _by_seed(scores: Values, name: str, task: str, splits: list[str], metric: str) -> pd.Series:
    """Our value of each seed, the mean over the splits."""
    run_name = RunName.parse(name)
    keys = [(run_name.method, run_name.variant, task, split, metric) for split in splits]
    series = [scores[key] for key in keys if key in scores]
    if len(series) == 1:
        return series[0].dropna()
    return pd.concat(series).groupby(level=0).mean().dropna() if series else pd.Series(dtype=float)


def incomparable(plan: Plan, paper: Paper, table: PublishedTable, name: str, tasks: list[Task]) -> str:
    """Why ours and the printed number are of different things; '' if they are of the same."""
    suite = plan.suite
    compact = suite.compact.get(RunName.parse(name).method)
    samples = [task.label for task in tasks if plan.is_sample(task.name)]
    if suite.data.source == "demo":
        return GENERATED
    if suite.backbone.name != paper.backbone:
        return f"another backbone than {paper.backbone}"
    if plan.is_adapted(name):
        return "the suite's settings change its recipe"
    if compact is not None and compact.source == "recipe":
        return "its compact checkpoint was made here, not published"
    if samples:
        return f"the data of {', '.join(samples)} is a sample"
    if table.statistic == "best":
        return "the printed number is the best of its runs, ours their mean"
    return ""


def _verdict(
    plan: Plan,
    reported_score: float,
    mean: float | None,
    parts: Parts,
    seeds: int,
    planned_seeds: int,
    tolerance: float,
    reason: str,
    why_missing: str,
) -> tuple[float | None, float | None, float | None, int, str, str]:
    """Ours, the ends of the difference's interval, the seeds, the verdict and its reason."""
    if mean is None:
        return None, None, None, seeds, NOT_RUN, why_missing
    few = f"{seeds} of {planned_seeds} seeds" if seeds < planned_seeds else f"{seeds} seeds" * (seeds < FEWEST)
    low, high = None, None
    if seeds >= FEWEST:
        low, high = t_interval(mean - reported_score, parts, plan.suite.significance.alpha)
    if reason:
        return mean, low, high, seeds, NOT_COMPARABLE, "; ".join(filter(None, [reason, few]))
    if low is None or high is None:
        return mean, low, high, seeds, UNDECIDED, few
    near, far = round(max(-low, high), 6), round(max(low, -high), 6)  # 82.3 − 81.8 is 0.5
    return (
        mean,
        low,
        high,
        seeds,
        REPRODUCED if near <= tolerance else NOT_REPRODUCED if far > tolerance else UNDECIDED,
        few,
    )
