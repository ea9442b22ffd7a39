"""How far a method's seeds lie apart on a task, by its own few seeds and those of the methods of its pool."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from theseus_bench.evaluation.pairs import role_of
from theseus_bench.evaluation.statistics import SeedVariance, moderate_by_name
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.run_names import RunName

SMALLEST_POOL = 4  # methods, itself included; on the safe side: of two alone, seeds say too little for a family's tail
MODERATED = (
    "moderated by those of the methods of its experiment and protocol whose layers start from the same (of all of that "
    f"protocol, where these are fewer than {SMALLEST_POOL})"
)


def list_pools(plan: Plan, names: Collection[str], task: str) -> dict[str, list[str]]:
    """The pool of each of `names`: itself, and those by whose variances over seeds its own is moderated.

    They are the trained methods of its protocol whose layers start from the same, as the start can decide how far seeds
    lie apart (results/reference/minilm, STS-B); or all of its protocol, where these are fewer than `SMALLEST_POOL`. A
    start that is searched counts as the default. What trains nothing is alone.
    """
    kinds = {
        name: (RunName.parse(name).protocol, plan.run(name, task, 0).settings.get("start"))
        for name in names
        if role_of(plan, name) != "control"
    }
    pools = {name: [name] for name in names}
    for name, kind in kinds.items():
        of_protocol = [other for other in kinds if kinds[other][0] == kind[0]]
        of_start = [other for other in of_protocol if kinds[other] == kind]
        pool = of_start if len(of_start) >= SMALLEST_POOL else of_protocol
        pools[name] += [other for other in pool if other != name]
    return pools


def moderate_seeds(pools: Mapping[str, list[str]], scores: Mapping[str, np.ndarray]) -> dict[str, SeedVariance]:
    """The variance over seeds of each method that has two at least, from the `scores` (seeds,) on one task by method.

    It is moderated by those of its pool that have two seeds too.
    """
    enough = {name: values for name, values in scores.items() if len(values) > 1}
    variances = {name: float(values.var(ddof=1)) for name, values in enough.items()}
    dfs = {name: len(values) - 1.0 for name, values in enough.items()}
    return {
        name: moderate_by_name({one: variances[one] for one in pool if one in enough}, dfs)[name]
        for name, pool in pools.items()
        if name in enough
    }
