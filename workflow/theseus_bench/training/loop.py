"""The one training loop, the same for every method.

A method gives the model, its loss and the parameters it trains; batches, optimizer, schedule, precision, clipping,
evaluation, early stopping, checkpoint and resume are here and are nobody's to change.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from theseus_bench.data.batches import collate, length_grouped_batches, token_budget_batches
from theseus_bench.data.held_out import hold_out, take
from theseus_bench.data.metrics import measure_task, score
from theseus_bench.data.parquet import Split
from theseus_bench.data.tasks import Task
from theseus_bench.files import atomic
from theseus_bench.modeling.attention import model_inputs
from theseus_bench.modeling.compile import padded_length, prepare_for_device
from theseus_bench.modeling.devices import autocast, to_tensors
from theseus_bench.modeling.energy import EnergyMeter
from theseus_bench.modeling.flops import counted, is_observed, new_count
from theseus_bench.suite.config import LoopSettings
from theseus_bench.training.teacher_outputs import TeacherOutputs

HELD_OUT = "held_out"  # the slice of train by whose score a checkpoint is chosen, where it is not the dev set's
CHECKPOINTS = Path(".cache/checkpoints")  # a folder in it for each training


@dataclass(frozen=True)
class TaskData:
    """What a run reads of a task."""

    task: Task
    pad: int  # id of the padding token
    train: Split  # what it trains on: without the slice that is held out, where one is
    dev: dict[str, Split]
    teacher: TeacherOutputs | None = None
    held_out: Split | None = None

    @property
    def chosen_by(self) -> dict[str, Split]:
        """The splits by whose score the checkpoint is chosen."""
        return self.dev if self.held_out is None else {HELD_OUT: self.held_out}


def without_held_out(data: TaskData) -> TaskData:
    """The same task with a slice of its training set held out to choose the checkpoint by."""
    kept, held = hold_out(data.train, data.task.name)
    teacher = None if data.teacher is None else replace(data.teacher, examples=kept)
    return replace(data, train=take(data.train, kept), held_out=take(data.train, held), teacher=teacher)


@dataclass(frozen=True)
class Machine:
    """Where a run computes and where it keeps its checkpoint."""

    device: torch.device
    precision: str  # bf16 or fp32
    checkpoint: Path  # a folder of this run alone
    checkpoint_every: float = 600.0  # seconds


@dataclass
class Progress:
    """How far a run has come: all of it goes into a checkpoint."""

    step: int = 0
    best_step: int = 0
    best_score: float = -math.inf
    stale: int = 0  # evaluations since the best
    seconds: float = 0.0  # spent training and evaluating, earlier tries included
    evaluating: float = 0.0  # of these, spent evaluating
    earlier: float = 0.0  # those of earlier tries
    resumed: int = 0
    diverged: str = ""
    energy_joules: float | None = 0.0  # over `seconds`; None where it cannot be measured
    training_flops: dict[str, int] = field(default_factory=new_count)
    evaluation_flops: dict[str, int] = field(default_factory=new_count)
    curve: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Parameters:
    """A model's parameters by their part in training, listed once: to walk through a small model takes its time."""

    all: list[nn.Parameter]
    trained: list[nn.Parameter]  # what the optimizer moves
    clipped: list[nn.Parameter]  # whose gradients count in the norm that is clipped


def parameters_of(method, model: nn.Module) -> Parameters:
    """The lists that a method makes of its model's parameters."""
    trained, clipped = method.parameters(model), method.clipped_parameters(model)
    return Parameters(list(model.parameters()), list(trained), list(clipped))


def planned_steps(settings: LoopSettings, examples: int) -> int:
    """How many optimizer steps the settings plan, over so many training examples."""
    batches = math.ceil(examples / settings.batch_size)
    steps = math.ceil(round(settings.epochs * batches, 6))  # 1.1 · 50 is 55, not 55.00000000000001
    return min(steps, settings.max_steps or steps)


def evaluation_steps(settings: LoopSettings, examples: int, steps: int) -> set[int]:
    """After which of a run's `steps` it is evaluated; the last is always among them."""
    if settings.evaluations:
        return {math.ceil(steps * i / settings.evaluations) for i in range(1, settings.evaluations + 1)}
    every = settings.evaluate_every or math.ceil(examples / settings.batch_size)
    return {*range(every, steps, every), steps}


def learning_rate(settings: LoopSettings, step: int, steps: int) -> float:
    """Linear warm-up from 0, then linear decay to 0 at `steps` (transformers' get_linear_schedule_with_warmup)."""
    warm = int(settings.warmup * steps)
    scale = step / max(1, warm) if step < warm else (steps - step) / max(1, steps - warm)
    return settings.learning_rate * scale


