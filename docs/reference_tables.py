"""README's two tables of the reference results: scores, and what module replacing has more than its baselines.

Both have a column for each task that the predecessor has, which says with how many seeds where these are not all.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from statistics import mean, stdev

from theseus_bench.data.metrics import measure_task, score
from theseus_bench.evaluation.significance_file import read_significance
from theseus_bench.evaluation.statistics import Conclusion, interval
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.records import read_predictions
from theseus_bench.suite.status import state
from theseus_bench.wording import count_noun

EXPERIMENT = "glue_dev"
STARTS = {"pretrained": "backbone", "predecessor": "predecessor"}  # by setting, whose first layers a model starts with
THESEUS = {"pretrained": "theseus@equal+pretrained_start", "predecessor": "theseus@equal"}  # by the same setting
BASELINES = ("finetune", "vanilla_kd", "pkd")  # that have both starts
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]  # head, rows
Row = tuple[str, str, str]  # method, depth, start


def scores() -> Table:
    """Dev scores, the best first: mean ± sample standard deviation over the seeds, from the predictions."""
    (points, failures), tasks = _points(), _tasks()

    def describe_cell(row: Row, task: str) -> str:
        values, failed = points[row].get(task, []), failures[row, task]
        if not values:
            return ""
        words = [f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")]
        words += [f"{len(values)} of {tasks[task]} seeds"] if len(values) < tasks[task] else []
        words += ["*failed*" if failed == len(values) else f"*{failed} failed*"] if failed else []
        return ", ".join(words)

    means = {row: [mean(cells[task]) for task in tasks if task in cells] for row, cells in points.items()}
    order = sorted((row for row in means if means[row]), key=lambda row: (-len(means[row]), -mean(means[row])))
    rows = [(*row, *(describe_cell(row, task) for task in tasks)) for row in order]
    return ("", "layers", "layers from", *_heads()), rows


def differences() -> Table:
    """Theseus less each baseline with the same layers, in points, with its 95 % interval by itself.

    Bold where the difference is significant among all tests of its family, by Holm. With too few seeds for a test it
    stands alone; where one of the two has not all seeds of the column yet, nothing does.
    """
    plan, points = _plan(), _points()[0]
    results = read_significance(EXPERIMENT, Path(plan.folder) / "partial")
    tested = {(row.name, row.other, plan.tasks[row.target].label): row for row in results.differences if row.primary}

    def describe_cell(start: str, other: str, variant: str, task: str) -> str:
        row = tested.get((THESEUS[start], other + variant, task))
        of_theseus, of_other = (
            points.get((plan.specs[name].label, str(plan.suite.student_layers), STARTS[start]), {}).get(task, [])
            for name in ("theseus", other)
        )
        if min(len(of_theseus), len(of_other)) < _tasks()[task]:
            return ""
        difference = f"{mean(of_theseus) - mean(of_other):+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")
        if row is not None and row.error is not None and row.df is not None and row.p is not None:
            conclusion = Conclusion(row.difference, row.error, row.df, row.p)
            low, high = interval(conclusion, results.alpha)
            difference = f"**{difference}**" if results.is_significant(row) else difference
            difference += f" ({low:.1f} to {high:.1f})"
        return difference.replace("-", "−")

    rows = []
    for start, variant in (("predecessor", "@equal+start=predecessor"), ("pretrained", "@equal")):
        for other in BASELINES:
            cells = (describe_cell(start, other, variant, task) for task in _tasks())
            rows.append((plan.specs[other].label, STARTS[start], *cells))
    return ("Theseus less", "layers of both from", *_heads()), rows


@cache
def _plan() -> Plan:
    return load_plan(read_yaml(Path("config/reference.yaml")))


@cache
def _points() -> tuple[dict[Row, dict[str, list[float]]], Counter[tuple[Row, str]]]:
    """The seeds' scores by row and task, and how many of them failed."""
    plan = _plan()
    points: dict[Row, dict[str, list[float]]] = {}
    failures: Counter[tuple[Row, str]] = Counter()
    for run in plan.experiment_runs(EXPERIMENT):
        record = state(plan, run, Path(plan.folder))[2]
        predictions = read_predictions(Path(plan.folder) / run.path, run.task.dev) if record else {}
        if predictions:
            logits = {split: part.logits for split, part in predictions.items()}
            labels = {split: part.labels for split, part in predictions.items()}
            shape = (str(run.settings["layers"]), STARTS[run.settings["start"]]) if run.spec.trained else ("", "")
            row = (run.spec.label, *shape)
            values = points.setdefault(row, {}).setdefault(run.task.label, [])
            values.append(100 * score(measure_task(run.task, logits, labels)))
            assert len(values) <= len(plan.suite.seeds), f"{row}: two variants in one row"
            failures[row, run.task.label] += record.status == "failed"
    return points, failures


def _tasks() -> dict[str, int]:
    """The tasks that the predecessor has, by label, and with how many seeds."""
    plan, points = _plan(), _points()[0]
    (cells,) = [cells for (label, *_), cells in points.items() if label == plan.specs["predecessor"].label]
    return {task: len(values) for task, values in cells.items()}


def _heads() -> list[str]:
    """Of the tasks' columns."""
    seeds = len(_plan().suite.seeds)
    return [task if n == seeds else f"{task}, {count_noun(n, 'seed')}" for task, n in _tasks().items()]
