"""The worked example's figures: the numbers that go into each, against counts of right and wrong."""

import json
import math
from contextlib import chdir

import numpy as np
import pandas as pd
import pytest
from axes import intervals
from scipy import stats
from scope import once
from suites import make_plan
from theseus_bench.evaluation.scores import COLUMNS
from theseus_bench.figures import plots
from theseus_bench.figures.experiment import experiment_figures
from theseus_bench.figures.frames import RANGE, FigureData
from worked import (
    EQUAL,
    FAILED_RUN,
    LABELS,
    MACRO,
    MISSING,
    NAMES,
    PUBLISHED,
    SEEDS,
    SHAPES,
    TASKS,
    copy_of,
    macro_of,
    moderated_variances,
    part_of_mean,
    score_of,
    scores_of,
)

from results import TIMING, significance_of

EACH = "95 % intervals over the seeds, each for itself"

ROLES = {"majority": "control", "predecessor": "teacher", "finetune": "baseline", "vanilla_kd": "baseline"}


def role_of(name: str) -> str:
    return ROLES.get(name.partition("@")[0], "proposed")


def teacher_of(name: str) -> str:
    return "predecessor@equal" if "equal" in name else "predecessor"


@pytest.fixture
def frames(worked_example):
    return FigureData(worked_example.plan, "glue", worked_example.folder)


def interval_of_macro(name: str) -> tuple[float, float]:
    """Student's 95 % interval of a macro: of each task's moderated variance over seeds it has a sixteenth."""
    if name == "majority":
        return macro_of(name), macro_of(name)  # its seeds do not differ, and nothing moderates it
    protocol = EQUAL if "equal" in name else PUBLISHED
    parts = [part_of_mean(moderated_variances(protocol, task)[name], task, 1 / 3 / 16) for task in MACRO]
    variance = sum(part for part, _ in parts)
    reach = stats.t.ppf(0.975, variance**2 / sum(part**2 / df for part, df in parts)) * math.sqrt(variance)
    return macro_of(name) - reach, min(macro_of(name) + reach, 100)


def test_score_against_speed_has_the_macro_without_wnli_and_its_interval(frames):
    frame = frames.speed()
    assert list(frame["label"]) == list(NAMES.values())
    assert frames.score_name == "Macro score of 4 tasks"
    for (name, label), row in zip(NAMES.items(), frame.itertuples(), strict=True):
        assert (row.label, row.role) == (label, role_of(name))
        assert row.score == pytest.approx(macro_of(name))
        if name == "vanilla_kd@equal":
            assert np.isnan([row.low, row.high]).all(), "two seeds of STS-B are too few"
        else:
            assert (row.low, row.high) == pytest.approx(interval_of_macro(name), rel=0.005)
        speeds = (row.speedup, row.speedup_low, row.speedup_high)
        if name == "majority":
            assert np.isnan(speeds).all()
        else:
            middle = 1.0 if role_of(name) == "teacher" else 1.95
            assert speeds == pytest.approx((middle, middle - 0.06, middle + 0.06))


