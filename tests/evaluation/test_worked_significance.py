"""The worked example's tests: every difference, error, p, family and interval, worked out a second time.

The bootstrap over the examples is drawn here with another generator, so errors agree to a few per cent; what needs no
draw is exact.
"""

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from worked import (
    EQUAL,
    MACRO,
    NAMES,
    PUBLISHED,
    SEEDS,
    TASKS,
    decisions_of,
    from_counts,
    labels_of,
    macro_of,
    moderated_variances,
    scores_of,
    splits_of,
)

DRAWS = 20_000
PAIRS = [  # of either protocol: the proposed beside the baselines, all beside the control
    ("theseus", "finetune"), ("theseus", "vanilla_kd"), ("theseus@constant", "finetune"),
    ("theseus@constant", "vanilla_kd"), ("predecessor", "finetune"), ("vanilla_kd", "finetune"),
]  # fmt: skip
SIGNED = {"cola", "stsb"}  # their scores go down to −100


@pytest.fixture
def results(worked_example):
    return {
        name: json.loads((worked_example.folder / f"significance/{name}.json").read_text())
        for name in ("glue", "schedules")
    }


def equal(name: str) -> str:
    """The same method under equal effort."""
    method, _, variant = name.partition("@")
    return f"{method}@equal{'+' + variant if variant else ''}"


def resample_scores(names: list[str], task: str) -> np.ndarray:
    """(draws, names, seeds) of the task's score in points on resampled examples; NaN where a run is missing."""
    random, tables = np.random.default_rng(7), []
    for split in splits_of(task):
        labels = labels_of(task, split)
        indices = random.integers(0, len(labels), (DRAWS, len(labels)))
        truth, table = labels[indices], np.full((DRAWS, len(names), len(SEEDS)), np.nan)
        for (i, name), (j, seed) in itertools.product(enumerate(names), enumerate(SEEDS)):
            if j < len(scores_of(name, task)):
                table[:, i, j] = score_rows(task, decisions_of(name, task, seed, split)[indices], truth)
        tables.append(table)
    return 100 * np.mean(tables, axis=0)


