"""The worked example's figures: the numbers that go into each, against counts of right and wrong."""

import json
from contextlib import chdir

import numpy as np
import pandas as pd
import pytest
from suite import make_plan
from theseus_bench.drawing import EACH, RANGE, Frames, experiment_pictures
from theseus_bench.scores import COLUMNS
from worked import FAILED, LABELS, MACRO, MISSING, NAMES, SEEDS, TASKS, macro_of, score_of, scores_of

ROLES = {"majority": "control", "predecessor": "teacher", "finetune": "baseline", "vanilla_kd": "baseline"}


def role_of(name: str) -> str:
    return ROLES.get(name.partition("@")[0], "proposed")


def teacher_of(name: str) -> str:
    return "predecessor@equal" if "equal" in name else "predecessor"


@pytest.fixture
def frames(worked):
    return Frames(worked.plan, "glue", worked.folder)


def test_score_against_speed_has_the_macro_without_wnli_and_the_range_of_the_seeds_macros(frames):
    frame = frames.speed()
    assert list(frame["label"]) == list(NAMES.values())
    assert frames.score_name == "Macro score of 4 tasks"
    for (name, label), row in zip(NAMES.items(), frame.itertuples(), strict=True):
        seeds = [seed for seed in SEEDS if all((name, task, seed) != MISSING for task in MACRO)]
        macros = [np.mean([score_of(name, task, seed) for task in MACRO]) for seed in seeds]
        assert (row.label, row.role) == (label, role_of(name))
        assert row.score == pytest.approx(macro_of(name))
        assert (row.low, row.high) == (pytest.approx(min(macros)), pytest.approx(max(macros)))
        speeds = (row.speedup, row.speedup_low, row.speedup_high)
        if name == "majority":
            assert np.isnan(speeds).all()
        else:
            middle = 1.0 if role_of(name) == "teacher" else 1.95
            assert speeds == pytest.approx((middle, middle - 0.06, middle + 0.06))


def test_a_method_keeps_its_place_and_so_its_look_in_every_figure(frames):
    for frame in (
        frames.speed(),
        frames.retention(),
        frames.seeds(),
        frames.differences(),
        frames.printed(),
        frames.profile(),
    ):
        assert list(frame["label"].cat.categories) == list(NAMES.values())


def test_what_is_kept_is_of_the_predecessors_mean_of_the_same_protocol(frames):
    frame = frames.retention()
    rows = {(row.label, row.task): row for row in frame.itertuples()}
    assert len(rows) == len(frame) == len(NAMES) * len(TASKS)
    for name, label in NAMES.items():
        for task in TASKS:
            kept = 100 * scores_of(name, task) / scores_of(teacher_of(name), task).mean()
            row = rows[label, LABELS[task]]
            assert row.role == role_of(name)
            assert (row.retention, row.low, row.high) == pytest.approx((kept.mean(), kept.min(), kept.max()))


def test_every_seed_has_its_score_its_failure_and_the_majoritys_line(frames):
    frame = frames.seeds()
    assert len(frame) == len(NAMES) * len(TASKS) * len(SEEDS) - 1
    rows = {(row.label, row.task, row.seed): row for row in frame.itertuples()}
    for name, label in NAMES.items():
        for task in TASKS:
            for seed in SEEDS:
                if (name, task, seed) == MISSING:
                    continue
                row = rows[label, LABELS[task], seed]
                assert row.score == pytest.approx(score_of(name, task, seed))
                assert row.majority == pytest.approx(score_of("majority", task, seed))
                assert row.failed == ((name, task, seed) in (FAILED, ("finetune@equal", "cola", 3)))


def test_the_tested_differences_are_the_primary_ones_of_the_macro(worked, frames):
    rows = json.loads((worked.folder / "significance/glue.json").read_text())["differences"]
    rows = [row for row in rows if row["family"] == "primary" and row["p_holm"] is not None]
    frame = frames.differences()
    assert list(frame["what"].unique()) == ["Macro"]
    assert [(row.label, row.other) for row in frame.itertuples()] == [
        (NAMES[r["name"]], NAMES[r["other"]]) for r in rows
    ]
    assert len(frame) == 6
    for shown, row in zip(frame.itertuples(), rows, strict=True):
        assert shown.difference == pytest.approx(macro_of(row["name"]) - macro_of(row["other"]))
        assert (shown.low, shown.high, shown.p_holm) == (row["low"], row["high"], row["p_holm"])
        assert shown.p_holm >= row["p"]


def test_printed_numbers_stand_beside_ours_with_the_tolerance_of_their_task(frames):
    frame = frames.printed()
    rows = {(row.label, row.task): row for row in frame.itertuples()}
    printed = {
        ("predecessor", "cola"): 80, ("predecessor", "mrpc"): 91, ("predecessor", "stsb"): 90,
        ("predecessor", "mnli"): 60,
        ("finetune", "cola"): 30, ("finetune", "mrpc"): 98, ("finetune", "stsb"): 60,
        ("theseus", "cola"): 70, ("theseus", "mrpc"): 80, ("theseus", "stsb"): 60.5,
    }  # fmt: skip
    assert rows.keys() == {(NAMES[name], LABELS[task]) for name, task in printed}, "neither macros nor single metrics"
    for (name, task), number in printed.items():
        row = rows[NAMES[name], LABELS[task]]
        assert (row.printed, row.ours) == (number, pytest.approx(scores_of(name, task).mean()))
        assert row.tolerance == (25 if task == "cola" else 5)
        assert row.low + row.high == pytest.approx(2 * row.ours), "around ours, not around the difference"
        assert (row.verdict == "not comparable") == (task == "mnli")


