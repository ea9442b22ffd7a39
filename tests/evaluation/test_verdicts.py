"""Reproduced or not: number by number and claim by claim, from scores that the tests choose."""

import csv
import io
import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats
from suites import make_plan
from theseus_bench.evaluation.scores import COLUMNS
from theseus_bench.evaluation.verdicts import judge_numbers
from theseus_bench.report.findings import judge_all_numbers
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.published import PUBLISHED_FOLDER, load_published
from theseus_bench.suite.run_names import RunName
from theseus_bench.tables.experiment import reported_scores
from theseus_bench.tables.formats import to_csv
from theseus_bench.tables.verdicts import verdicts_table

TABLE_2 = ["theseus: Table 2"]
EQUAL = {"set": {"epochs": 7}}
EIGHT = ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb"]
REPORTED_ROWS = load_published(PUBLISHED_FOLDER)["theseus: Table 2"][1].rows


def plan_of(experiment=None, **changes):
    experiment = {"title": "One", "methods": ["finetune", "theseus"], "tasks": ["rte"], "compare_with": TABLE_2} | (
        experiment or {}
    )
    return make_plan(tasks=EIGHT, experiments={"first": experiment}, **changes)


def frame(*rows) -> pd.DataFrame:
    """(name, task, [points of seed 1, 2, …], metric, split) as tidy scores."""
    tidy = []
    for name, task, points, *rest in rows:
        metric, split = (*rest, "score", "dev")[:2] if len(rest) == 2 else ("score", "dev")
        method, _, variant = name.partition("@")
        tidy += [
            ("small", "first", method, variant, task, seed, split, metric, value)
            for seed, value in enumerate(points, start=1)
        ]
    return pd.DataFrame(tidy, columns=COLUMNS)


def verdict(plan, scores, name="theseus", target="rte"):
    (verdicts,) = [v for v in judge_numbers(plan, "first", scores) if (v.name, v.target) == (name, target)]
    return verdicts


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (68.2, "reproduced"), (69.2, "reproduced"), (67.2, "reproduced"),
        (69.3, "not reproduced"), (67.1, "not reproduced"),
    ],
)  # fmt: skip
def test_the_rule_counts_points_from_the_printed_number(score, expected):
    """Seeds that do not differ leave an interval without width."""
    result = verdict(plan_of(), frame(("theseus", "rte", [score] * 3)))
    assert (result.verdict, result.reported_score, result.mean) == (expected, 68.2, score)
    assert (result.low, result.high) == pytest.approx((score - 68.2, score - 68.2))


def test_the_interval_has_our_seeds_error_and_that_of_the_papers_runs():
    """Three seeds of variance 1 beside the median of five runs: by hand."""
    result = verdict(plan_of({"methods": ["theseus"]}), frame(("theseus", "rte", [67.0, 68.0, 69.0])))
    reach = stats.t.isf(0.025, 2) * math.sqrt(1 / 3 + math.pi / 2 / 5)
    assert (result.low, result.high) == pytest.approx((-0.2 - reach, -0.2 + reach))
    assert result.verdict == "undecided"
    for tolerance, expected in ((3.7, "reproduced"), (3.6, "undecided")):
        plan = plan_of({"methods": ["theseus"]}, verdicts={"tolerance": tolerance})
        assert verdict(plan, frame(("theseus", "rte", [67.0, 68.0, 69.0]))).verdict == expected
    far = verdict(plan_of({"methods": ["theseus"]}), frame(("theseus", "rte", [72.0, 73.0, 74.0])))
    assert far.low == pytest.approx(4.8 - reach)
    assert (far.verdict, far.low > 1) == ("not reproduced", True)


def test_a_number_of_a_table_that_tells_of_no_runs_is_taken_as_it_stands():
    experiment = {"methods": ["theseus_transfer"], "compare_with": ["theseus: Table 4"]}
    result = verdict(plan_of(experiment), frame(("theseus_transfer", "rte", [69.0, 70.0, 71.0])), "theseus_transfer")
    assert result.high - result.low == pytest.approx(2 * stats.t.isf(0.025, 2) * math.sqrt(1 / 3))


