"""The one training loop, the same for every method.

A method gives the model, its loss and the parameters it trains; batches, optimizer, schedule, precision, clipping,
evaluation, early stopping, checkpoint and resume are here and are nobody's to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from theseus_bench.data.batches import collate, shuffled_batches, token_budget_batches
from theseus_bench.data.held_out import hold_out, take
from theseus_bench.data.metrics import measure_task, score
from theseus_bench.data.parquet import Split
from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.modeling.attention import model_inputs
from theseus_bench.modeling.compile import padded_length, prepare_for_device
from theseus_bench.modeling.devices import Hardware, autocast, to_tensors
from theseus_bench.modeling.energy import EnergyMeter
from theseus_bench.modeling.flops import count_flops, is_observed
from theseus_bench.suite.config import LoopSettings
from theseus_bench.training.method import Batch, Method, ParameterGroup, parameter_groups
from theseus_bench.training.micro_batches import fit_in_memory, parts_of
from theseus_bench.training.progress import begin_progress, update_progress
from theseus_bench.training.teacher_outputs import TeacherOutputs
from theseus_bench.training.trainer_state import (
    Checkpoint,
    Expenses,
    StateKeeper,
    TrainerState,
    copy_parameters,
    new_state,
    resume_state,
)

SURELY_DRAWN = 20  # steps in which a method that draws what it trains has drawn something; in fewer it may have not
HELD_OUT = "held_out"  # the slice of train by whose score a checkpoint is chosen, where it is not the dev set's


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
    train, held_out = hold_out(data.train, data.task.name)
    teacher = None if data.teacher is None else replace(data.teacher, examples=train)
    return replace(data, train=take(data.train, train), held_out=take(data.train, held_out), teacher=teacher)


@dataclass(frozen=True)
class Parameters:
    """A model's parameters by their part in training, listed once: to walk through a small model takes its time."""

    all: list[nn.Parameter]
    groups: list[ParameterGroup]  # what the optimizer moves
    clipped: list[nn.Parameter]  # whose gradients count in the norm that is clipped

    @cached_property
    def trained(self) -> list[nn.Parameter]:
        """What the optimizer moves, whatever the groups."""
        return [parameter for group in self.groups for parameter in group.parameters]


def parameters_of(method, model: nn.Module) -> Parameters:
    """The lists that a method makes of its model's parameters."""
    groups, clipped = parameter_groups(method.parameters(model)), parameter_groups(method.clipped_parameters(model))
    parameters = Parameters(list(model.parameters()), groups, [p for group in clipped for p in group.parameters])
    if not all(parameter.requires_grad for parameter in parameters.trained):
        raise UserError("parameters(): a parameter is frozen, as those of the teacher are; leave it out")
    return parameters


def batches_per_epoch(settings: LoopSettings, examples: int) -> int:
    return math.ceil(examples / settings.batch_size)


def planned_steps(settings: LoopSettings, examples: int) -> int:
    """How many optimizer steps the settings plan, over so many training examples."""
    steps = math.ceil(
        round(settings.epochs * batches_per_epoch(settings, examples), 6)
    )  # 1.1 · 50 is 55, not 55.00000000000001
    return min(steps, settings.max_steps or steps)


def evaluation_steps(settings: LoopSettings, examples: int, steps: int) -> set[int]:
    """After which of a run's `steps` it is evaluated; the last is always among them."""
    if settings.evaluations:
        return {math.ceil(steps * i / settings.evaluations) for i in range(1, settings.evaluations + 1)}
    every = settings.evaluate_every or batches_per_epoch(settings, examples)
    return {*range(every, steps, every), steps}


def learning_rate(settings: LoopSettings, step: int, steps: int) -> float:
    """Linear warm-up from 0, then linear decay to 0 at `steps` (transformers' get_linear_schedule_with_warmup)."""
    rise = int(settings.warmup * steps)
    scale = step / max(1, rise) if step < rise else (steps - step) / max(1, steps - rise)
    return settings.learning_rate * scale


