"""GLUE's diagnostic set (AX) by category of linguistic phenomenon, where its labels are at hand.

The hub's AX has no labels. GLUE's diagnostic-full.tsv has them, and which phenomena an example is about; the
configuration names the file under data.diagnostic. AX is predicted by the models of MNLI, and its score is R3: the
Matthews correlation for three classes (Wang et al. 2019, "GLUE", section 4; Gorodkin 2004).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from theseus_bench.errors import UserError
from theseus_bench.metrics import decide, measure
from theseus_bench.plan import Plan, Run, source_files
from theseus_bench.records import read_predictions
from theseus_bench.status import state
from theseus_bench.table_formats import Cell, Column, Row, Table
from theseus_bench.tasks import Task

CATEGORIES = {
    "lexical_semantics": "Lexical Semantics",
    "predicate_argument_structure": "Predicate-Argument Structure",
    "logic": "Logic",
    "knowledge": "Knowledge",
}
TEXTS = ["Premise", "Hypothesis"]
AX = "ax"
SPLIT = "ax/test"  # of a run's predictions


@dataclass(frozen=True)
class Diagnostic:
    """The labels of AX in the order of its idx, and which examples are in each category."""

    labels: np.ndarray  # (examples,) codes of MNLI's classes
    members: dict[str, np.ndarray]  # category: (examples,) bool; an example may be in several, or in none


def diagnostic_table(plan: Plan, experiment: str, folder: Path) -> Table | None:
    """R3 of the experiment's MNLI models on AX, in all and in each category: points, the mean over the seeds.

    None where the suite has no AX, its labels are not at hand, or the experiment trains nothing on MNLI. UserError if
    the file of the labels is not what it should be.
    """
    if plan.suite.data.diagnostic is None or AX not in plan.suite.tasks:
        return None
    task = plan.tasks[plan.tasks[AX].trained_on]
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


def read_diagnostic(file: Path, task: Task, texts: list[tuple[str, str]] | None = None) -> Diagnostic:
    """The labels and categories in GLUE's diagnostic-full.tsv; `task` is MNLI.

    `texts`, where they are known, are AX's pairs in the order of idx: the file must hold the same ones. Raises
    UserError with the file, the line and what was expected.
    """
    wanted = [*CATEGORIES.values(), *TEXTS, "Label"]
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
            missing = [name for name in wanted if name not in (reader.fieldnames or [])]
            rows = list(reader)
    except FileNotFoundError:
        raise UserError(
            f"{file}: no such file; set data.diagnostic to GLUE's diagnostic-full.tsv, or leave it out"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a readable table ({' '.join(str(error).split())})") from None
    if missing:
        raise UserError(f"{file}: no column {', '.join(missing)}; expected GLUE's diagnostic-full.tsv, tab-separated")
    for number, row in enumerate(rows):
        if row["Label"] not in task.labels:
            raise UserError(f"{file}: line {number + 2}: label {row['Label']!r}, expected {', '.join(task.labels)}")
    if texts is not None:
        _check_texts(file, [(row[TEXTS[0]], row[TEXTS[1]]) for row in rows], texts)
    labels = np.array([task.labels.index(row["Label"]) for row in rows], int)
    members = {key: np.array([bool(row[name].strip()) for row in rows], bool) for key, name in CATEGORIES.items()}
    return Diagnostic(labels, members)


def _texts_of_ax(plan: Plan) -> list[tuple[str, str]] | None:
    """AX's pairs in the order of idx, if its table is at hand."""
    files = [Path(name) for name in source_files(plan, AX)]
    if not files or not files[0].is_file():
        return None
    columns = plan.tasks[AX].columns
    rows = pq.read_table(files[0], columns=[*columns, "idx"]).sort_by("idx")
    return list(zip(*(rows[column].to_pylist() for column in columns), strict=True))


def _check_texts(file: Path, found: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    """UserError unless the pairs are the same, in letters and digits: copies differ in their quotes and spaces."""

    def plain(pair: tuple[str, str]) -> list[str]:
        return ["".join(filter(str.isalnum, text.casefold())) for text in pair]

    if len(found) != len(expected):
        raise UserError(f"{file}: {len(found)} rows, but the suite's AX has {len(expected)}")
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        if plain(ours) != plain(theirs):
            raise UserError(f"{file}: line {number + 2} is not the pair that AX has as its number {number}")


def _cells(plan: Plan, runs: list[Run], folder: Path, diagnostic: Diagnostic, parts: dict) -> tuple[Cell, ...]:
    """One cell for each part, over the seeds of a method."""
    scores: dict[str, list[float]] = {key: [] for key in parts}
    reasons = []
    for run in runs:
        status, reason, record = state(plan, run, folder)
        found = read_predictions(folder / run.path, [SPLIT]) if record else {}
        if SPLIT not in found or not np.isfinite(found[SPLIT].logits).all():
            reasons.append(f"{status}: {reason or 'it has no predictions of AX'}")
            continue
        predicted = found[SPLIT]
        if not np.array_equal(np.sort(predicted.idx), np.arange(len(diagnostic.labels))):
            raise UserError(
                f"{plan.suite.data.diagnostic}: {len(diagnostic.labels)} rows, but the AX that {run.path} predicts has "
                f"{len(predicted.idx)}, numbered {predicted.idx.min()} to {predicted.idx.max()}"
            )
        decisions, labels = decide(predicted.logits, run.task), diagnostic.labels[predicted.idx]
        for key, part in parts.items():
            inside = part[predicted.idx]
            scores[key].append(100 * measure("matthews", decisions[inside], labels[inside]))
    few = "; ".join(dict.fromkeys(reasons))
    notes = () if not reasons else (f"{len(runs) - len(reasons)} of {len(runs)} seeds; {few}",)
    return tuple(_cell(values, notes) for values in scores.values())


def _cell(values: list[float], notes: tuple[str, ...]) -> Cell:
    if not values:
        return Cell(None, notes=notes, data={"n": 0})
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Cell(float(np.mean(values)), notes=notes, data={"sd": sd, "n": len(values)})
