"""A method that is a command of its own, in whatever language: the job that it is given, and what it has to leave.

The contract, for authors, is in docs/adding-a-method.md. The command is given the path of a job.json. It trains as that
says and leaves, in the job's output folder, a model, the logits that it predicts, and a report of its training. The
suite predicts with the model itself, and refuses the run where the two differ: what counts is what the model can do.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import nn

from theseus_bench.data.parquet import Split
from theseus_bench.errors import UserError
from theseus_bench.files import read_json, write_json
from theseus_bench.modeling.architectures import FAMILIES
from theseus_bench.modeling.checkpoints import load_classifier
from theseus_bench.modeling.devices import Hardware
from theseus_bench.stopping import Deadline, Stopped, end_with_parent
from theseus_bench.strict_yaml import Strict, parse
from theseus_bench.suite.checkpoint_files import check_checkpoint_files
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.suite.plan import Run
from theseus_bench.training.loop import TaskData
from theseus_bench.training.method import RunContext
from theseus_bench.training.trainer_state import TrainerState, new_state

CONTRACT = 1  # raised where a command of before would no longer do
POLL_SECONDS = 0.1  # between two looks at a command that runs
GRACE_SECONDS = 20.0  # that it has to end by itself when it is asked to stop
LOGIT_TOLERANCE = 1e-3  # between a command's logits and the suite's, of the same weights in fp32


class Evaluation(Strict):
    """An evaluation in a command's report."""

    step: int = Field(ge=1)  # optimizer steps done
    loss: float  # mean over the steps since the evaluation before
    score: float = Field(ge=-1, le=1)  # on the splits of the job's choose_by


class CommandReport(Strict):
    """The report.json that a command leaves."""

    contract: Literal[1]
    steps: int = Field(ge=1)  # optimizer steps that were taken
    best_step: int = Field(ge=0)  # after which the model was as it is now; 0 for the one that it began with
    evaluations: list[Evaluation]
    divergence: str = ""  # when and in what the training has diverged, if it has


