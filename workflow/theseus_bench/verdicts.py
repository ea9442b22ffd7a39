"""Whether what the papers print is reproduced: number by number, and claim by claim.

A number is *reproduced* or *within tolerance* by the rule in the suite's configuration, fixed before the runs, else
*not reproduced*. It is *not comparable* where the suite has another backbone or other data, or the number is of another
kind, and *not run* where ours is missing. Dev is only ever compared with dev, test with test.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from theseus_bench.naming import EQUAL, join_name, label_of, protocol_of, split_name
from theseus_bench.plan import Plan
from theseus_bench.published import PUBLISHED_FOLDER, Claim, Paper, PublishedRow, PublishedTable, load_published
from theseus_bench.table_formats import Cell, Column, Row, Table
from theseus_bench.tasks import METRIC_NAMES, Task

REPRODUCED, WITHIN, NOT_REPRODUCED = "reproduced", "within tolerance", "not reproduced"
NOT_COMPARABLE, NOT_RUN = "not comparable", "not run"
HOLDS, FAILS = "holds", "does not hold"
SCORE = "score"


@dataclass(frozen=True)
class Verdict:
    """One printed number beside ours, in points. `what` is a task's name or 'macro'."""

    table: str
    name: str  # of our runs
    what: str
    metric: str  # 'score', or the one metric that is printed
    printed: float
    ours: float | None
    seeds: int
    verdict: str
    reason: str


def judge_numbers(plan: Plan, experiment: str, scores: pd.DataFrame) -> list[Verdict]:
    """A verdict on every number that the experiment's `compare_with` tables print for one of its rows.

    `scores` is the tidy frame of theseus_bench.scores.
    """
    wanted = plan.suite.experiments[experiment]
    published = load_published(PUBLISHED_FOLDER) if wanted.compare_with else {}
    verdicts = []
    for key in wanted.compare_with:
        paper, table = published[key]
        for name in plan.experiment_names(experiment):
            for row_name, row in table.rows.items():
                if _plain(name) in counterparts(plan, row_name):
                    verdicts += _judge_row(plan, experiment, scores, key, paper, table, row, name)
    return verdicts


def counterparts(plan: Plan, row: str) -> set[str]:
    """The names of our runs that a published row is compared with, under any protocol."""
    names = [name for spec in plan.specs.values() for name in spec.published.get(row, [])]
    return {join_name(*split_name(name)) for name in names}


def judge_claims(plan: Plan, experiment: str, scores: pd.DataFrame, speed: dict) -> list[tuple[Claim, str, str, str]]:
    """(claim, protocol, verdict, what was seen) of every claim whose runs the experiment has.

    A claim about an order is judged on the macro score (mean over the experiment's tasks of the medians over seeds);
    the same without CoLA, on which half of the paper's gain rests, and the number of seeds in which the order holds are
    said beside it. `speed` is '<method>[@variant]' → speed-up and interval.
    """
    wanted = plan.suite.experiments[experiment]
    papers = {key.partition(": ")[0]: load_published(PUBLISHED_FOLDER)[key][0] for key in wanted.compare_with}
    judged = []
    for paper in papers.values():
        for claim in paper.claims:
            for protocol in wanted.protocols:
                groups = [_asked(plan, experiment, names, protocol) for names in claim.models]
                if all(groups):
                    judged.append((claim, protocol, *_judge_claim(plan, experiment, scores, speed, claim, groups)))
    return judged


def verdicts_table(plan: Plan, verdicts: list[Verdict], title: str) -> Table:
    """Ours beside the printed numbers."""
    columns = (
        Column("published", "Published in", text=True),
        Column("task", "Task", text=True),
        Column("metric", "Metric", text=True),
        Column("printed", "Printed", ("points",)),
        Column("ours", "Ours", ("points",)),
        Column("difference", "Difference", ("points",)),
        Column("seeds", "Seeds", decimals=0),
        Column("verdict", "Verdict", text=True),
        Column("reason", "Why", text=True),
    )
    rows = []
    for v in verdicts:
        method, parts = split_name(v.name)
        variant = "+".join(parts)
        ours = Cell(v.ours, notes=() if v.ours is not None else (v.reason,))
        difference = Cell(None if v.ours is None else v.ours - v.printed)
        label = plan.tasks[v.what].label if v.what in plan.tasks else v.what
        cells = (
            Cell(v.table),
            Cell(label),
            Cell(METRIC_NAMES.get(v.metric, v.metric)),
            Cell(v.printed),
            ours,
            difference,
        )
        cells += (Cell(float(v.seeds)), Cell(v.verdict), Cell(v.reason))
        rows.append(
            Row(plan.specs[method].label + label_of(variant), cells, (method, variant), v.verdict.replace(" ", "-"))
        )
    rule = plan.suite.verdicts
    by_task = "".join(f", {points:g} on {plan.tasks[name].label}" for name, points in rule.tolerance_by_task.items())
    notes = (
        f"Reproduced: within {rule.reproduced:g} points of the printed number; within tolerance: within "
        f"{rule.tolerance:g}{by_task}; the rule is in the configuration.",
        "Ours: median over the seeds; a macro is the mean of the medians of the tasks that are printed.",
    )
    return Table(title, "Ours beside the printed numbers.", columns, tuple(rows), notes, identity=("method", "variant"))


