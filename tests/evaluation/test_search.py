"""What a search chooses, what it costs, and how much choosing flatters."""

import json

import numpy as np
import pytest
from suites import deciding, leave_run, make_plan
from theseus_bench.errors import UserError
from theseus_bench.evaluation.search import nested_selection, select_settings
from theseus_bench.suite.search import read_choice
from theseus_bench.suite.status import state
from theseus_bench.training.run import with_chosen

LABELS = np.random.default_rng(0).integers(0, 2, 277)


SEARCH_SUITE = {
    "search": {"budget": 4, "seeds": [101, 102], "space": {"learning_rate": [1e-5, 2e-5, 3e-5, 5e-5]}},
    "experiments": {"first": {"title": "One", "methods": ["finetune"], "tasks": ["rte"]}},
}


@pytest.fixture
def plan():
    """Fine-tuning on RTE, four learning rates tried with two seeds."""
    return make_plan(**SEARCH_SUITE)


def leave_trials(plan, folder, rights, seconds=10.0, **record) -> None:
    """One trial after the other, each right on as many dev examples as said for its two seeds."""
    run = plan.run("finetune", "rte", 1)
    for trial, right in zip(plan.trials_of(run), np.ravel(rights), strict=True):
        predictions = np.where(np.arange(277) < right, LABELS, 1 - LABELS)
        dev = {"validation": (range(277), LABELS, deciding(predictions, 2))}
        leave_run(plan, trial, folder, dev, dev_score=right / 277, seconds={"all": seconds, "training": 9.0}, **record)


def choose(plan, folder) -> dict:
    run = plan.run("finetune", "rte", 1)
    select_settings(plan, run, folder)
    return read_choice(folder / run.search_file)


def test_the_best_mean_over_the_search_seeds_is_chosen_and_trained_with(plan, tmp_path):
    leave_trials(plan, tmp_path, [[150, 150], [200, 120], [190, 180], [170, 170]])
    choice = choose(plan, tmp_path)
    run = plan.run("finetune", "rte", 3)
    assert choice.chosen_trial.trial == 2
    assert choice.chosen_trial.score == pytest.approx(100 * 185 / 277)
    settings, trial = with_chosen(run, tmp_path)[0].settings, with_chosen(run, tmp_path)[1]
    assert trial == 2
    assert settings == run.settings | run.trials[2]
    assert settings["learning_rate"] == run.trials[2]["learning_rate"]


def test_a_run_with_the_choices_settings_is_not_stale(plan, tmp_path):
    """The run's process knows the chosen settings, the one that reads its record only what was searched."""
    leave_trials(plan, tmp_path, [[150, 150], [200, 120], [190, 180], [170, 170]])
    choose(plan, tmp_path)
    run = with_chosen(plan.run("finetune", "rte", 3), tmp_path)[0]
    fingerprint = make_plan(**SEARCH_SUITE).fingerprint(run)
    leave_run(plan, run, tmp_path, {}, fingerprint=fingerprint)
    assert state(plan, plan.run("finetune", "rte", 3), tmp_path)[0] == "complete"


def test_of_equals_the_default_is_chosen(plan, tmp_path):
    leave_trials(plan, tmp_path, [[180, 180]] * 4)
    assert choose(plan, tmp_path).chosen_trial.trial == 0


def test_all_that_was_tried_is_kept_with_its_cost(plan, tmp_path):
    leave_trials(plan, tmp_path, [[150, 151], [200, 120], [190, 180], [170, 170]], seconds=12.5)
    choice = choose(plan, tmp_path)
    assert [trial.settings for trial in choice.trials] == list(plan.run("finetune", "rte", 1).trials)
    assert choice.trials[0].scores == {
        "101": pytest.approx(100 * 150 / 277),
        "102": pytest.approx(100 * 151 / 277),
    }
    assert [trial.seconds for trial in choice.trials] == [25.0] * 4
    assert choice.device_seconds == 100.0


def test_a_trial_that_diverged_is_tried_and_not_chosen(plan, tmp_path):
    leave_trials(plan, tmp_path, [[150, 150], [200, 200], [190, 180], [170, 170]])
    run = plan.run("finetune", "rte", 1)
    trial = plan.trials_of(run)[2]  # of the setting that would be best
    logits = np.full((277, 2), np.nan)
    leave_run(
        plan, trial, tmp_path, {"validation": (range(277), LABELS, logits)},
        dev_score=None, status="failed", reason="diverged", seconds={"all": 10.0, "training": 9.0},
    )  # fmt: skip
    choice = choose(plan, tmp_path)
    assert choice.chosen_trial.trial == 2
    assert choice.trials[1].scores["101"] is None
    assert choice.trials[1].status == ["failed", "complete"]
    json.loads(choice.model_dump_json())


def test_where_every_setting_diverged_nothing_is_chosen_and_that_is_said(plan, tmp_path):
    run = plan.run("finetune", "rte", 1)
    record = {"dev_score": None, "status": "failed", "reason": "diverged"}
    for trial in plan.trials_of(run):
        leave_run(plan, trial, tmp_path, {"validation": (range(277), LABELS, np.zeros((277, 2)))}, **record)
    with pytest.raises(UserError, match=f"{run.search_file}: no trial has a score with every search seed"):
        choose(plan, tmp_path)


