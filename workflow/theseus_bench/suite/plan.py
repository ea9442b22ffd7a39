"""The plan of a suite: every run that its experiments ask for, with resolved settings.

The workflow reads it when it is parsed, on every cluster job again, so it imports neither torch nor pandas and
touches nothing on disk but the configuration and the methods' metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from theseus_bench.data.tasks import Task, find_task
from theseus_bench.suite.config import Experiment, Suite
from theseus_bench.suite.method_spec import MethodSpec, find_spec
from theseus_bench.suite.run_names import (
    ADAPTED,
    EQUAL,
    PUBLISHED,
    TRIAL,
    RunName,
    protocol_suffix,
    setting_part,
)
from theseus_bench.suite.run_settings import RunSettings
from theseus_bench.suite.search import Settings

LOOP_VERSION = 3  # to be raised when a change of the machinery changes results: it makes every run train again


@dataclass(frozen=True)
class Run:
    """One method (and variant) on one task with one seed: the unit of work."""

    spec: MethodSpec
    run_name: RunName
    task: Task
    seed: int
    settings: dict[str, Any] = field(hash=False)  # a searched run's are known once its search has chosen
    trials: tuple[Settings, ...] = field(default=(), hash=False)  # what is tried first; none: no search
    is_adapted: bool = False  # whether the suite's own settings change the method's recipe

    @property
    def name(self) -> str:
        """The method, with its variant: theseus, theseus@constant."""
        return str(self.run_name)

    @property
    def variant(self) -> str:
        """What of the method is changed: '' or 'equal+constant'."""
        return self.run_name.variant

    @property
    def label(self) -> str:
        """The method as tables call it."""
        return self.spec.label + self.run_name.words + protocol_suffix(self.protocol)

    @property
    def protocol(self) -> str:
        """What its effort follows: 'published' or 'equal', or 'adapted' where the suite changes the recipe."""
        protocol = self.run_name.protocol
        return ADAPTED if self.is_adapted and protocol == PUBLISHED else protocol

    @property
    def path(self) -> str:
        """The run's folder inside the suite's."""
        return f"runs/{self.name}/{self.task.name}/seed-{self.seed}"

    @property
    def is_trial(self) -> bool:
        """Whether it only tries settings for a search."""
        return self.run_name.trial is not None

    @property
    def search_file(self) -> str:
        """What the run's search has chosen, inside the suite's folder; one file for all seeds."""
        return f"search/{self.name}/{self.task.name}.json"

    @property
    def needs(self) -> set[str]:
        """What the run reads of others: the method's needs and the predecessor's model if it may start from that."""
        starts = {settings.get("start") for settings in (self.settings, *self.trials)}
        inherits = "predecessor" in starts and self.spec.role != "teacher"
        return set(self.spec.needs) | ({"teacher_model"} if inherits else set())

    @property
    def learns(self) -> bool:
        """Whether it reads of the predecessor's run."""
        return bool({"teacher_outputs", "teacher_model"} & self.needs)


