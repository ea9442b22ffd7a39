"""The file of an experiment's tests: what is in it, how it is read, and what a row of it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from theseus_bench.checksums import check_files
from theseus_bench.errors import UserError
from theseus_bench.evaluation.statistics import FEWEST
from theseus_bench.strict_yaml import Strict
from theseus_bench.suite.outputs import list_of
from theseus_bench.suite.result_files import read_result, write_result

PRIMARY, MACRO, WITHOUT_COLA, TASKS = "primary", "macro", "macro_without_cola", "tasks"  # the families
MACRO_LABELS = {MACRO: "Macro", WITHOUT_COLA: "Macro without CoLA"}


class Difference(Strict):
    """The difference of two methods on a task or a macro: `name` less `share` times `other`, in points.

    Without a test (too few seeds, or tested in another experiment) p is None, and what follows from it.
    """

    name: str
    other: str
    primary: bool  # a proposed method beside a baseline
    control: bool  # `other` is what `name` is marked against in tables
    share: float
    target: str = Field(alias="what")  # a task, MACRO or WITHOUT_COLA
    seeds: int  # the fewer that either has
    difference: float  # of the means over the seeds of either
    error: float | None  # standard error, over seeds and examples
    df: float | None
    p: float | None
    p_holm: float | None
    low: float | None  # the ends of the interval that holds together with the others' of the family
    high: float | None
    family: Literal["primary", "macro", "macro_without_cola", "tasks"]
    tested_in: str  # the first experiment that has this difference
    tests: int  # in its family and protocol; 0 where it is not tested here
    # Over the seeds alone, of a task with enough of them.
    welch: float | None = None  # p; None without spread
    sign_flip: float | None = None  # p; None where so few seeds differ that none could reach α
    seeds_differing: int = Field(0, alias="differing")  # on how many of the seeds that both have the two differ
    seeds_needed: int = Field(0, alias="needed")  # how many such could reach α
    hedges_g: float | None = None  # None without spread
    improvement: float | None = None  # the probability that a run of the first beats one of the other
    mcnemar: dict[str, float] = {}  # p by seed, of an accuracy


class RankTest(Strict):
    """Two methods over the macro's tasks that both have, from one number for each."""

    name: str
    other: str
    primary: bool
    control: bool
    share: float
    tasks: int
    tasks_differing: int = Field(alias="differing")
    seeds: int  # the fewest that either has on a task
    difference: float  # the median over the tasks, in points
    wilcoxon: float | None  # p
    improvement: float
    tasks_needed: int = Field(alias="needed")  # how many must differ to reach α in this family
    wilcoxon_holm: float | None  # None also where fewer differ than are needed


class FriedmanTest(Strict):
    """Whether a protocol's compressed models rank alike on the tasks that all of them have."""

    protocol: str
    methods: int
    tasks: int
    seeds: int  # the fewest that a method has on a task
    tasks_needed: int | None = Field(alias="needed")  # to reach α; None of a single method
    p: float | None


class Aggregate(Strict):
    """What a method keeps of the predecessor's mean on each task (%), over tasks and seeds."""

    name: str
    tasks: int
    runs: int
    interquartile_mean: float
    profile: list[float]  # the share of the runs that keep at least each of significance.THRESHOLDS


class SignificanceResults(Strict):
    """The contents of significance/<experiment>.json."""

    alpha: float
    resamples: int
    differences: list[Difference]
    ranks: list[RankTest]
    friedman: list[FriedmanTest]
    aggregates: list[Aggregate]

    def is_significant(self, row: Difference) -> bool:
        """Whether a difference is tested here and found."""
        return row.p_holm is not None and row.p_holm < self.alpha

    def daggers(self) -> dict[tuple[str, str], Literal["better", "worse"]]:
        """'better' or 'worse' for each (run's name, task or macro) that differs from the control, after Holm."""
        return {
            (row.name, row.target): "better" if row.difference > 0 else "worse"
            for row in self.differences
            if row.control and self.is_significant(row)
        }

    def few_seeds(self) -> list[str]:
        """A sentence where some difference has too few seeds for a test."""
        if not any(row.seeds < FEWEST for row in self.differences):
            return []
        return [f"Below {FEWEST} seeds nothing is tested: one or two numbers tell too little of a spread."]


def significance_file(experiment: str, folder: Path) -> Path:
    """Where the experiment's tests are, in the suite's folder."""
    return folder / "significance" / f"{experiment}.json"


def save_significance(experiment: str, folder: Path, values: dict[str, Any]) -> None:
    """Write what SignificanceResults can read."""
    write_result(significance_file(experiment, folder), SignificanceResults, values)


def read_significance(experiment: str, folder: Path) -> SignificanceResults:
    """The experiment's tests; UserError where there are none, or another version has left them."""
    file = significance_file(experiment, folder)
    command = f"theseus-bench significance {folder} {experiment}"
    if not file.is_file():
        raise UserError(f"{file}: no such file; make it with: {command}")
    check_files(list_of("significance", experiment, folder), [file.name])
    return read_result(file, SignificanceResults, "tests as this version writes them", f"make it again with: {command}")


def not_tested(seeds: int) -> str:
    """What is said in the place of a test of so few seeds."""
    return f"not tested: {seeds} {'seed' if seeds == 1 else 'seeds'}"
