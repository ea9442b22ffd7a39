"""Tests, intervals and effect sizes, on plain arrays of scores.

The primary comparison of two methods is over seeds and examples at once: `conclude` takes the parts of the variance of
a difference apart, as a crossed design allows (Owen 2007), and uses Student's t with the degrees of freedom of
Satterthwaite (1946). Examples are paired. Seeds are not: either method's seeds have a variance of their own, so that
the difference is that of the means which the tables show. Few seeds that agree by chance must not pass for certainty,
in the tail least of all, where a family of tests looks. So each variance over seeds is moderated by those of other
methods on the same task (Smyth 2004), but only ever upwards: a method that is less stable than they are keeps what its
own seeds say. A difference has no more degrees of freedom than the seeds that its two variances rest on. Below `FEWEST`
seeds nothing is tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy  # scipy.stats, slow to import, loads where it is first used: who reads tests' results does without

FEWEST = 3  # seeds of either method, below which nothing is tested
PRIOR = 2  # the weight of the other methods' variances, in multiples of a method's own degrees of freedom
Interval = tuple[float, float]  # its ends
Parts = Sequence[tuple[Any, Any]]  # of a variance, numbers or arrays of a shape, with their degrees of freedom
QUARTER = 0.25  # what the interquartile mean leaves out on either side


@dataclass(frozen=True)
class SeedVariance:
    """A method's variance over seeds (points²) and its degrees of freedom, as `moderate` makes them.

    `sources`: by method, what its seeds contribute to that variance, and their own degrees of freedom.
    """

    variance: float
    df: float
    sources: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Moderated:
    """Variances over seeds (..., methods), their degrees of freedom (..., methods), and what they are made of.

    `sources` (..., methods, methods): of each method's variance, what the seeds of each contribute.
    """

    variances: np.ndarray
    dfs: np.ndarray
    sources: np.ndarray


@dataclass(frozen=True)
class Spread:
    """A difference on one task, and the parts of its variance (points²), each of seeds with its degrees of freedom.

    `seeds_parts`: what either method's seeds say of its mean over seeds, their interaction with the examples included.
    `examples_part`: what is left to the examples, whatever the seed.
    """

    difference: float
    examples: int
    seeds_parts: tuple[tuple[float, float], ...]
    examples_part: float


@dataclass(frozen=True)
class Conclusion:
    """A tested difference (points): its standard error, degrees of freedom (None: no error), and p."""

    difference: float
    error: float
    df: float | None
    p: float


def moderate(variances: np.ndarray, dfs: np.ndarray) -> Moderated:
    """The `variances` over seeds (..., methods; points²) of one task, with `dfs` (methods,), moderated by each other.

    A method's prior is the winsorised mean of the others' variances (from four others on; a drawn-in value still
    counts as from its method's seeds), with `PRIOR` times the degrees of freedom of its own, but no more than the
    others have together. Its variance becomes the mean of its own and the prior, weighted by these degrees, and has
    their sum; one that is above its prior stays as it is.
    """
    variances, dfs = np.asarray(variances, float), np.asarray(dfs, float)
    methods = variances.shape[-1]
    new_dfs = np.broadcast_to(dfs, variances.shape).copy()
    sources = np.eye(methods) * variances[..., None, :]
    for method in range(methods) if methods > 1 else ():
        others = np.arange(methods) != method
        shares = _winsorise(variances[..., others]) / (methods - 1)
        shares /= _winsorised_mean_of_ones(methods - 1, float(np.median(dfs[others])))
        weight, df = min(PRIOR * dfs[method], dfs[others].sum()), dfs[method]
        below = variances[..., method] < shares.sum(axis=-1) * (1 - 1e-9)  # what is equal is so but for rounding
        sources[..., method, others] = np.where(below[..., None], shares * weight / (weight + df), 0.0)
        sources[..., method, method] *= np.where(below, df / (weight + df), 1.0)
        new_dfs[..., method] += np.where(below, weight, 0.0)
    return Moderated(sources.sum(axis=-1), new_dfs, sources)


def moderate_by_name(variances: Mapping[str, float], dfs: Mapping[str, float]) -> dict[str, SeedVariance]:
    """The variances over seeds of the methods of one task, by name, moderated by each other."""
    own_dfs = np.array([dfs[name] for name in variances])
    moderated = moderate(np.array(list(variances.values())), own_dfs)
    sources = [
        dict(zip(variances, zip(row, own_dfs.tolist(), strict=True), strict=True)) for row in moderated.sources.tolist()
    ]
    values = zip(moderated.variances.tolist(), moderated.dfs.tolist(), sources, strict=True)
    return {name: SeedVariance(*value) for name, value in zip(variances, values, strict=True)}


def _winsorise(values: np.ndarray) -> np.ndarray:
    """The values (..., methods) with the outer quarters drawn in to the next."""
    count = values.shape[-1] // 4
    sorted_values = np.sort(values, axis=-1)
    return np.asarray(np.clip(values, sorted_values[..., [count]], sorted_values[..., [-count - 1]]))


@cache
def _winsorised_mean_of_ones(methods: int, df: float) -> float:
    """The mean of winsorised estimates of a variance of 1: less than 1; by simulation, to one in two hundred."""
    if methods < 4:
        return 1.0
    return float(_winsorise(np.random.default_rng(0).chisquare(df, size=(40_000, methods)) / df).mean())


def spread_of(
    scores: tuple[np.ndarray, np.ndarray],
    tables: tuple[np.ndarray, np.ndarray],
    variances: tuple[SeedVariance, SeedVariance],
    examples: int,
    share: float = 1.0,
) -> Spread:
    """The difference of two means over seeds, first less `share` times the second, and the parts of its variance.

    Of either method: `scores` (seeds,) on the whole dev set, `tables` (resamples, seeds) the same on resampled
    examples, `variances` what its seeds and those of its pool say. Of the variance over examples, what differs
    between seeds is the interaction; the variance between the seeds' scores has it too, so it is counted there alone.
    All are estimates: the whole is never less than the examples' own.
    """
    factors = (1.0, share)
    means = [factor * table.mean(axis=1, dtype=float) for factor, table in zip(factors, tables, strict=True)]
    over_examples = float((means[0] - means[1]).var(ddof=1)) * examples / (examples - 1)
    interaction = 0.0
    for factor, values, table in zip(factors, scores, tables, strict=True):
        seeds = len(values)
        apart = table - table.mean(axis=1, keepdims=True)
        interaction += factor**2 * float(apart.var(axis=0, ddof=1).sum()) / (seeds - 1) / seeds
    parts = parts_of_seeds((variances[0], 1 / len(scores[0])), (variances[1], share**2 / len(scores[1])))
    examples_part = over_examples - min(interaction, sum(part for part, _ in parts), over_examples)
    return Spread(float(scores[0].mean() - share * scores[1].mean()), examples, parts, examples_part)


def parts_of_seeds(*terms: tuple[SeedVariance, float]) -> tuple[tuple[float, float], ...]:
    """What the seeds of each method add to the variance of a mean or of a difference, with its degrees of freedom.

    `terms`: a method's variance over seeds, and its factor; 1 / seeds in a mean over seeds. The parts have no more
    degrees of freedom in all than the seeds that they rest on.
    """
    parts, sources = [], dict[str, tuple[float, float]]()
    for variance, factor in terms:
        parts.append((factor * variance.variance, variance.df))
        for name, (part, df) in variance.sources.items():
            sources[name] = (sources.get(name, (0.0, df))[0] + factor * part, df)
    weight = sum(part**2 / df for part, df in parts)
    scale = weight / float(weigh(parts, list(sources.values()))) if weight else 1.0
    return tuple((part, df * scale) for part, df in parts)


def weigh(parts: Parts, sources: Parts) -> np.ndarray:
    """The sum of part² / df over the independent parts of a variance, which Satterthwaite divides by.

    Two moderated variances may rest on the same seeds, or on few wild ones: it is the sum over their `sources`, the
    methods' own variances, where that is more.
    """
    weight, least = (np.asarray(sum(np.square(part) / df for part, df in kind)) for kind in (parts, sources))
    return np.where(least > weight, least, weight)


def conclude(spreads: Sequence[Spread]) -> Conclusion:
    """The mean difference over tasks (one or more, trained and drawn apart) with its standard error and p."""
    parts = [part for s in spreads for part in (*s.seeds_parts, (s.examples_part, s.examples - 1))]
    difference = sum(s.difference for s in spreads) / len(spreads)
    error, df = _error_of([(part / len(spreads) ** 2, df) for part, df in parts])
    if df is None:  # the two agree on every example, or differ by a constant
        return Conclusion(difference, 0.0, None, float(difference == 0))
    return Conclusion(difference, error, df, 2 * float(scipy.stats.t.sf(abs(difference) / error, df)))


def _error_of(parts: Sequence[tuple[float, float]]) -> tuple[float, float | None]:
    """The standard error and Satterthwaite's degrees of freedom of parts of a variance; (0, None) of none."""
    variance = sum(part for part, _ in parts)
    weights = sum(part**2 / df for part, df in parts if part > 0)
    return math.sqrt(variance), variance**2 / weights if variance > 0 else None


def interval(conclusion: Conclusion, level: float, bounds: Interval = (-math.inf, math.inf)) -> Interval:
    """The 1 − `level` interval of a difference, (low, high), within `bounds`."""
    reach = 0.0 if conclusion.df is None else float(scipy.stats.t.isf(level / 2, conclusion.df)) * conclusion.error
    return max(conclusion.difference - reach, bounds[0]), min(conclusion.difference + reach, bounds[1])


def t_interval(difference: float, parts: Sequence[tuple[float, float]], level: float) -> Interval:
    """The 1 − `level` interval of a difference whose variance has these parts with their degrees of freedom."""
    error, df = _error_of(parts)
    return interval(Conclusion(difference, error, df, math.nan), level)


def adjust_family(
    conclusions: Sequence[Conclusion], alpha: float, bounds: Sequence[Interval], tests: int
) -> tuple[list[float], list[Interval]]:
    """Of a family of `tests` differences: p adjusted by Holm, and 1 − α intervals that hold together, (low, high) each.

    The intervals are Bonferroni's; where Holm, which is the stronger, finds a difference that they leave open, they end
    at zero. So an interval leaves zero out, or ends there, exactly where the adjusted p is below α.
    """
    p_values = holm([conclusion.p for conclusion in conclusions], tests)
    intervals = []
    for conclusion, p, limits in zip(conclusions, p_values, bounds, strict=True):
        low, high = interval(conclusion, alpha / tests, limits)
        if p < alpha:
            low, high = (max(low, 0.0), high) if conclusion.difference > 0 else (low, min(high, 0.0))
        intervals.append((low, high))
    return p_values, intervals


def holm(p_values: Sequence[float], tests: int) -> list[float]:
    """p adjusted for a family of so many tests (Holm 1979), in the order given.

    Tests that cannot be made yet are without a p here and count as if theirs was 1; what they turn out to be can make
    the adjusted p of the others smaller, not larger, as long as those p stay.
    """
    results, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (tests - rank) * p_values[index]))
        results[index] = largest
    return results


