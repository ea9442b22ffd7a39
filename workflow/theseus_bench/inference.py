"""Tests, intervals and effect sizes, on plain arrays of scores.

The primary comparison of two methods is paired over seeds and examples at once, as the multi-bootstrap (Sellam et al.
2022) is. Its percentiles are not used for the verdict: with five seeds they reject a true null hypothesis anywhere from
0 to 15 times in a hundred, since the bootstrap over few seeds is too narrow and counts the interaction of seeds and
examples twice. `conclude` takes the parts of the variance apart instead, as a crossed design allows (Owen 2007), and
uses Student's t with the degrees of freedom of Satterthwaite (1946). Both are given. From three seeds on a test holds
the first to its α; with two it is rough, and where seeds hardly differ it rejects less often than α.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

QUARTER = 0.25  # what the interquartile mean leaves out on either side


@dataclass(frozen=True)
class Spread:
    """A difference on one task, and the parts of its variance (points²).

    `seeds_part`: what the seeds say of a mean over seeds, their interaction with the examples included. None for one
    seed. `examples_part`: what is left to the examples, whatever the seed.
    """

    difference: float
    seeds: int
    examples: int
    seeds_part: float | None
    examples_part: float


@dataclass(frozen=True)
class Conclusion:
    """A tested difference (points): its standard error, degrees of freedom (None: no error), interval and p."""

    difference: float
    error: float
    df: float | None
    low: float
    high: float
    p: float


def spread_of(observed: np.ndarray, resampled: np.ndarray, examples: int) -> Spread:
    """The parts of the variance of a mean difference over seeds.

    `observed` (seeds,): the difference on the whole dev set; `resampled` (resamples, seeds): the same on resampled
    examples. Of the variance over examples of the mean over seeds, the share that differs between seeds is the
    interaction; the variance between the observed differences has it too, so it is counted there alone. Both are
    estimates, and with few seeds the second may be near zero by chance: the whole is never less than the examples' own.
    """
    seeds = len(observed)
    over_examples = float(resampled.mean(axis=1).var(ddof=1)) * examples / (examples - 1)
    if seeds == 1:
        return Spread(float(observed[0]), 1, examples, None, over_examples)
    apart = resampled - resampled.mean(axis=1, keepdims=True)
    interaction = float(apart.var(axis=0, ddof=1).sum()) / (seeds - 1) / seeds
    seeds_part = float(observed.var(ddof=1)) / seeds
    examples_part = over_examples - min(interaction, seeds_part, over_examples)
    return Spread(float(observed.mean()), seeds, examples, seeds_part, examples_part)


def conclude(spreads: Sequence[Spread], alpha: float) -> Conclusion:
    """The mean difference over tasks (one or more, trained and drawn apart) with its 1 − α interval and p.

    A task with one seed contributes its examples alone: the conclusion is then about these very models.
    """
    parts = [(s.seeds_part or 0.0, s.seeds - 1) for s in spreads] + [(s.examples_part, s.examples - 1) for s in spreads]
    variance = sum(part for part, _ in parts) / len(spreads) ** 2
    difference = sum(s.difference for s in spreads) / len(spreads)
    if variance == 0:  # the two agree on every example, or differ by a constant
        return Conclusion(difference, 0.0, None, difference, difference, float(difference == 0))
    weights = sum(part**2 / df for part, df in parts if part > 0) / len(spreads) ** 4
    df, error = variance**2 / weights, math.sqrt(variance)
    reach = float(stats.t.isf(alpha / 2, df)) * error
    p = 2 * float(stats.t.sf(abs(difference) / error, df))
    return Conclusion(difference, error, df, difference - reach, difference + reach, p)


def multi_bootstrap(resampled: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mean differences (resamples,) with the seeds resampled too (Sellam et al. 2022, section 3)."""
    seeds = resampled.shape[1]
    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(resampled)) / seeds
    return np.einsum("rs,rs->r", resampled, weights)


