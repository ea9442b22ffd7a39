"""The answers on the report's first screen are counts of what the verdicts, tests and records say."""

import json

import pytest
from suite import make_plan
from test_significance import SKILL, leave_suite, methods
from theseus_bench.drawing import experiment_pictures
from theseus_bench.findings import find
from theseus_bench.records import write_json
from theseus_bench.scores import read_scores
from theseus_bench.significance import write_significance
from theseus_bench.verdicts import judge_numbers


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
    reproduces, does_not, *_ = find(plan, tmp_path)
    verdicts = [v.verdict for v in judge_numbers(plan, "first", read_scores("first", tmp_path))]
    good = verdicts.count("reproduced") + verdicts.count("within tolerance")
    judged = good + verdicts.count("not reproduced")
    assert judged == len(verdicts) > 0
    assert reproduces.answer == f"{good} of {judged} numbers"
    assert does_not.answer == f"{judged - good} of {judged} numbers"
    assert does_not.kind == "failed"


def test_how_sure_is_the_proposed_methods_difference_from_the_control(tmp_path):
    sure = find(suite(tmp_path), tmp_path)[2]
    assert sure.detail.startswith("BERT-of-Theseus minus Fine-tuning, macro, with its 95 % interval; p ")
    assert "3 seeds (One)" in sure.detail
    assert "of 8 differences tested there are significant" in sure.detail, "each once, whatever families it is in"
    assert sure.answer.startswith("+")


def test_the_first_screen_says_from_how_many_looks_at_dev_a_score_was_chosen(tmp_path):
    plan = suite(tmp_path)
    for seed, evaluations in ((1, 4), (2, 20)):
        run = plan.run("theseus", "rte", seed)
        record = json.loads((tmp_path / run.path / "run.json").read_text())
        write_json(tmp_path / run.path / "run.json", record | {"evaluations": evaluations})
    assert find(plan, tmp_path)[0].detail.endswith(
        "Without equal effort a score is the best of 2 to 20 looks at the dev set."
    )
    for run in plan.runs.values():
        record = json.loads((tmp_path / run.path / "run.json").read_text())
        write_json(tmp_path / run.path / "run.json", record | {"chosen_on": "held_out", "held_out_score": 0.7})
    assert "looks at the dev set" not in find(plan, tmp_path)[0].detail


def test_costs_are_those_of_all_runs_from_start_to_record(tmp_path):
    plan = suite(tmp_path)
    cost = find(plan, tmp_path)[3]
    assert cost.detail.startswith("Device time of 30 runs, from start to record; ")
    assert cost.answer == "45 s", "30 runs of 1.5 s"
    assert "energy not measured in all runs" in cost.detail


def test_a_suite_without_runs_has_nothing_to_judge(tmp_path):
    found = find(suite(tmp_path, skip=lambda run: True), tmp_path)
    assert [finding.answer for finding in found[:3]] == ["Nothing to judge yet"] * 2 + ["Not tested"]


@pytest.mark.parametrize("left", ["nothing", "the control"])
def test_what_has_no_results_has_no_figures(tmp_path, left):
    plan = suite(tmp_path, skip=lambda run: left == "nothing" or run.spec.role != "control")
    assert experiment_pictures(plan, "first", tmp_path) == []
