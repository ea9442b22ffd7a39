"""The tests of an experiment: which comparisons, in which families, and with which numbers."""

import json

import numpy as np
import pandas as pd
import pytest
from suite import deciding, leave_run, make_plan
from theseus_bench.errors import UserError
from theseus_bench.inference import conclude, holm, mcnemar, spread_of
from theseus_bench.metrics import measure
from theseus_bench.records import read_predictions
from theseus_bench.scores import COLUMNS
from theseus_bench.significance import Comparison, compared, write_significance
from theseus_bench.significance_tables import daggers, read_significance, significance_tables

EXAMPLES = 120
SKILL = {"majority": 0.5, "predecessor": 0.9, "finetune": 0.7, "pkd": 0.72, "theseus": 0.88}


def methods(*names: str, **more) -> dict:
    return {"experiments": {"first": {"title": "One", "methods": list(names), **more}}}


def leave_suite(folder, plan, skip=(), skill=SKILL):
    """Predictions and scores of every run of the experiment on two-class tasks, by the method's skill."""
    rows = []
    for run in plan.experiment_runs("first"):
        if (run.name, run.task.name, run.seed) in skip:
            continue
        random = np.random.default_rng([run.seed, len(run.name), len(run.task.name)])
        labels = np.arange(EXAMPLES) % 2
        solved = random.random(EXAMPLES) < skill[run.spec.name]
        predictions = {
            split: (np.arange(EXAMPLES), labels, deciding(np.where(solved, labels, 1 - labels), run.task.outputs))
            for split in run.task.dev
        }
        leave_run(plan, run, folder, predictions)
        decided = np.where(solved, labels, 1 - labels)
        value = 100 * np.mean([measure(metric, decided, labels) for metric in run.task.metrics])
        rows.append(("small", "first", run.spec.name, run.variant, run.task.name, run.seed, "dev", "score", value))
    (folder / "scores").mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(folder / "scores/first.parquet")


def make_suite(**changes):
    values = {"tasks": ["mrpc", "rte"], "significance": {"resamples": 1000}} | methods(*SKILL) | changes
    return make_plan(**values)


def row_of(found, **wanted):
    rows = [row for row in found["differences"] if all(row[key] == value for key, value in wanted.items())]
    assert len(rows) == 1
    return rows[0]


def test_every_trained_method_meets_the_control_and_theseus_every_baseline():
    assert compared(make_suite(), "first") == [
        Comparison("control", "predecessor", "finetune"),
        Comparison("control", "pkd", "finetune"),
        Comparison("control", "theseus", "finetune"),
        Comparison("baseline", "theseus", "finetune"),
        Comparison("baseline", "theseus", "pkd"),
    ]


def test_a_start_that_is_a_methods_default_is_met_by_the_same_start_of_another():
    """Theseus starts from the predecessor by itself, fine-tuning from the pretrained model."""
    plan = make_suite(**methods("finetune", "theseus", vary=[{"start": "pretrained"}, {"start": "predecessor"}]))
    pairs = {pair.name: pair.other for pair in compared(plan, "first") if pair.family == "baseline"}
    assert pairs == {"theseus@start=pretrained": "finetune", "theseus": "finetune@start=predecessor"}


def test_a_baseline_in_several_versions_is_met_in_each():
    plan = make_suite(**methods("finetune", "pkd@beta=10", "pkd@beta=500", "theseus"))
    others = [pair.other for pair in compared(plan, "first") if pair.family == "baseline"]
    assert others == ["finetune", "pkd@beta=10", "pkd@beta=500"]


def test_the_predecessor_meets_the_control_of_its_protocol():
    both = ["published", "equal"]
    plan = make_suite(**methods("predecessor", "finetune", protocols=both), equal={"set": {"epochs": 7}})
    assert compared(plan, "first") == [
        Comparison("control", "predecessor", "finetune"),
        Comparison("control", "predecessor@equal", "finetune@equal"),
    ]


