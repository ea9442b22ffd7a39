"""What of a method's Python counts for its results: a checksum that comments, docstrings and layout do not change."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from theseus_bench.errors import UserError

UNCOUNTED = {"kind", "type_comment"}  # of a node: whether a text was written u"…", and comments that give types


def code_checksum(folder: Path) -> str:
    """The SHA-256 of the syntax trees of all Python files in a method's folder, and of their names.

    UserError for a file that is no Python. Whatever else is in the folder does not count, nor do environments in it.
    """
    files = list(_python_files(folder))
    stats = [file.stat() for file in files]
    versions = [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]
    return _checksum(folder, tuple(sorted(zip(files, versions, strict=True))))


def _python_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not (path / "pyvenv.cfg").is_file():
            yield from _python_files(path)
        elif path.suffix == ".py" and path.is_file():
            yield path


@cache
def _checksum(folder: Path, versions: tuple[tuple[Path, tuple[int, int, int]], ...]) -> str:
    """The checksum of the files of these versions: a suite asks for each method's hundreds of times."""
    digest = hashlib.sha256()
    for file, _ in versions:
        digest.update(json.dumps([file.relative_to(folder).as_posix(), _tree(file)]).encode())
    return digest.hexdigest()


def has_same_code(inputs: dict[str, str], folder: Path) -> bool:
    """Whether the method in `folder` is, as far as it counts, the one that a record's `inputs` are of.

    Records of older versions have the checksum of the text of method.py in the place of `code_key`; records of nothing
    that was trained by a method have neither.
    """
    file = folder / "method.py"
    if str(file) in inputs:
        return file.is_file() and inputs[str(file)] == hashlib.sha256(file.read_bytes()).hexdigest()
    return code_key(folder) not in inputs or inputs[code_key(folder)] == code_checksum(folder)


def code_key(folder: Path) -> str:
    """What a record's `inputs` call the code of the method in `folder`."""
    return f"{folder}/*.py"


def _tree(file: Path) -> Any:
    try:
        return _simplify(ast.parse(file.read_bytes()))
    except SyntaxError as error:
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # a byte of zero
        raise UserError(f"{file}: not Python: {error}") from None


def _simplify(value: Any) -> Any:
    """A syntax tree as nested lists: without positions, text that stands alone, and fields that are empty.

    Python's own ast.dump differs from version to version, in which empty fields it lists.
    """
    if isinstance(value, list):
        return [_simplify(item) for item in value if not _is_docstring(item)]
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = {name: _simplify(field) for name, field in ast.iter_fields(value) if name not in UNCOUNTED}
    return [type(value).__name__, {name: field for name, field in sorted(fields.items()) if field not in ([], "None")}]


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
