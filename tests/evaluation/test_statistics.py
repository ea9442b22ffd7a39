"""Tests and intervals against scipy, closed forms and enumerated cases; and their rate of false alarms."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from theseus_bench.data.metrics import measure
from theseus_bench.evaluation.resampling import resample_values

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import families
from families import Design
from significance import SIMULATED_TASKS, conclude_alone, multi_bootstrap, percentile_p, quick, simulate
from theseus_bench.evaluation import statistics


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


def spread_of(scores: np.ndarray, others: np.ndarray, resamples: int = 20_000, share: float = 1.0):
    """The spread of two methods' correctness (seeds, examples), each with the variance of its own seeds."""
    examples = scores.shape[1]
    observed = scores.mean(axis=1), others.mean(axis=1)
    draws = resample(scores, resamples), resample(others, resamples)
    variances = alone("first", observed[0]), alone("second", observed[1])
    return statistics.spread_of(observed, draws, variances, examples, share)


def alone(name: str, scores: np.ndarray):
    """The variance over seeds of a method that nothing moderates."""
    variance, df = scores.var(ddof=1), len(scores) - 1
    return statistics.SeedVariance(variance, df, {name: (variance, df)})


def mean_squares(scores: np.ndarray):
    """Of a crossed design without replication (seeds, examples): the seeds', the examples' and the interaction's."""
    seeds, examples = scores.shape
    by_seed, by_example, mean = scores.mean(1, keepdims=True), scores.mean(0), scores.mean()
    rest = ((scores - by_seed - by_example + mean) ** 2).sum() / (seeds - 1) / (examples - 1)
    between_seeds = examples * ((by_seed - mean) ** 2).sum() / (seeds - 1)
    return between_seeds, seeds * ((by_example - mean) ** 2).sum() / (examples - 1), rest


def test_variance_is_that_of_a_crossed_design():
    """Mean squares of two-way analyses of variance without replication give the same parts.

    Seeds are nested in the methods, and their interaction with the examples too.
    """
    scores, others = correct(seeds=5, examples=200, seed=0), correct(seeds=4, examples=200, seed=1)
    spread = spread_of(scores, others)
    own = [mean_squares(values)[0] / values.size for values in (scores, others)]
    interaction = sum(mean_squares(values)[2] / values.size for values in (scores, others))
    means = scores.mean(axis=0) - others.mean(axis=0)
    over_examples = means.var(ddof=1) / 200
    assert spread.difference == pytest.approx(scores.mean() - others.mean())
    assert [part for part, _ in spread.seeds_parts] == pytest.approx(own)
    assert [df for _, df in spread.seeds_parts] == [4, 3]
    assert spread.examples_part == pytest.approx(over_examples - interaction, rel=0.04)
    assert statistics.conclude([spread]).error == pytest.approx(
        (sum(own) + over_examples - interaction) ** 0.5, rel=0.02
    )


def test_a_share_of_the_second_is_taken_in_all_parts():
    scores, others = correct(seeds=5, examples=200, seed=0), correct(seeds=4, examples=200, seed=1)
    spreads, expected = spread_of(scores, others, share=0.5), spread_of(scores, 0.5 * others)
    assert spreads.difference == pytest.approx(expected.difference)
    assert spreads.examples_part == pytest.approx(expected.examples_part)
    assert [part for part, _ in spreads.seeds_parts] == pytest.approx([part for part, _ in expected.seeds_parts])


def test_without_examples_of_its_own_it_is_welchs_t_test():
    observed, others = np.array([1.0, 2.5, 0.5, 3.0]), np.array([0.5, 0.2, 0.4])
    still = np.tile(observed, (100, 1)), np.tile(others, (100, 1))  # the same on every resample
    variances = alone("first", observed), alone("second", others)
    conclusion = statistics.conclude([statistics.spread_of((observed, others), still, variances, 50)])
    expected = stats.ttest_ind(observed, others, equal_var=False)
    assert conclusion.p == pytest.approx(expected.pvalue)
    assert statistics.interval(conclusion, 0.05) == pytest.approx(tuple(expected.confidence_interval()))
    assert statistics.interval(conclusion, 0.05, (0.5, 2.0)) == (0.5, 2.0)


