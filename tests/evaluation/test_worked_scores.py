"""The worked example's scores: from saved predictions to points, against counts of right and wrong."""

import math

import numpy as np
import pandas as pd
import pytest
from scope import once
from suites import deciding, leave_run, make_plan
from theseus_bench.errors import UserError
from theseus_bench.evaluation.scores import write_scores
from worked import MISSING, NEVER_EVALUATED, SUITE, copy_of, score_of

METHODS = ["majority", "finetune", "vanilla_kd", "theseus", "theseus@constant"]


@pytest.fixture(scope=once)
def scored_suite(worked_suite, tmp_path_factory):
    """The scores of some of the runs, and the folder that they lie in."""
    experiment = SUITE["experiments"]["glue"] | {"methods": METHODS, "seeds": [2, 3], "compare_with": []}
    plan = make_plan(**SUITE | {"experiments": {"glue": experiment}})
    folder = copy_of(worked_suite.folder, tmp_path_factory.mktemp("scored"))
    write_scores(plan, "glue", folder)
    return plan, pd.read_parquet(folder / "scores" / "glue.parquet"), folder


def value_of(frame, method, variant, task, seed, split="dev", metric="score") -> float:
    keys = {"method": method, "variant": variant, "task": task, "seed": seed, "split": split, "metric": metric}
    (value,) = frame.loc[np.logical_and.reduce([frame[key] == value for key, value in keys.items()]), "value"]
    return value


def test_every_run_has_the_score_that_its_counts_say(scored_suite):
    plan, frame, _ = scored_suite
    runs = {(run.name, run.task.name, run.seed): run for run in plan.experiment_runs("glue")}
    scores = frame[(frame["split"] == "dev") & (frame["metric"] == "score")]
    scores_by_run = {
        (f"{row.method}@{row.variant}" if row.variant else row.method, row.task, row.seed): row.value
        for row in scores.itertuples()
    }
    assert scores_by_run == {key: pytest.approx(score_of(*key), abs=1e-6) for key in runs if key != MISSING}
    assert len(scores_by_run) == 9 * 5 * 2 - 1
    assert (set(frame["suite"]), set(frame["experiment"])) == ({"small"}, {"glue"})


def test_some_scores_by_hand(scored_suite):
    """Fine-tuning, seed 2. CoLA: 3 of 12 missed, 4 of 8 taken: TP 9, FN 3, FP 4, TN 4. MRPC: 4 of 13 and 3 of 7:
    TP 9, FN 4, FP 3, TN 4. MNLI: 5 of 10 and 3 of 8 wrong. STS-B: ranks 1 and 7 of ten have changed places."""
    frame = scored_suite[1]
    assert value_of(frame, "finetune", "", "cola", 2) == pytest.approx(
        100 * (9 * 4 - 4 * 3) / math.sqrt(13 * 12 * 8 * 7)
    )
    assert value_of(frame, "finetune", "", "mrpc", 2) == pytest.approx(100 * (18 / 25 + 13 / 20) / 2)
    assert value_of(frame, "finetune", "", "mnli", 2) == pytest.approx((50 + 62.5) / 2)  # not 10 of 18
    assert value_of(frame, "finetune", "", "stsb", 2) == pytest.approx(100 - 100 * 6 * 2 * 36 / 990)
    assert value_of(frame, "finetune", "", "wnli", 2) == 100
    assert value_of(frame, "majority", "", "cola", 2) == 0  # one class alone has no correlation
    assert value_of(frame, "majority", "", "mrpc", 2) == pytest.approx(100 * (26 / 33 + 13 / 20) / 2)


def test_single_metrics_stand_beside_the_score_each_of_its_split(scored_suite):
    frame = scored_suite[1]
    assert value_of(frame, "finetune", "", "mrpc", 2, "validation", "f1") == pytest.approx(72)
    assert value_of(frame, "finetune", "", "mrpc", 2, "validation", "accuracy") == pytest.approx(65)
    assert value_of(frame, "finetune", "", "mnli", 2, "validation_matched", "accuracy") == pytest.approx(50)
    assert value_of(frame, "finetune", "", "mnli", 2, "validation_mismatched", "accuracy") == pytest.approx(62.5)


