"""A picture and its files: SVG and PDF for the page and for print, PNG where neither will do.

The same pictures give the same bytes: nothing of the user's matplotlib settings, of the clock or of chance is in them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from fontTools import subset
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
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
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"


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
    dropped = getattr(subset.Options, "_drop_tables_default", [])  # not public: without it nothing is gained or lost
    subset.Options._drop_tables_default = [*dropped, *NOT_NEEDED]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = dropped


def inline_svg(source: Path | str, title: str, caption: str) -> str:
    """One of our SVG files (its path or its text) as an <svg> element to stand in an HTML page.

    It scales to the page's width, is one image to a screen reader, named `title` and described by `caption`, has no
    style that would reach the rest of the page, names no address, and shares no id with any other picture.
    """
    text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
    root = ElementTree.fromstring(text)
    salt = "f" + hashlib.sha256("\0".join([title, caption, text]).encode()).hexdigest()[:12]
    for element in list(root):
        if element.tag in (f"{SVG}title", f"{SVG}metadata"):
            root.remove(element)
    for parent in root.iter():
        for style in parent.findall(f"{SVG}style"):
            parent.remove(style)  # it is for *, which would be the whole page
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        element.attrib = {key.removeprefix(XLINK): _salted(key, value, salt) for key, value in element.attrib.items()}
    frame = {"role": "img", "aria-labelledby": f"{salt}-title", "aria-describedby": f"{salt}-caption"}
    frame |= {"viewBox": root.attrib["viewBox"], "style": "stroke-linejoin: round; stroke-linecap: butt"}
    root.attrib = frame
    for place, (tag, words) in enumerate((("title", title), ("desc", caption))):
        element = ElementTree.Element(tag, id=f"{salt}-{'caption' if tag == 'desc' else tag}")
        element.text, element.tail = words, "\n"
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _salted(key: str, value: str, salt: str) -> str:
    """The value of an attribute, with every id in it made the picture's own."""
    if key == "id":
        return f"{salt}-{value}"
    if key.removeprefix(XLINK) == "href":
        return re.sub("^#", f"#{salt}-", value)
    return re.sub(r"url\(#", f"url(#{salt}-", value)
