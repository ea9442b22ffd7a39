"""The report as one Markdown file, for a pull request or a reader without a browser."""

from __future__ import annotations

from urllib.parse import quote

from theseus_bench.report.content import Report, ReportFigure, Section, checklist_tables, left_out, remarks, scope
from theseus_bench.report.run_lists import gaps_table
from theseus_bench.tables.formats import markdown_text, to_markdown
from theseus_bench.tables.scores import unique_runs


def render_markdown(report: Report, base: str = "") -> str:
    """The report as GitHub Markdown; the runs are left out, as they are thousands, and are where the page has them.

    `base`: the way from the file's folder to the suite's ('' or '../').
    """
    gaps = gaps_table(unique_runs(report.runs))
    parts = [f"# {markdown_text(report.suite)}: theseus-bench report", markdown_text(report.subject)]
    for finding in report.findings:
        parts.append(
            f"- {markdown_text(finding.heading)}: **{markdown_text(finding.answer)}**. {markdown_text(finding.detail)}"
        )
    parts.append(markdown_text(" ".join(scope(report))))
    if known := remarks(report):
        parts += ["## To know before reading", "\n".join(f"- {markdown_text(remark)}" for remark in known)]
    if report.claims:
        parts += ["## Claims", to_markdown(report.claims)]
    for section in report.sections:
        parts += _section(section)
    parts += ["## Failed, missing and excluded runs"]
    parts += [to_markdown(gaps) if gaps.rows else "No run failed, none is missing and none was excluded."]
    values = [f"- {markdown_text(name)}: {markdown_text(value)}" for name, value in report.environment.items()]
    parts += ["## Environment", "\n".join(values) or "The environment of these runs is not recorded."]
    if report.checklist:
        parts += ["## Reproducibility checklist", *map(to_markdown, checklist_tables(report.checklist))]
    files = {"All runs, sorted and filtered": "index.html#runs", "Records of the runs": f"{base}runs", **report.links}
    parts += ["## Files", "\n".join(f"- {_link(name, target)}" for name, target in files.items())]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {markdown_text(section.title)} ({markdown_text(section.name)})"]
    parts += [markdown_text(left_out(table)) or to_markdown(table) for table in section.tables]
    if not section.tables:
        parts.append("There is no table of this experiment.")
    if section.downloads:
        links = ", ".join(_link(name, target) for name, target in section.downloads.items())
        parts.append(f"The tables as files: {links}.")
    return [*parts, *map(_figure, section.figures)]


def _figure(figure: ReportFigure) -> str:
    """The figure's image, or its title alone where it has no file that Markdown can show, and its caption."""
    image = next((link for link in figure.files if link.endswith((".svg", ".png"))), None)
    words = f"**{markdown_text(figure.title)}.** {markdown_text(figure.caption)}"
    return f"!{_link(figure.title, image)}\n\n{words}" if image else words


def _link(name: str, target: str) -> str:
    """A link; the characters that would end its target are in their %-form."""
    return f"[{markdown_text(name)}]({quote(target, safe='/:#@?&=+,;~%.')})"
