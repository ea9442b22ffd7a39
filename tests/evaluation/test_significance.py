"""The tests of an experiment: which comparisons, in which families, and with which numbers."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from suites import EXAMPLES, SKILL, deciding, leave_run, leave_suite, make_plan, methods
from theseus_bench.data.metrics import measure
from theseus_bench.errors import UserError
from theseus_bench.evaluation.families import further_proposal, list_families
from theseus_bench.evaluation.pairs import Comparison, list_comparisons
from theseus_bench.evaluation.scores import COLUMNS, write_scores
from theseus_bench.evaluation.significance import read_decisions, write_significance
from theseus_bench.evaluation.significance_file import read_significance
from theseus_bench.evaluation.statistics import (
    Conclusion,
    conclude,
    holm,
    interval,
    mcnemar,
    moderate_by_name,
    spread_of,
)
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.records import read_predictions
from theseus_bench.tables.significance import seeds_table, significance_tables

from results import results_of


def make_suite(**changes):
    values = {"tasks": ["mrpc", "rte"], "significance": {"resamples": 1000}} | methods(*SKILL) | changes
    return make_plan(**values)


def row_of(results, **fields):
    rows = [row for row in results.differences if all(getattr(row, key) == value for key, value in fields.items())]
    assert len(rows) == 1
    return rows[0]


def primary(plan) -> list[tuple[str, str]]:
    return [(pair.name, pair.other) for pair in list_comparisons(plan, "first") if pair.primary]


def test_theseus_meets_every_baseline_and_every_trained_method_the_control_each_pair_once():
    assert list_comparisons(make_suite(), "first") == [
        Comparison("theseus", "finetune", primary=True, control=True),
        Comparison("theseus", "pkd", primary=True),
        Comparison("predecessor", "finetune", control=True),
        Comparison("pkd", "finetune", control=True),
    ]


def test_what_the_claims_compare_is_compared_and_what_is_compared_already_is_not_compared_again():
    experiment = methods("predecessor", "finetune", "pkd", "theseus", compare_with=["theseus: Table 2"])
    assert list_comparisons(make_suite(**experiment), "first") == [
        Comparison("theseus", "finetune", primary=True, control=True),
        Comparison("theseus", "pkd", primary=True),
        Comparison("predecessor", "finetune", control=True),
        Comparison("pkd", "finetune", control=True),
        Comparison("theseus", "predecessor", share=0.98),
    ]


def test_a_start_that_is_a_methods_default_is_met_by_the_same_start_of_another():
    """Theseus starts from the predecessor by itself, fine-tuning from the pretrained model."""
    plan = make_suite(**methods("finetune", "theseus", vary=[{"start": "pretrained"}, {"start": "predecessor"}]))
    pairs = dict(primary(plan))
    assert pairs == {"theseus@start=pretrained": "finetune", "theseus": "finetune@start=predecessor"}


def test_a_baseline_in_several_versions_is_met_in_each():
    plan = make_suite(**methods("finetune", "pkd@beta=10", "pkd@beta=500", "theseus"))
    assert [other for _, other in primary(plan)] == ["finetune", "pkd@beta=10", "pkd@beta=500"]


def test_the_predecessor_meets_the_control_of_its_protocol():
    both = ["published", "equal"]
    plan = make_suite(**methods("predecessor", "finetune", protocols=both), equal={"set": {"epochs": 7}})
    assert list_comparisons(plan, "first") == [
        Comparison("predecessor", "finetune", control=True),
        Comparison("predecessor@equal", "finetune@equal", control=True),
    ]


def test_like_is_compared_with_like():
    plan = make_suite(
        **methods("finetune", "theseus", vary=[{"layers": 6}, {"layers": 3}], protocols=["published", "equal"]),
        equal={"set": {"epochs": 7}},
    )
    assert dict(primary(plan)) == {
        "theseus": "finetune",
        "theseus@layers=3": "finetune@layers=3",
        "theseus@equal": "finetune@equal",
        "theseus@equal+layers=3": "finetune@equal+layers=3",
    }


def test_an_experiment_may_name_its_own_control():
    plan = make_suite(**methods("predecessor", "theseus", "theseus@constant", control="theseus"))
    assert list_comparisons(plan, "first") == [
        Comparison("predecessor", "theseus", control=True),
        Comparison("theseus@constant", "theseus", control=True),
    ]


def test_a_control_that_an_experiment_names_is_taken_as_it_is():
    settings = methods("theseus@constant", control="theseus@constant", vary=[{"base_rate": 0.5}, {"base_rate": 0.9}])
    assert list_comparisons(make_suite(**settings), "first") == [
        Comparison("theseus@constant+base_rate=0.9", "theseus@constant", control=True)
    ]


def test_without_its_control_an_experiment_has_no_such_family():
    assert list_comparisons(make_suite(**methods("predecessor", "theseus")), "first") == []


def test_differences_are_those_of_the_tables_means(tmp_path):
    """Also where a seed is missing: then neither side loses the seeds that it has."""
    plan = make_suite(seeds=[1, 2, 3, 4])
    leave_suite(tmp_path, plan, skip={("theseus", "rte", 2)})
    write_significance(plan, "first", tmp_path)
    results = read_significance("first", tmp_path)
    scores = pd.read_parquet(tmp_path / "scores/first.parquet").query("split == 'dev' and metric == 'score'")
    means = scores.groupby(["method", "task"])["value"].mean()
    rte = row_of(results, name="theseus", other="finetune", target="rte")
    assert rte.difference == pytest.approx(means["theseus", "rte"] - means["finetune", "rte"])
    assert rte.low < rte.difference < rte.high
    assert rte.seeds == 3
    assert rte.mcnemar.keys() == {"1", "3", "4"}, "pairs of runs, of the seeds that both have"
    macro = row_of(results, name="theseus", other="finetune", target="macro")
    tasks = [row_of(results, name="theseus", other="finetune", target=t) for t in ("rte", "mrpc")]
    assert macro.difference == pytest.approx(np.mean([row.difference for row in tasks]))
    assert macro.error == pytest.approx(np.hypot(*[row.error for row in tasks]) / 2)
    assert macro.seeds == 3
    assert json.loads((tmp_path / "significance/first.json").read_text())["alpha"] == 0.05


def test_every_number_is_of_the_first_beside_the_other(tmp_path):
    """Against what the predictions themselves say, on methods and seeds that differ."""
    plan = make_suite(seeds=[1, 2, 3])
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    results = read_significance("first", tmp_path)
    row = row_of(results, name="theseus", other="pkd", target="rte")
    right = {}
    for name, seed in itertools.product(("predecessor", "finetune", "pkd", "theseus"), (1, 2, 3)):
        part = read_predictions(tmp_path / plan.run(name, "rte", seed).path, ["validation"])["validation"]
        right[name, seed] = part.logits.argmax(axis=1) == part.labels
    for seed in (1, 2, 3):
        assert row.mcnemar[str(seed)] == pytest.approx(mcnemar(right["theseus", seed], right["pkd", seed]))
    assert len({round(p, 6) for p in row.mcnemar.values()}) > 1, "the seeds differ, so a wrong pairing would show"
    names = ("predecessor", "finetune", "pkd", "theseus")
    correct = {name: 100 * np.array([right[name, seed] for seed in (1, 2, 3)]) for name in names}
    scores = {name: values.mean(axis=1) for name, values in correct.items()}
    variances = moderate_by_name({name: scores[name].var(ddof=1) for name in names}, dict.fromkeys(names, 2.0))
    own = variances["theseus"], variances["pkd"]
    draws = np.random.default_rng(0).multinomial(EXAMPLES, np.full(EXAMPLES, 1 / EXAMPLES), size=4000)
    tables = tuple(draws @ correct[name].T / EXAMPLES for name in ("theseus", "pkd"))
    expected = conclude([spread_of((scores["theseus"], scores["pkd"]), tables, own, EXAMPLES)])
    assert row.error == pytest.approx(expected.error, rel=0.05)
    wins = np.mean([a > b for a in scores["theseus"] for b in scores["pkd"]])
    ties = np.mean([a == b for a in scores["theseus"] for b in scores["pkd"]])
    assert row.improvement == pytest.approx(wins + ties / 2)
    rank = next(row for row in results.ranks if (row.name, row.other) == ("theseus", "pkd"))
    frame = pd.read_parquet(tmp_path / "scores/first.parquet")
    means = frame.groupby(["method", "task"])["value"].mean()
    by_task = [means["theseus", task] - means["pkd", task] for task in ("mrpc", "rte")]
    assert rank.difference == pytest.approx(np.median(by_task))
    assert rank.improvement > 0.5


def test_each_difference_is_in_one_family_and_its_interval_agrees_with_its_verdict(tmp_path):
    plan = make_suite(tasks=["cola", "mrpc", "rte"], **methods(*SKILL, compare_with=["theseus: Table 2"]))
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    rows = read_significance("first", tmp_path).differences
    keys = [(frozenset((row.name, row.other)), row.share, row.target) for row in rows]
    assert len(keys) == len(set(keys))
    sizes = {"primary": 2, "macro": 3, "macro_without_cola": 4, "tasks": 12}
    assert {(row.name, row.other) for row in rows if row.family == "primary"} == {
        ("theseus", "finetune"), ("theseus", "pkd"),
    }  # fmt: skip
    for family, size in sizes.items():
        part = [row for row in rows if row.family == family]
        assert len(part) == size
        assert {row.tests for row in part} == {size}
        assert [row.p_holm for row in part] == pytest.approx(holm([row.p for row in part], size))
        for row in part:
            assert (row.low < 0 < row.high) == (row.p_holm >= 0.05)
            whole = interval(
                Conclusion(*(getattr(row, key) for key in ("difference", "error", "df", "p"))), 0.05 / size
            )
            assert row.low in (pytest.approx(whole[0]), 0, -100, -200)
            assert row.high in (pytest.approx(whole[1]), 0, 100, 200)


def test_what_is_completed_later_makes_no_family_stricter(tmp_path):
    """A suite without MRPC's runs and with one seed too few of PKD counts their tests already, at p = 1."""
    tasks = ["cola", "mrpc", "rte"]
    plan = make_suite(tasks=tasks, **methods(*SKILL))
    gaps = {(name, "mrpc", seed) for name, seed in itertools.product(SKILL, (1, 2, 3))} | {("pkd", "cola", 3)}
    leave_suite(tmp_path / "early", plan, skip=gaps)
    leave_suite(tmp_path / "late", plan)
    early, late = (_tests_of(plan, tmp_path / name) for name in ("early", "late"))
    made = {key for key, row in early.items() if row.p is not None}
    assert {target for *_, target in made} == {"cola", "rte"}
    assert ("theseus", "pkd", "cola") not in made
    for key in made:
        assert early[key].tests == late[key].tests == 12
    assert [early[key].p_holm for key in made] == pytest.approx(holm([early[key].p for key in made], 12))
    whole = [(early[key], late[key]) for key in made if key[2] == "rte"]
    assert all(after.p == before.p and after.p_holm <= before.p_holm for before, after in whole)
    assert any(after.p_holm < before.p_holm for before, after in whole)