def test_a_trial_that_has_not_run_is_named(plan, tmp_path):
    leave_trials(plan, tmp_path, [[150, 150]] * 4)
    run = plan.run("finetune", "rte", 1)
    (tmp_path / plan.trials_of(run)[5].path / "run.json").unlink()
    with pytest.raises(UserError, match=r"finetune@trial=2/rte/seed-102: missing: not run; all trials"):
        choose(plan, tmp_path)
    assert not (tmp_path / run.search_file).exists()


def test_a_final_run_says_which_trial_of_its_search_crashed(plan, tmp_path):
    leave_trials(plan, tmp_path, [[150, 150]] * 4)
    run = plan.run("finetune", "rte", 1)
    folder = tmp_path / plan.trials_of(run)[3].path
    (folder / "run.json").unlink()
    (folder / "error.json").write_text('{"reason": "OutOfMemoryError: no more"}')
    status, reason, _ = state(plan, run, tmp_path)
    assert (status, reason) == ("missing", "not run, since trial=1 of its search crashed: OutOfMemoryError: no more")


def test_a_final_run_without_its_search_says_what_to_do(plan, tmp_path):
    with pytest.raises(UserError, match=r"theseus-bench select-settings .* finetune rte"):
        with_chosen(plan.run("finetune", "rte", 1), tmp_path)


def test_a_run_without_a_search_is_as_it_was(tmp_path):
    run = make_plan().run("finetune", "rte", 1)
    assert with_chosen(run, tmp_path) == (run, None)
    with pytest.raises(UserError, match="is not searched"):
        select_settings(make_plan(), run, tmp_path)


def trial_folders(plan, folder, right: np.ndarray) -> list:
    """Folders of trials that are right where `right` (trials, examples) says so."""
    run, folders = plan.run("finetune", "rte", 1), []
    for trial, row in zip(plan.trials_of(run), right, strict=False):
        logits = deciding(np.where(row, LABELS, 1 - LABELS), 2)
        leave_run(plan, trial, folder, {"validation": (range(277), LABELS, logits)})
        folders.append(folder / trial.path)
    return folders


def test_choosing_among_equals_by_chance_flatters_as_much_as_the_best_of_as_many_draws(plan, tmp_path):
    """Eight settings, all of true accuracy .6: the best on 138 examples is, by chance, above .6 by 1.42 standard errors
    (the mean of the largest of eight normals), and on the other half is .6 again."""
    right = np.random.default_rng(3).random((8, 277)) < 0.6
    run = plan.run("finetune", "rte", 1)
    selection = nested_selection(run, trial_folders(plan, tmp_path, right), 1)
    error = 100 * np.sqrt(0.6 * 0.4 / 138)
    assert selection["flatters"] == pytest.approx(selection["same_half"] - selection["other_half"])
    assert 0.5 * 1.42 * error < selection["flatters"] < 2.5 * 1.42 * error
    assert selection["other_half"] < 100 * right.mean(axis=1).max()


def test_a_setting_that_is_truly_better_is_not_flattered(plan, tmp_path):
    right = np.zeros((4, 277), bool)
    right[2] = True
    run = plan.run("finetune", "rte", 1)
    selection = nested_selection(run, trial_folders(plan, tmp_path, right), 1)
    assert selection == {"same_half": 100.0, "other_half": 100.0, "flatters": 0.0}


def test_the_halves_are_of_the_tasks_own_score(tmp_path):
    """MNLI: both dev splits are halved, each by itself, and a halved score is the mean over the splits."""
    plan = make_plan(
        search={"budget": 2, "space": {"learning_rate": [2e-5, 5e-5]}},
        experiments={"first": {"title": "One", "methods": ["finetune"], "tasks": ["mnli"]}},
    )
    run, folders = plan.run("finetune", "mnli", 1), []
    for trial in plan.trials_of(run):
        labels = np.arange(40) % 3
        dev = {"validation_matched": (range(40), labels, deciding(labels, 3))}
        dev["validation_mismatched"] = (range(40), labels, deciding((labels + 1) % 3, 3))
        leave_run(plan, trial, tmp_path, dev)
        folders.append(tmp_path / trial.path)
    assert nested_selection(run, folders, 1)["other_half"] == pytest.approx(50.0)


def test_under_equal_effort_the_score_on_the_slice_held_out_decides_and_dev_has_no_say(tmp_path):
    plan = make_plan(
        search={"budget": {"equal": 2}, "seeds": [101]},
        equal={"search": {"learning_rate": [1e-5, 5e-5]}},
        experiments={"first": {"title": "One", "methods": ["finetune"], "tasks": ["rte"], "protocols": ["equal"]}},
    )
    run = plan.run("finetune@equal", "rte", 1)
    for trial, (held_out, dev) in zip(plan.trials_of(run), [(30, 250), (40, 100)], strict=True):
        parts = {}
        for split, size, right in (("held_out", 50, held_out), ("validation", 277, dev)):
            predictions = np.where(np.arange(size) < right, LABELS[:size], 1 - LABELS[:size])
            parts[split] = (range(size), LABELS[:size], deciding(predictions, 2))
        scores = {"held_out_score": held_out / 50, "dev_score": dev / 277, "chosen_on": "held_out"}
        leave_run(plan, trial, tmp_path, parts, seconds={"all": 1.0}, **scores)
    select_settings(plan, run, tmp_path)
    choice = read_choice(tmp_path / run.search_file)
    assert choice.chosen_trial.trial == 1
    assert choice.chosen_trial.score == pytest.approx(100 * 40 / 50)
    assert choice.nested_selection.same_half == pytest.approx(80, abs=8)  # of the slice; the first trial's dev is 90
    assert choice.nested_selection.other_half == pytest.approx(80, abs=8)