def test_a_macro_has_the_error_of_a_mean_of_tasks():
    spreads = [statistics.Spread(2.0, 100, ((1.0, 4), (0.5, 8)), 3.0), statistics.Spread(-1.0, 400, ((4.0, 4),), 8.0)]
    conclusion = statistics.conclude(spreads)
    assert conclusion.difference == pytest.approx(0.5)
    assert conclusion.error == pytest.approx((1 + 0.5 + 3 + 4 + 8) ** 0.5 / 2)
    assert conclusion.df == pytest.approx(16.5**2 / (1 / 4 + 0.25 / 8 + 9 / 99 + 16 / 4 + 64 / 399))
    assert conclusion.p == pytest.approx(2 * stats.t.sf(0.5 / conclusion.error, conclusion.df))


def test_variances_are_moderated_upwards_by_the_others():
    """Three methods of three seeds: the prior of each is the mean of the other two, with twice its degrees of "
    "freedom."""
    moderated = statistics.moderate(np.array([1.0, 4.0, 10.0]), np.array([2.0, 2.0, 2.0]))
    assert moderated.variances == pytest.approx([(4 * 7 + 2 * 1) / 6, (4 * 5.5 + 2 * 4) / 6, 10])
    assert list(moderated.dfs) == [6, 6, 2]
    shares = [[2 * 1, 4 * 4 / 2, 4 * 10 / 2], [4 * 1 / 2, 2 * 4, 4 * 10 / 2], [0, 0, 6 * 10]]
    assert moderated.sources == pytest.approx(np.array(shares) / 6)


def test_few_others_weigh_no_more_than_what_is_known_of_them():
    moderated = statistics.moderate(np.array([1.0, 4.0]), np.array([4.0, 2.0]))
    assert moderated.variances == pytest.approx([(2 * 4 + 4 * 1) / 6, 4])
    assert list(moderated.dfs) == [6, 2]
    assert statistics.moderate(np.array([3.0]), np.array([2.0])).variances == [3.0], "nobody to learn from"


def test_seeds_that_both_variances_rest_on_count_once():
    """Of two methods that moderate each other, by hand: the first's variance is half the second's own."""
    both = statistics.moderate_by_name({"calm": 0.5, "wild": 9.0}, {"calm": 2.0, "wild": 2.0})
    assert (both["calm"].variance, both["calm"].df) == (pytest.approx(4.75), 4)
    parts = statistics.parts_of_seeds((both["calm"], 1 / 3), (both["wild"], 1 / 4))
    assert [part for part, _ in parts] == pytest.approx([4.75 / 3, 9 / 4])
    of_calm, of_wild = 0.25 / 3, 4.5 / 3 + 9 / 4
    df = (of_calm + of_wild) ** 2 / (of_calm**2 / 2 + of_wild**2 / 2)
    conclusion = statistics.conclude([statistics.Spread(2.0, 100, parts, 0.0)])
    assert conclusion.df == pytest.approx(df)
    assert conclusion.df < 2.1, "the wild one's three seeds are all that is known"
    (of_one,) = statistics.parts_of_seeds((both["calm"], 1 / 3))
    assert of_one == (pytest.approx(4.75 / 3), pytest.approx(4.75**2 / (0.25**2 / 2 + 4.5**2 / 2))), "nor has one alone"
    other = alone("other", np.array([1.0, 2.0, 4.0]))
    apart = statistics.parts_of_seeds((both["wild"], 1 / 3), (other, 1 / 3))
    assert [df for _, df in apart] == [2, 2]


@pytest.mark.parametrize("value", [0.1 * k for k in range(1, 30)])
def test_equal_variances_moderate_nothing_whatever_rounding_says(value):
    assert list(statistics.moderate(np.full(4, value), np.full(4, 2.0)).dfs) == [2, 2, 2, 2]


def test_many_sources_give_no_more_degrees_of_freedom_than_the_parts():
    parts, sources = [(1.0, 6), (1.0, 6)], [(0.2, 2)] * 10
    assert statistics.weigh(parts, sources) == pytest.approx(1 / 3)
    assert statistics.weigh(parts, [(2.0, 2)]) == pytest.approx(2)