def score_rows(task: str, decisions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """A task's score of each row of decisions against that row of labels."""
    if task == "mnli":
        return (decisions == truth).mean(axis=1)
    if task == "stsb":
        ranks = [stats.rankdata(values, axis=1) for values in (decisions, truth)]
        return (correlate(decisions, truth) + correlate(*ranks)) / 2
    counts = [(decisions == d) & (truth == t) for d, t in ((1, 1), (1, 0), (0, 1), (0, 0))]
    return from_counts(task, *(np.sum(one, axis=1) for one in counts))


def correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = (values - values.mean(axis=1, keepdims=True) for values in (first, second))
    under = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return np.where(under > 1e-12, (first * second).sum(axis=1) / np.maximum(under, 1e-12), 0)


def parts_of(name: str, other: str, task: str, share: float = 1.0) -> list[tuple[float, float]]:
    """The parts of the variance of a difference on a task: of either's seeds, and of the examples."""
    pair = (name, other)
    table = resample_scores(list(pair), task)
    examples = sum(len(labels_of(task, split)) for split in splits_of(task))
    factors = (1.0, share)
    means = [factor * np.nanmean(table[:, i], axis=1) for i, factor in enumerate(factors)]
    whole = (means[0] - means[1]).var(ddof=1) * examples / (examples - 1)
    variances, interaction, seeds_parts = moderated_variances(EQUAL if "equal" in name else PUBLISHED, task), 0.0, []
    for i, (one, factor) in enumerate(zip(pair, factors, strict=True)):
        seeds = len(scores_of(one, task))
        apart = table[:, i, :seeds] - table[:, i, :seeds].mean(axis=1, keepdims=True)
        interaction += factor**2 * apart.var(axis=0, ddof=1).sum() / (seeds - 1) / seeds
        seeds_parts.append((factor**2 * variances[one][0] / seeds, variances[one][1]))
    interaction = min(interaction, sum(part for part, _ in seeds_parts), whole)
    common = Counter()
    for one, factor in zip(pair, factors, strict=True):
        common.update({k: factor**2 * v / len(scores_of(one, task)) for k, v in variances[one][2].items()})
    by_source = sum(v**2 / (len(scores_of(k, task)) - 1) for k, v in common.items())
    by_part = sum(part**2 / df for part, df in seeds_parts)
    if by_source > by_part:  # the two rest on the same seeds
        seeds_parts = [(part, df * by_part / by_source) for part, df in seeds_parts]
    return [*seeds_parts, (whole - interaction, examples - 1)]


def conclude(parts: list[tuple[float, float]], difference: float) -> tuple[float, float, float]:
    """Standard error, Satterthwaite's degrees of freedom and p."""
    variance = sum(part for part, _ in parts)
    df = variance**2 / sum(part**2 / df for part, df in parts)
    return math.sqrt(variance), df, 2 * stats.t.sf(abs(difference) / math.sqrt(variance), df)


def rows_of(results, experiment="glue", **fields):
    return [row for row in results[experiment]["differences"] if all(row[k] == v for k, v in fields.items())]


def row_of(results, name, other, target, experiment="glue", share=1.0):
    (row,) = rows_of(results, experiment, name=name, other=other, what=target, share=share)
    return row


def test_each_pair_is_in_one_family_of_its_protocol_with_so_many_tests(results):
    """Four primary pairs of each protocol; under equal effort those with vanilla KD lack a third seed on STS-B.

    They count in their families all the same.
    """
    keys = [(row["name"], row["other"], row["share"], row["what"]) for row in results["glue"]["differences"]]
    targets = ["macro", "macro_without_cola", *TASKS]
    expected = [(a, b, 1.0, target) for a, b in PAIRS for target in targets]
    expected += [(equal(a), equal(b), 1.0, target) for a, b in PAIRS for target in targets]
    expected += [("theseus", "predecessor", 0.5, "macro"), ("theseus@equal", "predecessor@equal", 0.5, "macro")]
    # What a claim alone compares: Fine-tuning less the predecessor is the same pair as the control's.
    assert sorted(keys) == sorted(expected)
    sizes = {"primary": 4, "macro": 3, "macro_without_cola": 6, "tasks": 30}
    for row in results["glue"]["differences"]:
        has_p = row["p"] is not None
        assert row["tests"] == (sizes[row["family"]] if has_p else 0)
        assert row["tested_in"] == "glue"
    assert {row["name"] for row in rows_of(results, family="primary", p=None)} == {
        "theseus@equal",
        "theseus@equal+constant",
    }


def test_differences_are_those_of_the_means_over_seeds_the_macros_without_wnli(results):
    """Theseus is wrong on all of WNLI and fine-tuning right: in a macro it would show."""
    for row in results["glue"]["differences"]:
        tasks = {"macro": MACRO, "macro_without_cola": MACRO[1:]}.get(row["what"], [row["what"]])
        expected = macro_of(row["name"], tasks) - row["share"] * macro_of(row["other"], tasks)
        assert row["difference"] == pytest.approx(expected, abs=1e-6)
        seeds = min(len(scores_of(row[key], task)) for key in ("name", "other") for task in tasks)
        assert row["seeds"] == seeds
    assert row_of(results, "theseus", "finetune", "wnli")["difference"] == -100


@pytest.mark.parametrize(
    ("name", "other", "target", "share"),
    [
        ("theseus", "finetune", "cola", 1.0), ("theseus", "finetune", "mrpc", 1.0),
        ("theseus", "finetune", "mnli", 1.0), ("theseus", "finetune", "stsb", 1.0),
        ("vanilla_kd@equal", "finetune@equal", "mrpc", 1.0),
        ("theseus@constant", "vanilla_kd", "mnli", 1.0), ("theseus", "finetune", "macro", 1.0),
        ("theseus@constant", "finetune", "macro", 1.0), ("theseus@equal", "finetune@equal", "macro_without_cola", 1.0),
        ("theseus", "predecessor", "macro", 0.5),
    ],
)  # fmt: skip
def test_errors_and_p_are_those_of_the_formula(results, name, other, target, share):
    row = row_of(results, name, other, target, share=share)
    tasks = {"macro": MACRO, "macro_without_cola": MACRO[1:]}.get(target, [target])
    parts = [(part / len(tasks) ** 2, df) for task in tasks for part, df in parts_of(name, other, task, share)]
    error, df, p = conclude(parts, row["difference"])
    assert row["error"] == pytest.approx(error, rel=0.02)
    assert row["df"] == pytest.approx(df, rel=0.03)
    assert row["p"] == pytest.approx(p, rel=0.15)


def test_holm_goes_over_the_family_of_one_protocol(results):
    """By its definition: the k-th smallest p of m times m − k + 1, at least as large as the one before, 1 at most.

    What cannot be tested for want of a seed is of the m, and behind all others.
    """
    families = {}
    for experiment, tests in results.items():
        for row in tests["differences"]:
            if row["p"] is not None:
                families.setdefault((experiment, row["family"], "equal" in row["name"]), []).append(row)
    assert len(families) == 8 + 3
    for rows in families.values():
        ordered, before = sorted(rows, key=lambda row: row["p"]), 0.0
        for k, row in enumerate(ordered):
            before = max(before, min(1.0, row["p"] * (row["tests"] - k)))
            assert row["p_holm"] == pytest.approx(before)


def test_a_p_below_alpha_whose_holm_p_is_above_is_no_finding(results):
    """Without CoLA, Theseus less fine-tuning: p is .02, and with six in its family .1."""
    row = row_of(results, "theseus", "finetune", "macro_without_cola")
    assert row["p"] < 0.05 < row["p_holm"] == pytest.approx(5 * row["p"]), "one of six has a smaller p"
    assert row["low"] < 0 < row["high"]


def test_intervals_are_bonferronis_end_at_what_the_metric_allows_and_agree_with_holm(results):
    for row in (row for tests in results.values() for row in tests["differences"] if row["p"] is not None):
        tasks = {"macro": MACRO, "macro_without_cola": MACRO[1:]}.get(row["what"], [row["what"]])
        tasks = ["cola", "mrpc"] if row["tested_in"] == "schedules" and row["what"] == "macro" else tasks
        # MRPC's F1 and accuracy, MNLI's and WNLI's accuracy cannot be negative, a correlation can.
        least = np.mean([-100.0 * (task in SIGNED) for task in tasks])
        if row["error"] == 0:
            assert (row["low"], row["high"]) == (row["difference"], row["difference"])
            continue
        reach = stats.t.ppf(1 - 0.05 / 2 / row["tests"], row["df"]) * row["error"]
        low = max(row["difference"] - reach, least - row["share"] * 100)
        high = min(row["difference"] + reach, 100 - row["share"] * least)
        if row["p_holm"] < 0.05:
            low, high = (max(low, 0), high) if row["difference"] > 0 else (low, min(high, 0))
        assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
        assert (row["p_holm"] < 0.05) == (not row["low"] < 0 < row["high"])


def test_seeds_that_agree_by_chance_are_no_certainty(results):
    """Of WNLI every seed of Theseus has nothing right and every seed of fine-tuning all: no variance of their own."""
    row = row_of(results, "theseus", "finetune", "wnli")
    variances = moderated_variances(PUBLISHED, "wnli")
    expected = math.sqrt(variances["theseus"][0] / 3 + variances["finetune"][0] / 3)
    assert row["error"] == pytest.approx(expected, rel=0.02)
    assert expected > 3
    assert row["df"] < 2 * 6, "two equal parts of six degrees each, but of the same seeds"
    assert row["low"] == -100


def test_an_experiment_tests_what_no_earlier_one_has(results):
    """Its macro is of two tasks, so of another score; single tasks of the same pair are tested in the first."""
    rows = results["schedules"]["differences"]
    elsewhere = {(row["name"], row["other"], row["what"]) for row in rows if row["tested_in"] == "glue"}
    assert elsewhere == {(a, "finetune", task) for a in ("theseus", "theseus@constant") for task in ("cola", "mrpc")}
    for row in rows:
        if row["tested_in"] == "glue":
            assert [row[key] for key in ("p", "p_holm", "low", "high")] == [None] * 4
    own = {(row["name"], row["other"], row["what"]): row["tests"] for row in rows if row["tested_in"] == "schedules"}
    assert own == {
        ("theseus", "finetune", "macro"): 2, ("theseus@constant", "finetune", "macro"): 2,
        ("theseus@constant", "theseus", "macro"): 1,
        ("theseus@constant", "theseus", "cola"): 2, ("theseus@constant", "theseus", "mrpc"): 2,
    }  # fmt: skip
    for row in rows_of(results, "schedules", what="macro"):
        assert row["difference"] == pytest.approx(
            macro_of(row["name"], ["cola", "mrpc"]) - macro_of(row["other"], ["cola", "mrpc"])
        )


def test_seeds_alone_are_tested_by_the_textbook(results):
    for row in results["glue"]["differences"]:
        if "welch" not in row:
            continue
        scores, others = scores_of(row["name"], row["what"]), scores_of(row["other"], row["what"])
        spreads = [values.var(ddof=1) / 3 for values in (scores, others)]
        if sum(spreads) == 0:
            assert (row["welch"], row["hedges_g"]) == (None, None)
        else:
            df = sum(spreads) ** 2 / sum(spread**2 / 2 for spread in spreads)
            t = abs(scores.mean() - others.mean()) / math.sqrt(sum(spreads))
            assert row["welch"] == pytest.approx(2 * stats.t.sf(t, df), abs=1e-9)
            deviation = math.sqrt(3 * sum(spreads) / 2)
            assert row["hedges_g"] == pytest.approx(
                (scores.mean() - others.mean()) / deviation * (1 - 3 / 15), abs=1e-6
            )
        wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in scores.round(9) for b in others.round(9)]
        assert row["improvement"] == pytest.approx(np.mean(wins))
        assert row["differing"] == np.count_nonzero((scores - others).round(9))
        assert (row["needed"], row["sign_flip"]) == (6, None)  # 2 / 2⁶ is the first below .05


