"""Tables of all runs, and of those that are failed or missing."""

from __future__ import annotations

from urllib.parse import quote

import pandas as pd

from theseus_bench.tables.model import Cell, Column, Row, Table
from theseus_bench.tables.scores import RUN, SCORED_STATUSES, finite_or_none, reason_of


def runs_table(runs: pd.DataFrame, base: str | None = None) -> Table:
    """All runs with task, seed, status, score (points, where `runs` has the column) and training time (seconds).

    With `base`, the way from the page to the suite's folder ('' or '../'), HTML links each seed to its run.json.
    """
    has_scores = "score" in runs
    columns = (
        Column("task", "Task", text=True),
        Column("seed", "Seed", decimals=0),
        Column("status", "Status", text=True),
        *([Column("score", "Score", ("points",))] if has_scores else []),
        Column("seconds", "Training", ("seconds",), decimals=0),
        Column("reason", "Reason", text=True),
    )
    rows = []
    for run in runs.to_dict("records"):
        has_record = base is not None and run["status"] in SCORED_STATUSES and run["path"]
        href = f"{base}{quote(run['path'], safe='/@')}/run.json" if has_record else ""
        score = [Cell(finite_or_none(run["score"]))] if has_scores else []
        seed = Cell(int(run["seed"]), href=href)
        cells = (
            Cell(run["task"]),
            seed,
            Cell(run["status"]),
            *score,
            Cell(finite_or_none(run["seconds"])),
            Cell(reason_of(run)),
        )
        rows.append(Row(run["label"], cells, (run["method"], run["variant"]), run["status"]))
    caption = "Every run that was asked for."
    return Table("Runs", caption, columns, tuple(rows), identity=("method", "variant"))


def gaps_table(runs: pd.DataFrame) -> Table:
    """The failed, missing and excluded runs with their reasons, those that differ only in the seed in one row."""
    runs = runs.assign(reason=[reason_of(run) for run in runs.to_dict("records")])
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