def test_a_macros_interval_is_of_the_configured_level_and_ends_at_what_the_metric_allows(tmp_path):
    """99, 90 and 99.9 have a mean of 96.3 and a deviation of 5.5: of 90 %, it would reach 105.6."""
    experiments = {"first": {"title": "One", "methods": ["predecessor", "theseus"], "control": "predecessor"}}
    plan = make_plan(tasks=["rte"], significance={"alpha": 0.1}, experiments=experiments)
    points = {"predecessor": [95, 96, 97], "theseus": [99, 90, 99.9]}
    rows = [
        ("small", "first", name, "", "rte", seed, "dev", "score", float(value))
        for name, values in points.items()
        for seed, value in enumerate(values, start=1)
    ]
    size = {"device": "cpu", "batch_size": 32, "length": 128}
    speed = {"threads": 1, "devices": {}, "repetitions": 9, "headline": size, "shapes": SHAPES[:1], "left_out": []}
    speed |= {"methods": {name: TIMING for name in points}, "provenance": {}}
    tests = significance_of() | {"alpha": 0.1}
    for folder, value in (("speed", speed), ("significance", tests)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "first.json").write_text(json.dumps(value))
    (tmp_path / "scores").mkdir()
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(tmp_path / "scores/first.parquet")
    theseus = FigureData(plan, "first", tmp_path).speed().iloc[1]
    # its variance is above the other's and stays as it is; t of 2 degrees of freedom at 95 %: 2.92
    reach = 2.919986 * np.std(points["theseus"], ddof=1) / np.sqrt(3)
    assert theseus["score"] + reach > 105
    assert (theseus["low"], theseus["high"]) == (pytest.approx(theseus["score"] - reach), 100)
    caption = experiment_figures(plan, "first", tmp_path)[0].caption
    assert "Upright lines: 90 % intervals over the seeds, each for itself." in caption


def test_a_method_keeps_its_place_and_so_its_look_in_every_figure(frames):
    for frame in (
        frames.speed(),
        frames.retention(),
        frames.seeds(),
        frames.differences(),
        frames.reported(),
        frames.profile(),
    ):
        assert list(frame["label"].cat.categories) == list(NAMES.values())


def test_what_is_kept_is_of_the_predecessors_mean_of_the_same_protocol(frames):
    frame = frames.retention()
    rows = {(row.label, row.task): row for row in frame.itertuples()}
    assert len(rows) == len(frame) == len(NAMES) * len(TASKS)
    for name, label in NAMES.items():
        for task in TASKS:
            shares = 100 * scores_of(name, task) / scores_of(teacher_of(name), task).mean()
            row = rows[label, LABELS[task]]
            assert row.role == role_of(name)
            assert (row.retention, row.low, row.high) == pytest.approx((shares.mean(), shares.min(), shares.max()))


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
                assert row.failed == ((name, task, seed) in (FAILED_RUN, ("finetune@equal", "cola", 3)))


def test_the_tested_differences_are_the_primary_ones_of_the_macro(worked_example, frames):
    rows = json.loads((worked_example.folder / "significance/glue.json").read_text())["differences"]
    rows = [row for row in rows if row["family"] == "primary" and row["p_holm"] is not None]
    frame = frames.differences()
    assert list(frame["target"].unique()) == ["Macro"]
    assert [(row.label, row.other) for row in frame.itertuples()] == [
        (NAMES[r["name"]], NAMES[r["other"]]) for r in rows
    ]
    assert len(frame) == 6
    for entry, row in zip(frame.itertuples(), rows, strict=True):
        assert entry.difference == pytest.approx(macro_of(row["name"]) - macro_of(row["other"]))
        assert (entry.low, entry.high, entry.p_holm) == (row["low"], row["high"], row["p_holm"])
        assert entry.p_holm >= row["p"]


def test_printed_numbers_stand_beside_ours_with_the_tolerance_of_their_task(frames):
    frame = frames.reported()
    rows = {(row.label, row.task): row for row in frame.itertuples()}
    reported_scores = {
        ("predecessor", "cola"): 80, ("predecessor", "mrpc"): 91, ("predecessor", "stsb"): 90,
        ("predecessor", "mnli"): 60,
        ("finetune", "cola"): 30, ("finetune", "mrpc"): 98, ("finetune", "stsb"): 60,
        ("theseus", "cola"): 70, ("theseus", "mrpc"): 80, ("theseus", "stsb"): 60.5,
    }  # fmt: skip
    assert rows.keys() == {(NAMES[name], LABELS[task]) for name, task in reported_scores}, (
        "neither macros nor single metrics"
    )
    for (name, task), number in reported_scores.items():
        row = rows[NAMES[name], LABELS[task]]
        assert (row.reported, row.ours) == (number, pytest.approx(scores_of(name, task).mean()))
        assert row.tolerance == (25 if task == "cola" else 5)
        assert row.low + row.high == pytest.approx(2 * row.ours), "around ours, not around the difference"
        assert (row.verdict == "not comparable") == (task == "mnli")


