"""Tests and intervals against scipy, closed forms and enumerated cases; and their rate of false alarms."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from theseus_bench import inference
from theseus_bench.metrics import measure
from theseus_bench.resampling import resample_values

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from significance import SIMULATED, quick, simulate


def correct(seeds: int, examples: int, seed: int = 0):
    """Differences of correctness (seeds, examples) of two methods, with all parts of a crossed design."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(seeds, 1)) + random.normal(size=examples) + random.normal(size=(seeds, examples))
    return scores


def resample(differences: np.ndarray, resamples: int):
    """Means over resampled examples: (resamples, seeds)."""
    examples = differences.shape[1]
    random = np.random.default_rng(1)
    weights = random.multinomial(examples, np.full(examples, 1 / examples), size=resamples)
    return weights @ differences.T / examples


def test_variance_is_that_of_a_crossed_design():
    """Mean squares of a two-way analysis of variance without replication give the same parts."""
    differences = correct(seeds=5, examples=200)
    spread = inference.spread_of(differences.mean(axis=1), resample(differences, 20_000), 200)
    seeds, examples = differences.shape
    by_seed, by_example, mean = differences.mean(1, keepdims=True), differences.mean(0), differences.mean()
    rest = ((differences - by_seed - by_example + mean) ** 2).sum() / (seeds - 1) / (examples - 1)
    between_seeds = examples * ((by_seed - mean) ** 2).sum() / (seeds - 1)
    between_examples = seeds * ((by_example - mean) ** 2).sum() / (examples - 1)
    expected = (between_seeds + between_examples - rest) / (seeds * examples)
    assert spread.difference == pytest.approx(mean)
    assert spread.seeds_part + spread.examples_part == pytest.approx(expected, rel=0.03)
    assert inference.conclude([spread], 0.05).error == pytest.approx(expected**0.5, rel=0.02)


