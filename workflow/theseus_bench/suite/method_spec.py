"""A method's metadata: method.yaml, read when the workflow is parsed, and a new method from the template."""

from __future__ import annotations

import difflib
import math
import re
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from theseus_bench.errors import UserError
from theseus_bench.files import atomic
from theseus_bench.strict_yaml import Family, Name, Strict, Text, parse, read_yaml, suggest
from theseus_bench.suite.config import LoopSettings

METHODS_FOLDER = Path("methods")  # where they stand in the project
OTHER_NAMES = {  # that other programs have for settings of the loop
    "lr": "learning_rate",
    "epoch": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "steps": "max_steps",
    "num_steps": "max_steps",
    "train_steps": "max_steps",
    "bs": "batch_size",
    "train_batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "wd": "weight_decay",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
    "warmup_proportion": "warmup",
    "grad_clip": "clip_norm",
    "max_norm": "clip_norm",
    "max_grad_norm": "clip_norm",
    "eval_steps": "evaluate_every",
    "early_stopping": "patience",
    "early_stopping_patience": "patience",
    "num_layers": "layers",
    "num_hidden_layers": "layers",
    "init_from": "start",
}
Need = Literal["teacher_outputs", "teacher_model", "compact_checkpoint"]
Overlays = list[tuple[str, dict[str, Any]]]  # where settings come from, for messages, with the settings


class Range(Strict):
    """The numbers from `min` to `max`."""

    min: float | None = None
    max: float | None = None


class Source(Strict):
    """The run of another method on another task whose compressed model a method starts from, with the same seed."""

    method: str
    task: str


class MethodSpec(Strict):
    """The contents of a method.yaml; methods/_template/method.yaml explains each field in place."""

    name: Name
    label: Text
    summary: str
    version: int = Field(ge=1)
    role: Literal["control", "teacher", "baseline", "proposed"]
    citation: str
    command: list[Text] | None = None
    needs: list[Need] = []
    source: Source | None = None
    families: list[Family] = ["bert", "roberta", "distilbert"]
    defaults: dict[str, Any]
    per_task: dict[str, dict[str, Any]] = {}
    allowed: dict[str, Range | list[Any]] = {}
    search: dict[str, list[Any]] = {}
    search_per_task: dict[str, dict[str, list[Any]]] = {}
    variants: dict[Name, dict[str, Any]] = {}
    exclude: dict[str, str] = {}
    published: dict[str, list[str]] = {}

    @property
    def compressed(self) -> bool:
        """Whether it makes a compressed model: neither a control nor the teacher."""
        return self.role in ("baseline", "proposed")

    @property
    def trained(self) -> bool:
        """Whether it trains a model, so that a protocol says how and its settings can be searched."""
        return self.role != "control"

    @cached_property
    def options(self) -> set[str]:
        """Names of all settings that a run of this method has."""
        return set(LoopSettings.model_fields) | set(self.defaults)


def load_specs(folder: Path) -> tuple[dict[str, MethodSpec], dict[str, str]]:
    """The valid methods in `folder`, by name, and what is wrong with each of the others.

    A method is a sub-folder that does not begin with an underscore.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; run from the root of the project")
    specs, faults = {}, {}
    for path in sorted(filter(_is_method, folder.iterdir())):
        try:
            specs[path.name] = load_spec(path)
        except UserError as error:
            faults[path.name] = str(error)
    return specs, faults


def load_spec(folder: Path) -> MethodSpec:
    """The method in `folder`, checked: its name is the folder's, and every setting it names has a default."""
    file = folder / "method.yaml"
    spec = parse(MethodSpec, read_yaml(file), str(file))
    if spec.name != folder.name:
        raise UserError(f"{file}: name is {spec.name!r} but the folder is {folder.name!r}; make them equal")
    _check_code(spec, folder)
    blocks = [("per_task." + k, v) for k, v in spec.per_task.items()]
    blocks += [("variants." + k, v) for k, v in spec.variants.items()]
    grids = [("search", spec.search)] + [("search_per_task." + k, v) for k, v in spec.search_per_task.items()]
    blocks += [*grids, ("allowed", spec.allowed)]
    for key in sorted(spec.defaults.keys() - LoopSettings.model_fields):
        close = difflib.get_close_matches(key, LoopSettings.model_fields, n=1, cutoff=0.8)
        if key in OTHER_NAMES or close:
            loop_key = OTHER_NAMES.get(key) or close[0]
            raise UserError(
                f"{file}: defaults: {key!r} is easily taken for the loop's {loop_key!r}; correct or rename it"
            )
    for where, grid in grids:
        check_grid(grid, f"{file}: {where}")
    for where, block in blocks:
        for key in block:
            check_option(spec, key, f"{file}: {where}")
    _check_values(spec, [block for block in blocks if block not in grids and block[0] != "allowed"], grids, file)
    return spec


def _check_code(spec: MethodSpec, folder: Path) -> None:
    """UserError unless the method is either Python code of ours or a command."""
    has_code, file = (folder / "method.py").is_file(), folder / "method.yaml"
    if spec.command is None:
        if not has_code:
            raise UserError(f"{folder}: method.py is missing; or write in method.yaml which command is the method")
        return
    if not spec.command:
        raise UserError(f"{file}: command: no word; write the program and its arguments, as [python3, train.py]")
    if has_code:
        raise UserError(f"{file}: command: {folder}/method.py is there too; drop one of the two")
    if "teacher_outputs" in spec.needs:
        raise UserError(f"{file}: command: a command gets no teacher_outputs; it can need teacher_model")
    if not spec.compressed:
        raise UserError(f"{file}: command: a {spec.role} cannot be one; only what makes a compressed model")