def test_the_profile_is_of_all_runs_at_each_threshold(frames):
    frame = frames.profile()
    assert len(frame) == len(NAMES) * 121
    for name, label in NAMES.items():
        shares = np.concatenate(
            [100 * scores_of(name, t) / scores_of(teacher_of(name), t).mean() for t in MACRO]
        ).round(9)
        own = frame[frame["label"] == label].set_index("retention")["share"]
        assert own.index.tolist() == [50 + k / 2 for k in range(121)]
        assert own.tolist() == pytest.approx([(shares >= threshold).mean() for threshold in own.index])


def test_curves_are_of_what_replaces_beside_its_own_predecessor(tmp_path):
    experiment = {"methods": ["predecessor", "finetune", "theseus"], "protocols": ["published", "equal"]}
    plan = make_plan(tasks=["rte"], search={"budget": 1}, experiments={"first": {"title": "One"} | experiment})
    for name in ("scores", "significance"):
        (tmp_path / name).mkdir()
    pd.DataFrame([], columns=COLUMNS).to_parquet(tmp_path / "scores/first.parquet")
    (tmp_path / "significance/first.json").write_text(json.dumps(significance_of()))
    (tmp_path / "scores/first_curves.csv").write_text(
        "method,variant,task,seed,step,epoch,loss,score,replacing_rate\n"
        "predecessor,,rte,1,10,1,0.6,70,\n"
        "predecessor,equal,rte,1,10,1,0.6,71,\n"
        "finetune,equal,rte,1,10,1,0.7,60,\n"
        "theseus,equal,rte,2,10,0.5,0.7,65.5,0.75\n"
    )
    rows = FigureData(plan, "first", tmp_path).curves()
    assert rows[["label", "task", "seed", "step", "epoch", "score"]].values.tolist() == [
        ["Predecessor (equal)", "RTE", 1, 10, 1, 71],
        ["BERT-of-Theseus (equal)", "RTE", 2, 10, 0.5, 65.5],
    ]
    assert rows["replacing_rate"].tolist() == [pytest.approx(math.nan, nan_ok=True), 0.75]


def test_curves_of_every_method_are_drawn_on_request(tmp_path):
    experiment = {"title": "One", "methods": ["predecessor", "finetune"]}
    for name in ("scores", "significance"):
        (tmp_path / name).mkdir()
    pd.DataFrame([], columns=COLUMNS).to_parquet(tmp_path / "scores/first.parquet")
    (tmp_path / "significance/first.json").write_text(json.dumps(significance_of()))
    (tmp_path / "scores/first_curves.csv").write_text(
        "method,variant,task,seed,step,epoch,loss,score\npredecessor,,rte,1,10,1,0.6,70\nfinetune,,rte,1,10,1,0.7,60\n"
    )
    rows = {
        curves: FigureData(
            make_plan(tasks=["rte"], experiments={"first": experiment | {"curves": curves}}), "first", tmp_path
        ).curves()
        for curves in ("replacing", "all")
    }
    assert rows["replacing"].empty
    assert rows["all"][["label", "step", "score"]].values.tolist() == [["Predecessor", 10, 70], ["Fine-tuning", 10, 60]]
    assert "Replacing rate" not in plots.curves(rows["all"]).caption


def test_speed_over_depth_has_a_shapes_share_of_the_predecessors_layers(frames):
    (row,) = frames.depths().to_dict("records")
    assert row == {"label": "6 layers", "share": 50, "panel": "CPU, 128 tokens", "batch_size": 32, "speedup": 1.95} | {
        "low": pytest.approx(1.89), "high": pytest.approx(2.01),
    }  # fmt: skip