def test_without_examples_of_its_own_it_is_the_paired_t_test():
    observed = np.array([1.0, 2.5, 0.5, 3.0])
    still = np.tile(observed, (100, 1))  # the same on every resample
    found = inference.conclude([inference.spread_of(observed, still, 50)], 0.05)
    expected = stats.ttest_1samp(observed, 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_one_seed_has_the_error_of_its_examples():
    differences = correct(seeds=1, examples=300)
    found = inference.conclude([inference.spread_of(differences.mean(1), resample(differences, 20_000), 300)], 0.05)
    assert found.error == pytest.approx(stats.sem(differences[0]), rel=0.02)
    assert found.df == pytest.approx(299)


def test_a_macro_has_the_error_of_a_mean_of_tasks():
    spreads = [inference.Spread(2.0, 5, 100, 1.0, 3.0), inference.Spread(-1.0, 5, 400, 4.0, 8.0)]
    found = inference.conclude(spreads, 0.05)
    assert found.difference == pytest.approx(0.5)
    assert found.error == pytest.approx((1 + 3 + 4 + 8) ** 0.5 / 2)
    assert found.df == pytest.approx(16**2 / (1 / 4 + 9 / 99 + 16 / 4 + 64 / 399))


def test_models_that_agree_on_everything_do_not_differ():
    nothing = np.zeros(3)
    found = inference.conclude([inference.spread_of(nothing, np.zeros((100, 3)), 50)], 0.05)
    assert (found.difference, found.error, found.p) == (0, 0, 1)


def test_the_quick_metrics_of_the_simulation_are_the_metrics():
    random = np.random.default_rng(0)
    labels, decided = random.integers(2, size=60), random.integers(2, size=60)
    for metric in ("accuracy", "f1", "matthews"):
        assert quick(metric, decided, labels) == pytest.approx(measure(metric, decided, labels))


@pytest.mark.parametrize(
    ("task", "seeds", "runs"), [("RTE", 3, 500), ("RTE", 5, 500), ("MRPC", 3, 500), ("MRPC", 5, 500), ("CoLA", 5, 150)]
)
def test_false_alarms_are_as_rare_as_promised(task, seeds, runs):
    """Under no difference, at the size of the task's dev set, α is kept within its binomial interval."""
    examples, metrics, accuracy, positive = SIMULATED[task]
    alarms = 0
    for run in range(runs):
        random = np.random.default_rng([run, examples])
        observed, resampled = simulate(examples, seeds, metrics, accuracy, positive, 0.0, 150, random)
        alarms += inference.conclude([inference.spread_of(observed, resampled, examples)], 0.05).p < 0.05
    low, high = stats.binom.interval(0.95, runs, 0.05)
    assert low <= alarms <= high


def test_an_agreement_of_two_seeds_by_chance_is_no_certainty():
    """Two seeds with the same difference, on different examples: no more certain than their examples make it."""
    examples = 277
    won, lost = np.zeros((2, examples)), np.zeros((2, examples))
    won[0, :8], lost[0, 8:12], won[1, 20:28], lost[1, 28:32] = 1, 1, 1, 1
    differences = 100 * (won - lost)
    found = inference.conclude(
        [inference.spread_of(differences.mean(axis=1), resample(differences, 4000), examples)], 0.05
    )
    assert found.error == pytest.approx(stats.sem(differences.mean(axis=0)), rel=0.05)
    assert found.p > 0.05


@pytest.mark.parametrize(
    ("test", "size"),
    [
        (lambda random: inference.welch(random.normal(size=5), random.normal(size=5)), 0.05),
        (lambda random: inference.sign_flip(random.normal(size=6)), 2 / 64),
        (lambda random: inference.signed_ranks(random.normal(size=8)), 10 / 256),
    ],
    ids=["Welch", "sign flip", "signed ranks"],
)
def test_tests_over_seeds_and_tasks_reject_as_often_as_their_size(test, size):
    """An exact test rejects at α = 0.05 as often as the largest of its attainable sizes that is not above it."""
    runs = 600
    random = np.random.default_rng(0)
    alarms = sum(test(random) <= 0.05 for _ in range(runs))
    low, high = stats.binom.interval(0.95, runs, size)
    assert low <= alarms <= high


def test_false_alarms_of_a_macro_are_as_rare_as_promised():
    """RTE and MRPC together, trained and drawn apart."""
    runs, alarms = 400, 0
    for run in range(runs):
        spreads = []
        for task in ("RTE", "MRPC"):
            examples, metrics, accuracy, positive = SIMULATED[task]
            random = np.random.default_rng([run, examples])
            observed, resampled = simulate(examples, 5, metrics, accuracy, positive, 0.0, 150, random)
            spreads.append(inference.spread_of(observed, resampled, examples))
        alarms += inference.conclude(spreads, 0.05).p < 0.05
    low, high = stats.binom.interval(0.95, runs, 0.05)
    assert low <= alarms <= high


def test_false_alarms_of_a_correlation_are_no_more_than_promised():
    """Two methods of five seeds whose values err alike on average, at the size of RTE."""
    runs, alarms, examples = 120, 0, 277
    for run in range(runs):
        random = np.random.default_rng(run)
        labels = random.normal(size=examples)
        own = 0.4 * random.normal(size=(2, 1, examples))
        skill = 0.8 + 0.1 * random.normal(size=(2, 5, 1))
        values = (skill * labels + own + 0.5 * random.normal(size=(2, 5, examples))).reshape(10, examples)
        scores = np.array([measure("pearson", row, labels) for row in values])
        resampled = resample_values(["pearson"], values, labels, 150, random)
        spread = inference.spread_of(scores[:5] - scores[5:], resampled[:, :5] - resampled[:, 5:], examples)
        alarms += inference.conclude([spread], 0.05).p < 0.05
    assert alarms <= stats.binom.interval(0.95, runs, 0.05)[1]


def test_a_family_under_holm_has_no_more_false_alarms_than_one_test():
    random = np.random.default_rng(0)
    alarms = sum(min(inference.holm(random.random(20))) < 0.05 for _ in range(1000))
    low, high = stats.binom.interval(0.95, 1000, 0.05)
    assert low <= alarms <= high


def test_friedman_does_not_reject_more_often_than_promised():
    random = np.random.default_rng(0)
    alarms = sum(inference.friedman(random.normal(size=(8, 9))) <= 0.05 for _ in range(600))
    assert 0 < alarms <= stats.binom.interval(0.95, 600, 0.05)[1]


def test_mcnemar_does_not_reject_more_often_than_promised():
    random = np.random.default_rng(0)
    alarms = sum(inference.mcnemar(*(random.random((2, 277)) < 0.7)) <= 0.05 for _ in range(600))
    assert alarms <= stats.binom.interval(0.95, 600, 0.05)[1]


def test_a_planted_difference_is_found():
    examples, metrics, accuracy, positive = SIMULATED["RTE"]
    found = 0
    for run in range(60):
        random = np.random.default_rng(run)
        observed, resampled = simulate(examples, 5, metrics, accuracy, positive, 0.35, 200, random)
        found += inference.conclude([inference.spread_of(observed, resampled, examples)], 0.05).p < 0.05
    assert found / 60 > 0.8


def test_the_multi_bootstrap_resamples_seeds_together_with_examples():
    resampled = np.array([[0.0, 1.0], [10.0, 11.0]] * 500)
    draws = inference.multi_bootstrap(resampled, np.random.default_rng(0))
    assert set(np.round(draws[::2], 3)) == {0.0, 0.5, 1.0}
    assert set(np.round(draws[1::2], 3)) == {10.0, 10.5, 11.0}
    assert np.mean(draws[::2] == 0.5) == pytest.approx(0.5, abs=0.06)


def test_percentiles():
    draws = np.arange(-100, 901) / 10.0
    low, high, p = inference.percentiles(draws, 0.05)
    assert (low, high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
    assert p == pytest.approx(2 * (101 + 1) / (1001 + 1))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm(p_values):
    """Holm by its definition: the k-th smallest times what is left, never falling, at most 1; the order stays."""
    found = inference.holm(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    expected, largest = {}, 0.0
    for k, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - k)))
        expected[i] = largest
    assert found == pytest.approx([expected[i] for i in range(len(p_values))])