def test_like_is_compared_with_like():
    plan = make_suite(
        **methods("finetune", "theseus", vary=[{"layers": 6}, {"layers": 3}], protocols=["published", "equal"]),
        equal={"set": {"epochs": 7}},
    )
    pairs = {pair.name: pair.other for pair in compared(plan, "first") if pair.family == "baseline"}
    assert pairs == {
        "theseus": "finetune",
        "theseus@layers=3": "finetune@layers=3",
        "theseus@equal": "finetune@equal",
        "theseus@equal+layers=3": "finetune@equal+layers=3",
    }


def test_an_experiment_may_name_its_own_control():
    plan = make_suite(**methods("predecessor", "theseus", "theseus@constant", control="theseus"))
    assert compared(plan, "first") == [
        Comparison("control", "predecessor", "theseus"),
        Comparison("control", "theseus@constant", "theseus"),
    ]


def test_a_control_that_an_experiment_names_is_taken_as_it_is():
    varied = methods("theseus@constant", control="theseus@constant", vary=[{"base_rate": 0.5}, {"base_rate": 0.9}])
    assert compared(make_suite(**varied), "first") == [
        Comparison("control", "theseus@constant+base_rate=0.9", "theseus@constant")
    ]


def test_without_its_control_an_experiment_has_no_such_family():
    assert compared(make_suite(**methods("predecessor", "theseus")), "first") == []


