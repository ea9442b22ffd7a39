"""What is told of two suites that differ, and of two that do not."""

import shutil

import pytest
from suites import deciding, leave_run, make_plan
from theseus_bench.commands import run as run_command
from theseus_bench.errors import UserError
from theseus_bench.evaluation.suite_diff import compare_suites
from theseus_bench.files import write_json

PLAN = make_plan(tasks=["cola", "rte"], seeds=[1, 2], compact={})


def leave(folder, name: str, task: str, seed: int, classes=(0, 1), **record):
    """A run that predicts these classes."""
    predictions = {"validation": (range(2), [0, 1], deciding(list(classes), 2))}
    leave_run(PLAN, PLAN.run(name, task, seed), folder, predictions, **record)


@pytest.fixture
def suites(tmp_path):
    """A suite with three runs, and a copy of it."""
    before, after = tmp_path / "before", tmp_path / "after"
    for seed in (1, 2):
        leave(before, "theseus", "rte", seed, dev_score=0.60 + 0.02 * seed, threads=1, inputs={"data/rte": "1" * 64})
    leave(before, "finetune", "cola", 1, dev_score=0.5)
    write_json(before / "suite.json", {"suite": "one", "equal": {"set": {"epochs": 4}}, "tasks": ["cola", "rte"]})
    shutil.copytree(before, after)
    return before, after


def test_equal_suites_have_nothing_told_of_them_but_their_number(suites, capsys):
    assert run_command(["diff", *map(str, suites)]) == 0
    assert capsys.readouterr().out == "3 runs in both, 3 with equal predictions\n"


def test_each_difference_is_told_once_with_its_cause(suites, capsys):
    before, after = suites
    shutil.rmtree(after / "runs/finetune")
    leave(after, "predecessor", "rte", 2)
    for seed in (1, 2):
        settings = PLAN.run("theseus", "rte", seed).settings | {"base_rate": 0.7}
        others = {"settings": settings, "inputs": {"data/rte": "2" * 64}}
        leave(after, "theseus", "rte", seed, (1, 0), dev_score=0.5, threads=2, **others)
    write_json(after / "suite.json", {"suite": "one", "equal": {"set": {"epochs": 5}}, "tasks": ["rte"], "threads": 2})
    assert run_command(["diff", *map(str, suites)]) == 1
    base_rate = PLAN.run("theseus", "rte", 1).settings["base_rate"]
    assert capsys.readouterr().out.splitlines() == [
        "configuration: equal.set.epochs 4 → 5",
        'configuration: tasks ["cola", "rte"] → ["rte"]',
        "configuration: threads not there → 2",
        f"finetune on cola: seed 1 in {before} alone",
        f"theseus on rte: seeds 1 and 2: dev score 63.0 → 50.0; base_rate {base_rate} → 0.7; "
        "other contents of data/rte; threads 1 → 2",
        f"predecessor on rte: seed 2 in {after} alone",
        "2 runs in both, 0 with equal predictions",
    ]


def test_a_run_without_a_score_is_said_to_have_none(suites):
    before, after = suites
    leave(after, "finetune", "cola", 1, (1, 0), dev_score=None)
    assert "finetune on cola: seed 1: dev score 50.0 → none" in compare_suites(before, after)


def test_a_folder_without_a_suite_is_one_line(suites, tmp_path):
    with pytest.raises(UserError, match=r"no suite .*name two folders such as results/demo"):
        compare_suites(suites[0], tmp_path)
