"""The report as a PDF, a paper of some pages, set by Typst: no browser and no LaTeX is needed.

The template (report.typ) has the layout. What the report says reaches it as data (report.json), never as markup, so
that no text can be taken for a command.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import typst

from theseus_bench.report import blocks
from theseus_bench.report.blocks import PAPER, Block, report_parts
from theseus_bench.report.content import Report
from theseus_bench.tables.model import FOLLOWERS, Row, Table, format_cell, is_compressed, marks_of

TEMPLATE = "report.typ"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # the figures' font, which also has any sign that ours lacks
LONG_WORD = 48  # characters, more than a revision has; a line may break within a longer word
BREAK = "\u200b"  # a space without width
UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x9f\ud800-\udfff]")  # control signs and halves of signs: no font has them


def write_pdf(report: Report, path: Path, template_folder: Path) -> None:
    """Write the report as a tagged PDF (PDF/UA-1) of A4; the same report gives the same bytes."""
    images: dict[str, bytes] = {}
    parts = [
        {"title": part.title, "name": part.name, "blocks": [_block(block, part.title, images) for block in part.blocks]}
        for part in report_parts(report, PAPER)
    ]
    data = {"suite": report.suite, "subject": report.subject, "parts": parts}
    files = {
        "main.typ": (template_folder / TEMPLATE).read_bytes(),
        "report.json": json.dumps(_printable(data)).encode(),
        **images,
    }
    pdf = typst.compile(  # type: ignore[call-overload]  # its types do not have the dict of files that it takes
        files, font_paths=[str(FONTS)], ignore_system_fonts=True, pdf_standards=["ua-1"]
    )
    path.write_bytes(pdf)


def _block(block: Block, heading: str, images: dict[str, bytes]) -> dict[str, Any]:
    """The block as the template takes it; an image's bytes are added to `images`, by the name that it has there."""
    data: dict[str, Any] = {"kind": block.kind}
    match block:
        case blocks.Findings(findings):
            return data | {"findings": [vars(finding) for finding in findings]}
        case blocks.Opening(scope, _, picture):
            return data | {"scope": scope, "picture": picture and _block(picture, heading, images)}
        case blocks.Text(text):
            return data | {"text": text}
        case blocks.Items(title, items):
            return data | {"heading": title, "items": list(items)}
        case blocks.Values(values):
            return data | {"values": list(values.items())}
        case blocks.Listing(table):
            return data | _table(table, heading)
        case blocks.Picture(figure):
            image = ""
            if figure.image and figure.image.is_file():
                image = f"{len(images)}{figure.image.suffix}"
                images[image] = figure.image.read_bytes()
            return data | {"image": image, "title": figure.title, "caption": figure.caption}
    raise TypeError(f"the PDF has no {block.kind}")


def _table(table: Table, heading: str) -> dict[str, Any]:
    """The table as the template takes it; its title is left out where it is that of the heading above it."""
    letters = table.footnotes
    return {
        "title": "" if table.title == heading else table.title,
        "caption": table.caption,
        "heads": [[table.stub], *([column.header, *column.subheader] for column in table.columns)],
        "texts": [True, *(column.text for column in table.columns)],
        "rows": [_row(row, table, letters) for row in table.rows],
        "footnotes": [[letter, text] for text, letter in letters.items()],
        "notes": table.notes,
    }


def _row(row: Row, table: Table, letters: dict[str, str]) -> dict[str, Any]:
    cells = [{"value": row.label, "beside": "", "marks": "", "mark": "", "failed": False}]
    for cell, column in zip(row.cells, table.columns, strict=True):
        value, spread = format_cell(cell, column)
        failed = bool(cell.data.get("failed")) and cell.value is not None
        marks = marks_of(cell, letters)
        cells.append({"value": value, "beside": spread, "marks": marks, "mark": cell.mark, "failed": failed})
    return {"kind": row.kind, "follows": row.kind in FOLLOWERS, "italic": not is_compressed(row), "cells": cells}


def _printable(data: Any) -> Any:
    """The same data, its texts of signs that can be seen, without line breaks, and with breaks in long words."""
    if isinstance(data, str):
        words = " ".join(UNSEEN.sub("\N{REPLACEMENT CHARACTER}", data).split())
        return re.sub(rf"\S{{{LONG_WORD}}}(?=\S)", rf"\g<0>{BREAK}", words)
    if isinstance(data, dict):
        return {key: _printable(value) for key, value in data.items()}
    return [_printable(value) for value in data] if isinstance(data, list | tuple) else data
