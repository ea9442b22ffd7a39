"""Make what the documentation takes from the code: run by `make docs`, and by hand after a change that a test names.

    python docs/generate.py

A page of Markdown keeps its text; only the block between <!-- NAME --> and <!-- end of NAME --> is made here. Pictures
and the JSON schema are made as a whole.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tomllib
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import grimp
import reference_tables
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from theseus_bench.suite.config import EFFORT, LoopSettings, Suite
from theseus_bench.suite.method_spec import METHODS_FOLDER, MethodSpec, Range, load_specs

# ---- the configuration ----

TYPES = {"boolean": "`true`, `false`", "integer": "whole number", "number": "number", "string": "text"}
JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def json_schema() -> str:
    """The JSON schema of a suite's configuration, for editors."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Suite.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def suite_keys() -> str:
    """A table for each block of a suite's configuration, the suite itself first."""
    schema = Suite.model_json_schema()
    blocks = [("The suite", "", schema)]
    for block in blocks:  # which grows: a block's own blocks come after all that stand beside it
        for key, field in block[2]["properties"].items():
            path, definition = _block_in(field)
            if path is not None:
                where = f"{block[1]}{key}{path}"
                blocks.append((f"`{where}`", f"{where}.", schema["$defs"][definition]))
    effort = ", ".join(f"`{key}`" for key in EFFORT)
    sections = []
    for title, _, block in blocks:
        meaning = _paragraphs(block["description"]).replace("`EFFORT`", effort)
        sections.append(f"### {title}\n\n{meaning}\n\n{_key_table(block)}")
    return "\n\n".join(sections)


def loop_settings() -> str:
    """The table of the training loop's settings."""
    return _key_table(LoopSettings.model_json_schema())


def method_settings() -> str:
    """The table of the methods' own settings."""
    rows = []
    for spec in load_specs(METHODS_FOLDER)[0].values():
        for key, value in spec.defaults.items():
            if key not in LoopSettings.model_fields:
                rows.append((f"`{spec.name}`", f"`{key}`", _value(value), _allowed_values(spec, key)))
    return _table(("method", "setting", "default", "may be"), rows)


def _allowed_values(spec: MethodSpec, key: str) -> str:
    allowed = spec.allowed.get(key)
    if isinstance(allowed, Range):
        return _bounds(allowed.min, allowed.max, None, None)
    return ", ".join(map(_value, allowed)) if allowed else TYPES[JSON_TYPES[type(spec.defaults[key])]]


def _key_table(block: dict[str, Any]) -> str:
    required = block.get("required", [])
    rows = [
        (
            f"`{key}`",
            _type(field),
            "*required*" if key in required else _value(field.get("default")),
            field.get("description", ""),
        )
        for key, field in block["properties"].items()
    ]
    return _table(("key", "value", "default", "meaning"), rows)


def _block_in(field: dict[str, Any]) -> tuple[str | None, str]:
    """How a block that a key holds is reached from it ('', '[]', '.NAME'), and its definition; None: it holds none."""
    for path, part in (("", field), ("[]", field.get("items", {})), (".NAME", _definition_of_values(field))):
        if "$ref" in part:
            return path, part["$ref"].rsplit("/", 1)[1]
    return None, ""


def _definition_of_values(field: dict[str, Any]) -> dict[str, Any]:
    """What stands under each name of a mapping; {}: anything, or it is none."""
    definitions = list(field.get("patternProperties", {}).values()) or [field.get("additionalProperties")]
    return definitions[0] if isinstance(definitions[0], dict) else {}


def _type(field: dict[str, Any]) -> str:
    """The values that a key takes, in words."""
    if "$ref" in field:
        return "block"
    if "anyOf" in field:
        return " or ".join(_type(part) for part in field["anyOf"] if part != {"type": "null"})
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kind = field.get("type")
    if kind == "array":
        return f"list: {_type(field['items'])}"
    if kind == "object":
        return f"mapping: {_type(_definition_of_values(field))}"
    for digits, name in ((40, "commit"), (64, "checksum")):
        if field.get("pattern", "").startswith(f"^[0-9a-f]{{{digits}}}"):
            return f"{name} of {digits} hexadecimal digits"
    limits = [field.get(key) for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")]
    bounds = _bounds(*limits)
    name = TYPES.get(kind, "anything")
    return f"{name}, {bounds}" if bounds else name


def _bounds(least, most, above, below) -> str:
    limits = [("at least", least), ("at most", most), ("above", above), ("below", below)]
    return " and ".join(
        f"{words} {limit if isinstance(limit, int) else f'{limit:g}'}" for words, limit in limits if limit is not None
    )


def _value(value: Any) -> str:
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, dict):  # of a block: its own table says what is in it
        return "see below" if any(isinstance(v, dict | list) or v is None for v in value.values()) else _inline(value)
    return f"`{_yaml(value)}`"