def test_one_wild_method_does_not_raise_what_is_known_of_the_others():
    variances = np.array([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    calm = statistics.moderate(variances, np.full(9, 4.0))
    wild = statistics.moderate(np.where(np.arange(9) == 8, 2000.0, variances), np.full(9, 4.0))
    assert wild.variances[:8] == pytest.approx(calm.variances[:8])
    assert (wild.variances[8], wild.dfs[8]) == (2000, 4), "its own seeds say what it is"


def test_the_prior_is_free_of_bias():
    random = np.random.default_rng(0)
    estimates = random.chisquare(2, size=(20_000, 9)) / 2
    estimates[:, 0] = 0  # below any prior, which makes two thirds of its variance
    moderated = statistics.moderate(estimates, np.full(9, 2.0))
    assert moderated.variances[:, 0].mean() == pytest.approx(2 / 3, abs=0.02)


def test_moderation_is_the_same_one_by_one_and_for_all_at_once():
    many = np.random.default_rng(0).chisquare(2, size=(5, 4, 9))
    together = statistics.moderate(many, np.full(9, 2.0))
    one_by_one = [statistics.moderate(many[i, j], np.full(9, 2.0)) for i in range(5) for j in range(4)]
    for name, shape in (("variances", (20, 9)), ("dfs", (20, 9)), ("sources", (20, 9, 9))):
        expected = np.array([getattr(one, name) for one in one_by_one])
        assert getattr(together, name).reshape(shape) == pytest.approx(expected)


def conclusions(*rows):
    """Conclusions of many degrees of freedom from (difference, error)."""
    return [statistics.Conclusion(d, e, 1e9, 2 * float(stats.norm.sf(abs(d) / e))) for d, e in rows]


def test_intervals_of_a_family_are_bonferronis_and_end_at_zero_where_holm_goes_further():
    """Three differences of 4, 2.3 and 1 errors: the second needs 2.39 by Bonferroni, and 2.24 by Holm."""
    family = conclusions((4.0, 1.0), (-2.3, 1.0), (1.0, 1.0))
    holm_p, intervals = statistics.adjust_family(family, 0.05, [(-100.0, 100.0)] * 3, 3)
    reach = stats.norm.isf(0.05 / 6)
    assert holm_p == pytest.approx([3 * family[0].p, 2 * family[1].p, family[2].p], rel=1e-4)
    assert holm_p[1] < 0.05
    assert intervals[0] == pytest.approx((4 - reach, 4 + reach), abs=1e-4)
    assert intervals[1] == pytest.approx((-2.3 - reach, 0.0), abs=1e-4)
    assert intervals[2] == pytest.approx((1 - reach, 1 + reach), abs=1e-4)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 2)), min_size=1, max_size=9))
def test_an_interval_leaves_zero_inside_exactly_where_its_p_is_not_below_alpha(rows):
    family = conclusions(*rows)
    holm_p, intervals = statistics.adjust_family(family, 0.05, [(-2.0, 2.0)] * len(rows), len(rows))
    for p, (low, high) in zip(holm_p, intervals, strict=True):
        assert (low < 0 < high) == (p >= 0.05)
        assert -2 <= low <= high <= 2 or not -2 <= (low + high) / 2 <= 2


def test_models_that_agree_on_everything_do_not_differ():
    conclusion = statistics.conclude([spread_of(np.ones((3, 50)), np.ones((3, 50)), 100)])
    assert (conclusion.difference, conclusion.error, conclusion.p) == (0, 0, 1)


def test_the_quick_metrics_of_the_simulation_are_the_metrics():
    random = np.random.default_rng(0)
    labels, predictions = random.integers(2, size=60), random.integers(2, size=60)
    for metric in ("accuracy", "f1", "matthews"):
        assert quick(metric, predictions, labels) == pytest.approx(measure(metric, predictions, labels))


@pytest.mark.parametrize(
    ("task", "seeds", "runs"), [("RTE", 3, 500), ("RTE", 5, 500), ("MRPC", 3, 500), ("MRPC", 5, 500), ("CoLA", 5, 150)]
)
def test_false_alarms_are_as_rare_as_promised(task, seeds, runs):
    """Under no difference, at the size of the task's dev set, α is kept within its binomial interval."""
    examples, metrics, accuracy, positive = SIMULATED_TASKS[task]
    alarms = 0
    for run in range(runs):
        random = np.random.default_rng([run, examples])
        observed, resamples = simulate(examples, seeds, metrics, accuracy, positive, 0.0, 150, random)
        alarms += conclude_alone(observed, resamples, examples).p < 0.05
    assert 0 < alarms <= stats.binom.interval(0.95, runs, 0.05)[1]


