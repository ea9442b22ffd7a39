"""The figures: what they draw is what the frame says, what is missing is named, and their files are always the same.

tests/figures/golden has every figure as it is to look, so that a difference is seen as a picture. After a change that
is meant, rewrite them with `THESEUS_GOLDEN=write pytest tests/figures/test_plots.py`, which fails, and look at them
before committing.
"""

import io
import itertools
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from axes import intervals
from fontTools.ttLib import TTFont
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from scope import remember
from theseus_bench.evaluation.verdicts import NOT_COMPARABLE, NOT_REPRODUCED, NOT_RUN, REPRODUCED, UNDECIDED
from theseus_bench.figures import plots, speed
from theseus_bench.figures.export import write_figures
from theseus_bench.figures.style import MARKERS, method_styles
from theseus_bench.report.inline_svg import inline_svg

NAN = float("nan")
LONG = "BERT-of-Theseus, constant, base rate 0.7 (equal)"


def frame(columns: str, *rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


SPEEDS = frame(
    "label role speedup speedup_low speedup_high score low high",
    ("Majority class", "control", NAN, NAN, NAN, 40.0, NAN, NAN),
    ("Predecessor", "teacher", 1.0, 1.0, 1.0, 82.4, 82.0, 82.9),
    ("Fine-tuning", "baseline", 1.96, 1.9, 2.0, 76.8, 76.1, 77.5),
    ("BERT-of-Theseus", "proposed", 1.96, 1.9, 2.0, 80.6, 80.0, 81.4),
    (LONG, "proposed", 1.96, 1.9, 2.0, 80.5, NAN, NAN),
)
RETENTION = frame(
    "label role task retention low high",
    ("Majority class", "control", "RTE", 74.0, 74.0, 74.0),
    ("Predecessor", "teacher", "RTE", 100.0, 98.0, 101.0),
    ("Predecessor", "teacher", "CoLA", 100.0, 97.0, 102.0),
    ("PD-BERT", "baseline", "RTE", 93.8, 92.0, 95.0),
    ("PD-BERT", "baseline", "CoLA", NAN, NAN, NAN),
    ("BERT-of-Theseus", "proposed", "RTE", 95.9, 94.0, 97.0),
    ("BERT-of-Theseus", "proposed", "CoLA", 94.1, 90.0, 96.0),
)
SEEDS = frame(
    "label role task seed score failed majority",
    ("Fine-tuning", "baseline", "RTE", 1, 62.1, False, 52.7),
    ("Fine-tuning", "baseline", "RTE", 2, 52.7, True, 52.7),
    ("Fine-tuning", "baseline", "RTE", 3, 63.5, False, 52.7),
    ("Fine-tuning", "baseline", "STS-B", 1, 81.9, False, NAN),
    ("Fine-tuning", "baseline", "STS-B", 2, 81.0, False, NAN),
    ("Fine-tuning", "baseline", "STS-B", 3, NAN, True, NAN),
    ("BERT-of-Theseus", "proposed", "RTE", 1, 68.2, False, 52.7),
    ("BERT-of-Theseus", "proposed", "RTE", 2, 67.9, False, 52.7),
    ("BERT-of-Theseus", "proposed", "RTE", 3, 69.0, False, 52.7),
)
REPORTED = frame(
    "label task reported ours low high tolerance verdict",
    ("Fine-tuning", "RTE", 62.1, 62.4, 60.0, 64.0, 2.0, REPRODUCED),
    ("Fine-tuning", "CoLA", 43.4, 42.0, 40.0, 45.0, 2.0, UNDECIDED),
    ("DistilBERT", "RTE", 59.9, 64.0, 63.0, 65.0, 2.0, NOT_REPRODUCED),
    ("DistilBERT", "RTE", 63.5, 64.0, 63.0, 65.0, 2.0, REPRODUCED),
    ("DistilBERT", "CoLA", 43.6, 50.0, 49.0, 51.0, 2.0, NOT_COMPARABLE),
    ("PD-BERT", "RTE", 66.7, NAN, NAN, NAN, 2.0, NOT_RUN),
)
CURVES = frame(
    "label task seed step epoch score replacing_rate",
    ("Fine-tuning", "RTE", 1, 78, 1, 55.0, NAN),
    ("Fine-tuning", "RTE", 1, 156, 2, 60.0, NAN),
    ("BERT-of-Theseus", "RTE", 1, 156, 2, 66.0, 1.0),
    ("BERT-of-Theseus", "RTE", 1, 78, 1, 61.0, 0.65),
    ("BERT-of-Theseus", "RTE", 2, 78, 1, 60.0, 0.65),
    ("BERT-of-Theseus", "RTE", 2, 156, 2, 65.0, 1.0),
)
MODULES = frame(
    "module task drop low high reported_drop",
    (1, "QNLI", 3.0, 2.5, 3.5, 3.37),
    (2, "QNLI", 1.2, 0.9, 1.6, 1.33),
    (1, "QQP", 0.8, 0.5, 1.1, NAN),
    (2, "QQP", NAN, NAN, NAN, NAN),
)
PROFILE = frame(
    "label role retention share",
    ("Fine-tuning", "baseline", 90.0, 0.9),
    ("Fine-tuning", "baseline", 95.0, 0.4),
    ("BERT-of-Theseus", "proposed", 95.0, 0.8),
    ("BERT-of-Theseus", "proposed", 90.0, 1.0),
    ("BERT-of-Theseus (equal)", "proposed", 90.0, 1.0),
    ("BERT-of-Theseus (equal)", "proposed", 95.0, 0.7),
    ("LayerDrop", "baseline", 90.0, NAN),
)
DIFFERENCES = frame(
    "label other target difference low high p_holm",
    ("LayerDrop", "Fine-tuning", "RTE", -3.0, -5.0, -1.0, 0.01),
    ("LayerDrop", "Fine-tuning", "macro", 0.5, -0.4, 1.4, 0.5),
    ("BERT-of-Theseus", "Fine-tuning", "RTE", 4.0, 1.0, 7.0, 0.02),
    ("BERT-of-Theseus", "Fine-tuning", "macro", 3.0, 2.0, 4.0, NAN),
)
PLOTS = {
    "score_against_speed": lambda rows=SPEEDS: speed.score_against_speed(rows, "Macro score"),
    "retention": lambda rows=RETENTION: plots.retention(rows),
    "seed_strips": lambda rows=SEEDS: plots.seed_strips(rows),
    "forest": lambda rows=REPORTED: plots.forest(rows),
    "curves": lambda rows=CURVES: plots.curves(rows),
    "module_impact": lambda rows=MODULES: plots.module_impact(rows),
    "profile": lambda rows=PROFILE: plots.profile(rows),
    "differences": lambda rows=DIFFERENCES: plots.differences(rows),
}


@remember
def picture_of(name: str):
    """The picture of the frame above; made once, since no test changes it."""
    return PLOTS[name]()


UNITS = {
    "score_against_speed": ("(×)", "(points)"),
    "retention": ("(%)", "Method"),
    "seed_strips": ("(points)", "Method"),
    "forest": ("(points)", "Method"),
    "curves": ("Optimizer steps", "(probability)|(points)"),
    "module_impact": ("(number;", "(points)"),
    "profile": ("(%)", "(fraction)"),
    "differences": ("(points)", "Method"),
}


def panel(picture, title=""):
    (axes,) = (axes for axes in picture.figure.axes if axes.get_title() == title)
    return axes


def points(axes, label):
    """The (x, y) of all markers and lines of this label, in the order in which they were drawn."""
    lines = [line for line in axes.get_lines() if line.get_label() == label]
    return [tuple(map(float, pair)) for line in lines for pair in line.get_xydata()]


def row_of(axes, label):
    return [text.get_text() for text in axes.get_yticklabels()].index(label)


@pytest.mark.parametrize("name", PLOTS)
def test_every_axis_says_its_unit(name):
    picture = picture_of(name)
    assert picture.name == name
    figure = picture.figure
    for axes in figure.axes:
        for axis_name, unit in zip("xy", UNITS[name], strict=True):
            same = [a for a in figure.axes if _line_up(a, axes, axis_name)]
            labels = [getattr(a, f"get_{axis_name}label")() for a in same]
            labels.append(getattr(figure, f"get_sup{axis_name}label")())
            texts = [label for label in labels if label]
            assert texts, f"{name}: a {axis_name} axis without a label"
            assert re.search("|".join(map(re.escape, unit.split("|"))), texts[0])


def _line_up(a, b, axis_name):
    spans = ("colspan" if axis_name == "x" else "rowspan",)
    return all(getattr(a.get_subplotspec(), s) == getattr(b.get_subplotspec(), s) for s in spans)


@pytest.mark.parametrize("name", PLOTS)
def test_no_type_is_smaller_than_seven_points_and_no_figure_wider_than_a_page(name):
    figure = picture_of(name).figure
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert texts
    assert min(text.get_fontsize() for text in texts) >= 7
    assert round(figure.get_figwidth(), 1) in (3.3, 6.9)
    box = figure.get_tightbbox()  # inches
    assert box.x0 >= -0.02
    assert box.x1 <= figure.get_figwidth() + 0.02
    assert box.y0 >= -0.02
    assert box.y1 <= figure.get_figheight() + 0.02


def test_score_against_speed_draws_the_scores_and_the_intervals():
    axes = picture_of("score_against_speed").figure.axes[0]
    assert points(axes, "BERT-of-Theseus") == [(1.96, 80.6)]
    assert points(axes, LONG) == [(1.96, 80.5)]
    assert intervals(axes) == [(76.1, 77.5), (80.0, 81.4), (82.0, 82.9)]
    assert points(axes, "speed-up") == [(1.0, 0.015), (1.96, 0.015)]


def test_names_beside_the_points_do_not_touch():
    many = pd.concat([SPEEDS.iloc[[3]].assign(label=f"Method {n}", score=80 + n / 100) for n in range(22)])
    figure = speed.score_against_speed(many, "Macro score").figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == 22
    boxes.sort(key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


def test_points_of_one_speed_stand_apart_and_keep_their_value():
    axes = picture_of("score_against_speed").figure.axes[0]
    axes.figure.draw_without_rendering()
    lines = [line for line in axes.get_lines() if line.get_label() in ("Fine-tuning", "BERT-of-Theseus", LONG)]
    positions = [line.get_transform().transform(line.get_xydata())[0, 0] for line in lines]
    assert len(set(np.round(positions, 1))) == 3
    assert np.mean(positions) == pytest.approx(axes.transData.transform((1.96, 80))[0], abs=0.01)


def test_retention_draws_per_cent_with_intervals_a_gap_for_what_is_missing_and_no_control():
    picture = picture_of("retention")
    rte, cola = panel(picture, "RTE"), panel(picture, "CoLA")
    assert points(rte, "BERT-of-Theseus") == [(95.9, row_of(rte, "BERT-of-Theseus"))]
    assert points(rte, "PD-BERT") == [(93.8, row_of(rte, "PD-BERT"))]
    assert points(cola, "BERT-of-Theseus")[0][0] == 94.1
    assert intervals(cola) == [(90.0, 96.0), (97.0, 102.0)]
    assert points(cola, "PD-BERT") == []
    assert [(text.get_text(), text.get_position()[1]) for text in cola.texts] == [("–", row_of(rte, "PD-BERT"))]
    assert not points(rte, "Majority class")
    assert "Controls are left out: Majority class." in picture.caption


def test_seed_strips_draw_every_seed_the_mean_and_a_cross_for_a_failed_run():
    picture = picture_of("seed_strips")
    rte = panel(picture, "RTE")
    assert [x for x, _ in points(rte, "Fine-tuning")] == [62.1, 52.7, 63.5]
    heights = [y for _, y in points(rte, "Fine-tuning")]
    assert np.mean(heights) == pytest.approx(row_of(rte, "Fine-tuning"))
    assert len(set(heights)) == 3
    crosses = [line.get_xdata()[0] for line in rte.get_lines() if line.get_marker() == "x"]
    assert crosses == [52.7]
    means = [s[0, 0] for c in rte.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    assert sorted(means) == pytest.approx([(62.1 + 52.7 + 63.5) / 3, (68.2 + 67.9 + 69.0) / 3])
    assert [line.get_xdata()[0] for line in rte.get_lines() if line.get_linestyle() != "None"] == [52.7]
    assert "Crosses: 1 failed run." in picture.caption
    assert "STS-B (seed 3)" in picture.caption
    assert "BERT-of-Theseus on STS-B" in picture.caption


def test_the_majority_does_not_press_scores_together_that_are_far_above_it():
    rows = SEEDS[SEEDS["label"] == "BERT-of-Theseus"]
    low, _ = panel(plots.seed_strips(rows), "RTE").get_xlim()
    assert low > 60


def test_forest_draws_ours_minus_printed_in_the_band_of_tolerance():
    picture = picture_of("forest")
    rte = panel(picture, "RTE")
    assert points(rte, "Fine-tuning")[0][0] == pytest.approx(0.3)
    assert [x for x, _ in points(rte, "DistilBERT")] == pytest.approx([4.1, 0.5])
    assert [y for _, y in points(rte, "DistilBERT")] == pytest.approx([1 - 0.3, 1 + 0.3])
    assert intervals(rte) == [(-2.1, 1.9), (-0.5, 1.5), (3.1, 5.1)]
    bands = {(bar.get_x(), bar.get_width()) for bar in rte.patches if bar.get_height() == 1 and bar.get_width() == 4}
    assert bands == {(-2.0, 4.0)}
    markers = {line.get_marker() for line in rte.get_lines() if line.get_label() == "DistilBERT"}
    assert len(markers) == 2, "the two verdicts are told apart without colour"
    assert [t.get_text() for t in picture.figure.legends[0].get_texts()] == [
        REPRODUCED, UNDECIDED, NOT_REPRODUCED, NOT_COMPARABLE,
    ]  # fmt: skip
    assert "PD-BERT" in picture.caption.partition("Not drawn (not run or not printed)")[2]


def test_curves_draw_rate_above_score_on_one_scale_of_steps():
    picture = picture_of("curves")
    rate, score = picture.figure.axes
    assert points(rate, "BERT-of-Theseus") == [(78, 0.65), (156, 1.0), (78, 0.65), (156, 1.0)]
    assert points(score, "BERT-of-Theseus") == [(78, 61.0), (156, 66.0), (78, 60.0), (156, 65.0)]
    assert points(score, "Fine-tuning") == [(78, 55.0), (156, 60.0)]
    assert points(rate, "Fine-tuning") == []
    assert rate.get_xlim() == score.get_xlim()
    assert "Without a replacing rate: Fine-tuning." in picture.caption
    rateless = plots.curves(CURVES[CURVES["label"] == "Fine-tuning"])
    assert [axes.get_ylabel() for axes in rateless.figure.axes] == ["Score\n(points)"]


def test_the_caption_of_curves_names_what_does_not_replace_and_says_what_is_hollow():
    replacing = CURVES[CURVES["label"] == "BERT-of-Theseus"]
    assert "Without a replacing rate" not in plots.curves(replacing).caption
    assert "Hollow markers" not in plots.curves(replacing).caption
    equal_effort = replacing.assign(label="BERT-of-Theseus (equal)")
    assert "Hollow markers: the protocol of equal effort." in plots.curves(equal_effort).caption


def test_the_verdicts_of_a_forest_have_markers_of_their_own():
    (legend,) = picture_of("forest").figure.legends
    assert [handle.get_marker() for handle in legend.legend_handles] == ["o", "s", "D", "X"]


def test_module_impact_draws_our_losses_and_the_printed_ones():
    picture = picture_of("module_impact")
    qnli, qqp = panel(picture, "QNLI"), panel(picture, "QQP")
    assert points(qnli, "ours") == [(1, 3.0), (2, 1.2)]
    assert points(qnli, "printed") == [(1, 3.37), (2, 1.33)]
    assert intervals(qnli) == [(0.9, 1.6), (2.5, 3.5)]
    assert points(qqp, "ours") == [(1, 0.8)]
    assert "module 2 on QQP" in picture.caption


def test_profile_draws_shares_in_a_panel_for_each_protocol():
    picture = picture_of("profile")
    published, equal_effort = panel(picture, "published protocol"), panel(picture, "equal protocol")
    assert points(published, "Fine-tuning") == [(90, 0.9), (95, 0.4)]
    assert points(published, "BERT-of-Theseus") == [(90, 1.0), (95, 0.8)]
    assert points(equal_effort, "BERT-of-Theseus (equal)") == [(90, 1.0), (95, 0.7)]
    assert picture.caption.endswith("Not drawn (no value): LayerDrop.")


def test_differences_tell_better_worse_and_undecided_apart_by_marker():
    picture = picture_of("differences")
    rte, macro = panel(picture, "RTE"), panel(picture, "macro")
    assert points(rte, "LayerDrop") == [(-3.0, 0)]
    assert points(rte, "BERT-of-Theseus") == [(4.0, 1)]
    assert intervals(rte) == [(-5.0, -1.0), (1.0, 7.0)]
    markers = [line.get_marker() for axes in (rte, macro) for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert len(set(markers)) == 4
    assert picture.figure.get_supxlabel() == "Difference from Fine-tuning (points)"
    strict_figure = plots.differences(DIFFERENCES, alpha=0.015)
    assert [t.get_text() for t in strict_figure.figure.legends[0].get_texts()] == [
        "worse", "not distinguishable", "no p-value",
    ]  # fmt: skip


def test_differences_from_several_others_name_both():
    rows = DIFFERENCES.assign(other=["Fine-tuning", "Fine-tuning", "LayerDrop", "LayerDrop"])
    axes = panel(plots.differences(rows), "RTE")
    assert points(axes, "BERT-of-Theseus − LayerDrop") == [(4.0, row_of(axes, "BERT-of-Theseus − LayerDrop"))]


@pytest.mark.parametrize(
    ("name", "words"),
    {"score_against_speed": "Majority class", "retention": "PD-BERT on CoLA", "forest": "PD-BERT"}.items(),
)
def test_what_has_no_value_is_named_in_the_caption(name, words):
    assert words in picture_of(name).caption.partition("Not drawn")[2]


@pytest.mark.parametrize("name", ["score_against_speed", "retention", "forest", "module_impact", "differences"])
def test_too_few_seeds_have_no_interval_and_the_caption_says_so(name):
    rows = {"score_against_speed": SPEEDS, "retention": RETENTION, "forest": REPORTED, "module_impact": MODULES}
    picture = PLOTS[name](rows.get(name, DIFFERENCES).assign(low=NAN, high=NAN))
    assert "No intervals: there are too few seeds" in picture.caption
    assert not any(intervals(axes) for axes in picture.figure.axes)


@pytest.mark.parametrize("name", PLOTS)
def test_a_frame_without_a_value_is_refused(name):
    rows = PLOTS[name].__defaults__[0]
    with pytest.raises(ValueError, match="nothing to draw"):
        PLOTS[name](rows.iloc[:0])


def test_no_two_methods_look_alike_in_grey_and_protocols_share_the_colour():
    labels = [f"Method {n}{protocol}" for protocol in ("", " (equal)") for n in range(len(MARKERS))]
    styles = method_styles(pd.DataFrame({"label": labels, "role": "baseline"}))
    assert len({(style.marker, style.face == "white") for style in styles.values()}) == 22
    assert len({(style.colour, style.dashes) for style in styles.values()}) == 22
    assert {styles[f"Method {n}"].colour == styles[f"Method {n} (equal)"].colour for n in range(11)} == {True}


def test_the_proposed_method_is_drawn_strongest_and_the_teacher_black():
    styles = method_styles(SPEEDS)
    assert styles["BERT-of-Theseus"].size > styles["Fine-tuning"].size
    assert styles["BERT-of-Theseus"].width > styles["Fine-tuning"].width
    assert styles["Predecessor"].colour == "#000000"


def test_a_categorical_label_keeps_its_look_when_others_are_missing():
    labels = ["Fine-tuning", "DistilBERT", "BERT-of-Theseus"]
    all_styles = pd.DataFrame({"label": pd.Categorical(labels, labels), "role": "baseline"})
    assert method_styles(all_styles)["BERT-of-Theseus"] == method_styles(all_styles.iloc[2:])["BERT-of-Theseus"]


def of_tasks(rows: pd.DataFrame, count: int, column: str = "task") -> pd.DataFrame:
    """The rows of the frame's first task again for each of so many: more than stand beside each other on a page."""
    first = rows[rows[column] == rows[column].iloc[0]]
    return pd.concat([first.assign(**{column: f"Task {number}"}) for number in range(1, count + 1)], ignore_index=True)


DEPTHS = frame(
    "label panel batch_size share speedup low high",
    ("3 layers", "CPU, 128 tokens", 1, 50.0, 1.9, 1.8, 2.0),
    ("3 layers", "CPU, 128 tokens", 32, 50.0, 1.95, 1.9, 2.0),
    ("6 layers", "CPU, 128 tokens", 1, 100.0, 1.0, 1.0, 1.0),
    ("6 layers", "CPU, 128 tokens", 32, 100.0, 1.0, 1.0, 1.0),
)
LINES = {
    "printed": lambda share: 100 / (10 + 0.9 * share),
    "printed, our depth": lambda share: 100 / (5 + 0.95 * share),
}
STARS = frame("share speedup", (50.0, 1.82), (25.0, 3.1))
MANY = {
    "retention_of_nine": lambda: plots.retention(of_tasks(RETENTION, 9)),
    "seed_strips_of_five": lambda: plots.seed_strips(of_tasks(SEEDS, 5)),
    "forest_of_nine": lambda: plots.forest(of_tasks(REPORTED, 9)),
    "curves_of_five": lambda: plots.curves(of_tasks(CURVES, 5)),
    "module_impact_of_five": lambda: plots.module_impact(of_tasks(MODULES, 5)),
    "profile_of_fourteen": lambda: plots.profile(of_tasks(PROFILE, 14, "label")),
    "differences_of_five": lambda: plots.differences(of_tasks(DIFFERENCES, 5, "target")),
    "speed_over_depth": lambda: speed.speed_over_depth(DEPTHS, STARS, LINES, "Worker 2001"),
    "speed_over_depth_of_five": lambda: speed.speed_over_depth(of_tasks(DEPTHS, 5, "panel"), STARS[:0], {}, ""),
}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@pytest.mark.parametrize("name", [*PLOTS, *MANY])
def test_golden(name, tmp_path):
    """Words, colours and order exactly; lengths to a hundredth of a point, as processors may round differently."""
    picture = picture_of(name) if name in PLOTS else MANY[name]()
    write_figures([picture], tmp_path / "figures")
    text = re.sub(r'(id="|url\(#|href="#)[^")]*', r"\1", (tmp_path / f"figures/{picture.name}.svg").read_text())
    path = Path(__file__).parent / "golden" / f"{name}.svg"
    if os.environ.get("THESEUS_GOLDEN") == "write":
        path.write_text((tmp_path / f"figures/{picture.name}.svg").read_text(), encoding="utf-8", newline="\n")
        pytest.fail(f"{path.name} is rewritten: look at it, and test without THESEUS_GOLDEN")
    golden = re.sub(r'(id="|url\(#|href="#)[^")]*', r"\1", path.read_text())
    assert NUMBER.sub("0", text) == NUMBER.sub("0", golden)
    numbers, expected = (np.array(NUMBER.findall(part), float) for part in (text, golden))
    assert np.abs(numbers - expected).max() < 0.01


def everything():
    return [picture_of(name) for name in PLOTS]


@pytest.fixture(scope="module")
def figure_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "first"
    write_figures(everything(), folder)
    return folder


def test_a_second_build_is_byte_identical_whatever_the_users_settings_are(figure_folder, tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 19\nsvg.fonttype: path\naxes.grid: True\nfigure.dpi: 55\n")
    code = "from pathlib import Path; from test_plots import *; write_figures(everything(), Path('second'))"
    paths = os.pathsep.join(
        [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers"), str(Path(plots.__file__).parents[2])]
    )
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    names = sorted(path.name for path in figure_folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "second").iterdir())
    assert len(names) == 3 * len(PLOTS) + 1
    assert [
        name for name in names if (figure_folder / name).read_bytes() != (tmp_path / "second" / name).read_bytes()
    ] == []


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path):
    settings = dict(matplotlib.rcParams)
    write_figures([plots.retention(RETENTION)], tmp_path / "figures")
    assert dict(matplotlib.rcParams) == settings
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("name", PLOTS)
def test_the_files_carry_no_date(figure_folder, name):
    assert not re.search(r"dc:date|20[2-9]\d-\d\d-\d\d", (figure_folder / f"{name}.svg").read_text())
    assert not re.search(rb"CreationDate|ModDate|D:20\d\d", (figure_folder / f"{name}.pdf").read_bytes())


def test_a_pdf_has_the_fonts_with_the_letters_that_it_shows_and_no_more(figure_folder):
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", (figure_folder / "retention.pdf").read_bytes(), re.DOTALL)
    contents = [zlib.decompress(stream) for stream in streams if stream[:1] == b"x"]
    fonts = [TTFont(io.BytesIO(data)) for data in contents if data[:4] == b"\x00\x01\x00\x00"]
    letters = [sum(font["glyf"][name].numberOfContours != 0 for name in font.getGlyphOrder()) for font in fonts]
    assert 20 < sum(letters) < 200  # TrueType, not drawn anew as Type 3, and of the thousands those that are needed
    assert not any({"GSUB", "GPOS"} & set(font.keys()) for font in fonts)


def test_pictures_of_one_name_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="retention"):
        write_figures([picture_of("retention"), picture_of("retention")], tmp_path / "figures")
    assert list(tmp_path.iterdir()) == []


def ids(svg):
    return re.findall(r'\bid="([^"]+)"', svg)


def test_inlined_pictures_share_no_id_and_refer_to_their_own(figure_folder):
    pages = [inline_svg(figure_folder / f"{name}.svg", name, "What is to be seen") for name in PLOTS]
    pages.append(inline_svg(figure_folder / "retention.svg", "Retention of another experiment", "What is to be seen"))
    all_ids = [i for page in pages for i in ids(page)]
    assert len(all_ids) == len(set(all_ids))
    for page in pages:
        references = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"|aria-\w+="([^"]+)"', page)
        assert {i for identifiers in references for i in identifiers if i} <= set(ids(page))
        assert len(references) > 2


def test_an_inlined_picture_scales_names_itself_and_reaches_nothing_else(figure_folder):
    svg = inline_svg((figure_folder / "forest.svg").read_text(), "Ours & <theirs>", "Right of zero, ours is higher.")
    head = svg[: svg.index(">")]
    assert head.startswith("<svg ")
    assert 'role="img"' in head
    assert "viewBox=" in head
    assert not re.search(r"\b(width|height)=", head)
    assert re.search(r"<title id=[^>]*>Ours &amp; &lt;theirs&gt;</title>", svg)
    assert re.search(r"<desc id=[^>]*>Right of zero, ours is higher\.</desc>", svg)
    assert svg.count("<title") == 1
    assert "http" not in svg
    assert "<style" not in svg
    assert ">RTE</text>" in svg, "text stays text"


def test_curves_and_modules_say_what_they_show():
    curves, modules = picture_of("curves"), picture_of("module_impact")
    assert (curves.title, modules.title) == ("While training", "Impact of the single modules")
    assert curves.caption == (
        "Replacing rate (above) and score (below) at each evaluation, on what the checkpoint is chosen by: the dev "
        "set, or under equal effort the slice held out of train; straight lines between them; one line for each seed "
        "(2 seeds), its marker at the end. At a rate of 1 only the successor is left. Without a replacing rate: "
        "Fine-tuning. Not drawn (no score): Fine-tuning on RTE (seed 2)."
    )
    assert modules.caption == (
        "Points lost when this module alone is replaced by its substitute, without fine-tuning afterwards; 2 modules "
        "on 2 tasks. Upright lines: the interval over the seeds. Open diamonds: the published losses. Not drawn (no "
        "value): module 2 on QQP."
    )
    assert [text.get_text() for text in modules.figure.legends[0].get_texts()] == ["ours", "printed"]
    assert [text.get_text() for text in curves.figure.legends[0].get_texts()] == ["Fine-tuning", "BERT-of-Theseus"]
    assert modules.figure.get_supylabel() == "Loss against the predecessor (points)"
    assert modules.figure.get_supxlabel() == "Replaced module (number; 1 is nearest the input)"
