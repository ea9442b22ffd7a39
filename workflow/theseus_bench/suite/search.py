"""The search for a method's settings: which are tried, and the file of what was chosen.

Every method is offered the same number of tries. The first is always the method's own default, the rest are drawn from
its grid, the same ones every time.
"""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

from theseus_bench.files import read_json

Settings = dict[str, Any]


def read_choice(file: Path) -> dict | None:
    """What a search has chosen (theseus_bench.evaluation.search says what is in it); None if it has not yet."""
    return read_json(file) if file.is_file() else None


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
    inside = all(value in space[key] for key, value in default.items())
    if grid + (not inside) <= budget:
        rest = [combination for combination in itertools.product(*space.values()) if combination != first]
        return [dict(zip(space, combination, strict=True)) for combination in [first, *rest]]
    draw = random.Random(salt)
    chosen = [first]
    while len(chosen) < budget:
        lacking = budget - len(chosen)
        columns = [_spread(values, lacking, draw) for values in space.values()]
        for combination in zip(*columns, strict=True):
            if combination not in chosen:
                chosen.append(combination)
    return [dict(zip(space, combination, strict=True)) for combination in chosen]


def _spread(values: list[Any], count: int, draw: random.Random) -> list[Any]:
    """`count` of the values in random order, each as often as any other, or once more."""
    repeated = []
    while len(repeated) < count:
        repeated += draw.sample(values, len(values))
    repeated = repeated[:count]
    draw.shuffle(repeated)
    return repeated
