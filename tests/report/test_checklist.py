"""The checklists say what the records say, and are blank where only an author can answer."""

import os
from pathlib import Path

import pytest
from records import RECORD
from suites import leave_run, make_plan
from theseus_bench.files import write_json
from theseus_bench.report.checklist import ACL, NEURIPS, checklist
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.status import state

from results import choice_of, significance_of

EXPERIMENTS = {"first": {"title": "One", "methods": ["predecessor", "finetune", "theseus"]}}
PLAN = make_plan(tasks=["rte"], seeds=[1, 2, 3], compact={}, experiments=EXPERIMENTS)
SEARCH_PLAN = make_plan(
    tasks=["rte"],
    seeds=[1, 2],
    compact={},
    search={"budget": {"published": 3}, "seeds": [101, 102]},
    experiments={"first": {"title": "One", "methods": ["theseus"]}},
)
PROVENANCE = {
    "code": "c" * 40,
    "python": "3.11.2",
    "libraries": {"torch": "2.9.0"},
    "processor": "Xenon",
    "cores": 8,
}
ROWS = {"train": {"rows": 2490, "official_rows": 2490}, "validation": {"rows": 100, "official_rows": 277}}
BLANK = {
    ACL: ["A1", "A2", "B2", "B3", "B4", "D1–D5", "E1"],
    NEURIPS: ["1", "2", "3", "9", "10", "11", "12", "14", "15", "16"],
}


def make_record(method="finetune", seed=1, **changes) -> RunRecord:
    defaults = {"method": method, "seed": seed, "provenance": PROVENANCE, "data": ROWS, "seconds": {"all": 1800.0}}
    return RunRecord(**RECORD | defaults | changes)


def answers(plan, records, folder) -> dict[tuple[str, str], str]:
    items = checklist(plan, records, folder)
    return {(item.source, item.item.split(":")[0]): item.answer for item in items}


@pytest.mark.parametrize("records", [[], [make_record()]])
def test_what_only_an_author_can_say_is_blank_and_nothing_else_is(records, tmp_path):
    items = checklist(PLAN, records, tmp_path)
    blank = {(item.source, item.item.split(":")[0]) for item in items if item.answer == ""}
    assert blank == {(source, number) for source, numbers in BLANK.items() for number in numbers}
    assert all(bool(item.answer) == bool(item.where) for item in items)


def test_without_records_nothing_is_made_up(tmp_path):
    answer_by_item = answers(PLAN, [], tmp_path)
    for item in [(ACL, "B6"), (ACL, "C1"), (ACL, "C3"), (ACL, "C4"), (NEURIPS, "8")]:
        assert answer_by_item[item].startswith("Not known: no run has left a record yet."), item
    assert "asks for 9 runs, 0 of which have a record" in answer_by_item[NEURIPS, "4"]
    assert "Code: revision not known." in answer_by_item[NEURIPS, "5"]


def test_size_budget_and_machines_are_the_records(tmp_path):
    records = [
        make_record("finetune", parameters=66_955_010, flops={"training": 3e15, "evaluation": 1e15}),
        make_record("theseus", parameters=66_955_010, flops={"training": 2e13, "evaluation": 1e13}),
        make_record("theseus", 2, parameters=45_000_000, provenance=PROVENANCE | {"processor": "Yttrium"}, flops=None),
        make_record("theseus", 101, variant="trial=0", energy_joules=3e6, parameters=66_955_010, flops=None),
    ]
    answer = answers(PLAN, records, tmp_path)[ACL, "C1"]
    assert "Fine-tuning 67.0 M; BERT-of-Theseus 45.0–67.0 M" in answer
    assert "2 device-hours in 4 runs, 0.5 of them in searches" in answer  # four half hours
    assert "floating point operations: 4.03e+15 (of 2 of 4 runs);" in answer
    assert "energy: 3 MJ (of 1 of 4 runs)" in answer
    assert "Xenon, 8 cores, device cpu, fp32, threads a run: 1 (3 of 4 runs)" in answer
    assert "Yttrium, 8 cores, device cpu, fp32, threads a run: 1 (1 of 4 runs)" in answer


def test_what_was_not_measured_is_said(tmp_path):
    answer = answers(PLAN, [make_record(flops=None)], tmp_path)[NEURIPS, "8"]
    assert "floating point operations: not measured; energy: not measured" in answer


def test_versions_that_differ_are_both_named(tmp_path):
    other = PROVENANCE | {"libraries": {"torch": "2.10.0"}, "code": "d" * 40}
    answer_by_item = answers(PLAN, [make_record(), make_record(seed=2, provenance=other)], tmp_path)
    assert answer_by_item[ACL, "C4"] == "Python 3.11.2, torch 2.10.0, 2.9.0."
    assert f"Code: theseus-bench at {'c' * 40}, {'d' * 40}." in answer_by_item[NEURIPS, "5"]