def _inline(value: dict[str, Any]) -> str:
    return "`{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}`"


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value).replace("e-0", "e-")


def _paragraphs(docstring: str) -> str:
    """A docstring as Markdown: its lines joined, its paragraphs kept."""
    return "\n\n".join(" ".join(part.split()) for part in docstring.split("\n\n"))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


# ---- the imports ----

BASE = "errors, wording, locks, files, strict_yaml, preload"  # what every package stands on
PACKAGES = ("commands", "rebuild", "report", "figures", "tables", "evaluation", "training", "modeling", "suite", "data")


@cache
def imports() -> dict[tuple[str, str], int]:
    """How many imports of modules there are from one package to another, of those in PACKAGES."""
    graph = grimp.build_graph("theseus_bench")
    pairs = Counter(
        (module.split(".")[1], imported.split(".")[1])
        for module in graph.modules - {"theseus_bench"}
        for imported in graph.find_modules_directly_imported_by(module) - {"theseus_bench"}
    )
    return {(a, b): pairs[a, b] for a in PACKAGES for b in PACKAGES if a != b and pairs[a, b]}


def import_table() -> str:
    """Which package imports which, with the number of imports."""
    rows = [
        (f"`{package}`", ", ".join(f"`{b}` {count}" for (a, b), count in imports().items() if a == package) or "none")
        for package in PACKAGES
    ]
    return _table(("package", "imports, and how many"), rows)


# ---- pictures: filled boxes and grey lines, legible on a light page and on a dark one ----

INK, LINE, FILL, STRONG = "#14304f", "#7d8790", "#dbe7f5", "#f6dfb4"
FONT = "font-family='Helvetica, Arial, sans-serif'"


def imports_picture() -> str:
    """The packages, one above the other, with an arc from each to every one that it imports."""
    width, step, left, box = 560, 46, 20, 170
    middle = {package: 30 + index * step for index, package in enumerate((*PACKAGES, BASE))}
    parts = [_box(left, middle[package] - 16, box, 32, package, "") for package in PACKAGES]
    parts.append(_box(left, middle[BASE] - 16, 380, 32, "", f"every one: {BASE}"))
    spans = sorted(imports(), key=lambda pair: PACKAGES.index(pair[1]) - PACKAGES.index(pair[0]))
    for importer, imported in spans:
        span = PACKAGES.index(imported) - PACKAGES.index(importer)
        if span == 1:
            parts.append(_arrow([(left + box / 2, middle[importer] + 16), (left + box / 2, middle[imported] - 16)]))
            continue
        start, end, edge = middle[importer] + 5, middle[imported] - 5, left + box
        reach = edge + 34 * span
        path = f"M{edge} {start} C{reach} {start} {reach} {end} {edge + 1} {end}"
        parts.append(f"<path d='{path}' fill='none' stroke='{LINE}' stroke-width='1.3' marker-end='url(#tip)'/>")
    return _svg(width, 30 + len(PACKAGES) * step + 26, "An arc leads from each package to those that it imports", parts)


# Where a box stands (column, row), what it says, and the workflow's rules that it is: each rule is in one box.
DATA_PATH: dict[str, tuple[tuple[int, int], str, tuple[str, ...]]] = {
    "GLUE": ((0, 0), "checked, tokenized", ("fetch", "encode")),
    "backbone": ((0, 1), "and compact ones", ("backbone", "compact")),
    "predecessor": ((1, 0), "and its outputs", ("train_teacher", "teacher_outputs")),
    "runs": ((2, 0), "method × task × seed", ("train", "select_settings")),
    "scores": ((3, 0), "tested differences", ("score", "significance")),
    "speed": ((3, 1), "of every model", ("speed",)),
    "reported": ((3, 2), "the papers' numbers", ()),
    "tables": (
        (4, 0),
        "figures, verdicts",
        ("score_tables", "verdict_tables", "search_tables", "description_tables", "experiment_figures", "submissions"),
    ),
    "report": ((5, 0), "and its provenance", ("suite_report", "ro_crate")),
}


