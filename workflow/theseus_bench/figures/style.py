"""How every figure looks: type, colours and markers of the methods, and the pieces that figures are put together from.

Colour is never alone: a method has a marker and dashes too, so that the figures can be read in grey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from theseus_bench.suite.run_names import ADAPTED, EQUAL, protocol_suffix
from theseus_bench.wording import GAP

COLUMN, PAGE = 3.3, 6.9  # inches: one column and the whole width of a printed page
SMALL = 7  # points, the smallest type
INK, QUIET, FAINT, STRIPE, SHADE = "#000000", "#595959", "#bdbdbd", "#f4f4f4", "#d5e4ef"
# The colours of Okabe and Ito, without black (the predecessor has it) and yellow (too light on white).
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
# Of different lengths, so that colour, marker and dashes come together only once in many methods.
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "p", ">", "h")
DASHES = ((), (4, 1.5), (1, 1.2), (5, 1.2, 1, 1.2), (8, 2))
ROW = 0.145  # inches a row of small type needs
ABREAST = 4  # panels beside each other on a page
NEAR = 0.3  # share of a row by which values of one row are moved apart
LOOK = {
    "font.family": ["sans-serif"],
    # In an SVG, text stays text: it can be selected, found and read aloud, and the file stays small. DejaVu Sans comes
    # with matplotlib; Verdana has its widths and comes with most systems, and the others are narrower.
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "pdf.fonttype": 42,  # the font itself, which journals ask for
    "font.size": SMALL + 1,
    **dict.fromkeys(["xtick.labelsize", "ytick.labelsize", "legend.fontsize", "axes.labelsize"], SMALL),
    "figure.labelsize": SMALL,
    "axes.titlesize": SMALL + 1,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": QUIET,
    **{f"{axis}tick.{key}": value for axis in "xy" for key, value in (("major.width", 0.6), ("major.size", 2.5))},
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.h_pad": 0.03,
}


@dataclass(frozen=True)
class Style:
    """How a method is drawn. `face` is the marker's inside; `strong`: what the figure is about."""

    colour: str
    marker: str
    dashes: tuple[float, ...] = ()  # points on and off, in widths of the line
    face: str = "white"
    strong: bool = False

    @property
    def size(self) -> float:
        """Of the marker, in points."""
        return 5.5 if self.strong else 4.0

    @property
    def width(self) -> float:
        """Of the line, in points."""
        return 1.7 if self.strong else 1.0

    @property
    def weight(self) -> str:
        """Of the label."""
        return "bold" if self.strong else "normal"

    @property
    def zorder(self) -> float:
        """What is strong lies above the rest."""
        return 5.0 if self.strong else 3.0


@contextmanager
def drawing(**settings: object) -> Iterator[None]:
    """Inside, matplotlib has our look (and `settings`) whatever the user's own is; outside, nothing has changed."""
    with matplotlib.style.context(["default", LOOK | settings]):
        yield


def method_styles(frame: pd.DataFrame) -> dict[str, Style]:
    """A style for each label of `frame` (columns label and, if it has it, role): no two share colour, marker and face.

    A method has the same colour and marker under both protocols, hollow (and with other dashes) where it is the equal
    one. The role decides the emphasis: the proposed method is drawn strong, the teacher black, a control grey.
    """
    labels = frame["label"]
    labels = list(labels.cat.categories) if isinstance(labels.dtype, pd.CategoricalDtype) else in_order(labels)
    roles = dict(zip(frame["label"], frame["role"], strict=True)) if "role" in frame else {}
    methods = list(dict.fromkeys(_method(label) for label in labels))
    styles = {}
    for label in labels:
        index, role = methods.index(_method(label)), roles.get(label, "")
        colour = {"teacher": INK, "control": QUIET}.get(role, COLOURS[index % len(COLOURS)])
        face, shift = ("white", 2) if is_equal(label) else (colour, 0)
        marker, dashes = MARKERS[index % len(MARKERS)], DASHES[(index + shift) % len(DASHES)]
        styles[label] = Style(colour, marker, dashes, face, strong=role == "proposed")
    return styles


def is_equal(label: str) -> bool:
    """Whether the label is of a method under the protocol of equal effort, as its name says at the end."""
    return label.endswith(protocol_suffix(EQUAL))


