"""What the figures show of speed: scores over our speed-ups, and these over the depth of the models, beside the printed
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import scipy  # scipy.optimize, slow to import, loads where it is first used
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import ScaledTranslation, Transform, blended_transform_factory

from theseus_bench.figures.captions import (
    OVER_SEEDS,
    count_values,
    drop_missing,
    hollow_sentence,
    interval_sentence,
    join_sentences,
    missing_sentence,
)
from theseus_bench.figures.export import CaptionedFigure
from theseus_bench.figures.style import (
    ABREAST,
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    PAGE,
    QUIET,
    ROW,
    SMALL,
    Style,
    drawing,
    ends,
    in_order,
    legend,
    legend_height,
    mark,
    method_styles,
    reference,
    trace,
)

SpeedupLine = Callable[[np.ndarray], np.ndarray]  # from shares of the predecessor's layers (per cent) to speed-ups
APART = 1.6  # per cent of the predecessor's layers by which batch sizes stand apart


def score_against_speed(points: pd.DataFrame, score_name: str, interval: str = OVER_SEEDS) -> CaptionedFigure:
    """Score over speed-up, one point for each method, with intervals.

    `points`: label, role, speedup, speedup_low, speedup_high (×), score, low, high (points); NaN where
    unknown. `interval` says what low and high of the score are.
    """
    data, missing = drop_missing(points, ["score", "speedup"])
    styles = method_styles(points)
    with drawing():
        figure = Figure((PAGE, max(3.2, 0.8 + ROW * len(data))), layout="constrained")
        axes = figure.subplots()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axes.set_xlabel("Speed-up over the predecessor (×)")
        axes.set_ylabel(f"{score_name} (points)")
        _set_limits(axes.set_xlim, data[["speedup", "speedup_low", "speedup_high"]], 0.12)
        _set_limits(axes.set_ylim, data[["score", "low", "high"]], 0.08)
        for score in data.loc[data["role"] == "teacher", "score"]:
            reference(axes.axhline, score)
        _draw_speeds(axes, data)
        transforms = _side_by_side(axes, data["speedup"])
        for row, transform in zip(data.itertuples(), transforms, strict=True):
            style = styles[row.label]
            axes.vlines([row.speedup], *ends(row), color=style.colour, lw=style.width, transform=transform)
            mark(axes, row.speedup, row.score, style, row.label, transform=transform)
        _name_points(figure, axes, data, transforms, styles)
    caption = join_sentences(
        f"{score_name} of {count_values(data['label'], 'method')} over the speed-up at inference: higher and further "
        "right is better.",
        interval_sentence(data, f"Upright lines: {interval}."),
        "Bars at the foot: the measured speed-ups with their 95 % intervals over repetitions; models of one shape have "
        "one measurement and stand side by side around it.",
        "Dotted line: the predecessor." if "teacher" in set(data["role"]) else "",
        hollow_sentence(data["label"]),
        missing_sentence(missing, "no score or no speed-up"),
    )
    return CaptionedFigure("score_against_speed", f"{score_name} against speed-up", caption, figure)


def speed_over_depth(
    frame: pd.DataFrame,
    reported: pd.DataFrame,
    lines: Mapping[str, SpeedupLine],
    source: str,
) -> CaptionedFigure:
    """Speed-up over the share of the predecessor's layers, a panel for each device and length.

    `frame`: label (a depth), panel (device and length), batch_size, share (per cent of the predecessor's layers),
    speedup, low, high (×). `reported`: share and speedup of what `source` prints, empty if nothing is. `lines`:
    speed-ups by share, by what the legend calls them; the first goes through the printed points.
    """
    data, _ = drop_missing(frame, ["speedup"])
    names, batches = in_order(data["panel"]), sorted(data["batch_size"].unique())
    looks = {batch: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, batch in enumerate(batches)}
    line_looks = [Style(INK, "*", (), INK), Style(QUIET, "", (4, 1.5))]
    looks_by_line = {name: look for (name, _), look in zip(lines.items(), line_looks, strict=False)}
    keys = {f"ours, batch {batch}": look for batch, look in looks.items()} | looks_by_line
    columns = min(ABREAST, len(names))
    panel_rows = -(-len(names) // columns)
    with drawing():
        figure = Figure((PAGE, 0.6 + 2.0 * panel_rows + legend_height(list(keys))), layout="constrained")
        grid = figure.subplots(panel_rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip(grid.ravel(), names, strict=False):
            axes.set_title(name)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
            reference(axes.axhline, 1)
            _draw_reported(axes, min([*data["share"], *reported["share"]]), reported, lines, looks_by_line)
            rows = data[data["panel"] == name]
            for index, (batch, look) in enumerate(looks.items()):
                batch_rows = rows[rows["batch_size"] == batch].sort_values("share")
                shares = batch_rows["share"] + APART * (index - (len(looks) - 1) / 2)
                for share, row in zip(shares, batch_rows.itertuples(), strict=True):
                    axes.vlines([share], *ends(row), color=look.colour, lw=look.width)
                trace(axes, shares, batch_rows["speedup"], look, f"ours, batch {batch}", lw=0.6)
        for axes in grid.ravel()[len(names) :]:
            axes.remove()
        figure.supxlabel("Layers of the compressed model (% of the predecessor's)")
        figure.supylabel("Speed-up over the predecessor (×)")
        legend(figure, keys, lines=True)
    caption = join_sentences(
        f"Speed-up of {count_values(data['label'], 'depth')} over the predecessor; further up is faster. Upright "
        "lines: 95 % intervals over the rounds. Batch sizes of one depth stand side by side.",
        f"Stars: printed in {source}, which gives neither batch nor length; curve: relative time as a straight line in "
        "the layers, fitted to them."
        if len(reported)
        else "",
        "Dashed: the same for a predecessor as deep as ours." if len(lines) > 1 else "",
    )
    return CaptionedFigure("speed_over_depth", "Speed-up over depth", caption, figure)


def _draw_speeds(axes: Axes, data: pd.DataFrame) -> None:
    """Each distinct measurement of a speed-up, with its interval, at the foot of the axes."""
    foot = blended_transform_factory(axes.transData, axes.transAxes)
    for speed in data[["speedup", "speedup_low", "speedup_high"]].drop_duplicates().itertuples():
        axes.plot([speed.speedup_low, speed.speedup_high], [0.015, 0.015], color=QUIET, lw=1.2, transform=foot)
        axes.plot([speed.speedup], [0.015], "|", color=INK, ms=6, transform=foot, label="speed-up")


def _side_by_side(axes: Axes, speeds: pd.Series) -> list[Transform]:
    """From data to the page for each point, those of one speed-up next to each other, within 40 pt."""
    position, group_size = speeds.groupby(speeds).cumcount(), speeds.groupby(speeds).transform("size")
    step = np.minimum(7, 40 / group_size)
    shifts = (position - (group_size - 1) / 2) * step / 72
    return [axes.transData + ScaledTranslation(shift, 0, axes.figure.dpi_scale_trans) for shift in shifts]


def _name_points(
    figure: Figure, axes: Axes, data: pd.DataFrame, transforms: list[Transform], styles: dict[str, Style]
) -> None:
    """Each point's name right of the axes, as near its height as the other names allow, with a line to the point."""
    figure.draw_without_rendering()
    gap = 1.3 * SMALL / (axes.get_window_extent().height / figure.dpi * 72)
    low, high = axes.get_ylim()
    order = np.argsort(data["score"].to_numpy(), kind="stable")
    own_heights = (data["score"].to_numpy()[order] - low) / (high - low)
    steps = gap * np.arange(len(own_heights))
    heights = np.clip(scipy.optimize.isotonic_regression(own_heights - steps).x, 0, max(0, 1 - steps[-1])) + steps
    for index, height in zip(order, heights, strict=True):
        row, style = data.iloc[index], styles[data.iloc[index]["label"]]
        arrow = {"arrowstyle": "-", "lw": 0.4, "color": FAINT, "shrinkA": 0, "shrinkB": 3, "zorder": 1}
        endpoint = {"xy": (row["speedup"], row["score"]), "xycoords": transforms[index]}
        axes.annotate("", xytext=(1.02, height), textcoords="axes fraction", arrowprops=arrow, zorder=1, **endpoint)
        mark(axes, 1.03, height, style, "", transform=axes.transAxes, clip_on=False)
        axes.text(
            1.05, height, row["label"], fontsize=SMALL, weight=style.weight, va="center", transform=axes.transAxes
        )


def _set_limits(set_limits: Callable[[float, float], object], values: pd.DataFrame, margin: float) -> None:
    """Limits that hold all values that are known."""
    numbers = values.to_numpy(float)
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    space = margin * (high - low or 1.0)
    set_limits(low - space, high + space)


def _draw_reported(
    axes: Axes, smallest: float, reported: pd.DataFrame, lines: Mapping[str, SpeedupLine], looks: dict[str, Style]
) -> None:
    """The printed points and the lines, from the smallest share to the whole predecessor."""
    shares = np.linspace(smallest, 100, 100)
    for index, (name, line) in enumerate(lines.items()):
        trace(axes, shares, line(shares), looks[name], name, marker="", lw=0.8)
        if index == 0:
            trace(axes, reported["share"], reported["speedup"], looks[name], f"{name}, points", linestyle="none", ms=7)
