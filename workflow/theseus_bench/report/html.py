"""The report of a suite: one self-contained HTML page, and the same as Markdown and PDF."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from theseus_bench.files import atomic, write_text
from theseus_bench.report.blocks import PAGE, report_parts
from theseus_bench.report.content import Report
from theseus_bench.report.markdown import render_markdown
from theseus_bench.report.pdf import write_pdf
from theseus_bench.tables.formats import to_html
from theseus_bench.wording import count_noun

TEMPLATE = "report.html.j2"


def write_report(report: Report, folder: Path, template_folder: Path, base: str = "../") -> None:
    """Write index.html, report.md and report.pdf into `folder`, each atomically.

    `base`: the way from `folder` to the suite's folder, where the runs are.
    """
    write_text(folder / "index.html", render_html(report, template_folder, base))
    write_text(folder / "report.md", render_markdown(report, base))
    with atomic(folder / "report.pdf") as scratch:
        write_pdf(report, scratch, template_folder)


def render_html(report: Report, template_folder: Path, base: str = "") -> str:
    """The report as one HTML page that needs no network and no other file; all but the figures is escaped.

    `base`: the way from the page's folder to the suite's ('' or '../').
    """
    page = Environment(
        loader=FileSystemLoader(template_folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["table"] = lambda table: Markup(to_html(table))  # escapes by itself
    page.filters["count_noun"] = count_noun
    page.filters["svg"] = Markup  # ours, see ReportFigure
    page.filters["svg_width"] = _svg_width
    first, *parts = report_parts(report, PAGE, base)
    return page.get_template(TEMPLATE).render(report=report, first=first, parts=parts)


def _svg_width(svg: str) -> str:
    """The width for which a figure was drawn, in CSS points, from its viewBox; that of a page if it has none."""
    box = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) [\d.]+"', svg)
    return f"{float(box[1]) if box else 497:.0f}pt"
