"""The plan of a suite: every run that its experiments ask for, with resolved settings.

The workflow reads it when it is parsed, on every cluster job again, so it imports neither torch nor pandas and
touches nothing on disk but the configuration and the methods' metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from theseus_bench.data.tasks import Task, find_task
from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import suggest
from theseus_bench.suite.config import EFFORT, Experiment, LoopSettings, Suite
from theseus_bench.suite.method_spec import MethodSpec, Overlays, resolve_settings
from theseus_bench.suite.run_names import (
    ADAPTED,
    EQUAL,
    PUBLISHED,
    TRIAL,
    RunName,
    protocol_suffix,
    read_part,
    setting_part,
)
from theseus_bench.suite.search import Settings, draw_trials

Resolution = tuple[Settings, tuple[Settings, ...]]  # of a name on a task: settings, and what a search tries
LOOP_VERSION = 1  # to be raised when a change of the machinery changes results: it makes every run train again


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
    # What was computed once, since the workflow asks for each run a dozen times: by experiment; by name and task; by
    # name, task and seed; by name; by the run's path.
    _names: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, compare=False, repr=False)
    _resolutions: dict[tuple[str, str], Resolution] = field(default_factory=dict, init=False, compare=False, repr=False)
    _runs: dict[tuple[str, str, int], Run] = field(default_factory=dict, init=False, compare=False, repr=False)
    _adaptations: dict[str, bool] = field(default_factory=dict, init=False, compare=False, repr=False)
    _fingerprints: dict[str, str] = field(default_factory=dict, init=False, compare=False, repr=False)

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
        spec = self._spec(name.method)
        if spec.trained and protocol == EQUAL:
            name = name.under(EQUAL)
        if spec.compressed:
            name = name.adding(*(setting_part(key, value) for key, value in (settings or {}).items()))
        # All of GLUE's tasks, so that the name does not depend on those that the suite is cut to.
        tasks = [task.name for task in self.tasks.values() if task.trained_on is None]
        meaning = [self._resolve(str(name), task) for task in tasks]
        for part in name.parts[::-1]:
            without = replace(name, parts=tuple(other for other in name.parts if other != part))
            if [self._resolve(str(without), task) for task in tasks] == meaning:
                name = without
        return str(name)

    def run(self, name: str, task: str, seed: int) -> Run:
        """The run called `name` (method, or method@variant) with its settings resolved."""
        key = name, task, seed
        if key not in self._runs:
            settings, trials = self._resolve(name, task)
            definition, is_adapted = find_task(self.tasks, task, "run"), self.is_adapted(name)
            self._runs[key] = Run(
                self.spec_of(name), RunName.parse(name), definition, seed, settings, trials, is_adapted
            )
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
            parts = {
                "method": run.name,
                "version": run.spec.version,
                "task": run.task.model_dump(include={"name", "columns", "labels", "metrics", "dev", "max_length"}),
                "seed": run.seed,
                "settings": self._resolve(run.name, run.task.name)[0],  # a search's choice is a result, not a cause
                "search": {"trials": run.trials, "seeds": self.suite.search.seeds} if run.trials else None,
                "loop": LOOP_VERSION,
                "backbone": self._backbone_identity(),
                "data": self._data_identity(run.task.name),
                "compact": self._compact_identity(run),
                "teacher": self.fingerprint(self.teacher_of(run)) if run.learns else None,
                "source": self.fingerprint(self.source_of(run)) if run.spec.source else None,
            }
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
        return compact.model_dump() | {"text": text}

    def is_sample(self, task: str) -> bool:
        """Whether the suite has another training set of the task than official GLUE, or may have other rows."""
        limit = self.suite.data.max_train.get(task)
        return task in self.suite.data.samples or (limit is not None and limit < self.tasks[task].rows["train"])

    def is_adapted(self, name: str) -> bool:
        """Whether the suite changes the recipe or the grid of the runs called `name` on some task, or their teacher's.

        They follow no published recipe then, and are called adapted.
        """
        overrides, spec = self.suite.settings or self.suite.search.space, self.spec_of(name)
        if not overrides or not spec.trained or RunName.parse(name).protocol == EQUAL:
            return False
        name = str(RunName.parse(name).without(TRIAL))
        if name not in self._adaptations:
            differs = any(self._recipe(name, task) != self._plain._recipe(name, task) for task in self.trained_tasks)
            sources = [self.teacher.name] * (spec.role != "teacher" and self._learns(name))
            sources += [spec.source.method] if spec.source else []
            self._adaptations[name] = differs or any(self.is_adapted(source) for source in sources)
        return self._adaptations[name]

    def _learns(self, name: str) -> bool:
        """Whether runs called `name` read of the predecessor's on some task."""
        spec, run_name = self.spec_of(name), RunName.parse(name)
        runs = (Run(spec, run_name, self.tasks[task], 0, *self._resolve(name, task)) for task in self.trained_tasks)
        return any(run.learns for run in runs)

    def _recipe(self, name: str, task: str) -> Resolution:
        """The settings that a method's authors could have said something of, and those that a search tries."""
        settings, trials = self._resolve(name, task)
        return {key: value for key, value in settings.items() if key not in ("precision", "watch_dev")}, trials

    @cached_property
    def _plain(self) -> Plan:
        """The same without the suite's own settings and values: every method by its recipe."""
        search = self.suite.search.model_copy(update={"space": {}})
        return replace(self, suite=self.suite.model_copy(update={"settings": [], "search": search}))

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
        """The method of the runs called `name`."""
        return self.specs[RunName.parse(name).method]

    def _spec(self, method: str) -> MethodSpec:
        if method not in self.specs:
            raise UserError(f"there is no method {method!r}{suggest(method, self.specs)}")
        return self.specs[method]

    def _resolve(self, name: str, task: str) -> Resolution:
        """Settings and trials of the runs called `name` on a task."""
        if (name, task) not in self._resolutions:
            self._resolutions[name, task] = self._settings_and_trials(name, task)
        return self._resolutions[name, task]

    def _settings_and_trials(self, name: str, task: str) -> Resolution:
        trial, run_name = RunName.parse(name).trial, RunName.parse(name).without(TRIAL)
        method, equal = run_name.method, run_name.protocol == EQUAL
        spec = self._spec(method)
        name_overlays = [(f"{method}@{part}", self._changes(spec, part)) for part in run_name.without(EQUAL).parts]
        if trial is not None:
            _, trials = self._resolve(str(run_name), task)
            if trial not in range(len(trials)):
                raise UserError(f"{name} on {task}: the search has {len(trials)} trials, counted from 0")
            return self._settings(spec, equal, task, [*name_overlays, (f"search of {method}", trials[trial])]), ()
        settings = self._check_layers(name, spec, self._settings(spec, equal, task, name_overlays))
        space = self._space(spec, task, equal, {key for _, changes in name_overlays for key in changes})
        budget = self.suite.search.budget_of("equal" if equal else "published")
        # The draws are the method's, so that variants with the same grid try the same settings.
        draws = draw_trials(space, {key: settings[key] for key in space}, budget, method) if space else []
        return settings, tuple(draws)

    def _settings(self, spec: MethodSpec, equal: bool, task: str, name_overlays: Overlays) -> Settings:
        layers = self.suite.backbone.layers if spec.role == "teacher" else self.suite.student_layers
        overlays = [(f"methods/{spec.name}/method.yaml: per_task.{task}", spec.per_task.get(task, {}))]
        for origin, override in self._overrides():
            if (override.methods and spec.name not in override.methods) or (
                override.tasks and task not in override.tasks
            ):
                continue
            overlays.append((origin, override.set))
        if equal:
            block = self.suite.equal
            effort_keys = (*EFFORT, "warmup")  # steps, and their schedule, which a search may vary for all alike
            overlays.append(("equal", {key: LoopSettings.model_fields[key].default for key in effort_keys}))
            overlays += [("equal.set", block.set), (f"equal.per_task.{task}", block.per_task.get(task, {}))]
            overlays.append(("equal", {"choose_on": "held_out"}))
        return resolve_settings(spec, layers, overlays + name_overlays)

    def _changes(self, spec: MethodSpec, part: str) -> Settings:
        """What a part of a name sets."""
        setting = read_part(part)
        if setting is not None:
            return dict([setting])
        if part not in spec.variants:
            raise UserError(f"method {spec.name} has no variant {part!r}{suggest(part, spec.variants)}")
        return spec.variants[part]

    def _space(self, spec: MethodSpec, task: str, equal: bool, fixed_keys: set[str]) -> dict[str, list[Any]]:
        """What a search of the method may vary: its own grid and, under equal effort, what all are offered."""
        if not spec.trained:
            return {}
        common_grid = self.suite.search.space | (self.suite.equal.space if equal else {})
        method_grid = spec.search | spec.search_per_task.get(task, {})
        space = {key: common_grid.get(key, values) for key, values in method_grid.items()}
        if equal:
            block = self.suite.equal
            space |= block.search
            keys_set = block.set.keys() | block.per_task.get(task, {}).keys()
            fixed_keys = fixed_keys | set(EFFORT) | (keys_set - block.search.keys())
        if "compact_checkpoint" in spec.needs or spec.source or spec.role == "teacher":
            fixed_keys = fixed_keys | {"start"}  # where it starts is what the method is
        return {key: values for key, values in space.items() if key not in fixed_keys}

    def _check_layers(self, name: str, spec: MethodSpec, settings: Settings) -> Settings:
        layers, backbone_layers = settings["layers"], self.suite.backbone.layers
        if spec.role == "teacher" and layers != backbone_layers:
            raise UserError(
                f"method {name}: layers is {layers}, but the predecessor has the backbone's {backbone_layers}; "
                "name the methods whose layers are meant under settings.methods"
            )
        if backbone_layers % layers:
            raise UserError(
                f"method {name}: layers {layers} does not divide the backbone's {backbone_layers} layers, so the "
                "modules to replace would differ in depth"
            )
        return settings

    def _overrides(self) -> Iterator[tuple[str, Any]]:
        for index, override in enumerate(self.suite.settings):
            yield f"settings.{index}", override


def source_files(plan: Plan, task: str) -> list[str]:
    """The tables of a task: in the local folder as it is, or where the workflow puts what it fetches or generates.

    For a task listed in data.samples a test split may be absent.
    """
    data = plan.suite.data
    folder = Path(data.path).expanduser() if data.source == "local" and data.path else Path(plan.folder) / "source"
    files = {split: folder / task / f"{split}.parquet" for split in plan.tasks[task].splits}
    optional = plan.tasks[task].test if data.source == "local" and task in data.samples else []
    return [str(file) for split, file in files.items() if split not in optional or file.is_file()]


def label_of_name(plan: Plan, name: str) -> str:
    """What tables call the runs of this name."""
    return plan.run(name, plan.trained_tasks[0], 0).label