def _check_values(spec: MethodSpec, blocks: Overlays, grids: Overlays, file: Path) -> None:
    """UserError unless each value that the file gives a setting could be a run's."""
    resolve_settings(spec, 1, [])
    for where, block in blocks:
        resolve_settings(spec, 1, [(f"{file}: {where}", block)])
    for where, grid in grids:
        for key, values in grid.items():
            for value in values:
                resolve_settings(spec, 1, [(f"{file}: {where}", {key: value})])


def find_spec(specs: dict[str, MethodSpec], method: str, faults: dict[str, str], where: str = "") -> MethodSpec:
    """The method of this name; UserError with what is wrong with it (`faults`), or the closest names if there is none.

    `where` says for messages who asks for it: 'config: keep_models: '.
    """
    if method in faults:
        raise UserError(f"{where}{faults[method]}")
    if method not in specs:
        raise UserError(f"{where}there is no method {method!r}{suggest(method, specs)}")
    return specs[method]


def check_grid(grid: dict[str, list[Any]], where: str) -> None:
    """UserError unless every setting of the grid offers something, and nothing twice."""
    for key, values in grid.items():
        if not values:
            raise UserError(f"{where}.{key} offers nothing")
        if any(value in values[:i] for i, value in enumerate(values)):
            raise UserError(f"{where}.{key} offers a value twice")


def check_option(spec: MethodSpec, key: str, where: str) -> None:
    """UserError if a run of `spec` has no setting called `key`."""
    if key not in spec.options:
        loop_key = OTHER_NAMES.get(key)
        remedy = f" (did you mean {loop_key!r}?)" if loop_key else suggest(key, spec.options)
        raise UserError(f"{where}: method {spec.name} has no setting {key!r}{remedy}")


def resolve_settings(spec: MethodSpec, layers: int, overlays: Overlays) -> dict[str, Any]:
    """The settings of one run: the loop's defaults, the method's, then `overlays` in order; the last word wins.

    `overlays` pairs a place (for messages) with settings. Values are checked: the loop's against LoopSettings, a
    method's own against the type of their default.
    """
    values: dict[str, Any] = {"layers": layers} | spec.defaults
    for origin, overlay in overlays:
        for key, value in overlay.items():
            check_option(spec, key, origin)
            values[key] = value
    origins = setting_origins(spec, overlays)
    method_values = {key: value for key, value in values.items() if key not in LoopSettings.model_fields}
    for key, value in method_values.items():
        method_values[key] = _like(spec.defaults[key], value, f"{origins[key]}: {key}")
        _check_allowed(spec, key, method_values[key], f"{origins[key]}: {key}")
    try:
        loop = LoopSettings.model_validate({k: v for k, v in values.items() if k not in method_values})
    except ValidationError as error:
        detail = error.errors()[0]
        key = str(detail["loc"][0])
        raise UserError(f"{origins.get(key, spec.name)}: {key}: {detail['msg']}, found {values.get(key)!r}") from None
    return loop.model_dump() | method_values


def setting_origins(spec: MethodSpec, overlays: Overlays) -> dict[str, str]:
    """The place that each setting of a run comes from: the last of `overlays` that names it, or a default."""
    origins = dict.fromkeys(LoopSettings.model_fields, "default of the training loop")
    origins["layers"] = "backbone.layers" if spec.role == "teacher" else "student_layers"
    origins |= dict.fromkeys(spec.defaults, f"methods/{spec.name}/method.yaml: defaults")
    for origin, overlay in overlays:
        origins |= dict.fromkeys(overlay, origin)
    return origins


def _check_allowed(spec: MethodSpec, key: str, value: Any, where: str) -> None:
    limits = spec.allowed.get(key)
    if isinstance(limits, list) and value not in limits:
        raise UserError(f"{where}: {value!r}{suggest(str(value), map(str, limits))}")
    if isinstance(limits, Range) and value is not None:
        if not isinstance(value, int | float):
            raise UserError(f"{where}: expected a number, as allowed.{key} gives a range; found {value!r}")
        low, high = limits.min, limits.max
        if (low is not None and value < low) or (high is not None and value > high):
            ends = [f"{word} {end:g}" for word, end in (("at least", low), ("at most", high)) if end is not None]
            raise UserError(f"{where}: {value!r} is not {' and '.join(ends)}")


def _is_method(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(("_", ".")) and (path / "method.yaml").exists()


def _like(default: Any, value: Any, where: str) -> Any:
    """`value` as the type of `default` (a whole number may stand for a float); UserError otherwise."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{where}: expected a finite number, found one of {len(str(value))} digits") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: expected a finite number, found {value!r}")
    if type(value) is not type(default) and default is not None:
        raise UserError(f"{where}: expected {type(default).__name__} like {default!r}, found {value!r}")
    return value


def create_method(name: str, is_command: bool = False) -> Path:
    """Copy methods/_template, or methods/_command, to methods/`name`, named accordingly.

    UserError for a name that is taken or cannot be.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"new-method: {name!r} cannot name a method; use lower-case letters, digits and underscores")
    folder = METHODS_FOLDER / name
    if folder.exists():
        raise UserError(f"new-method: {folder} exists already; choose another name")
    with atomic(folder) as scratch:
        template = METHODS_FOLDER / ("_command" if is_command else "_template")
        shutil.copytree(template, scratch, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("method.yaml", "README.md"):
            text = (scratch / file).read_text(encoding="utf-8")
            (scratch / file).write_text(text.replace("my_method", name), encoding="utf-8")
    return folder