HOLLOW = "Hollow markers: the protocol of equal effort."
NO_CONTROL = "Controls are left out: Majority class."
WORDS = {  # title, what the axes say, what the legend names, caption
    "score_against_speed": (
        "Macro score of 4 tasks against speed-up", "Speed-up over the predecessor (×)",
        "Macro score of 4 tasks (points)", [],
        "Macro score of 4 tasks of 10 methods over the speed-up at inference: higher and further right is better. "
        f"Upright lines: {EACH}. Where there is none, there are too few seeds, or none could be computed. Bars at the "
        "foot: the measured speed-ups with their 95 % intervals over repetitions; models of one shape have one "
        "measurement and stand side by side around it. Dotted line: the predecessor. "
        f"{HOLLOW} Not drawn (no score or no speed-up): Majority class.",
    ),
    "speed_over_depth": (
        "Speed-up over depth", "Layers of the compressed model (% of the predecessor's)",
        "Speed-up over the predecessor (×)", ["ours, batch 32", "Worker 2001, of 12 layers"],
        "Speed-up of 1 depth over the predecessor; further up is faster. Upright lines: 95 % intervals over the "
        "rounds. Batch sizes of one depth stand side by side. Stars: printed in Worker 2001, Table 3, which gives "
        "neither batch nor length; curve: relative time as a straight line in the layers, fitted to them.",
    ),
    "retention": (
        "Retention by task", "Kept of the predecessor's mean score (%)", "Method", [],
        "Mean score as a share of the predecessor's mean, 10 methods on 5 tasks. Each panel has its own scale. Dotted "
        f"line: the predecessor (100 %). Lines through the points: {RANGE}. {HOLLOW} {NO_CONTROL}",
    ),
    "seed_strips": (
        "Scores of the single seeds", "Score (points)", "Method", [],
        "The score of each seed (3 seeds), 10 methods on 5 tasks. Upright strokes: means. Each panel has its own "
        "scale. Dotted line, where it is within the panel: predicting the majority class (or the mean). Crosses: 2 "
        f"failed runs. {HOLLOW} {NO_CONTROL} Not drawn (no score): Vanilla KD (equal) on STS-B (seed 3).",
    ),
    "differences": (
        "Tested differences", "Difference (points)", "Method", ["better", "not distinguishable"],
        "Difference of 6 methods on 1 score; right of zero is better. Each panel has its own scale. Lines through the "
        "points: 95 % intervals that hold together in their family. Better and worse: the p-value, adjusted "
        "by Holm over the family, is below 0.05.",
    ),
    "forest": (
        "Differences from the printed numbers", "Ours − printed (points)", "Method",
        ["reproduced", "undecided", "not reproduced", "not comparable"],
        "Our score minus the printed one, for 10 printed numbers of 3 methods on 4 tasks; right of zero, ours is "
        "higher. Each panel has its own scale. Shaded: the tolerance that the configuration gives. Lines through the "
        f"points: {EACH}. Not drawn (not run or not printed): Fine-tuning on MNLI; BERT-of-Theseus on MNLI.",
    ),
    "profile": (
        "Performance profiles", "Kept of the predecessor's score, at least (%)", "Share of runs (fraction)",
        list(NAMES.values()),
        "Share of all runs (each a task and a seed) that keep at least so much of the predecessor's score (Agarwal et "
        f"al. 2021), 11 methods: further up and right is better. {HOLLOW}",
    ),
}  # fmt: skip


@pytest.fixture(scope=once)
def pictures(worked_suite):
    with chdir(worked_suite.root):
        return {picture.name: picture for picture in experiment_figures(worked_suite.plan, "glue", worked_suite.folder)}


@pytest.mark.parametrize("name", WORDS)
def test_a_picture_says_what_it_shows(pictures, name):
    assert list(pictures) == list(WORDS)
    picture, (title, across, up, legend, caption) = pictures[name], WORDS[name]
    figure = picture.figure
    assert (picture.title, picture.caption) == (title, caption)
    assert across in {figure.get_supxlabel(), *(axes.get_xlabel() for axes in figure.axes)}
    assert up in {figure.get_supylabel(), *(axes.get_ylabel() for axes in figure.axes)}
    assert [text.get_text() for box in figure.legends for text in box.get_texts()] == legend