def pairs_needed(alpha: float, family: int = 1) -> int:
    """How many pairs a two-sided signed test needs to be able to reach α first in a Holm family.

    All n differences having one sign has probability 2 / 2ⁿ; that is the smallest p of the sign-flip permutation test
    and of Wilcoxon's signed ranks.
    """
    return math.ceil(math.log2(2 * family / alpha) - 1e-9)


def mcnemar(right: np.ndarray, other: np.ndarray) -> float:
    """p of McNemar's exact test that two models are right equally often: both (examples,) bool."""
    gains, losses = int((right & ~other).sum()), int((other & ~right).sum())
    return float(scipy.stats.binomtest(gains, gains + losses).pvalue) if gains + losses else 1.0


def welch(scores: np.ndarray, other_scores: np.ndarray) -> float | None:
    """p of Welch's t test over seeds; None where it is not defined: under two seeds, or no spread at all."""
    if min(len(scores), len(other_scores)) < 2 or (np.ptp(scores) == 0 and np.ptp(other_scores) == 0):
        return None
    first, second = ((values.mean(), values.std(ddof=1), len(values)) for values in (scores, other_scores))
    return float(scipy.stats.ttest_ind_from_stats(*first, *second, equal_var=False).pvalue)


def sign_flip(differences: np.ndarray) -> float:
    """p of the paired permutation test over seeds: the mean under all 2ⁿ choices of signs; 10,000 from n = 14."""
    result = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=10_000, vectorized=True, rng=0
    )
    return float(result.pvalue)


