"""What a choice on dev adds, from records whose curves are known; and what a run under equal effort records of it."""

import numpy as np
import pytest
from suites import leave_run, make_plan
from theseus_bench.data.metrics import measure_task, score
from theseus_bench.suite.records import read_predictions
from theseus_bench.tables.selection import selection_table
from theseus_bench.training.conformance_bench import make_bench
from theseus_bench.training.run import execute

PLAN = make_plan(
    tasks=["rte"],
    seeds=[1, 2],
    experiments={
        "first": {"title": "One", "methods": ["majority", "finetune"], "protocols": ["published", "equal"]},
    },
)


def entry(step, value, dev=None):
    return {"step": step, "score": value} | ({} if dev is None else {"dev_score": dev})


def cells(folder, label):
    table = selection_table(PLAN, "first", folder)
    row = next(row for row in table.rows if row.label == label)
    return dict(zip([column.key for column in table.columns], row.cells, strict=True))


def test_the_same_runs_are_shown_by_either_choice(tmp_path):
    curves = {  # held-out score and dev score at each evaluation; chosen held out: the second, then the first
        1: [entry(1, 0.5, 0.60), entry(2, 0.9, 0.62), entry(3, 0.7, 0.70)],
        2: [entry(1, 0.8, 0.64), entry(2, 0.7, 0.68)],
    }
    for seed, dev_score in ((1, 0.62), (2, 0.64)):
        about = {"chosen_on": "held_out", "curve": curves[seed], "evaluations": len(curves[seed])}
        leave_run(PLAN, PLAN.run("finetune@equal", "rte", seed), tmp_path, {}, dev_score=dev_score, **about)
    row_cells = cells(tmp_path, "Fine-tuning (equal)")
    assert row_cells["evaluations"].value == 2
    assert row_cells["held_out"].value == pytest.approx(63)
    assert row_cells["dev"].value == pytest.approx((70 + 68) / 2)
    assert row_cells["last"].value == pytest.approx((70 + 68) / 2)
    assert row_cells["flatters"].value == pytest.approx(6)


def test_where_nothing_was_held_out_the_last_checkpoint_is_the_measure(tmp_path):
    for seed, (first, last) in ((1, (0.7, 0.6)), (2, (0.5, 0.6))):
        about = {"curve": [entry(1, first), entry(2, last)], "evaluations": 2}
        leave_run(PLAN, PLAN.run("finetune", "rte", seed), tmp_path, {}, dev_score=max(first, last), **about)
    row_cells = cells(tmp_path, "Fine-tuning")
    assert (row_cells["held_out"].value, row_cells["held_out"].notes[0][:7]) == (None, "nothing")
    assert row_cells["dev"].value == pytest.approx(65)
    assert row_cells["last"].value == pytest.approx(60)
    assert row_cells["flatters"].value == pytest.approx(5)


def test_what_was_not_watched_or_not_run_is_said(tmp_path):
    about = {"chosen_on": "held_out", "curve": [entry(1, 0.5)], "evaluations": 1}
    leave_run(PLAN, PLAN.run("finetune@equal", "rte", 1), tmp_path, {}, dev_score=0.6, **about)
    equal, absent = cells(tmp_path, "Fine-tuning (equal)"), cells(tmp_path, "Fine-tuning")
    assert equal["held_out"].value == pytest.approx(60)
    assert equal["flatters"].value is None
    assert "dev set was scored once" in equal["flatters"].notes[0]
    assert absent["dev"].notes == ("no run of it was evaluated",)


def test_a_run_under_equal_effort_records_both_scores_apart(tmp_path):
    bench = make_bench("finetune", tmp_path)
    run = bench.plan.run("finetune@equal", "rte", 1)
    record = execute(bench.plan, run, tmp_path, tmp_path / "checkpoints")
    assert record.chosen_on == "held_out"
    assert record.evaluations == len(record.curve) == 4  # once in each of the loop's four epochs
    assert record.steps == record.planned_steps == 8  # 36 of 40 examples, in batches of 32
    parts = read_predictions(tmp_path / run.path, ["validation", "test", "held_out"])
    assert set(parts) == {"validation", "test", "held_out"}
    assert len(parts["held_out"].idx) == 4

    def score_of(split):
        return score(measure_task(run.task, {split: parts[split].logits}, {split: parts[split].labels}))

    assert record.held_out_score == score_of("held_out") == max(entry["score"] for entry in record.curve)
    assert record.dev_score == score_of("validation")
    assert record.choice_score == record.held_out_score
    assert not any("dev_score" in entry for entry in record.curve)
    assert record.steps_per_second == 8 / (record.seconds["training"] - record.seconds["evaluating"])
    assert np.isclose(record.examples_per_second, 32 * record.steps_per_second)
    assert 0 < record.seconds["evaluating"] < record.seconds["training"] <= record.seconds["all"]


def test_a_control_chooses_nothing(tmp_path):
    bench = make_bench("majority", tmp_path)
    record, _ = bench.execute("rte", "one")
    assert (record.chosen_on, record.evaluations, record.planned_steps) == ("nothing", 1, 0)
    assert record.dev_score == record.majority_score