def test_differences_are_those_of_the_scores(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    found = read_significance("first", tmp_path)
    scores = pd.read_parquet(tmp_path / "scores/first.parquet").query("split == 'dev' and metric == 'score'")
    means = scores.groupby(["method", "task"])["value"].mean()
    rte = row_of(found, family="baseline", name="theseus", other="finetune", what="rte")
    assert rte["difference"] == pytest.approx(means["theseus", "rte"] - means["finetune", "rte"])
    assert rte["low"] < rte["difference"] < rte["high"]
    assert rte["seeds"] == 3
    assert rte["mcnemar"].keys() == {"1", "2", "3"}
    macro = row_of(found, family="baseline", name="theseus", other="finetune", what="macro")
    tasks = [row_of(found, family="baseline", name="theseus", other="finetune", what=t) for t in ("rte", "mrpc")]
    assert macro["difference"] == pytest.approx(np.mean([row["difference"] for row in tasks]))
    assert macro["error"] == pytest.approx(np.hypot(*[row["error"] for row in tasks]) / 2)
    assert "mcnemar" in row_of(found, family="baseline", name="theseus", other="pkd", what="mrpc")
    assert json.loads((tmp_path / "significance/first.json").read_text())["alpha"] == 0.05


def test_every_number_is_of_the_first_beside_the_other_seed_by_seed(tmp_path):
    """Against what the predictions themselves say, on methods and seeds that differ."""
    plan = make_suite(seeds=[1, 2, 3])
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    found = read_significance("first", tmp_path)
    row = row_of(found, family="baseline", name="theseus", other="pkd", what="rte")
    right = {}
    for name in ("theseus", "pkd"):
        for seed in (1, 2, 3):
            part = read_predictions(tmp_path / plan.run(name, "rte", seed).path, ["validation"])["validation"]
            right[name, seed] = part.logits.argmax(axis=1) == part.labels
    for seed in (1, 2, 3):
        assert row["mcnemar"][str(seed)] == pytest.approx(mcnemar(right["theseus", seed], right["pkd", seed]))
    assert len({round(p, 6) for p in row["mcnemar"].values()}) > 1, "the seeds differ, so a wrong pairing would show"
    correct = {name: 100 * np.array([right[name, seed] for seed in (1, 2, 3)]) for name in ("theseus", "pkd")}
    differences = correct["theseus"] - correct["pkd"]
    draws = np.random.default_rng(0).multinomial(EXAMPLES, np.full(EXAMPLES, 1 / EXAMPLES), size=4000)
    spread = spread_of(differences.mean(axis=1), draws @ differences.T / EXAMPLES, EXAMPLES)
    assert row["error"] == pytest.approx(conclude([spread], 0.05).error, rel=0.07)
    low, high, _ = row["percentile"]
    assert low < row["difference"] < high
    scores = {name: values.mean(axis=1) for name, values in correct.items()}
    wins = np.mean([a > b for a in scores["theseus"] for b in scores["pkd"]])
    ties = np.mean([a == b for a in scores["theseus"] for b in scores["pkd"]])
    assert row["improvement"][0] == pytest.approx(wins + ties / 2)
    rank = next(row for row in found["ranks"] if (row["name"], row["other"]) == ("theseus", "pkd"))
    frame = pd.read_parquet(tmp_path / "scores/first.parquet")
    medians = frame.groupby(["method", "task"])["value"].median()
    by_task = [medians["theseus", task] - medians["pkd", task] for task in ("mrpc", "rte")]
    assert rank["median_difference"] == pytest.approx(np.median(by_task))
    assert rank["improvement"][0] > 0.5


def test_holm_goes_over_a_family_and_each_macro_is_its_own(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    rows = read_significance("first", tmp_path)["differences"]
    for family, macro, size in [
        ("control", False, 6),
        ("control", True, 3),
        ("baseline", False, 4),
        ("baseline", True, 2),
    ]:
        part = [row for row in rows if row["family"] == family and (row["what"] == "macro") == macro]
        assert [row["p_holm"] for row in part] == pytest.approx(holm([row["p"] for row in part]))
        assert {row["tests"] for row in part} == {size}


def test_daggers_are_for_what_differs_from_the_control(tmp_path):
    plan = make_suite(seeds=[1, 2, 3, 4, 5])
    leave_suite(tmp_path, plan, skill=SKILL | {"pkd": 0.45})
    write_significance(plan, "first", tmp_path)
    found = daggers(read_significance("first", tmp_path))
    assert found["theseus", "macro"] == "better"
    assert found["pkd", "macro"] == "worse"
    assert ("finetune", "macro") not in found


def test_only_seeds_that_both_have_are_compared(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan, skip={("theseus", "rte", 2)})
    write_significance(plan, "first", tmp_path)
    found = read_significance("first", tmp_path)
    row = row_of(found, family="baseline", name="theseus", other="pkd", what="rte")
    assert row["seeds"] == 2
    assert row["mcnemar"].keys() == {"1", "3"}
    assert row_of(found, family="baseline", name="theseus", other="pkd", what="macro")["seeds"] == 2


def test_a_method_without_runs_is_left_out_and_so_is_its_macro(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan, skip={("pkd", "rte", seed) for seed in (1, 2, 3)})
    write_significance(plan, "first", tmp_path)
    whats = {row["what"] for row in read_significance("first", tmp_path)["differences"] if row["other"] == "pkd"}
    assert whats == {"mrpc"}


def test_a_suite_without_runs_has_no_tests(tmp_path):
    plan = make_suite()
    leave_suite(tmp_path, plan, skip={(run.name, run.task.name, run.seed) for run in plan.experiment_runs("first")})
    write_significance(plan, "first", tmp_path)
    assert read_significance("first", tmp_path)["differences"] == []
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
    found = read_significance("first", tmp_path)
    assert row_of(found, family="control", what="rte")["sign_flip"] == pytest.approx(2 / 64)
    assert found["aggregates"] == [], "nothing is kept of a predecessor that the experiment does not have"


def test_what_is_kept_is_a_share_of_the_predecessors_median(tmp_path):
    plan = make_suite(tasks=["rte"])
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    found = {row["name"]: row for row in read_significance("first", tmp_path)["aggregates"]}
    scores = pd.read_parquet(tmp_path / "scores/first.parquet").query("split == 'dev' and metric == 'score'")
    of = {name: np.sort(part["value"]) for name, part in scores.groupby("method")}
    assert found["predecessor"]["runs"] == 3
    expected = 100 * of["theseus"].mean() / np.median(of["predecessor"])  # a quarter of three runs is none
    assert found["theseus"]["interquartile_mean"][0] == pytest.approx(expected)