def signed_ranks(differences: np.ndarray) -> float | None:
    """p of Wilcoxon's signed-rank test over tasks, exact where there are no ties; None where all are equal."""
    return None if not np.any(differences) else float(scipy.stats.wilcoxon(differences).pvalue)


def friedman(scores: np.ndarray) -> float | None:
    """p of Friedman's test that methods (columns) rank alike over tasks (rows); None under three methods or two tasks.

    Its χ² is an approximation, poor for fewer than about ten tasks.
    """
    tasks, methods = scores.shape
    if methods < 3 or tasks < 2 or all(np.ptp(row) == 0 for row in scores):
        return None
    return float(scipy.stats.friedmanchisquare(*scores.T).pvalue)


def tasks_needed(alpha: float, methods: int) -> int:
    """How many tasks Friedman's test needs to reach α: where all rank alike its χ² is tasks · (methods − 1)."""
    return math.ceil(float(scipy.stats.chi2.isf(alpha, methods - 1)) / (methods - 1) - 1e-9)


def hedges_g(scores: np.ndarray, other_scores: np.ndarray) -> float | None:
    """Standardised mean difference with Hedges' correction (1981); None without a spread to standardise by."""
    df = len(scores) + len(other_scores) - 2
    if min(len(scores), len(other_scores)) < 2 or (np.ptp(scores) == 0 and np.ptp(other_scores) == 0):
        return None
    deviation = math.sqrt(
        ((len(scores) - 1) * scores.var(ddof=1) + (len(other_scores) - 1) * other_scores.var(ddof=1)) / df
    )
    return float((scores.mean() - other_scores.mean()) / deviation * (1 - 3 / (4 * df - 1)))


def improvement(scores: Sequence[np.ndarray], other_scores: Sequence[np.ndarray]) -> float:
    """Probability that a run of the first method beats one of the other, mean over tasks (Agarwal et al. 2021, eq. 1).

    One array of seeds' scores for each task. Ties count half. It has no interval: that of the paper, a bootstrap over
    the seeds, covers with few of them much less than it says.
    """
    wins = [
        np.mean((first[:, None] > second) + 0.5 * (first[:, None] == second))
        for first, second in zip(scores, other_scores, strict=True)
    ]
    return float(np.mean(wins))


def interquartile_mean(scores: Sequence[np.ndarray]) -> float:
    """Mean of the middle half of all runs of a method over tasks and seeds (Agarwal et al. 2021), for each task an
    array of seeds' values. It has no interval, for the reason that `improvement` has none."""
    return float(scipy.stats.trim_mean(np.concatenate(scores), QUARTER))


def performance_profile(scores: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """Share of a method's runs with at least each of the `thresholds` (Agarwal et al. 2021), an array like them."""
    values = np.concatenate(scores)
    return np.array([(values >= threshold).mean() for threshold in thresholds])
