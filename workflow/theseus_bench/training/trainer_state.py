"""How far a training has come, and the file from which it goes on after a stop."""

from __future__ import annotations

import hashlib
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from theseus_bench.files import atomic
from theseus_bench.modeling.energy import EnergyMeter
from theseus_bench.modeling.flops import new_count
from theseus_bench.stopping import Deadline, Stopped

CHECKPOINTS = Path(".cache/checkpoints")  # a folder in it for each training
CHECKSUM_SIZE = 65  # bytes of the line that a checkpoint begins with
STATE_VERSION = 3  # of what a run's checkpoint holds, to be raised with it: one of another version is not read


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its state, and how often."""

    folder: Path  # of this training alone
    every: float  # seconds

    @property
    def file(self) -> Path:
        return self.folder / "state.pt"

    def discard(self) -> None:
        """Remove it, once the training's result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class TrainerState:
    """How far a run has come: all of it is in the run's checkpoint."""

    best_parameters: list[torch.Tensor]  # of the best score; before the first evaluation those that it began with
    loss_sum: torch.Tensor  # (), over the steps since the last evaluation
    step: int = 0
    best_step: int = 0
    best_score: float = -math.inf
    evaluations_without_improvement: int = 0
    seconds: float = 0.0  # spent training and evaluating, those before a stop included
    evaluation_seconds: float = 0.0  # of these, spent evaluating
    seconds_before_resume: float = 0.0  # of these, spent before the last stop
    resumes: int = 0
    micro_batch: int = 0  # examples that go through the model at once, at most: as many as fit; 0 before the first step
    divergence: str = ""  # when and in what the run has diverged; "" if it has not
    energy_joules: float | None = 0.0  # over `seconds`; None where it cannot be measured
    training_flops: dict[str, int] = field(default_factory=new_count)
    evaluation_flops: dict[str, int] = field(default_factory=new_count)
    curve: list[dict[str, Any]] = field(default_factory=list)

    @property
    def mean_loss(self) -> float:
        """Over the steps since the last evaluation. A processor waits here for its GPU."""
        steps = self.step - (self.curve[-1]["step"] if self.curve else 0)
        return float(self.loss_sum) / max(1, steps)


class Expenses:
    """The seconds and joules that a training spends, those before a stop included, noted in its state."""

    def __init__(self, state: TrainerState, device: torch.device) -> None:
        self.state, self.start_time = state, time.monotonic() - state.seconds
        self.meter = EnergyMeter(device, state.energy_joules)

    def note_step(self) -> None:
        """Note what has been spent so far; the energy, which takes time to read, once a minute."""
        self.state.seconds = time.monotonic() - self.start_time
        self.state.energy_joules = self.meter.read(at_most_every=60.0)

    def note_evaluation(self) -> None:
        """Note what has been spent so far, and since the last note on an evaluation."""
        seconds = time.monotonic() - self.start_time
        self.state.evaluation_seconds += seconds - self.state.seconds
        self.state.seconds, self.state.energy_joules = seconds, self.meter.read()


class StateKeeper:
    """Keeps a training's state: in intervals, where it is asked to, and before the process has to end."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.deadline = checkpoint, Deadline()
        self.save_time = time.monotonic()

    @property
    def expects_stop(self) -> bool:
        """Whether a stop is likely: there was a checkpoint already, or the process has a deadline."""
        return self.checkpoint.file.is_file() or self.deadline.end < math.inf

    def after_step(
        self,
        where: str,
        parameters: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        others: Callable[[], dict[str, Any]],
        at_once: bool = False,
    ) -> None:
        """Save the state if it is time to, or `at_once`; Stopped, which says `where`, if the process has to end.

        `others` gives what `save_state` is to keep beside parameters and optimizer.
        """
        reason = self.deadline.reason_to_stop()
        if reason or at_once or time.monotonic() - self.save_time >= self.checkpoint.every:
            save_state(self.checkpoint.file, parameters, optimizer, **others())
            self.save_time = time.monotonic()
        if reason:
            raise Stopped(f"stopped at {where}, {reason}; the same command goes on from there")


def new_state(parameters: list[nn.Parameter], device: torch.device) -> TrainerState:
    """The state before the first step."""
    return TrainerState([p.detach().clone() for p in parameters], torch.zeros((), device=device))


def resume_state(file: Path, parameters: list[nn.Parameter], optimizer, device: torch.device) -> TrainerState | None:
    """The state in a checkpoint, with parameters, optimizer and generators put back; None where there is none."""
    saved = restore_state(file, parameters, optimizer, device)
    if saved is None:
        return None
    state = TrainerState(**saved["trainer"])
    state.resumes += 1
    state.seconds_before_resume = state.seconds
    return state


def save_state(file: Path, parameters: list[nn.Parameter], optimizer, **others: Any) -> None:
    """Write a checkpoint: parameters, optimizer and torch's generators, and the caller's `others`.

    The file begins with a line, the checksum of the rest.
    """
    state = {
        "parameters": [p.detach() for p in parameters],
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(parameters[0].device) if parameters[0].is_cuda else None,
    }
    with atomic(file) as scratch, scratch.open("w+b") as stream:
        stream.write(bytes(CHECKSUM_SIZE))
        torch.save(state | others, stream)
        checksum = _checksum_of_rest(stream)
        stream.seek(0)
        stream.write(checksum)


def restore_state(file: Path, parameters: list[nn.Parameter], optimizer, device: torch.device) -> dict[str, Any] | None:
    """Put parameters, optimizer and torch's generators back as a checkpoint has them; all that is in it.

    None where there is no file. One that is not what was written is set aside, with a line on standard error that says
    so, and None: the training begins anew.
    """
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        is_whole = stream.read(CHECKSUM_SIZE) == _checksum_of_rest(stream)
        stream.seek(CHECKSUM_SIZE)
        state = torch.load(stream, map_location=device, weights_only=True) if is_whole else None
    if state is None:
        aside = file.replace(file.with_suffix(".damaged"))
        print(f"{file}: damaged; it is set aside as {aside.name}, and the training begins anew", file=sys.stderr)
        return None
    copy_parameters(parameters, state["parameters"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"].cpu())
    if state["random_cuda"] is not None:
        torch.cuda.set_rng_state(state["random_cuda"].cpu(), device)
    return state


def _checksum_of_rest(stream: BinaryIO) -> bytes:
    """The line that a checkpoint begins with, by what follows it."""
    stream.seek(CHECKSUM_SIZE)
    return hashlib.file_digest(stream, "sha256").hexdigest().encode() + b"\n"


@torch.no_grad()
def copy_parameters(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