@dataclass(frozen=True)
class Plan:
    """A checked suite together with the tasks and methods it names."""

    suite: Suite
    tasks: dict[str, Task]
    specs: dict[str, MethodSpec]
    faults: dict[str, str] = field(default_factory=dict)  # what is wrong with the methods that are not in `specs`
    # What was computed once, since the workflow asks for each run a dozen times: by experiment; by name, task and seed;
    # by name; by the run's path.
    _names: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, compare=False, repr=False)
    _runs: dict[tuple[str, str, int], Run] = field(default_factory=dict, init=False, compare=False, repr=False)
    _adaptations: dict[str, bool] = field(default_factory=dict, init=False, compare=False, repr=False)
    _fingerprints: dict[str, str] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def run_settings(self) -> RunSettings:
        """What the suite sets its runs to."""
        return RunSettings(self.suite, self.specs, self.faults)

    @property
    def folder(self) -> str:
        """Where the suite's results go, relative to the project's root."""
        return f"results/{self.suite.suite}"

    @property
    def teacher(self) -> MethodSpec:
        """The predecessor."""
        return next(spec for spec in self.specs.values() if spec.role == "teacher")

    @property
    def wants_gpu(self) -> bool:
        """Whether its runs will take a GPU, as far as can be told without importing torch."""
        present = any(Path(node).exists() for node in ("/dev/nvidia0", "/dev/kfd"))
        return self.suite.device == "cuda" or (self.suite.device == "auto" and present)

    @property
    def trained_tasks(self) -> list[str]:
        """The suite's tasks that have a training set."""
        return [name for name in self.suite.tasks if self.tasks[name].trained_on is None]

    def predicted_with(self, task: str) -> list[str]:
        """The suite's tasks that the model of `task` predicts: itself, and AX for MNLI."""
        return [task] + [name for name in self.suite.tasks if self.tasks[name].trained_on == task]

    def experiment_tasks(self, experiment: Experiment) -> list[Task]:
        """The tasks an experiment trains on."""
        return [self.tasks[name] for name in experiment.tasks or self.trained_tasks]

    def experiment_seeds(self, experiment: Experiment) -> list[int]:
        """The seeds an experiment asks for."""
        return experiment.seeds or self.suite.seeds

    def experiment_names(self, name: str) -> tuple[str, ...]:
        """The names of what an experiment compares, in the order of its table: one row each."""
        if name not in self._names:
            experiment = self.suite.experiments[name]
            names = [
                self.canonical(method, protocol, settings)
                for protocol in experiment.protocols
                for method in experiment.methods
                for settings in experiment.vary or [{}]
            ]
            self._names[name] = tuple(dict.fromkeys(names))
        return self._names[name]

    def experiment_runs(self, name: str) -> list[Run]:
        """The final runs of one experiment, methods outermost, in the order of its table; excluded ones left out."""
        experiment = self.suite.experiments[name]
        return [
            self.run(method, task.name, seed)
            for method in self.experiment_names(name)
            for task in self.experiment_tasks(experiment)
            if task.name not in self.spec_of(method).exclude
            for seed in self.experiment_seeds(experiment)
        ]

    def has_search(self, name: str) -> bool:
        """Whether the settings of some run of the experiment are searched."""
        return any(run.trials for run in self.experiment_runs(name))

    def all_runs(self, name: str) -> dict[str, Run]:
        """The experiment's runs by path with all that is trained for them: searches, predecessors and sources."""
        return self.with_dependencies(self.experiment_runs(name))

    def with_dependencies(self, runs: Iterable[Run], searches: bool = True) -> dict[str, Run]:
        """`runs` by path with what is trained for them: predecessors, sources and, with `searches`, trials."""
        by_path: dict[str, Run] = {}
        queue = list(runs)[::-1]
        while queue:
            run = queue.pop()
            if run.path not in by_path:
                by_path[run.path] = run
                queue += self.trials_of(run)[::-1] if searches else []
                queue += [self.teacher_of(run)] if run.learns else []
                queue += [self.source_of(run)] if run.spec.source else []
        return by_path

    @cached_property
    def runs(self) -> dict[str, Run]:
        """All runs by path, each once however many experiments share it, experiments' own before what these need."""
        runs = {run.path: run for name in self.suite.experiments for run in self.experiment_runs(name)}
        for name in self.suite.experiments:
            runs |= self.all_runs(name)
        return runs

    def canonical(self, wording: str, protocol: str = "published", settings: Settings | None = None) -> str:
        """The one name of the runs of this `wording` (method, method@variant) under a protocol and with more settings.

        A part that changes neither settings nor search on any task is left out, so that two experiments that ask for
        the same run in different words share it.
        """
        name = RunName.parse(wording)
        spec = find_spec(self.specs, name.method, self.faults)
        if spec.trained and protocol == EQUAL:
            name = name.under(EQUAL)
        if spec.compressed:
            name = name.adding(*(setting_part(key, value) for key, value in (settings or {}).items()))
        # All of GLUE's tasks, so that the name does not depend on those that the suite is cut to.
        tasks = [task.name for task in self.tasks.values() if task.trained_on is None]
        meaning = [self.run_settings.resolve(str(name), task) for task in tasks]
        for part in name.parts[::-1]:
            without = replace(name, parts=tuple(other for other in name.parts if other != part))
            if [self.run_settings.resolve(str(without), task) for task in tasks] == meaning:
                name = without
        return str(name)

    def run(self, name: str, task: str, seed: int) -> Run:
        """The run called `name` (method, or method@variant) with its settings resolved."""
        key = name, task, seed
        if key not in self._runs:
            spec = self.spec_of(name)
            settings, trials = self.run_settings.resolve(name, task)
            definition, is_adapted = find_task(self.tasks, task, "run"), self.is_adapted(name)
            self._runs[key] = Run(spec, RunName.parse(name), definition, seed, settings, trials, is_adapted)
        return self._runs[key]

    def trials_of(self, run: Run) -> list[Run]:
        """The runs of a searched run's search: every setting tried with every search seed."""
        return [
            self.run(str(run.run_name.adding(f"{TRIAL}={k}")), run.task.name, seed)
            for k in range(len(run.trials))
            for seed in self.suite.search.seeds
        ]

    def teacher_of(self, run: Run) -> Run:
        """The predecessor's run that `run` learns from: the same protocol, task and seed."""
        return self.run(self.teacher_name(run.name), run.task.name, run.seed)

    def teacher_name(self, name: str) -> str:
        """The name of the predecessor that runs called `name` learn from and are compared with."""
        return str(RunName(self.teacher.name).under(RunName.parse(name).protocol))

    def teacher_outputs_of(self, run: Run) -> str:
        """Where the stored outputs of the predecessor that `run` learns from are, inside the suite's folder."""
        return f"teacher/{self.teacher_name(run.name)}/{run.task.name}/seed-{run.seed}"

    def source_of(self, run: Run) -> Run:
        """The run whose compressed model `run` starts from, for a method that has a source: same protocol and seed."""
        source = run.spec.source
        assert source is not None, "the method has no source"
        name = RunName(source.method).under(run.run_name.protocol)
        return self.run(str(name), source.task, run.seed)

    def fingerprint(self, run: Run) -> str:
        """A short hash of all that the configuration says of the run's results.

        Not in it: where the user keeps data and backbone, whose contents a record has checksums of; device and threads,
        which a record tells; and the code of the machinery, of which LOOP_VERSION says when it changes results.
        """
        if run.path not in self._fingerprints:
            settings, _ = self.run_settings.resolve(
                run.name, run.task.name
            )  # a search's choice is a result, not a cause
            parts = {
                "method": run.name,
                "version": run.spec.version,
                "task": run.task.model_dump(include={"name", "columns", "labels", "metrics", "dev", "max_length"}),
                "seed": run.seed,
                "settings": settings,
                "search": {"trials": run.trials, "seeds": self.suite.search.seeds} if run.trials else None,
                "loop": LOOP_VERSION,
                "backbone": self._backbone_identity(),
                "data": self._data_identity(run.task.name),
                "compact": self._compact_identity(run),
                "teacher": self.fingerprint(self.teacher_of(run)) if run.learns else None,
                "source": self.fingerprint(self.source_of(run)) if run.spec.source else None,
            }
            if run.spec.command is not None:
                parts["command"] = run.spec.command
            text = json.dumps(parts, sort_keys=True)
            self._fingerprints[run.path] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._fingerprints[run.path]

    def _backbone_identity(self) -> dict[str, Any]:
        backbone = self.suite.backbone
        return backbone.model_dump(exclude={"name"} if backbone.source == "folder" else None)

    def _data_identity(self, task: str) -> dict[str, Any]:
        data = self.suite.data
        extra = {"sample": task in data.samples, "max_train": data.max_train.get(task)}
        return data.model_dump(include={"source", "name", "revision", "rows"}) | extra

    def _compact_identity(self, run: Run) -> dict[str, Any] | None:
        """The compact checkpoint that the run starts from, with the tasks whose sentences it is distilled from."""
        compact = self.suite.compact.get(run.spec.name)
        if compact is None:
            return None
        text = {task: self._data_identity(task) for task in self.trained_tasks} if compact.source == "recipe" else None
        later_keys = {"sha256"} if compact.sha256 is None else set()  # which older fingerprints do not have
        return compact.model_dump(exclude=later_keys) | {"text": text}

    def is_sample(self, task: str) -> bool:
        """Whether the suite has another training set of the task than official GLUE, or may have other rows."""
        limit, rows = self.suite.data.max_train.get(task), self.tasks[task].rows.get("train")
        return task in self.suite.data.samples or (limit is not None and (rows is None or limit < rows))

    def is_adapted(self, name: str) -> bool:
        """Whether the suite changes the recipe or the grid of the runs called `name` on some task, or their teacher's.

        They follow no published recipe then, and are called adapted.
        """
        overrides, spec = self.suite.settings or self.suite.search.space, self.spec_of(name)
        if not overrides or not spec.trained or RunName.parse(name).protocol == EQUAL:
            return False
        name = str(RunName.parse(name).without(TRIAL))
        if name not in self._adaptations:
            differs = not all(self.run_settings.follow_recipe(name, task) for task in self.trained_tasks)
            sources = [self.teacher.name] * (spec.role != "teacher" and self._learns(name))
            sources += [spec.source.method] if spec.source else []
            self._adaptations[name] = differs or any(self.is_adapted(source) for source in sources)
        return self._adaptations[name]

    def _learns(self, name: str) -> bool:
        """Whether runs called `name` read of the predecessor's on some task."""
        spec, run_name = self.spec_of(name), RunName.parse(name)
        resolutions = ((self.tasks[task], self.run_settings.resolve(name, task)) for task in self.trained_tasks)
        return any(Run(spec, run_name, task, 0, *resolution).learns for task, resolution in resolutions)

    def keeps_model(self, run: Run) -> bool:
        """Whether the run's model folder is kept: as asked, and where another run starts from it."""
        is_listed = "all" in self.suite.keep_models or run.name in self._kept_names
        return ((is_listed or run.spec.role == "teacher") and not run.is_trial) or run.path in self._sources

    @cached_property
    def _kept_names(self) -> set[str]:
        return {self.canonical(name) for name in self.suite.keep_models if name != "all"}

    @cached_property
    def _sources(self) -> set[str]:
        return {self.source_of(run).path for run in self.runs.values() if run.spec.source}

    def spec_of(self, name: str) -> MethodSpec:
        """The method of the runs called `name`; UserError if there is none, or none that is valid."""
        return find_spec(self.specs, RunName.parse(name).method, self.faults)


def source_files(plan: Plan, task: str) -> list[str]:
    """The tables of a task: in the local folder as it is, or where the workflow puts what it fetches or generates.

    For a task listed in data.samples a test split may be absent.
    """
    data = plan.suite.data
    folder = (
        Path(data.path).expanduser()
        if data.source == "local" and data.path is not None
        else Path(plan.folder) / "source"
    )
    files = {split: folder / task / f"{split}.parquet" for split in plan.tasks[task].splits}
    optional = plan.tasks[task].test if data.source == "local" and task in data.samples else []
    return [str(file) for split, file in files.items() if split not in optional or file.is_file()]


def label_of_name(plan: Plan, name: str) -> str:
    """What tables call the runs of this name."""
    return plan.run(name, plan.trained_tasks[0], 0).label
