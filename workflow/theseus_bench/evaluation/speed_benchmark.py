"""Latency, throughput and memory of each shape of model, measured side by side."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, PreTrainedModel

from theseus_bench.checksums import check_folder
from theseus_bench.errors import UserError
from theseus_bench.evaluation.speed import save_speed
from theseus_bench.modeling.architectures import count_parameters
from theseus_bench.modeling.checkpoints import build_classifier
from theseus_bench.modeling.devices import autocast, choose_device, choose_precision, use_threads
from theseus_bench.suite.config import Size, Speed
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.provenance import provenance
from theseus_bench.suite.status import state

SHAPE = [
    "model_type", "vocab_size", "hidden_size", "dim", "intermediate_size", "hidden_dim", "max_position_embeddings",
    "num_hidden_layers", "n_layers", "num_attention_heads", "n_heads",
]  # fmt: skip
WARM_UP = 3  # rounds not counted, beside the pass whose memory is looked at; fewer where a round takes long
LEAST = 5  # rounds that are always counted, however long they take
Architecture = dict[str, Any]
Shape = tuple[Any, ...]  # the values of SHAPE that an architecture has


class NotMeasurable(Exception):
    """Why a size cannot be measured, in words for a gap."""


@dataclass(frozen=True)
class RoundTimes:
    """One shape at one size: the seconds of each round's forward pass, and the peak memory of one (MiB)."""

    seconds: np.ndarray
    memory: float


def measure_experiment(plan: Plan, experiment: str, folder: Path) -> None:
    """Measure the experiment's models and the predecessor into `folder`/speed/<experiment>.json.

    The predecessor has the backbone's shape. A method none of whose runs has left a record is left out, and a size that
    is longer than a model's positions or that does not fit into memory stands among `left_out` with its reason.
    """
    use_threads(plan.suite.threads)
    torch.manual_seed(0)
    speed, teacher, runs = plan.suite.speed, plan.teacher.name, plan.experiment_runs(experiment)
    teachers = [teacher, *(run.name for run in runs if run.spec.role == "teacher")]  # of either protocol
    architectures = dict.fromkeys(teachers, _backbone(folder)) | _architectures(plan, runs, folder)
    shapes = {name: tuple(values.get(key) for key in SHAPE) for name, values in architectures.items()}
    architecture_of = {shape: architectures[name] for name, shape in reversed(shapes.items())}
    descriptions = {shape: describe(architecture_of[shape], speed.lengths) for shape in dict.fromkeys(shapes.values())}
    models = {shape: build_classifier(architecture_of[shape]).eval() for shape in descriptions}
    machine = provenance()
    devices: dict[str, dict[str, str]] = {}
    rows_of: dict[Shape, list[dict[str, Any]]] = {shape: [] for shape in descriptions}
    left_out: list[dict[str, Any]] = []
    for device in _devices(plan.suite.device):
        precision = choose_precision("auto", device)
        gpu = device.type == "cuda"
        name = torch.cuda.get_device_name(device) if gpu else machine["processor"]
        devices[device.type] = {"name": name, "precision": precision}
        for model in models.values():
            model.to(device)
        for size in speed.sizes:
            where = {"device": device.type, **size.model_dump()}
            try:
                by_shape = measure(models, size, speed, device, precision)
            except NotMeasurable as error:
                left_out.append(where | {"reason": str(error)})
                continue
            for shape, times in by_shape.items():
                rows_of[shape].append(where | compare(by_shape[shapes[teacher]], times, size.batch_size))
    reference_size = {"device": list(devices)[-1], **speed.headline.model_dump()}
    result = {
        "threads": torch.get_num_threads(),
        "devices": devices,
        "repetitions": speed.repetitions,
        "headline": reference_size,
        "shapes": [
            {"methods": [name for name in shapes if shapes[name] == shape], **descriptions[shape], "measured": rows}
            for shape, rows in rows_of.items()
        ],
        "left_out": left_out,
        "methods": {name: _at_size(rows_of[shape], reference_size) for name, shape in shapes.items()},
        "provenance": machine,
    }
    save_speed(experiment, folder, result)


def _at_size(timings: list[dict[str, Any]], size: dict[str, Any]) -> dict[str, Any]:
    """What `compare` gave of one shape at one size (device, batch_size, length); {} if that was left out."""
    rows = (row for row in timings if size.items() <= row.items())
    return next(({key: value for key, value in row.items() if key not in size} for row in rows), {})


def describe(architecture: Architecture, lengths: list[int]) -> dict[str, Any]:
    """Depth, width, parameters and floating point operations of a shape.

    `layers`, `hidden_size`, `intermediate_size`, `model_type`; `parameters` in all (pooler and classifier included), of
    these `embedding_parameters`; `flops` of the forward pass of one sequence by its length, a multiplication and an
    addition being two: products of matrices only, those of attention among them. Nothing is computed for it.
    """
    with torch.device("meta"), torch.inference_mode():
        # attention as products that can be counted
        model = build_classifier(architecture, attn_implementation="eager").eval()
        flops = {}
        for length in lengths:
            if length <= _positions(model):
                with FlopCounterMode(display=False) as counter:
                    model(input_ids=torch.zeros(1, length, dtype=torch.long))
                flops[str(length)] = counter.get_total_flops()
    total, embeddings = count_parameters(model)
    config = model.config
    inner = config.hidden_dim if hasattr(config, "hidden_dim") else config.intermediate_size
    return {
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": inner,
        "model_type": config.model_type,
        "parameters": total,
        "embedding_parameters": embeddings,
        "flops": flops,
    }