def fit(
    method,
    model: nn.Module,
    data: TaskData,
    settings: LoopSettings,
    seed: int,
    machine: Machine,
    steps: int | None = None,
) -> Progress:
    """Train `model` for `steps` (those that the settings plan) and leave it with the parameters of its best score.

    The score is that of `data.chosen_by`. `method` fulfils theseus_bench.training.method.Method. A loss that is no
    longer finite ends the run; the best parameters so far stay. A run that was killed goes on from its checkpoint; on
    a CPU it ends bit-equal to one that was not.
    """
    prepare_for_device(model, machine.device).train()
    parameters = parameters_of(method, model)
    trained = parameters.trained
    if not trained:
        return _evaluate_only(method, model, data, settings, machine)
    optimizer = make_optimizer(model, trained, settings)
    batches = math.ceil(len(data.train) / settings.batch_size)  # of an epoch
    steps = steps or planned_steps(settings, len(data.train))
    evaluated = evaluation_steps(settings, len(data.train), steps)
    progress, best = Progress(), [p.detach().clone() for p in trained]
    total = torch.zeros((), device=machine.device)  # the loss, summed since the last evaluation; read only there

    # go on from the checkpoint of a run that was stopped
    if (machine.checkpoint / "state.pt").is_file():
        total.fill_(_restore(machine.checkpoint, progress, trained, best, optimizer, machine.device))
    began, saved, before = time.monotonic(), time.monotonic(), progress.seconds
    meter = EnergyMeter(machine.device, progress.energy_joules)

    epoch, order = -1, []
    while progress.step < steps and not progress.diverged:
        # the next batch: ids, masks and token types (batch, length), labels (batch,), what the teacher said of them
        step = progress.step
        if step // batches != epoch:
            epoch = step // batches
            order = length_grouped_batches(data.train, data.task.name, seed, epoch, settings.batch_size)
        batch = training_batch(data, order[step % batches], machine.device)

        # forward, backward, clip, update; the method may change its model first, as Theseus does its replacing rate
        method.on_step(step)
        rate = learning_rate(settings, step, steps)
        with counted(progress.training_flops, is_observed(step, steps)):
            total += train_step(method, model, batch, optimizer, parameters, rate, settings, machine)
        progress.step += 1
        progress.seconds = before + time.monotonic() - began
        progress.energy_joules = meter.read(at_most_every=60.0)

        # evaluate, keep the best parameters, stop where nothing has got better for long
        if progress.step in evaluated:
            entry = {"step": progress.step, "epoch": progress.step / batches, "loss": float(total) / _since(progress)}
            _evaluate(method, model, data, settings, machine, progress, entry, trained, best)
            progress.evaluating += before + time.monotonic() - began - progress.seconds
            progress.seconds = before + time.monotonic() - began
            progress.energy_joules = meter.read()
            total.zero_()
            if settings.patience and progress.stale >= settings.patience:
                break

        # checkpoint
        if time.monotonic() - saved >= machine.checkpoint_every:
            _save(machine.checkpoint, progress, trained, best, optimizer, float(total))
            saved = time.monotonic()

    # the best parameters are the run's
    copy_parameters(trained, best)
    return progress


def make_optimizer(model: nn.Module, trained: list[nn.Parameter], settings: LoopSettings) -> torch.optim.Optimizer:
    """AdamW with bias correction over `trained`; biases and layer norms (one-dimensional) do not decay."""
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, eps=1e-8, fused=True)


@torch.inference_mode()
def predict(model: nn.Module, split: Split, pad: int, machine: Machine) -> np.ndarray:
    """Logits (examples, outputs) float32 of the model on a split, without dropout."""
    was_training = model.training
    model.eval()
    logits, found = np.empty((len(split), model.config.num_labels), np.float32), []
    for examples in token_budget_batches(split):
        batch = to_tensors(collate(split, examples, pad), machine.device)
        with autocast(machine.device, machine.precision):
            found.append((examples, model(**model_inputs(model, batch)).logits.float()))
    for examples, values in found:  # only now, as the processor waits for a GPU here
        logits[examples] = values.cpu().numpy()
    model.train(was_training)
    return logits


def discard_checkpoint(machine: Machine) -> None:
    """Remove the run's checkpoint, once its record is written."""
    shutil.rmtree(machine.checkpoint, ignore_errors=True)


