"""What a report says, whatever its format: the parts it is given, and the sentences and tables drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from theseus_bench.report.checklist import CheckItem
from theseus_bench.tables.model import Cell, Column, Row, Table
from theseus_bench.tables.scores import SCORED_STATUSES, unique_runs
from theseus_bench.wording import NOT_MEASURED, count_noun, is_or_are, series

BLANK = "blank: for the authors to fill in"
OPENING = "score_against_speed"  # the figure of the first screen


@dataclass(frozen=True)
class Finding:
    """One of the answers on the first screen.

    `answer` is short and read first ('12 of 71 numbers'), `detail` one to three plain sentences. `kind` colours it:
    'complete', 'failed', 'missing' or '' (none).
    """

    heading: str
    answer: str
    detail: str
    kind: str = ""


@dataclass(frozen=True)
class ReportFigure:
    """A figure. `svg` is put into the page as it is: one <svg> that needs nothing from outside, its colours for white.

    `files` are links to it from the report's folder (the .svg and the .pdf); `image` is the file (.svg or .png) that
    the PDF shows, which gives the caption alone where there is none.
    """

    name: str
    title: str
    caption: str
    svg: str
    files: tuple[str, ...] = ()
    image: Path | None = None


@dataclass(frozen=True)
class Section:
    """One experiment: its name (the id in the page), its title, its tables and figures in order.

    The first table is the main one. `costs` is that one of them which says what the runs cost. `downloads` are the
    tables' files: name → link from the report's folder.
    """

    name: str
    title: str
    tables: list[Table]
    figures: list[ReportFigure] = field(default_factory=list)
    downloads: dict[str, str] = field(default_factory=dict)
    costs: Table | None = None


@dataclass(frozen=True)
class Report:
    """All that a report says.

    `runs`: one row per run and experiment, as `theseus_bench.tables.scores` takes them, with a column score if scores
    are to be listed; counts, seeds and device-seconds are taken from it. `notes` are plain sentences on what to know
    before reading. `claims` are the papers' claims with our verdicts. `environment` is name → value, `links` further
    files: name → link from the report's folder.
    """

    suite: str
    subject: str  # protocols, backbone and data, for the title
    backbone: str
    statistic: str  # 'median' or 'mean'
    runs: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    claims: Table | None = None
    sections: list[Section] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    checklist: list[CheckItem] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)


def opening_figure(report: Report) -> ReportFigure | None:
    """The figure for the first screen: scores against speed-ups, of the first experiment that has such a figure."""
    figures = (figure for section in report.sections for figure in section.figures)
    return next((figure for figure in figures if figure.name.endswith(f"-{OPENING}")), None)


def counts(runs: pd.DataFrame) -> dict[str, int]:
    """How many runs were asked for, and how many of them are complete, failed, missing and excluded."""
    status = unique_runs(runs)["status"].value_counts()
    return {
        "asked": int(status.sum()),
        **{name: int(status.get(name, 0)) for name in ("complete", "failed", "missing", "excluded")},
    }


def scope(report: Report) -> list[str]:
    """Sentences on what was run, all numbers taken from the runs."""
    runs = unique_runs(report.runs)
    number = counts(runs)
    methods, tasks = len(runs[["method", "variant"]].drop_duplicates()), runs["task"].nunique()
    seeds = series([str(seed) for seed in sorted(int(seed) for seed in runs["seed"].unique())])
    if runs["seed"].nunique() > 1:
        cells = runs.groupby(["method", "variant", "task"], dropna=False, observed=True)["seed"].nunique()
        each = "each" if (cells == runs["seed"].nunique()).all() else "some of them with fewer than all, the others"
        spread = (
            f"{each} with the seeds {seeds}. The tables give the {report.statistic} over the seeds unless they say "
            "otherwise."
        )
    else:
        spread = f"each with the one seed {seeds or '(none)'}, so no number here has a spread."
    if number["complete"] == number["asked"]:
        state = "all are complete."
    else:
        parts = [f"{number['complete']} {is_or_are(number['complete'])} complete", f"{number['failed']} failed"]
        parts += [f"{number[name]} {is_or_are(number[name])} {name}" for name in ("missing", "excluded")]
        state = f"{series(parts)}."
    return [
        f"{count_noun(methods, 'method')} on {count_noun(tasks, 'task')}, all starting from {report.backbone}, "
        f"{spread}",
        f"Of {count_noun(number['asked'], 'run')} asked for, {state}",
    ]


def remarks(report: Report) -> list[str]:
    """What to know before reading: the report's notes, and what was not measured.

    The latter are the columns of the tables that lack it, each with its rows, and training times.
    """
    missing_labels: dict[str, dict[str, None]] = {}
    measured_headers = set()
    for row, cell, column in _cells(report.sections):
        if NOT_MEASURED in cell.notes:
            missing_labels.setdefault(column.header, {})[row.label] = None
        elif cell.value is not None:
            measured_headers.add(column.header)
    sentences = [
        f"{header}: not measured" + (f" for {series(list(labels))}." if header in measured_headers else ".")
        for header, labels in missing_labels.items()
    ]
    runs = unique_runs(report.runs)
    untimed_count = int((runs["status"].isin(SCORED_STATUSES) & runs["seconds"].isna()).sum())
    if untimed_count:
        sentences.append(f"Training time was not recorded for {untimed_count} of the runs; the total leaves them out.")
    return [*report.notes, *sentences]


def checklist_tables(items: list[CheckItem]) -> list[Table]:
    """The reproducibility checklist, one table for each list that its items are from; blanks are marked."""
    columns = Column("answer", "Answer", text=True), Column("where", "Where", text=True)
    tables = []
    for source in dict.fromkeys(item.source for item in items):
        source_items = [item for item in items if item.source == source]
        rows = [
            Row(item.item, (Cell(item.answer or BLANK), Cell(item.where)), (source,), "" if item.answer else "blank")
            for item in source_items
        ]
        answer_count = sum(bool(item.answer) for item in source_items)
        caption = (
            f"{answer_count} of {len(source_items)} items of {source} are filled in from the records; "
            "the rest are blank, and marked."
        )
        tables.append(Table(f"{source} checklist", caption, columns, tuple(rows), stub="Item", identity=("source",)))
    return tables


def _cells(sections: list[Section]) -> Iterator[tuple[Row, Cell, Column]]:
    for section in sections:
        for table in section.tables:
            for row in table.rows:
                for cell, column in zip(row.cells, table.columns, strict=True):
                    yield row, cell, column
