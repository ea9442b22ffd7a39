"""The table of an experiment's scores.

Frames as `theseus_bench.evaluation.scores` makes them: `scores` is tidy (one row per metric and split; the row with
split 'dev' and metric 'score' is the task's score, in points 0-100), `runs` has one row per run that was asked for. A
run is known by `RUN`.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from theseus_bench.data.tasks import Task
from theseus_bench.evaluation.speed import Timing
from theseus_bench.suite.run_names import RunName
from theseus_bench.tables.model import FOLLOWERS, Cell, Column, Mark, Row, Table, is_compressed
from theseus_bench.wording import NOT_APPLICABLE, NOT_MEASURED, series, signed

Statistic = Literal["mean", "median"]
Significance = Literal["better", "worse"]
Macros = dict[str, tuple[tuple[str, ...], list[str]]]  # by column key: subheader and names of the tasks
RUN = ["method", "variant", "task", "seed"]
CHOICE_COLUMN = 3  # where the scores table says how a row's checkpoints were chosen
SCORED_STATUSES = ("complete", "failed")  # the statuses of a run that may have a score
CHOICE_WORDS = {"dev": "on dev", "held_out": "held out"}  # by whose score a run's checkpoint was chosen
DEV_CHOICE_REMARK = (
    "Under protocol published, as adapted, a score is the best of its run's evaluations on the dev set that is "
    "reported, as in the papers; the tables of scores say of how many."
)
METRICS = {
    "accuracy": "Acc.",
    "f1": "F1",
    "f1_macro": "macro F1",
    "matthews": "Matthews",
    "pearson": "Pear.",
    "spearman": "Spear.",
}


@dataclass(frozen=True)
class ReportedScores:
    """What a paper prints of a method: `label` says where, `scores` are points by the table's column key.

    A macro that is of other tasks than ours has no place in `scores`. `incomparable`: why ours and these numbers are of
    different things, '' if they are of the same.
    """

    label: str
    scores: dict[str, float]
    incomparable: str = ""


def scores_table(
    scores: pd.DataFrame,
    runs: pd.DataFrame,
    speed: Mapping[str, Timing],
    tasks: dict[str, Task],
    title: str,
    statistic: Statistic,
    remarks: Sequence[str] = (),
    *,
    daggers: Mapping[tuple[str, str], Significance] | None = None,
    significance_remark: str = "",
    reported_scores: Mapping[str, Sequence[ReportedScores]] | None = None,
) -> Table:
    """Methods × tasks with parameters (millions), speed-up (×), seeds and macros; scores in points over the seeds.

    `tasks` in the experiment's order; one that no run asks for is left out. `runs` also has the columns role, chosen_on
    and evaluations, of the records. A failed run that has a score counts and is marked. `speed` by
    '<method>[@variant]'. `remarks` are sentences on what was run, put first below the table.

    `daggers`, by '<method>[@variant]' and column key (a task, 'macro' or 'macro_without_cola'), puts a † on what is
    better than the control and a ‡ on what is worse; `significance_remark` is the sentence that explains them, needed
    if there are any. `reported_scores`, by '<method>[@variant]': below the method's row stands one of what a paper
    prints and one of the difference, ours less the printed. ValueError on another `statistic` or marks
    without their remark.
    """
    if statistic not in ("mean", "median"):
        raise ValueError(f"statistic is {statistic!r}, not mean or median")
    daggers, reported_scores = daggers or {}, reported_scores or {}
    if daggers and not significance_remark:
        raise ValueError("there are marks of significance, and no significance_remark that explains them")
    runs = with_scores(runs, scores)
    run_tasks = {name: task for name, task in tasks.items() if name in set(runs["task"])}
    macros = _macros(run_tasks)
    groups = runs.groupby(["method", "variant"], sort=False)
    rows = [_scores_row(group, speed, run_tasks, macros, statistic, daggers) for _, group in groups]
    sizes = [row.cells[0].number for row in rows]
    decimals = 1 if all(millions is None or millions >= 1 for millions in sizes) else 3
    fields = ("sd", "n", "significant")
    columns = (
        Column("parameters_millions", "Params", ("millions",), decimals=decimals),
        Column("speedup", "Speed-up", ("×",), decimals=2, fields=("low", "high", "latency_ms")),
        Column("seeds", "Seeds", decimals=0),
        Column("chosen", "Chosen", ("best of",), text=True),
        *(
            Column(name, t.label, _subheader(t), fields=(*fields, "failed"), ranked=True)
            for name, t in run_tasks.items()
        ),
        *(
            Column(key, "Macro", subheader, fields=(*fields, "failed"), ranked=True)
            for key, (subheader, _) in macros.items()
        ),
    )
    deviation = " ± sample standard deviation" if statistic == "mean" else ""
    caption = f"{statistic.capitalize()}{deviation} over the seeds of the score on the dev set, in points."
    rows = _with_reported(_mark_best(rows, columns), columns, reported_scores)
    notes = (*remarks, *_remarks(rows, run_tasks, macros, statistic), *filter(None, [significance_remark]))
    return Table(title, caption, columns, tuple(rows), notes, identity=("method", "variant", "role"))


def selection_remarks(choices: Collection[str]) -> list[str]:
    """What the ways of choosing a checkpoint that a table shows (`_chosen_cell`) mean for its scores."""
    remarks = {
        "dev": "Chosen on dev: the score is the best of so many evaluations on the very dev set that is reported, "
        "which flatters, and the more the more there are of them.",
        "held_out": "Chosen held out: among so many evaluations by a slice of train; dev had no part in the choice.",
    }
    return [remark for key, remark in remarks.items() if any(CHOICE_WORDS[key] in text for text in choices)]


def unique_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` with each run once, absent text as '': experiments share runs, and CSV files lose empty strings."""
    runs = runs.assign(**{key: _texts(runs[key]) for key in ("variant", "reason", "path")})
    return runs.drop_duplicates(RUN, ignore_index=True)


