"""GLUE's diagnostic set (AX) by category of linguistic phenomenon, where its labels are at hand.

The hub's AX has no labels. GLUE's diagnostic-full.tsv has them, and which phenomena an example is about; the
configuration names the file under data.diagnostic. AX is predicted by the models of MNLI, and its score is R3: the
Matthews correlation for three classes (Wang et al. 2019, "GLUE", section 4; Gorodkin 2004).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from theseus_bench.data.diagnostic import AX, CATEGORIES, SPLIT, Diagnostic, read_diagnostic
from theseus_bench.data.metrics import decide, measure
from theseus_bench.errors import UserError
from theseus_bench.suite.plan import Plan, Run, source_files
from theseus_bench.suite.records import read_predictions
from theseus_bench.suite.status import state
from theseus_bench.tables.model import Cell, Column, Row, Table


def diagnostic_table(plan: Plan, experiment: str, folder: Path) -> Table | None:
    """R3 of the experiment's MNLI models on AX, in all and in each category: points, the mean over the seeds.

    None where the suite has no AX, its labels are not at hand, or the experiment trains nothing on MNLI. UserError if
    the file of the labels is not what it should be.
    """
    if plan.suite.data.diagnostic is None or AX not in plan.suite.tasks:
        return None
    task = plan.tasks[plan.tasks[AX].trained_on or AX]
    methods: dict[str, list[Run]] = {}
    for run in plan.experiment_runs(experiment):
        if run.task.name == task.name:
            methods.setdefault(run.name, []).append(run)
    if not methods:
        return None
    diagnostic = read_diagnostic(Path(plan.suite.data.diagnostic).expanduser(), task, _texts_of_ax(plan))
    parts = {"all": np.ones(len(diagnostic.labels), bool)} | diagnostic.members
    headers = {"all": "All"} | CATEGORIES
    columns = tuple(
        Column(key, headers[key], (f"{part.sum()} examples",), fields=("sd", "n")) for key, part in parts.items()
    )
    rows = []
    for runs in methods.values():
        run = runs[0]
        cells = _cells(plan, runs, folder, diagnostic, parts)
        rows.append(Row(run.label, cells, (run.spec.name, run.variant, run.spec.role), run.spec.role))
    title = plan.suite.experiments[experiment].title
    caption = "The diagnostic set AX by category, predicted by the MNLI models: mean over the seeds of R3, in points."
    notes = (
        "R3: Matthews correlation for three classes, GLUE's metric of AX; 0 is chance.",
        "An example may be in several categories. The smaller a category, the wider its chance differences.",
    )
    return Table(title, caption, columns, tuple(rows), notes, identity=("method", "variant", "role"))


def _texts_of_ax(plan: Plan) -> list[tuple[str, str]] | None:
    """AX's pairs in the order of idx, if its table is at hand."""
    files = [Path(name) for name in source_files(plan, AX)]
    if not files or not files[0].is_file():
        return None
    columns = plan.tasks[AX].columns
    rows = pq.read_table(files[0], columns=[*columns, "idx"]).sort_by("idx")
    return list(zip(*(rows[column].to_pylist() for column in columns), strict=True))


def _cells(
    plan: Plan, runs: list[Run], folder: Path, diagnostic: Diagnostic, parts: dict[str, np.ndarray]
) -> tuple[Cell, ...]:
    """One cell for each part, over the seeds of a method."""
    scores: dict[str, list[float]] = {key: [] for key in parts}
    reasons = []
    for run in runs:
        status, reason, record = state(plan, run, folder)
        predictions = read_predictions(folder / run.path, [SPLIT]) if record else {}
        if SPLIT not in predictions or not np.isfinite(predictions[SPLIT].logits).all():
            reasons.append(f"{status}: {reason or 'it has no predictions of AX'}")
            continue
        prediction = predictions[SPLIT]
        if not np.array_equal(np.sort(prediction.idx), np.arange(len(diagnostic.labels))):
            raise UserError(
                f"{plan.suite.data.diagnostic}: {len(diagnostic.labels)} rows, but the AX that {run.path} predicts has "
                f"{len(prediction.idx)}, numbered {prediction.idx.min()} to {prediction.idx.max()}"
            )
        decisions, labels = decide(prediction.logits, run.task), diagnostic.labels[prediction.idx]
        for key, part in parts.items():
            members = part[prediction.idx]
            scores[key].append(100 * measure("matthews", decisions[members], labels[members]))
    reason_text = "; ".join(dict.fromkeys(reasons))
    notes = () if not reasons else (f"{len(runs) - len(reasons)} of {len(runs)} seeds; {reason_text}",)
    return tuple(_cell(values, notes) for values in scores.values())


def _cell(values: list[float], notes: tuple[str, ...]) -> Cell:
    if not values:
        return Cell(None, notes=notes, data={"n": 0})
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Cell(float(np.mean(values)), notes=notes, data={"sd": sd, "n": len(values)})
