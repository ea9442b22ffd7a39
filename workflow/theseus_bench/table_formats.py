"""One model of a table, and its CSV, Markdown, LaTeX and HTML.

All four formats are rendered from the same `Table`, so they cannot disagree. Numbers stay numbers until they are
rendered; a cell without a number is a visible gap whose footnote says why.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jinja2 import Environment, StrictUndefined

from theseus_bench.latex import latex_text

GAP = "–"
DAGGERS = {"better": "†", "worse": "‡"}
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FOLLOWERS = ("printed", "difference")  # the kinds of rows that belong to the row above them
LONG = 36  # lines; a longer table does not fit on a page, so LaTeX gets a longtable
DENSE = 10  # columns; the page sets a wider table closer, what stands beside a number below it
WRAPPED = 28  # characters; longer text wraps in LaTeX


@dataclass(frozen=True)
class Cell:
    """One cell. A value of None is a gap, whose note says why; an empty text is a cell that has nothing to say.

    `written` is how the value is shown where it is not as a plain number. `data` holds the further CSV columns, by the
    column's `fields`; of these, `failed` and `significant` ('better' or 'worse', a dagger) are also seen.
    """

    value: float | str | None
    written: str = ""
    spread: float | None = None
    interval: tuple[float, float] | None = None
    mark: Literal["", "best", "second"] = ""
    notes: tuple[str, ...] = ()
    data: dict[str, float | str | None] = field(default_factory=dict)
    href: str = ""

    @property
    def dagger(self) -> str:
        """† for significantly better, ‡ for significantly worse, '' for neither."""
        return DAGGERS.get(self.data.get("significant", ""), "")


@dataclass(frozen=True)
class Column:
    """One column. `key` is its CSV name; `ranked`: the highest compressed models are marked in it;
    `powers`: its numbers are shown as powers of ten.
    """

    key: str
    header: str
    subheader: tuple[str, ...] = ()
    decimals: int = 1
    fields: tuple[str, ...] = ()
    ranked: bool = False
    text: bool = False
    powers: bool = False


@dataclass(frozen=True)
class Row:
    """One row. `identity` names it in the CSV, under the table's `identity`; `kind` is a role, a status or a follower.

    A row whose kind is one of FOLLOWERS belongs to the row above it and stays with it.
    """

    label: str
    cells: tuple[Cell, ...]
    identity: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table. `stub` heads the column of row labels; `notes` are remarks on the whole table."""

    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    stub: str = "Method"
    identity: tuple[str, ...] = ()

    @property
    def footnotes(self) -> dict[str, str]:
        """Letter of each footnote text, in reading order; the same text has one letter."""
        texts = dict.fromkeys(note for row in self.rows for cell in row.cells for note in cell.notes)
        return {text: _letter(i) for i, text in enumerate(texts)}

    @property
    def groups(self) -> list[list[Row]]:
        """The rows, each with its followers."""
        groups: list[list[Row]] = []
        for row in self.rows:
            if groups and row.kind in FOLLOWERS:
                groups[-1].append(row)
            else:
                groups.append([row])
        return groups


def shown(cell: Cell, column: Column) -> tuple[str, str]:
    """A cell as it is read: its value and what stands beside it, as ('81.2', '± 0.4') or ('1.94', '(1.90–1.98)')."""
    if cell.value is None:
        return GAP, ""
    if isinstance(cell.value, str):
        return cell.value, ""
    value = cell.written or (power(cell.value) if column.powers else _number(cell.value, column.decimals))
    if cell.spread is not None:
        return value, f"± {_number(cell.spread, column.decimals)}"
    if cell.interval is not None:
        return value, f"({GAP.join(_number(end, column.decimals) for end in cell.interval)})"
    return value, ""


def signed(difference: float, decimals: int = 1) -> str:
    """A difference as it is shown: '+0.4', '−1.2', '0.0'."""
    text = _number(difference, decimals)
    return text if text.startswith("−") or not float(text) else f"+{text}"


def power(value: float) -> str:
    """A large number as it is shown: '2.3 · 10¹⁵'; '0' for none."""
    if not value:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} · 10{str(int(exponent)).translate(RAISED)}"


