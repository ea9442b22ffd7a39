"""All results of a suite again, from whatever runs are there."""

from __future__ import annotations

import shutil
from pathlib import Path

from theseus_bench.evaluation.scores import write_scores
from theseus_bench.evaluation.significance import write_significance
from theseus_bench.figures.experiment import write_experiment_figures
from theseus_bench.report.build import write_suite_report
from theseus_bench.suite.outputs import PARTIAL, STEPS
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.status import state
from theseus_bench.tables.experiment import (
    write_description_tables,
    write_score_tables,
    write_search_tables,
    write_verdict_tables,
)

WRITERS = {  # of the steps that read records alone; speed is measured, and predictions are submitted, not for this
    "score": write_scores,
    "significance": write_significance,
    "score_tables": write_score_tables,
    "verdict_tables": write_verdict_tables,
    "search_tables": write_search_tables,
    "description_tables": write_description_tables,
    "experiment_figures": write_experiment_figures,
}
LINKED_NAMES = ["suite.json", "source", "backbone", "compact", "data", "runs", "search", "speed"]  # by links


def write_partial(plan: Plan, folder: Path) -> bool:
    """The report of whatever runs are there, in `folder`/partial, with scores, tests, tables and figures of its own.

    It is no part of the suite and no rule's output, so that nothing of it passes for what the workflow makes. Nothing
    is measured for it. False, and no such folder, if no run has left a record yet.
    """
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    if not any(state(plan, run, folder)[2] for run in plan.runs.values()):
        return False
    partial.mkdir()
    for name in LINKED_NAMES:
        if (folder / name).exists():
            (partial / name).symlink_to(Path("..") / name)
    for experiment in plan.suite.experiments:
        for step in [step for step in STEPS if step in WRITERS]:
            WRITERS[step](plan, experiment, partial)
    write_suite_report(plan, partial)
    return True
