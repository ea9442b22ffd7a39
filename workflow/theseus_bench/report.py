"""The report of a suite: one self-contained HTML page that says what was run, what came out and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from theseus_bench.table_formats import Table, series, to_html, write_text
from theseus_bench.tables import MEASURED, NOT_MEASURED, gaps_table, runs_table, unique_runs

TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Section:
    """One experiment in the report: its name (the id in the page), its title and its tables in order."""

    name: str
    title: str
    tables: list[Table]


def render_report(
    suite: str,
    summary: dict,
    sections: list[Section],
    runs: pd.DataFrame,
    environment: dict[str, str],
    template_folder: Path,
    base: str = "",
) -> str:
    """The report as one HTML page that needs no network and no other file.

    `summary`: backbone (text), statistic ('median' or 'mean') and, if wanted, notes (list of plain sentences) and
    search_seconds (device-seconds of all searches).
    `runs`: all runs of the suite, as for the tables, with a column score if their scores are to be listed; the counts,
    seeds and device-seconds are taken from it. `base`: the way from the page's folder to the suite's ('' or '../').
    """
    runs = unique_runs(runs)
    page = Environment(
        loader=FileSystemLoader(template_folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["table"] = lambda table: Markup(to_html(table))  # escapes by itself
    return page.get_template(TEMPLATE).render(
        suite=suite,
        backbone=summary["backbone"],
        statistic=summary["statistic"],
        remarks=[*summary.get("notes", []), *_unmeasured(sections, runs)],
        facts=_facts(runs),
        searching=duration(summary["search_seconds"]) if summary.get("search_seconds") else "",
        sections=sections,
        gaps=gaps_table(runs),
        runs=runs_table(runs, base),
        environment=environment,
    )


def write_report(
    path: Path,
    suite: str,
    summary: dict,
    sections: list[Section],
    runs: pd.DataFrame,
    environment: dict[str, str],
    template_folder: Path,
    base: str = "",
) -> None:
    """Write the report to `path`, atomically; the arguments are those of `render_report`."""
    write_text(path, render_report(suite, summary, sections, runs, environment, template_folder, base))


def duration(seconds: float) -> str:
    """Seconds in the two largest units: '3 d 4 h', '2 h 5 min', '4 min 10 s', '12 s'."""
    left, parts = round(seconds), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if parts or count or unit == "s":
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count or len(parts) == 1)


def _facts(runs: pd.DataFrame) -> dict:
    """The numbers of the first screen, all taken from the runs."""
    status = runs["status"].value_counts()
    seconds = float(runs["seconds"].sum())
    seeds = sorted(int(seed) for seed in runs["seed"].unique())
    return {
        "asked": len(runs),
        **{name: int(status.get(name, 0)) for name in ("complete", "failed", "missing", "excluded")},
        "methods": len(runs[["method", "variant"]].drop_duplicates()),
        "tasks": int(runs["task"].nunique()),
        "seeds": series([str(seed) for seed in seeds]),
        "several": len(seeds) > 1,
        "seconds": f"{seconds:,.0f}",
        "duration": duration(seconds),
    }


def _unmeasured(sections: list[Section], runs: pd.DataFrame) -> list[str]:
    """Sentences on what was not measured: the columns of the tables that lack it, and training times."""
    lacking: dict[str, dict[str, None]] = {}
    for row, cell, column in _cells(sections):
        if NOT_MEASURED in cell.notes:
            lacking.setdefault(column.header, {})[row.label] = None
    sentences = [f"{header} was not measured for {series(list(labels))}." for header, labels in lacking.items()]
    untimed = int((runs["status"].isin(MEASURED) & runs["seconds"].isna()).sum())
    if untimed:
        sentences.append(f"Training time was not recorded for {untimed} of the runs; the total leaves them out.")
    return sentences


def _cells(sections: list[Section]):
    for section in sections:
        for table in section.tables:
            for row in table.rows:
                for cell, column in zip(row.cells, table.columns, strict=True):
                    yield row, cell, column