def test_an_agreement_of_seeds_by_chance_is_no_certainty():
    """Three seeds with the same difference, on different examples: no more certain than their examples make it."""
    examples = 277
    right = np.ones((3, examples))
    for seed in range(3):
        right[seed, 20 * seed : 20 * seed + 4] = 0
    others = np.ones((3, examples))
    for seed in range(3):
        others[seed, 100 + 20 * seed : 100 + 20 * seed + 8] = 0
    conclusion = statistics.conclude([spread_of(100 * right, 100 * others, 4000)])
    assert conclusion.error == pytest.approx(stats.sem(100 * (right - others).mean(axis=0)), rel=0.05)


DESIGNS = {
    "three seeds": Design(3, 1.0),
    "three seeds that differ much": Design(3, 10.0),
    "five seeds": Design(5, 3.0),
    "ten seeds": Design(10, 10.0),
    "no seeds that differ": Design(5, 0.0),
    "one baseline four times as wild": Design(3, 3.0, wild=3),
    "the proposed method four times as wild": Design(5, 3.0, wild=0),
    "tasks as uneven as GLUE's": Design(3, 10.0, uneven=True),
    "a tenth of the seeds fails": Design(3, 1.0, failing=0.1),
    "accuracies": Design(3, 0.15, discrete=True),
    "two starts": Design(3, 3.0, of_start=4),
}


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_the_primary_family_finds_nothing_where_there_is_nothing(design):
    """The share of experiments in which Holm finds any of eight macro differences: at most .05, to chance."""
    runs, chunk = (300, 50) if design.discrete else (4000, 1000)
    alarms = families.count_alarms(design, runs, chunk=chunk)
    assert alarms["macro"] * runs <= stats.binom.interval(0.95, runs, 0.05)[1]


@pytest.mark.parametrize(
    "design", [Design(3, 1.0), Design(3, 10.0), Design(5, 10.0), Design(10, 3.0), Design(3, 3.0, of_start=4)], ids=str
)
def test_single_tasks_keep_their_tail(design):
    """Where no method is wilder than its fellows, neither p < .05 nor p < .0006 nor Holm over 72 is more than it "
    "says."""
    runs = 4000
    alarms = families.count_alarms(design, runs)
    assert alarms["task_05"] <= 0.05
    assert alarms["task_0006"] <= 0.0008
    assert alarms["tasks"] * runs <= stats.binom.interval(0.95, runs, 0.05)[1]
    before = families.count_alarms(design, 1000, moderated=False)
    assert before["tasks"] > 0.06, "the simulation shows what moderation is for"


def test_a_difference_within_a_start_is_found_beside_a_start_whose_seeds_lie_far_apart():
    design = Design(3, 1.0, of_start=4)
    experiments = families.draw(design, 200, np.random.default_rng(0))
    experiments.scores[:, 0] += 3  # points; the standard error of a difference on one task is 1.4
    (_, tasks), (_, in_one_pool) = (families.p_of_families(experiments, of_start=n) for n in (4, None))
    assert (tasks[:, :3] < 0.05).mean() > 0.3
    assert (in_one_pool[:, :3] < 0.05).mean() < 0.01


def test_intervals_of_a_family_hold_together():
    coverage = families.joint_coverage(3, 3.0, 400)
    assert coverage * 400 >= stats.binom.interval(0.95, 400, 0.95)[0]


@pytest.mark.parametrize("of_start", [None, 4])
def test_the_simulated_families_are_tested_as_ours_are(of_start):
    sample = families.draw(Design(4, 1.0, of_start=of_start), 2, np.random.default_rng(0))
    macro, tasks = families.p_of_families(sample, of_start=of_start)
    for i, other in itertools.product(range(2), range(8)):
        spreads = []
        for task in range(9):
            own = sample.scores[i, :, task]
            variances = families.moderate_methods(own.var(axis=1, ddof=1), 4, of_start)
            parts = statistics.parts_of_seeds(*((variances[m], 1 / 4) for m in ("0", str(other + 1))))
            over = sample.over_examples[i, other, task]
            interaction = sample.interaction[i, 0, task] + sample.interaction[i, other + 1, task]
            examples_variance = over - min(interaction, sum(part for part, _ in parts), over)
            spreads.append(statistics.Spread(own[0].mean() - own[other + 1].mean(), 277, parts, examples_variance))
            assert tasks[i, other, task] == pytest.approx(statistics.conclude(spreads[-1:]).p)
        assert macro[i, other] == pytest.approx(statistics.conclude(spreads[:8]).p)


