"""Whether families of tests keep their promises: how often a difference is found where there is none.

    python benchmarks/families.py

Scores are simulated, most of them as normal deviates with the same parts as those of simulated predictions: that is a
thousand times as fast.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from theseus_bench.evaluation import statistics

FAMILIES = {
    "as the seeds' ratio says": {},
    "one baseline 4 times": {"wild": 3},
    "the proposed method 4 times": {"wild": 0},
    "tasks as uneven as GLUE's": {"uneven": True},
    "a tenth of seeds fails on half of the tasks": {"failing": 0.1},
    "all of it: uneven, a baseline 4 times, a twentieth fails": {"uneven": True, "wild": 3, "failing": 0.05},
    "four of a start, the rest of another and 10 times": {"of_start": 4},
    "the same, and a baseline of the four 4 times": {"of_start": 4, "wild": 3},
    "the same, and the proposed method 4 times": {"of_start": 4, "wild": 0},
}


def measure_families(n: int = 20_000) -> None:
    """Family-wise errors by simulation: of the primary family, the macros, and of the secondary one, the tasks."""
    print(
        "| spread | seeds | ratio | tasks: p < .05 | p < .0006 | tasks, Holm | macros, Holm | before: tasks | macros |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    rows = [(words, changes, ratio) for words, changes in FAMILIES.items() for ratio in (0, 1, 3, 10)]
    rows += [("accuracies of 277 examples", {"discrete": True}, spread) for spread in (0.0, 0.15, 0.4)]
    rows += [("accuracies, a baseline 4 times", {"discrete": True, "wild": 3}, spread) for spread in (0.05, 0.15)]
    for words, changes, ratio in rows:
        for seeds in (3, 5, 10):
            design = Design(seeds, ratio, **changes)
            size, chunk = (2_000, 50) if design.discrete else (n, 1000)
            alarms, before = (count_alarms(design, size, moderated, chunk) for moderated in (True, False))
            cells = [f"{alarms[key]:.{digits}f}" for key, digits in (("task_05", 3), ("task_0006", 4))]
            cells += [_with_interval(one[key], size) for one in (alarms, before) for key in ("tasks", "macro")]
            print(f"| {words} | {seeds} | {ratio:g} | {' | '.join(cells)} |", flush=True)
    for seeds, ratio in itertools.product((3, 5, 10), (1, 3)):
        powers = [power(Design(seeds, ratio), 2000, moderated) for moderated in (True, False)]
        print(
            f"{seeds} seeds, ratio {ratio}, true macro differences of three errors: found {powers[0]:.3f}, before "
            f"{powers[1]:.3f}"
        )
    for seeds in (3, 5, 10):
        print(
            f"{seeds} seeds, four of eight differ: all intervals hold together in "
            f"{joint_coverage(seeds, 1.0, 2000):.3f}"
        )


@dataclass(frozen=True)
class Design:
    """Experiments without a difference: 9 methods, the first of which meets the others, on 9 tasks (8 in the macro).

    `ratio`: the variance of a difference's mean over seeds, as a multiple of its variance over examples, which is 1.
    `wild`: the method whose seeds spread four times as much. `uneven`: tasks differ in all their spreads, as GLUE's do.
    `failing`: the share of seeds on half of the tasks that fall by ten standard errors of the examples. `discrete`: the
    scores are accuracies on 277 examples, and `ratio` the seeds' spread in skill. `of_start`: how many methods, from
    the first on, start alike, where the seeds of those that start from another model spread ten times as much.
    """

    seeds: int
    ratio: float
    wild: int | None = None
    uneven: bool = False
    failing: float = 0.0
    discrete: bool = False
    of_start: int | None = None

    METHODS = 9
    TASKS = 9
    EXAMPLES = 277
    INTERACTION = 0.25  # of a method's seeds with the examples, beside its share of 0.5 in the variance over examples
    UNEVEN = (1.0, 0.3, 0.8, 0.3, 0.1, 0.15, 0.2, 1.5, 3.0)


@dataclass(frozen=True)
class Experiments:
    """Simulated experiments: scores (n, methods, tasks, seeds), the variance over examples of the mean difference from
    the first method (n, methods - 1, tasks), and the interaction in each method's mean (n, methods, tasks)."""

    scores: np.ndarray
    over_examples: np.ndarray
    interaction: np.ndarray