def test_other_methods_on_the_task_moderate_a_variance_and_other_protocols_do_not():
    scores = frame(("theseus", "rte", [68.0, 68.0, 68.0]), ("finetune", "rte", [60.0, 62.0, 64.0]))
    result = verdict(plan_of(), scores)
    variance = (2 * 4.0 + 2 * 0.0) / 4  # the prior is of the one other, so it has no more weight than that has,
    reach = stats.t.isf(0.025, 2) * math.sqrt(variance * (1 / 3 + math.pi / 2 / 5))
    assert (result.low, result.high) == pytest.approx((-0.2 - reach, -0.2 + reach)), "nor more degrees of freedom"
    apart = verdict(plan_of(), frame(("theseus", "rte", [68.0] * 3), ("finetune@equal", "rte", [60.0, 62.0, 64.0])))
    assert result.high > apart.high == pytest.approx(-0.2)


def test_a_variance_is_moderated_by_the_start_where_four_methods_have_it():
    """Four from the predecessor's layers whose seeds agree, beside three from the backbone's whose seeds do not."""
    own = ["finetune@start=predecessor", "vanilla_kd@start=predecessor", "pkd@start=predecessor", "theseus"]
    others = ["finetune", "vanilla_kd", "pkd"]
    calm, wild = [68.0, 69.0, 70.0], [50.0, 60.0, 70.0]
    scores = frame(*((name, "rte", calm) for name in own), *((name, "rte", wild) for name in others))
    result = verdict(plan_of({"methods": [*own, *others]}), scores)
    reach = stats.t.isf(0.025, 2) * math.sqrt(1.0 * (1 / 3 + math.pi / 2 / 5))
    assert result.high - result.low == pytest.approx(2 * reach)


def test_the_rule_is_the_configurations():
    scores = frame(("theseus", "rte", [70.0] * 3))
    rules = [
        ({"tolerance": 2.0}, "reproduced"),
        ({"tolerance_by_task": {"rte": 1.8}}, "reproduced"),
        ({"tolerance_by_task": {"cola": 9}}, "not reproduced"),
    ]
    for rule, expected in rules:
        assert verdict(plan_of(verdicts=rule), scores).verdict == expected


def test_ours_is_the_mean_and_few_seeds_decide_nothing():
    result = verdict(plan_of(), frame(("theseus", "rte", [60.0, 68.0, 91.0])))
    assert (result.mean, result.seeds, result.verdict, result.reason) == (73.0, 3, "undecided", "")
    for seeds, values in ((1, [68.2]), (2, [68.2, 68.2])):
        result = verdict(plan_of(), frame(("theseus", "rte", values)))
        assert (result.seeds, result.verdict, result.reason) == (seeds, "undecided", f"{seeds} of 3 seeds")
        assert (result.low, result.high) == (None, None)
    few = verdict(plan_of({"seeds": [1, 2]}), frame(("theseus", "rte", [68.2, 68.2])))
    assert (few.verdict, few.reason) == ("undecided", "2 seeds")


def test_what_was_not_run_is_not_judged():
    result = verdict(plan_of(), frame(("finetune", "rte", [62.0] * 3)))
    assert (result.mean, result.verdict) == (None, "not run")
    assert verdict(plan_of(), frame(("theseus@constant", "rte", [68.2] * 3))).verdict == "not run"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backbone": {"source": "folder", "name": "mine", "layers": 12}}, "another backbone than google-bert"),
        ({"data": {"source": "local", "path": "x", "samples": ["rte"]}}, "the data of RTE is a sample"),
        ({"data": {"source": "demo", "rows": 16}}, "generated sentences"),
    ],
)
def test_what_is_of_another_kind_is_not_comparable(changes, reason):
    result = verdict(plan_of(**changes), frame(("theseus", "rte", [68.2] * 3)))
    assert result.verdict == "not comparable"
    assert result.reason.startswith(reason)
    assert result.mean == 68.2  # shown all the same


def test_another_tasks_sample_does_no_harm():
    plan = plan_of(data={"source": "local", "path": "x", "samples": ["mnli"]})
    assert verdict(plan, frame(("theseus", "rte", [68.2] * 3))).verdict == "reproduced"


def all_tasks(name, points):
    return [(name, task, [points[task]] * 3) for task in EIGHT]


def test_a_macro_is_of_the_tasks_that_are_printed_and_all_of_them():
    plan = plan_of({"tasks": None})
    reported_scores = REPORTED_ROWS["theseus"].scores
    result = verdict(plan, frame(*all_tasks("theseus", reported_scores)), target="macro")
    assert result.mean == pytest.approx(sum(reported_scores.values()) / 8)
    assert result.verdict == "reproduced"
    lacking = frame(*all_tasks("theseus", reported_scores)[1:])
    assert verdict(plan, lacking, target="macro").verdict == "not run"