def test_a_pair_without_a_run_counts_among_the_tests_over_tasks(tmp_path):
    plan = make_suite(tasks=["cola", "mrpc", "rte"], **methods(*SKILL))
    leave_suite(tmp_path / "early", plan, skip=set(itertools.product(["pkd"], ["cola", "mrpc", "rte"], (1, 2, 3))))
    leave_suite(tmp_path / "late", plan)
    early, late = (_ranks_of(plan, tmp_path / name) for name in ("early", "late"))
    assert early.keys() == {("theseus", "finetune"), ("predecessor", "finetune")} < late.keys()
    assert {row.tasks_needed for row in early.values()} == {row.tasks_needed for row in late.values()} == {7}


@pytest.mark.parametrize("config", ["demo", "config", "minilm", "reference"])
def test_what_is_left_to_an_earlier_experiment_is_tested_there(config):
    plan = load_plan(read_yaml(Path(f"config/{config}.yaml")))
    families = {name: list_families(plan, name) for name in plan.suite.experiments}
    tests = {
        name: {(pair.pair, target) for (pair, target), family in of_one.items() if family.experiment == name}
        for name, of_one in families.items()
    }
    for of_one in families.values():
        for (pair, target), family in of_one.items():
            assert (pair.pair, target) in tests[family.experiment]