def in_order(labels: pd.Series) -> list[str]:
    """Every label once: in the order of its categories if it is a categorical, else as they come."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        values = set(labels)
        return [label for label in labels.cat.categories if label in values]
    return list(dict.fromkeys(labels))


def panels(
    frame: pd.DataFrame, column: str, styles: dict[str, Style], xlabel: str
) -> tuple[Figure, dict[str, Axes], dict[str, int]]:
    """A panel for each value of `column` and a row for each label: the figure, the panels and the rows' heights.

    The rows are the same in all panels, the first above; each panel has its own scale. Where `frame` has no row for a
    label in a panel stands a gap, as in tables.
    """
    labels, names = in_order(frame["label"]), in_order(frame[column])
    columns = min(len(names), ABREAST if len(names) <= 2 * ABREAST else ABREAST + 1)
    count = -(-len(names) // columns)
    figure = Figure((PAGE, 0.55 + count * (0.45 + ROW * len(labels))), layout="constrained")
    grid = figure.subplots(count, columns, sharey=True, squeeze=False)
    pairs = set(zip(frame[column], frame["label"], strict=True))
    for axes, name in zip(grid.ravel(), names, strict=False):
        axes.set_title(name)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.margins(x=0.1)
        for height, label in enumerate(labels):
            if height % 2 == 0:
                axes.axhspan(height - 0.5, height + 0.5, color=STRIPE, lw=0, zorder=0)
            if (name, label) not in pairs:
                middle = {"ha": "center", "va": "center", "transform": axes.get_yaxis_transform()}
                axes.text(0.5, height, GAP, color=QUIET, fontsize=SMALL, **middle)
    for axes in grid[:, 0]:
        for text, label in zip(axes.get_yticklabels(), labels, strict=True):
            text.set_fontweight(styles[label].weight if label in styles else "normal")
    for axes in grid.ravel()[len(names) :]:
        axes.remove()
    figure.supxlabel(xlabel)
    figure.supylabel("Method")
    return figure, dict(zip(names, grid.ravel(), strict=False)), {label: height for height, label in enumerate(labels)}


def reference(draw: Callable[..., Any], value: float) -> None:
    """A dotted line at `value` by `axes.axhline` or `axes.axvline`."""
    draw(value, color=INK, lw=0.7, ls=(0, (1, 1.5)), zorder=1)


def side_by_side(rows: pd.DataFrame, height: int) -> Iterator[tuple[Any, float]]:
    """Each row with its height: around `height`, apart from each other where there are several."""
    offsets = np.linspace(-NEAR, NEAR, len(rows)) if len(rows) > 1 else [0.0]
    for row, offset in zip(rows.itertuples(), offsets, strict=True):
        yield row, height + offset


def ends(row: Any) -> tuple[float, float]:
    """Low and high of a row; both NaN, which draws nothing, where one is unknown."""
    return (row.low, row.high) if np.isfinite([row.low, row.high]).all() else (np.nan, np.nan)


def mark(axes: Axes, x: float, y: float, style: Style, label: str, **options: Any) -> None:
    """One marker."""
    looks: dict[str, Any] = {
        "marker": style.marker,
        "ms": style.size,
        "mew": 0.9,
        "color": style.colour,
        "mfc": style.face,
    }
    axes.plot([x], [y], ls="none", zorder=style.zorder, label=label, **looks | options)


def trace(axes: Axes, x: ArrayLike, y: ArrayLike, style: Style, label: str, **options: Any) -> None:
    """A line with markers."""
    axes.plot(x, y, zorder=style.zorder, label=label, **_line(style) | options)


def legend(figure: Figure, styles: dict[str, Style], lines: bool = False) -> None:
    """What each marker (with `lines`: and line) stands for, above the panels, in the columns that the width holds."""
    looks = [_line(style) if lines else _line(style) | {"linestyle": "none"} for style in styles.values()]
    handles = [Line2D([], [], label=label, **look) for label, look in zip(styles, looks, strict=True)]
    columns = _legend_columns(list(styles), figure.get_figwidth())
    box = figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1.2)
    for text, style in zip(box.get_texts(), styles.values(), strict=True):
        text.set_fontweight(style.weight)


def legend_height(labels: Sequence[str]) -> float:
    """Inches that a legend of these labels needs on a page."""
    return 0.16 * -(-len(labels) // _legend_columns(labels, PAGE))


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of these labels, filled one after the other, `width` inches hold."""
    for columns in range(len(labels), 1, -1):
        widths = [max(map(len, part)) for part in np.array_split(labels, columns)]
        if 0.62 * SMALL / 72 * sum(widths) + 0.5 * columns < width:
            return columns
    return 1


def _line(style: Style) -> dict[str, Any]:
    line: dict[str, Any] = {
        "color": style.colour,
        "lw": style.width,
        "linestyle": (0, style.dashes) if style.dashes else "-",
    }
    return line | {"marker": style.marker, "ms": style.size, "mew": 0.9, "mfc": style.face}


def _method(label: str) -> str:
    """The label without its protocol."""
    return label.removesuffix(protocol_suffix(EQUAL)).removesuffix(protocol_suffix(ADAPTED))
