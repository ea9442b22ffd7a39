"""Loyalty, calibration and agreement between seeds, as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from theseus_bench.data.tasks import Task
from theseus_bench.evaluation.behaviour import BINS, MEASURES, behaviour_frame
from theseus_bench.suite.plan import Plan
from theseus_bench.tables.model import Cell, Column, Row, Table
from theseus_bench.wording import series


def behaviour_table(plan: Plan, experiment: str, folder: Path) -> Table:
    """Methods × measures: the mean over the seeds, and of these the mean over the experiment's tasks with classes."""
    definition = plan.suite.experiments[experiment]
    frame = behaviour_frame(plan, experiment, folder)
    tasks = [task for task in plan.experiment_tasks(definition) if not task.regression]
    columns = tuple(Column(key, header, (subheader,)) for key, (header, subheader) in MEASURES.items())
    groups = dict(list(frame.groupby(["method", "variant"])))
    rows = []
    for name in plan.experiment_names(experiment) if tasks else []:
        run = plan.run(name, tasks[0].name, plan.experiment_seeds(definition)[0])
        part = groups.get((run.spec.name, run.variant), frame[:0])
        exclusions = [reason for task, reason in run.spec.exclude.items() if task in {task.name for task in tasks}]
        cells = tuple(_mean_cell(part[part["measure"] == measure], tasks, exclusions) for measure in MEASURES)
        rows.append(Row(run.label, cells, (run.spec.name, run.variant, run.spec.role), run.spec.role))
    caption = "Behaviour on the dev sets, in points: mean over the seeds and the tasks with classes."
    notes = (
        f"Tasks: {series([task.label for task in tasks])}." if tasks else "The experiment has no task with classes.",
        "Loyalty: how far a model agrees with the predecessor of its seed; in labels, the share decided alike, in "
        "probabilities, 1 minus the root of the Jensen-Shannon divergence, base 2 (Xu et al. 2021). 100 is complete.",
        f"ECE: expected calibration error over {BINS} equally wide bins of confidence (Guo et al. 2017); less is "
        "better. Of runs that were chosen on the dev set, it is of that very set.",
        "Agreement: the share decided alike by two seeds, mean over all pairs.",
    )
    return Table(definition.title, caption, columns, tuple(rows), notes, identity=("method", "variant", "role"))


def _mean_cell(rows: pd.DataFrame, tasks: list[Task], exclusions: list[str]) -> Cell:
    """The mean over the tasks of the means over seeds; a gap where a task has none."""
    by_task = rows.groupby("task")["value"].mean()
    missing_labels = [task.label for task in tasks if not np.isfinite(by_task.get(task.name, np.nan))]
    reasons = "; ".join(dict.fromkeys([*filter(None, rows["reason"]), *exclusions]))
    if not missing_labels:
        notes = (f"{rows['value'].count()} of {len(rows)} runs: {reasons}",) if reasons else ()
        return Cell(float(by_task.mean()), notes=notes)
    if len(missing_labels) == len(tasks):
        return Cell(None, notes=(reasons,))
    return Cell(None, notes=(f"no mean without a value on {series(missing_labels)}: {reasons}",))