def data_path_picture() -> str:
    """The way of the data, from GLUE to the report."""
    width, height, across, down = 124, 46, 143, 64
    corner = {name: (4 + x * across, 4 + y * down) for name, ((x, y), _, _) in DATA_PATH.items()}
    boxes = [
        _box(*corner[name], width, height, name, text, STRONG if name in ("tables", "report") else FILL)
        for name, (_, text, _) in DATA_PATH.items()
    ]
    row = [name for name, ((_, y), _, _) in DATA_PATH.items() if y == 0]
    along = [
        [(corner[a][0] + width, 4 + height / 2), (corner[b][0], 4 + height / 2)] for a, b in itertools.pairwise(row)
    ]
    up = []  # along a lower row, then up into a box of the first
    for start, end, share in [
        ("backbone", "predecessor", 0.5),
        ("backbone", "runs", 0.35),
        ("speed", "tables", 0.35),
        ("reported", "tables", 0.65),
    ]:
        y, x = corner[start][1] + height / 2, corner[end][0] + share * width
        up.append([(corner[start][0] + width, y), (x, y), (x, 4 + height)])
    x, y = corner["runs"][0] + 0.65 * width, corner["speed"][1] + height / 2
    down_to_speed = [(x, 4 + height), (x, y), (corner["speed"][0], y)]
    title = "From GLUE and a backbone to the predecessor, the runs, scores and speed, tables and the report"
    lines = [_arrow(points) for points in (*along, *up, down_to_speed)]
    return _svg(5 * across + width + 8, 2 * down + height + 8, title, lines + boxes)


def _box(x: float, y: float, width: float, height: float, title: str, text: str, fill: str = FILL) -> str:
    words = [(title, 13, "bold"), (text, 10.5, "normal")]
    lines = [line for line in words if line[0]]
    first = y + height / 2 + (5 if len(lines) == 1 else -3)
    labels = "".join(
        f"<text x='{x + width / 2:g}' y='{first + 16 * index:g}' font-size='{size}' font-weight='{weight}' "
        f"text-anchor='middle' fill='{INK}'>{escape(line)}</text>"
        for index, (line, size, weight) in enumerate(lines)
    )
    return f"<rect x='{x:g}' y='{y:g}' width='{width}' height='{height}' rx='6' fill='{fill}'/>{labels}"


def _arrow(points: list[tuple[float, float]]) -> str:
    line = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f"<polyline points='{line}' fill='none' stroke='{LINE}' stroke-width='1.5' marker-end='url(#tip)'/>"


def _svg(width: float, height: float, title: str, parts: list[str]) -> str:
    tip = (
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0 0 L8 4 L0 8 z' fill='{LINE}'/></marker></defs>"
    )
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' width='{width:g}' {FONT}"
    return "\n".join([f"{head} role='img'>", f"<title>{escape(title)}</title>", tip, *parts, "</svg>", ""])


# ---- the licences ----


def licences_of_packages() -> str:
    """The licence that each package states that the project depends on, of those that constraints.txt pins."""
    pins = {canonicalize_name(line.partition("==")[0]) for line in Path("constraints.txt").read_text().splitlines()}
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [Requirement(text) for text in project["dependencies"]]
    extras: dict[str, set[str]] = {}  # that are asked for, by package
    for requirement in requirements:  # which grows by what they require
        name, asked = canonicalize_name(requirement.name), {"", *requirement.extras}
        if name in pins and not asked <= extras.get(name, set()):
            extras[name] = extras.get(name, set()) | asked
            inner = map(Requirement, metadata.requires(name) or [])
            requirements += [r for r in inner if not r.marker or any(r.marker.evaluate({"extra": e}) for e in asked)]
    return _table(("package", "licence"), [(f"`{name}`", _licence(name)) for name in sorted(extras)])


def _licence(package: str) -> str:
    stated = metadata.metadata(package)
    short = stated.get("License") or ""
    classes = [name.rpartition(" :: ")[2] for name in stated.get_all("Classifier") or [] if name.startswith("License")]
    named = short if 0 < len(short) < 60 and "\n" not in short and "Copyright" not in short else ""
    return stated.get("License-Expression") or named or ", ".join(sorted(classes)) or "not stated"


# ---- what is made ----

BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {
        "reference scores": lambda: _table(*reference_tables.scores()),
        "reference differences": lambda: _table(*reference_tables.differences()),
    },
    "docs/configuration.md": {
        "keys of a suite": suite_keys,
        "settings of the loop": loop_settings,
        "settings of the methods": method_settings,
    },
    "docs/architecture.md": {"imports": import_table},
    "docs/licences.md": {"licences of packages": licences_of_packages},
}
FILES: dict[str, Callable[[], str]] = {
    "config/suite.schema.json": json_schema,
    "docs/imports.svg": imports_picture,
    "docs/data-path.svg": data_path_picture,
}


def fill_blocks(page: str) -> str:
    """The text of a page with its blocks made anew."""
    text = Path(page).read_text(encoding="utf-8")
    for name, make in BLOCKS[page].items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not end:
            raise SystemExit(f"{page}: expected a block from <!-- {name} --> to <!-- end of {name} -->")
        text = f"{before}{start}\n{make()}\n\n{end}{after}"
    return text


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    texts = {page: fill_blocks(page) for page in BLOCKS} | {file: make() for file, make in FILES.items()}
    for file, text in texts.items():
        Path(file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
