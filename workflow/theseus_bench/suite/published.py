"""What the papers print, as data: results/published/*.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from theseus_bench.strict_yaml import Strict, parse, read_yaml

PUBLISHED_FOLDER = Path("results/published")  # where they stand in the project


class PublishedRow(Strict):
    """One row of a table: scores in points by task, two numbers where two metrics or splits are printed."""

    scores: dict[str, float | list[float]]
    macro: float | None
    metrics: dict[str, str] = Field({}, description="the one metric that is printed, where it is not the task's score")
    splits: dict[str, str] = Field({}, description="the one dev split that is printed, where the task has several")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        bare = self.splits.keys() - self.metrics.keys()
        if bare:
            raise ValueError(f"splits: {', '.join(sorted(bare))}: a score is of all dev splits; name its metric too")
        return self


class PublishedTable(Strict):
    """One table of a paper."""

    table: str
    split: Literal["dev", "test"]
    statistic: Literal["median", "best"] | None = Field(description="over the runs; null: the paper does not say")
    runs: int | None = Field(description="how many; null: the paper does not say")
    rows: dict[str, PublishedRow]


class Claim(Strict):
    """A claim about a direction, judged on our own numbers whatever the printed ones are.

    `table` is where the paper says it; an experiment that is compared with that table is asked about the claim.
    `models` are names of our runs; of several in one place the best counts. Their macro scores fall in this order; or
    with `retains` the first has at least that share of the second's, and is `speedup` times as fast. `tasks`: those it
    speaks of, where these are not all of the table's.
    """

    claim: str
    table: str
    models: list[list[str]] = Field(min_length=2)
    tasks: list[str] = []
    retains: float | None = None
    speedup: float | None = None


class SpeedLine(Strict):
    """A straight line through a paper's speed-ups, which it does not print itself.

    It is the time of a pass over the layers of the compressed model, as a share of the paper's predecessor's.
    """

    fixed: float = Field(gt=0, description="of all that is not a layer")
    per_layer: float = Field(gt=0)

    def speedup(self, layers: float, predecessor_layers: int) -> float:
        """What the line says of `layers` (a number or an array) of a predecessor of `predecessor_layers`.

        For a predecessor of another depth than the paper's it assumes that all but the layers costs as much as
        `fixed_in_layers` there too.
        """
        return (self.fixed + self.per_layer * predecessor_layers) / (self.fixed + self.per_layer * layers)

    @property
    def fixed_in_layers(self) -> float:
        """How many layers cost as much as all that is not a layer."""
        return self.fixed / self.per_layer


class PublishedSpeed(Strict):
    """A paper's speed-ups over its predecessor, by the layers of the compressed model."""

    tables: str
    hardware: str
    speedups: dict[int, float] = Field(min_length=2)
    line: SpeedLine


class Paper(Strict):
    """One file: a paper's tables and claims, and the backbone and depths that its numbers are of."""

    source: str
    backbone: str
    layers: int = Field(description="of the backbone")
    compressed_layers: int = Field(description="of the compressed models, where a run's name does not say otherwise")
    claims: list[Claim] = []
    speed: PublishedSpeed | None = None
    tables: list[PublishedTable] = Field(min_length=1)


def load_published(folder: Path) -> dict[str, tuple[Paper, PublishedTable]]:
    """Every published table with its paper, by FILE: TABLE, as 'theseus: Table 2'; read once."""
    return _load(folder.resolve())


def paper_with_speed(folder: Path = PUBLISHED_FOLDER) -> Paper | None:
    """The paper that prints speed-ups by depth; None where there is none."""
    return next((paper for paper, _ in load_published(folder).values() if paper.speed), None)


def cite_speed(paper: Paper) -> str:
    """Where a paper prints its speed-ups: 'Xu et al. 2020, Tables 1 and 7'."""
    assert paper.speed is not None, "the paper prints no speed-ups"
    return f"{paper.source.partition(',')[0]}, {paper.speed.tables}"


@cache
def _load(folder: Path) -> dict[str, tuple[Paper, PublishedTable]]:
    tables: dict[str, tuple[Paper, PublishedTable]] = {}
    for file in sorted(folder.glob("*.yaml")):
        paper = parse(Paper, read_yaml(file), str(file))
        tables |= {f"{file.stem}: {table.table}": (paper, table) for table in paper.tables}
    return tables


def cite(key: str, folder: Path = PUBLISHED_FOLDER) -> str:
    """A table as a row beside ours is headed: 'theseus: Table 2' is 'Xu et al. 2020, Table 2'."""
    paper, table = load_published(folder)[key]
    return f"{paper.source.partition(',')[0]}, {table.table}"
