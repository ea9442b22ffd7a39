"""What the figures show of speed: our speed-ups over the depth of the models, beside the printed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from theseus_bench.figures.captions import count_values, drop_missing, join_sentences
from theseus_bench.figures.export import CaptionedFigure
from theseus_bench.figures.style import (
    ABREAST,
    COLOURS,
    INK,
    MARKERS,
    PAGE,
    QUIET,
    Style,
    drawing,
    ends,
    in_order,
    legend,
    legend_height,
    reference,
    trace,
)

SpeedupLine = Callable[[np.ndarray], np.ndarray]  # from shares of the predecessor's layers (per cent) to speed-ups
APART = 1.6  # per cent of the predecessor's layers by which batch sizes stand apart


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


def _draw_reported(
    axes: Axes, smallest: float, reported: pd.DataFrame, lines: Mapping[str, SpeedupLine], looks: dict[str, Style]
) -> None:
    """The printed points and the lines, from the smallest share to the whole predecessor."""
    shares = np.linspace(smallest, 100, 100)
    for index, (name, line) in enumerate(lines.items()):
        trace(axes, shares, line(shares), looks[name], name, marker="", lw=0.8)
        if index == 0:
            trace(axes, reported["share"], reported["speedup"], looks[name], f"{name}, points", linestyle="none", ms=7)
