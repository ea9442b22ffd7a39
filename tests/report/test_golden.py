"""The report's three formats against golden files: every word, heading, link and class of a report with all its parts.

After a change that is meant, rewrite them with `THESEUS_GOLDEN=write pytest tests/report/test_golden.py`, which fails,
and read the difference before committing it.
"""

import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from theseus_bench.report import pdf
from theseus_bench.report.checklist import CheckItem
from theseus_bench.report.content import Finding, Report, ReportFigure, Section
from theseus_bench.report.html import render_html
from theseus_bench.report.markdown import render_markdown
from theseus_bench.tables.model import Cell, Column, Row, Table

GOLDEN = Path(__file__).parent / "golden"
TEMPLATES = Path(__file__).parents[2] / "report"
SVG = '<svg role="img" viewBox="0 0 240 120" aria-label="A line"><title>A line</title><path d="M0 0L240 120"/></svg>'
STATES = (
    ("theseus", 1, "complete", "", 100.0, 66.4),
    ("theseus", 2, "failed", "the loss became NaN at step 12", 50.0, 52.7),
    ("theseus", 3, "missing", "the job was killed", float("nan"), float("nan")),
    ("distilbert", 1, "excluded", "no regression objective", float("nan"), float("nan")),
)


def scores_table(title: str) -> Table:
    """Cells with an interval, a deviation, a mark, a dagger and a note; a printed row, and the difference from it."""
    columns = (
        Column("speedup", "Speed-up", ("×",), decimals=2),
        Column("chosen", "Chosen", ("best of",), text=True),
        Column("rte", "RTE", ("Acc.", "2.5k"), ranked=True),
        Column("flops", "FLOPs", powers=True),
    )
    gap = Cell(None, notes=("not measured",))
    best = Cell(66.4, mark="best", data={"significant": "better"})
    rows = (
        Row("Fine-tuning", (Cell(1.94, interval=(1.9, 1.98)), Cell("10 held out"), Cell(62.35, spread=1.2), gap)),
        Row("Theseus", (gap, Cell(""), best, Cell(2.2e12, notes=("2 of 3 seeds", "not measured"))), kind="proposed"),
        Row("Xu et al. 2020", (gap, Cell(""), Cell(68.2), gap), kind="printed"),
        Row("difference", (gap, Cell(""), Cell(-1.8, value_text="−1.8"), gap), kind="difference"),
    )
    return Table(title, "In points.", columns, rows, notes=("Higher is better.", "Bold: the highest."))


@pytest.fixture
def report(tmp_path) -> Report:
    image = tmp_path / "line.svg"
    image.write_text(SVG.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg" width="240pt" height="120pt"'))
    files = ("figures/line.svg", "figures/line.pdf")
    figures = [
        ReportFigure(name, title, "It falls.", SVG, files, image)
        for name, title in (("one-score_against_speed", "Score against speed-up"), ("one-curves", "While training"))
    ]
    costs = Table("Costs, all runs", "Of all.", (Column("hours", "Hours"),), (Row("Theseus", (Cell(1.5),)),))
    verdict = Column("verdict", "Verdict", text=True)
    claims = (Row("Theseus beats PKD", (Cell("holds"),), kind="holds"), Row("KD is second", (Cell("undecided"),)))
    rows = [
        {"method": method, "variant": "", "task": "rte", "seed": seed, "status": status, "reason": reason}
        | {"path": f"runs/{method}/rte/seed-{seed}", "seconds": seconds, "score": score, "parameters": 67e6}
        | {"label": method.title(), "role": "proposed"}
        for method, seed, status, reason, seconds, score in STATES
    ]
    return Report(
        suite="small",
        subject="Equal effort; MiniLM, 6 → 3 layers; GLUE",
        backbone="bert-base-uncased",
        statistic="mean",
        runs=pd.DataFrame(rows),
        notes=["This is the demo."],
        findings=[
            Finding("What reproduces", "3 of 4 numbers", "One is missing.", "complete"),
            Finding("What does not", "1 of 4 numbers", "Farthest: PKD.", "failed"),
        ],
        claims=Table("What the papers claim", "By the means.", (verdict,), claims, stub="Claim"),
        sections=[
            Section("one", "First", [scores_table("First"), costs], figures, {"one.csv": "../tables/one.csv"}, costs),
            Section("two", "Second", [scores_table("Second")]),
        ],
        environment={"python": "3.11.7", "torch": "2.13.0"},
        checklist=[
            CheckItem("ACL", "C1: model size", "67 million", "run.json"),
            CheckItem("ACL", "A1: limitations", "", ""),
            CheckItem("NeurIPS", "6: settings", "16 trials", "tables/"),
        ],
        links={"Provenance": "../ro-crate-metadata.json"},
    )


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("THESEUS_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8", newline="\n")
        pytest.fail(f"{name} is rewritten: read its difference, and test without THESEUS_GOLDEN")
    assert text == path.read_text(encoding="utf-8")


def test_page(report):
    page = render_html(report, TEMPLATES, "../")
    compare("index.html", re.sub(r"(<(style|script)\b[^>]*>).*?(</\2>)", r"\1\3", page, flags=re.DOTALL))


def test_markdown(report):
    compare("report.md", render_markdown(report, "../"))


def test_what_the_template_of_the_pdf_is_given(report, tmp_path, monkeypatch):
    files = {}
    monkeypatch.setattr(pdf.typst, "compile", lambda inputs, **_: files.update(inputs) or b"")
    pdf.write_pdf(report, tmp_path / "report.pdf", TEMPLATES)
    compare("report.json", json.dumps(json.loads(files["report.json"]), indent=1, ensure_ascii=False) + "\n")
    assert sorted(files) == ["0.svg", "1.svg", "main.typ", "report.json"]