def train_step(method, model, batch, optimizer, parameters, rate, settings, machine) -> torch.Tensor:
    """One optimizer step; the loss, detached.

    A parameter without a part in this forward pass, but with one in an earlier, gets a gradient of zeros, so that it is
    still moved by its momentum, as in the paper's code. A loss without a graph (no trained parameter took part) has no
    backward pass.
    """
    for parameter in parameters.all:
        parameter.grad = None  # writing zeros, and adding to them, would cost a pass over the model each

    # forward and backward
    with autocast(machine.device, machine.precision):
        loss = method.loss(model, batch)  # ()
    if loss.requires_grad:
        loss.backward()

    # clip
    gradients = [p.grad for p in parameters.clipped if p.grad is not None]
    nn.utils.clip_grads_with_norm_(parameters.trained, settings.clip_norm, nn.utils.get_total_norm(gradients))
    for parameter in parameters.trained:
        if parameter.grad is None and parameter in optimizer.state:
            parameter.grad = torch.zeros_like(parameter)

    # update
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return loss.detach()


def training_batch(data: TaskData, examples: np.ndarray, device: torch.device) -> dict[str, torch.Tensor]:
    arrays = collate(data.train, examples, data.pad, padded_length(device))
    if not data.task.regression:
        arrays["labels"] = arrays["labels"].astype(np.int64)
    if data.teacher is not None:
        arrays |= data.teacher.take(examples)
    return to_tensors(arrays, device)


def _since(progress: Progress) -> int:
    return progress.step - (progress.curve[-1]["step"] if progress.curve else 0)


def _evaluate(method, model, data, settings, machine, progress, entry, trained, best) -> None:
    """Score the splits to choose by, keep the parameters if they are the best yet, and add `entry` to the curve."""
    if not math.isfinite(entry["loss"]):
        progress.diverged = f"diverged: the loss was no longer finite before step {progress.step}"
        return
    with counted(progress.evaluation_flops, observed=not progress.curve):  # the later ones are of the same examples
        values = measure_splits(model, data, data.chosen_by, machine)
        watched = measure_splits(model, data, data.dev, machine) if settings.watch_dev and data.held_out else {}
    result = score(values)
    if not math.isfinite(result):
        progress.diverged = f"diverged: the outputs were no longer finite at step {progress.step}"
        return
    progress.stale = progress.stale + 1 if method.may_stop() else 0
    if result > progress.best_score:
        progress.best_score, progress.best_step, progress.stale = result, progress.step, 0
        for kept, parameter in zip(best, trained, strict=True):
            kept.copy_(parameter.detach())
    seen = {"dev_score": score(watched)} if watched else {}
    metrics = {f"{split}/{metric}": value for (split, metric), value in (values | watched).items()}
    progress.curve.append(entry | {"score": result} | seen | metrics | method.log())


def measure_splits(
    model: nn.Module, data: TaskData, splits: dict[str, Split], machine: Machine
) -> dict[tuple[str, str], float]:
    """Every (split, metric) of the model on these splits of a task."""
    logits = {name: predict(model, split, data.pad, machine) for name, split in splits.items()}
    return measure_task(data.task, logits, {name: split.labels for name, split in splits.items()})


def _evaluate_only(method, model, data, settings, machine) -> Progress:
    """A method that trains nothing is scored once."""
    progress = Progress()
    meter = EnergyMeter(machine.device)
    _evaluate(method, model, data, settings, machine, progress, {"step": 0, "epoch": 0.0, "loss": 0.0}, [], [])
    progress.energy_joules = meter.read()
    return progress


def save_state(file: Path, trained: list[nn.Parameter], optimizer, rest: dict[str, Any]) -> None:
    """Write a training's state to `file`: its parameters, optimizer and torch's generators, and the caller's `rest`."""
    state = {
        "trained": [p.detach() for p in trained],
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(trained[0].device) if trained[0].is_cuda else None,
    }
    with atomic(file) as scratch:
        torch.save(state | rest, scratch)


def restore_state(file: Path, trained: list[nn.Parameter], optimizer, device: torch.device) -> dict[str, Any]:
    """Take a training's state up again from `file`; returns all that is in it, the caller's own too."""
    state = torch.load(file, map_location=device, weights_only=True)
    copy_parameters(trained, state["trained"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"].cpu())
    if state["random_cuda"] is not None:
        torch.cuda.set_rng_state(state["random_cuda"].cpu(), device)
    return state


@torch.no_grad()
def copy_parameters(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def _save(folder: Path, progress: Progress, trained, best, optimizer, total: float) -> None:
    save_state(folder / "state.pt", trained, optimizer, {"progress": vars(progress), "best": best, "total": total})


def _restore(folder: Path, progress: Progress, trained, best, optimizer, device) -> float:
    """Take a run up where its checkpoint left it; returns the loss summed since the last evaluation."""
    state = restore_state(folder / "state.pt", trained, optimizer, device)
    vars(progress).update(state["progress"])
    progress.resumed += 1
    progress.earlier = progress.seconds
    copy_parameters(best, state["best"])
    return state["total"]
