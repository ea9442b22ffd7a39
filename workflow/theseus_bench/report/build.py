"""The report of a suite, put together from all that its experiments have left."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from theseus_bench.checksums import check_files
from theseus_bench.evaluation.scores import read_scores
from theseus_bench.files import read_json
from theseus_bench.report.checklist import checklist
from theseus_bench.report.content import Report, ReportFigure, Section
from theseus_bench.report.findings import judge_all_claims, list_findings
from theseus_bench.report.html import write_report
from theseus_bench.report.inline_svg import inline_svg
from theseus_bench.suite.outputs import CRATE_FILE, PARTIAL, list_of
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.status import state
from theseus_bench.tables.experiment import (
    STATISTICS,
    describe_backbone,
    describe_data,
    describe_suite,
    description_tables,
    experiment_tables,
    runs_frame,
    search_tables,
    verdict_tables,
)
from theseus_bench.tables.model import Table
from theseus_bench.tables.scores import with_scores
from theseus_bench.tables.significance import significance_tables
from theseus_bench.tables.speed import speed_tables
from theseus_bench.tables.verdicts import claims_table

TEMPLATES = Path("report")


def write_suite_report(plan: Plan, folder: Path) -> None:
    """The suite's report in `folder`/report: index.html, report.md and report.pdf."""
    write_report(suite_report(plan, folder), folder / "report", TEMPLATES, base="../")


def suite_report(plan: Plan, folder: Path) -> Report:
    """All that the report says."""
    runs = pd.concat([runs_frame(plan, name, folder)[0] for name in plan.suite.experiments])
    scores = pd.concat([read_scores(name, folder) for name in plan.suite.experiments])
    keys = ["method", "variant", "task", "seed", "split", "metric"]
    records = [record for run in plan.runs.values() if (record := state(plan, run, folder)[2])]
    claims = claims_table(judge_all_claims(plan, folder), "What the papers claim")
    return Report(
        suite=plan.suite.suite,
        subject=describe_suite(plan),
        backbone=describe_backbone(plan),
        statistic="mean",
        runs=with_scores(runs, scores.drop_duplicates(keys)),
        notes=describe_data(plan),
        findings=list_findings(plan, folder),
        claims=claims if claims.rows else None,
        sections=[_section(plan, name, folder) for name in plan.suite.experiments],
        environment=_environment(plan, records),
        checklist=checklist(plan, records, folder),
        links={
            name: f"../{file}"
            for name, file in (("Provenance: RO-Crate", CRATE_FILE), ("Configuration", "suite.json"))
            if folder.name != PARTIAL or file != CRATE_FILE
        },
    )


def _section(plan: Plan, name: str, folder: Path) -> Section:
    """An experiment's part of the report. Over one seed all statistics are the same, so one of them is enough."""
    experiment = plan.suite.experiments[name]
    has_several_seeds = len(plan.experiment_seeds(experiment)) > 1
    tables: dict[str, Table] = {STATISTICS[key]: table for key, table in experiment_tables(plan, name, folder).items()}
    if not has_several_seeds:
        del tables[STATISTICS["median"]]
    groups = [verdict_tables(plan, name, folder), significance_tables(plan, name, folder)]
    groups += [speed_tables(plan, name, folder)]
    groups += [description_tables(plan, name, folder), search_tables(plan, name, folder)]
    tables |= {f"_{ending}": table for group in groups for ending, table in group.items() if table.rows}
    downloads = {
        f"{name}{ending}.{kind}": f"../tables/{name}{ending}.{kind}" for ending in tables for kind in ("csv", "tex")
    }
    unread_endings = (
        "_claims",
        "_trials",
    )  # the claims of all experiments stand together; every trial is too much to read
    readable_tables = [table for ending, table in tables.items() if ending not in unread_endings]
    return Section(name, experiment.title, readable_tables, _figures(name, folder), downloads, tables.get("_costs"))


def _figures(name: str, folder: Path) -> list[ReportFigure]:
    """The experiment's figures, as they were drawn."""
    figure_folder = folder / "figures" / name
    if not (figure_folder / "pictures.json").is_file():
        return []
    check_files(list_of("experiment_figures", name, folder))
    figures = []
    for entry in read_json(figure_folder / "pictures.json"):
        files = {ending: figure_folder / f"{entry['name']}.{ending}" for ending in ("svg", "pdf")}
        svg = inline_svg(files["svg"], f"{entry['title']} ({name})", entry["caption"])
        links = tuple(f"../figures/{name}/{file.name}" for file in files.values())
        figures.append(
            ReportFigure(f"{name}-{entry['name']}", entry["title"], entry["caption"], svg, links, files["svg"])
        )
    return figures


def _environment(plan: Plan, records: list[RunRecord]) -> dict[str, str]:
    """What the runs say of where they came from; more than one value of a thing is shown as such."""

    def join(values: Iterable[Any]) -> str:
        return "; ".join(sorted({str(value) for value in values})) or "not known"

    data = plan.suite.data
    libraries = records[0].provenance["libraries"] if records else {}
    return {
        "Data": {"hub": f"{data.name} at {data.revision}", "local": str(data.path), "demo": "generated"}[data.source],
        "Backbone revision": plan.suite.backbone.revision or "none: not from the hub",
        "Code": join(record.provenance["code"] for record in records),
        "Processor": join(
            f"{record.provenance['processor']}, {record.provenance['cores']} cores" for record in records
        ),
        "Device": join(f"{record.device}, {record.precision}, {record.threads} threads a run" for record in records),
        "Python": join(record.provenance["python"] for record in records),
        **{name: join(record.provenance["libraries"][name] for record in records) for name in libraries},
    }