@pytest.mark.parametrize(
    ("test", "size"),
    [
        (lambda random: statistics.welch(random.normal(size=5), random.normal(size=5)), 0.05),
        (lambda random: statistics.sign_flip(random.normal(size=6)), 2 / 64),
        (lambda random: statistics.signed_ranks(random.normal(size=8)), 10 / 256),
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
        resamples = resample_values(["pearson"], values, labels, 150, random)
        parts = (scores[:5], scores[5:]), (resamples[:, :5], resamples[:, 5:])
        alarms += conclude_alone(*parts, examples).p < 0.05
    assert alarms <= stats.binom.interval(0.95, runs, 0.05)[1]


def test_a_family_under_holm_has_no_more_false_alarms_than_one_test():
    random = np.random.default_rng(0)
    alarms = sum(min(statistics.holm(random.random(20), 20)) < 0.05 for _ in range(1000))
    low, high = stats.binom.interval(0.95, 1000, 0.05)
    assert low <= alarms <= high


def test_friedman_does_not_reject_more_often_than_promised():
    random = np.random.default_rng(0)
    alarms = sum(statistics.friedman(random.normal(size=(8, 9))) <= 0.05 for _ in range(600))
    assert 0 < alarms <= stats.binom.interval(0.95, 600, 0.05)[1]


def test_mcnemar_does_not_reject_more_often_than_promised():
    random = np.random.default_rng(0)
    alarms = sum(statistics.mcnemar(*(random.random((2, 277)) < 0.7)) <= 0.05 for _ in range(600))
    assert alarms <= stats.binom.interval(0.95, 600, 0.05)[1]


def test_a_planted_difference_is_found():
    examples, metrics, accuracy, positive = SIMULATED_TASKS["RTE"]
    detections = 0
    for run in range(60):
        random = np.random.default_rng(run)
        observed, resamples = simulate(examples, 5, metrics, accuracy, positive, 0.35, 200, random)
        detections += conclude_alone(observed, resamples, examples).p < 0.05
    assert detections / 60 > 0.8


def test_the_multi_bootstrap_resamples_seeds_together_with_examples():
    scores = np.array([[0.0, 1.0], [10.0, 11.0]] * 500)
    draws = multi_bootstrap(scores, np.random.default_rng(0))
    assert set(np.round(draws[::2], 3)) == {0.0, 0.5, 1.0}
    assert set(np.round(draws[1::2], 3)) == {10.0, 10.5, 11.0}
    assert np.mean(draws[::2] == 0.5) == pytest.approx(0.5, abs=0.06)


def test_the_percentiles_p_is_where_they_leave_zero_out():
    assert percentile_p(np.arange(-100, 901) / 10.0) == pytest.approx(2 * (101 + 1) / (1001 + 1))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm(p_values):
    """Holm by its definition: the k-th smallest times what is left, never falling, at most 1; the order stays."""
    adjusted_p = statistics.holm(p_values, len(p_values))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    expected, largest = {}, 0.0
    for k, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - k)))
        expected[i] = largest
    assert adjusted_p == pytest.approx([expected[i] for i in range(len(p_values))])


def test_holm_of_a_worked_example():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(("family", "pairs"), [(1, 6), (4, 8), (8, 9), (9, 9), (80, 12)])
def test_pairs_needed(family, pairs):
    assert statistics.pairs_needed(0.05, family) == pairs
    assert family * 2 / 2**pairs <= 0.05 < family * 2 / 2 ** (pairs - 1)