def to_csv(table: Table) -> str:
    """The table as CSV: one line per row, plain numbers at full precision, gaps empty, the footnotes in words."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    names = [name for c in table.columns for name in [c.key, *(f"{c.key}_{f}" for f in c.fields)]]
    writer.writerow([*table.identity, "label", *names, "notes"])
    for row in table.rows:
        cells = list(zip(row.cells, table.columns, strict=True))
        values = [v for cell, c in cells for v in [cell.value, *(cell.data.get(f) for f in c.fields)]]
        notes = "; ".join(f"{c.key}: {note}" for cell, c in cells for note in cell.notes)
        writer.writerow([*row.identity, row.label, *map(_plain, values), notes])
    return lines.getvalue()


def to_markdown(table: Table) -> str:
    """The table as GitHub Markdown, its notes as a list below."""
    letters = table.footnotes
    heads = [table.stub, *("<br>".join(map(markdown_text, [c.header, *c.subheader])) for c in table.columns)]
    rules = [":---", *(":---" if c.text else "---:" for c in table.columns)]
    lines = [f"**{markdown_text(table.title)}.** {markdown_text(table.caption)}", "", _piped(heads), _piped(rules)]
    for row in table.rows:
        texts = [f"*{markdown_text(row.label)}*" if row.kind in FOLLOWERS else markdown_text(row.label)]
        for cell, column in zip(row.cells, table.columns, strict=True):
            value, beside = map(markdown_text, shown(cell, column))
            value = {"best": f"**{value}**", "second": f"<ins>{value}</ins>"}.get(cell.mark, value)
            marks = marks_of(cell, letters)
            texts.append(" ".join(filter(None, [value, beside])) + (f"<sup>{marks}</sup>" if marks else ""))
        lines.append(_piped(texts))
    notes = [f"- <sup>{letter}</sup> {markdown_text(text)}" for text, letter in letters.items()]
    notes += [f"- {markdown_text(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def to_latex(table: Table) -> str:
    r"""The table as LaTeX for booktabs, its footnotes below; the first line names the packages that it needs.

    A table of more than LONG lines, or with text that wraps, is a longtable; where the page is too narrow for it, it is
    in a smaller size or on pages of its own, turned. Any other one floats, and is scaled down to the page.
    """
    letters = table.footnotes
    lengths = _lengths(table)
    wraps = max(lengths[1:], default=0) > WRAPPED
    long = wraps or len(table.rows) + len(table.notes) + len(letters) > LONG
    spec, needed = _latex_columns(table, lengths)
    small = "" if long else r"\scriptsize "
    head, body = _latex_head(table, small), _latex_body(table, letters, small)
    notes = [rf"\textsuperscript{{{letter}}}~{latex_text(text)}\par" for text, letter in letters.items()]
    notes += [rf"{latex_text(note)}\par" for note in table.notes]
    below = [r"\par\smallskip", r"{\footnotesize\raggedright", *notes, "}"] if notes else []
    caption = rf"\caption{{\textbf{{{latex_text(table.title)}.}} {latex_text(table.caption)}}}"
    if long:
        lines = ["% needs booktabs, longtable, array, pdflscape", *_latex_fitted(needed)]
        lines += [r"\setlength{\extrarowheight}{2pt}"] if wraps else []
        lines += [rf"\begin{{longtable}}{{{spec}}}", caption + r"\\", r"\toprule", *head, r"\midrule", r"\endfirsthead"]
        lines += [r"\toprule", *head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
        lines += [*body, r"\end{longtable}", *below, r"\turnedback\endgroup"]
    else:
        place = "table*" if len(table.columns) > 5 else "table"
        lines = ["% needs booktabs, graphicx, array", rf"\begin{{{place}}}[tp]", r"\centering\small", caption]
        lines += [r"\setlength{\tabcolsep}{4pt}", r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
        lines += [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", *head, r"\midrule", *body, r"\bottomrule"]
        lines += [r"\end{tabular}}", *below, rf"\end{{{place}}}"]
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """The table as an HTML fragment: a <table> in a box that scrolls, then its notes; everything escaped."""
    return _HTML.render(table=table, letters=table.footnotes, dense=DENSE, shown=shown, marks=marks_of, plain=_plain)


def write_table(table: Table, folder: Path, name: str) -> list[Path]:
    """Write <folder>/<name>.csv, .md, .tex and .html, each atomically; the paths written."""
    formats = {"csv": to_csv, "md": to_markdown, "tex": to_latex, "html": to_html}
    texts = {folder / f"{name}.{ending}": render(table) for ending, render in formats.items()}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def compressed(row: Row) -> bool:
    """Whether the row is a compressed model: neither a control nor the teacher, nor what follows a row."""
    return row.kind not in ("control", "teacher", *FOLLOWERS)


def series(words: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _letter(i: int) -> str:
    """a, b, …, z, aa, ab, …"""
    return (_letter(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)


def _number(value: float, decimals: int) -> str:
    rounded = round(value, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:.{decimals}f}".replace("-", "−")


def _plain(value: float | str | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, str) else format(value, ".10g")


def marks_of(cell: Cell, letters: dict[str, str]) -> str:
    """What stands raised behind the value: a dagger and the letters of the cell's notes."""
    return ",".join(filter(None, [cell.dagger, *(letters[note] for note in cell.notes)]))


