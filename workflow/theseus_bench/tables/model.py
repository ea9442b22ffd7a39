"""One model of a table, whatever its format.

All formats are rendered from the same `Table`, so they cannot disagree. Numbers stay numbers until they are rendered; a
cell without a number is a visible gap whose footnote says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from theseus_bench.wording import GAP, format_number, power

Mark = Literal["", "best", "second"]
DAGGERS = {"better": "†", "worse": "‡"}
FOLLOWERS = ("printed", "difference")  # the kinds of rows that belong to the row above them


@dataclass(frozen=True)
class Cell:
    """One cell. A value of None is a gap, whose note says why; an empty text is a cell that has nothing to say.

    `value_text` stands for a value that is not shown as a plain number. `data` holds the further CSV columns, by the
    column's `fields`; of these, `failed` and `significant` ('better' or 'worse', a dagger) are also seen.
    """

    value: float | str | None
    value_text: str = ""
    spread: float | None = None
    interval: tuple[float, float] | None = None
    mark: Mark = ""
    notes: tuple[str, ...] = ()
    data: Mapping[str, float | str | None] = field(default_factory=dict)
    href: str = ""

    @property
    def number(self) -> float | None:
        """The value where it is a number; None for a gap or a text."""
        return None if isinstance(self.value, str) else self.value

    @property
    def dagger(self) -> str:
        """† for significantly better, ‡ for significantly worse, '' for neither."""
        return DAGGERS.get(str(self.data.get("significant", "")), "")


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


def format_cell(cell: Cell, column: Column) -> tuple[str, str]:
    """A cell as it is read: its value and what stands beside it, as ('81.2', '± 0.4') or ('1.94', '(1.90–1.98)')."""
    if cell.value is None:
        return GAP, ""
    if isinstance(cell.value, str):
        return cell.value, ""
    value = cell.value_text or (power(cell.value) if column.powers else format_number(cell.value, column.decimals))
    if cell.spread is not None:
        return value, f"± {format_number(cell.spread, column.decimals)}"
    if cell.interval is not None:
        return value, f"({GAP.join(format_number(end, column.decimals) for end in cell.interval)})"
    return value, ""


def interval_of(low: float | None, high: float | None) -> tuple[float, float] | None:
    """The interval from its ends; None where one is missing."""
    return None if low is None or high is None else (low, high)


def is_compressed(row: Row) -> bool:
    """Whether the row is a compressed model: neither a control nor the teacher, nor what follows a row."""
    return row.kind not in ("control", "teacher", *FOLLOWERS)


def _letter(i: int) -> str:
    """a, b, …, z, aa, ab, …"""
    return (_letter(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)


def marks_of(cell: Cell, letters: dict[str, str]) -> str:
    """What stands raised behind the value: a dagger and the letters of the cell's notes."""
    return ",".join(filter(None, [cell.dagger, *(letters[note] for note in cell.notes)]))