def fit(
    method: Method,
    model: nn.Module,
    data: TaskData,
    settings: LoopSettings,
    seed: int,
    hardware: Hardware,
    checkpoint: Checkpoint,
    steps: int | None = None,
) -> TrainerState:
    """Train `model` for `steps` (those that the settings plan) and leave it with the parameters of its best score.

    The score is that of `data.chosen_by`. A loss that is not finite ends the run; the best parameters so far stay. A
    run that was killed goes on from its checkpoint, on a CPU bit-equal. A method that trains nothing is scored once.
    Stopped, with a checkpoint, where the process has to end before the run.
    """
    prepare_for_device(model, hardware.device).train()
    parameters = parameters_of(method, model)
    trained = parameters.trained
    if not trained:
        return _evaluate_only(method, model, data, settings, hardware)
    optimizer = make_optimizer(parameters.groups, settings)
    steps = steps or planned_steps(settings, len(data.train))
    evaluations = evaluation_steps(settings, len(data.train), steps)

    # go on from the checkpoint of a run that was stopped, or begin
    state = resume_state(checkpoint.file, trained, optimizer, hardware.device) or new_state(trained, hardware.device)
    state.micro_batch = state.micro_batch or settings.batch_size
    expenses, keeper = Expenses(state, hardware.device), StateKeeper(checkpoint)
    last = state.step if _is_over(settings, state, steps) else steps
    begin_progress(state.step, steps)

    def state_to_keep() -> dict[str, Any]:
        return {"trainer": vars(state) | {"energy_joules": expenses.meter.read()}}

    # a batch: ids, masks and token types (batch, length), labels (batch,), what the teacher says of them
    for batch in training_batches(data, settings, seed, hardware.device, state.step, last):
        # the method may change its model before each step, as Theseus does with its replacing rate
        method.on_step_begin(state.step)

        # forward, backward, clip, update
        rate = learning_rate(settings, state.step, steps)
        with count_flops(state.training_flops, is_observed(state.step, steps)):
            loss, state.micro_batch = train_step(
                method, model, batch, optimizer, parameters, rate, settings, hardware, state.micro_batch
            )
            state.loss_sum += loss  # ()
        state.step += 1
        expenses.note_step()

        # evaluate, keep the best parameters
        if state.step in evaluations:
            _evaluate(method, model, data, settings, hardware, trained, state)
            expenses.note_evaluation()
        update_progress(state.step, rate, state.curve[-1] if state.curve else {})

        # checkpoint: in intervals, before the process has to end, and for predictions that may not end in time either
        is_over, where = _is_over(settings, state, steps), f"step {state.step} of {steps}"
        keeper.after_step(where, trained, optimizer, state_to_keep, at_once=is_over and keeper.expects_stop)

        # stop where nothing is finite or nothing has got better for long
        if is_over:
            break

    # the best parameters are the run's
    check_gradients(optimizer, state)
    copy_parameters(trained, state.best_parameters)
    return state


def check_gradients(optimizer: torch.optim.Optimizer, state: TrainerState) -> None:
    """UserError if no trained parameter has had a gradient, in more steps than chance may give none."""
    if not optimizer.state and state.step >= SURELY_DRAWN:  # AdamW's, of the parameters that it has moved
        raise UserError(
            "no trained parameter ever had a gradient: loss() detaches what it computes, or does not use what "
            "parameters() gives"
        )


def _is_over(settings: LoopSettings, state: TrainerState, steps: int) -> bool:
    """Whether there is nothing left to train: all steps done, or no use in more."""
    is_stuck = state.evaluations_without_improvement >= (settings.patience or math.inf)
    return state.step == steps or bool(state.divergence) or is_stuck


def _evaluate_only(method, model, data, settings, hardware) -> TrainerState:
    """A method that trains nothing is scored once."""
    state, meter = new_state([], hardware.device), EnergyMeter(hardware.device)
    _evaluate(method, model, data, settings, hardware, [], state)
    state.energy_joules = meter.read()
    return state


def make_optimizer(groups: list[ParameterGroup], settings: LoopSettings) -> torch.optim.Optimizer:
    """AdamW with bias correction over `groups`; biases and layer norms (one-dimensional) do not decay."""
    halves = []
    for group in groups:
        decay = settings.weight_decay if group.weight_decay is None else group.weight_decay
        matrices, vectors = ([p for p in group.parameters if (p.ndim > 1) == is_matrix] for is_matrix in (True, False))
        halves.append({"params": matrices, "weight_decay": decay, "rate_factor": group.rate_factor})
        halves.append({"params": vectors, "weight_decay": 0.0, "rate_factor": group.rate_factor})
    return torch.optim.AdamW([h for h in halves if h["params"]], lr=settings.learning_rate, eps=1e-8, fused=True)


@torch.inference_mode()
def predict(model: nn.Module, split: Split, pad: int, hardware: Hardware) -> np.ndarray:
    """Logits (examples, outputs) float32 of the model on a split, without dropout."""
    was_training = model.training
    model.eval()
    logits, outputs = np.empty((len(split), model.config.num_labels), np.float32), []
    for examples in token_budget_batches(split):
        batch = to_tensors(collate(split, examples, pad), hardware.device)
        with autocast(hardware.device, hardware.precision):
            outputs.append((examples, model(**model_inputs(model, batch)).logits.float()))
    for examples, values in outputs:  # only now, as the processor waits for a GPU here
        logits[examples] = values.cpu().numpy()
    model.train(was_training)
    return logits


