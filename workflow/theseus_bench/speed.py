"""How fast the compressed models are, beside the predecessor, all interleaved in one process.

Speed depends on a model's shape and not on its weights, so each shape is built from the architecture in a run's record
with random weights and measured once, however many methods share it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from theseus_bench.config import Speed
from theseus_bench.devices import autocast, choose_device, choose_precision, use_threads
from theseus_bench.errors import UserError
from theseus_bench.plan import Plan, Run
from theseus_bench.records import provenance, read_json, write_json
from theseus_bench.scores import state

SHAPE = [
    "model_type", "vocab_size", "hidden_size", "dim", "intermediate_size", "hidden_dim",
    "num_hidden_layers", "n_layers", "num_attention_heads", "n_heads",
]  # fmt: skip
WARM_UP = 3  # rounds not counted


def measure_experiment(plan: Plan, experiment: str, folder: Path) -> None:
    """Measure the experiment's models and the predecessor into `folder`/speed/<experiment>.json.

    The predecessor has the backbone's shape. A method none of whose runs has left a record is left out.
    """
    use_threads(plan.suite.threads)
    torch.manual_seed(0)
    teacher = plan.teacher.name
    try:
        config = AutoConfig.from_pretrained(folder / "backbone", local_files_only=True)
    except (OSError, ValueError):
        raise UserError(f"{folder / 'backbone'}: not a readable checkpoint; delete it and run again") from None
    architectures = _architectures(plan, plan.experiment_runs(experiment), folder)
    architectures[teacher] = json.loads(config.to_json_string(use_diff=False))
    shapes = {name: tuple(config.get(key) for key in SHAPE) for name, config in architectures.items()}
    device = choose_device(plan.suite.device)
    precision = choose_precision("auto", device)
    times = measure({shape: architectures[name] for name, shape in shapes.items()}, plan.suite.speed, device, precision)
    result = {
        "device": str(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        **plan.suite.speed.model_dump(),
        "methods": {name: compare(times[shapes[teacher]], times[shape]) for name, shape in shapes.items()},
        "provenance": provenance(),
    }
    write_json(folder / "speed" / f"{experiment}.json", result)


def read_speed(experiment: str, folder: Path) -> dict | None:
    """What `measure_experiment` has left; None where it was not measured."""
    file = folder / "speed" / f"{experiment}.json"
    return read_json(file) if file.is_file() else None


@torch.inference_mode()
def measure(architectures: dict, speed: Speed, device: torch.device, precision: str) -> dict:
    """Seconds of one forward pass of (batch_size, length) for each architecture: an array (repetitions,) each.

    Every round times each model once, in an order that turns, so that drift of the machine's speed meets all alike.
    """
    models = {key: _build(config).to(device).eval() for key, config in architectures.items()}
    vocabulary = min(model.config.vocab_size for model in models.values())
    ids = torch.randint(vocabulary, (speed.batch_size, speed.length), device=device)
    mask = torch.ones_like(ids)
    times = {key: [] for key in models}
    keys = list(models)
    for turn in range(WARM_UP + speed.repetitions):
        for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
            began = time.perf_counter()
            with autocast(device, precision):
                models[key](input_ids=ids, attention_mask=mask)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[key].append(time.perf_counter() - began)
    return {key: np.array(values[WARM_UP:]) for key, values in times.items()}


def compare(teacher: np.ndarray, student: np.ndarray) -> dict[str, float]:
    """Speed-up of the student as the median of the rounds' ratios, its 95 % bootstrap interval, and its latency."""
    ratios = teacher / student
    draws = np.random.default_rng(0).integers(len(ratios), size=(2000, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    return {
        "speedup": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
        "latency_ms": float(1000 * np.median(student)),
    }


def _architectures(plan: Plan, runs: list[Run], folder: Path) -> dict[str, dict]:
    """The architecture of each method's first run that has one."""
    found = {}
    for run in runs:
        record = state(plan, run, folder)[2] if run.name not in found else None
        if record is not None and record.architecture is not None:
            found[run.name] = record.architecture
    return found


def _build(architecture: dict):
    config = AutoConfig.for_model(**architecture)
    return AutoModelForSequenceClassification.from_config(config)
