"""The machinery's modules import only what stands before them in ROOMS, so that data passes forward and never back."""

import ast
from pathlib import Path

import pytest
import theseus_bench

FOLDER = Path(theseus_bench.__file__).parent
MODULES = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FOLDER.rglob("*.py")
    if path != FOLDER / "__init__.py"
}


def imported(path: Path) -> set[str]:
    """The rooms that a module imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "theseus_bench":
            base = node.module.removeprefix("theseus_bench").removeprefix(".")
            inner = {f"{base}.{alias.name}".removeprefix(".") for alias in node.names}
            names |= (inner & MODULES.keys()) or {base}
    return names - {""}


def test_every_module_is_a_room():
    assert MODULES.keys() == set(theseus_bench.ROOMS)


@pytest.mark.parametrize("room", theseus_bench.ROOMS)
def test_a_room_imports_only_rooms_before_it(room):
    before = theseus_bench.ROOMS[: theseus_bench.ROOMS.index(room)]
    assert imported(MODULES[room]) <= set(before)