def draw(design: Design, n: int, random: np.random.Generator) -> Experiments:
    """`n` experiments of the design."""
    shape = (n, design.METHODS, design.TASKS, design.seeds)
    wild = np.ones(design.METHODS)
    if design.wild is not None:
        wild[design.wild] = 4
    if design.of_start is not None:
        wild[design.of_start :] = 10
    if design.discrete:
        parts = [_draw_accuracies(design, n, random, wild) for _ in range(design.TASKS)]
        return Experiments(*(np.stack(values, axis=2) for values in zip(*parts, strict=True)))
    skill = np.sqrt(design.ratio * design.seeds / 2) * wild[:, None, None] * random.normal(size=shape)
    noise = np.sqrt(design.INTERACTION) * random.normal(size=shape)
    scores = np.sqrt(0.5) * random.normal(size=shape[:3])[..., None] + skill + noise
    half = np.arange(design.TASKS) < design.TASKS // 2
    scores -= 10 * half[:, None] * (random.random(shape) < design.failing)
    scale = np.array(design.UNEVEN if design.uneven else np.ones(design.TASKS))
    df = design.EXAMPLES - 1
    over = (1 + 2 * design.INTERACTION / design.seeds) * random.chisquare(df, size=(n, 8, design.TASKS)) / df
    interaction = np.full(shape[:3], design.INTERACTION / design.seeds)
    return Experiments(scores * scale[:, None], over * scale**2, interaction * scale**2)


def _draw_accuracies(design: Design, n: int, random: np.random.Generator, wild: np.ndarray):
    """The parts of `Experiments` of one task, in points, from which examples each run of each method has right."""
    right = np.empty((n, design.METHODS, design.seeds, design.EXAMPLES), np.float32)
    for i in range(n):
        hard = random.normal(size=design.EXAMPLES) + 0.3 * random.normal(size=(design.METHODS, 1, design.EXAMPLES))
        skill = 0.55 + design.ratio * wild[:, None, None] * random.normal(size=(design.METHODS, design.seeds, 1))
        right[i] = skill + 0.7 * random.normal(size=right.shape[1:]) > hard
    mean = right.mean(axis=2)  # (n, methods, examples)
    over = 1e4 * (mean[:, :1] - mean[:, 1:]).var(axis=-1, ddof=1) / design.EXAMPLES
    apart = (right - mean[:, :, None]).var(axis=-1, ddof=1).sum(axis=2)
    interaction = 1e4 * apart / design.EXAMPLES / (design.seeds - 1) / design.seeds
    return 100 * right.mean(axis=-1), over, interaction


