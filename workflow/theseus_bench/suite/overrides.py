"""What `snakemake --config` sets, in the types that a file would give it."""

from __future__ import annotations

from typing import Any

from theseus_bench.strict_yaml import read_scalar

TEXT_KEYS = {"suite", "title", "name", "path", "revision", "diagnostic"}  # whose values are text, also where it is 2020


def read_override(value: Any, key: str = "") -> Any:
    """A value of --config as YAML reads it: inside lists and mappings Snakemake leaves 3.0, true and null as text."""
    if isinstance(value, dict):
        return {name: read_override(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [read_override(inner, key) for inner in value]
    if not isinstance(value, str) or key in TEXT_KEYS:
        return value
    scalar = read_scalar(value)
    return scalar if isinstance(scalar, bool | int | float) or value == "null" else value
