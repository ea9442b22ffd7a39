"""A figure's SVG file as a part of an HTML page. It imports no matplotlib: the figures were drawn before."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"


def inline_svg(source: Path | str, title: str, caption: str) -> str:
    """One of our SVG files (its path or its text) as an <svg> element to stand in an HTML page.

    It scales to the page's width, is one image to a screen reader, named `title` and described by `caption`, has no
    style that would reach the rest of the page, names no address, and shares no id with any other figure.
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
    attributes = {"role": "img", "aria-labelledby": f"{salt}-title", "aria-describedby": f"{salt}-caption"}
    attributes |= {"viewBox": root.attrib["viewBox"], "style": "stroke-linejoin: round; stroke-linecap: butt"}
    root.attrib = attributes
    for index, (tag, words) in enumerate((("title", title), ("desc", caption))):
        element = ElementTree.Element(tag, id=f"{salt}-{'caption' if tag == 'desc' else tag}")
        element.text, element.tail = words, "\n"
        root.insert(index, element)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _salted(key: str, value: str, salt: str) -> str:
    """The value of an attribute, with every id in it made the figure's own."""
    if key == "id":
        return f"{salt}-{value}"
    if key.removeprefix(XLINK) == "href":
        return re.sub("^#", f"#{salt}-", value)
    return re.sub(r"url\(#", f"url(#{salt}-", value)