def test_the_interval_of_a_macro_is_that_of_a_mean_of_tasks():
    """Seeds of variance 1 on each of eight tasks, beside medians of five runs: by hand."""
    points = REPORTED_ROWS["theseus"].scores
    rows = [("theseus", task, [points[task] - 1, points[task], points[task] + 1]) for task in EIGHT]
    result = verdict(plan_of({"tasks": None, "methods": ["theseus"]}), frame(*rows), target="macro")
    reach = stats.t.isf(0.025, 8 * 2) * math.sqrt((1 / 3 + math.pi / 2 / 5) / 8)
    difference = sum(points.values()) / 8 - 81.2
    assert (result.low, result.high) == pytest.approx((difference - reach, difference + reach))
    assert result.verdict == "reproduced"


def test_printed_rows_stand_beside_runs_by_the_authors_recipe_alone():
    experiment = {"methods": ["theseus", "pkd"], "tasks": ["mrpc", "rte"], "protocols": ["published", "equal"]}
    plan = plan_of(experiment | {"compare_with": [*TABLE_2, "theseus: Table 3", "pkd: result files"]}, equal=EQUAL)
    beside = reported_scores(plan, "first")
    assert {name: [(row.label, row.scores) for row in rows] for name, rows in beside.items()} == {
        "theseus": [("Xu et al. 2020, Table 2", {"mrpc": 89.0, "rte": 68.2})],
        "pkd": [
            ("Xu et al. 2020, Table 2", {"mrpc": 85.7, "rte": 66.5}),
            ("Sun et al. 2019, result files", {"rte": 68.2}),  # its MRPC is an accuracy alone
        ],
    }
    assert beside["theseus"][0].incomparable == ""
    assert (
        beside["pkd"][1].incomparable == "not comparable: the printed number is the best of its runs, ours their mean"
    )
    whole = reported_scores(plan_of({"tasks": None}), "first")["theseus"][0]
    assert (len(whole.scores), whole.scores["macro"]) == (9, 81.2)


def test_one_printed_metric_is_compared_with_that_metric():
    plan = plan_of({"methods": ["pkd"], "tasks": ["mrpc"], "compare_with": ["pkd: result files"]})
    scores = frame(("pkd", "mrpc", [10.0] * 3), ("pkd", "mrpc", [84.6] * 3, "accuracy", "validation"))
    result = verdict(plan, scores, "pkd", "mrpc")
    assert (result.metric, result.mean) == ("accuracy", 84.6)
    assert result.verdict == "not comparable"  # a best is not a mean
    assert "the best of its runs" in result.reason


@pytest.mark.parametrize(("method", "reported_score"), [("pkd", 82.3), ("vanilla_kd", 80.8), ("finetune", 80.3)])
def test_a_number_of_one_split_is_compared_with_ours_of_that_split(method, reported_score):
    """Sun et al.'s MNLI is the matched set alone."""
    plan = plan_of({"methods": [method], "tasks": ["mnli"], "compare_with": ["pkd: result files"]})
    halves = [("validation_matched", [81.5, 82.0, 82.5]), ("validation_mismatched", [70.0] * 3)]
    parts = [(method, "mnli", points, "accuracy", split) for split, points in halves]
    whole = (method, "mnli", [76.0] * 3)
    result = verdict(plan, frame(whole, *parts), method, "mnli")
    assert (result.reported_score, result.mean, result.seeds) == (reported_score, 82.0, 3)
    assert (result.metric, result.split) == ("accuracy", "validation_matched")
    assert "the best of its runs" in result.reason
    (row,) = verdicts_table(plan, [result], "One").rows
    assert row.cells[1].value == "accuracy (validation_matched)"
    assert verdict(plan, frame(whole, parts[1]), method, "mnli").verdict == "not run"


def test_each_half_of_a_printed_test_says_which_it_is():
    plan = plan_of({"tasks": ["mnli"], "compare_with": ["theseus: Table 3"]})
    parts = [("theseus", "mnli", [82.4] * 3, "accuracy", f"test_{half}") for half in ("matched", "mismatched")]
    verdicts = [v for v in judge_numbers(plan, "first", frame(*parts)) if v.name == "theseus"]
    assert [(v.split, v.reported_score, v.mean) for v in verdicts] == [
        ("test_matched", 82.4, 82.4),
        ("test_mismatched", 82.1, 82.4),
    ]


