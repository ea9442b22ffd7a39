"""What a suite takes, before it begins: runs, steps, time on a device, disk and downloads."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import suggest
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.run_names import TRIAL, RunName
from theseus_bench.suite.status import state
from theseus_bench.suite.workload import Workload
from theseus_bench.wording import count_noun, duration

# Dense bf16 operations a second, as their makers give them (P100, V100 and T4: fp16).
GPUS = {
    "p100": 21e12, "v100": 125e12, "t4": 65e12, "l4": 121e12, "a10": 125e12, "rtx3090": 71e12, "rtx4090": 165e12,
    "a100": 312e12, "l40s": 362e12, "h100": 989e12, "h200": 989e12,
}  # fmt: skip
GPU_SHARE = 0.2  # of these that training at GLUE's lengths reaches; assumed, not measured
PROCESSOR_SHARE = 0.35  # of a large product of matrices on one thread, likewise
RUN_SECONDS = 5.0  # of a run beside what it computes: to import, to read, to write
LONG = 7 * 86400.0  # seconds that few would wait on a machine without a GPU
ROW_BYTES, TOKEN_BYTES = 40, 2  # of a predicted example and of an encoded token
Cell = tuple[str, str]  # a method with its variant, and a task


@dataclass(frozen=True)
class Throughput:
    """Operations a second that training reaches on a device."""

    operations: float
    device: str  # 'processor thread', 'a100'
    source: str  # how it is known


@dataclass(frozen=True)
class Cost:
    """What is left of a suite, whose results are in `folder`, and what it takes on this machine or on a named GPU."""

    plan: Plan
    folder: Path
    gpu: str | None = None
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)  # of this machine that its runs may have
    runs: tuple[Run, ...] | None = None  # to train now; by default all that have no sound record

    @cached_property
    def records(self) -> dict[str, RunRecord]:
        """The sound records that are there, by the run's path."""
        states = ((run.path, state(self.plan, run, self.folder, remember=False)) for run in self.plan.runs.values())
        return {path: record for path, (_, _, record) in states if record is not None}

    @cached_property
    def runs_left(self) -> list[Run]:
        """The runs to train."""
        if self.runs is not None:
            return list(self.runs)
        return [run for run in self.plan.runs.values() if run.path not in self.records]

    @cached_property
    def workload(self) -> Workload:
        """How much the runs compute."""
        return Workload(self.plan, self.folder)

    @cached_property
    def throughput(self) -> Throughput:
        """Of the named GPU, by its data sheet; else of this processor: by finished runs, or as measured now."""
        if self.gpu is not None:
            if self.gpu not in GPUS:
                raise UserError(f"plan: --gpu: there is no {self.gpu!r}{suggest(self.gpu, GPUS)}")
            source = f"{GPU_SHARE:.0%} of its data sheet's peak, not measured"
            return Throughput(GPUS[self.gpu] * GPU_SHARE, self.gpu, source)
        rates = [
            record.flops["training"] / (record.seconds["training"] - record.seconds["evaluating"]) / record.threads
            for record in self.records.values()
            if record.device == "cpu" and record.flops and record.flops["training"] and record.steps_per_second
        ]
        if rates:
            source = f"by {count_noun(len(rates), 'finished run')}"
            return Throughput(statistics.median(rates), "processor thread", source)
        return Throughput(_measure_processor(), "processor thread", "by a product of matrices")

    @cached_property
    def device_seconds(self) -> float:
        """Of all runs that are left, on one device: as long as finished runs of their kind took, or as is estimated."""
        times = defaultdict(list)
        for record in self.records.values() if self.gpu is None else []:
            if record.device.startswith("cuda") != self.plan.wants_gpu:
                continue
            name = RunName.of(record.method, record.variant).without(TRIAL)
            times[str(name), record.task].append(record.seconds["all"])
        speed = self.throughput.operations * (1 if self.gpu else self.plan.suite.threads)
        gpu, seconds = self.gpu is not None, 0.0
        for run in self.runs_left:
            known = times.get(_cell(run))
            operations = [self.workload.operations(run, run.settings | trial, gpu) for trial in run.trials or ({},)]
            seconds += statistics.mean(known) if known else RUN_SECONDS + max(operations) / speed
        return seconds

    @property
    def machine_seconds(self) -> float:
        """Of all runs that are left, side by side on this machine's processor."""
        return self.device_seconds / max(1, self.cores // self.plan.suite.threads)

    @property
    def disk_bytes(self) -> float:
        """Of what the whole suite keeps: models, predictions, encoded tables, the predecessors' outputs."""
        plan, workload, runs = self.plan, self.workload, self.plan.runs.values()
        shape, tasks = workload.shape, self.plan.suite.tasks
        kept = [run.settings["layers"] for run in runs if run.spec.trained and plan.keeps_model(run)]
        total = 4.0 * sum(map(shape.parameters, [plan.suite.backbone.layers, *kept]))
        total += TOKEN_BYTES * sum(workload.tokens(task, split) for task in tasks for split in plan.tasks[task].splits)
        for run in runs:
            for task in plan.predicted_with(run.task.name):
                splits = [split for split in plan.tasks[task].splits if split != "train"]
                total += ROW_BYTES * sum(workload.rows(task, split) for split in splits)
        sources = {plan.teacher_outputs_of(run): run.task.name for run in runs if "teacher_outputs" in run.needs}
        outputs = sum(workload.rows(task, "train") for task in sources.values())
        return total + 2.0 * shape.hidden * plan.suite.student_layers * outputs

    def describe(self) -> list[str]:
        """Lines on runs, steps, time, disk and downloads."""
        steps = sum(self.workload.steps(run, run.settings) for run in self.runs_left)
        done, left = (count_noun(len(runs), "run") for runs in (self.records, self.runs_left))
        lines = [f"done: {done}; left: {left}, {steps:,} steps"]
        if self.runs_left:
            lines.append(f"time: {self.describe_time()}")
        lines.append(f"disk: {self.disk_bytes / 1e9:.1f} GB, with all models that are kept")
        names = [source.name for source in (self.plan.suite.data, self.plan.suite.backbone) if source.source == "hub"]
        names += [compact.name for compact in self.plan.suite.compact.values() if compact.source == "hub"]
        fetched = (
            f"{', '.join(map(str, names))}; theseus-bench prefetch --dry-run lists their files" if names else "none"
        )
        return [*lines, f"downloads: {fetched}"]

    def describe_time(self) -> str:
        """How long the runs that are left take: '21 h of one processor thread, 11 h on this machine (…)'."""
        device, source = self.throughput.device, self.throughput.source
        if not self.workload.is_shape_known:
            source += "; widths as BERT-base's"  # until the backbone is here
        if self.gpu is not None:
            return f"{duration(self.device_seconds)} of one {device} ({source})"
        text = f"{duration(self.device_seconds * self.plan.suite.threads)} of one {device} ({source})"
        text += f", {duration(self.machine_seconds)} on {self.cores} of them"
        if self.machine_seconds > LONG and self.plan.suite.backbone.source == "hub":
            text += "; config/minilm.yaml and config/demo.yaml are made for a machine without a GPU"
        return text


def _cell(run: Run) -> Cell:
    """The runs that take as long: those of a method on a task, whatever the seed, and what its search tries."""
    return str(run.run_name.without(TRIAL)), run.task.name


def _measure_processor() -> float:
    """Operations a second that training reaches on one thread, judged by a product of matrices."""
    matrix, times = np.ones((768, 768), np.float32), []
    for _ in range(3):
        start_time = time.process_time()  # of all threads together
        matrix @ matrix
        times.append(time.process_time() - start_time)
    return float(PROCESSOR_SHARE * 2 * 768**3 / max(min(times), 1e-6))
