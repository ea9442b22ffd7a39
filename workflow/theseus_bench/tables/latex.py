r"""Text as pdflatex takes it, whatever is in it: a label, or the reason of a failure with a path and a <tag>."""

from __future__ import annotations

import re
from collections.abc import Sequence

from theseus_bench.tables.model import FOLLOWERS, Cell, Column, Table, format_cell, is_compressed, marks_of

LONG_WORD = 20  # characters; a longer word may break, at its signs and after every 12 letters or digits

LONG_TABLE = 36  # lines; a longer table does not fit on a page, so LaTeX gets a longtable
WRAP_LENGTH = 28  # characters; longer text wraps in LaTeX


def latex_text(text: str) -> str:
    r"""The text for a table's cell: special characters escaped, white space as one space, long words breakable.

    The result needs no package and the default encodings. A character that pdflatex then does not know is given by its
    number, as U+4E2D. What could be read as an argument of the \\ before it is in braces.
    """
    words = [_with_breaks(word) if len(word) > LONG_WORD else word for word in text.split()]
    return re.sub("-(?=-)", f"-{_NOTHING}", " ".join(words)).translate(_CHARACTERS)  # or two hyphens would be a dash


def _with_breaks(word: str) -> str:
    return re.sub(r"([^\W_]{12}|[\W_])(?=.)", rf"\1{_BREAK}", word)


