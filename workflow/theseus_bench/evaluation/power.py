"""What a number of seeds can show: the smallest difference that the test of this project finds four times in five."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats, slow to import, loads where it is first used

from theseus_bench.data.tasks import Task
from theseus_bench.evaluation.families import list_families, macro_tasks, primary_target
from theseus_bench.evaluation.pairs import list_comparisons
from theseus_bench.evaluation.significance_file import PRIMARY
from theseus_bench.evaluation.statistics import FEWEST, moderate, weigh
from theseus_bench.evaluation.variances import list_pools
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.workload import ROWS
from theseus_bench.wording import count_noun, format_number

POWER = 0.8
DRAWS = 2000  # of a simulation; the result then varies by some hundredths of itself
DEVIATION = 1.0  # points, of a task's score over seeds, where no finished runs tell: small tasks have more
DISAGREEMENT = 0.1  # share of dev examples on which one of two models is right and the other wrong


@dataclass(frozen=True)
class TaskPower:
    """What is assumed, or known, of a task."""

    examples: int  # of its dev set
    deviation: float = DEVIATION  # of the score over seeds, in points


def smallest_difference(tasks: Sequence[TaskPower], seeds: int, methods: int, alpha: float) -> float | None:
    """Points by which the mean over `tasks` of two methods must differ to be found with a probability of `POWER`.

    Both have `seeds` seeds, beside others by whose variances theirs are moderated (`methods` in all). By simulation of
    the seeds: what a draw needs to be found is the reach of its interval less its error. Of the examples, the variance
    is taken as known, and the methods as equally stable. None below the seeds that are tested.
    """
    if seeds < FEWEST:
        return None
    random, noise = np.random.default_rng(0), np.zeros(DRAWS)
    variance, weights = np.zeros(DRAWS), np.zeros(DRAWS)  # of the difference, and of Satterthwaite's degrees of freedom
    for task in tasks:
        examples_part = 100**2 * DISAGREEMENT / task.examples
        scores = random.normal(0, task.deviation, (DRAWS, methods, seeds))
        own_dfs = np.full(methods, seeds - 1.0)
        moderated = moderate(scores.var(axis=-1, ddof=1), own_dfs)
        noise += scores[:, 0].mean(axis=-1) - scores[:, 1].mean(axis=-1) + random.normal(0, examples_part**0.5, DRAWS)
        parts = [(moderated.variances[:, k] / seeds, moderated.dfs[:, k]) for k in (0, 1)]
        sources = [(part / seeds, df) for part, df in zip(moderated.sources[:, :2].sum(axis=1).T, own_dfs, strict=True)]
        variance += sum(part for part, _ in parts) + examples_part
        weights += weigh(parts, sources) + examples_part**2 / (task.examples - 1)
    reach = scipy.stats.t.isf(alpha / 2, variance**2 / weights) * np.sqrt(variance)
    return float(np.quantile(reach - noise, POWER)) / len(tasks)


def describe_power(plan: Plan, experiment: str, records: Iterable[RunRecord]) -> list[str]:
    """Lines on what an experiment's seeds can show; a task's deviation over seeds is that of the finished `records`."""
    definition, alpha = plan.suite.experiments[experiment], plan.suite.significance.alpha
    seeds, methods = len(plan.experiment_seeds(definition)), _smallest_pool(plan, experiment)
    tasks = {task.name: _power_of(plan, task, records) for task in plan.experiment_tasks(definition)}
    title = f"{experiment}, {count_noun(seeds, 'seed')}"
    if seeds < FEWEST:
        return [f"{title}: nothing is tested below {FEWEST}"]
    lines, target = [], primary_target(plan, experiment)
    own = [family for family in list_families(plan, experiment).values() if family.experiment == experiment]
    tests = max(Counter(family for family in own if family.name == PRIMARY).values(), default=0)
    if tests:
        names = macro_tasks(plan, experiment).get(target, [target])
        points = smallest_difference([tasks[name] for name in names], seeds, methods, alpha / tests)
        difference = f"a difference in {target} of {format_number(points or 0, 1)} points"
        lines.append(f"{title}: {difference} is found four times in five, in a family of {tests}")
    alone = {name: smallest_difference([power], seeds, methods, alpha) for name, power in tasks.items()}
    texts = [f"{plan.tasks[name].label} {format_number(points or 0, 1)}" for name, points in alone.items()]
    lines.append(f"{title}: on one task alone, untouched by a family: {', '.join(texts)}")
    lines.append(f"{title}: a permutation test over the seeds says p = {least_permutation_p(seeds):.2g} at the least")
    return lines


def _smallest_pool(plan: Plan, experiment: str) -> int:
    """How many methods moderate each other, two at least, where the fewest of those that are compared do."""
    pools = list_pools(plan, plan.experiment_names(experiment), plan.trained_tasks[0])
    compared = {name for pair in list_comparisons(plan, experiment) for name in (pair.name, pair.other)}
    return max(2, min((len(pools[name]) for name in compared), default=0))


def least_permutation_p(seeds: int) -> float:
    """The smallest p that a permutation test over so many seeds can give: all differences have one sign."""
    return float(min(1.0, 2.0 ** (1 - seeds)))


def _power_of(plan: Plan, task: Task, records: Iterable[RunRecord]) -> TaskPower:
    """The size of the task's dev set, and the median over methods of the deviation of their finished runs."""
    scores = defaultdict(list)
    for record in records:
        if record.task == task.name and record.dev_score is not None:
            scores[record.method, record.variant].append(100 * record.dev_score)
    deviations = [statistics.stdev(values) for values in scores.values() if len(values) >= FEWEST]
    examples = sum(task.rows.get(split, 0) for split in task.dev) or ROWS
    if plan.suite.data.rows:
        examples = len(task.dev) * max(plan.suite.data.rows // 3, 64)
    return TaskPower(examples, statistics.median(deviations) if deviations else DEVIATION)