_MARKDOWN = str.maketrans({c: "\\" + c for c in "\\`*_[]|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def markdown_text(text: str) -> str:
    """`text` as GitHub Markdown shows it word for word."""
    return " ".join(text.split()).translate(_MARKDOWN)


def _piped(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _latex_row(texts: Sequence[str]) -> str:
    return " & ".join(texts) + r" \\"


def _latex_head(table: Table, small: str) -> list[str]:
    """The headers of the columns, and the lines below them."""
    head = [_latex_row([latex_text(table.stub), *(latex_text(c.header) for c in table.columns)])]
    for i in range(max((len(c.subheader) for c in table.columns), default=0)):
        lines = [c.subheader[i] if i < len(c.subheader) else "" for c in table.columns]
        head.append(_latex_row(["", *(f"{{{small}{latex_text(line)}}}" if line else "" for line in lines)]))
    return head


def _latex_body(table: Table, letters: dict[str, str], small: str) -> list[str]:
    """The rows; a row and its followers are apart from the others, and on one page."""
    body = []
    for before, group in zip([None, *table.groups], table.groups, strict=False):
        if before is not None and compressed(before[0]) != compressed(group[0]):
            body.append(r"\midrule")
        elif before is not None and max(len(before), len(group)) > 1:
            body.append(r"\addlinespace")
        for row in group:
            label = rf"\quad\textit{{{latex_text(row.label)}}}" if row.kind in FOLLOWERS else latex_text(row.label)
            cells = [_latex_cell(cell, c, letters, small) for cell, c in zip(row.cells, table.columns, strict=True)]
            body.append(_latex_row([label, *cells]) + ("*" if row is not group[-1] else ""))
    return body


def _latex_cell(cell: Cell, column: Column, letters: dict[str, str], small: str) -> str:
    """A cell; the marks of a number stand in the space behind the column, so that the numbers stay below each other."""
    value, beside = map(latex_text, shown(cell, column))
    value = {"best": rf"\textbf{{{value}}}", "second": rf"\underline{{{value}}}"}.get(cell.mark, value)
    marks = latex_text(marks_of(cell, letters))
    raised = rf"\textsuperscript{{{marks}}}" if marks else ""
    beside = rf"\,{{{small}{beside}}}" if beside else ""
    return value + beside + (rf"\rlap{{{raised}}}" if raised and not column.text else raised)


def _latex_fitted(needed: str) -> list[str]:
    r"""What opens a long table that needs so wide a line, a sum for \dimexpr: it is turned or made smaller to fit."""
    return [
        r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}\let\turnedback\relax",
        rf"\ifdim\linewidth<\textheight\ifdim\dimexpr {needed}\relax>1.2\linewidth",
        r"\landscape\let\turnedback\endlandscape\fi\fi",
        rf"\ifdim\dimexpr {needed}\relax>\linewidth\scriptsize\fi",
        rf"\ifdim\dimexpr {needed}\relax>\linewidth\fontsize{{6}}{{7}}\selectfont\fi",
        r"\setlength{\LTcapwidth}{\linewidth}",
    ]


def _latex_columns(table: Table, lengths: list[int]) -> tuple[str, str]:
    r"""The columns' specification, the row labels' first, and the width that they need, as a sum for \dimexpr.

    Text that wraps shares what the other columns leave of the line, in proportion to its length; in a table without
    such text only the labels wrap. The width of what does not wrap is estimated by its characters.
    """
    wraps = [length > WRAPPED for length in lengths]
    shared = any(wraps[1:])
    em = 0.5 if shared else 0.45  # of a character; text that wraps must not be promised too much of the line
    kinds = ["l", *("l" if column.text else "r" for column in table.columns)]
    behind = [0.0 if column.text else 0.35 * _longest_marks(table, j) for j, column in enumerate(table.columns)]
    narrow = sum(em * length for length, wrap in zip(lengths, wraps, strict=True) if not wrap) + sum(behind)
    gaps = rf"{2 * len(lengths)}\tabcolsep"
    weights = [min(length, 4 * WRAPPED) if wrap else 0 for length, wrap in zip(lengths, wraps, strict=True)]
    spec = []
    for kind, wrap, weight, space in zip(kinds, wraps, weights, [0.0, *behind], strict=True):
        share = rf"\dimexpr(\linewidth-{narrow:.1f}em-{gaps})*{weight}/{sum(weights)}\relax"
        after = rf"<{{\hspace{{{space:.2f}em}}}}" if space else ""
        spec.append(rf">{{\raggedright\arraybackslash}}p{{{share if shared else '12em'}}}" if wrap else kind + after)
    return "".join(spec), f"{narrow + 12 * sum(wraps):.1f}em+{gaps}"


def _longest_marks(table: Table, j: int) -> int:
    """The characters of the longest marks in a column."""
    return max((len(marks_of(row.cells[j], table.footnotes)) for row in table.rows), default=0)


def _lengths(table: Table) -> list[int]:
    """The characters of the longest text in each column, the row labels' first; marks behind numbers do not count."""
    lengths = [max(len(text) for text in [table.stub, *(row.label for row in table.rows)])]
    for j, column in enumerate(table.columns):
        texts = [" ".join(filter(None, shown(row.cells[j], column))) for row in table.rows]
        lengths.append(max(len(text) for text in [column.header, *column.subheader, *texts]))
    return lengths


_HTML = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string("""\
{% macro inner(cell, column) %}
{% set value, beside = shown(cell, column) %}
{% if cell.mark == "best" %}<strong class="best">{{ value }}</strong>
{%- elif cell.mark == "second" %}<u class="second">{{ value }}</u>
{%- elif cell.href %}<a href="{{ cell.href }}">{{ value }}</a>
{%- else %}{{ value }}
{%- endif %}
{% if marks(cell, letters) %}<sup>{{ marks(cell, letters) }}</sup>{% endif %}
{% if beside %} <span class="beside">{{ beside }}</span>{% endif %}
{% endmacro %}
{% macro kind(cell, column) -%}
{{ "text" if column.text else "number" }}{{ " gap" if cell.value is none }}{{ " failed" if cell.data.get("failed") }}
{%- endmacro %}
<div class="table-scroll" role="region" aria-label="{{ table.title }}: {{ table.caption }}" tabindex="0">
<table{% if table.columns | length > dense %} class="dense"{% endif %}>
<caption><span><strong>{{ table.title }}.</strong> {{ table.caption }}</span></caption>
<thead>
<tr>
<th scope="col">{{ table.stub }}</th>
{% for column in table.columns %}
<th scope="col" class="{{ "text" if column.text else "number" }}">{{ column.header }}
{%- for line in column.subheader %}<small>{{ line }}</small>{% endfor %}</th>
{% endfor %}
</tr>
</thead>
{% for group in table.groups %}
<tbody>
{% for row in group %}
<tr{% if row.kind %} class="{{ row.kind }}"{% endif %}>
<th scope="row">{{ row.label }}</th>
{% for cell in row.cells %}
<td class="{{ kind(cell, table.columns[loop.index0]) }}"
{%- if cell.value is number %} data-value="{{ plain(cell.value) }}"{% endif %}
{%- if cell.notes %} title="{{ cell.notes | join("; ") }}"{% endif %}>
{{- inner(cell, table.columns[loop.index0]) | trim }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
{% endfor %}
</table>
</div>
{% if letters or table.notes %}
<ul class="table-notes">
{% for text, letter in letters.items() %}
<li><sup>{{ letter }}</sup> {{ text }}</li>
{% endfor %}
{% for note in table.notes %}
<li>{{ note }}</li>
{% endfor %}
</ul>
{% endif %}
""")