class Calls(Strict):
    """What the calls of a command have taken that were stopped."""

    number: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class CommandJob:
    """A run that the command of its method makes, in `folder`."""

    run: Run
    context: RunContext
    data: TaskData
    predicted: dict[str, Split]  # what it is to predict, by name
    hardware: Hardware
    run_folder: Path
    checkpoints: Path  # a folder in which the command may keep its state; it stays until the run has its record

    def execute(self) -> tuple[TrainerState, nn.Module]:
        """Call the command: the state in which it says to have ended, and the model that it has left.

        Stopped, if this process has to end before; called again, the command finds what it has kept. UserError if it
        fails, or leaves anything else than the contract asks for.
        """
        start_time, before = time.monotonic(), self._read_calls()
        for folder in self.run_folder.glob("job-*"):  # of a run that was killed, whose program may yet write
            shutil.rmtree(folder, ignore_errors=True)
        self.write()
        try:
            self._call()
        except Stopped:
            seconds = before.seconds + time.monotonic() - start_time
            write_json(self._calls_file, Calls(number=before.number + 1, seconds=seconds).model_dump())
            raise
        report = self._read_report()
        state = new_state([], self.hardware.device)
        state.step, state.best_step, state.divergence = report.steps, report.best_step, report.divergence
        state.best_score = max((one.score for one in report.evaluations if one.step == report.best_step), default=-1.0)
        state.resumes, state.seconds_before_resume = before.number, before.seconds
        state.seconds = before.seconds + time.monotonic() - start_time
        state.energy_joules = None
        per_epoch = math.ceil(len(self.data.train) / self.run.settings["batch_size"])
        state.curve = [{"epoch": one.step / per_epoch} | one.model_dump() for one in report.evaluations]
        return state, self._load_model()

    def check_logits(self, logits: dict[str, np.ndarray]) -> None:
        """UserError unless the command's own logits are those (examples, outputs) that its model gives here."""
        file = self.output / "predictions.parquet"
        own = _read_logits(file, self.predicted, self.run.task.outputs)
        for split, expected in logits.items():
            difference = float(np.abs(own[split] - expected).max())
            if not difference <= LOGIT_TOLERANCE:
                raise UserError(
                    f"{file}: {split}: up to {difference:.3g} away from the logits that the saved model gives; predict "
                    "with the model that is saved, without dropout, in fp32"
                )

    def remove(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """A scratch folder of this call's own."""
        return self.run_folder / f"job-{os.getpid()}"

    @property
    def _calls_file(self) -> Path:
        return self.checkpoints.with_suffix(".calls")

    def _read_calls(self) -> Calls:
        """What the calls before this one have taken."""
        return parse(Calls, read_json(self._calls_file), "calls") if self._calls_file.is_file() else Calls()

    @property
    def output(self) -> Path:
        """Where the command leaves what it makes."""
        return self.folder / "output"

    @property
    def words(self) -> list[str]:
        """The command, with the path of its job."""
        return [*(self.run.spec.command or []), str((self.folder / "job.json").resolve())]

    def write(self) -> None:
        """Write job.json and the tables that it names."""
        self.output.mkdir(parents=True)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        task, context = self.run.task, self.context
        chosen_by = {name: self._write_split(split, f"choose_by-{name}") for name, split in self.data.chosen_by.items()}
        tables = enumerate(self.predicted.items())
        job = {
            "contract": CONTRACT,
            "method": self.run.spec.name,
            "task": task.model_dump(include={"name", "labels", "metrics"}) | {"outputs": task.outputs},
            "seed": self.run.seed,
            "settings": self.run.settings,
            "steps": context.steps,
            "device": self.hardware.device.type,
            "threads": torch.get_num_threads(),
            "pad": int(self.data.pad),
            "train": self._write_split(self.data.train, "train"),
            "choose_by": chosen_by,
            "predict": {name: self._write_split(split, f"predict-{n}", False) for n, (name, split) in tables},
            "backbone": _absolute(context.backbone_folder),
            "predecessor": _absolute(context.predecessor_folder),
            "compact": _absolute(context.compact_folder),
            "source": _absolute(context.source_folder),
            "checkpoints": _absolute(self.checkpoints),
            "output": _absolute(self.output),
        }
        write_json(self.folder / "job.json", job)

    def _write_split(self, split: Split, name: str, with_labels: bool = True) -> str:
        """Write a split as a table: idx, input_ids, token_type_ids and, unless they are withheld, label; its path."""
        starts, lengths, firsts = (split.rows[key].astype(np.int64) for key in ("start", "length", "first"))
        places = np.concatenate([np.arange(a, a + n) for a, n in zip(starts, lengths, strict=True)])
        types = np.concatenate([np.arange(n) >= first for n, first in zip(lengths, firsts, strict=True)])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        columns = {
            "idx": pa.array(split.rows["idx"]),
            "input_ids": pa.ListArray.from_arrays(offsets, pa.array(split.tokens[places].astype(np.int32))),
            "token_type_ids": pa.ListArray.from_arrays(offsets, pa.array(types.astype(np.int32))),
        }
        columns |= {"label": pa.array(split.labels)} if with_labels else {}
        file = self.folder / f"{name}.parquet"
        pq.write_table(pa.table(columns), file)
        return _absolute(file) or ""

    def _call(self) -> None:
        """Run the command in the method's folder, its output among this process's own, and wait for it."""
        program, errors = shlex.join(self.words[:-1]), self.folder / "errors.log"
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        folder, parent = METHODS_FOLDER / self.run.spec.name, os.getpid()
        try:
            with errors.open("wb") as stream:
                process = subprocess.Popen(
                    self.words,
                    cwd=folder,
                    env=environment,
                    stderr=stream,
                    start_new_session=True,  # an interrupt is for the run, which asks the program to end
                    preexec_fn=lambda: end_with_parent(parent),
                )
        except OSError as error:
            raise UserError(f"{folder}/method.yaml: command: {program}: {error.strerror}") from None
        try:
            self._wait(process)
        finally:
            text = errors.read_text(encoding="utf-8", errors="replace")
            sys.stderr.write(text)
        if process.returncode:
            lines = text.strip().splitlines()
            last = f": {lines[-1].strip()}" if lines else ""
            raise UserError(f"{folder}: {program}: it ended with exit code {process.returncode}{last}")

    def _wait(self, process: subprocess.Popen) -> None:
        """Wait for the command; Stopped, with the command ended, where this process has to end before it."""
        deadline = Deadline()
        while process.poll() is None:
            reason = deadline.reason_to_stop()
            if reason:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                raise Stopped(f"stopped in its command, {reason}; the same command goes on from what that has kept")
            try:
                process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        reason = deadline.reason_to_stop()
        if process.returncode and reason:  # a scheduler ends the processes of a job all at once
            raise Stopped(f"stopped in its command, {reason}; the same command goes on from what that has kept")

    def _read_report(self) -> CommandReport:
        file = self.output / "report.json"
        if not file.is_file():
            raise UserError(f"{file}: the command has left no such file")
        report = parse(CommandReport, read_json(file, "write it as the contract says"), str(file))
        if report.steps > self.context.steps:
            raise UserError(f"{file}: {report.steps} steps, but the job has {self.context.steps}")
        steps = [one.step for one in report.evaluations]
        if steps != sorted(set(steps)) or (steps and steps[-1] > report.steps):
            raise UserError(f"{file}: evaluations: their steps are to rise, up to {report.steps}")
        if not steps and not report.divergence:
            raise UserError(f"{file}: evaluations: there is none; one at least, unless it has diverged")
        if report.best_step not in (steps or [0]):
            raise UserError(f"{file}: best_step is {report.best_step}, which is none of the evaluations'")
        return report

    def _load_model(self) -> nn.Module:
        """The model that the command has left, with the backbone's vocabulary."""
        folder = self.output / "model"
        check_checkpoint_files(folder, str(folder))
        try:
            model = load_classifier(folder, self.run.task)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{folder}: transformers cannot load it: {str(error).splitlines()[0]}") from None
        if model.config.model_type not in FAMILIES:
            raise UserError(f"{folder}: of type {model.config.model_type}; expected one of {', '.join(FAMILIES)}")
        backbone = read_json(self.context.backbone_folder / "config.json")
        for key in ("vocab_size", "max_position_embeddings"):
            if getattr(model.config, key) < backbone[key]:
                raise UserError(
                    f"{folder}: {key} is {getattr(model.config, key)}, but the backbone's is {backbone[key]}"
                )
        return model


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _read_logits(file: Path, predicted: dict[str, Split], outputs: int) -> dict[str, np.ndarray]:
    """The logits (examples, outputs) of each split, in its order; UserError unless each example has them once."""
    if not file.is_file():
        raise UserError(f"{file}: the command has left no such file")
    try:
        table = pq.read_table(file, columns=["split", "idx", "logits"])
        splits = np.asarray(table["split"].cast("string"))
        idx = table["idx"].cast(pa.int64()).to_numpy().astype(np.int64)
        rows = [np.asarray(row, dtype=np.float32) for row in table["logits"].to_pylist()]
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError) as error:
        fault = str(error).splitlines()[0]
        raise UserError(f"{file}: expected columns split, idx and logits (a list of numbers): {fault}") from None
    by_split = {}
    for name, split in predicted.items():
        places = {int(number): place for place, number in enumerate(idx) if splits[place] == name}
        own = [places.get(int(number)) for number in split.rows["idx"]]
        count = int((splits == name).sum())
        if None in own or count != len(split):
            raise UserError(f"{file}: {name}: {count} rows; expected one for each of its {len(split)} examples, by idx")
        logits = [rows[place] for place in own]
        if any(row.shape != (outputs,) for row in logits):
            raise UserError(f"{file}: {name}: expected {outputs} logits for each example")
        by_split[name] = np.stack(logits)
    return by_split