def test_holm_of_a_worked_example():
    assert inference.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(("family", "needed"), [(1, 6), (4, 8), (8, 9), (9, 9), (80, 12)])
def test_pairs_needed(family, needed):
    assert inference.pairs_needed(0.05, family) == needed
    assert family * 2 / 2**needed <= 0.05 < family * 2 / 2 ** (needed - 1)


def test_mcnemar_is_the_binomial_test_of_the_discordant():
    right = np.array([True] * 9 + [False] * 3 + [True] * 20)
    other = np.array([False] * 9 + [True] * 3 + [True] * 20)
    expected = sum(stats.binom.pmf(k, 12, 0.5) for k in range(13) if min(k, 12 - k) <= 3)
    assert inference.mcnemar(right, other) == pytest.approx(expected)
    assert inference.mcnemar(right, right) == 1.0


def test_welch():
    ours, theirs = np.array([80.1, 81.0, 80.4]), np.array([78.0, 79.9, 79.1, 78.2])
    assert inference.welch(ours, theirs) == pytest.approx(stats.ttest_ind(ours, theirs, equal_var=False).pvalue)
    assert inference.welch(ours[:1], theirs) is None
    assert inference.welch(np.array([1.0, 1.0]), np.array([1.0, 1.0])) is None


def test_sign_flip_is_enumerated():
    differences = np.array([1.0, 2.0, -0.5, 3.0, 0.7, 1.1])
    means = [np.mean(np.array(signs) * differences) for signs in itertools.product([1, -1], repeat=6)]
    expected = 2 * np.mean(np.array(means) >= differences.mean() - 1e-12)
    assert inference.sign_flip(differences) == pytest.approx(expected)
    assert inference.sign_flip(np.arange(1.0, 7.0)) == pytest.approx(2 / 64)