def test_the_profile_is_of_all_runs_at_each_threshold(frames):
    frame = frames.profile()
    assert len(frame) == len(NAMES) * 121
    for name, label in NAMES.items():
        kept = np.concatenate([100 * scores_of(name, t) / scores_of(teacher_of(name), t).mean() for t in MACRO]).round(
            9
        )
        own = frame[frame["label"] == label].set_index("retention")["share"]
        assert own.index.tolist() == [50 + k / 2 for k in range(121)]
        assert own.tolist() == pytest.approx([(kept >= threshold).mean() for threshold in own.index])


def test_speed_over_depth_has_a_shapes_share_of_the_predecessors_layers(frames):
    (row,) = frames.depths().to_dict("records")
    assert row == {"label": "6 layers", "share": 50, "panel": "CPU, 128 tokens", "batch_size": 32, "speedup": 1.95} | {
        "low": pytest.approx(1.89), "high": pytest.approx(2.01),
    }  # fmt: skip


def test_the_pictures_say_what_their_intervals_are(worked_suite):
    with chdir(worked_suite.root):
        pictures = {one.name: one for one in experiment_pictures(worked_suite.plan, "glue", worked_suite.folder)}
    assert list(pictures) == [
        "score_against_speed", "speed_over_depth", "retention", "seed_strips", "differences", "forest", "profile",
    ]  # fmt: skip
    assert f"Upright lines: {RANGE}." in pictures["score_against_speed"].caption
    assert f"Lines through the points: {RANGE}." in pictures["retention"].caption
    assert f"Lines through the points: {EACH}." in pictures["forest"].caption
    assert "for 10 printed numbers of 3 methods on 4 tasks" in pictures["forest"].caption
    assert "intervals that hold together with 95 % within their family" in pictures["differences"].caption
    assert "is below 0.05" in pictures["differences"].caption
    assert "Crosses: 2 failed runs." in pictures["seed_strips"].caption
    assert "Not drawn (no score): Vanilla KD (equal) on STS-B (seed 3)." in pictures["seed_strips"].caption
    assert "Controls are left out: Majority class." in pictures["seed_strips"].caption
    assert "Not drawn (no score or no speed-up): Majority class." in pictures["score_against_speed"].caption
    assert "Macro score of 4 tasks of 10 methods" in pictures["score_against_speed"].caption
    assert "Stars: printed in Worker 2001, Table 3" in pictures["speed_over_depth"].caption


def test_an_experiment_with_primary_differences_of_its_own_draws_those_that_are_tested_there(worked):
    frame = Frames(worked.plan, "schedules", worked.folder).differences()
    assert [(row.label, row.other, row.what) for row in frame.itertuples()] == [
        ("BERT-of-Theseus", "Fine-tuning", "Macro"), ("BERT-of-Theseus, constant", "Fine-tuning", "Macro"),
    ]  # fmt: skip
    assert frame["difference"].iloc[0] == pytest.approx(
        macro_of("theseus", MACRO[:2]) - macro_of("finetune", MACRO[:2])
    )


def test_what_a_module_costs_is_the_predecessors_mean_less_ours(tmp_path):
    """Beside the printed loss: 91.87 − 88.50 for the first of QNLI."""
    plan = make_plan(
        tasks=["qnli", "rte"],
        experiments={
            "modules": {
                "title": "Modules", "methods": ["predecessor", "theseus@one_module"],
                "vary": [{"module": 1}, {"module": 2}], "compare_with": ["theseus: Table 5"],
            }
        },
    )  # fmt: skip
    points = {
        "predecessor": [90, 91, 92],
        "theseus@one_module+module=1": [86, 88, 90],
        "theseus@one_module+module=2": [92, 92, 92],
    }
    rows = [
        ("small", "modules", *name.partition("@")[::2], "qnli", seed, "dev", "score", float(value))
        for name, values in points.items()
        for seed, value in enumerate(values, start=1)
    ]
    (tmp_path / "scores").mkdir()
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(tmp_path / "scores/modules.parquet")
    (tmp_path / "significance").mkdir()
    (tmp_path / "significance/modules.json").write_text(
        json.dumps({"differences": [], "aggregates": [], "alpha": 0.05})
    )
    frame = Frames(plan, "modules", tmp_path).modules()
    assert frame[["module", "task", "drop", "low", "high"]].to_numpy().tolist() == [
        [1, "QNLI", 3.0, 1.0, 5.0], [2, "QNLI", -1.0, -1.0, -1.0],
    ]  # fmt: skip
    assert frame["printed_drop"].tolist() == pytest.approx([91.87 - 88.50, 91.87 - 90.54])
