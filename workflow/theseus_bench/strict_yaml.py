"""YAML in typed blocks that refuse what they do not know; every mistake is reported at once, with its path."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from theseus_bench.errors import UserError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Family = Literal["bert", "roberta", "distilbert"]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML was built with it

Block = TypeVar("Block", bound=BaseModel)


class Strict(BaseModel):
    """A block of configuration that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse(model: type[Block], values: Any, where: str) -> Block:
    """Check `values` against `model`; raise one UserError that lists every mistake with its path under `where`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(model, detail) for detail in error.errors()]
        raise UserError(f"{where}: " + "; ".join(lines)) from None


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file; UserError if the file is missing, malformed or not a mapping."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def read_config(*paths: Path) -> dict:
    """The configuration in YAML files, each laid over those before it, as snakemake does with several."""
    config: dict = {}
    for path in paths:
        config = _laid_over(config, read_yaml(path))
    return config


def suggest(name: str, known) -> str:
    """' (did you mean …?)' where a known name is close to `name`; otherwise the known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known) or 'none'})"


def _laid_over(below: dict, above: dict) -> dict:
    """`below` with the values of `above`: those of a mapping key by key, all others, lists too, as a whole."""
    both = {key for key in below.keys() & above.keys() if isinstance(below[key], dict) and isinstance(above[key], dict)}
    return below | above | {key: _laid_over(below[key], above[key]) for key in both}


def _explain(model: type[BaseModel], detail: dict) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {path!r}" + suggest(str(detail["loc"][-1]), _fields_at(model, detail["loc"][:-1]))
    if detail["type"] == "missing":
        return f"missing key {path!r}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def _fields_at(model: type[BaseModel], loc: tuple) -> list[str]:
    """Names of the fields of the block that stands at `loc` inside `model`."""
    for part in loc:
        if part not in model.model_fields:
            continue  # a key of a mapping or an index of a list: the block is the same
        inner = model.model_fields[part].annotation
        blocks = [
            a for a in [inner, *getattr(inner, "__args__", ())] if isinstance(a, type) and issubclass(a, BaseModel)
        ]
        model = blocks[0] if blocks else model
    return list(model.model_fields)
