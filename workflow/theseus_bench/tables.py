"""The tables of an experiment: its scores, its runs, and the runs that are failed or missing.

How a table looks in CSV, Markdown, LaTeX and HTML is `table_formats`; here is what stands in it. Frames as
`theseus_bench.scores` makes them: `scores` is tidy (one row per metric and split; the row with split 'dev' and metric
'score' is the task's score, in points 0-100), `runs` has one row per run that was asked for. A run is known by `RUN`.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal
from urllib.parse import quote

import pandas as pd

from theseus_bench.naming import protocol_of
from theseus_bench.table_formats import Cell, Column, Row, Table, compressed, series
from theseus_bench.tasks import Task

Statistic = Literal["median", "mean"]
RUN = ["method", "variant", "task", "seed"]
MEASURED = ("complete", "failed")  # the statuses of a run that may have a score
NOT_MEASURED = "not measured"
NOT_APPLICABLE = "not applicable: there is no trained model"
METRICS = {"accuracy": "Acc.", "f1": "F1", "matthews": "Matthews", "pearson": "Pear.", "spearman": "Spear."}


def scores_table(
    scores: pd.DataFrame,
    runs: pd.DataFrame,
    speed: dict[str, dict[str, float]],
    tasks: dict[str, Task],
    title: str,
    statistic: Statistic,
    remarks: Sequence[str] = (),
) -> Table:
    """Methods × tasks, with parameters (millions), speed-up (×) and macro scores; scores in points over the seeds.

    `tasks` in the experiment's order; one that no run asks for is left out. `runs` also has a column role. A failed
    run that has a score counts and is marked. `speed` by '<method>[@variant]'. `remarks` are sentences on what was run,
    put first below the table. ValueError on another `statistic`.
    """
    if statistic not in ("median", "mean"):
        raise ValueError(f"statistic is {statistic!r}, not median or mean")
    runs = with_scores(runs, scores)
    asked = {name: task for name, task in tasks.items() if name in set(runs["task"])}
    macros = _macros(asked)
    groups = runs.groupby(["method", "variant"], sort=False)
    rows = [_scores_row(group, speed, asked, macros, statistic) for _, group in groups]
    known = [row.cells[0].value for row in rows if row.cells[0].value is not None]
    decimals = 1 if all(millions >= 1 for millions in known) else 3
    columns = (
        Column("parameters_millions", "Params", ("millions",), decimals=decimals),
        Column("speedup", "Speed-up", ("×",), decimals=2, fields=("low", "high", "latency_ms")),
        *(Column(name, t.label, _about(t), fields=("sd", "n", "failed"), ranked=True) for name, t in asked.items()),
        *(Column(key, "Macro", about, fields=("sd", "n"), ranked=True) for key, (about, _) in macros.items()),
    )
    beside = " ± sample standard deviation" if statistic == "mean" else ""
    caption = f"{statistic.capitalize()}{beside} over the seeds of the score on the dev set, in points."
    notes = (*remarks, *_remarks(rows, asked, macros, statistic))
    return Table(title, caption, columns, _marked(rows, columns), notes, identity=("method", "variant", "role"))


def runs_table(runs: pd.DataFrame, base: str | None = None) -> Table:
    """All runs with task, seed, status, score (points, where `runs` has the column) and training time (seconds).

    With `base`, the way from the page to the suite's folder ('' or '../'), HTML links each seed to its run.json.
    """
    scored = "score" in runs
    columns = (
        Column("task", "Task", text=True),
        Column("seed", "Seed", decimals=0),
        Column("status", "Status", text=True),
        *([Column("score", "Score", ("points",))] if scored else []),
        Column("seconds", "Training", ("seconds",), decimals=0),
        Column("reason", "Reason", text=True),
    )
    rows = []
    for run in runs.to_dict("records"):
        linked = base is not None and run["status"] in MEASURED and run["path"]
        href = f"{base}{quote(run['path'], safe='/@')}/run.json" if linked else ""
        score = [Cell(_finite(run["score"]))] if scored else []
        seed = Cell(int(run["seed"]), href=href)
        cells = Cell(run["task"]), seed, Cell(run["status"]), *score, Cell(_finite(run["seconds"])), Cell(_reason(run))
        rows.append(Row(run["label"], cells, (run["method"], run["variant"]), run["status"]))
    caption = "Every run that was asked for."
    return Table("Runs", caption, columns, tuple(rows), identity=("method", "variant"))


def gaps_table(runs: pd.DataFrame) -> Table:
    """The failed, missing and excluded runs with their reasons, those that differ only in the seed in one row."""
    runs = runs.assign(reason=[_reason(run) for run in runs.to_dict("records")])
    columns = tuple(Column(key, key.capitalize(), text=True) for key in ("status", "task", "seeds", "reason"))
    rows = []
    for status in ("failed", "missing", "excluded"):
        part = runs[runs["status"] == status]
        for (method, variant, task, reason), group in part.groupby([*RUN[:3], "reason"], sort=False):
            seeds = ", ".join(str(int(seed)) for seed in sorted(group["seed"]))
            cells = tuple(Cell(text) for text in (status, task, seeds, reason))
            rows.append(Row(group["label"].iloc[0], cells, (method, variant), status))
    caption = "A failed run that has a score keeps counting in every table."
    return Table("Failed, missing and excluded runs", caption, columns, tuple(rows), identity=("method", "variant"))


def unique_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` with each run once, absent text as '': experiments share runs, and CSV files lose empty strings."""
    runs = runs.assign(**{key: _texts(runs[key]) for key in ("variant", "reason", "path")})
    return runs.drop_duplicates(RUN, ignore_index=True)


