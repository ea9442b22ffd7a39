"""The plan of a suite: every run that its experiments ask for, with resolved settings.

The workflow reads it when it is parsed, on every cluster job again, so it imports neither torch nor pandas and
touches nothing on disk but the configuration and the methods' metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from theseus_bench.config import Experiment, Suite, parse, suggest
from theseus_bench.errors import UserError
from theseus_bench.methods.spec import METHODS_FOLDER, MethodSpec, check_option, load_specs, resolve_settings
from theseus_bench.tasks import TASKS_FILE, Task, find_task, load_tasks


@dataclass(frozen=True)
class Run:
    """One method (and variant) on one task with one seed: the unit of work."""

    spec: MethodSpec
    variant: str
    task: Task
    seed: int
    settings: dict[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        """The method, with its variant: theseus, theseus@constant."""
        return f"{self.spec.name}@{self.variant}" if self.variant else self.spec.name

    @property
    def label(self) -> str:
        """The method as tables call it."""
        return f"{self.spec.label}, {self.variant.replace('_', ' ')}" if self.variant else self.spec.label

    @property
    def path(self) -> str:
        """The run's folder inside the suite's."""
        return f"runs/{self.name}/{self.task.name}/seed-{self.seed}"

    @property
    def needs(self) -> set[str]:
        """What the run reads of others: the method's needs and the predecessor's model if it starts from that."""
        start = {"teacher_model"} if self.settings["start"] == "predecessor" and self.spec.role != "teacher" else set()
        return set(self.spec.needs) | start

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

    def experiment_runs(self, name: str) -> list[Run]:
        """The runs of one experiment, methods outermost, in the order of its table; excluded ones left out."""
        experiment = self.suite.experiments[name]
        return [
            self.run(method, task.name, seed)
            for method in experiment.methods
            for task in self.experiment_tasks(experiment)
            if task.name not in self.specs[method.split("@")[0]].exclude
            for seed in self.experiment_seeds(experiment)
        ]

    @cached_property
    def runs(self) -> dict[str, Run]:
        """All runs by path, each once however many experiments share it, predecessors included."""
        runs = {run.path: run for name in self.suite.experiments for run in self.experiment_runs(name)}
        for run in list(runs.values()):
            if run.learns:
                teacher = self.teacher_of(run)
                runs.setdefault(teacher.path, teacher)
        return runs

    def run(self, method: str, task: str, seed: int) -> Run:
        """The run of `method` (name or name@variant) with its settings resolved."""
        name, _, variant = method.partition("@")
        if name not in self.specs:
            raise UserError(f"there is no method {name!r}{suggest(name, self.specs)}")
        spec = self.specs[name]
        if variant and variant not in spec.variants:
            raise UserError(f"method {name} has no variant {variant!r}{suggest(variant, spec.variants)}")
        layers = self.suite.backbone.layers if spec.role == "teacher" else self.suite.student_layers
        overlays = [(f"methods/{name}/method.yaml: per_task.{task}", spec.per_task.get(task, {}))]
        for place, override in self._overrides():
            if (override.methods and name not in override.methods) or (override.tasks and task not in override.tasks):
                continue
            overlays.append((place, override.set))
        if variant:
            overlays.append((f"methods/{name}/method.yaml: variants.{variant}", spec.variants[variant]))
        settings = resolve_settings(spec, layers, overlays)
        if spec.role == "teacher" and settings["layers"] != layers:
            raise UserError(
                f"method {method}: layers is {settings['layers']}, but the predecessor has the backbone's {layers}; "
                "name the methods whose layers are meant under settings.methods"
            )
        if self.suite.backbone.layers % settings["layers"]:
            raise UserError(
                f"method {method}: layers {settings['layers']} does not divide the backbone's "
                f"{self.suite.backbone.layers} layers, so the modules to replace would differ in depth"
            )
        return Run(spec, variant, find_task(self.tasks, task, "run"), seed, settings)

    def teacher_of(self, run: Run) -> Run:
        """The predecessor's run that `run` learns from: the same task and seed."""
        return self.run(self.teacher.name, run.task.name, run.seed)

    def fingerprint(self, run: Run) -> str:
        """A short hash of all that determines the run's results, but for the code of the machinery."""
        parts = {
            "method": run.name,
            "version": run.spec.version,
            "task": run.task.model_dump(include={"name", "columns", "labels", "metrics", "dev", "max_length"}),
            "seed": run.seed,
            "settings": run.settings,
            "backbone": self.suite.backbone.model_dump(),
            "data": self.suite.data.model_dump(exclude={"samples"})
            | {"sample": run.task.name in self.suite.data.samples},
            "compact": {k: v.model_dump() for k, v in self.suite.compact.items() if k == run.spec.name},
            "teacher": self.fingerprint(self.teacher_of(run)) if run.learns else None,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def keeps_model(self, run: Run) -> bool:
        """Whether the run's model folder is kept."""
        return run.spec.role == "teacher" or bool({"all", run.spec.name, run.name} & set(self.suite.keep_models))

    def _overrides(self) -> Iterator[tuple[str, Any]]:
        for index, override in enumerate(self.suite.settings):
            yield f"settings.{index}", override


def load_plan(config: dict, root: Path = Path(".")) -> Plan:
    """Check a suite's configuration against the tasks and methods that exist, and resolve every run.

    Raises UserError, naming the key at fault, for anything that could not run.
    """
    suite = parse(Suite, config, "config")
    plan = Plan(suite, load_tasks(root / TASKS_FILE), load_specs(root / METHODS_FOLDER))
    _check_tasks(plan)
    _check_methods(plan)
    _check_data(plan)
    plan.runs  # noqa: B018 - resolving every run checks every setting
    return plan


def read_plan(folder: Path) -> Plan:
    """The plan of the suite whose results are in `folder`, from the suite.json that the workflow left there."""
    file = folder / "suite.json"
    if not file.is_file():
        raise UserError(f"{file}: no such file; make it with: theseus-bench configure {folder} YOUR_CONFIG")
    return load_plan(json.loads(file.read_text(encoding="utf-8")))


def _check_tasks(plan: Plan) -> None:
    suite = plan.suite
    for name in suite.tasks:
        trained_on = find_task(plan.tasks, name, "config: tasks").trained_on
        if trained_on and trained_on not in suite.tasks:
            raise UserError(f"config: tasks: {name} is predicted with the model of {trained_on}; add {trained_on}")
    for key, names in [("data.samples", suite.data.samples)] + [
        (f"experiments.{key}.tasks", experiment.tasks or []) for key, experiment in suite.experiments.items()
    ]:
        for name in names:
            task = find_task(plan.tasks, name, f"config: {key}")
            if key.startswith("experiments") and (task.trained_on or name not in suite.tasks):
                raise UserError(f"config: {key}: {name} is not among the suite's trained tasks {plan.trained_tasks}")


def _check_methods(plan: Plan) -> None:
    suite = plan.suite
    teachers = [spec.name for spec in plan.specs.values() if spec.role == "teacher"]
    if len(teachers) != 1:
        raise UserError(f"methods: exactly one method may have the role teacher, found {teachers}")
    for key, experiment in suite.experiments.items():
        for method in experiment.methods:
            name, _, variant = method.partition("@")
            where = f"config: experiments.{key}.methods"
            if name not in plan.specs:
                raise UserError(f"{where}: there is no method {name!r}{suggest(name, plan.specs)}")
            spec = plan.specs[name]
            if variant and variant not in spec.variants:
                raise UserError(f"{where}: method {name} has no variant {variant!r}{suggest(variant, spec.variants)}")
            if suite.backbone.family not in spec.families:
                raise UserError(
                    f"{where}: {name} works with {', '.join(spec.families)} backbones, not {suite.backbone.family}; "
                    f"its README says why"
                )
            if "compact_checkpoint" in spec.needs and name not in suite.compact:
                raise UserError(f"{where}: {name} needs a compact checkpoint; say where from under compact.{name}")
    for spec in plan.specs.values():
        for key, names in [("per_task", spec.per_task), ("exclude", spec.exclude)]:
            for task in names:
                find_task(plan.tasks, task, f"methods/{spec.name}/method.yaml: {key}")
    for name in set(suite.keep_models) - {"all"}:
        if name.partition("@")[0] not in plan.specs:
            raise UserError(f"config: keep_models: there is no method {name!r}{suggest(name, plan.specs)}")
    for name in suite.compact:
        if name not in plan.specs or "compact_checkpoint" not in plan.specs[name].needs:
            wanted = [spec.name for spec in plan.specs.values() if "compact_checkpoint" in spec.needs]
            raise UserError(f"config: compact: no method {name!r} needs a compact checkpoint{suggest(name, wanted)}")
    for index, override in enumerate(suite.settings):
        where = f"config: settings.{index}"
        for task in override.tasks or []:
            find_task(plan.tasks, task, where)
        for name in override.methods or []:
            if name not in plan.specs:
                raise UserError(f"{where}: there is no method {name!r}{suggest(name, plan.specs)}")
        for name in override.methods or plan.specs:
            for key in override.set:
                check_option(plan.specs[name], key, where)


def _check_data(plan: Plan) -> None:
    """A local folder is there, with every file of the suite's tasks, before any work is planned on it."""
    data = plan.suite.data
    if data.source != "local":
        return
    folder = Path(data.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"config: data.path: {folder} is not a folder; it should hold <task>/<split>.parquet")
    missing = [f for name in plan.suite.tasks for f in source_files(plan, name) if not Path(f).is_file()]
    if missing:
        raise UserError(f"config: data.path: missing {', '.join(missing)}; drop these tasks or add the files")


def source_files(plan: Plan, task: str) -> list[str]:
    """The tables of a task: in the local folder as it is, or where the workflow puts what it fetches or generates.

    For a task listed in data.samples a test split may be absent.
    """
    data = plan.suite.data
    folder = Path(data.path).expanduser() if data.source == "local" else Path(plan.folder) / "source"
    files = {split: folder / task / f"{split}.parquet" for split in plan.tasks[task].splits}
    optional = plan.tasks[task].test if data.source == "local" and task in data.samples else []
    return [str(file) for split, file in files.items() if split not in optional or file.is_file()]
