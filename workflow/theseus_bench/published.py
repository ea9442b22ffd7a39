"""What the papers print, as data: results/published/*.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from theseus_bench.config import Strict, parse, read_yaml

PUBLISHED_FOLDER = Path("results/published")  # where they stand in the project


class PublishedRow(Strict):
    """One row of a table: scores in points by task, two numbers where two metrics or splits are printed."""

    scores: dict[str, float | list[float]]
    macro: float | None
    metrics: dict[str, str] = Field({}, description="the one metric that is printed, where it is not the task's score")


class PublishedTable(Strict):
    """One table of a paper."""

    table: str
    split: Literal["dev", "test"]
    statistic: Literal["median", "best"] | None = Field(description="over the runs; null: the paper does not say")
    runs: int | None = Field(description="how many; null: the paper does not say")
    rows: dict[str, PublishedRow]


class Paper(Strict):
    """One file: a paper's tables, and the backbone that their numbers are of."""

    source: str
    backbone: str
    tables: list[PublishedTable] = Field(min_length=1)


def load_published(folder: Path) -> dict[str, tuple[Paper, PublishedTable]]:
    """Every published table with its paper, by FILE: TABLE, as 'theseus: Table 2'."""
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        paper = parse(Paper, read_yaml(file), str(file))
        found |= {f"{file.stem}: {table.table}": (paper, table) for table in paper.tables}
    return found
