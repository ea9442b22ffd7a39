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

GAP = "–"
LONG = 40  # rows; a longer table does not fit on a page, so LaTeX gets a longtable


@dataclass(frozen=True)
class Cell:
    """One cell. A value of None is a gap; `data` holds the further CSV columns, by the column's `fields`."""

    value: float | str | None
    spread: float | None = None
    interval: tuple[float, float] | None = None
    mark: Literal["", "best", "second"] = ""
    notes: tuple[str, ...] = ()
    data: dict[str, float | None] = field(default_factory=dict)
    href: str = ""


@dataclass(frozen=True)
class Column:
    """One column. `key` is its CSV name; `ranked`: the highest compressed models are marked in it."""

    key: str
    header: str
    subheader: tuple[str, ...] = ()
    decimals: int = 1
    fields: tuple[str, ...] = ()
    ranked: bool = False
    text: bool = False


@dataclass(frozen=True)
class Row:
    """One row. `identity` names it in the CSV, under the table's `identity`; `kind` is a role or a status."""

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


def shown(cell: Cell, column: Column) -> tuple[str, str]:
    """A cell as it is read: its value and what stands beside it, as ('81.2', '± 0.4') or ('1.94', '(1.90–1.98)')."""
    if cell.value is None:
        return GAP, ""
    if isinstance(cell.value, str):
        return cell.value, ""
    value = _number(cell.value, column.decimals)
    if cell.spread is not None:
        return value, f"± {_number(cell.spread, column.decimals)}"
    if cell.interval is not None:
        return value, f"({GAP.join(_number(end, column.decimals) for end in cell.interval)})"
    return value, ""


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
    heads = [table.stub, *("<br>".join(map(_markdown, [c.header, *c.subheader])) for c in table.columns)]
    rules = [":---", *(":---" if c.text else "---:" for c in table.columns)]
    lines = [f"**{_markdown(table.title)}.** {_markdown(table.caption)}", "", _piped(heads), _piped(rules)]
    for row in table.rows:
        texts = [_markdown(row.label)]
        for cell, column in zip(row.cells, table.columns, strict=True):
            value, beside = map(_markdown, shown(cell, column))
            value = {"best": f"**{value}**", "second": f"<ins>{value}</ins>"}.get(cell.mark, value)
            marks = ",".join(letters[note] for note in cell.notes)
            texts.append(" ".join(filter(None, [value, beside])) + (f"<sup>{marks}</sup>" if marks else ""))
        lines.append(_piped(texts))
    notes = [f"- <sup>{letter}</sup> {_markdown(text)}" for text, letter in letters.items()]
    notes += [f"- {_markdown(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def to_latex(table: Table) -> str:
    """The table as LaTeX for booktabs (and longtable where it is long), its footnotes below."""
    letters = table.footnotes
    depth = max((len(c.subheader) for c in table.columns), default=0)
    head = [_latex_row([table.stub, *(_latex(c.header) for c in table.columns)])]
    for i in range(depth):
        lines = [c.subheader[i] if i < len(c.subheader) else "" for c in table.columns]
        head.append(_latex_row(["", *(rf"{{\scriptsize {_latex(line)}}}" if line else "" for line in lines)]))
    body = []
    for before, row in zip([None, *table.rows], table.rows, strict=False):
        if before is not None and compressed(before) != compressed(row):
            body.append(r"\midrule")
        cells = [_latex_cell(cell, c, letters) for cell, c in zip(row.cells, table.columns, strict=True)]
        body.append(_latex_row([_latex(row.label), *cells]))
    notes = [rf"\textsuperscript{{{letter}}}~{_latex(text)}\par" for text, letter in letters.items()]
    notes += [rf"{_latex(note)}\par" for note in table.notes]
    below = ["", r"\smallskip", r"{\footnotesize\raggedright", *notes, "}"] if notes else []
    spec = "l" + "".join("l" if c.text else "r" for c in table.columns)
    caption = rf"\caption{{\textbf{{{_latex(table.title)}.}} {_latex(table.caption)}}}"
    if len(table.rows) > LONG:
        head = [rf"\begin{{longtable}}{{{spec}}}", caption + r"\\", r"\toprule", *head, r"\midrule", r"\endhead"]
        lines = ["% needs booktabs, longtable", *head, *body, r"\bottomrule", r"\end{longtable}", *below]
    else:
        place = "table*" if len(table.columns) > 5 else "table"
        open_ = [rf"\begin{{{place}}}[t]", r"\centering\small", r"\setlength{\tabcolsep}{4pt}", caption]
        inside = [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", *head, r"\midrule", *body, r"\bottomrule"]
        lines = ["% needs booktabs", *open_, *inside, r"\end{tabular}", *below, rf"\end{{{place}}}"]
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """The table as an HTML fragment: a <table> in a box that scrolls, then its notes; everything escaped."""
    return _HTML.render(table=table, letters=table.footnotes, shown=shown, gap=GAP)


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


def compressed(row: Row) -> bool:
    """Whether the row is a compressed model: neither a control nor the teacher."""
    return row.kind not in ("control", "teacher")


_MARKDOWN = str.maketrans({c: "\\" + c for c in "\\`*_[]|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def _markdown(text: str) -> str:
    return " ".join(text.split()).translate(_MARKDOWN)


def _piped(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


# "[" and "*" are in braces since a row may begin with them, and \\ would take them for its own argument.
_LATEX = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "*": "{*}", '"': "''"}
    | {"–": "--", "—": "---", "…": r"\ldots{}", "×": r"$\times$", "±": r"$\pm$", "−": "$-$"}
    | {"≤": r"$\leq$", "≥": r"$\geq$", "α": r"$\alpha$", "→": r"$\rightarrow$"}
)


def _latex(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX)


def _latex_row(texts: Sequence[str]) -> str:
    return " & ".join(texts) + r" \\"


def _latex_cell(cell: Cell, column: Column, letters: dict[str, str]) -> str:
    value, beside = map(_latex, shown(cell, column))
    value = {"best": rf"\textbf{{{value}}}", "second": rf"\underline{{{value}}}"}.get(cell.mark, value)
    marks = ",".join(letters[note] for note in cell.notes)
    small = rf"\,{{\scriptsize {beside}}}" if beside else ""
    return value + small + (rf"\textsuperscript{{{marks}}}" if marks else "")


_HTML = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string("""\
{% macro inner(cell, column) %}
{% set value, beside = shown(cell, column) %}
{% if cell.mark == "best" %}<strong class="best">{{ value }}</strong>
{%- elif cell.mark == "second" %}<u class="second">{{ value }}</u>
{%- elif cell.href %}<a href="{{ cell.href }}">{{ value }}</a>
{%- else %}{{ value }}
{%- endif %}
{% if beside %} <span class="beside">{{ beside }}</span>{% endif %}
{% if cell.notes %}<sup>{% for note in cell.notes %}{{ "," if not loop.first }}{{ letters[note] }}{% endfor %}</sup>
{%- endif %}
{% endmacro %}
{% macro kind(cell, column) -%}
{{ "text" if column.text else "number" }}{{ " gap" if cell.value is none }}{{ " failed" if cell.data.get("failed") }}
{%- endmacro %}
<div class="table-scroll" role="region" aria-label="{{ table.title }}" tabindex="0">
<table>
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
<tbody>
{% for row in table.rows %}
<tr{% if row.kind %} class="{{ row.kind }}"{% endif %}>
<th scope="row">{{ row.label }}</th>
{% for cell in row.cells %}
<td class="{{ kind(cell, table.columns[loop.index0]) }}"
{%- if cell.notes %} title="{{ cell.notes | join("; ") }}"{% endif %}>
{{- inner(cell, table.columns[loop.index0]) | trim }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
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