def test_a_pair_that_a_method_excludes_from_a_task_is_no_test_of_it():
    plan = make_suite(tasks=["cola", "mrpc", "rte"], **methods(*SKILL))
    pkd = plan.specs["pkd"].model_copy(update={"exclude": {"rte": "no such labels"}})
    families = list_families(replace(plan, specs=plan.specs | {"pkd": pkd}), "first")
    targets = {name: {t for pair, t in families if name in (pair.name, pair.other)} for name in ("pkd", "theseus")}
    assert targets["pkd"] == {"cola", "mrpc"}
    assert targets["theseus"] == {"cola", "mrpc", "rte", "macro", "macro_without_cola"}


def _ranks_of(plan, folder):
    write_significance(plan, "first", folder)
    return {(row.name, row.other): row for row in read_significance("first", folder).ranks}


def _tests_of(plan, folder):
    write_significance(plan, "first", folder)
    rows = read_significance("first", folder).differences
    return {(row.name, row.other, row.target): row for row in rows if row.family == "tasks"}


def test_a_further_proposed_method_has_the_tests_of_the_first_and_adds_none_to_its_families(tmp_path):
    names = [*SKILL, "mine"]
    plan = make_suite(tasks=["cola", "mrpc", "rte"], **methods(*names))
    mine = plan.specs["vanilla_kd"].model_copy(update={"name": "mine", "label": "Mine", "role": "proposed"})
    plan = replace(plan, specs=plan.specs | {"mine": mine})
    leave_suite(tmp_path, plan, skill=SKILL | {"mine": 0.8})
    write_significance(plan, "first", tmp_path)
    results = read_significance("first", tmp_path)
    sizes = {"primary": 2, "macro": 2, "macro_without_cola": 4, "tasks": 12}  # the first's and the controls', as alone
    for family, size in sizes.items():
        part = [row for row in results.differences if row.family == family]
        others, own = ([row for row in part if (row.name == "mine") == is_own] for is_own in (False, True))
        assert {row.tests for row in others} == {size}
        for rows in (others, own):
            assert [row.p_holm for row in rows] == pytest.approx(holm([row.p for row in rows], len(rows)))
        assert [(row.other, row.target) for row in own] == [
            (row.other, row.target) for row in others if row.name == "theseus"
        ]
    tests_over_tasks = {
        name: [(row.other, row.tasks_needed) for row in results.ranks if row.name == name and row.primary]
        for name in ("theseus", "mine")
    }
    assert tests_over_tasks["mine"] == tests_over_tasks["theseus"]


