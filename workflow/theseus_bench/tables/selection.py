"""What choosing a checkpoint on dev adds, as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from theseus_bench.evaluation.selection import dev_curve
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.status import state
from theseus_bench.tables.model import Cell, Column, Row, Table

NO_SLICE = "nothing was held out of its training set"
NOT_WATCHED = "its dev set was scored once, at the end (watch_dev would score it at each evaluation)"


def selection_table(plan: Plan, experiment: str, folder: Path) -> Table:
    """Methods × tasks: the mean dev score (points) of the checkpoints chosen held out, on dev, and of the last ones.

    `flatters` is what the choice on dev adds to the choice on the slice that was held out, or to the last checkpoint
    where there was none.
    """
    columns = (
        Column("task", "Task", text=True),
        Column("evaluations", "Evaluations", ("fewest",), decimals=0),
        Column("held_out", "Dev score", ("held-out choice",)),
        Column("dev", "Dev score", ("dev choice",)),
        Column("last", "Dev score", ("last",)),
        Column("flatters", "Flatters", ("points",)),
    )
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in plan.experiment_runs(experiment):
        if run.spec.trained:
            groups.setdefault((run.name, run.task.name), []).append(run)
    rows = []
    for runs in groups.values():
        records = [record for run in runs if (record := state(plan, run, folder)[2]) and record.curve]
        cells = _cells(records) if records else [Cell(None, notes=("no run of it was evaluated",))] * 5
        rows.append(Row(runs[0].label, (Cell(runs[0].task.label), *cells), (runs[0].spec.name, runs[0].variant)))
    notes = (
        "Means over the seeds. Held-out choice: the checkpoint that is best on a slice of train; dev choice: the one "
        "that is best on the dev set, on which it is then reported; last: no choice at all.",
        "Flatters: dev choice less held-out choice, or less the last where nothing was held out; the more evaluations "
        "there are to choose from, the more it does.",
    )
    title = plan.suite.experiments[experiment].title
    caption = "The same runs, their checkpoints chosen in several ways."
    return Table(title, caption, columns, tuple(rows), notes, identity=("method", "variant"))


def _cells(records: list[RunRecord]) -> list[Cell]:
    held_out = all(record.chosen_on == "held_out" for record in records)
    curves = [dev_curve(record) for record in records]
    is_watched = all(len(curve) for curve in curves)
    chosen_score = _points([record.dev_score for record in records])
    best_score = _points([curve.max() for curve in curves]) if is_watched else None
    last_score = _points([curve[-1] for curve in curves]) if is_watched else None
    reference_score = chosen_score if held_out else last_score
    gap = Cell(None, notes=(NOT_WATCHED,))
    return [
        Cell(float(min(record.evaluations for record in records))),
        Cell(chosen_score) if held_out else Cell(None, notes=(NO_SLICE,)),
        Cell(best_score) if is_watched else gap,
        Cell(last_score) if is_watched else gap,
        gap if best_score is None or reference_score is None else Cell(best_score - reference_score),
    ]


def _points(values: list[float | None]) -> float | None:
    scores = [value for value in values if value is not None]
    return 100 * float(np.mean(scores)) if len(scores) == len(values) else None
