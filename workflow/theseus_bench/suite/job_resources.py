"""What a job asks of a cluster, memory and time: by the figures of finished runs of its kind, else by what it computes.

The estimates are made to be too high rather than too low: too little memory or time costs a job, too much a longer wait
in the queue. Nothing here imports torch, as the workflow asks for each job.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from theseus_bench.errors import UserError
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import read_record
from theseus_bench.suite.run_names import TRIAL
from theseus_bench.suite.search import Settings
from theseus_bench.suite.workload import EVALUATION_PADDING, FORWARD, TRAINING, Workload

MIB = 2**20
LIBRARIES = 1200  # MiB of a process that has imported torch, and of the two snakemakes that stand around it in a job
CUDA = 4000  # MiB of CUDA's libraries beside it
TRAINED_BYTES = 20  # of a parameter that is trained: its value, gradient, AdamW's two moments, the best value so far
ACTIVATION_BYTES = 80  # of a token, layer and unit of width, kept for the backward pass
PROCESSOR, GPU = 8e9, 1e13  # operations a second: of one thread, and of a GPU that is not of the newest
START = 10  # minutes to start, to read, and to write


@dataclass(frozen=True)
class Needs:
    """What a job asks for."""

    memory: int  # MiB
    minutes: int


SHORT = Needs(2000, 60)  # of jobs that train nothing and of which no measurement came near this


@dataclass(frozen=True)
class JobResources:
    """What the jobs of a suite need, which has its results in `folder`; `gpu` is whether they compute on one."""

    plan: Plan
    folder: Path
    _figures: dict[str, tuple[str, float, float]] = field(default_factory=dict, init=False, repr=False)
    # What was computed once, since a dry run asks for thousands of jobs.
    _priorities: dict[tuple[str, str], int] = field(default_factory=dict, init=False, repr=False)
    _estimates: dict[tuple[Any, ...], Needs] = field(default_factory=dict, init=False, repr=False)
    _kin: dict[tuple[str, str], list[Run]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def workload(self) -> Workload:
        """How much they compute."""
        return Workload(self.plan, self.folder)

    def of_run(self, run: Run, gpu: bool) -> Needs:
        """To train a run: what the others of its kind took, and half as much again, or what is estimated."""
        figures = [figure for figure in map(self._figure, self._kin_of(run)) if figure is not None]
        figures = [figure for figure in figures if figure[0].startswith("cuda") == gpu]
        estimate = self._estimate(run, gpu)
        if not figures:
            return estimate
        most = max(memory for _, memory, _ in figures)  # of the process alone; on a GPU of the GPU
        memory = estimate.memory if gpu else LIBRARIES // 2 + int(1.5 * most)
        seconds = max(seconds for *_, seconds in figures)
        return Needs(memory, START + math.ceil(1.5 * seconds / 60))

    def of_teacher_outputs(self, run: Run, gpu: bool) -> Needs:
        """To store what a predecessor says of its training set."""
        shape, layers = self.workload.shape, self.plan.suite.backbone.layers
        tokens = EVALUATION_PADDING * self.workload.tokens(run.task.name, "train")
        minutes = self._minutes(FORWARD * layers * shape.layer * tokens, gpu)
        return Needs(self._memory(4 * shape.parameters(layers), gpu), minutes)

    def of_compact(self, method: str, gpu: bool) -> Needs:
        """To distil the compact checkpoint that a method starts from."""
        shape, suite, compact = self.workload.shape, self.plan.suite, self.plan.suite.compact[method]
        layers = suite.backbone.layers
        batch_tokens = compact.batch_size * 128
        held = TRAINED_BYTES * shape.parameters(suite.student_layers) + 4 * shape.parameters(layers)
        held += batch_tokens * (layers * shape.hidden * ACTIVATION_BYTES + 16 * shape.vocabulary)  # the words' logits
        per_token = TRAINING * shape.parameters(suite.student_layers) + FORWARD * shape.parameters(layers)
        operations = (compact.steps + compact.head_steps) * batch_tokens * per_token
        return Needs(self._memory(held, gpu), self._minutes(operations, gpu))

    def of_speed(self, experiment: str, gpu: bool) -> Needs:
        """To measure the shapes of an experiment: all held at once, and the processor always measured."""
        shape, speed = self.workload.shape, self.plan.suite.speed
        depths = {run.settings["layers"] for run in self.plan.experiment_runs(experiment) if run.spec.trained}
        depths.add(self.plan.suite.backbone.layers)
        tokens = [size.batch_size * size.length for size in speed.sizes]
        held = sum(4 * shape.parameters(depth) for depth in depths)
        held += max(tokens) * 4 * (4 * shape.intermediate + 8 * shape.hidden)
        rounds = 10  # those that are always made, with the warm-up and the pass whose memory is looked at
        operations = rounds * sum(tokens) * FORWARD * sum(depth * shape.layer for depth in depths)
        minutes = self._minutes(operations, gpu=False) + 2 * math.ceil(len(tokens) * 2 * speed.seconds / 60)
        return Needs(self._memory(held, gpu), minutes)

    def priority(self, run: Run) -> int:
        """The longer it takes the earlier it starts, and the predecessor that others wait for before them.

        In minutes, as estimated when first asked.
        """
        key = run.name, run.task.name
        if key not in self._priorities:
            self._priorities[key] = self._estimate(run, gpu=False).minutes * (2 if run.spec.role == "teacher" else 1)
        return self._priorities[key]

    def _estimate(self, run: Run, gpu: bool) -> Needs:
        """What the most demanding of the settings that the run may have needs."""
        known = self.workload.backbone_file.is_file(), self.workload.data_file(run.task.name).is_file()
        key = run.name, run.task.name, gpu, known
        if key not in self._estimates:
            each = [self._with_settings(run, run.settings | trial, gpu) for trial in run.trials or ({},)]
            self._estimates[key] = Needs(max(one.memory for one in each), max(one.minutes for one in each))
        return self._estimates[key]

    def _with_settings(self, run: Run, settings: Settings, gpu: bool) -> Needs:
        if not run.spec.trained:
            return Needs(SHORT.memory, START + 5)
        shape, depth = self.workload.shape, self.plan.suite.backbone.layers
        layers = active = settings["layers"]
        held = TRAINED_BYTES * shape.parameters(layers)
        if "teacher_model" in run.needs:  # which takes part in the passes
            held += 4 * shape.parameters(depth)
            active = max(layers, depth)
        held += settings["batch_size"] * run.task.max_length * active * shape.hidden * ACTIVATION_BYTES
        return Needs(self._memory(held, gpu), self._minutes(self.workload.operations(run, settings, gpu), gpu))

    def _memory(self, held: float, gpu: bool) -> int:
        """MiB for a job that holds so many bytes; on a GPU most of them are there."""
        return LIBRARIES + CUDA if gpu else LIBRARIES + int(1.5 * held / MIB)

    def _minutes(self, operations: float, gpu: bool) -> int:
        """Minutes for so many floating point operations."""
        speed = GPU if gpu else PROCESSOR * self.plan.suite.threads
        return START + math.ceil(1.5 * operations / speed / 60)

    def _kin_of(self, run: Run) -> list[Run]:
        """The runs of the same method on the same task: of all seeds, and what its search tries."""
        name = str(run.run_name.without(TRIAL))
        key = name, run.task.name
        if key not in self._kin:
            whole = [self.plan.run(name, run.task.name, seed) for seed in self.plan.suite.seeds]
            self._kin[key] = [*whole, *self.plan.trials_of(whole[0])]
        return self._kin[key]

    def _figure(self, run: Run) -> tuple[str, float, float] | None:
        """Device, peak memory (MiB) and seconds of a finished run; None where no sound record is of what it is now."""
        if run.path not in self._figures:
            try:
                record = read_record(self.folder / run.path, remember=False)
            except UserError:
                return None
            if record is None or record.fingerprint != self.plan.fingerprint(run):
                return None
            self._figures[run.path] = (record.device, record.peak_memory_mb, record.seconds["all"])
        return self._figures[run.path]