def claims_table(judged: list[tuple[Claim, str, str, str]], title: str) -> Table:
    """The papers' claims, each with what speaks for and against it here."""
    columns = (
        Column("source", "Source", text=True),
        Column("protocol", "Protocol", text=True),
        Column("verdict", "Verdict", text=True),
        Column("seen", "Seen here", text=True),
    )
    rows = [
        Row(
            claim.claim,
            (Cell(claim.source), Cell(protocol), Cell(verdict), Cell(seen)),
            (claim.claim,),
            verdict.replace(" ", "-"),
        )
        for claim, protocol, verdict, seen in judged
    ]
    notes = ("A claim is judged by the medians alone; in how many seeds it holds says how sure that is.",)
    return Table(title, "Claims about directions.", columns, tuple(rows), notes, stub="Claim", identity=("claim",))


def _judge_row(
    plan: Plan,
    experiment: str,
    scores: pd.DataFrame,
    key: str,
    paper: Paper,
    table: PublishedTable,
    row: PublishedRow,
    name: str,
) -> Iterator[Verdict]:
    asked = {task.name for task in plan.experiment_tasks(plan.suite.experiments[experiment])}
    seeds = len(plan.experiment_seeds(plan.suite.experiments[experiment]))
    ours: dict[str, float] = {}
    for task_name, printed in row.scores.items():
        if task_name not in asked:
            continue
        task = plan.tasks[task_name]
        numbers = printed if isinstance(printed, list) else [printed]
        for number, (splits, metric) in zip(numbers, _measured(task, table.split, row, numbers), strict=True):
            values = _by_seed(scores, name, task_name, splits, metric)
            value = float(values.median()) if len(values) else None
            if value is not None and metric == SCORE:
                ours[task_name] = value
            tolerance = plan.suite.verdicts.tolerance_by_task.get(task_name, plan.suite.verdicts.tolerance)
            reason = _incomparable(plan, paper, table, [task])
            missing = "the labels are the GLUE server's" if table.split == "test" else "no run of it has a score"
            verdict = _verdict(plan, number, value, len(values), seeds, tolerance, reason, missing)
            yield Verdict(key, name, task_name, metric, number, value, len(values), *verdict)
    if row.macro is not None and table.split == "dev" and row.scores.keys() <= asked:
        complete = ours.keys() == row.scores.keys()
        value = sum(ours.values()) / len(ours) if complete else None
        reason = _incomparable(plan, paper, table, [plan.tasks[task] for task in row.scores])
        rule = plan.suite.verdicts.tolerance
        verdict = _verdict(plan, row.macro, value, seeds, seeds, rule, reason, "a task is missing")
        yield Verdict(key, name, "macro", SCORE, row.macro, value, seeds if complete else 0, *verdict)


def _measured(task: Task, split: str, row: PublishedRow, numbers: list[float]) -> list[tuple[list[str], str]]:
    """The splits and the metric of each printed number."""
    if split == "dev":
        metric = row.metrics.get(task.name, SCORE)
        return [(["dev"] if metric == SCORE else task.dev, metric)]
    if len(task.test) > 1:
        return [([name], task.metrics[0]) for name in task.test]
    return [(task.test, metric) for metric in task.metrics[: len(numbers)]]


def _by_seed(scores: pd.DataFrame, name: str, task: str, splits: list[str], metric: str) -> pd.Series:
    """Our value of each seed, the mean over the splits."""
    method, parts = split_name(name)
    rows = scores[
        (scores["method"] == method)
        & (scores["variant"].fillna("") == "+".join(parts))
        & (scores["task"] == task)
        & scores["split"].isin(splits)
        & (scores["metric"] == metric)
    ]
    return rows.groupby("seed")["value"].mean().dropna()


