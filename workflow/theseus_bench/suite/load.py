"""A suite from its configuration: checked against the tasks and methods that exist, before anything starts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from theseus_bench.data.tasks import TASKS_FILE, Task, find_task, load_tasks
from theseus_bench.errors import UserError
from theseus_bench.files import read_json
from theseus_bench.strict_yaml import parse, suggest
from theseus_bench.suite.checkpoint_files import check_checkpoint_files
from theseus_bench.suite.config import EFFORT, Experiment, LoopSettings, Suite
from theseus_bench.suite.method_spec import (
    METHODS_FOLDER,
    MethodSpec,
    check_grid,
    check_option,
    find_spec,
    load_specs,
)
from theseus_bench.suite.plan import Plan, source_files
from theseus_bench.suite.published import PUBLISHED_FOLDER, load_published
from theseus_bench.suite.run_names import EQUAL, TRIAL, RunName, read_part

LONGEST_NAME = 200  # bytes; a file system has 255, and some files of a run are called by its name and more

# What the protocol of equal effort decides itself.
FIXED_BY_EQUAL = {
    "patience": "under equal effort nothing stops early",
    "choose_on": "under equal effort all is chosen on the slice held out of train",
}


def load_plan(config: dict[str, Any], root: Path = Path(".")) -> Plan:
    """Check a suite's configuration against the tasks and methods that exist, and resolve every run.

    A method that is not valid, and that the suite does not name, is left out: the plan's `faults` say what is wrong.
    Raises UserError, naming the key at fault, for anything that could not run. Where records are trusted, data may be
    absent: `check_data` is for when there is something to train.
    """
    suite = parse(Suite, config, "config")
    tasks = load_tasks(root / TASKS_FILE)
    plan = Plan(suite, tasks, *load_methods(root / METHODS_FOLDER, tasks))
    _check_paths(plan)
    _check_tasks(plan)
    plan = _narrow(plan)
    _check_methods(plan)
    if not suite.trust_records:
        check_data(plan)
    _check_run_names(plan)  # and every setting, since it resolves every run
    return plan


def load_methods(folder: Path, tasks: dict[str, Task]) -> tuple[dict[str, MethodSpec], dict[str, str]]:
    """The valid methods in `folder`, by name, and what is wrong with each of the others, by itself or beside these."""
    specs, faults = load_specs(folder)
    for spec in specs.values():
        try:
            check_spec(spec, specs, tasks, faults)
        except UserError as error:
            faults[spec.name] = str(error)
    for _ in specs:  # again, since a source may only now have been found to be invalid, and be another's source's
        for spec in specs.values():
            if spec.source and spec.source.method in faults:
                faults.setdefault(spec.name, f"{_file_of(spec)}: source: {faults[spec.source.method]}")
    return {name: spec for name, spec in specs.items() if name not in faults}, faults


def check_spec(spec: MethodSpec, specs: dict[str, MethodSpec], tasks: dict[str, Task], faults: dict[str, str]) -> None:
    """UserError if a method.yaml names a method, task or published row that is not there.

    `faults` says what is wrong with the methods that are not in `specs`.
    """
    file = _file_of(spec)
    if spec.source and not find_spec(specs, spec.source.method, faults, f"{file}: source: ").compressed:
        raise UserError(f"{file}: source: {spec.source.method!r} is no method that makes a compressed model")
    for key in ("per_task", "search_per_task", "exclude"):
        for task in getattr(spec, key):
            find_task(tasks, task, f"{file}: {key}")
    rows = (
        {row for _, table in load_published(PUBLISHED_FOLDER).values() for row in table.rows} if spec.published else ()
    )
    for row, names in spec.published.items():
        if row not in rows:
            raise UserError(f"{file}: published: no table has a row {row!r}{suggest(row, rows)}")
        for name in names:
            if RunName.parse(name).method != spec.name:
                raise UserError(f"{file}: published.{row}: {name!r} is not a run of this method")


def _file_of(spec: MethodSpec) -> Path:
    return METHODS_FOLDER / spec.name / "method.yaml"


def read_plan(folder: Path, experiment: str | None = None) -> Plan:
    """The plan of the suite whose results are in `folder`, from the suite.json that the workflow left there.

    UserError if it cannot be read, or has no experiment of the name given.
    """
    file = folder / "suite.json"
    remedy = f"make it with: theseus-bench configure {folder} YOUR_CONFIG"
    if not file.is_file():
        raise UserError(f"{file}: no such file; {remedy}")
    values = read_json(file, remedy)
    if not isinstance(values, dict):
        raise UserError(f"{file}: expected keys and values, found {type(values).__name__}; {remedy}")
    try:
        plan = load_plan(values)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    if experiment is not None and experiment not in plan.suite.experiments:
        raise UserError(
            f"{folder}: the suite has no experiment {experiment!r}{suggest(experiment, plan.suite.experiments)}"
        )
    return plan


def _check_tasks(plan: Plan) -> None:
    suite = plan.suite
    for name in suite.tasks:
        trained_on = find_task(plan.tasks, name, "config: tasks").trained_on
        if trained_on and trained_on not in suite.tasks:
            raise UserError(f"config: tasks: {name} is predicted with the model of {trained_on}; add {trained_on}")
    for name in suite.data.max_train:
        if find_task(plan.tasks, name, "config: data.max_train").trained_on:
            raise UserError(f"config: data.max_train: {name} has no training set")
    for key, names in [("data.samples", suite.data.samples)] + [
        (f"experiments.{key}.tasks", experiment.tasks or []) for key, experiment in suite.experiments.items()
    ]:
        for name in names:
            task = find_task(plan.tasks, name, f"config: {key}")
            if key.startswith("experiments") and task.trained_on:
                raise UserError(f"config: {key}: {name} has no training set; it is predicted with {task.trained_on}'s")


def _narrow(plan: Plan) -> Plan:
    """The plan with each experiment on those of its tasks that the suite has, and without those for which none is left.

    So a suite can be cut to a few tasks from the command line. An experiment also goes if a method of it starts from a
    model of a task that the suite does not have.
    """
    experiments = {}
    for name, experiment in plan.suite.experiments.items():
        tasks = [task for task in experiment.tasks or plan.trained_tasks if task in plan.trained_tasks]
        methods = [RunName.parse(name).method for name in experiment.methods]
        specs = [plan.specs[method] for method in methods if method in plan.specs]
        if tasks and all(spec.source is None or spec.source.task in plan.trained_tasks for spec in specs):
            experiments[name] = experiment.model_copy(update={"tasks": tasks if experiment.tasks else None})
    if not experiments:
        raise UserError(f"config: no experiment can be made of the tasks {plan.trained_tasks} alone; add tasks")
    return replace(plan, suite=plan.suite.model_copy(update={"experiments": experiments}))


def _check_methods(plan: Plan) -> None:
    suite = plan.suite
    teachers = [spec.name for spec in plan.specs.values() if spec.role == "teacher"]
    if len(teachers) != 1:
        invalid = "".join(f"; left out: {fault}" for fault in plan.faults.values())
        count = f"{' and '.join(teachers)} have" if teachers else "none has"
        raise UserError(f"methods: one method has the role teacher, but {count} it{invalid}")
    for key, experiment in suite.experiments.items():
        _check_experiment(plan, f"config: experiments.{key}", experiment)
    _check_search(plan)
    if "control" in suite.significance.model_fields_set:
        find_spec(plan.specs, suite.significance.control, plan.faults, "config: significance.control: ")
    for name in set(suite.keep_models) - {"all"}:
        run_name = RunName.parse(name)
        spec = find_spec(plan.specs, run_name.method, plan.faults, "config: keep_models: ")
        for part in run_name.parts:
            variants = {EQUAL, *spec.variants}
            if read_part(part) is None and part not in variants:
                raise UserError(f"config: keep_models: {name}: there is no variant {part!r}{suggest(part, variants)}")
    for name in suite.compact:
        if name not in plan.specs or "compact_checkpoint" not in plan.specs[name].needs:
            candidates = [spec.name for spec in plan.specs.values() if "compact_checkpoint" in spec.needs]
            raise UserError(
                f"config: compact: no method {name!r} needs a compact checkpoint{suggest(name, candidates)}"
            )
    for index, override in enumerate(suite.settings):
        where = f"config: settings.{index}"
        for task in override.tasks or []:
            find_task(plan.tasks, task, where)
        for name in override.methods or plan.specs:
            spec = find_spec(plan.specs, name, plan.faults, f"{where}: ")
            for key in override.set:
                check_option(spec, key, where)
        if "choose_on" in override.set:
            raise UserError(f"{where}: choose_on is the protocol's: a slice of train under equal, else dev")


def _check_experiment(plan: Plan, where: str, experiment: Experiment) -> None:
    """Every method that an experiment names is there and can run in this suite."""
    suite = plan.suite
    for method in experiment.methods:
        run_name = RunName.parse(method)
        name, parts = run_name.method, run_name.parts
        spec = find_spec(plan.specs, name, plan.faults, f"{where}.methods: ")
        for part in parts:
            if part == EQUAL or part.startswith(f"{TRIAL}="):
                raise UserError(f"{where}.methods: {method!r}: {part} is not for a method's name; see protocols")
        variations = experiment.vary if spec.compressed else []
        part_keys = [setting[0] for setting in map(read_part, parts) if setting is not None]
        for settings in variations or [{}]:
            keys = [
                *part_keys,
                *settings,
                *(key for part in parts for key in spec.variants.get(part, {}) if key in EFFORT),
            ]
            for key in keys:
                check_option(spec, key, f"{where}: {method}")
                if keys.count(key) > 1:
                    raise UserError(f"{where}: {method}: {key} is set twice")
                if key in EFFORT and EQUAL in experiment.protocols:
                    raise UserError(
                        f"{where}: {method}: {key} is part of the effort, which under protocol equal is the same for "
                        "all; set it under equal.set, or ask for protocol published alone"
                    )
        for part in parts:
            if "=" not in part and part not in spec.variants:
                raise UserError(f"{where}.methods: method {name} has no variant {part!r}{suggest(part, spec.variants)}")
        if suite.backbone.family not in spec.families:
            raise UserError(
                f"{where}.methods: {name} works with {', '.join(spec.families)} backbones, not "
                f"{suite.backbone.family}; its README says why"
            )
        if "compact_checkpoint" in spec.needs and name not in suite.compact:
            raise UserError(f"{where}.methods: {name} needs a compact checkpoint; say where from under compact.{name}")
    if experiment.control is not None:
        names = {
            plan.canonical(method, "published", settings)
            for method in experiment.methods
            for settings in experiment.vary or [{}]
        }
        if plan.canonical(experiment.control) not in names:
            raise UserError(
                f"{where}.control: {experiment.control!r} is none of the experiment's runs"
                f"{suggest(experiment.control, names)}"
            )
    tables = load_published(PUBLISHED_FOLDER) if experiment.compare_with else {}
    for table in experiment.compare_with:
        if table not in tables:
            raise UserError(f"{where}.compare_with: no table {table!r} is published{suggest(table, tables)}")


def _check_search(plan: Plan) -> None:
    """What a search may vary exists, and is the loop's where all methods are offered it."""
    suite = plan.suite
    options = set().union(*(spec.options for spec in plan.specs.values()))
    for where, space in [("search.space", suite.search.space), ("equal.space", suite.equal.space)]:
        for key in space:
            if key not in options:
                raise UserError(f"config: {where}: no method has a setting {key!r}{suggest(key, options)}")
    for task in suite.equal.per_task:
        find_task(plan.tasks, task, "config: equal.per_task")
    blocks = [("equal.set", suite.equal.set), ("equal.search", suite.equal.search)]
    blocks += [(f"equal.per_task.{task}", keys) for task, keys in suite.equal.per_task.items()]
    for where, keys in blocks:
        for key in keys:
            if key in FIXED_BY_EQUAL and keys[key] is not None:
                raise UserError(f"config: {where}: {key}: {FIXED_BY_EQUAL[key]}; drop it")
            if key in EFFORT and where == "equal.search":
                raise UserError(f"config: {where}: {key} is part of the effort, the same for all; give it in equal.set")
            if key not in LoopSettings.model_fields:
                raise UserError(
                    f"config: {where}: {key!r} is no setting of the training loop, which all methods share"
                    f"{suggest(key, LoopSettings.model_fields)}"
                )
    spaces = {"search.space": suite.search.space, "equal.space": suite.equal.space, "equal.search": suite.equal.search}
    for where, space in spaces.items():
        check_grid(space, f"config: {where}")
    for task in suite.verdicts.tolerance_by_task:
        find_task(plan.tasks, task, "config: verdicts.tolerance_by_task")


