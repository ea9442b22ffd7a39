"""A figure and its files: SVG and PDF for the page and for print, PNG where neither will do.

The same figures give the same bytes: nothing of the user's matplotlib settings, of the clock or of chance is in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from theseus_bench.figures.style import drawing
from theseus_bench.files import atomic, write_json

METADATA = {  # what matplotlib would say of itself and of the clock
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
DOTS = 200  # an inch, of a PNG
UNUSED_FONT_TABLES = ["GDEF", "GPOS", "GSUB", "MATH", "kern"]  # tables of a font that say how letters are put together


@dataclass(frozen=True)
class CaptionedFigure:
    """One figure. `name` is its files' name without ending; `caption` also says in words what is to be seen.

    It is laid out here, once: each further time would move things a little.
    """

    name: str
    title: str
    caption: str
    figure: Figure

    def __post_init__(self) -> None:
        with drawing():
            self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")


def write_figures(figures: Sequence[CaptionedFigure], folder: Path) -> None:
    """Write <folder>/<name>.svg, .pdf and .png of each figure and <folder>/pictures.json, all at once or nothing.

    pictures.json lists name, title and caption of each, in order. The SVG is 1 : 1 in points, the PNG has 200 dots an
    inch. ValueError if two figures have one name.
    """
    if len({figure.name for figure in figures}) < len(figures):
        raise ValueError(f"two figures of one name among {', '.join(figure.name for figure in figures)}")
    with atomic(folder) as scratch:
        scratch.mkdir()
        for figure in figures:
            with drawing(**{"svg.hashsalt": figure.name}), _plain_fonts():
                _save(figure, scratch / figure.name)
        entries = [{"name": figure.name, "title": figure.title, "caption": figure.caption} for figure in figures]
        write_json(scratch / "pictures.json", entries)


def _save(figure: CaptionedFigure, path: Path) -> None:
    """The figure's files. Written without `savefig`, which would draw each of them twice, to lay it out once more."""
    # Here: a tenth of what a figure's job imports, and of no use before a figure is there.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    title = {"Title": figure.title}
    FigureCanvasSVG(figure.figure).print_svg(f"{path}.svg", metadata=METADATA["svg"] | title)
    FigureCanvasPdf(figure.figure).print_pdf(f"{path}.pdf", metadata=METADATA["pdf"] | title)
    figure.figure.set_dpi(DOTS)
    FigureCanvasAgg(figure.figure).print_png(f"{path}.png", metadata=METADATA["png"])


@contextmanager
def _plain_fonts() -> Iterator[None]:
    """Inside, a font that is cut down for a PDF keeps its letters alone.

    Matplotlib has placed each letter by then. To cut the other tables down too takes most of the time of a PDF.
    """
    from fontTools import subset  # here, as the backends in `_save`

    default = getattr(subset.Options, "_drop_tables_default", [])  # not public: without it nothing is gained or lost
    subset.Options._drop_tables_default = [*default, *UNUSED_FONT_TABLES]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = default
