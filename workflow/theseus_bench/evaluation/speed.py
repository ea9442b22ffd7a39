"""The file of measured speeds: what is in it, how it is read, and which of it is asked for; no torch."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from theseus_bench.checksums import check_files
from theseus_bench.strict_yaml import Strict
from theseus_bench.suite.outputs import list_of
from theseus_bench.suite.published import Paper
from theseus_bench.suite.result_files import read_result, write_result

DEVICES = {"cpu": "CPU", "cuda": "GPU"}


class DeviceSize(Strict):
    """Where and on what a forward pass is timed."""

    device: str  # a key of DEVICES
    batch_size: int  # sequences
    length: int  # tokens

    @property
    def key(self) -> tuple[str, int, int]:
        """Device, batch size and length alone, of a measurement too."""
        return self.device, self.batch_size, self.length


class Timing(Strict):
    """A shape's forward pass at one size, with 95 % bootstrap intervals over the rounds."""

    speedup: float  # over the predecessor: the median of the rounds' ratios
    low: float
    high: float
    latency_ms: float  # the median time of a pass
    latency_low: float
    latency_high: float
    throughput: float  # sequences a second at that median
    memory_mb: float  # MiB: the weights, and the most that torch's allocator holds at once in a pass
    rounds: int


class Measurement(DeviceSize, Timing):
    """A timing with its size."""


class SizeLeftOut(DeviceSize):
    """A size that could not be measured."""

    reason: str


class Device(Strict):
    """What was measured on."""

    name: str
    precision: str


class Shape(Strict):
    """A shape of model: its size, and its timings."""

    methods: list[str]  # the names of the runs that have it
    layers: int
    hidden_size: int
    intermediate_size: int
    model_type: str
    parameters: int  # in all, pooler and classifier included
    embedding_parameters: int  # of these
    flops: dict[str, float]  # of the forward pass of one sequence, by its length
    measurements: list[Measurement] = Field(alias="measured")

    def timing(self, size: DeviceSize) -> Measurement | None:
        """Its timing at one size; None if that was left out."""
        return next((one for one in self.measurements if one.key == size.key), None)

    def is_alike(self, predecessor: Shape) -> bool:
        """Whether its layers are as wide as the predecessor's, so that only their number tells them apart."""
        return (self.hidden_size, self.intermediate_size) == (predecessor.hidden_size, predecessor.intermediate_size)


def _without_empty(timings: dict[str, Any]) -> dict[str, Any]:
    """The timings without the {} that stands for a size that was left out."""
    return {name: timing for name, timing in timings.items() if timing}


class SpeedResults(Strict):
    """The contents of speed/<experiment>.json. The predecessor's shape stands first."""

    threads: int
    devices: dict[str, Device]
    repetitions: int
    reference_size: DeviceSize = Field(alias="headline")  # whose speed-up the tables of scores have
    shapes: list[Shape] = Field(min_length=1)
    sizes_left_out: list[SizeLeftOut] = Field(alias="left_out")
    methods: Annotated[dict[str, Timing], BeforeValidator(_without_empty)]  # at the reference size, where it was timed
    provenance: dict[str, Any]

    def why_left_out(self, size: DeviceSize) -> str:
        """Why a size has no timing; '' where nothing is said of it."""
        return next((one.reason for one in self.sizes_left_out if one.key == size.key), "")


def speed_file(experiment: str, folder: Path) -> Path:
    """Where the experiment's speeds are, in the suite's folder."""
    return folder / "speed" / f"{experiment}.json"


def save_speed(experiment: str, folder: Path, values: dict[str, Any]) -> None:
    """Write what SpeedResults can read."""
    write_result(speed_file(experiment, folder), SpeedResults, values)


def read_speed(experiment: str, folder: Path) -> SpeedResults | None:
    """The experiment's speeds; None where none were measured, UserError where another version has left them."""
    file = speed_file(experiment, folder)
    if not file.is_file():
        return None
    check_files(list_of("speed", experiment, folder), [file.name])
    remedy = f"make it again with: theseus-bench speed {folder} {experiment}"
    return read_result(file, SpeedResults, "speeds as this version writes them", remedy)


def method_timings(experiment: str, folder: Path) -> dict[str, Timing]:
    """The timings of the experiment's methods at the reference size, by name; {} where none were measured."""
    results = read_speed(experiment, folder)
    return results.methods if results else {}


def reported_speedup(paper: Paper, layers: int, predecessor_layers: int) -> float | None:
    """What the paper reports for this share of the predecessor's layers; None where it does not."""
    speedups = paper.speed.speedups if paper.speed else {}
    shares = {Fraction(depth, paper.layers): value for depth, value in speedups.items()}
    return shares.get(Fraction(layers, predecessor_layers))
