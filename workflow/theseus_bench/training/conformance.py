"""The tests that every method must pass, run by `theseus-bench check-method` and by pytest over every folder.

They train on a tiny random backbone and a few generated examples, so a method is checked in seconds.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, BertForMaskedLM, BertForSequenceClassification

from theseus_bench.data.encoding import encode_task, open_split, summary
from theseus_bench.data.synthetic import generate, vocabulary, write_tokenizer
from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.errors import UserError
from theseus_bench.files import write_json
from theseus_bench.modeling.checkpoints import save_checkpoint
from theseus_bench.modeling.devices import Hardware
from theseus_bench.strict_yaml import parse
from theseus_bench.suite.config import Suite
from theseus_bench.suite.load import check_spec, load_methods
from theseus_bench.suite.method_spec import METHODS_FOLDER, load_spec, load_specs
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord
from theseus_bench.training import method as method_module
from theseus_bench.training import run
from theseus_bench.training.loop import compute_gradients, parameters_of, predict, training_batch
from theseus_bench.training.micro_batches import parts_of
from theseus_bench.training.run import execute, store_teacher_outputs

ROWS, STEPS = 40, 3
TASKS = ["rte", "stsb"]  # a pair of sentences with classes, and with values


@dataclass(frozen=True)
class Bench:
    """A tiny suite on disk in which the method under test can run."""

    plan: Plan
    folder: Path

    def run(self, task: str) -> Run:
        """The method's run on a task, cut to a few steps."""
        return self.plan.run(self.method, task, 1)

    @property
    def tasks(self) -> list[str]:
        """The tasks that the method does not exclude."""
        return [name for name in TASKS if name not in self.plan.specs[self.method].exclude]

    @property
    def method(self) -> str:
        return next(iter(self.plan.suite.experiments.values())).methods[0]

    def execute(self, task: str, name: str) -> tuple[RunRecord, np.ndarray]:
        """Train the run in a folder of its own, over the shared inputs; its record and its logits."""
        folder = self.folder / name
        if not folder.exists():
            (folder / "runs").mkdir(parents=True)
            for part in ("data", "backbone", "teacher", "compact"):
                (folder / part).symlink_to(self.folder / part)
            spec = self.plan.specs[self.method]
            for other in {self.plan.teacher.name} | ({spec.source.method} if spec.source else set()):
                if other != self.method:
                    (folder / "runs" / other).symlink_to(self.folder / "runs" / other)
        record = execute(self.plan, self.run(task), folder, self.folder / "checkpoints")
        table = pq.read_table(folder / self.run(task).path / "predictions.parquet")
        return record, np.stack(table["logits"].to_numpy())


def check(folder: Path, debug: bool = False) -> Iterator[tuple[str, str]]:
    """Each check's title and, where it fails, what is wrong ('' otherwise).

    Where the metadata is not complete no other check is made. What an earlier check has told is not told again; with
    `debug` its traceback is printed.
    """
    try:
        spec = load_spec(folder)
    except UserError as error:
        yield "metadata complete", str(error)
        return
    if not set(TASKS) - spec.exclude.keys():
        yield "metadata complete", f"it excludes {' and '.join(TASKS)}, one of which the checks need"
        return
    told: set[str] = set()
    problem = _problem(lambda: _check_metadata(folder), folder, told, debug)
    yield "metadata complete", problem
    if problem:
        return
    with tempfile.TemporaryDirectory() as scratch:
        bench = make_bench(spec.name, Path(scratch))
        for title, function in CHECKS[1:]:
            yield title, _problem(lambda function=function: function(bench), folder, told, debug)