def percentiles(draws: np.ndarray, alpha: float) -> tuple[float, float, float]:
    """Percentile interval of bootstrap draws, and the p at which it would just leave zero out."""
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    return float(low), float(high), min(1.0, 2 * (float(tail) + 1) / (len(draws) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p adjusted for a family of tests (Holm 1979), in the order given."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def pairs_needed(alpha: float, family: int = 1) -> int:
    """How many pairs a two-sided signed test needs to be able to reach α first in a Holm family.

    All n differences having one sign has probability 2 / 2ⁿ; that is the smallest p of the sign-flip permutation test
    and of Wilcoxon's signed ranks.
    """
    return math.ceil(math.log2(2 * family / alpha) - 1e-9)


def mcnemar(right: np.ndarray, other: np.ndarray) -> float:
    """p of McNemar's exact test that two models are right equally often: both (examples,) bool."""
    gained, lost = int((right & ~other).sum()), int((other & ~right).sum())
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def welch(scores: np.ndarray, others: np.ndarray) -> float | None:
    """p of Welch's t test over seeds; None where it is not defined: under two seeds, or no spread at all."""
    if min(len(scores), len(others)) < 2 or (np.ptp(scores) == 0 and np.ptp(others) == 0):
        return None
    mine, his = ((values.mean(), values.std(ddof=1), len(values)) for values in (scores, others))
    return float(stats.ttest_ind_from_stats(*mine, *his, equal_var=False).pvalue)


def sign_flip(differences: np.ndarray) -> float:
    """p of the paired permutation test over seeds: the mean under all 2ⁿ choices of signs; 10,000 from n = 14."""
    result = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=10_000, vectorized=True, rng=0
    )
    return float(result.pvalue)


def signed_ranks(differences: np.ndarray) -> float | None:
    """p of Wilcoxon's signed-rank test over tasks, exact where there are no ties; None where all are equal."""
    return None if not np.any(differences) else float(stats.wilcoxon(differences).pvalue)


def friedman(scores: np.ndarray) -> float | None:
    """p of Friedman's test that methods (columns) rank alike over tasks (rows); None under three methods or two tasks.

    Its χ² is an approximation, poor for fewer than about ten tasks.
    """
    tasks, methods = scores.shape
    if methods < 3 or tasks < 2 or all(np.ptp(row) == 0 for row in scores):
        return None
    return float(stats.friedmanchisquare(*scores.T).pvalue)


def tasks_needed(alpha: float, methods: int) -> int:
    """How many tasks Friedman's test needs to reach α: where all rank alike its χ² is tasks · (methods − 1)."""
    return math.ceil(float(stats.chi2.isf(alpha, methods - 1)) / (methods - 1) - 1e-9)


def hedges_g(scores: np.ndarray, others: np.ndarray) -> float | None:
    """Standardised mean difference with Hedges' correction (1981); None without a spread to standardise by."""
    df = len(scores) + len(others) - 2
    if min(len(scores), len(others)) < 2 or (np.ptp(scores) == 0 and np.ptp(others) == 0):
        return None
    pooled = math.sqrt(((len(scores) - 1) * scores.var(ddof=1) + (len(others) - 1) * others.var(ddof=1)) / df)
    return float((scores.mean() - others.mean()) / pooled * (1 - 3 / (4 * df - 1)))


def improvement(scores: Sequence[np.ndarray], others: Sequence[np.ndarray], alpha: float, resamples: int):
    """Probability that a run of the first method beats one of the other, mean over tasks (Agarwal et al. 2021, eq. 1).

    One array of seeds' scores for each task. Ties count half. (value, low, high): the interval is a bootstrap over the
    seeds within each task; None for both ends where a task has one seed.
    """
    random = np.random.default_rng(0)
    value, draws = 0.0, np.zeros(resamples)
    for ours, theirs in zip(scores, others, strict=True):
        wins = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
        value += wins.mean() / len(scores)
        mine = random.multinomial(len(ours), np.full(len(ours), 1 / len(ours)), size=resamples) / len(ours)
        his = random.multinomial(len(theirs), np.full(len(theirs), 1 / len(theirs)), size=resamples) / len(theirs)
        draws += np.einsum("rs,st,rt->r", mine, wins, his, optimize=True) / len(scores)
    return float(value), *_ends(draws, alpha, [*scores, *others])


def interquartile_mean(scores: Sequence[np.ndarray], alpha: float, resamples: int):
    """Mean of the middle half of all runs of a method over tasks and seeds (Agarwal et al. 2021): (value, low, high).

    One array of seeds' values for each task; the interval is a bootstrap over the seeds within each task.
    """
    value = float(stats.trim_mean(np.concatenate(scores), QUARTER))
    draws = stats.trim_mean(np.hstack(_within_tasks(scores, resamples)), QUARTER, axis=1)
    return value, *_ends(draws, alpha, scores)


def performance_profile(scores: Sequence[np.ndarray], thresholds: np.ndarray, alpha: float, resamples: int):
    """Share of a method's runs with at least each of the `thresholds` (Agarwal et al. 2021): three arrays like them.

    Value, low and high; the band is pointwise, a bootstrap over the seeds within each task.
    """

    def shares(values: np.ndarray) -> np.ndarray:
        return np.stack([(values >= threshold).mean(axis=-1) for threshold in thresholds], axis=-1)

    value = shares(np.concatenate(scores))
    if min(map(len, scores)) < 2:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    draws = shares(np.hstack(_within_tasks(scores, resamples)))
    return value, *np.quantile(draws, [alpha / 2, 1 - alpha / 2], axis=0)


def _within_tasks(scores: Sequence[np.ndarray], resamples: int) -> list[np.ndarray]:
    """The seeds of each task resampled: (resamples, seeds) for each."""
    random = np.random.default_rng(0)
    return [values[random.integers(len(values), size=(resamples, len(values)))] for values in scores]


def _ends(draws: np.ndarray, alpha: float, strata: Sequence[np.ndarray]) -> tuple[float | None, float | None]:
    """The percentile interval; none where some stratum has a single seed, whose spread is not known."""
    if min(map(len, strata)) < 2:
        return None, None
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)