def with_scores(runs: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The unique runs with a column score (points): NaN where there is none, or the status allows none."""
    runs = unique_runs(runs)
    dev_scores = scores[(scores["split"] == "dev") & (scores["metric"] == "score")]
    dev_scores = dev_scores.assign(variant=_texts(dev_scores["variant"]))
    score_by_run = dict(zip(dev_scores[RUN].itertuples(index=False, name=None), dev_scores["value"], strict=True))
    keys = zip(runs[RUN].itertuples(index=False, name=None), runs["status"], strict=True)
    values = [finite_or_none(score_by_run.get(key)) if status in SCORED_STATUSES else None for key, status in keys]
    return runs.assign(score=pd.array(values, dtype=object)).astype({"score": float})


def _scores_row(
    group: pd.DataFrame,
    speed: Mapping[str, Timing],
    tasks: dict[str, Task],
    macros: Macros,
    statistic: Statistic,
    daggers: Mapping[tuple[str, str], Significance],
) -> Row:
    first = group.iloc[0]
    name = str(RunName.of(first["method"], first["variant"]))
    score_cells = {task: _score_cell(group[group["task"] == task], tasks[task], statistic) for task in tasks}
    score_cells |= {
        key: _macro_cell(group, score_cells, [tasks[task] for task in names], statistic)
        for key, (_, names) in macros.items()
    }
    for key, cell in score_cells.items():
        if (name, key) in daggers and cell.value is not None:
            score_cells[key] = replace(cell, data={**cell.data, "significant": daggers[name, key]})
    parameters = _parameters_cell(group)
    speedup = _speed_cell(speed.get(name), parameters)
    cells = (parameters, speedup, _seeds_cell(group, tasks), _chosen_cell(group), *score_cells.values())
    return Row(first["label"], cells, (first["method"], first["variant"], first["role"]), first["role"])


def _parameters_cell(group: pd.DataFrame) -> Cell:
    parameters = group["parameters"].dropna()
    if len(parameters):
        return Cell(float(parameters.median()) / 1e6)
    has_run = group["status"].isin(SCORED_STATUSES).any()
    return Cell(None, notes=(NOT_APPLICABLE if has_run else "not known: there is no run",))


def _speed_cell(timing: Timing | None, parameters: Cell) -> Cell:
    if timing is None:
        return Cell(None, notes=(NOT_APPLICABLE if NOT_APPLICABLE in parameters.notes else NOT_MEASURED,))
    data = {"low": timing.low, "high": timing.high, "latency_ms": timing.latency_ms}
    return Cell(timing.speedup, interval=(timing.low, timing.high), data=data)


def _seeds_cell(group: pd.DataFrame, tasks: dict[str, Task]) -> Cell:
    """The number of seeds that have a score, as '3–5' where tasks differ; a task that is a gap does not count."""
    by_task = group.dropna(subset=["score"]).groupby("task").size()
    counts = [int(by_task[task]) for task in tasks if task in by_task] or [0]
    fewest, most = min(counts), max(counts)
    return Cell(float(fewest), value_text=f"{fewest}–{most}" if fewest < most else "")


def _chosen_cell(group: pd.DataFrame) -> Cell:
    """From how many evaluations a run's checkpoint was chosen and on what, as '20 on dev' or '4–20 held out'."""
    runs = group[group["status"].isin(SCORED_STATUSES) & group["chosen_on"].isin(list(CHOICE_WORDS))]
    if runs.empty:
        return Cell("")
    fewest, most = int(runs["evaluations"].min()), int(runs["evaluations"].max())
    count = f"{fewest}–{most}" if fewest < most else f"{most}"
    return Cell(" and ".join(f"{count} {CHOICE_WORDS[on]}" for on in dict.fromkeys(runs["chosen_on"])))


def _score_cell(group: pd.DataFrame, task: Task, statistic: Statistic) -> Cell:
    """The cell of one method and task; `group` holds its runs, one per seed."""
    values = group["score"].dropna()
    failed_runs = group[group["status"] == "failed"]
    runs_without_score = group[~group["status"].isin(SCORED_STATUSES)]
    reasons = [f"{status}: {_reasons(part)}" for status, part in runs_without_score.groupby("status", sort=False)]
    notes = []
    if len(failed_runs):
        notes.append(
            f"{len(failed_runs)} of {len(group)} runs failed: {_reasons(failed_runs)}"
            f"{_without_failures(group, statistic)}"
        )
    if "never_evaluated" in group and group["never_evaluated"].any():
        notes.append(f"{int(group['never_evaluated'].sum())} never evaluated, counted at the majority's score")
    if group.empty:
        notes.append("not asked for")
    elif values.empty:
        notes += reasons
        if (group["status"] == "complete").any():
            notes.append("no score was recorded" if task.dev else "there is no dev split")
    elif len(values) < len(group):
        notes.append("; ".join([f"{len(values)} of {len(group)} seeds", *reasons]))
    value = None if values.empty else float(getattr(values, statistic)())
    sd = _deviation(values)
    data = {"sd": sd, "n": len(values), "failed": len(failed_runs)}
    return Cell(value, spread=sd if statistic == "mean" else None, notes=tuple(notes), data=data)


def _without_failures(group: pd.DataFrame, statistic: Statistic) -> str:
    """The statistic of the runs that did not fail, where there are any with a score."""
    values = group.loc[group["status"] != "failed", "score"].dropna()
    return "" if values.empty else f"; without them {getattr(values, statistic)():.1f}"


def _macro_cell(group: pd.DataFrame, score_cells: dict[str, Cell], tasks: list[Task], statistic: Statistic) -> Cell:
    """The mean over tasks of the method's statistic; its spread is over the seeds that have all these tasks."""
    names = [task.name for task in tasks]
    missing_labels = [task.label for task in tasks if score_cells[task.name].value is None]
    if missing_labels:
        return Cell(None, notes=(f"no macro without a score on {series(missing_labels)}",), data={"n": 0})
    by_seed = group[group["task"].isin(names)].pivot(index="seed", columns="task", values="score")
    values = by_seed.dropna().mean(axis=1)
    notes = [f"{len(values)} of {len(by_seed)} seeds have every task"] if len(values) < len(by_seed) else []
    runs = group[group["task"].isin(names)]
    failed_count = int((runs["status"] == "failed").sum())
    if failed_count:
        means_without_failed = runs[runs["status"] != "failed"].groupby("task")["score"].agg(statistic).reindex(names)
        words = "there is no macro" if means_without_failed.isna().any() else f"{means_without_failed.mean():.1f}"
        notes.append(f"{failed_count} of {len(runs)} runs failed; without them {words}")
    means = [mean for name in names if (mean := score_cells[name].number) is not None]
    sd = _deviation(values)
    data = {"sd": sd, "n": len(values), "failed": failed_count}
    return Cell(sum(means) / len(means), spread=sd if statistic == "mean" else None, notes=tuple(notes), data=data)


def _deviation(values: pd.Series) -> float | None:
    """The sample standard deviation, None for fewer than two values; rounded so that equal values give 0."""
    return round(float(values.std(ddof=1)), 10) if len(values) > 1 else None


def _subheader(task: Task) -> tuple[str, str]:
    """Metrics and size of the training set, as ('F1/Acc.', '3.7k')."""
    rows = task.rows.get("train", 0)
    size = str(rows) if rows < 1000 else f"{rows / 1000:.1f}k" if rows < 9950 else f"{rows / 1000:.0f}k"
    return "/".join(METRICS[metric] for metric in task.metrics), size


def _macros(tasks: dict[str, Task]) -> Macros:
    """Subheader and task names of each macro column; none for fewer than two tasks, nor a second one for the same."""
    macro_tasks = [name for name, task in tasks.items() if task.macro]
    without_cola = [name for name in macro_tasks if name != "cola"]
    macros: Macros = {"macro": ((), macro_tasks)}
    if without_cola != macro_tasks:
        macros["macro_without_cola"] = (("without CoLA",), without_cola)
    return {key: (subheader, names) for key, (subheader, names) in macros.items() if len(names) > 1}


def _mark_best(rows: list[Row], columns: Sequence[Column]) -> list[Row]:
    """The rows with best and second marked among the compressed models, by what is shown: equal text, equal rank.

    Each protocol has marks of its own, since its models are compared with each other.
    Two that share the best leave no second, and a column in which all are equal has no mark.
    """
    marks: dict[tuple[int, int], Mark] = {}
    protocols = [RunName.of(*row.identity[:2]).protocol for row in rows]
    for protocol, (j, column) in itertools.product(dict.fromkeys(protocols), enumerate(columns)):
        ranked_rows = [
            i for i, row in enumerate(rows) if is_compressed(row) and column.ranked and protocols[i] == protocol
        ]
        cells = {i: rows[i].cells[j].number for i in ranked_rows}
        values = {i: round(value, column.decimals) for i, value in cells.items() if value is not None}
        order = sorted(values.values(), reverse=True)
        if not order or order[0] == order[-1]:
            continue
        marks |= {(i, j): "best" for i, value in values.items() if value == order[0]}
        if order[1] < order[0]:
            marks |= {(i, j): "second" for i, value in values.items() if value == order[1]}
    return [
        replace(row, cells=tuple(replace(cell, mark=marks.get((i, j), "")) for j, cell in enumerate(row.cells)))
        for i, row in enumerate(rows)
    ]


def _with_reported(
    rows: list[Row], columns: Sequence[Column], reported_scores: Mapping[str, Sequence[ReportedScores]]
) -> list[Row]:
    """The rows, each followed by what is printed of it and by the difference."""
    all_rows = []
    for row in rows:
        method, variant, _ = row.identity
        all_rows.append(row)
        for reported in reported_scores.get(str(RunName.of(method, variant)), ()):
            cell_pairs = [
                _reported_cells(cell, column, reported) for cell, column in zip(row.cells, columns, strict=True)
            ]
            for label, kind, cells in zip(
                (reported.label, "difference"), FOLLOWERS, zip(*cell_pairs, strict=True), strict=True
            ):
                all_rows.append(Row(label, cells, (method, variant, kind), kind))
    return all_rows


def _reported_cells(cell: Cell, column: Column, reported: ReportedScores) -> tuple[Cell, Cell]:
    """The printed number and the difference; empty where there is none: the row above says why ours is missing."""
    score = reported.scores.get(column.key)
    if score is None:
        return Cell(""), Cell("")
    if cell.number is None:
        return Cell(score), Cell("")
    difference = cell.number - score
    notes = (reported.incomparable,) if reported.incomparable else ()
    return Cell(score), Cell(difference, signed(difference, column.decimals), notes=notes)


def _remarks(rows: list[Row], tasks: dict[str, Task], macros: Macros, statistic: Statistic) -> tuple[str, ...]:
    """The remarks on the whole table, only those that apply."""
    notes = [
        "A task's score is the mean of the metrics under its name over its dev splits; below: training examples.",
        *selection_remarks(
            {cell for row in rows for cell in [row.cells[CHOICE_COLUMN].value] if isinstance(cell, str)}
        ),
    ]
    if macros:
        labels = series([tasks[name].label for name in macros["macro"][1]])
        deviation = "; its deviation is that of the seeds' macros" if statistic == "mean" else ""
        notes.append(f"Macro: mean over {labels} of the {statistic}s{deviation}.")
    if any(row.cells[1].interval for row in rows):
        notes.append("Speed-up: relative to the predecessor, its interval in parentheses.")
    if any(cell.data.get("failed") for row in rows for cell in row.cells):
        notes.append(
            "A failed run counts with its score like any other; a footnote says how many failed, and the score without."
        )
    if any(row.kind in FOLLOWERS for row in rows):
        notes.append(f"Difference: the {statistic} above less the printed number, in points.")
    protocols = [RunName.of(*row.identity[:2]).protocol for row in rows if is_compressed(row)]
    if len(protocols) > 1:
        scope = " of each protocol" if len(set(protocols)) > 1 else ""
        notes.append(
            f"Bold: the highest among the compressed models{scope}; underlined: the second. Equal as shown is equal in "
            "rank, and neither means that the difference is significant."
        )
    return tuple(notes)


def _texts(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "")


def finite_or_none(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def reason_of(run: dict[str, Any]) -> str:
    """The run's reason; said to be unknown where a run that needs one has none."""
    return run["reason"] or ("" if run["status"] == "complete" else "no reason recorded")


def _reasons(runs: pd.DataFrame) -> str:
    """The distinct reasons of `runs`, each short enough for a footnote; the list of runs has them in full."""
    reasons = [textwrap.shorten(reason_of(run), 160, placeholder=" …") for run in runs.to_dict("records")]
    return "; ".join(dict.fromkeys(reasons))