def test_mcnemar_is_the_binomial_test_of_the_discordant():
    right = np.array([True] * 9 + [False] * 3 + [True] * 20)
    other = np.array([False] * 9 + [True] * 3 + [True] * 20)
    expected = sum(stats.binom.pmf(k, 12, 0.5) for k in range(13) if min(k, 12 - k) <= 3)
    assert statistics.mcnemar(right, other) == pytest.approx(expected)
    assert statistics.mcnemar(right, right) == 1.0


def test_welch():
    scores, others = np.array([80.1, 81.0, 80.4]), np.array([78.0, 79.9, 79.1, 78.2])
    assert statistics.welch(scores, others) == pytest.approx(stats.ttest_ind(scores, others, equal_var=False).pvalue)
    assert statistics.welch(scores[:1], others) is None
    assert statistics.welch(np.array([1.0, 1.0]), np.array([1.0, 1.0])) is None


def test_sign_flip_is_enumerated():
    differences = np.array([1.0, 2.0, -0.5, 3.0, 0.7, 1.1])
    means = [np.mean(np.array(signs) * differences) for signs in itertools.product([1, -1], repeat=6)]
    expected = 2 * np.mean(np.array(means) >= differences.mean() - 1e-12)
    assert statistics.sign_flip(differences) == pytest.approx(expected)
    assert statistics.sign_flip(np.arange(1.0, 7.0)) == pytest.approx(2 / 64)


def test_signed_ranks_are_enumerated():
    differences = np.array([4.0, 1.0, -2.0, 3.0, 5.0])
    ranks = np.arange(1, 6)
    sums = np.array([sum(itertools.compress(ranks, selection)) for selection in itertools.product([0, 1], repeat=5)])
    expected = 2 * np.mean(sums <= 2)  # the negative one has rank 2
    assert statistics.signed_ranks(differences) == pytest.approx(expected)
    assert statistics.signed_ranks(np.zeros(5)) is None


def test_friedman_by_its_formula():
    scores = np.array([[1.0, 2.0, 3.0], [1.5, 2.5, 2.0], [0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    ranks = stats.rankdata(scores, axis=1)
    tasks, methods = scores.shape
    statistic = 12 * tasks / (methods * (methods + 1)) * ((ranks.mean(axis=0) - (methods + 1) / 2) ** 2).sum()
    assert statistics.friedman(scores) == pytest.approx(stats.chi2.sf(statistic, methods - 1))
    assert statistics.friedman(scores[:, :2]) is None
    assert statistics.friedman(np.ones((4, 3))) is None


def test_tasks_that_friedmans_test_needs():
    tasks = statistics.tasks_needed(0.05, methods=3)
    alike = np.tile(np.arange(3.0), (tasks, 1))
    assert statistics.friedman(alike) <= 0.05 < statistics.friedman(alike[1:])


def test_hedges_g_by_hand():
    scores, others = np.array([3.0, 5.0]), np.array([1.0, 2.0, 3.0])
    deviation = ((1 * 2.0 + 2 * 1.0) / 3) ** 0.5
    assert statistics.hedges_g(scores, others) == pytest.approx((4 - 2) / deviation * (1 - 3 / 11))
    assert statistics.hedges_g(scores[:1], others) is None
    assert statistics.hedges_g(np.full(5, 52.707581227), np.full(5, 54.151581227)) is None


def test_improvement_counts_pairs_and_ties_half():
    scores, others = [np.array([1.0, 3.0]), np.array([5.0, 5.0])], [np.array([2.0, 3.0]), np.array([1.0, 1.0])]
    assert statistics.improvement(scores, others) == pytest.approx(((0 + 0 + 1 + 0.5) / 4 + 1) / 2)
    u = stats.mannwhitneyu(scores[0], others[0]).statistic
    assert statistics.improvement(scores[:1], others[:1]) == pytest.approx(u / 4)


def test_interquartile_mean_leaves_out_a_quarter_on_either_side():
    scores = [np.array([0.0, 50.0, 60.0, 1000.0]), np.array([1.0, 40.0, 70.0, 900.0])]
    assert statistics.interquartile_mean(scores) == pytest.approx(np.mean([40, 50, 60, 70]))


def test_performance_profile():
    scores = [np.array([90.0, 100.0]), np.array([80.0, 100.0])]
    assert list(statistics.performance_profile(scores, np.array([70.0, 85.0, 95.0, 101.0]))) == [1, 0.75, 0.5, 0]