def make_bench(method: str, folder: Path) -> Bench:
    """A tiny random backbone, a predecessor trained on it, its outputs, a compact checkpoint and a source's model, all
    in `folder`."""
    tasks = load_tasks(TASKS_FILE)
    specs, faults = load_methods(METHODS_FOLDER, tasks)
    few = {"set": {"epochs": 10.0, "max_steps": STEPS, "batch_size": 8, "evaluate_every": 1, "precision": "fp32"}}
    suite = {
        "suite": "check",
        "data": {"source": "demo", "rows": ROWS},
        "backbone": {"source": "demo", "layers": 4},
        "compact": {name: {"source": "recipe"} for name, spec in specs.items() if "compact_checkpoint" in spec.needs},
        "student_layers": 2,
        "tasks": TASKS,
        "seeds": [1],
        "device": "cpu",
        "checkpoint_every": 0,
        "keep_models": ["all"],
        "settings": [few],
        "experiments": {"check": {"title": "check", "methods": [method]}},
    }
    plan = Plan(parse(Suite, suite, "check"), tasks, specs, faults)
    bench = Bench(plan, folder)
    write_tokenizer(folder / "tokenizer")
    torch.manual_seed(0)  # the same checks each time: with some weights the gradients of a batch nearly cancel out
    for path, layers in [("backbone", 4), *((f"compact/{name}", 2) for name in suite["compact"])]:
        save_checkpoint(BertForMaskedLM(_tiny_config(layers)), folder / "tokenizer", folder / path)
    (folder / "compact").mkdir(exist_ok=True)
    (folder / "teacher").mkdir()
    for name in TASKS:
        _make_inputs(bench, name)
    if specs[method].source:
        source = plan.source_of(bench.run(bench.tasks[0]))
        model = BertForSequenceClassification(_tiny_config(2, num_labels=source.task.outputs))
        save_checkpoint(model, folder / "tokenizer", folder / source.path / "model")
        write_json(folder / source.path / "run.json", {})  # its date is part of the run's identity
    return bench


def _make_inputs(bench: Bench, name: str) -> None:
    task, folder = bench.plan.tasks[name], bench.folder
    source = folder / "source" / name
    source.mkdir(parents=True)
    for split, frame in generate(task, ROWS).items():
        frame.to_parquet(source / f"{split}.parquet", index=False)
    files = {split: source / f"{split}.parquet" for split in task.splits}
    encode_task(task, files, folder / "backbone", folder / "data" / name, sample=True, verify=False)
    teacher = bench.plan.run(bench.plan.teacher.name, name, 1)
    execute(bench.plan, teacher, folder, folder / "checkpoints")
    if "teacher_outputs" in bench.run(name).needs:
        store_teacher_outputs(bench.plan, teacher, folder)


def _tiny_config(layers: int, **changes) -> BertConfig:
    return BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        **changes,
    )


def _check_metadata(folder: Path) -> None:
    if not (folder / "README.md").is_file():
        raise UserError(f"{folder}: README.md is missing; it states the objective, its source and what is different")
    specs = load_specs(METHODS_FOLDER)[0]
    check_spec(specs[folder.name], specs, load_tasks(TASKS_FILE))
    teachers = [spec.name for spec in specs.values() if spec.role == "teacher"]
    if folder.name in teachers[:-1] + teachers[1:]:
        raise UserError(f"{folder}/method.yaml: role: there is one teacher, but {' and '.join(teachers)} are")
    method_module.load_method(folder)


def _check_trains(bench: Bench) -> None:
    for task in bench.tasks:
        record, logits = bench.execute(task, f"trains-{task}")
        if record.reason.startswith("diverged") or not np.isfinite(logits).all():
            raise UserError(f"{task}: the loss or the outputs are not finite after {record.steps} steps")


def _check_deterministic(bench: Bench) -> None:
    first, second = (bench.execute(bench.tasks[0], f"again-{i}")[1] for i in range(2))
    if not np.array_equal(first, second):
        raise UserError("the same seed gave other predictions the second time")


def _check_resumes(bench: Bench) -> None:
    whole, expected = bench.execute(bench.tasks[0], "whole")

    class Stop(Exception):
        pass

    original = method_module.load_method

    def load_stopping(folder: Path):
        method = original(folder)
        on_step_begin = method.on_step_begin

        def stop(step):
            if step == STEPS - 1:
                raise Stop
            on_step_begin(step)

        method.on_step_begin = stop
        return method

    run.load_method = load_stopping
    try:
        with contextlib.suppress(Stop):
            bench.execute(bench.tasks[0], "stopped")
    finally:
        run.load_method = original
    record, resumed = bench.execute(bench.tasks[0], "stopped")
    if record.steps and not record.resumed:
        raise UserError("a run that was stopped did not go on from its checkpoint")
    if record.curve != whole.curve or not np.array_equal(expected, resumed):
        raise UserError("a run that was stopped and resumed ended otherwise than one that was not")


