"""The search for a method's settings: which are tried, and the file of what was chosen.

Every method is offered the same number of tries. The first is always the method's own default, the rest are drawn from
its grid, the same ones every time.
"""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from theseus_bench.strict_yaml import Strict
from theseus_bench.suite.result_files import read_result, write_result

Settings = dict[str, Any]


class ChosenTrial(Strict):
    """The trial with the best mean score, whose settings the final runs have."""

    trial: int
    settings: Settings
    score: float  # points, the mean over the search's seeds


class Trial(Strict):
    """What was tried, with every seed of the search."""

    trial: int  # 0 is the method's default
    settings: Settings  # of what the search varies
    scores: dict[str, float | None]  # points by seed; None for a run that diverged before its first evaluation
    status: list[Literal["complete", "failed"]]  # by seed
    seconds: float  # on the device, of all seeds

    @property
    def mean_score(self) -> float | None:
        """Over the seeds; None where one has no score."""
        values = [value for value in self.scores.values() if value is not None]
        return sum(values) / len(values) if len(values) == len(self.scores) else None


class NestedSelection(Strict):
    """How much choosing flatters, in points: see theseus_bench.evaluation.search.nested_selection."""

    same_half: float
    other_half: float
    flatters: float


class SearchChoice(Strict):
    """The contents of search/<run>/<task>.json: what a search has chosen, out of what, and at which cost."""

    chosen_trial: ChosenTrial = Field(alias="chosen")
    trials: list[Trial]
    device_seconds: float
    nested_selection: NestedSelection = Field(alias="nested")


def save_choice(file: Path, values: dict[str, Any]) -> None:
    """Write what SearchChoice can read."""
    write_result(file, SearchChoice, values, sealed=True)


def read_choice(file: Path) -> SearchChoice | None:
    """What a search has chosen; None if it has not yet, UserError where another version has left it."""
    if not file.is_file():
        return None
    remedy = "delete it, and the same snakemake command makes it again"
    return read_result(file, SearchChoice, "a search's choice as this version writes it", remedy, remember=False)


def draw_trials(space: dict[str, list[Any]], default: Settings, budget: int, salt: str) -> list[Settings]:
    """At most `budget` different settings out of the grid `space`, `default` (a value for each of its keys) first.

    The whole grid where it fits into the budget. Otherwise the draws are stratified: among as many draws as a setting
    has values each value comes up once, so that no setting is left unexplored by chance. An empty list means that there
    is nothing to search: the budget is 1, or the grid offers nothing but the default.
    """
    grid = math.prod(len(values) for values in space.values())
    if budget == 1 or all(values == [default[key]] for key, values in space.items()):
        return []
    first = tuple(default[key] for key in space)
    default_in_grid = all(value in space[key] for key, value in default.items())
    if grid + (not default_in_grid) <= budget:
        rest = [combination for combination in itertools.product(*space.values()) if combination != first]
        return [dict(zip(space, combination, strict=True)) for combination in [first, *rest]]
    draw = random.Random(salt)
    combinations = [first]
    while len(combinations) < budget:
        shortfall = budget - len(combinations)
        columns = [_spread(values, shortfall, draw) for values in space.values()]
        for combination in zip(*columns, strict=True):
            if combination not in combinations:
                combinations.append(combination)
    return [dict(zip(space, combination, strict=True)) for combination in combinations]


def _spread(values: list[Any], count: int, draw: random.Random) -> list[Any]:
    """`count` of the values in random order, each as often as any other, or once more."""
    pool: list[Any] = []
    while len(pool) < count:
        pool += draw.sample(values, len(values))
    pool = pool[:count]
    draw.shuffle(pool)
    return pool