def test_a_method_that_starts_from_a_proposed_ones_model_is_of_its_families():
    plan = make_suite(**methods("finetune", "theseus", "theseus_transfer", "theseus@constant"))
    for name in ("theseus_transfer", "theseus@constant", "theseus", "finetune"):
        assert further_proposal(plan, "first", name) == ""


def test_protocols_are_families_of_their_own(tmp_path):
    both = methods("finetune", "pkd", "theseus", protocols=["published", "equal"])
    plan = make_suite(**both, equal={"set": {"epochs": 7}})
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    rows = [row for row in read_significance("first", tmp_path).differences if row.family == "primary"]
    assert [row.name for row in rows] == ["theseus"] * 2 + ["theseus@equal"] * 2
    assert {row.tests for row in rows} == {2}


def test_wnli_is_in_no_macro_and_one_task_alone_is_its_own_headline(tmp_path):
    plan = make_suite(tasks=["rte", "wnli"], **methods("finetune", "pkd", "theseus"))
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    rows = read_significance("first", tmp_path).differences
    assert {(row.target, row.family) for row in rows if row.primary} == {("rte", "primary"), ("wnli", "tasks")}


def test_intervals_stay_within_what_the_metric_allows(tmp_path):
    """Seeds that differ as much as they can, on an accuracy and on a correlation that may be negative."""
    plan = make_suite(tasks=["cola", "rte"], **methods("finetune", "theseus"))
    rows = []
    for run in plan.experiment_runs("first"):
        labels = np.arange(EXAMPLES) % 2
        decisions = labels if (run.seed + (run.name == "theseus")) % 2 else 1 - labels
        predictions = {split: (np.arange(EXAMPLES), labels, deciding(decisions, 2)) for split in run.task.dev}
        leave_run(plan, run, tmp_path, predictions)
        value = 100 * measure(run.task.metrics[0], decisions, labels)
        rows.append(("small", "first", run.spec.name, run.variant, run.task.name, run.seed, "dev", "score", value))
    (tmp_path / "scores").mkdir()
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(tmp_path / "scores/first.parquet")
    write_significance(plan, "first", tmp_path)
    results = read_significance("first", tmp_path)
    ends = {target: row_of(results, target=target) for target in ("rte", "cola", "macro")}
    assert (ends["rte"].low, ends["rte"].high) == (-100, 100)
    assert (ends["cola"].low, ends["cola"].high) == (-200, 200)
    assert ends["macro"].low == -150


