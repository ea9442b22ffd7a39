"""A search worked out by hand: two search seeds, another budget under equal effort, and what its tables say."""

import numpy as np
import pytest
from scope import once
from suites import deciding, leave_run, make_plan
from theseus_bench.evaluation.search import select_settings
from theseus_bench.suite.search import read_choice
from theseus_bench.tables.experiment import search_tables
from theseus_bench.tables.formats import to_markdown
from worked import copy_of

# Of 20 examples (13 of class 1) how many are missed and taken, by trial and search seed: MRPC's score is the mean of
# F1 = 2 TP / (2 TP + FP + FN) and accuracy. By the first seed alone the default would be chosen.
PUBLISHED = [[(1, 1), (5, 3)], [(2, 1), (2, 2)]]
HELD_OUT = [[(4, 3), (4, 4)], [(3, 3), (3, 2)], [(1, 1), (2, 0)]]
DEV = [[(0, 0), (0, 0)], [(1, 0), (1, 0)], [(6, 6), (6, 6)]]  # under equal effort it has no say
SEEDS = (7, 8)


def score_of(false_negatives: int, false_positives: int) -> float:
    tp = 13 - false_negatives
    return (
        100
        * (2 * tp / (2 * tp + false_positives + false_negatives) + (20 - false_negatives - false_positives) / 20)
        / 2
    )


def predictions_of(false_negatives: int, false_positives: int):
    labels = np.array([1] * 13 + [0] * 7)
    decisions = labels.copy()
    decisions[:false_negatives], decisions[13 : 13 + false_positives] = 0, 1
    return np.arange(20), labels, deciding(decisions, 2)


@pytest.fixture(scope=once)
def searched_suite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    plan = make_plan(
        tasks=["mrpc"],
        search={"budget": {"published": 2, "equal": 3}, "seeds": list(SEEDS), "space": {"learning_rate": [2e-5, 5e-5]}},
        equal={"space": {"learning_rate": [1e-5, 2e-5, 5e-5]}},
        experiments={"first": {"title": "One", "methods": ["finetune"], "protocols": ["published", "equal"]}},
    )
    for name, choosing in (("finetune", PUBLISHED), ("finetune@equal", HELD_OUT)):
        trials = iter(plan.trials_of(plan.run(name, "mrpc", 1)))
        for k, by_seed in enumerate(choosing):
            for i, wrong in enumerate(by_seed):
                dev = wrong if name == "finetune" else DEV[k][i]
                predictions = {"validation": predictions_of(*dev)}
                record = {"dev_score": score_of(*dev) / 100, "seconds": {"all": 100.0 + 10 * k + i, "training": 1.0}}
                if name != "finetune":
                    predictions["held_out"] = predictions_of(*wrong)
                    record |= {"held_out_score": score_of(*wrong) / 100, "chosen_on": "held_out"}
                failed = (name, k, i) == ("finetune", 0, 1)
                record |= {"status": "failed", "reason": "no better than the majority"} if failed else {}
                leave_run(plan, next(trials), folder, predictions, **record)
    select_settings(plan, plan.run("finetune", "mrpc", 1), folder)
    return plan, folder


def rows_of(table) -> list[dict]:
    keys = [column.key for column in table.columns]
    return [{"label": row.label} | dict(zip(keys, (c.value for c in row.cells), strict=True)) for row in table.rows]


def test_the_mean_over_the_search_seeds_chooses(searched_suite):
    plan, folder = searched_suite
    choice = read_choice(folder / plan.run("finetune", "mrpc", 2).search_file)
    first = [np.mean([score_of(*wrong) for wrong in by_seed]) for by_seed in PUBLISHED]
    assert score_of(*PUBLISHED[0][0]) > score_of(*PUBLISHED[1][0])
    assert first[1] > first[0]
    assert (choice.chosen_trial.trial, choice.chosen_trial.score) == (1, pytest.approx(first[1]))
    assert choice.trials[0].scores == {
        str(s): pytest.approx(score_of(*w)) for s, w in zip(SEEDS, PUBLISHED[0], strict=True)
    }
    assert [trial.seconds for trial in choice.trials] == [201, 221]
    assert choice.device_seconds == 422
    assert choice.trials[0].status == ["complete", "failed"]


