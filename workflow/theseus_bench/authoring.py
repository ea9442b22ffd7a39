"""Starting a new method from the template."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from theseus_bench.errors import UserError
from theseus_bench.methods.spec import METHODS_FOLDER
from theseus_bench.records import atomic


def create_method(name: str) -> Path:
    """Copy methods/_template to methods/`name`, named accordingly; UserError for a name that is taken or cannot be."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"new-method: {name!r} cannot name a method; use lower-case letters, digits and underscores")
    folder = METHODS_FOLDER / name
    if folder.exists():
        raise UserError(f"new-method: {folder} exists already; choose another name")
    with atomic(folder) as scratch:
        shutil.copytree(METHODS_FOLDER / "_template", scratch, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("method.yaml", "README.md"):
            text = (scratch / file).read_text(encoding="utf-8")
            (scratch / file).write_text(text.replace("my_method", name), encoding="utf-8")
    return folder
