"""The file of measured speeds: how it is read, and which of it is asked for; no torch."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from theseus_bench.errors import UserError
from theseus_bench.files import read_json
from theseus_bench.suite.published import Paper

DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def read_speed(experiment: str, folder: Path) -> dict | None:
    """What `measure_experiment` has left; None where it was not measured.

    `shapes`: for each its `methods` (the predecessor's stand first), what `describe` says of it, and `measured`, a list
    of device, batch_size, length and what `compare` gives. `methods`: what `compare` gives of each method at the
    `headline` (device, batch_size, length); {} where that was left out. UserError if an older version has left it.
    """
    file = folder / "speed" / f"{experiment}.json"
    found = read_json(file) if file.is_file() else None
    if found is not None and "shapes" not in found:
        raise UserError(f"{file}: of an older form; make it again with: theseus-bench speed {folder} {experiment}")
    return found


def of_size(measured: list[dict], size: dict) -> dict[str, float]:
    """What `compare` gave of one shape at one size (device, batch_size, length); {} if that was left out."""
    found = (row for row in measured if size.items() <= row.items())
    return next(({key: value for key, value in row.items() if key not in size} for row in found), {})


def is_alike(shape: dict, predecessor: dict) -> bool:
    """Whether a shape's layers are as wide as the predecessor's, so that only their number tells them apart."""
    return all(shape[key] == predecessor[key] for key in ("hidden_size", "intermediate_size"))


def printed_speedup(paper: Paper, layers: int, predecessor_layers: int) -> float | None:
    """What the paper prints for this share of the predecessor's layers; None where it does not."""
    shares = {Fraction(depth, paper.layers): value for depth, value in paper.speed.speedups.items()}
    return shares.get(Fraction(layers, predecessor_layers))
