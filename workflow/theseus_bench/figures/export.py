"""A picture and its files: SVG and PDF for the page and for print, PNG where neither will do.

The same pictures give the same bytes: nothing of the user's matplotlib settings, of the clock or of chance is in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from theseus_bench.figures.style import drawing
from theseus_bench.files import atomic, write_json

NOTHING_OF_NOW = {  # what matplotlib would say of itself and of the clock
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
DOTS = 200  # an inch, of a PNG
NOT_NEEDED = ["GDEF", "GPOS", "GSUB", "MATH", "kern"]  # tables of a font that say how letters are put together


@dataclass(frozen=True)
class Picture:
    """One figure. `name` is its files' name without ending; `caption` also says in words what is to be seen.

    It is laid out here, once: each further time would move things a little.
    """

    name: str
    title: str
    caption: str
    figure: Figure

    def __post_init__(self):
        with drawing():
            self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")


def write_pictures(pictures: Sequence[Picture], folder: Path) -> None:
    """Write <folder>/<name>.svg, .pdf and .png of each picture and <folder>/pictures.json, all at once or nothing.

    pictures.json lists name, title and caption of each, in order. The SVG is 1 : 1 in points, the PNG has 200 dots an
    inch. ValueError if two pictures have one name.
    """
    if len({picture.name for picture in pictures}) < len(pictures):
        raise ValueError(f"two pictures of one name among {', '.join(picture.name for picture in pictures)}")
    with atomic(folder) as scratch:
        scratch.mkdir()
        for picture in pictures:
            with drawing(**{"svg.hashsalt": picture.name}), _plain_fonts():
                _save(picture, scratch / picture.name)
        entries = [{"name": picture.name, "title": picture.title, "caption": picture.caption} for picture in pictures]
        write_json(scratch / "pictures.json", entries)


def _save(picture: Picture, place: Path) -> None:
    """The picture's files. Written without `savefig`, which would draw each of them twice, to lay it out once more."""
    # Here: a tenth of what a figure's job imports, and of no use before a picture is there.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    title = {"Title": picture.title}
    FigureCanvasSVG(picture.figure).print_svg(f"{place}.svg", metadata=NOTHING_OF_NOW["svg"] | title)
    FigureCanvasPdf(picture.figure).print_pdf(f"{place}.pdf", metadata=NOTHING_OF_NOW["pdf"] | title)
    picture.figure.set_dpi(DOTS)
    FigureCanvasAgg(picture.figure).print_png(f"{place}.png", metadata=NOTHING_OF_NOW["png"])


@contextmanager
def _plain_fonts() -> Iterator[None]:
    """Inside, a font that is cut down for a PDF keeps its letters alone.

    Matplotlib has placed each letter by then. To cut the other tables down too takes most of the time of a PDF.
    """
    from fontTools import subset  # here, as the backends in `_save`

    dropped = getattr(subset.Options, "_drop_tables_default", [])  # not public: without it nothing is gained or lost
    subset.Options._drop_tables_default = [*dropped, *NOT_NEEDED]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = dropped
