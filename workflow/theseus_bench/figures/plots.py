"""What the figures show: one function for each, from a frame to a figure whose caption says how to read it.

A label that is a pandas categorical keeps its place among the categories, and so its colour and marker in every figure
of an experiment. What has no value is not drawn but named in the caption; a frame without any value is a ValueError.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from theseus_bench.evaluation.verdicts import NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, UNDECIDED
from theseus_bench.figures.captions import (
    OVER_SEEDS,
    count_values,
    drop_missing,
    hollow_sentence,
    interval_sentence,
    join_labels,
    join_sentences,
    missing_sentence,
    without_controls,
)
from theseus_bench.figures.export import CaptionedFigure
from theseus_bench.figures.style import (
    ABREAST,
    BLUE,
    COLUMN,
    GREEN,
    INK,
    PAGE,
    QUIET,
    SHADE,
    VERMILLION,
    Style,
    drawing,
    ends,
    in_order,
    is_equal,
    legend,
    legend_height,
    mark,
    method_styles,
    panels,
    reference,
    side_by_side,
    trace,
)


def retention(frame: pd.DataFrame, interval: str = OVER_SEEDS) -> CaptionedFigure:
    """What each method keeps of the predecessor's mean on each task.

    `frame`: label, role, task, retention, low, high (per cent of the predecessor's mean).
    """
    styles = method_styles(frame)
    frame, controls = without_controls(frame)
    data, missing = drop_missing(frame, ["retention"], "task")
    with drawing():
        figure, axes, heights = panels(data, "task", styles, "Kept of the predecessor's mean score (%)")
        for (task, label), rows in data.groupby(["task", "label"], observed=True, sort=False):
            style = styles[label]
            for row, y in side_by_side(rows, heights[label]):
                axes[task].hlines([y], *ends(row), color=style.colour, lw=style.width)
                mark(axes[task], row.retention, y, style, label)
        for panel in axes.values():
            reference(panel.axvline, 100)
    caption = join_sentences(
        f"Mean score as a share of the predecessor's mean, {count_values(data['label'], 'method')} on "
        f"{count_values(data['task'], 'task')}. Each panel has its own scale. Dotted line: the predecessor (100 %).",
        interval_sentence(data, f"Lines through the points: {interval}."),
        hollow_sentence(data["label"]),
        controls,
        missing_sentence(missing),
    )
    return CaptionedFigure("retention", "Retention by task", caption, figure)


def seed_strips(frame: pd.DataFrame) -> CaptionedFigure:
    """Every seed's score on every task, failed runs marked.

    `frame`: label, role, task, seed, score (points), failed (bool), majority (points, the line at or below which a run
    has failed; NaN: none).
    """
    styles = method_styles(frame)
    frame, controls = without_controls(frame)
    data, missing = drop_missing(frame, ["score"], "task")
    with drawing():
        figure, axes, heights = panels(data, "task", styles, "Score (points)")
        for (task, label), rows in data.groupby(["task", "label"], observed=True, sort=False):
            style, height = styles[label], heights[label]
            for row, y in side_by_side(rows.sort_values("seed"), height):
                cross = {"marker": "x", "color": INK, "mew": 1.2} if row.failed else {}
                mark(axes[task], row.score, y, style, label, **{"ms": 0.7 * style.size} | cross)
            axes[task].vlines([rows["score"].mean()], height - 0.42, height + 0.42, color=INK, lw=0.9, zorder=2)
        for task, rows in data.groupby("task", observed=True, sort=False):
            low, high = axes[task].get_xlim()
            for majority in rows["majority"].unique():
                if low <= majority <= high:  # elsewhere it would press the scores together
                    reference(axes[task].axvline, majority)
    failed, lines = int(data["failed"].sum()), data["majority"].notna().any()
    caption = join_sentences(
        f"The score of each seed ({count_values(data['seed'], 'seed')}), {count_values(data['label'], 'method')} on "
        f"{count_values(data['task'], 'task')}. Upright strokes: means. Each panel has its own scale.",
        "Dotted line, where it is within the panel: predicting the majority class (or the mean)." if lines else "",
        f"Crosses: {failed} failed {'run' if failed == 1 else 'runs'}." if failed else "No run that is drawn failed.",
        hollow_sentence(data["label"]),
        controls,
        missing_sentence(missing, "no score"),
    )
    return CaptionedFigure("seed_strips", "Scores of the single seeds", caption, figure)


def forest(frame: pd.DataFrame, interval: str = OVER_SEEDS) -> CaptionedFigure:
    """Our scores minus the printed ones, with the tolerance of the verdict.

    `frame`: label, task, reported, ours, low, high (points; the last two of ours), tolerance (points), verdict (a word
    of theseus_bench.evaluation.verdicts). A method may be printed more than once on a task.
    """
    data, missing = drop_missing(frame, ["ours", "reported"], "task")
    looks = {
        REPRODUCED: Style(BLUE, "o", face=BLUE),
        UNDECIDED: Style(GREEN, "s"),
        NOT_REPRODUCED: Style(VERMILLION, "D", face=VERMILLION),
        NOT_COMPARABLE: Style(QUIET, "X"),
    }
    with drawing():
        figure, axes, heights = panels(data, "task", method_styles(frame), "Ours − printed (points)")
        for (task, label), rows in data.groupby(["task", "label"], observed=True, sort=False):
            for row, y in side_by_side(rows, heights[label]):
                style = looks[row.verdict]
                low, high = (end - row.reported for end in ends(row))
                axes[task].hlines([y], low, high, color=style.colour, lw=style.width)
                mark(axes[task], row.ours - row.reported, y, style, label)
        for (task, label), rows in frame.groupby(["task", "label"], observed=True, sort=False):
            if task in axes and label in heights:
                tolerance = rows["tolerance"].max()
                axes[task].barh([heights[label]], [2 * tolerance], 1, [-tolerance], color=SHADE, zorder=0.5)
        for panel in axes.values():
            panel.axvline(0, color=INK, lw=0.6, zorder=1)
        legend(figure, {verdict: look for verdict, look in looks.items() if verdict in set(data["verdict"])})
    caption = join_sentences(
        f"Our score minus the printed one, for {len(data)} printed {'number' if len(data) == 1 else 'numbers'} of "
        f"{count_values(data['label'], 'method')} on {count_values(data['task'], 'task')}; right of zero, ours is "
        "higher. Each panel has its own scale. Shaded: the tolerance that the configuration gives.",
        interval_sentence(data, f"Lines through the points: {interval}."),
        missing_sentence(missing, "not run or not printed"),
    )
    return CaptionedFigure("forest", "Differences from the printed numbers", caption, figure)


def curves(frame: pd.DataFrame) -> CaptionedFigure:
    """The replacing rate (the paper's Figure 2) and the score that chooses, of every run over its optimizer steps.

    `frame`: label, task, seed, step, epoch, score (points), replacing_rate (a probability; NaN: the method has none).
    """
    data, missing = drop_missing(frame, ["score"], "task")
    styles, names, tasks = method_styles(frame), in_order(data["label"]), in_order(data["task"])
    replacing_labels = set(data.loc[data["replacing_rate"].notna(), "label"])
    kinds = {"replacing_rate": "Replacing rate\n(probability)"} if replacing_labels else {}
    kinds |= {"score": "Score\n(points)"}
    other_labels = [name for name in names if name not in replacing_labels]
    blocks = -(-len(tasks) // ABREAST)
    with drawing():
        height = 0.3 + blocks * (0.4 + 1.15 * len(kinds)) + legend_height(names)
        figure = Figure((PAGE, height), layout="constrained")
        grid = figure.subplots(blocks * len(kinds), min(ABREAST, len(tasks)), squeeze=False)
        for index, task in enumerate(tasks):
            block, column = divmod(index, ABREAST)
            column_axes = grid[block * len(kinds) : (block + 1) * len(kinds), column]
            column_axes[0].set_title(task)
            column_axes[-1].set_xlabel("Optimizer steps")
            column_axes[-1].set_xlim(0, 1.05 * max(1, data.loc[data["task"] == task, "step"].max()))
            column_axes[-1].xaxis.set_major_locator(MaxNLocator(3))
            for axes, (kind, name) in zip(column_axes, kinds.items(), strict=True):
                if axes is not column_axes[-1]:
                    axes.sharex(column_axes[-1])
                    axes.tick_params(labelbottom=False)
                    axes.set_ylim(-0.05, 1.05)
                if column == 0:
                    axes.set_ylabel(name)
                runs = data[data["task"] == task].dropna(subset=kind)
                for (label, _), run in runs.groupby(["label", "seed"], observed=True, sort=False):
                    run = run.sort_values("step")
                    trace(axes, run["step"], run[kind], styles[label], label, markevery=[-1], lw=0.8, alpha=0.85)
        for axes in grid.ravel():
            if not axes.has_data():
                axes.remove()
        legend(figure, {name: styles[name] for name in names}, lines=True)
    caption = join_sentences(
        f"{'Replacing rate (above) and score (below)' if replacing_labels else 'Score'} at each evaluation, on what "
        "the checkpoint is chosen by: the dev set, or under equal effort the slice held out of train; straight "
        f"lines between them; one line for each seed ({count_values(data['seed'], 'seed')}), its marker at the end.",
        "At a rate of 1 only the successor is left." if replacing_labels else "",
        f"Without a replacing rate: {join_labels(other_labels)}." if replacing_labels and other_labels else "",
        hollow_sentence(data["label"]),
        missing_sentence(missing, "no score"),
    )
    return CaptionedFigure("curves", "While training", caption, figure)


def module_impact(frame: pd.DataFrame, interval: str = OVER_SEEDS) -> CaptionedFigure:
    """Points lost when one module alone is replaced (the paper's Table 5).

    `frame`: module (from 1, the one nearest the input), task, drop, low, high (points), reported_drop (NaN: none).
    """
    data, missing = drop_missing(
        frame.assign(label=[f"module {number}" for number in frame["module"]]), ["drop"], "task"
    )
    tasks, has_reported = in_order(data["task"]), bool(data["reported_drop"].notna().any())
    looks = {"ours": Style(BLUE, "o", face=BLUE)}
    looks |= {"printed": Style(VERMILLION, "D", dashes=(2, 1))} if has_reported else {}
    columns = min(ABREAST, len(tasks))
    panel_rows = -(-len(tasks) // columns)
    with drawing():
        figure = Figure((COLUMN if len(tasks) == 1 else PAGE, 0.7 + 1.8 * panel_rows), layout="constrained")
        grid = figure.subplots(panel_rows, columns, sharey=True, squeeze=False)
        for axes, task in zip(grid.ravel(), tasks, strict=False):
            rows = data[data["task"] == task].sort_values("module")
            axes.set_title(task)
            axes.axhline(0, color=INK, lw=0.6, zorder=1)
            for row in rows.itertuples():
                axes.vlines([row.module], *ends(row), color=BLUE, lw=1.2)
            for name, column in {"ours": "drop", "printed": "reported_drop"}.items():
                if name in looks:
                    values = rows.dropna(subset=column)
                    trace(axes, values["module"], values[column], looks[name], name)
            axes.set_xticks(sorted(data["module"].unique()))
        for axes in grid.ravel()[len(tasks) :]:
            axes.remove()
        figure.supxlabel("Replaced module (number; 1 is nearest the input)")
        figure.supylabel("Loss against the predecessor (points)")
        legend(figure, looks, lines=True)
    caption = join_sentences(
        "Points lost when this module alone is replaced by its substitute, without fine-tuning afterwards; "
        f"{count_values(data['module'], 'module')} on {count_values(data['task'], 'task')}.",
        interval_sentence(data, f"Upright lines: {interval}."),
        "Open diamonds: the published losses." if has_reported else "",
        missing_sentence(missing),
    )
    return CaptionedFigure("module_impact", "Impact of the single modules", caption, figure)


def profile(frame: pd.DataFrame) -> CaptionedFigure:
    """Performance profiles (Agarwal et al. 2021, arXiv 2108.13264, section 4.2): how many runs keep at least so much.

    `frame`: label, role, retention (the threshold, per cent of the predecessor), share (of the runs over tasks and
    seeds, from 0 to 1). One panel for each protocol.
    """
    data, missing = drop_missing(frame, ["share"])
    styles, names = method_styles(frame), in_order(data["label"])
    is_equal_effort = data["label"].map(is_equal).astype(bool)
    parts = {
        title: part
        for title, part in (("published", data[~is_equal_effort]), ("equal", data[is_equal_effort]))
        if len(part)
    }
    with drawing():
        figure = Figure((PAGE, 2.8 + legend_height(names)), layout="constrained")
        grid = figure.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (title, part) in zip(grid, parts.items(), strict=True):
            axes.set_title(f"{title} protocol")
            axes.set_ylim(-0.03, 1.03)
            for label, line in part.groupby("label", observed=True, sort=False):
                line, style = line.sort_values("retention"), styles[label]
                start = 0.03 * (names.index(label) % 5)
                trace(axes, line["retention"], line["share"], style, label, markevery=(start, 0.15))
        figure.supxlabel("Kept of the predecessor's score, at least (%)")
        figure.supylabel("Share of runs (fraction)")
        legend(figure, {name: styles[name] for name in names}, lines=True)
    caption = join_sentences(
        "Share of all runs (each a task and a seed) that keep at least so much of the predecessor's score (Agarwal et "
        f"al. 2021), {count_values(data['label'], 'method')}: further up and right is better.",
        hollow_sentence(data["label"]),
        missing_sentence(missing),
    )
    return CaptionedFigure("profile", "Performance profiles", caption, figure)


def differences(frame: pd.DataFrame, alpha: float = 0.05) -> CaptionedFigure:
    """Tested differences between methods.

    `frame`: label, other, target (a task or 'macro'), difference, low, high (points, 1 − alpha interval), p_holm (NaN:
    no p-value). `alpha` is the level that the adjusted p-value must be below.
    """
    data, missing = drop_missing(frame, ["difference"], "target")
    others = in_order(data["other"])
    if len(others) > 1:
        pairs = [f"{row.label} − {row.other}" for row in data.itertuples()]
        data = data.assign(label=pairs)
    looks = {
        "better": Style(BLUE, "^", face=BLUE),
        "worse": Style(VERMILLION, "v", face=VERMILLION),
        "not distinguishable": Style(QUIET, "o"),
        "no p-value": Style(QUIET, "x"),
    }
    conditions = [data["p_holm"].isna(), data["p_holm"] >= alpha, data["difference"] > 0]
    kinds = np.select(conditions, ["no p-value", "not distinguishable", "better"], "worse")
    subject = f"Difference from {others[0]}" if len(others) == 1 else "Difference"
    with drawing():
        styles = {} if len(others) > 1 else method_styles(frame)
        figure, axes, heights = panels(data, "target", styles, f"{subject} (points)")
        for (target, label), rows in data.assign(kind=kinds).groupby(["target", "label"], observed=True, sort=False):
            for row, y in side_by_side(rows, heights[label]):
                style = looks[row.kind]
                axes[target].hlines([y], *ends(row), color=style.colour, lw=style.width)
                mark(axes[target], row.difference, y, style, label)
        for panel in axes.values():
            panel.axvline(0, color=INK, lw=0.6, zorder=1)
        legend(figure, {kind: look for kind, look in looks.items() if kind in set(kinds)})
    caption = join_sentences(
        f"{subject} of {count_values(data['label'], 'method')} on {count_values(data['target'], 'score')}; right of "
        "zero is better. Each panel has its own scale.",
        interval_sentence(
            data, f"Lines through the points: {100 * (1 - alpha):g} % intervals that hold together in their family."
        ),
        f"Better and worse: the p-value, adjusted by Holm over the family, is below {alpha:g}.",
        missing_sentence(missing),
    )
    return CaptionedFigure(
        "differences", f"Tested differences{f' from {others[0]}' if len(others) == 1 else ''}", caption, figure
    )