class _Characters(dict[int, str]):
    """The LaTeX of each character, by its number."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        plain = character.isascii() and character.isprintable()
        letter = character.isalpha() and code < 0x100 and character not in "ÐðÞþ"
        return character if plain or letter else f"U+{code:04X}"


_NOTHING, _BREAK = "\0", "\1"
_CHARACTERS = _Characters(
    str.maketrans(
        {c: "\\" + c for c in "&%$#_{}"}
        | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"}
        | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "*": "{*}", '"': "''"}
        | {"–": "--", "—": "---", "…": r"\ldots{}", "·": r"$\cdot$", "°": r"$^\circ$", "\u00a0": "~"}
        | {"†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "“": "``", "”": "''", "‘": r"\textquoteleft{}", "’": "'"}
        | {"×": r"$\times$", "±": r"$\pm$", "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$"}
        | {"→": r"$\rightarrow$", "∞": r"$\infty$", "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$"}
        | {digit: f"$^{{{i}}}$" for i, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
        | {"⁻": "$^{-}$"}
        | {"µ": r"$\mu$", "μ": r"$\mu$", _NOTHING: "{}", _BREAK: r"\allowbreak{}"}
    )
)


def to_latex(table: Table) -> str:
    r"""The table as LaTeX for booktabs, its footnotes below; the first line names the packages that it needs.

    A table of more than LONG lines, or with text that wraps, is a longtable; where the page is too narrow for it, it is
    in a smaller size or on pages of its own, turned. Any other one floats, and is scaled down to the page.
    """
    letters = table.footnotes
    lengths = _lengths(table)
    wraps = max(lengths[1:], default=0) > WRAP_LENGTH
    long = wraps or len(table.rows) + len(table.notes) + len(letters) > LONG_TABLE
    spec, width = _latex_columns(table, lengths)
    small = "" if long else r"\scriptsize "
    head, body = _latex_head(table, small), _latex_body(table, letters, small)
    notes = [rf"\textsuperscript{{{letter}}}~{latex_text(text)}\par" for text, letter in letters.items()]
    notes += [rf"{latex_text(note)}\par" for note in table.notes]
    note_lines = [r"\par\smallskip", r"{\footnotesize\raggedright", *notes, "}"] if notes else []
    caption = rf"\caption{{\textbf{{{latex_text(table.title)}.}} {latex_text(table.caption)}}}"
    if long:
        lines = ["% needs booktabs, longtable, array, pdflscape", *_latex_fit(width)]
        lines += [r"\setlength{\extrarowheight}{2pt}"] if wraps else []
        lines += [rf"\begin{{longtable}}{{{spec}}}", caption + r"\\", r"\toprule", *head, r"\midrule", r"\endfirsthead"]
        lines += [r"\toprule", *head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
        lines += [*body, r"\end{longtable}", *note_lines, r"\turnedback\endgroup"]
    else:
        environment = "table*" if len(table.columns) > 5 else "table"
        lines = ["% needs booktabs, graphicx, array", rf"\begin{{{environment}}}[tp]", r"\centering\small", caption]
        lines += [r"\setlength{\tabcolsep}{4pt}", r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
        lines += [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", *head, r"\midrule", *body, r"\bottomrule"]
        lines += [r"\end{tabular}}", *note_lines, rf"\end{{{environment}}}"]
    return "\n".join(lines) + "\n"


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
    for previous, group in zip([None, *table.groups], table.groups, strict=False):
        if previous is not None and is_compressed(previous[0]) != is_compressed(group[0]):
            body.append(r"\midrule")
        elif previous is not None and max(len(previous), len(group)) > 1:
            body.append(r"\addlinespace")
        for row in group:
            label = rf"\quad\textit{{{latex_text(row.label)}}}" if row.kind in FOLLOWERS else latex_text(row.label)
            cells = [_latex_cell(cell, c, letters, small) for cell, c in zip(row.cells, table.columns, strict=True)]
            body.append(_latex_row([label, *cells]) + ("*" if row is not group[-1] else ""))
    return body


def _latex_cell(cell: Cell, column: Column, letters: dict[str, str], small: str) -> str:
    """A cell; the marks of a number stand in the space behind the column, so that the numbers stay below each other."""
    value, spread = map(latex_text, format_cell(cell, column))
    value = {"best": rf"\textbf{{{value}}}", "second": rf"\underline{{{value}}}"}.get(cell.mark, value)
    marks = latex_text(marks_of(cell, letters))
    superscript = rf"\textsuperscript{{{marks}}}" if marks else ""
    spread = rf"\,{{{small}{spread}}}" if spread else ""
    return value + spread + (rf"\rlap{{{superscript}}}" if superscript and not column.text else superscript)


def _latex_fit(width: str) -> list[str]:
    r"""What opens a long table that needs so wide a line, a sum for \dimexpr: it is turned or made smaller to fit."""
    return [
        r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}\let\turnedback\relax",
        rf"\ifdim\linewidth<\textheight\ifdim\dimexpr {width}\relax>1.2\linewidth",
        r"\landscape\let\turnedback\endlandscape\fi\fi",
        rf"\ifdim\dimexpr {width}\relax>\linewidth\scriptsize\fi",
        rf"\ifdim\dimexpr {width}\relax>\linewidth\fontsize{{6}}{{7}}\selectfont\fi",
        r"\setlength{\LTcapwidth}{\linewidth}",
    ]


def _latex_columns(table: Table, lengths: list[int]) -> tuple[str, str]:
    r"""The columns' specification, the row labels' first, and the width that they need, as a sum for \dimexpr.

    Text that wraps shares what the other columns leave of the line, in proportion to its length; in a table without
    such text only the labels wrap. The width of what does not wrap is estimated by its characters.
    """
    wraps = [length > WRAP_LENGTH for length in lengths]
    text_wraps = any(wraps[1:])
    em = 0.5 if text_wraps else 0.45  # of a character; text that wraps must not be promised too much of the line
    alignments = ["l", *("l" if column.text else "r" for column in table.columns)]
    mark_widths = [0.0 if column.text else 0.35 * _longest_marks(table, j) for j, column in enumerate(table.columns)]
    fixed_width = sum(em * length for length, wrap in zip(lengths, wraps, strict=True) if not wrap) + sum(mark_widths)
    gaps = rf"{2 * len(lengths)}\tabcolsep"
    weights = [min(length, 4 * WRAP_LENGTH) if wrap else 0 for length, wrap in zip(lengths, wraps, strict=True)]
    spec = []
    for alignment, wrap, weight, space in zip(alignments, wraps, weights, [0.0, *mark_widths], strict=True):
        share = rf"\dimexpr(\linewidth-{fixed_width:.1f}em-{gaps})*{weight}/{sum(weights)}\relax"
        padding = rf"<{{\hspace{{{space:.2f}em}}}}" if space else ""
        spec.append(
            rf">{{\raggedright\arraybackslash}}p{{{share if text_wraps else '12em'}}}" if wrap else alignment + padding
        )
    return "".join(spec), f"{fixed_width + 12 * sum(wraps):.1f}em+{gaps}"


def _longest_marks(table: Table, j: int) -> int:
    """The characters of the longest marks in a column."""
    return max((len(marks_of(row.cells[j], table.footnotes)) for row in table.rows), default=0)


def _lengths(table: Table) -> list[int]:
    """The characters of the longest text in each column, the row labels' first; marks behind numbers do not count."""
    lengths = [max(len(text) for text in [table.stub, *(row.label for row in table.rows)])]
    for j, column in enumerate(table.columns):
        texts = [" ".join(filter(None, format_cell(row.cells[j], column))) for row in table.rows]
        lengths.append(max(len(text) for text in [column.header, *column.subheader, *texts]))
    return lengths