def _check_paths(plan: Plan) -> None:
    """UserError for a path of the user's that cannot be looked up, or that Snakemake would take for a pattern."""
    data, backbone = plan.suite.data, plan.suite.backbone
    paths = {"data.path": data.path, "data.diagnostic": data.diagnostic}
    paths["backbone.name"] = backbone.name if backbone.source == "folder" else None
    for key, path in paths.items():
        if path is None:
            continue
        try:
            Path(path).expanduser()
        except RuntimeError:
            user = Path(path).parts[0].removeprefix("~")
            raise UserError(f"config: {key}: {path}: there is no user {user!r}; write the path out") from None
        if "{" in path or "}" in path:
            raise UserError(f"config: {key}: {path}: braces are patterns to Snakemake; rename or link what is there")


def _check_run_names(plan: Plan) -> None:
    """UserError for a run whose name no folder can have."""
    for run in plan.runs.values():
        if len(os.fsencode(run.name)) > LONGEST_NAME:
            raise UserError(
                f"config: {run.name[:40]}…: the name of a run, of which a folder is called, has more than "
                f"{LONGEST_NAME} bytes; give the method a variant with a short name"
            )


def check_data(plan: Plan) -> None:
    """UserError unless what the user names is there: tables of every task in a local folder, diagnostic, backbone."""
    data, backbone = plan.suite.data, plan.suite.backbone
    if backbone.source == "folder" and backbone.name is not None:
        folder = Path(backbone.name).expanduser()
        check_checkpoint_files(folder, f"config: backbone.name: {folder}")
    if data.diagnostic is not None and not Path(data.diagnostic).expanduser().is_file():
        raise UserError(f"config: data.diagnostic: {data.diagnostic}: no such file; name GLUE's diagnostic-full.tsv")
    if data.source != "local" or data.path is None:
        return
    folder = Path(data.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"config: data.path: {folder} is not a folder; it should hold <task>/<split>.parquet")
    missing_files = [f for name in plan.suite.tasks for f in source_files(plan, name) if not Path(f).is_file()]
    if missing_files:
        raise UserError(f"config: data.path: missing {', '.join(missing_files)}; drop these tasks or add the files")
