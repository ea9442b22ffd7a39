"""What each protocol is measured against: its own predecessor."""

import numpy as np
import pandas as pd
from suites import deciding, leave_run, make_plan
from theseus_bench.evaluation.scores import COLUMNS
from theseus_bench.evaluation.significance import write_significance
from theseus_bench.figures.experiment import experiment_figures
from theseus_bench.files import read_json

EXAMPLES = 200
RIGHT = {"predecessor": 160, "theseus": 120, "predecessor@equal": 120, "theseus@equal": 120}


def test_what_is_retained_is_read_against_the_predecessor_of_the_same_protocol(tmp_path):
    plan = make_plan(
        tasks=["rte"],
        significance={"resamples": 1000},
        experiments={
            "first": {"title": "One", "methods": ["predecessor", "theseus"], "protocols": ["published", "equal"]},
        },
    )
    labels, rows = np.arange(EXAMPLES) % 2, []
    for run in plan.experiment_runs("first"):
        decisions = np.where(np.arange(EXAMPLES) < RIGHT[run.name], labels, 1 - labels)
        leave_run(plan, run, tmp_path, {"validation": (np.arange(EXAMPLES), labels, deciding(decisions, 2))})
        value = 100 * RIGHT[run.name] / EXAMPLES
        rows.append(("small", "first", run.spec.name, run.variant, "rte", run.seed, "dev", "score", value))
    (tmp_path / "scores").mkdir()
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(tmp_path / "scores/first.parquet")
    write_significance(plan, "first", tmp_path)
    aggregates = {row["name"]: row for row in read_json(tmp_path / "significance/first.json")["aggregates"]}
    shares = {name: row["interquartile_mean"] for name, row in aggregates.items()}
    assert shares == {"predecessor": 100, "theseus": 75, "predecessor@equal": 100, "theseus@equal": 100}
    (retention,) = (p for p in experiment_figures(plan, "first", tmp_path) if p.name == "retention")
    assert retention.figure.axes