def test_the_table_of_searches_says_what_was_chosen_beside_the_default(searched_suite):
    plan, folder = searched_suite
    published, equal = rows_of(search_tables(plan, "first", folder)["search"])
    settings = plan.run("finetune", "mrpc", 1).trials[1]
    selection = read_choice(folder / plan.run("finetune", "mrpc", 1).search_file).nested_selection
    assert published == {
        "label": "Fine-tuning", "task": "MRPC", "trials": 2,
        "settings": f"learning_rate {settings['learning_rate']:g}",
        "score": pytest.approx(np.mean([score_of(*wrong) for wrong in PUBLISHED[1]])),
        "default": pytest.approx(np.mean([score_of(*wrong) for wrong in PUBLISHED[0]])),
        "same_half": selection.same_half, "other_half": selection.other_half,
        "flatters": pytest.approx(selection.same_half - selection.other_half), "seconds": 422,
    }  # fmt: skip
    assert equal == {"label": "Fine-tuning (equal)", "task": "MRPC", "trials": 3} | dict.fromkeys(
        ("settings", "score", "default", "same_half", "other_half", "flatters", "seconds")
    ), "its search has not chosen yet"
    table = search_tables(plan, "first", folder)["search"]
    assert {cell.notes for cell in table.rows[1].cells[2:]} == {("its search is not complete",)}
    assert [row.identity for row in table.rows] == [("finetune", ""), ("finetune", "equal")]
    assert "the search's seeds (7, 8)" in table.notes[0]
    assert "mean of 40 choices" in table.notes[1]
    assert table.title == "One"
    scores = [np.mean([score_of(*wrong) for wrong in by_seed]) for by_seed in PUBLISHED[::-1]]
    assert to_markdown(table).split("\n")[4] == (
        f"| Fine-tuning | MRPC | 2 | {published['settings']} | {scores[0]:.1f} | {scores[1]:.1f} | "
        f"{selection.same_half:.1f} | {selection.other_half:.1f} | {selection.flatters:.1f} | 422 |"
    ).replace("_", r"\_")


def test_the_table_of_trials_has_each_of_them_and_marks_the_one_that_was_chosen(searched_suite):
    plan, folder = searched_suite
    table = search_tables(plan, "first", folder)["trials"]
    default, other = rows_of(table)
    assert (default["trial"], default["status"], default["chosen"], default["seconds"]) == (
        0,
        "complete, failed",
        "",
        201,
    )
    assert (other["trial"], other["status"], other["chosen"], other["seconds"]) == (1, "complete", "chosen", 221)
    assert default["score"] == pytest.approx(np.mean([score_of(*wrong) for wrong in PUBLISHED[0]]))
    assert (default["label"], default["task"]) == ("Fine-tuning", "MRPC")
    rates = [trial["learning_rate"] for trial in plan.run("finetune", "mrpc", 1).trials]
    assert [row["settings"] for row in (default, other)] == [f"learning_rate {rate:g}" for rate in rates]
    assert [row.identity for row in table.rows] == [("finetune", "")] * 2
    score = f"{np.mean([score_of(*wrong) for wrong in PUBLISHED[1]]):.1f}"
    assert (
        f"| Fine-tuning | MRPC | 1 | learning\\_rate {rates[1]:g} | {score} | complete | 221 | chosen |"
        in to_markdown(table)
    )


def test_under_equal_effort_the_slice_held_out_of_train_chooses_among_three(searched_suite, tmp_path):
    plan, folder = searched_suite[0], copy_of(searched_suite[1], tmp_path)
    run = plan.run("finetune@equal", "mrpc", 3)
    select_settings(plan, run, folder)
    choice = read_choice(folder / run.search_file)
    assert len(choice.trials) == 3
    assert choice.chosen_trial.trial == 2
    assert choice.chosen_trial.score == pytest.approx(np.mean([score_of(*wrong) for wrong in HELD_OUT[2]]))
    assert choice.chosen_trial.settings == plan.trials_of(run)[4].settings