def test_signed_ranks_are_enumerated():
    differences = np.array([4.0, 1.0, -2.0, 3.0, 5.0])
    ranks = np.arange(1, 6)
    sums = np.array([sum(itertools.compress(ranks, kept)) for kept in itertools.product([0, 1], repeat=5)])
    expected = 2 * np.mean(sums <= 2)  # the negative one has rank 2
    assert inference.signed_ranks(differences) == pytest.approx(expected)
    assert inference.signed_ranks(np.zeros(5)) is None


def test_friedman_by_its_formula():
    scores = np.array([[1.0, 2.0, 3.0], [1.5, 2.5, 2.0], [0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    ranks = stats.rankdata(scores, axis=1)
    tasks, methods = scores.shape
    statistic = 12 * tasks / (methods * (methods + 1)) * ((ranks.mean(axis=0) - (methods + 1) / 2) ** 2).sum()
    assert inference.friedman(scores) == pytest.approx(stats.chi2.sf(statistic, methods - 1))
    assert inference.friedman(scores[:, :2]) is None
    assert inference.friedman(np.ones((4, 3))) is None


def test_tasks_that_friedmans_test_needs():
    needed = inference.tasks_needed(0.05, methods=3)
    alike = np.tile(np.arange(3.0), (needed, 1))
    assert inference.friedman(alike) <= 0.05 < inference.friedman(alike[1:])


def test_hedges_g_by_hand():
    ours, theirs = np.array([3.0, 5.0]), np.array([1.0, 2.0, 3.0])
    pooled = ((1 * 2.0 + 2 * 1.0) / 3) ** 0.5
    assert inference.hedges_g(ours, theirs) == pytest.approx((4 - 2) / pooled * (1 - 3 / 11))
    assert inference.hedges_g(ours[:1], theirs) is None
    assert inference.hedges_g(np.full(5, 52.707581227), np.full(5, 54.151581227)) is None


def test_improvement_counts_pairs_and_ties_half():
    ours, theirs = [np.array([1.0, 3.0]), np.array([5.0, 5.0])], [np.array([2.0, 3.0]), np.array([1.0, 1.0])]
    value, low, high = inference.improvement(ours, theirs, 0.05, 500)
    assert value == pytest.approx(((0 + 0 + 1 + 0.5) / 4 + 1) / 2)
    assert low <= value <= high
    assert inference.improvement([np.array([1.0])], [np.array([0.0, 2.0])], 0.05, 100)[1:] == (None, None)
    u = stats.mannwhitneyu(ours[0], theirs[0]).statistic
    assert inference.improvement(ours[:1], theirs[:1], 0.05, 100)[0] == pytest.approx(u / 4)


def test_interquartile_mean_leaves_out_a_quarter_on_either_side():
    scores = [np.array([0.0, 50.0, 60.0, 1000.0]), np.array([1.0, 40.0, 70.0, 900.0])]
    value, low, high = inference.interquartile_mean(scores, 0.05, 500)
    assert value == pytest.approx(np.mean([40, 50, 60, 70]))
    assert low < value < high


def test_performance_profile():
    scores = [np.array([90.0, 100.0]), np.array([80.0, 100.0])]
    value, low, high = inference.performance_profile(scores, np.array([70.0, 85.0, 95.0, 101.0]), 0.05, 500)
    assert list(value) == [1, 0.75, 0.5, 0]
    assert (low <= value).all()
    assert (value <= high).all()
    assert np.isnan(inference.performance_profile([np.array([1.0])], np.array([0.5]), 0.05, 10)[1]).all()