def test_test_numbers_are_compared_with_test_numbers_only():
    plan = plan_of({"tasks": ["mrpc", "rte"], "compare_with": ["theseus: Table 3"]})
    dev = [("theseus", "rte", [66.2] * 3), ("theseus", "mrpc", [85.4] * 3)]
    test = [("theseus", "mrpc", [87.6] * 3, "f1", "test"), ("theseus", "mrpc", [80.0] * 3, "accuracy", "test")]
    verdicts = [v for v in judge_numbers(plan, "first", frame(*dev, *test)) if v.name == "theseus"]
    means = [None if v.mean is None else round(v.mean, 6) for v in verdicts]
    assert [
        (v.target, v.metric, v.reported_score, mean, v.verdict) for v, mean in zip(verdicts, means, strict=True)
    ] == [
        ("mrpc", "f1", 87.6, 87.6, "reproduced"),
        ("mrpc", "accuracy", 83.2, 80.0, "not reproduced"),
        ("rte", "accuracy", 66.2, None, "not run"),
    ]
    assert verdicts[2].reason == "the labels are the GLUE server's"


def test_variants_are_compared_with_their_own_rows_and_by_the_authors_recipe_alone():
    experiment = {"methods": ["theseus", "theseus@constant+base_rate=0.7"], "vary": [{"layers": 6}, {"layers": 4}]}
    experiment |= {"protocols": ["published", "equal"]}
    experiment |= {"compare_with": ["theseus: Table 2", "theseus: Table 6", "theseus: Table 7"]}
    numbers = [(v.name, v.reported_score) for v in judge_numbers(plan_of(experiment, equal=EQUAL), "first", frame())]
    assert numbers == [
        ("theseus", 68.2), ("theseus@constant+base_rate=0.7", 66.4), ("theseus@layers=4", 61.9),
    ]  # fmt: skip


def test_a_rate_that_the_paper_does_not_name_is_compared_with_the_best_of_ours_and_that_is_said():
    names = ["theseus@constant", "theseus@constant+base_rate=0.7", "theseus@constant+base_rate=0.9"]
    plan = plan_of({"methods": names, "compare_with": ["theseus: Table 6"]})
    means = [66.0, 66.5, 60.0]
    (verdicts,) = judge_numbers(plan, "first", frame(*((n, "rte", [m] * 3) for n, m in zip(names, means, strict=True))))
    assert (verdicts.name, verdicts.reported_score, verdicts.mean) == ("theseus@constant+base_rate=0.7", 66.4, 66.5)
    assert verdicts.reason == "the best of 3 settings here: the paper does not say which it is"
    (alone,) = judge_numbers(plan_of({"methods": names[:1], "compare_with": ["theseus: Table 6"]}), "first", frame())
    assert (alone.name, alone.verdict) == ("theseus@constant", "not run")


def test_each_printed_number_is_judged_once_in_the_suite_of_the_paper(tmp_path):
    """As many as the yaml files hold for its experiments, whatever table stands in how many of them."""
    plan = load_plan(read_yaml(Path("config/config.yaml")))
    for experiment in plan.suite.experiments:
        (tmp_path / "scores").mkdir(exist_ok=True)
        frame().astype({"value": float}).to_parquet(tmp_path / f"scores/{experiment}.parquet")
    verdicts = judge_all_numbers(plan, tmp_path)
    count = 0
    for _, table in load_published(PUBLISHED_FOLDER).values():
        for row in table.rows.values():
            count += sum(len(v) if isinstance(v, list) else 1 for v in row.scores.values()) + (row.macro is not None)
    assert len(verdicts) == count
    assert {v.verdict for v in verdicts} == {"not run"}
    assert all(RunName.parse(v.name).protocol == "published" for v in verdicts)


def test_every_printed_row_has_a_run_of_ours_and_every_counterpart_is_printed():
    plan = plan_of()
    rows = {row for _, table in load_published(PUBLISHED_FOLDER).values() for row in table.rows}
    assert {row for spec in plan.specs.values() for row in spec.published} == rows


# -- tables


def verdict_rows(table):
    keys = [column.key for column in table.columns]
    return {row.label: dict(zip(keys, row.cells, strict=True)) for row in table.rows}


def test_the_verdicts_stand_beside_ours_and_the_printed_number():
    plan = plan_of()
    verdicts = judge_numbers(plan, "first", frame(("theseus", "rte", [69.0] * 3)))
    table = verdicts_table(plan, verdicts, "One")
    rows = verdict_rows(table)
    theseus = rows["BERT-of-Theseus"]
    assert [theseus[key].value for key in ("printed", "ours", "verdict")] == [68.2, 69.0, "reproduced"]
    assert theseus["difference"].value == pytest.approx(0.8)
    assert theseus["difference"].value_text == "+0.8"
    assert theseus["difference"].interval == pytest.approx((0.8, 0.8))
    assert (theseus["verdict"].notes, theseus["printed"].notes) == ((), ())
    assert "within 1 points" in table.notes[0]
    assert table.caption == "Ours beside the numbers of theseus: Table 2."


