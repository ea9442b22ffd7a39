"""The answers on the report's first screen are counts of what the verdicts, tests and records say."""

import json

import numpy as np
import pytest
from suites import SKILL, leave_run, leave_suite, make_plan, methods
from theseus_bench.evaluation.scores import read_scores
from theseus_bench.evaluation.significance import write_significance
from theseus_bench.evaluation.significance_file import read_significance
from theseus_bench.evaluation.verdicts import judge_numbers
from theseus_bench.figures.experiment import experiment_figures
from theseus_bench.figures.frames import FigureData
from theseus_bench.files import write_json
from theseus_bench.report.findings import list_findings


def suite(folder, skip=lambda run: False, **changes):
    """A suite beside the paper's Table 2, its runs left but for those that `skip` names, and tested."""
    experiment = methods(*SKILL, compare_with=["theseus: Table 2"])
    plan = make_plan(**{"tasks": ["mrpc", "rte"], "significance": {"resamples": 1000}} | experiment | changes)
    absent = {(run.name, run.task.name, run.seed) for run in plan.experiment_runs("first") if skip(run)}
    leave_suite(folder, plan, skip=absent)
    write_significance(plan, "first", folder)
    return plan


def test_numbers_are_counted_once_on_either_side(tmp_path):
    plan = suite(tmp_path)
    reproduces, does_not, *_ = list_findings(plan, tmp_path)
    verdicts = [v.verdict for v in judge_numbers(plan, "first", read_scores("first", tmp_path))]
    assert set(verdicts) == {"undecided", "not reproduced"}
    miss_count, verdict_count = verdicts.count("not reproduced"), len(verdicts)
    assert reproduces.answer == f"0 of {verdict_count} numbers"
    assert reproduces.detail.startswith(f"{verdict_count - miss_count} of them are undecided.")
    assert does_not.answer == f"{miss_count} of {verdict_count} numbers"
    assert does_not.kind == "failed"


def test_a_demo_is_not_judged_and_nothing_of_it_is_red(tmp_path):
    demo = {"data": {"source": "demo", "rows": 16}, "seeds": [1, 2, 3]}
    reproduces, does_not, sure, _ = list_findings(suite(tmp_path, **demo), tmp_path)
    assert (reproduces.answer, does_not.answer) == ("Not comparable", "Not comparable")
    assert "not comparable (generated sentences)" in reproduces.detail
    assert (reproduces.kind, does_not.kind, sure.kind) == ("", "", "")
    assert sure.detail.endswith("On generated sentences this says nothing of the methods.")


def test_with_two_seeds_the_first_screen_tests_nothing(tmp_path):
    reproduces, does_not, sure, _ = list_findings(suite(tmp_path, seeds=[1, 2]), tmp_path)
    assert (sure.answer, sure.detail) == ("Not tested: 2 seeds", "Below 3 seeds nothing is tested.")
    assert does_not.answer.startswith("0 of ")
    assert reproduces.detail.startswith("8 of them are undecided.")


def test_failed_runs_are_said_with_how_many_there_are(tmp_path):
    plan = suite(tmp_path)
    run = plan.run("theseus", "rte", 1)
    record = json.loads((tmp_path / run.path / "run.json").read_text())
    write_json(tmp_path / run.path / "run.json", record | {"status": "failed", "reason": "diverged"})
    assert "1 of 30 runs failed: diverged, or no better than the majority." in list_findings(plan, tmp_path)[1].detail


def test_a_failed_trial_is_no_failed_run(tmp_path):
    plan = suite(tmp_path, search={"budget": {"published": 2}, "seeds": [101]})
    trials = plan.trials_of(plan.run("theseus", "rte", 1))
    assert len(trials) == 2
    leave_run(plan, trials[1], tmp_path, {}, status="failed", reason="diverged")
    assert "failed" not in list_findings(plan, tmp_path)[1].detail


def test_how_sure_is_the_primary_difference_from_the_control_with_interval_and_p_of_one_adjustment(tmp_path):
    plan = suite(tmp_path)
    sure = list_findings(plan, tmp_path)[2]
    rows = read_significance("first", tmp_path).differences
    primary = [row for row in rows if row.family == "primary"]
    (row,) = [row for row in primary if row.control]
    assert (row.name, row.other, row.target, row.tests) == ("theseus", "finetune", "macro", 2)
    assert sure.answer == f"+{row.difference:.1f} points (+{row.low:.1f} to +{row.high:.1f})"
    p = "p < 0.001" if row.p_holm < 0.001 else f"p = {row.p_holm:.3f}"
    assert sure.detail.startswith("BERT-of-Theseus minus Fine-tuning, macro, 3 seeds; ")
    assert f"{p}, adjusted like the interval for the 2 primary differences of its protocol." in sure.detail
    significant = sum(row.p_holm < 0.05 for row in primary)
    assert f"{significant} of all 2 are significant" in sure.detail
    assert sure.kind == ("complete" if row.p_holm < 0.05 else "")