def test_mcnemar_counts_the_examples_that_one_of_the_two_has_right(results):
    """Exact: twice the smaller tail of b of b + c coins."""
    for row in results["glue"]["differences"]:
        if row["what"] not in ("mrpc", "mnli", "wnli") or row["share"] != 1:
            assert "mcnemar" not in row
            continue
        assert row["mcnemar"].keys() == {"1", "2", "3"}
        for seed in SEEDS:
            wins = losses = 0
            for split in splits_of(row["what"]):
                labels = labels_of(row["what"], split)
                correct, other_correct = (
                    decisions_of(row[k], row["what"], seed, split) == labels for k in ("name", "other")
                )
                wins, losses = wins + (correct & ~other_correct).sum(), losses + (~correct & other_correct).sum()
            tail = sum(math.comb(wins + losses, k) for k in range(min(wins, losses) + 1)) / 2 ** (wins + losses)
            assert row["mcnemar"][str(seed)] == pytest.approx(min(1.0, 2 * tail))


def test_ranks_are_over_the_macros_tasks(results):
    rows = {(row["name"], row["other"]): row for row in results["glue"]["ranks"]}
    assert rows.keys() == {*PAIRS, *((equal(a), equal(b)) for a, b in PAIRS)}
    for (name, other), row in rows.items():
        differences = [scores_of(name, task).mean() - scores_of(other, task).mean() for task in MACRO]
        assert row["tasks"] == 4
        assert row["difference"] == pytest.approx(np.median(differences))
        wins = [
            np.mean([(a > b) + (a == b) / 2 for a in scores_of(name, t).round(9) for b in scores_of(other, t).round(9)])
            for t in MACRO
        ]
        assert row["improvement"] == pytest.approx(np.mean(wins))
        few = "vanilla_kd@equal" in (name, other)
        assert row["seeds"] == (2 if few else 3)
        nonzero = np.count_nonzero(np.round(differences, 9))
        assert row["differing"] == nonzero
        if few:
            assert row["wilcoxon"] is None
        elif nonzero == 4 and len(set(np.sign(differences))) == 1:
            assert row["wilcoxon"] == pytest.approx(2 / 2**4)  # all one way: the most extreme of 2⁴ signs, either way
        assert row["wilcoxon_holm"] is None, "four tasks reach no p below .05"
        size = 4 if row["primary"] else 2  # of the family, for each protocol
        assert row["needed"] == math.ceil(math.log2(2 * size / 0.05))


