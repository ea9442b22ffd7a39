"""The report as one Markdown file, for a pull request or a reader without a browser."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from theseus_bench.report import blocks
from theseus_bench.report.blocks import MARKDOWN, Block, Part, report_parts
from theseus_bench.report.content import Report, ReportFigure
from theseus_bench.tables.formats import markdown_text, to_markdown


def render_markdown(report: Report, base: str = "") -> str:
    """The report as GitHub Markdown; the runs are left out, as they are thousands, and are where the page has them.

    `base`: the way from the file's folder to the suite's ('' or '../').
    """
    texts = [f"# {markdown_text(report.suite)}: theseus-bench report", markdown_text(report.subject)]
    for part in report_parts(report, MARKDOWN, base):
        texts += [_heading(part)] if part.title else []
        texts += [_block(block) for block in part.blocks]
    return "\n\n".join(text.strip() for text in texts) + "\n"


def _heading(part: Part) -> str:
    return f"## {markdown_text(part.title)}" + (f" ({markdown_text(part.name)})" if part.name else "")


def _block(block: Block) -> str:
    match block:
        case blocks.Findings(findings):
            lines = [f"{markdown_text(finding.heading)}: **{markdown_text(finding.answer)}**. " for finding in findings]
            return _bullets(
                [line + markdown_text(finding.detail) for line, finding in zip(lines, findings, strict=True)]
            )
        case blocks.Opening(scope, _, picture):
            return "\n\n".join([markdown_text(scope), *([_figure(picture.figure)] if picture else [])])
        case blocks.Text(text):
            return markdown_text(text)
        case blocks.Items(heading, items):
            return f"## {markdown_text(heading)}\n\n{_bullets(list(map(markdown_text, items)))}"
        case blocks.Values(values):
            return _bullets([f"{markdown_text(name)}: {markdown_text(value)}" for name, value in values.items()])
        case blocks.Listing(table):
            return to_markdown(table)
        case blocks.Picture(figure):
            return _figure(figure)
        case blocks.Links(words, links):
            return f"{markdown_text(words)}: {', '.join(_links(links))}." if words else _bullets(_links(links))
    raise TypeError(f"Markdown has no {block.kind}")


def _bullets(texts: list[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _figure(figure: ReportFigure) -> str:
    """The figure's image, or its title alone where it has no file that Markdown can show, and its caption."""
    image = next((link for link in figure.files if link.endswith((".svg", ".png"))), None)
    words = f"**{markdown_text(figure.title)}.** {markdown_text(figure.caption)}"
    return f"!{_link(figure.title, image)}\n\n{words}" if image else words


def _links(links: Mapping[str, str]) -> list[str]:
    return [_link(name, target) for name, target in links.items()]


def _link(name: str, target: str) -> str:
    """A link; the characters that would end its target are in their %-form."""
    return f"[{markdown_text(name)}]({quote(target, safe='/:#@?&=+,;~%.')})"