def test_without_every_task_of_the_macro_the_tests_task_by_task_are_counted(tmp_path):
    plan = suite(tmp_path, skip=lambda run: run.task.name == "rte")
    sure = list_findings(plan, tmp_path)[2]
    rows = [row for row in read_significance("first", tmp_path).differences if row.primary]
    assert [(row.name, row.other, row.target) for row in rows] == [
        ("theseus", "finetune", "mrpc"),
        ("theseus", "pkd", "mrpc"),
    ]
    significant = sum(row.p_holm < 0.05 for row in rows)
    assert (sure.answer, sure.detail) == (
        "Not tested",
        "No proposed method and baseline have every task of the macro. "
        f"Task by task {significant} of 2 tested differences between them are significant.",
    )


def test_of_one_task_the_difference_on_it_is_the_answer(tmp_path):
    sure = list_findings(suite(tmp_path, tasks=["rte"]), tmp_path)[2]
    assert sure.detail.startswith("BERT-of-Theseus minus Fine-tuning, RTE, 3 seeds; ")


def test_the_first_screen_says_from_how_many_looks_at_dev_a_score_was_chosen(tmp_path):
    plan = suite(tmp_path)
    for seed, evaluations in ((1, 4), (2, 20)):
        run = plan.run("theseus", "rte", seed)
        record = json.loads((tmp_path / run.path / "run.json").read_text())
        write_json(tmp_path / run.path / "run.json", record | {"evaluations": evaluations})
    assert list_findings(plan, tmp_path)[0].detail.endswith(
        "Without equal effort a score is the best of 2 to 20 looks at the dev set."
    )
    for run in plan.runs.values():
        record = json.loads((tmp_path / run.path / "run.json").read_text())
        write_json(tmp_path / run.path / "run.json", record | {"chosen_on": "held_out", "held_out_score": 0.7})
    assert "looks at the dev set" not in list_findings(plan, tmp_path)[0].detail


def test_costs_are_those_of_all_runs_from_start_to_record(tmp_path):
    plan = suite(tmp_path)
    cost = list_findings(plan, tmp_path)[3]
    assert cost.detail.startswith("Device time of 30 runs, from start to record; ")
    assert cost.answer == "45 s", "30 runs of 1.5 s"
    assert "energy not measured in all runs" in cost.detail


def test_a_suite_without_runs_has_nothing_to_judge(tmp_path):
    findings = list_findings(suite(tmp_path, skip=lambda run: True), tmp_path)
    assert [finding.answer for finding in findings[:3]] == ["Nothing to judge yet"] * 2 + ["Not tested"]


def test_the_figures_draw_the_tested_intervals_and_those_of_the_verdicts(tmp_path):
    plan = suite(tmp_path)
    frames = FigureData(plan, "first", tmp_path)
    rows = read_significance("first", tmp_path).differences
    primary = [(row.difference, row.low, row.high) for row in rows if row.family == "primary"]
    assert [tuple(row) for row in frames.differences()[["difference", "low", "high"]].to_numpy()] == primary
    ends = [(v.reported_score + v.low, v.reported_score + v.high) for v in judge_numbers(plan, "first", frames.scores)]
    assert frames.reported()[["low", "high"]].to_numpy() == pytest.approx(np.array(ends))
    retention = frames.retention().set_index(["label", "task"])["retention"]
    means = frames.dev.groupby(["name", "task"])["value"].mean()
    assert retention["BERT-of-Theseus", "RTE"] == pytest.approx(
        100 * means["theseus", "rte"] / means["predecessor", "rte"]
    )


@pytest.mark.parametrize("results", ["nothing", "the control"])
def test_what_has_no_results_has_no_figures(tmp_path, results):
    plan = suite(tmp_path, skip=lambda run: results == "nothing" or run.spec.role != "control")
    assert experiment_figures(plan, "first", tmp_path) == []


def test_without_a_baseline_nothing_can_be_tested_and_that_is_said(tmp_path):
    plan = make_plan(tasks=["mrpc", "rte"], **methods("predecessor", "theseus"), significance={"resamples": 1000})
    leave_suite(tmp_path, plan)
    write_significance(plan, "first", tmp_path)
    sure = list_findings(plan, tmp_path)[2]
    assert (sure.answer, sure.kind) == ("Not tested", "missing")
    assert sure.detail == "No proposed method has runs in common with a baseline."