def test_a_test_split_with_labels_is_scored_apart_and_not_in_the_dev_score(scored_suite):
    """Every decision on it is wrong."""
    frame = scored_suite[1]
    assert value_of(frame, "finetune", "", "mrpc", 2, "test", "accuracy") == 0
    assert value_of(frame, "finetune", "", "mrpc", 2, "test", "f1") == 0


def test_a_variant_and_a_protocol_have_scores_of_their_own(scored_suite):
    """CoLA, seed 2: plain, constant and both under equal effort have all made other mistakes."""
    frame = scored_suite[1]
    names = ("", "constant", "equal", "equal+constant")
    values = [value_of(frame, "theseus", variant, "cola", 2) for variant in names]
    assert len({round(value, 6) for value in values}) == 4
    # Counts (TP, FP, FN, TN): (10, 1, 2, 7), (10, 3, 2, 5), (11, 3, 1, 5), (9, 3, 3, 5)
    assert values == pytest.approx([
        100 * (70 - 2) / math.sqrt(11 * 12 * 8 * 9), 100 * (50 - 6) / math.sqrt(13 * 12 * 8 * 7),
        100 * (55 - 3) / math.sqrt(14 * 12 * 8 * 6), 100 * (45 - 9) / math.sqrt(12 * 12 * 8 * 8),
    ])  # fmt: skip


def test_what_was_never_evaluated_has_the_majoritys_score_and_no_other_row(scored_suite):
    name, task, seed = NEVER_EVALUATED
    method, _, variant = name.partition("@")
    frame = scored_suite[1]
    rows = frame[(frame["method"] == method) & (frame["variant"] == variant) & (frame["task"] == task)]
    rows = rows[rows["seed"] == seed]
    assert rows[["split", "metric", "value"]].to_numpy().tolist() == [["dev", "score", 0.0]]


def test_the_curves_are_in_points_one_row_for_each_evaluation(scored_suite):
    curves = pd.read_csv(scored_suite[2] / "scores" / "glue_curves.csv", keep_default_na=False, na_values=[""])
    curves = curves.fillna({"variant": ""})
    rows = curves[(curves["method"] == "theseus") & (curves["variant"] == "equal") & (curves["task"] == "mrpc")]
    rows = rows[rows["seed"] == 2]
    last = score_of("theseus@equal", "mrpc", 2)
    assert rows["step"].tolist() == [4, 8]
    assert rows["epoch"].tolist() == [1, 2]
    assert rows["score"].tolist() == pytest.approx([last - 25, last], abs=1e-3)
    assert rows["dev_score"].tolist() == pytest.approx([(100 + last) / 2, last], abs=1e-3)
    assert rows["replacing_rate"].tolist() == [0.5, 1]
    assert "majority" not in set(curves["method"])
    assert len(curves) == 2 * (8 * 5 * 2 - 2), "the missing run and the one never evaluated have none"


def test_a_score_that_is_not_that_of_the_predictions_is_refused(tmp_path):
    """Of four decisions three are right, and the record says that all are."""
    plan = make_plan(tasks=["rte"], seeds=[1], experiments={"one": {"title": "One", "methods": ["finetune"]}})
    run = plan.run("finetune", "rte", 1)
    predictions = {"validation": (np.arange(4), [0, 1, 0, 1], deciding([0, 1, 0, 0], 2))}
    leave_run(plan, run, tmp_path, predictions, dev_score=1.0)
    message = (
        r"run\.json: its dev score, 100\.0000, is not that of its predictions, 75\.0000; delete "
        rf"{tmp_path / run.path}, and the same snakemake command mends it$"
    )
    with pytest.raises(UserError, match=message):
        write_scores(plan, "one", tmp_path)
    leave_run(plan, run, tmp_path, predictions, dev_score=0.75)
    write_scores(plan, "one", tmp_path)