def _check_parts(bench: Bench) -> None:
    hardware = Hardware(torch.device("cpu"), "fp32")
    for task in bench.tasks:
        task_run = bench.run(task)
        data = run.task_data(bench.plan, task_run, bench.folder)
        method = method_module.load_method(METHODS_FOLDER / bench.method)
        if method.relates_examples:
            return
        model = method.build(run.context(bench.plan, task_run, bench.folder, data, STEPS, hardware.device)).train()
        if not parameters_of(method, model).trained:  # a control has no loss
            return
        for dropout in [module for module in model.modules() if isinstance(module, nn.Dropout)]:
            dropout.p = 0.0  # it is drawn for each part, so it cannot be the same
        parameters = list(model.parameters())
        batch = training_batch(data, np.arange(8), hardware.device)
        for step in (0, STEPS - 1):
            method.on_step_begin(step)
            whole, parts = (_gradients(method, model, batch, size, parameters, hardware) for size in (8, 3))
            # The gradients of a balanced batch may nearly cancel out; rounding is of the parts that do.
            part = next(parts_of(batch, 3))[0]
            of_part = _gradients(method, model, part, 3, parameters, hardware)
            largest = max((float(gradient.abs().max()) for gradient in [*whole, *of_part]), default=0.0)
            pairs = zip(whole, parts, strict=True)
            if not all(torch.allclose(one, other, rtol=1e-3, atol=1e-5 * largest) for one, other in pairs):
                raise UserError(
                    f"{task}: a batch that goes through the model in parts, as one that does not fit in memory, has "
                    "other gradients: loss() is to be a mean over the examples of the batch; where it relates them to "
                    "one another, write relates_examples = True in the class"
                )


def _gradients(method, model, batch, micro_batch, parameters, hardware) -> list[torch.Tensor]:
    compute_gradients(method, model, batch, micro_batch, parameters, hardware)
    return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]


def _check_exports(bench: Bench) -> None:
    record, logits = bench.execute(bench.tasks[0], "exports")
    folder = bench.folder / "exports" / bench.run(bench.tasks[0]).path / "model"
    if record.architecture is None:
        if bench.plan.specs[bench.method].role != "control":
            raise UserError("compressed() gave no model; only a control may have none")
        return
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    data = bench.folder / "data" / bench.tasks[0]
    again = predict(model, open_split(data, "validation"), summary(data)["pad"], Hardware(model.device, "fp32"))
    if not np.allclose(again, logits[: len(again)], atol=1e-5):
        raise UserError(
            "the saved model, loaded with plain transformers, gives other predictions than the run recorded"
        )


def _check_contained(bench: Bench) -> None:
    with _watch() as targets:
        bench.execute(bench.tasks[0], "contained")
    allowed = (*(str((bench.folder / name).resolve()) for name in ("contained", "checkpoints")), "/dev/")
    outside = [name for name in targets if not name.startswith(allowed)]
    if outside:
        raise UserError(f"it reached outside the run's folder: {', '.join(sorted(set(outside)))}")


_watchers: list[list[str]] = []


@contextlib.contextmanager
def _watch() -> Iterator[list[str]]:
    """Within the block, the list fills with what is written, made, moved or connected to."""
    _hook()
    _watchers.append([])
    try:
        yield _watchers[-1]
    finally:
        _watchers.pop()


@functools.cache
def _hook() -> None:
    sys.addaudithook(_audit)  # cannot be taken back, so it is set once and idles while nobody watches


def _audit(event: str, arguments: tuple) -> None:
    if not _watchers:
        return
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if (isinstance(arguments[2], int) and arguments[2] & writes) or set(arguments[1] or "") & set("wax+"):
            _watchers[-1].append(os.path.abspath(os.fsdecode(arguments[0])))
    elif event in ("os.mkdir", "os.rename"):
        _watchers[-1].append(os.path.abspath(os.fsdecode(arguments[event == "os.rename"])))
    elif event == "socket.connect":
        _watchers[-1].append(f"the network at {arguments[1]}")


def _problem(function: Callable[[], None], folder: Path, told: set[str], debug: bool) -> str:
    """What is wrong with the method in `folder`, added to what is `told`; '' if nothing is.

    With `debug` its traceback is printed.
    """
    try:
        with method_module.name_line(folder):
            function()
    except Exception as error:
        problem = str(error)
        if not isinstance(error, UserError):
            where = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        if problem in told:
            return "the same"
        told.add(problem)
        if debug:
            traceback.print_exception(error.__cause__ or error)
        return problem
    return ""


CHECKS: list[tuple[str, Callable]] = [
    ("metadata complete", _check_metadata),
    ("three steps give a finite loss, for classes and for values", _check_trains),
    ("the same seed gives the same predictions", _check_deterministic),
    ("a resumed run equals an uninterrupted one", _check_resumes),
    ("a batch in parts, as where memory is short, gives the same update", _check_parts),
    ("the compressed model loads with plain transformers", _check_exports),
    ("nothing is fetched and nothing written outside the run's folder", _check_contained),
]
