"""Result files as JSON with a type: what is written fits its model, and what does not is refused in one line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from theseus_bench.errors import UserError
from theseus_bench.files import read_unsealed, write_json

Result = TypeVar("Result", bound=BaseModel)


def write_result(file: Path, model: type[Result], values: dict[str, Any], sealed: bool = False) -> None:
    """Write `values` to `file` as they are; ValidationError if `model` could not read them again."""
    model.model_validate(values)
    write_json(file, values, sealed)


def read_result(file: Path, model: type[Result], kind: str, remedy: str, remember: bool = True) -> Result:
    """The contents of `file`, which exists; UserError with `kind`, the fault and `remedy` if they do not fit `model`.

    They are remembered while the file stays the same, unless thousands are looked at in passing: a report asks for each
    a dozen times.
    """
    stat, parse = file.stat(), _parse if remember else _parse.__wrapped__
    try:
        result: Result = parse(file, model, remedy, stat.st_ino, stat.st_mtime_ns)
    except ValidationError as error:
        fault = error.errors()[0]
        path = ".".join(map(str, fault["loc"]))
        raise UserError(f"{file}: not {kind} ({f'{path}: ' * bool(path)}{fault['msg']}); {remedy}") from None
    return result


@cache
def _parse(file: Path, model: type[Result], remedy: str, inode: int, modified: int) -> Result:
    """The contents of `file` as it was written at that time."""
    return model.model_validate_json(read_unsealed(file, remedy))