def test_why_a_number_has_its_verdict_is_a_footnote_and_a_field_of_the_csv():
    plan = plan_of(data={"source": "local", "path": "x", "samples": ["rte"]})
    table = verdicts_table(plan, judge_numbers(plan, "first", frame(("theseus", "rte", [69.0] * 3))), "One")
    rows = verdict_rows(table)
    why = "the data of RTE is a sample"
    assert rows["BERT-of-Theseus"]["verdict"].notes == (why,)
    missing = rows["Fine-tuning"]
    assert (missing["ours"].value, missing["difference"].value) == (None, "")
    assert missing["ours"].notes == missing["verdict"].notes == ("no run of it has a score",)
    lines = {line["method"]: line for line in csv.DictReader(io.StringIO(to_csv(table)))}
    assert lines["theseus"]["verdict_reason"] == why
    assert lines["theseus"]["published"] == "theseus: Table 2"


def test_numbers_of_several_tables_each_say_where_they_are_printed():
    plan = plan_of({"methods": ["pkd"], "compare_with": [*TABLE_2, "pkd: result files"]})
    table = verdicts_table(plan, judge_numbers(plan, "first", frame(("pkd", "rte", [66.0] * 3))), "One")
    reported_cells = {row.identity[2]: row.cells[2] for row in table.rows}
    assert {key: cell.notes for key, cell in reported_cells.items()} == {
        "theseus: Table 2": ("printed in theseus: Table 2",), "pkd: result files": ("printed in pkd: result files",),
    }  # fmt: skip
    assert table.caption == "Ours beside the printed numbers."


def test_a_recipe_that_the_suite_changes_is_adapted_and_not_compared():
    experiment = {"methods": ["finetune", "theseus"], "compare_with": TABLE_2}
    plan = plan_of(experiment, settings=[{"methods": ["theseus"], "set": {"epochs": 3}}])
    scores = frame(("theseus", "rte", [68.2] * 3), ("finetune", "rte", [62.1] * 3))
    result = verdict(plan, scores, "theseus")
    assert (result.verdict, result.reason) == ("not comparable", "the suite's settings change its recipe")
    assert verdict(plan, scores, "finetune").verdict == "reproduced"
    table = verdicts_table(plan, judge_numbers(plan, "first", scores), "One")
    assert {row.label for row in table.rows} == {"Fine-tuning", "BERT-of-Theseus (adapted)"}


# -- like with like


def test_a_model_is_compared_with_the_printed_one_of_its_depth():
    """With four of twelve layers as the suite's depth, `theseus` is Table 7's and not Table 2's."""
    experiment = {"compare_with": ["theseus: Table 2", "theseus: Table 7"], "methods": ["predecessor", "theseus"]}
    numbers = {
        (v.name, v.reported_score) for v in judge_numbers(plan_of(experiment, student_layers=4), "first", frame())
    }
    assert numbers == {("predecessor", 71.1), ("theseus", 61.9)}
    backbone = {"source": "folder", "name": "small", "layers": 6}
    experiment |= {"vary": [{"layers": 3}, {"layers": 2}]}
    plan = plan_of(experiment, student_layers=3, backbone=backbone)
    numbers = {(v.name, v.reported_score) for v in judge_numbers(plan, "first", frame())}
    assert numbers == {("predecessor", 71.1), ("theseus", 68.2), ("theseus@layers=2", 61.9)}


def test_a_checkpoint_made_here_is_not_the_published_one():
    plan = plan_of({"methods": ["pd_bert"]})
    result = verdict(plan, frame(("pd_bert", "rte", [66.7] * 3)), "pd_bert")
    assert (result.verdict, result.reason) == ("not comparable", "its compact checkpoint was made here, not published")


def test_a_macro_has_no_more_seeds_than_its_scarcest_task():
    plan = plan_of({"tasks": None})
    reported_scores = REPORTED_ROWS["theseus"].scores
    scores = frame(*all_tasks("theseus", reported_scores))
    scores = scores[(scores["task"] != "rte") | (scores["seed"] == 1)]
    result = verdict(plan, scores, target="macro")
    assert (result.seeds, result.verdict, result.reason) == (1, "undecided", "1 of 3 seeds")