def with_scores(runs: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The unique runs with a column score (points): NaN where there is none, or the status allows none."""
    runs = unique_runs(runs)
    chosen = scores[(scores["split"] == "dev") & (scores["metric"] == "score")]
    chosen = chosen.assign(variant=_texts(chosen["variant"]))
    value = dict(zip(chosen[RUN].itertuples(index=False, name=None), chosen["value"], strict=True))
    keys = zip(runs[RUN].itertuples(index=False, name=None), runs["status"], strict=True)
    found = [_finite(value.get(key)) if status in MEASURED else None for key, status in keys]
    return runs.assign(score=pd.array(found, dtype=object)).astype({"score": float})


def _scores_row(group: pd.DataFrame, speed: dict, asked: dict, macros: dict, statistic: Statistic) -> Row:
    first = group.iloc[0]
    method, variant = first["method"], first["variant"]
    scored = {name: _score_cell(group[group["task"] == name], task, statistic) for name, task in asked.items()}
    macro = [_macro_cell(group, scored, [asked[n] for n in names], statistic) for _, names in macros.values()]
    measured = speed.get(f"{method}@{variant}" if variant else method) or {}
    parameters = _parameters_cell(group)
    cells = (parameters, _speed_cell(measured, parameters), *scored.values(), *macro)
    return Row(first["label"], cells, (method, variant, first["role"]), first["role"])


def _parameters_cell(group: pd.DataFrame) -> Cell:
    parameters = group["parameters"].dropna()
    if len(parameters):
        return Cell(float(parameters.median()) / 1e6)
    ran = group["status"].isin(MEASURED).any()
    return Cell(None, notes=(NOT_APPLICABLE if ran else "not known: there is no run",))


def _speed_cell(measured: dict[str, float], parameters: Cell) -> Cell:
    speedup, low, high = (_finite(measured.get(key)) for key in ("speedup", "low", "high"))
    if speedup is None:
        return Cell(None, notes=(NOT_APPLICABLE if NOT_APPLICABLE in parameters.notes else NOT_MEASURED,))
    interval = None if low is None or high is None else (low, high)
    return Cell(speedup, interval=interval, data={"low": low, "high": high, "latency_ms": measured.get("latency_ms")})


def _score_cell(group: pd.DataFrame, task: Task, statistic: Statistic) -> Cell:
    """The cell of one method and task; `group` holds its runs, one per seed."""
    values = group["score"].dropna()
    failed = group[group["status"] == "failed"]
    absent = group[~group["status"].isin(MEASURED)]
    why = [f"{status}: {_reasons(part)}" for status, part in absent.groupby("status", sort=False)]
    notes = []
    if len(failed):
        notes.append(f"{len(failed)} of {len(group)} runs failed: {_reasons(failed)}")
    if group.empty:
        notes.append("not asked for")
    elif values.empty:
        notes += why
        if (group["status"] == "complete").any():
            notes.append("no score was recorded" if task.dev else "there is no dev split")
    elif len(values) < len(group):
        notes.append("; ".join([f"{len(values)} of {len(group)} seeds", *why]))
    value = None if values.empty else float(getattr(values, statistic)())
    sd = _deviation(values)
    data = {"sd": sd, "n": len(values), "failed": len(failed)}
    return Cell(value, spread=sd if statistic == "mean" else None, notes=tuple(notes), data=data)


def _macro_cell(group: pd.DataFrame, scored: dict[str, Cell], tasks: list[Task], statistic: Statistic) -> Cell:
    """The mean over tasks of the method's statistic; its spread is over the seeds that have all these tasks."""
    names = [task.name for task in tasks]
    lacking = [task.label for task in tasks if scored[task.name].value is None]
    if lacking:
        notes = (f"no macro without a score on {series(lacking)}",)
        return Cell(None, notes=notes, data={"n": 0})
    by_seed = group[group["task"].isin(names)].pivot(index="seed", columns="task", values="score")
    values = by_seed.dropna().mean(axis=1)
    notes = [f"{len(values)} of {len(by_seed)} seeds have every task"] if len(values) < len(by_seed) else []
    mean = sum(scored[name].value for name in names) / len(names)
    sd = _deviation(values)
    data = {"sd": sd, "n": len(values)}
    return Cell(mean, spread=sd if statistic == "mean" else None, notes=tuple(notes), data=data)


def _deviation(values: pd.Series) -> float | None:
    """The sample standard deviation, None for fewer than two values; rounded so that equal values give 0."""
    return round(float(values.std(ddof=1)), 10) if len(values) > 1 else None


def _about(task: Task) -> tuple[str, str]:
    """Metrics and size of the training set, as ('F1/Acc.', '3.7k')."""
    rows = task.rows.get("train", 0)
    size = str(rows) if rows < 1000 else f"{rows / 1000:.1f}k" if rows < 9950 else f"{rows / 1000:.0f}k"
    return "/".join(METRICS[metric] for metric in task.metrics), size


def _macros(asked: dict[str, Task]) -> dict[str, tuple[tuple[str, ...], list[str]]]:
    """Subheader and task names of each macro column; none for fewer than two tasks, nor a second one for the same."""
    counted = [name for name, task in asked.items() if task.macro]
    rest = [name for name in counted if name != "cola"]
    macros = {"macro": ((), counted)}
    if rest != counted:
        macros["macro_without_cola"] = (("without CoLA",), rest)
    return {key: (about, names) for key, (about, names) in macros.items() if len(names) > 1}


def _marked(rows: list[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """The rows with best and second marked among the compressed models, by what is shown: equal text, equal rank.

    Each protocol has marks of its own, since its models are compared with each other.
    Two that share the best leave no second, and a column in which all are equal has no mark.
    """
    marks: dict[tuple[int, int], str] = {}
    protocols = [protocol_of(row.identity[1]) for row in rows]
    for protocol, (j, column) in itertools.product(dict.fromkeys(protocols), enumerate(columns)):
        ranked = [i for i, row in enumerate(rows) if compressed(row) and column.ranked and protocols[i] == protocol]
        cells = {i: rows[i].cells[j].value for i in ranked}
        values = {i: round(value, column.decimals) for i, value in cells.items() if value is not None}
        order = sorted(values.values(), reverse=True)
        if not order or order[0] == order[-1]:
            continue
        marks |= {(i, j): "best" for i, value in values.items() if value == order[0]}
        if order[1] < order[0]:
            marks |= {(i, j): "second" for i, value in values.items() if value == order[1]}
    return tuple(
        replace(row, cells=tuple(replace(cell, mark=marks.get((i, j), "")) for j, cell in enumerate(row.cells)))
        for i, row in enumerate(rows)
    )


def _remarks(rows: list[Row], asked: dict[str, Task], macros: dict, statistic: Statistic) -> tuple[str, ...]:
    """The remarks on the whole table, only those that apply."""
    notes = [
        "A task's score is the mean of the metrics under its name over its dev splits, at the best of the run's "
        "evaluations on these same splits; below: training examples."
    ]
    if macros:
        labels = series([asked[name].label for name in macros["macro"][1]])
        over = "; its deviation is that of the seeds' macros" if statistic == "mean" else ""
        notes.append(f"Macro: mean over {labels} of the {statistic}s{over}.")
    if any(row.cells[1].interval for row in rows):
        notes.append("Speed-up: relative to the predecessor, its interval in parentheses.")
    if any(cell.data.get("failed") for row in rows for cell in row.cells):
        notes.append("A failed run that has a score counts like any other.")
    if sum(compressed(row) for row in rows) > 1:
        notes.append(
            "Bold: the highest among the compressed models; underlined: the second. Equal as shown is equal in rank, "
            "and a mark does not mean that the difference is significant."
        )
    return tuple(notes)


def _texts(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "")


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _reason(run: dict) -> str:
    """The run's reason; said to be unknown where a run that needs one has none."""
    return run["reason"] or ("" if run["status"] == "complete" else "no reason recorded")


def _reasons(runs: pd.DataFrame) -> str:
    """The distinct reasons of `runs`, each short enough for a footnote; the list of runs has them in full."""
    short = [textwrap.shorten(_reason(run), 160, placeholder=" …") for run in runs.to_dict("records")]
    return "; ".join(dict.fromkeys(short))