def compute_gradients(method, model, batch, micro_batch, parameters, hardware) -> torch.Tensor:
    """Leave each parameter's gradient of the loss on a batch, at most `micro_batch` examples at once; the loss.

    A processor computes parts of like lengths. A GPU gets batches whole: its compiled layers want few shapes, and small
    parts leave it idle.
    """
    for parameter in parameters:
        parameter.grad = None  # writing zeros, and adding to them, would cost a pass over the model each
    by_length = hardware.device.type == "cpu" and not method.relates_examples
    losses = []
    for part, share in parts_of(batch, micro_batch, by_length):
        with autocast(hardware.device, hardware.precision):
            loss = method.loss(model, part)  # ()
        loss = loss if share == 1 else loss * share
        if loss.requires_grad:
            loss.backward()
        losses.append(loss.detach())
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def train_step(
    method, model, batch, optimizer, parameters, rate, settings, hardware, micro_batch
) -> tuple[torch.Tensor, int]:
    """One optimizer step, of at most `micro_batch` examples at once; the loss, detached, and how many fitted.

    A parameter without a part in these forward passes, but with one in an earlier step's, gets a gradient of zeros, so
    that it is still moved by its momentum, as in the paper's code. A loss without a graph (no trained parameter took
    part) has no backward pass.
    """

    # forward and backward
    def attempt(size: int) -> torch.Tensor:
        return compute_gradients(method, model, batch, size, parameters.all, hardware)

    if method.relates_examples:
        loss = attempt(micro_batch)
    else:
        loss, micro_batch = fit_in_memory(attempt, micro_batch, hardware.device)

    # clip
    gradients = [p.grad for p in parameters.clipped if p.grad is not None]
    nn.utils.clip_grads_with_norm_(parameters.trained, settings.clip_norm, nn.utils.get_total_norm(gradients))
    for parameter in parameters.trained:
        if parameter.grad is None and parameter in optimizer.state:
            parameter.grad = torch.zeros_like(parameter)

    # update
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
    optimizer.step()
    return loss, micro_batch


def training_batches(
    data: TaskData, settings: LoopSettings, seed: int, device: torch.device, first: int, steps: int
) -> Iterator[dict[str, torch.Tensor]]:
    """The batches of step `first` (from 0) up to `steps`."""
    batches = batches_per_epoch(settings, len(data.train))
    epoch, order = -1, []
    for step in range(first, steps):
        if step // batches != epoch:
            epoch = step // batches
            order = shuffled_batches(len(data.train), data.task.name, seed, epoch, settings.batch_size)
        yield training_batch(data, order[step % batches], device)


def training_batch(data: TaskData, examples: np.ndarray, device: torch.device) -> Batch:
    """Of these examples input_ids, attention_mask, token_type_ids (batch, length), labels (batch,), teacher outputs."""
    arrays = collate(data.train, examples, data.pad, padded_length(device))
    if not data.task.regression:
        arrays["labels"] = arrays["labels"].astype(np.int64)
    if data.teacher is not None:
        arrays |= data.teacher.take(examples)
    return Batch(to_tensors(arrays, device))


def _evaluate(method, model, data, settings, hardware, trained, state: TrainerState) -> None:
    """Score the splits to choose by, keep the parameters if they are the best yet, and lengthen the curve."""
    epoch = state.step / batches_per_epoch(settings, len(data.train))
    entry = {"step": state.step, "epoch": epoch, "loss": state.mean_loss}
    state.loss_sum.zero_()
    check_training_mode(model, trained)
    if not math.isfinite(entry["loss"]):
        state.divergence = f"diverged: the loss was no longer finite before step {state.step}"
        return
    with count_flops(state.evaluation_flops, observed=not state.curve):  # the later ones are of the same examples
        values = measure_splits(model, data, data.chosen_by, hardware)
        dev = measure_splits(model, data, data.dev, hardware) if settings.watch_dev and data.held_out else {}
    result = score(values)
    if not math.isfinite(result):
        state.divergence = f"diverged: the outputs were no longer finite at step {state.step}"
        return
    better = result > state.best_score
    if better:
        state.best_score, state.best_step = result, state.step
        copy_parameters(state.best_parameters, trained)
    worse = not better and method.allow_early_stopping()
    state.evaluations_without_improvement = state.evaluations_without_improvement + 1 if worse else 0
    dev_score = {"dev_score": score(dev)} if dev else {}
    metrics = {f"{split}/{metric}": value for (split, metric), value in (values | dev).items()}
    state.curve.append(entry | {"score": result} | dev_score | metrics | method.metrics_to_log())


def check_training_mode(model: nn.Module, trained: list[nn.Parameter]) -> None:
    """UserError if a module whose parameters are trained was left in evaluation mode, in which dropout is off."""
    identities = {id(parameter) for parameter in trained}
    for name, module in model.named_modules():
        if not module.training and any(id(p) in identities for p in module.parameters(recurse=False)):
            raise UserError(f"{name or 'the model'} is trained, but was left in evaluation mode; call train() on it")


def measure_splits(
    model: nn.Module, data: TaskData, splits: dict[str, Split], hardware: Hardware
) -> dict[tuple[str, str], float]:
    """Every (split, metric) of the model on these splits of a task."""
    logits = {name: predict(model, split, data.pad, hardware) for name, split in splits.items()}
    return measure_task(data.task, logits, {name: split.labels for name, split in splits.items()})
