"""What the figures show: one function for each, from a plain frame to a Picture whose caption says how to read it.

A label that is a pandas categorical keeps its place among the categories, and so its colour and marker in every figure
of an experiment. What has no value is not drawn but named in the caption; a frame without any value is a ValueError.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import scipy  # scipy.optimize, slow to import, loads where it is first used
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform, blended_transform_factory

from theseus_bench.evaluation.verdicts import NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, UNDECIDED
from theseus_bench.figures.captions import count, explain, hollow, joined, named, not_drawn, present, without_controls
from theseus_bench.figures.export import Picture
from theseus_bench.figures.style import (
    ABREAST,
    BLUE,
    COLUMN,
    FAINT,
    GREEN,
    INK,
    PAGE,
    QUIET,
    ROW,
    SHADE,
    SMALL,
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

OVER_SEEDS = "the interval over the seeds"


def score_against_speed(points: pd.DataFrame, score_name: str, interval: str = OVER_SEEDS) -> Picture:
    """Score over speed-up, one point for each method, with intervals.

    `points`: label, role, speedup, speedup_low, speedup_high (×), score, low, high (points); NaN where
    unknown. `interval` says what low and high of the score are.
    """
    shown, missing = present(points, ["score", "speedup"])
    styles = method_styles(points)
    with drawing():
        figure = Figure((PAGE, max(3.2, 0.8 + ROW * len(shown))), layout="constrained")
        axes = figure.subplots()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axes.set_xlabel("Speed-up over the predecessor (×)")
        axes.set_ylabel(f"{score_name} (points)")
        _include(axes.set_xlim, shown[["speedup", "speedup_low", "speedup_high"]], 0.12)
        _include(axes.set_ylim, shown[["score", "low", "high"]], 0.08)
        for score in shown.loc[shown["role"] == "teacher", "score"]:
            reference(axes.axhline, score)
        _draw_speeds(axes, shown)
        moved = _side_by_side(axes, shown["speedup"])
        for row, transform in zip(shown.itertuples(), moved, strict=True):
            style = styles[row.label]
            axes.vlines([row.speedup], *ends(row), color=style.colour, lw=style.width, transform=transform)
            mark(axes, row.speedup, row.score, style, row.label, transform=transform)
        _name_points(axes, shown, moved, styles)
    caption = joined(
        f"{score_name} of {count(shown['label'], 'method')} over the speed-up at inference: higher and further right "
        "is better.",
        explain(shown, f"Upright lines: {interval}."),
        "Bars at the foot: the measured speed-ups with their 95 % intervals over repetitions; models of one shape have "
        "one measurement and stand side by side around it.",
        "Dotted line: the predecessor." if "teacher" in set(shown["role"]) else "",
        hollow(shown["label"]),
        not_drawn(missing, "no score or no speed-up"),
    )
    return Picture("score_against_speed", f"{score_name} against speed-up", caption, figure)


def retention(frame: pd.DataFrame, interval: str = OVER_SEEDS) -> Picture:
    """What each method keeps of the predecessor's mean on each task.

    `frame`: label, role, task, retention, low, high (per cent of the predecessor's mean).
    """
    styles = method_styles(frame)
    frame, controls = without_controls(frame)
    shown, missing = present(frame, ["retention"], "task")
    with drawing():
        figure, axes, places = panels(shown, "task", styles, "Kept of the predecessor's mean score (%)")
        for (task, label), rows in shown.groupby(["task", "label"], observed=True, sort=False):
            style = styles[label]
            for row, y in side_by_side(rows, places[label]):
                axes[task].hlines([y], *ends(row), color=style.colour, lw=style.width)
                mark(axes[task], row.retention, y, style, label)
        for panel in axes.values():
            reference(panel.axvline, 100)
    caption = joined(
        f"Mean score as a share of the predecessor's mean, {count(shown['label'], 'method')} on "
        f"{count(shown['task'], 'task')}. Each panel has its own scale. Dotted line: the predecessor (100 %).",
        explain(shown, f"Lines through the points: {interval}."),
        hollow(shown["label"]),
        controls,
        not_drawn(missing),
    )
    return Picture("retention", "Retention by task", caption, figure)


def seed_strips(frame: pd.DataFrame) -> Picture:
    """Every seed's score on every task, failed runs marked.

    `frame`: label, role, task, seed, score (points), failed (bool), majority (points, the line at or below which a run
    has failed; NaN: none).
    """
    styles = method_styles(frame)
    frame, controls = without_controls(frame)
    shown, missing = present(frame, ["score"], "task")
    with drawing():
        figure, axes, places = panels(shown, "task", styles, "Score (points)")
        for (task, label), rows in shown.groupby(["task", "label"], observed=True, sort=False):
            style, place = styles[label], places[label]
            for row, y in side_by_side(rows.sort_values("seed"), place):
                cross = {"marker": "x", "color": INK, "mew": 1.2} if row.failed else {}
                mark(axes[task], row.score, y, style, label, **{"ms": 0.7 * style.size} | cross)
            axes[task].vlines([rows["score"].mean()], place - 0.42, place + 0.42, color=INK, lw=0.9, zorder=2)
        for task, rows in shown.groupby("task", observed=True, sort=False):
            low, high = axes[task].get_xlim()
            for majority in rows["majority"].unique():
                if low <= majority <= high:  # elsewhere it would press the scores together
                    reference(axes[task].axvline, majority)
    failed, lines = int(shown["failed"].sum()), shown["majority"].notna().any()
    caption = joined(
        f"The score of each seed ({count(shown['seed'], 'seed')}), {count(shown['label'], 'method')} on "
        f"{count(shown['task'], 'task')}. Upright strokes: means. Each panel has its own scale.",
        "Dotted line, where it is within the panel: predicting the majority class (or the mean)." if lines else "",
        f"Crosses: {failed} failed {'run' if failed == 1 else 'runs'}." if failed else "No run that is drawn failed.",
        hollow(shown["label"]),
        controls,
        not_drawn(missing, "no score"),
    )
    return Picture("seed_strips", "Scores of the single seeds", caption, figure)


def forest(frame: pd.DataFrame, interval: str = OVER_SEEDS) -> Picture:
    """Our scores minus the printed ones, with the tolerance of the verdict.

    `frame`: label, task, printed, ours, low, high (points; the last two of ours), tolerance (points), verdict (a word
    of theseus_bench.evaluation.verdicts). A method may be printed more than once on a task.
    """
    shown, missing = present(frame, ["ours", "printed"], "task")
    looks = {
        REPRODUCED: Style(BLUE, "o", face=BLUE),
        UNDECIDED: Style(GREEN, "s"),
        NOT_REPRODUCED: Style(VERMILLION, "D", face=VERMILLION),
        NOT_COMPARABLE: Style(QUIET, "X"),
    }
    with drawing():
        figure, axes, places = panels(shown, "task", method_styles(frame), "Ours − printed (points)")
        for (task, label), rows in shown.groupby(["task", "label"], observed=True, sort=False):
            for row, y in side_by_side(rows, places[label]):
                style = looks[row.verdict]
                low, high = (end - row.printed for end in ends(row))
                axes[task].hlines([y], low, high, color=style.colour, lw=style.width)
                mark(axes[task], row.ours - row.printed, y, style, label)
        for (task, label), rows in frame.groupby(["task", "label"], observed=True, sort=False):
            if task in axes and label in places:
                widest = rows["tolerance"].max()
                axes[task].barh([places[label]], [2 * widest], 1, [-widest], color=SHADE, zorder=0.5)
        for panel in axes.values():
            panel.axvline(0, color=INK, lw=0.6, zorder=1)
        legend(figure, {verdict: look for verdict, look in looks.items() if verdict in set(shown["verdict"])})
    caption = joined(
        f"Our score minus the printed one, for {len(shown)} printed {'number' if len(shown) == 1 else 'numbers'} of "
        f"{count(shown['label'], 'method')} on {count(shown['task'], 'task')}; right of zero, ours is higher. Each "
        "panel has its own scale. Shaded: the tolerance that the configuration gives.",
        explain(shown, f"Lines through the points: {interval}."),
        not_drawn(missing, "not run or not printed"),
    )
    return Picture("forest", "Differences from the printed numbers", caption, figure)


def curves(frame: pd.DataFrame) -> Picture:
    """The replacing rate (the paper's Figure 2) and the score that chooses, of every run over its optimizer steps.

    `frame`: label, task, seed, step, epoch, score (points), replacing_rate (a probability; NaN: the method has none).
    """
    shown, missing = present(frame, ["score"], "task")
    styles, names, tasks = method_styles(frame), in_order(shown["label"]), in_order(shown["task"])
    replacing = set(shown.loc[shown["replacing_rate"].notna(), "label"])
    kinds = {"replacing_rate": "Replacing rate\n(probability)"} if replacing else {}
    kinds |= {"score": "Score\n(points)"}
    without = [name for name in names if name not in replacing]
    blocks = -(-len(tasks) // ABREAST)
    with drawing():
        height = 0.3 + blocks * (0.4 + 1.15 * len(kinds)) + legend_height(names)
        figure = Figure((PAGE, height), layout="constrained")
        grid = figure.subplots(blocks * len(kinds), min(ABREAST, len(tasks)), squeeze=False)
        for place, task in enumerate(tasks):
            block, across = divmod(place, ABREAST)
            column = grid[block * len(kinds) : (block + 1) * len(kinds), across]
            column[0].set_title(task)
            column[-1].set_xlabel("Optimizer steps")
            column[-1].set_xlim(0, 1.05 * max(1, shown.loc[shown["task"] == task, "step"].max()))
            column[-1].xaxis.set_major_locator(MaxNLocator(3))
            for axes, (kind, name) in zip(column, kinds.items(), strict=True):
                if axes is not column[-1]:
                    axes.sharex(column[-1])
                    axes.tick_params(labelbottom=False)
                    axes.set_ylim(-0.05, 1.05)
                if across == 0:
                    axes.set_ylabel(name)
                runs = shown[shown["task"] == task].dropna(subset=kind)
                for (label, _), run in runs.groupby(["label", "seed"], observed=True, sort=False):
                    run = run.sort_values("step")
                    trace(axes, run["step"], run[kind], styles[label], label, markevery=[-1], lw=0.8, alpha=0.85)
        for axes in grid.ravel():
            if not axes.has_data():
                axes.remove()
        legend(figure, {name: styles[name] for name in names}, lines=True)
    caption = joined(
        f"{'Replacing rate (above) and score (below)' if replacing else 'Score'} at each evaluation, on what the "
        "checkpoint is chosen by: the dev set, or under equal effort the slice held out of train; straight "
        f"lines between them; one line for each seed ({count(shown['seed'], 'seed')}), its marker at the end.",
        "At a rate of 1 only the successor is left." if replacing else "",
        f"Without a replacing rate: {named(without)}." if replacing and without else "",
        hollow(shown["label"]),
        not_drawn(missing, "no score"),
    )
    return Picture("curves", "While training", caption, figure)


def module_impact(frame: pd.DataFrame, interval: str = OVER_SEEDS) -> Picture:
    """Points lost when one module alone is replaced (the paper's Table 5).

    `frame`: module (from 1, the one nearest the input), task, drop, low, high (points), printed_drop (NaN: none).
    """
    shown, missing = present(frame.assign(label=[f"module {number}" for number in frame["module"]]), ["drop"], "task")
    tasks, printed = in_order(shown["task"]), bool(shown["printed_drop"].notna().any())
    looks = {"ours": Style(BLUE, "o", face=BLUE)}
    looks |= {"printed": Style(VERMILLION, "D", dashes=(2, 1))} if printed else {}
    columns = min(ABREAST, len(tasks))
    down = -(-len(tasks) // columns)
    with drawing():
        figure = Figure((COLUMN if len(tasks) == 1 else PAGE, 0.7 + 1.8 * down), layout="constrained")
        grid = figure.subplots(down, columns, sharey=True, squeeze=False)
        for axes, task in zip(grid.ravel(), tasks, strict=False):
            rows = shown[shown["task"] == task].sort_values("module")
            axes.set_title(task)
            axes.axhline(0, color=INK, lw=0.6, zorder=1)
            for row in rows.itertuples():
                axes.vlines([row.module], *ends(row), color=BLUE, lw=1.2)
            for name, column in {"ours": "drop", "printed": "printed_drop"}.items():
                if name in looks:
                    known = rows.dropna(subset=column)
                    trace(axes, known["module"], known[column], looks[name], name)
            axes.set_xticks(sorted(shown["module"].unique()))
        for axes in grid.ravel()[len(tasks) :]:
            axes.remove()
        figure.supxlabel("Replaced module (number; 1 is nearest the input)")
        figure.supylabel("Loss against the predecessor (points)")
        legend(figure, looks, lines=True)
    caption = joined(
        "Points lost when this module alone is replaced by its substitute, without fine-tuning afterwards; "
        f"{count(shown['module'], 'module')} on {count(shown['task'], 'task')}.",
        explain(shown, f"Upright lines: {interval}."),
        "Open diamonds: the published losses." if printed else "",
        not_drawn(missing),
    )
    return Picture("module_impact", "Impact of the single modules", caption, figure)


def profile(frame: pd.DataFrame) -> Picture:
    """Performance profiles (Agarwal et al. 2021, arXiv 2108.13264, section 4.2): how many runs keep at least so much.

    `frame`: label, role, retention (the threshold, per cent of the predecessor), share (of the runs over tasks and
    seeds, from 0 to 1). One panel for each protocol.
    """
    shown, missing = present(frame, ["share"])
    styles, names = method_styles(frame), in_order(shown["label"])
    equal = shown["label"].map(is_equal).astype(bool)
    parts = {title: part for title, part in (("published", shown[~equal]), ("equal", shown[equal])) if len(part)}
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
    caption = joined(
        "Share of all runs (each a task and a seed) that keep at least so much of the predecessor's score (Agarwal et "
        f"al. 2021), {count(shown['label'], 'method')}: further up and right is better.",
        hollow(shown["label"]),
        not_drawn(missing),
    )
    return Picture("profile", "Performance profiles", caption, figure)


def differences(frame: pd.DataFrame, alpha: float = 0.05) -> Picture:
    """Tested differences between methods.

    `frame`: label, other, what (a task or 'macro'), difference, low, high (points, 1 − alpha interval), p_holm (NaN: no
    p-value). `alpha` is the level that the adjusted p-value must be below.
    """
    shown, missing = present(frame, ["difference"], "what")
    others = in_order(shown["other"])
    if len(others) > 1:
        pairs = [f"{row.label} − {row.other}" for row in shown.itertuples()]
        shown = shown.assign(label=pairs)
    looks = {
        "better": Style(BLUE, "^", face=BLUE),
        "worse": Style(VERMILLION, "v", face=VERMILLION),
        "not distinguishable": Style(QUIET, "o"),
        "no p-value": Style(QUIET, "x"),
    }
    conditions = [shown["p_holm"].isna(), shown["p_holm"] >= alpha, shown["difference"] > 0]
    found = np.select(conditions, ["no p-value", "not distinguishable", "better"], "worse")
    subject = f"Difference from {others[0]}" if len(others) == 1 else "Difference"
    with drawing():
        styles = {} if len(others) > 1 else method_styles(frame)
        figure, axes, places = panels(shown, "what", styles, f"{subject} (points)")
        for (what, label), rows in shown.assign(found=found).groupby(["what", "label"], observed=True, sort=False):
            for row, y in side_by_side(rows, places[label]):
                style = looks[row.found]
                axes[what].hlines([y], *ends(row), color=style.colour, lw=style.width)
                mark(axes[what], row.difference, y, style, label)
        for panel in axes.values():
            panel.axvline(0, color=INK, lw=0.6, zorder=1)
        legend(figure, {kind: look for kind, look in looks.items() if kind in set(found)})
    caption = joined(
        f"{subject} of {count(shown['label'], 'method')} on {count(shown['what'], 'score')}; right of zero is "
        "better. Each panel has its own scale.",
        explain(
            shown, f"Lines through the points: {100 * (1 - alpha):g} % intervals that hold together in their family."
        ),
        f"Better and worse: the p-value, adjusted by Holm over the family, is below {alpha:g}.",
        not_drawn(missing),
    )
    return Picture(
        "differences", f"Tested differences{f' from {others[0]}' if len(others) == 1 else ''}", caption, figure
    )


def _draw_speeds(axes: Axes, shown: pd.DataFrame) -> None:
    """Each distinct measurement of a speed-up, with its interval, at the foot of the axes."""
    foot = blended_transform_factory(axes.transData, axes.transAxes)
    for speed in shown[["speedup", "speedup_low", "speedup_high"]].drop_duplicates().itertuples():
        axes.plot([speed.speedup_low, speed.speedup_high], [0.015, 0.015], color=QUIET, lw=1.2, transform=foot)
        axes.plot([speed.speedup], [0.015], "|", color=INK, ms=6, transform=foot, label="speed-up")


def _side_by_side(axes: Axes, speeds: pd.Series) -> list[Transform]:
    """From data to the page for each point, those of one speed-up next to each other, within 40 pt."""
    place, fellows = speeds.groupby(speeds).cumcount(), speeds.groupby(speeds).transform("size")
    step = np.minimum(7, 40 / fellows)
    shifts = (place - (fellows - 1) / 2) * step / 72
    return [axes.transData + ScaledTranslation(shift, 0, axes.figure.dpi_scale_trans) for shift in shifts]


def _name_points(axes: Axes, shown: pd.DataFrame, moved: list[Transform], styles: dict[str, Style]) -> None:
    """Each point's name right of the axes, as near its height as the other names allow, with a line to the point."""
    axes.figure.draw_without_rendering()
    gap = 1.3 * SMALL / (axes.get_window_extent().height / axes.figure.dpi * 72)
    low, high = axes.get_ylim()
    order = np.argsort(shown["score"].to_numpy(), kind="stable")
    wanted = (shown["score"].to_numpy()[order] - low) / (high - low)
    steps = gap * np.arange(len(wanted))
    heights = np.clip(scipy.optimize.isotonic_regression(wanted - steps).x, 0, max(0, 1 - steps[-1])) + steps
    for place, height in zip(order, heights, strict=True):
        row, style = shown.iloc[place], styles[shown.iloc[place]["label"]]
        arrow = {"arrowstyle": "-", "lw": 0.4, "color": FAINT, "shrinkA": 0, "shrinkB": 3, "zorder": 1}
        ends_at = {"xy": (row["speedup"], row["score"]), "xycoords": moved[place]}
        axes.annotate("", xytext=(1.02, height), textcoords="axes fraction", arrowprops=arrow, zorder=1, **ends_at)
        mark(axes, 1.03, height, style, "", transform=axes.transAxes, clip_on=False)
        axes.text(
            1.05, height, row["label"], fontsize=SMALL, weight=style.weight, va="center", transform=axes.transAxes
        )


def _include(set_limits: Callable[[float, float], object], values: pd.DataFrame, margin: float) -> None:
    """Limits that hold all values that are known."""
    known = values.to_numpy(float)
    low, high = np.nanmin(known), np.nanmax(known)
    space = margin * (high - low or 1.0)
    set_limits(low - space, high + space)