@pytest.mark.parametrize("name", ["retention", "seed_strips", "forest"])
def test_a_panel_for_each_task_and_a_row_for_each_method(pictures, name):
    panels = pictures[name].figure.axes
    tasks = ["CoLA", "MRPC", "STS-B", "MNLI", "WNLI"]
    assert [axes.get_title() for axes in panels] == (tasks[:4] if name == "forest" else tasks)
    rows = ["Predecessor", "Fine-tuning", "BERT-of-Theseus"] if name == "forest" else list(NAMES.values())[1:]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == rows


def drawn_at(axes, label) -> list[float]:
    """Where the markers of this label stand on the axis across."""
    return [float(x) for line in axes.get_lines() if line.get_label() == label for x in line.get_xdata()]


def test_the_marks_stand_where_the_numbers_say(pictures):
    for name, label in list(NAMES.items())[1:]:
        for task, strips, retention in zip(
            TASKS, pictures["seed_strips"].figure.axes, pictures["retention"].figure.axes, strict=True
        ):
            seeds = [seed for seed in SEEDS if (name, task, seed) != MISSING]
            assert drawn_at(strips, label) == pytest.approx([score_of(name, task, seed) for seed in seeds])
            predecessor_mean = scores_of(teacher_of(name), task).mean()
            assert drawn_at(retention, label) == pytest.approx([100 * scores_of(name, task).mean() / predecessor_mean])
    (axes,) = pictures["differences"].figure.axes
    assert drawn_at(axes, "BERT-of-Theseus − Fine-tuning") == pytest.approx(
        [macro_of("theseus") - macro_of("finetune")]
    )
    cola = pictures["forest"].figure.axes[0]
    assert drawn_at(cola, "Fine-tuning") == pytest.approx([scores_of("finetune", "cola").mean() - 30])
    bands = {(bar.get_x(), bar.get_width()) for bar in cola.patches if bar.get_height() == 1 and bar.get_width() > 2}
    assert bands == {(-25, 50)}
    mrpc = pictures["forest"].figure.axes[1]
    bands = {(bar.get_x(), bar.get_width()) for bar in mrpc.patches if bar.get_height() == 1 and bar.get_width() > 2}
    assert bands == {(-5, 10)}


def test_a_failed_run_is_a_cross_and_the_majority_a_dotted_line(pictures):
    mrpc = pictures["seed_strips"].figure.axes[1]
    crosses = [float(line.get_xdata()[0]) for line in mrpc.get_lines() if line.get_marker() == "x"]
    assert crosses == pytest.approx([score_of(*FAILED_RUN)])
    cola = pictures["seed_strips"].figure.axes[0]
    crosses = [float(line.get_xdata()[0]) for line in cola.get_lines() if line.get_marker() == "x"]
    assert crosses == [0], "what was never evaluated stands at the majority's score"
    positions = [float(line.get_xdata()[0]) for line in mrpc.get_lines() if line.get_linestyle() not in ("None", "-")]
    assert positions == pytest.approx([score_of("majority", "mrpc", 1)])


def test_the_points_of_the_first_figure_are_named_and_within_it(pictures):
    (axes,) = pictures["score_against_speed"].figure.axes
    names = [text.get_text() for text in axes.texts if text.get_text()]
    assert sorted(names) == sorted(list(NAMES.values())[1:])
    (low, high), (left_edge, right) = axes.get_ylim(), axes.get_xlim()
    for name, label in list(NAMES.items())[1:]:
        (line,) = [line for line in axes.get_lines() if line.get_label() == label]
        x, y = line.get_xydata()[0]
        assert y == pytest.approx(macro_of(name))
        assert left_edge < x < right
        assert low < y < high
    ends = [interval_of_macro(name) for name in list(NAMES)[1:] if name != "vanilla_kd@equal"]
    lowest, most = min(end for end, _ in ends), max(end for _, end in ends)
    assert low < lowest
    assert high > most
    assert high - low < 1.3 * (most - lowest), "little room is left"
    feet = sorted(float(line.get_xdata()[0]) for line in axes.get_lines() if line.get_label() == "speed-up")
    assert feet == [1.0, 1.95]