def test_friedman_is_over_the_compressed_models_of_a_protocol(results):
    """χ² = 12 / nk(k + 1) · Σ R² − 3n(k + 1), divided by 1 − Σ(t³ − t) / nk(k² − 1) where ranks are shared."""
    published, equal_row = results["glue"]["friedman"]
    means = np.array([[scores_of(name, task).mean().round(9) for name in PUBLISHED[1:]] for task in MACRO])
    ranks = stats.rankdata(means, axis=1)
    n, k = ranks.shape
    ties = sum(c**3 - c for row in ranks for c in np.unique(row, return_counts=True)[1])
    chi = 12 / (n * k * (k + 1)) * (ranks.sum(axis=0) ** 2).sum() - 3 * n * (k + 1)
    chi /= 1 - ties / (n * k * (k**2 - 1))
    assert published["p"] == pytest.approx(stats.chi2.sf(chi, k - 1))
    assert (published["protocol"], published["methods"], published["tasks"], published["seeds"]) == (
        "published",
        4,
        4,
        3,
    )
    assert (equal_row["protocol"], equal_row["seeds"], equal_row["p"]) == ("equal", 2, None)
    assert published["needed"] == math.ceil(stats.chi2.isf(0.05, 3) / 3)


def test_what_is_kept_of_the_predecessor_of_the_same_protocol(results):
    rows = {row["name"]: row for row in results["glue"]["aggregates"]}
    assert list(rows) == list(NAMES)
    for name, row in rows.items():
        teacher = "predecessor@equal" if "equal" in name else "predecessor"
        retention = [100 * scores_of(name, task) / scores_of(teacher, task).mean() for task in MACRO]
        values = np.sort(np.concatenate(retention))
        assert (row["tasks"], row["runs"]) == (4, len(values))
        trim = len(values) // 4
        assert row["interquartile_mean"] == pytest.approx(values[trim : len(values) - trim].mean())
        at = [50, 75.5, 100, 110]
        shares = [row["profile"][round(2 * (threshold - 50))] for threshold in at]
        assert shares == pytest.approx([np.mean(values.round(9) >= threshold) for threshold in at])
        assert len(row["profile"]) == 121


def test_the_file_says_by_which_rule(results):
    assert {(tests["alpha"], tests["resamples"]) for tests in results.values()} == {(0.05, 10_000)}
