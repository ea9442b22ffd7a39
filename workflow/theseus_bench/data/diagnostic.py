"""GLUE's diagnostic set AX: the labels and categories of a file of the user's own, checked against its texts."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError

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


def read_diagnostic(file: Path, task: Task, texts: list[tuple[str, str]] | None = None) -> Diagnostic:
    """The labels and categories in GLUE's diagnostic-full.tsv; `task` is MNLI.

    `texts`, where they are known, are AX's pairs in the order of idx: the file must hold the same ones. Raises
    UserError with the file, the line and what was expected.
    """
    columns = [*CATEGORIES.values(), *TEXTS, "Label"]
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
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


def _check_texts(file: Path, pairs: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    """UserError unless the pairs are the same, in letters and digits: copies differ in their quotes and spaces."""

    def plain(pair: tuple[str, str]) -> list[str]:
        return ["".join(filter(str.isalnum, text.casefold())) for text in pair]

    if len(pairs) != len(expected):
        raise UserError(f"{file}: {len(pairs)} rows, but the suite's AX has {len(expected)}")
    for number, (ours, theirs) in enumerate(zip(pairs, expected, strict=True)):
        if plain(ours) != plain(theirs):
            raise UserError(f"{file}: line {number + 2} is not the pair that AX has as its number {number}")