@pytest.mark.parametrize("seeds", [[1], [1, 2]])
def test_below_three_seeds_nothing_is_tested(tmp_path, seeds):
    plan = make_suite(tasks=["mrpc", "rte"], seeds=seeds, **methods(*SKILL, compare_with=["theseus: Table 2"]))
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    results = read_significance("first", tmp_path)
    assert results.differences
    for row in results.differences:
        assert [getattr(row, key) for key in ("p", "p_holm", "low", "high", "error", "df")] == [None] * 6
    assert all(row.wilcoxon is None and row.wilcoxon_holm is None for row in results.ranks)
    assert [row.p for row in results.friedman] == [None]
    assert results.daggers() == {}
    tables = significance_tables(plan, "first", tmp_path)
    word = f"not tested: {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    for row in tables["significance"].rows:
        assert row.cells[-1].value == word
        assert row.cells[4].interval is None
        assert [cell.value for cell in row.cells[5:7]] == ["", ""]
    assert tables["seeds"].rows == ()
    assert {row.cells[3].notes for row in tables["ranks"].rows} == {(word,)}
    assert word in " ".join(tables["ranks"].notes)


@pytest.mark.parametrize("lost", [{3}, {2, 3}])
def test_a_method_that_has_lost_seeds_is_not_tested_where_they_are_too_few(tmp_path, lost):
    plan, skill = make_suite(), SKILL | {"pkd": 0.2}  # so bad that it would be marked
    leave_suite(tmp_path / "whole", plan, skill=skill)
    leave_suite(tmp_path / "lost", plan, skill=skill, skip={("pkd", "rte", seed) for seed in lost})
    daggers = {}
    for name in ("whole", "lost"):
        write_significance(plan, "first", tmp_path / name)
        results = read_significance("first", tmp_path / name)
        daggers[name] = {key: kind for key, kind in results.daggers().items() if key[0] == "pkd"}
    assert set(daggers["whole"].values()) == {"worse"}
    assert {key[-1] for key in daggers["whole"]} - {key[-1] for key in daggers["lost"]} == {"rte", "macro"}
    assert row_of(results, name="pkd", other="finetune", target="rte").p_holm is None
    assert row_of(results, name="pkd", other="finetune", target="macro").p_holm is None


def test_a_difference_is_tested_in_the_first_experiment_that_has_it(tmp_path):
    first = {"title": "One", "methods": ["finetune", "pkd", "theseus"]}
    second = {"title": "Two", "methods": ["finetune", "theseus", "theseus@constant"]}
    plan = make_suite(experiments={"earlier": first, "first": second})
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    results = read_significance("first", tmp_path)
    again = row_of(results, name="theseus", other="finetune", target="macro")
    assert (again.tested_in, again.p, again.p_holm, again.low) == ("earlier", None, None, None)
    own = row_of(results, name="theseus@constant", other="finetune", target="macro")
    assert (own.tested_in, own.tests) == ("first", 1)
    rows = {row.label: row for row in significance_tables(plan, "first", tmp_path)["significance"].rows}
    assert rows["BERT-of-Theseus"].cells[-1].value == "tested in: One"


def test_a_run_that_was_never_evaluated_decides_for_the_majority(tmp_path):
    """Its own predictions are worth nothing: here they are all right, and its score is the majority's."""
    plan = make_suite(tasks=["rte"], **methods("finetune", "theseus"))
    leave_suite(tmp_path, plan)
    run = plan.run("theseus", "rte", 2)
    labels = np.arange(EXAMPLES) % 2
    labels[:20] = 1  # the majority is class 1
    share = labels.mean()
    for one in plan.experiment_runs("first"):
        never = {"dev_score": None, "majority_score": share, "status": "failed", "reason": "diverged", "curve": []}
        leave_run(
            plan, one, tmp_path, {"validation": (np.arange(EXAMPLES), labels, deciding(labels, 2))},
            **(never if one == run else {}),
        )  # fmt: skip
    write_scores(plan, "first", tmp_path)
    scores = pd.read_parquet(tmp_path / "scores/first.parquet").query("split == 'dev' and metric == 'score'")
    values = scores.set_index(["method", "seed"])["value"]
    assert values["theseus", 2] == pytest.approx(100 * share)
    assert values["theseus", 1] == 100
    decisions, _ = read_decisions([plan.run("theseus", "rte", 1), run], tmp_path)
    assert (decisions["validation"][0] == labels).all()
    assert (decisions["validation"][1] == 1).all()
    write_significance(plan, "first", tmp_path)
    row = row_of(read_significance("first", tmp_path), target="rte")
    assert row.difference == pytest.approx((100 * share - 100) / 3)


