"""A table as CSV, Markdown and HTML, and its files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from theseus_bench.files import write_text
from theseus_bench.tables.latex import to_latex
from theseus_bench.tables.model import FOLLOWERS, Table, format_cell, marks_of

DENSE = 10  # columns; the page sets a wider table closer, what stands beside a number below it


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
        writer.writerow([*row.identity, row.label, *map(_plain_number, values), notes])
    return lines.getvalue()


def to_markdown(table: Table) -> str:
    """The table as GitHub Markdown, its notes as a list below."""
    letters = table.footnotes
    heads = [table.stub, *("<br>".join(map(markdown_text, [c.header, *c.subheader])) for c in table.columns)]
    rules = [":---", *(":---" if c.text else "---:" for c in table.columns)]
    lines = [
        f"**{markdown_text(table.title)}.** {markdown_text(table.caption)}",
        "",
        _markdown_row(heads),
        _markdown_row(rules),
    ]
    for row in table.rows:
        texts = [f"*{markdown_text(row.label)}*" if row.kind in FOLLOWERS else markdown_text(row.label)]
        for cell, column in zip(row.cells, table.columns, strict=True):
            value, spread = map(markdown_text, format_cell(cell, column))
            value = {"best": f"**{value}**", "second": f"<ins>{value}</ins>"}.get(cell.mark, value)
            marks = marks_of(cell, letters)
            texts.append(" ".join(filter(None, [value, spread])) + (f"<sup>{marks}</sup>" if marks else ""))
        lines.append(_markdown_row(texts))
    notes = [f"- <sup>{letter}</sup> {markdown_text(text)}" for text, letter in letters.items()]
    notes += [f"- {markdown_text(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def to_html(table: Table) -> str:
    """The table as an HTML fragment: a <table> in a box that scrolls, then its notes; everything escaped."""
    return _HTML.render(
        table=table, letters=table.footnotes, dense=DENSE, format_cell=format_cell, marks=marks_of, plain=_plain_number
    )


def write_table(table: Table, folder: Path, name: str) -> list[Path]:
    """Write <folder>/<name>.csv, .md, .tex and .html, each atomically; the paths written."""
    formats = {"csv": to_csv, "md": to_markdown, "tex": to_latex, "html": to_html}
    texts = {folder / f"{name}.{ending}": render(table) for ending, render in formats.items()}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def _plain_number(value: float | str | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, str) else format(value, ".10g")


_MARKDOWN = str.maketrans({c: "\\" + c for c in "\\`*_[]|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def markdown_text(text: str) -> str:
    """`text` as GitHub Markdown shows it word for word."""
    return " ".join(text.split()).translate(_MARKDOWN)


def _markdown_row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


_HTML = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string("""\
{% macro inner(cell, column) %}
{% set value, spread = format_cell(cell, column) %}
{% if cell.mark == "best" %}<strong class="best">{{ value }}</strong>
{%- elif cell.mark == "second" %}<u class="second">{{ value }}</u>
{%- elif cell.href %}<a href="{{ cell.href }}">{{ value }}</a>
{%- else %}{{ value }}
{%- endif %}
{% if marks(cell, letters) %}<sup>{{ marks(cell, letters) }}</sup>{% endif %}
{% if spread %} <span class="beside">{{ spread }}</span>{% endif %}
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