def test_every_interval_that_is_drawn_is_the_frames(pictures, worked_example):
    frames = FigureData(worked_example.plan, "glue", worked_example.folder)
    frame = frames.retention()
    frame = frame[frame["role"] != "control"]
    for axes in pictures["retention"].figure.axes:
        rows = frame[frame["task"] == axes.get_title()]
        assert intervals(axes) == sorted(
            (round(low, 6), round(high, 6)) for low, high in zip(rows["low"], rows["high"], strict=True)
        )
    frame = frames.reported()
    for axes in pictures["forest"].figure.axes:
        rows = frame[frame["task"] == axes.get_title()]
        ends = zip(rows["low"] - rows["reported"], rows["high"] - rows["reported"], strict=True)
        assert intervals(axes) == sorted((round(low, 6), round(high, 6)) for low, high in ends)
    rows = frames.differences()
    assert intervals(pictures["differences"].figure.axes[0]) == sorted(
        (round(low, 6), round(high, 6)) for low, high in zip(rows["low"], rows["high"], strict=True)
    )


def test_the_profile_has_a_panel_for_each_protocol(pictures):
    published, equal_effort = pictures["profile"].figure.axes
    assert (published.get_title(), equal_effort.get_title()) == ("published protocol", "equal protocol")
    for axes, inside in ((published, False), (equal_effort, True)):
        labels = {line.get_label() for line in axes.get_lines()}
        assert labels == {label for name, label in NAMES.items() if ("equal" in name) == inside}
    (line,) = [line for line in published.get_lines() if line.get_label() == "Fine-tuning"]
    shares = np.concatenate([100 * scores_of("finetune", t) / scores_of("predecessor", t).mean() for t in MACRO]).round(
        9
    )
    assert line.get_ydata()[2 * (75 - 50)] == pytest.approx((shares >= 75).mean())


def test_an_experiment_with_primary_differences_of_its_own_draws_those_that_are_tested_there(worked_example):
    frame = FigureData(worked_example.plan, "schedules", worked_example.folder).differences()
    assert [(row.label, row.other, row.target) for row in frame.itertuples()] == [
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
    (tmp_path / "significance/modules.json").write_text(json.dumps(significance_of()))
    frame = FigureData(plan, "modules", tmp_path).modules()
    assert frame[["module", "task", "drop", "low", "high"]].to_numpy().tolist() == [
        [1, "QNLI", 3.0, 1.0, 5.0], [2, "QNLI", -1.0, -1.0, -1.0],
    ]  # fmt: skip
    assert frame["reported_drop"].tolist() == pytest.approx([91.87 - 88.50, 91.87 - 90.54])


def test_nothing_is_kept_of_a_predecessor_that_scores_nothing(worked_example, tmp_path):
    """Every score of CoLA is a share of its mean; where that is 0 there is none, and no division by it."""
    folder = copy_of(worked_example.folder, tmp_path)
    scores = pd.read_parquet(folder / "scores/glue.parquet")
    own = (scores["method"] == "predecessor") & (scores["variant"] == "") & (scores["task"] == "cola")
    scores.loc[own, "value"] = 0.0
    scores.to_parquet(folder / "scores/glue.parquet")
    frame = FigureData(worked_example.plan, "glue", folder).retention()
    assert np.isfinite(frame["retention"].dropna()).all()
    labels = set(frame.loc[frame["task"] == "CoLA", "label"])
    assert labels == {label for name, label in NAMES.items() if "equal" in name}
