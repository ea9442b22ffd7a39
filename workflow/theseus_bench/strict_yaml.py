"""YAML in typed blocks that refuse what they do not know; every mistake is reported at once, with its path."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from theseus_bench.errors import UserError


def has_control_characters(text: str) -> bool:
    """Whether `text` has characters that stand for no sign: a bell, a line's end, half a surrogate pair."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _one_line(text: str) -> str:
    if has_control_characters(text):
        raise ValueError(f"{text!r} has control characters; tables and figures can show one line of plain text")
    return text


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)]
Text = Annotated[str, AfterValidator(_one_line)]
Family = Literal["bert", "roberta", "distilbert"]
DEEPEST = 100  # levels of a YAML file; PyYAML would go down any number, until the system ends it
LARGEST = 8192  # bits of a whole number
EXPONENT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")  # 1e-3, which YAML 1.1 reads as text

Block = TypeVar("Block", bound=BaseModel)


class Strict(BaseModel):
    """A block of configuration that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # in C, where PyYAML has it
    """YAML in which a key stands once, and 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping's values; ConstructorError where a key stands twice, of which YAML would take the last."""
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    problem = f"the key {key.value!r} stands twice; keep one of them"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                keys.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number; ConstructorError where Python would not write it out again."""
        value = super().construct_yaml_int(node)
        if value.bit_length() > LARGEST:
            problem = f"a whole number of more than {LARGEST} bits"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))


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
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    values = _read_text(text, str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def read_overrides(texts: Sequence[str]) -> dict:
    """What KEY=VALUE pairs of the command line, each laid over those before it, say; a value is read as in a file."""
    config: dict = {}
    for text in texts:
        key, is_pair, value = text.partition("=")
        if not is_pair or not key.isidentifier():
            raise UserError(f"--config: {text!r} is no KEY=VALUE, as 'seeds=[1]'")
        config = lay_over(config, {key: _read_text(value, f"--config {key}")})
    return config


def _read_text(text: str, where: str) -> Any:
    """The values of YAML; UserError, naming `where` the text stood, for what is none."""
    try:
        _check_depth(text, where)
        return yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, ValueError, AttributeError, LookupError) as error:  # a date that is none, !!int abc
        fault = " ".join(str(error).split()).replace(' in "<unicode string>"', "")
        raise UserError(f"{where}: not valid YAML: {fault}") from None


def _check_depth(text: str, where: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = event.start_mark.line + 1
            raise UserError(f"{where}: line {line}: more than {DEEPEST} brackets or blocks in one another; mend it")


def read_config(*paths: Path) -> dict:
    """The configuration in YAML files, each laid over those before it, as snakemake does with several."""
    config: dict = {}
    for path in paths:
        config = lay_over(config, read_yaml(path))
    return config


def suggest(name: str, known) -> str:
    """' (did you mean …?)' where a known name is close to `name`; otherwise the known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known) or 'none'})"


def lay_over(below: dict, above: dict) -> dict:
    """`below` with the values of `above`: those of a mapping key by key, all others, lists too, as a whole."""
    both = {key for key in below.keys() & above.keys() if isinstance(below[key], dict) and isinstance(above[key], dict)}
    return below | above | {key: lay_over(below[key], above[key]) for key in both}


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