@torch.inference_mode()
def measure(
    models: dict[Shape, PreTrainedModel], size: Size, speed: Speed, device: torch.device, precision: str
) -> dict[Shape, RoundTimes]:
    """Time a forward pass of each model at one size, over `speed.repetitions` rounds, and find its peak memory.

    Every round times each model once, in an order that turns, so that drift of the machine's speed meets all alike. No
    round begins after `speed.seconds`, but LEAST are always made. NotMeasurable if a model has fewer positions or the
    memory does not suffice.
    """
    positions = min(map(_positions, models.values()))
    if size.length > positions:
        raise NotMeasurable(f"longer than the model's {positions} positions")
    vocabulary = min(model.config.vocab_size for model in models.values())
    ids = torch.randint(vocabulary, (size.batch_size, size.length), device=device)
    mask, keys = torch.ones_like(ids), list(models)

    def forward(model: PreTrainedModel) -> None:
        with autocast(device, precision):
            model(input_ids=ids, attention_mask=mask)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def one_round(turn: int) -> dict[Shape, float]:
        seconds = {}
        for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
            start = time.perf_counter()
            forward(models[key])
            seconds[key] = time.perf_counter() - start
        return seconds

    start = time.perf_counter()
    try:
        memory = {key: _peak_memory(models[key], partial(forward, models[key]), device) for key in keys}
        _repeat(one_round, 0, WARM_UP, speed.seconds / 10 - (time.perf_counter() - start))
        rounds = _repeat(one_round, min(LEAST, speed.repetitions), speed.repetitions, speed.seconds)
    except RuntimeError as error:  # torch.OutOfMemoryError is one, but on a CPU torch has no error of its own for it
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise NotMeasurable("out of memory") from None
    return {key: RoundTimes(np.array([seconds[key] for seconds in rounds]), memory[key]) for key in keys}


def compare(teacher: RoundTimes, student: RoundTimes, batch_size: int) -> dict[str, float]:
    """The student's speed-up, time, throughput and memory, with 95 % bootstrap intervals over the rounds.

    `speedup`, `low`, `high`: the median of the rounds' ratios; `latency_ms`, `latency_low`, `latency_high`: the median
    time of a pass; `throughput`: sequences a second at that median; `memory_mb`; `rounds`: how many there were.
    """
    speedup, low, high = _median(teacher.seconds / student.seconds)
    latency, fast, slow = _median(1000 * student.seconds)
    return {
        "speedup": speedup,
        "low": low,
        "high": high,
        "latency_ms": latency,
        "latency_low": fast,
        "latency_high": slow,
        "throughput": 1000 * batch_size / latency,
        "memory_mb": student.memory,
        "rounds": len(student.seconds),
    }


def _median(values: np.ndarray) -> tuple[float, float, float]:
    """The median and the ends of its 95 % percentile bootstrap interval."""
    draws = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def _repeat(
    one_round: Callable[[int], dict[Shape, float]], least: int, most: int, seconds: float
) -> list[dict[Shape, float]]:
    """The rounds' results: at least `least`, then on to `most` as long as `seconds` have not gone by."""
    start = time.perf_counter()
    results: list[dict[Shape, float]] = []
    while len(results) < least or (len(results) < most and time.perf_counter() - start < seconds):
        results.append(one_round(len(results)))
    return results


def _peak_memory(model: PreTrainedModel, forward: Callable[[], None], device: torch.device) -> float:
    """MiB of the model's weights and of the most that torch's allocator holds at once in a forward pass.

    The same quantity on both devices, and the same every time. What the interpreter and libraries need is not in it.
    """
    weights = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        forward()
        return (weights + torch.cuda.max_memory_allocated(device) - allocated) / 2**20
    with _allocations() as sizes:
        forward()
    return (weights + max(itertools.accumulate(sizes), default=0)) / 2**20


@contextmanager
def _allocations() -> Iterator[list[int]]:
    """A list that is filled, when the block ends, with the bytes that it took (> 0) and gave back (< 0), in order."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler reports its every use on standard error
    sizes: list[int] = []
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        yield sizes
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    sizes += [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def _devices(choice: str) -> list[torch.device]:
    """The CPU and, where the suite's `device` allows it and there is one, the GPU: the device that it runs on is last.

    UserError if a GPU is wanted and absent.
    """
    device = choose_device(choice)
    return [torch.device("cpu"), *([device] if device.type == "cuda" else [])]


def _backbone(folder: Path) -> Architecture:
    """The backbone's architecture."""
    check_folder(folder / "backbone", "config.json")
    try:
        config = AutoConfig.from_pretrained(folder / "backbone", local_files_only=True)
    except (OSError, ValueError):
        raise UserError(f"{folder / 'backbone'}: not a readable checkpoint; delete it and run again") from None
    architecture: Architecture = json.loads(config.to_json_string(use_diff=False))
    return architecture


def _architectures(plan: Plan, runs: list[Run], folder: Path) -> dict[str, Architecture]:
    """The architecture of each method's first run that has one; the predecessor's is the backbone's."""
    architectures: dict[str, Architecture] = {}
    for run in runs:
        is_new = run.name not in architectures and run.spec.role != "teacher"
        record = state(plan, run, folder)[2] if is_new else None
        if record is not None and record.architecture is not None:
            architectures[run.name] = record.architecture
    return architectures


def _positions(model: PreTrainedModel) -> int:
    """The longest sequence that a model can read; RoBERTa counts its positions from behind its padding token."""
    config = model.config
    return int(config.max_position_embeddings - (config.pad_token_id + 1 if config.model_type == "roberta" else 0))
