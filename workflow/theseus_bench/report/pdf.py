"""The report as a PDF, drawn by fpdf2: no browser and no LaTeX is needed. Lengths are in millimetres."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib
from fpdf import FPDF
from fpdf.enums import Align
from fpdf.image_parsing import preload_image

from theseus_bench.report.content import Finding, Report, ReportFigure, checklist_tables, left_out, remarks, scope
from theseus_bench.report.run_lists import gaps_table
from theseus_bench.tables.model import FOLLOWERS, Row, Table, marks_of, shown
from theseus_bench.tables.scores import unique_runs

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FAMILY = "DejaVu Sans"  # has the signs that we use, and lies where matplotlib is; the name that the figures ask for
DATE = datetime(2000, 1, 1, tzinfo=UTC)  # the same report is the same file, whenever it is made
TEXT, SMALL, SMALLEST = 9.0, 7.0, 4.5  # sizes in points; tables are SMALL, and shrink down to SMALLEST to fit the page
POINT = 25.4 / 72
DOT = 25.4 / 200  # of a figure's PNG, see pictures.write_pictures
LEADING = 1.4  # height of a line, as a multiple of its size
PADDING = 1.0  # left and right in a table's cell
MOST = 24  # lines in a cell, so that headings and a row fit on a sheet; the page has the whole text
INK, QUIET, RULE = (0, 0, 0), (85, 85, 85), (185, 185, 185)
COLOURS = {  # of a finding, a verdict or a status; as on the page when it is printed
    **dict.fromkeys(("complete", "reproduced", "holds"), (20, 84, 42)),
    **dict.fromkeys(("failed", "not-reproduced", "does-not-hold"), (138, 31, 8)),
    **dict.fromkeys(("missing", "excluded", "blank"), (94, 58, 0)),
    **dict.fromkeys(("not-comparable", "not-run", *FOLLOWERS), QUIET),
}
RAISED = 0.7  # size of a raised letter, as a multiple of the text's


def write_pdf(report: Report, path: Path) -> None:
    """Write the report as a PDF of landscape A4; the same report gives the same bytes.

    All of the page but the list of runs, which would fill hundreds of sheets. A figure without an `image` is named.
    """
    logging.getLogger("fpdf.svg").setLevel(logging.ERROR)  # it remarks on every <metadata>
    runs = unique_runs(report.runs)
    sheets = _Sheets(report.suite)
    sheets.add_page()
    sheets.write_text("theseus-bench report", SMALL, QUIET)
    sheets.write_text(report.suite, 20, bold=True)
    sheets.write_text(report.subject, 12)
    sheets.findings(report.findings)
    sheets.write_text(" ".join(scope(report)))
    if known := remarks(report):
        sheets.heading("To know before reading")
        for remark in known:
            sheets.write_text(f"• {remark}")
    if report.claims:
        sheets.heading("Claims")
        sheets.place_table(report.claims)
    for section in report.sections:
        sheets.heading(f"{section.title} ({section.name})")
        for table in section.tables:
            if said := left_out(table):
                sheets.write_text(said)
            else:
                sheets.place_table(table)
        if not section.tables:
            sheets.write_text("There is no table of this experiment.")
        for figure in section.figures:
            sheets.place_figure(figure)
    gaps = gaps_table(runs)
    sheets.heading("Failed, missing and excluded runs")
    if gaps.rows:
        sheets.place_table(gaps)
    else:
        sheets.write_text("No run failed, none is missing and none was excluded.")
    sheets.heading("Environment")
    for name, value in report.environment.items():
        sheets.write_text(f"{name}: {value}")
    if not report.environment:
        sheets.write_text("The environment of these runs is not recorded.")
    if report.checklist:
        sheets.heading("Reproducibility checklist")
        for table in checklist_tables(report.checklist):
            sheets.place_table(table)
    sheets.heading("All runs")
    sheets.write_text("The runs, each with a link to its record, are listed in index.html beside this file.")
    sheets.output(str(path))


class _Sheets(FPDF):
    """Sheets of landscape A4 with the report's fonts, and how its parts are placed on them."""

    def __init__(self, suite: str) -> None:
        super().__init__(orientation="landscape", format="A4")
        self.set_margin(15)
        self.set_auto_page_break(True, margin=15)
        for emphasis, file in (("", "DejaVuSans"), ("B", "DejaVuSans-Bold"), ("I", "DejaVuSans-Oblique")):
            self.add_font(FAMILY, emphasis, FONTS / f"{file}.ttf")
        self.add_font(FAMILY, "BI", FONTS / "DejaVuSans-BoldOblique.ttf")
        self.suite = suite
        self.measured: dict[tuple[str, str], float] = {}  # widths of texts at one point, by text and style
        self.set_title(f"{suite}: theseus-bench report")
        self.set_lang("en")
        self.set_creation_date(DATE)
        self.set_producer("fpdf2")

    def footer(self) -> None:
        """The suite and the number of the sheet; FPDF calls this at the end of each."""
        self.set_y(-11)
        self.set_font(FAMILY, size=SMALL)
        self.set_text_color(*QUIET)
        self.cell(self.epw / 2, 4, self.suite)
        self.cell(self.epw / 2, 4, str(self.page_no()), align=Align.R)

    def heading(self, text: str) -> None:
        """A heading, which the PDF's outline lists too; never alone at the foot of a sheet."""
        if self.will_page_break(35):
            self.add_page()
        self.ln(5)
        self.start_section(" ".join(text.split()))
        self.write_text(text, 13, bold=True)
        self.ln(1)

    def write_text(
        self, text: str, size: float = TEXT, colour: Sequence[int] = INK, bold: bool = False, width: float = 190
    ) -> None:
        """A paragraph in a column of `width` from where the sheet stands, narrow enough to be read."""
        left, style, height = self.x, "B" if bold else "", size * POINT * LEADING
        for line in self._wrapped(text, width, style, size):
            if self.will_page_break(height):
                self.add_page()
            self.set_font(FAMILY, style, size)
            self.set_text_color(*colour)
            self.text(left, self.y + 0.75 * height, line)
            self.y += height
        self.x = self.l_margin

    def findings(self, findings: Sequence[Finding]) -> None:
        """The answers, side by side, four to a line."""
        self.ln(3)
        for start in range(0, len(findings), 4):
            below = top = self.y
            for i, finding in enumerate(findings[start : start + 4]):
                left = self.l_margin + i * self.epw / 4
                colour = COLOURS.get(finding.kind, INK)
                for text, size, ink, bold in (
                    (finding.heading, SMALL + 1, QUIET, False),
                    (finding.answer, 12, colour, True),
                    (finding.detail, SMALL + 1, INK, False),
                ):
                    self.set_x(left)
                    self.write_text(text, size, ink, bold, self.epw / 4 - 5)
                below = max(below, self.y)
                self.y = top
            self.y = below + 4

    def place_figure(self, figure: ReportFigure) -> None:
        """The figure, at most as wide as the sheet, with its caption below it on the same sheet."""
        words = f"{figure.title}. {figure.caption}"
        if figure.image is None or not figure.image.is_file():
            self.ln(3)
            self.write_text(f"{words} (The figure is in index.html beside this file.)", SMALL + 1, QUIET)
            return
        lines = self._wrapped(words, self.epw, "", SMALL + 1)
        below = len(lines) * (SMALL + 1) * POINT * LEADING + 8
        room = self.h - self.t_margin - self.b_margin - below
        info = preload_image(self.image_cache, str(figure.image))[2]
        unit = POINT if figure.image.suffix == ".svg" else DOT
        scale = min(1.35 * unit, self.epw / info.width, room / info.height)  # not much larger than it was drawn
        width, height = info.width * scale, info.height * scale
        if self.will_page_break(height + below):
            self.add_page()
        self.ln(4)
        self.image(str(figure.image), w=width, h=height, alt_text=words)
        self.ln(1)
        self.write_text(words, SMALL + 1, QUIET, width=self.epw)

    def place_table(self, table: Table) -> None:
        """A table with its headings on every sheet, in the largest size in which it fits, and its notes below it."""
        letters = table.footnotes
        heads = [table.stub, *("\n".join([c.header, *c.subheader]) for c in table.columns)]
        rows = [_texts(row, table, letters) for row in table.rows]
        wraps = [True, *(column.text for column in table.columns)]
        every = [[(head, "") for head in heads], *rows]
        size = SMALL
        while (widths := self._widths(every, wraps, size)) is None and size > SMALLEST:
            size -= 0.5
        if widths is None:  # not even then: all columns are equally wide, and their text wraps
            widths = [self.epw / len(heads)] * len(heads)
        if self.will_page_break(30):
            self.add_page()
        self.ln(4)
        self.write_text(f"{table.title}. {table.caption}", SMALL + 1, bold=True)
        self.ln(1)
        self._draw_row(every[0], widths, wraps, size, ["B"] * len(heads), [INK] * len(heads))
        for row, texts in zip(table.rows, rows, strict=True):
            styles, colours = _looks(row)
            if not self._draw_row(texts, widths, wraps, size, styles, colours):
                self.add_page()
                self._draw_row(every[0], widths, wraps, size, ["B"] * len(heads), [INK] * len(heads))
                self._draw_row(texts, widths, wraps, size, styles, colours)
        self.ln(1.5)
        for note in [*(f"{letter}: {text}" for text, letter in letters.items()), *table.notes]:
            self.write_text(note, SMALL - 0.5, QUIET, width=self.epw)

    def _draw_row(
        self,
        texts: Sequence[tuple[str, str]],
        widths: Sequence[float],
        wraps: Sequence[bool],
        size: float,
        styles: Sequence[str],
        colours: Sequence[Sequence[int]],
    ) -> bool:
        """One row of (text, raised marks), a rule below it; False, and nothing drawn, where the sheet has no room.

        Text is set to the left, numbers (what does not wrap) to the right.
        """
        height = size * POINT * LEADING
        cells = []
        for (text, marks), width, style in zip(texts, widths, styles, strict=True):
            room = width - 2 * PADDING - self._width(marks, "", size * RAISED)
            lines = [line for part in text.split("\n") for line in self._wrapped(part, room, style, size)]
            cells.append(lines if len(lines) <= MOST else [*lines[: MOST - 1], "…"])
        bottom = self.y + max(map(len, cells)) * height + 0.8
        if bottom > self.page_break_trigger:
            return False
        left = self.l_margin
        for (_, marks), lines, width, wrap, style, colour in zip(
            texts, cells, widths, wraps, styles, colours, strict=True
        ):
            self.set_text_color(*colour)
            raised = self._width(marks, "", size * RAISED)
            for i, line in enumerate(lines):
                last = i == len(lines) - 1
                long = self._width(line, style, size)
                x = left + PADDING if wrap else left + width - PADDING - long - (raised if last else 0)
                base = self.y + 0.4 + (i + 0.75) * height
                self.set_font(FAMILY, style, size)
                self.text(x, base, line)
                if marks and last:
                    self.set_font(FAMILY, "", size * RAISED)
                    self.text(x + long, base - size * POINT * 0.35, marks)
            left += width
        self.set_draw_color(*(INK if "B" in styles[0] else RULE))
        self.line(self.l_margin, bottom, left, bottom)
        self.y = bottom
        return True

    def _widths(self, rows: list[list[tuple[str, str]]], wraps: list[bool], size: float) -> list[float] | None:
        """The columns' widths at this size: numbers as wide as they are, text sharing the rest. None if too narrow."""
        natural, words = [], []
        for column in zip(*rows, strict=True):
            marks = max(self._width(marks, "", size * RAISED) for _, marks in set(column))
            lines = {line for text, _ in column for line in text.split("\n")}
            line = max(self._width(line, "B", size) for line in lines)  # bold is the wider
            word = max((self._width(word, "B", size) for line in lines for word in line.split()), default=0.0)
            natural.append(line + marks + 2 * PADDING)
            words.append(min(word + marks + 2 * PADDING, self.epw / 8))
        if sum(natural) <= self.epw:
            return natural
        fixed = sum(width for width, wrap in zip(natural, wraps, strict=True) if not wrap)
        least = sum(width for width, wrap in zip(words, wraps, strict=True) if wrap)
        spare = self.epw - fixed - least
        if spare < 0:
            return None
        wanted = [max(n - w, 0.0) if wrap else 0.0 for n, w, wrap in zip(natural, words, wraps, strict=True)]
        return [
            w + spare * want / sum(wanted) if wrap else n
            for n, w, want, wrap in zip(natural, words, wanted, wraps, strict=True)
        ]

    def _wrapped(self, text: str, width: float, style: str, size: float) -> list[str]:
        """The text in lines of at most `width`, broken between words, and within a word that is too long for a line.

        fpdf2's own multi_cell takes a time that grows with the square of a line's length.
        """
        lines, line, used, space = [], "", 0.0, self._width(" ", style, size)
        for word in text.split():
            for piece in self._pieces(word, width, style, size):
                needed = self._width(piece, style, size)
                if line and used + space + needed > width + 0.01:
                    lines.append(line)
                    line, used = piece, needed
                else:
                    line, used = f"{line} {piece}" if line else piece, used + (space if line else 0.0) + needed
        return [*lines, line]

    def _pieces(self, word: str, width: float, style: str, size: float) -> list[str]:
        """The word, cut where it is too long for a line."""
        if self._width(word, style, size) <= width:
            return [word]
        pieces, piece = [], ""
        for character in word:
            if piece and self._width(piece + character, style, size) > width:
                pieces.append(piece)
                piece = ""
            piece += character
        return [*pieces, piece]

    def _width(self, text: str, style: str, size: float) -> float:
        """The width of a text; a style's letters are as wide however they are coloured or underlined."""
        face = style.replace("U", "")
        if (text, face) not in self.measured:
            self.set_font(FAMILY, face, 10)
            self.measured[text, face] = self.get_string_width(text) / 10
        return self.measured[text, face] * size


def _texts(row: Row, table: Table, letters: dict[str, str]) -> list[tuple[str, str]]:
    """The row's label and cells as they are read, each with what stands raised behind it."""
    texts = [("   " * (row.kind in FOLLOWERS) + row.label, "")]
    for cell, column in zip(row.cells, table.columns, strict=True):
        text = " ".join(filter(None, shown(cell, column)))
        marks = marks_of(cell, letters)
        texts.append((text, marks))
    return texts


def _looks(row: Row) -> tuple[list[str], list[Sequence[int]]]:
    """Style and colour of the row's label and cells: bold for the best, underlined for the second, red for failed."""
    italic = "I" if row.kind in ("control", "teacher", *FOLLOWERS) else ""
    colour = COLOURS.get(row.kind, INK)
    failed = [bool(cell.data.get("failed")) and cell.value is not None for cell in row.cells]
    styles = [{"best": "B", "second": "U"}.get(cell.mark, "") + italic for cell in row.cells]
    return [italic, *styles], [colour, *(COLOURS["failed"] if bad else colour for bad in failed)]