def _incomparable(plan: Plan, paper: Paper, table: PublishedTable, tasks: list[Task]) -> str:
    """Why ours and the printed number are of different things; '' if they are of the same."""
    suite = plan.suite
    samples = [task.label for task in tasks if task.name in suite.data.samples]
    if suite.data.source == "demo":
        return "generated sentences"
    if suite.backbone.name != paper.backbone:
        return f"another backbone than {paper.backbone}"
    if samples:
        return f"the data of {', '.join(samples)} is a sample"
    if table.statistic == "best":
        return "the printed number is the best of its runs, ours their median"
    return ""


def _verdict(
    plan: Plan, printed: float, ours: float | None, seeds: int, asked: int, tolerance: float, reason: str, missing: str
) -> tuple[str, str]:
    """The verdict and its reason."""
    if ours is None:
        return NOT_RUN, missing
    few = f"{seeds} of {asked} seeds" if seeds < asked else ""
    if reason:
        return NOT_COMPARABLE, "; ".join(filter(None, [reason, few]))
    difference = round(abs(ours - printed), 6)  # 82.3 − 81.8 is 0.5
    if difference <= plan.suite.verdicts.reproduced:
        return REPRODUCED, few
    return (WITHIN if difference <= tolerance else NOT_REPRODUCED), few


def _asked(plan: Plan, experiment: str, names: list[str], protocol: str) -> list[str]:
    """Those of `names` that the experiment has under the protocol; a predecessor is the same under each."""
    wanted = {join_name(*split_name(name)) for name in names}
    return [
        name
        for name in plan.experiment_names(experiment)
        if _plain(name) in wanted
        and (protocol_of(name.partition("@")[2]) == protocol or not plan.specs[split_name(name)[0]].compressed)
    ]


def _judge_claim(
    plan: Plan, experiment: str, scores: pd.DataFrame, speed: dict, claim: Claim, groups: list[list[str]]
) -> tuple[str, str]:
    tasks = [task.name for task in plan.experiment_tasks(plan.suite.experiments[experiment]) if task.macro]
    names = [max(group, key=lambda name: _macro(scores, name, tasks)) for group in groups]
    macros = [_macro(scores, name, tasks) for name in names]
    if not all(macro > float("-inf") for macro in macros):
        return NOT_RUN, "a task of it has no score"
    if claim.retains is not None:
        share = macros[0] / macros[1]
        faster = (speed.get(names[0]) or {}).get("speedup")
        seen = (
            f"{100 * share:.1f} % of {macros[1]:.1f} points, {'not measured' if faster is None else f'{faster:.2f}'}×"
        )
        enough = round(share, 2) >= claim.retains
        if claim.speedup is not None:
            if faster is None:
                return NOT_RUN, seen
            enough &= round(faster, 2) >= claim.speedup
        return (HOLDS if enough else FAILS), seen
    seen = f"macro {', '.join(f'{macro:.1f}' for macro in macros)}"
    rest = [task for task in tasks if task != "cola"]
    if rest and rest != tasks:
        seen += f"; without CoLA {', '.join(f'{_macro(scores, name, rest):.1f}' for name in names)}"
    by_seed = _seeds_in_order(scores, names, tasks)
    return (HOLDS if _falling(macros) else FAILS), f"{seen}; in {sum(by_seed)} of {len(by_seed)} seeds"


def _macro(scores: pd.DataFrame, name: str, tasks: list[str]) -> float:
    """The mean over tasks of our medians; −∞ where one is missing."""
    medians = [_by_seed(scores, name, task, ["dev"], SCORE).median() for task in tasks]
    return sum(medians) / len(medians) if medians and not pd.isna(medians).any() else float("-inf")


def _seeds_in_order(scores: pd.DataFrame, names: list[str], tasks: list[str]) -> list[bool]:
    """For each seed that all of `names` have on all tasks, whether their macros fall."""
    frames = [pd.DataFrame({task: _by_seed(scores, name, task, ["dev"], SCORE) for task in tasks}) for name in names]
    macros = pd.concat([frame.dropna().mean(axis=1) for frame in frames], axis=1).dropna()
    return [_falling(list(row)) for row in macros.to_numpy()]


def _falling(values: list[float]) -> bool:
    return all(a > b for a, b in itertools.pairwise(values))


def _plain(name: str) -> str:
    """The name under the published protocol."""
    method, parts = split_name(name)
    return join_name(method, tuple(part for part in parts if part != EQUAL))