def test_daggers_are_for_what_differs_from_the_control(tmp_path):
    plan = make_suite(seeds=[1, 2, 3, 4, 5])
    leave_suite(tmp_path, plan, skill=SKILL | {"pkd": 0.45})
    write_significance(plan, "first", tmp_path)
    daggers = read_significance("first", tmp_path).daggers()
    assert daggers["theseus", "macro"] == "better"
    assert daggers["pkd", "macro"] == "worse"
    assert ("finetune", "macro") not in daggers


def test_a_method_without_runs_is_left_out_and_so_is_its_macro(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan, skip={("pkd", "rte", seed) for seed in (1, 2, 3)})
    write_significance(plan, "first", tmp_path)
    whats = {row.target for row in read_significance("first", tmp_path).differences if row.other == "pkd"}
    assert whats == {"mrpc"}


def test_a_suite_without_runs_has_no_tests(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan, skip={(run.name, run.task.name, run.seed) for run in plan.experiment_runs("first")})
    write_significance(plan, "first", tmp_path)
    assert read_significance("first", tmp_path).differences == []
    assert all(not table.rows for table in significance_tables(plan, "first", tmp_path).values())


def test_predictions_on_other_examples_are_refused(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan)
    run = plan.run("theseus", "rte", 1)
    leave_run(plan, run, tmp_path, {"validation": ([1, 2], [0, 1], deciding([0, 1], 2))})
    with pytest.raises(UserError, match="not those of the other runs of RTE"):
        write_significance(plan, "first", tmp_path)


def test_the_file_does_not_depend_on_the_number_of_workers(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan)
    texts = []
    for workers in (1, 2):
        write_significance(plan, "first", tmp_path, workers)
        texts.append((tmp_path / "significance/first.json").read_text())
    assert texts[0] == texts[1]


def test_what_cannot_reach_alpha_is_said_with_how_many_would_do(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    tables = significance_tables(plan, "first", tmp_path)
    seeds = [row.cells[4] for row in tables["seeds"].rows]
    assert {cell.value for cell in seeds} == {"not attainable"}
    assert seeds[0].notes == ("the smallest p of 3 seeds that differ is 0.25; 6 could reach 0.05",)
    ranks = tables["ranks"].rows[0].cells[3]
    assert ranks.value == "not attainable"
    assert ranks.notes == ("2 tasks that differ cannot reach α = 0.05 in this family; 7 could",)


def test_enough_seeds_have_their_permutation_test(tmp_path):
    plan = make_suite(tasks=["rte"], seeds=[1, 2, 3, 4, 5, 6], **methods("finetune", "theseus"))
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    results = read_significance("first", tmp_path)
    assert row_of(results, target="rte").sign_flip == pytest.approx(2 / 64)
    assert results.aggregates == [], "nothing is kept of a predecessor that the experiment does not have"


def test_what_is_kept_is_a_share_of_the_predecessors_mean(tmp_path):
    plan = make_suite(tasks=["rte"])
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    aggregates = {row.name: row for row in read_significance("first", tmp_path).aggregates}
    scores = pd.read_parquet(tmp_path / "scores/first.parquet").query("split == 'dev' and metric == 'score'")
    of = {name: np.sort(part["value"]) for name, part in scores.groupby("method")}
    assert aggregates["predecessor"].runs == 3
    expected = 100 * of["theseus"].mean() / of["predecessor"].mean()  # a quarter of three runs is none
    assert aggregates["theseus"].interquartile_mean == pytest.approx(expected)


def test_a_small_p_of_a_permutation_is_shown_as_below_a_thousandth():
    plan = make_suite(tasks=["rte"], **methods("finetune", "theseus"))
    row = {"what": "rte", "family": "primary", "seeds": 12, "welch": 0.2}
    row |= {"sign_flip": 2 / 2**12, "differing": 12, "needed": 6, "hedges_g": 1.0, "improvement": 0.9}
    cells = seeds_table(plan, results_of(row), "One").rows[0].cells
    assert (cells[4].value, cells[4].value_text) == (2 / 2**12, "< 0.001")
    assert (cells[3].value, cells[3].value_text) == (0.2, "")