def p_of_families(
    experiments: Experiments, moderated: bool = True, of_start: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """p of the macro difference of each method from the first (n, 8), and of each on each task (n, 8, 9).

    As `statistics.spread_of` and `statistics.conclude` make them, for all experiments at once, the variances moderated
    by those of the same start, of which the first `of_start` methods are. Not `moderated`: with the variance of the
    differences of paired seeds alone.
    """
    scores, seeds = experiments.scores, experiments.scores.shape[-1]
    if moderated:
        variance, df, sources = _moderate(scores, of_start or Design.METHODS)
        parts = [(np.broadcast_to(variance[:, :1], variance[:, 1:].shape), df[:, :1]), (variance[:, 1:], df[:, 1:])]
        common = [(sources[:, :1, ..., k] + sources[:, 1:, ..., k], seeds - 1) for k in range(Design.METHODS)]
    else:
        parts = [((scores[:, :1] - scores[:, 1:]).var(axis=-1, ddof=1) / seeds, seeds - 1)]
        common = parts
    whole = sum(part for part, _ in parts)
    interaction = experiments.interaction[:, :1] + experiments.interaction[:, 1:]
    least = np.minimum(np.minimum(interaction, whole), experiments.over_examples)
    examples_part = experiments.over_examples - least
    difference = (scores[:, :1] - scores[:, 1:]).mean(axis=-1)
    variance = whole + examples_part
    weight = statistics.weigh(parts, common) + examples_part**2 / (Design.EXAMPLES - 1)
    return _p_of(*(values[..., :8].sum(axis=-1) for values in (difference, variance, weight))), _p_of(
        difference, variance, weight
    )


def _moderate(scores: np.ndarray, of_start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the methods' means over seeds (n, methods, tasks, seeds): the variance, its degrees of freedom, each
    (n, methods, tasks), and the sources (n, methods, tasks, methods) of the former; moderated by start."""
    seeds, own = scores.shape[-1], np.moveaxis(scores.var(axis=-1, ddof=1), 1, -1)  # (n, tasks, methods)
    variance, df, sources = np.empty_like(own), np.empty_like(own), np.zeros((*own.shape, own.shape[-1]))
    for pool in (slice(of_start), slice(of_start, None)):
        of_pool = own[..., pool]
        if of_pool.shape[-1]:
            moderated = statistics.moderate(of_pool, np.full(of_pool.shape[-1], seeds - 1.0))
            variance[..., pool], df[..., pool] = moderated.variances / seeds, moderated.dfs
            sources[..., pool, pool] = moderated.sources / seeds
    return np.moveaxis(variance, -1, 1), np.moveaxis(df, -1, 1), np.moveaxis(sources, -2, 1)


def _p_of(difference: np.ndarray, variance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * stats.t.sf(np.abs(difference) / np.sqrt(variance), variance**2 / weight)
    return np.where(variance > 0, p, difference == 0)


def count_alarms(design: Design, n: int, moderated: bool = True, chunk: int = 1000) -> dict[str, float]:
    """Of `n` experiments without a difference: the share of p below .05 and .0006 on single tasks, and the share of
    experiments in which Holm finds a difference on some task (of 72), and in some macro (of 8)."""
    random = np.random.default_rng([design.seeds, int(100 * design.ratio), int(design.discrete)])
    rates = np.zeros(5)
    for _ in range(n // chunk):
        macro, tasks = p_of_families(draw(design, chunk, random), moderated, design.of_start)
        tasks = tasks.reshape(chunk, -1)
        family = [(p.min(axis=1) < 0.05 / p.shape[1]).mean() for p in (tasks, macro)]  # Holm's first step
        rates += [(tasks < 0.05).mean(), (tasks < 0.0006).mean(), (macro < 0.05).mean(), *family]
    return dict(zip(("task_05", "task_0006", "macro_05", "tasks", "macro"), rates / (n // chunk), strict=True))


def power(design: Design, n: int, moderated: bool) -> float:
    """The share of true macro differences, of three standard errors each, that Holm finds."""
    experiments = draw(design, n, np.random.default_rng(0))
    scores = experiments.scores.copy()
    scores[:, 0] += 3 * np.sqrt((1 + design.ratio) / 8)
    macro, _ = p_of_families(replace(experiments, scores=scores), moderated)
    return float(np.mean([np.array(statistics.holm(row, 8)) < 0.05 for row in macro]))


def joint_coverage(seeds: int, ratio: float, n: int) -> float:
    """The share of experiments whose intervals of the macro differences all hold the true ones, four of them not 0."""
    experiments = draw(Design(seeds, ratio), n, np.random.default_rng(0))
    truth = np.array([0.0] * 4 + [3 * np.sqrt((1 + ratio) / 8)] * 4)
    coverage = 0
    for i in range(n):
        conclusions = []
        own = experiments.scores[i].var(axis=-1, ddof=1)
        variances = [moderate_methods(own[:, task], seeds) for task in range(8)]
        for other in range(8):
            spreads = []
            for task, of_task in enumerate(variances):
                parts = statistics.parts_of_seeds(*((of_task[m], 1 / seeds) for m in ("0", str(other + 1))))
                over = experiments.over_examples[i, other, task]
                interaction = experiments.interaction[i, 0, task] + experiments.interaction[i, other + 1, task]
                examples_variance = over - min(interaction, sum(part for part, _ in parts), over)
                difference = (experiments.scores[i, 0, task] - experiments.scores[i, other + 1, task]).mean() + truth[
                    other
                ]
                spreads.append(statistics.Spread(difference, Design.EXAMPLES, parts, examples_variance))
            conclusions.append(statistics.conclude(spreads))
        _, intervals = statistics.adjust_family(conclusions, 0.05, [(-100.0, 100.0)] * 8, 8)
        coverage += all(low <= true <= high for (low, high), true in zip(intervals, truth, strict=True))
    return coverage / n


def moderate_methods(
    variances: np.ndarray, seeds: int, of_start: int | None = None
) -> dict[str, statistics.SeedVariance]:
    """The variances over `seeds` of methods (methods,) moderated by start, by the method's number."""
    own = {str(method): variance for method, variance in enumerate(variances)}
    pools = list(own)[:of_start], list(own)[of_start:] if of_start else []
    dfs = dict.fromkeys(own, seeds - 1.0)
    by_pool = (statistics.moderate_by_name({name: own[name] for name in pool}, dfs) for pool in pools if pool)
    return {name: variance for of_pool in by_pool for name, variance in of_pool.items()}


def _with_interval(share: float, n: int) -> str:
    """A share with its 95 % binomial interval (Clopper and Pearson)."""
    low, high = stats.binomtest(round(share * n), n).proportion_ci()
    return f"{share:.3f} ({low:.3f}–{high:.3f})"


if __name__ == "__main__":
    measure_families()