def test_the_data_are_those_that_the_runs_saw(tmp_path):
    answer_by_item = answers(PLAN, [make_record()], tmp_path)
    assert "RTE: train 2490, validation 100 (official GLUE: 277)." in answer_by_item[ACL, "B6"]
    assert f"Data: nyu-mll/glue at {'0' * 40}." in answer_by_item[ACL, "B6"]
    assert f"Backbone: google-bert/bert-base-uncased at {'0' * 40}." in answer_by_item[NEURIPS, "5"]


def test_local_data_and_samples_are_declared(tmp_path):
    local = {"source": "local", "path": str(tmp_path), "samples": ["rte"]}
    plan = make_plan(tasks=["rte", "mrpc"], compact={}, data=local, experiments=EXPERIMENTS)
    answer = answers(plan, [make_record()], tmp_path)[NEURIPS, "5"]
    assert "Data: a local folder. Declared as other than official GLUE: RTE." in answer


def test_every_answer_says_where_it_comes_from(tmp_path):
    items = checklist(PLAN, [make_record()], tmp_path)
    text = "".join(f"{item.source} | {item.item} | {item.where}\n" for item in items)
    golden = Path(__file__).parent / "golden/checklist.txt"
    if os.environ.get("THESEUS_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8", newline="\n")
        pytest.fail("checklist.txt is rewritten: read its difference, and test without THESEUS_GOLDEN")
    assert text == golden.read_text(encoding="utf-8")


def test_seeds_and_failures_are_counted(tmp_path):
    records = [make_record("finetune", seed) for seed in (1, 2, 3)]
    records += [make_record("theseus", 1, status="failed", reason="at or below the majority class")]
    records += [make_record("predecessor", 101)]  # for a search: no number stands on it
    answer = answers(PLAN, records, tmp_path)[ACL, "C3"]
    assert "Seeds behind a method's number on a task: 1–3." in answer
    assert "Of 9 runs 4 are complete, 1 failed and 4 have no record." in answer
    assert answer.endswith("No difference was tested.")


def test_tests_are_named_where_they_were_made(tmp_path):
    write_json(tmp_path / "significance" / "first.json", significance_of({"p_holm": None}))
    assert "No difference was tested." in answers(PLAN, [make_record()], tmp_path)[NEURIPS, "7"]
    write_json(tmp_path / "significance" / "first.json", significance_of({"p_holm": None}, {"p_holm": 0.5}))
    answer = answers(PLAN, [make_record()], tmp_path)[NEURIPS, "7"]
    assert "in 1 of 1 experiments" in answer
    assert "10000 resamples" in answer
    assert "α = 0.05" in answer


def test_the_search_is_what_was_really_tried(tmp_path):
    run = SEARCH_PLAN.run("theseus", "rte", 1)
    for trial in SEARCH_PLAN.trials_of(run)[
        :3
    ]:  # both seeds of the first setting, one of the second; the third is missing
        leave_run(SEARCH_PLAN, trial, tmp_path, {})
    for search_run in (run, SEARCH_PLAN.teacher_of(run)):
        write_json(tmp_path / search_run.search_file, choice_of(search_run))
    records = [record for trial in SEARCH_PLAN.runs.values() if (record := state(SEARCH_PLAN, trial, tmp_path)[2])]
    answer = answers(SEARCH_PLAN, records, tmp_path)[ACL, "C2"]
    assert "Searches: 2, of which 2 have chosen" in answer
    assert "budget for each method and task: 3 (published), 1 (equal)" in answer
    assert "settings tried: 2 of 6." in answer
    # the first two have base rates of 0.3 and 0.1; the third did not run
    assert answer.endswith("Values tried: base_rate 0.1, 0.3; full_rate_at 1000.0, 5000.0; learning_rate 2e-05.")


def test_no_search_is_said_to_be_none(tmp_path):
    assert "Nothing was searched" in answers(PLAN, [make_record()], tmp_path)[NEURIPS, "6"]


def test_models_are_counted_that_runs_with_a_record_keep(tmp_path):
    """The predecessor's are always kept, a student's only where the suite asks for it, a trial's never."""
    assert answers(PLAN, [], tmp_path)[NEURIPS, "13"] == "No model was kept."
    records = [make_record(method, seed=seed) for method in ("predecessor", "finetune") for seed in (1, 2)]
    assert (
        answers(PLAN, records, tmp_path)[NEURIPS, "13"] == "Models kept where they were trained, with a card each: 2."
    )


def test_generated_data_are_not_called_glue(tmp_path):
    plan = make_plan(tasks=["rte"], compact={}, data={"source": "demo", "rows": 60}, experiments=EXPERIMENTS)
    answer_by_item = answers(plan, [], tmp_path)
    assert "they say nothing of real text" in answer_by_item[ACL, "B5"]
    assert "Data: generated, 60 training sentences a task." in answer_by_item[NEURIPS, "5"]
