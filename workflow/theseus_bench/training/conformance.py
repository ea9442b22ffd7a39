"""The tests that every method must pass, run by `theseus-bench check-method` and by pytest over every folder.

They train on a tiny random backbone and a few generated examples, so a method is checked in seconds. They find
mistakes, and are no sandbox: whoever means to deceive them can (docs/adding-a-method.md).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.errors import UserError
from theseus_bench.modeling.devices import Hardware, seed_everything
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import check_spec
from theseus_bench.suite.method_spec import METHODS_FOLDER, MethodSpec, load_spec, load_specs
from theseus_bench.training import method as method_module
from theseus_bench.training import run
from theseus_bench.training.conformance_bench import STEPS, TASKS, Bench, make_bench
from theseus_bench.training.conformance_process import ask_process
from theseus_bench.training.file_watch import list_contents, watch
from theseus_bench.training.loop import TaskData, compute_gradients, parameters_of, training_batch
from theseus_bench.training.method import Batch, Method
from theseus_bench.training.micro_batches import parts_of

STOPS = (STEPS // 3, STEPS - 1)  # the steps before which a run is stopped, to be resumed
ONE_EVALUATION = f"evaluate_every={STEPS}"  # so that no dev score chooses among checkpoints


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
        for title, function in checks_of(spec)[1:]:
            yield title, _problem(lambda function=function: function(bench), folder, told, debug)


def checks_of(spec: MethodSpec) -> list[tuple[str, Callable]]:
    """The checks that are made of the method: of a command those that need not look inside."""
    if spec.command is None:
        return CHECKS
    return [(WORDS_OF_COMMAND.get(title, title), function) for title, function in CHECKS if function not in INSIDE]


def _check_metadata(folder: Path) -> None:
    if not (folder / "README.md").is_file():
        raise UserError(f"{folder}: README.md is missing; it states the objective, its source and what is different")
    specs, faults = load_specs(METHODS_FOLDER)
    check_spec(specs[folder.name], specs, load_tasks(TASKS_FILE), faults)
    teachers = [spec.name for spec in specs.values() if spec.role == "teacher"]
    if folder.name in teachers[:-1] + teachers[1:]:
        raise UserError(f"{folder}/method.yaml: role: there is one teacher, but {' and '.join(teachers)} are")
    if specs[folder.name].command is None:
        method_module.load_method(folder)


def _check_words(bench: Bench) -> None:
    spec, template = bench.plan.specs[bench.method], read_yaml(METHODS_FOLDER / "_template" / "method.yaml")
    for key in ("summary", "citation"):
        if getattr(spec, key) == template[key]:
            raise UserError(f"methods/{spec.name}/method.yaml: {key}: these are the template's words; write your own")


def _check_trains(bench: Bench) -> None:
    for task in bench.tasks:
        record, logits = bench.execute(task, "trains")
        if record.reason.startswith("diverged") or not np.isfinite(logits).all():
            raise UserError(f"{task}: the loss or the outputs are not finite after {record.steps} steps")


def _check_learns(bench: Bench) -> None:
    task = bench.tasks[0]
    if not bench.plan.specs[bench.method].trained:
        return
    task_run = bench.run(task, ONE_EVALUATION)
    bench.execute(task, "learns", ONE_EVALUATION)
    weights = load_file(bench.folder / "learns" / task_run.path / "model" / "model.safetensors")
    method, model, _ = _build(bench, task)
    start = method.compressed(model).state_dict()
    if all(torch.equal(weight, start[name]) for name, weight in weights.items()):
        raise UserError(f"after {STEPS} steps all weights of the compressed model are what build() gave")


def _check_blind(bench: Bench) -> None:
    task = bench.tasks[0]
    _, expected = bench.execute(task, "labels", ONE_EVALUATION)
    bench.encode(task, "other labels", other_labels=True)
    _, logits = bench.execute(task, "other labels of dev", ONE_EVALUATION, data="other labels")
    if not np.array_equal(logits, expected):
        raise UserError("with other labels of the dev set it predicts otherwise, so it has learnt from them")


def _check_deterministic(bench: Bench) -> None:
    task = bench.tasks[0]
    (record, first), (_, second) = (bench.execute(task, f"again-{i}", ONE_EVALUATION) for i in range(2))
    if not np.array_equal(first, second):
        raise UserError("the same seed gave other predictions the second time")
    saved = ask_process(bench, task, "again-0", "again-2", ONE_EVALUATION)
    if saved is not None:
        if not np.allclose(saved.logits, first[: len(saved.logits)], atol=1e-5):
            raise UserError(
                "a process that has not read method.py has other predictions of the saved model than the run recorded; "
                "method.py is to leave torch and transformers as they are"
            )
        if record.dev_score is None or abs(saved.score - record.dev_score) > 1e-6:
            raise UserError(
                f"a process that has not read method.py scores the saved model {saved.score:.3f}, the run recorded "
                f"{record.dev_score}; method.py is to leave the metrics as they are"
            )
    if not np.array_equal(first, bench.logits(task, "again-2", ONE_EVALUATION)):
        raise UserError(
            "the same seed gave other predictions in another process: does something depend on hash(), on the process "
            "or on the time?"
        )


def _check_resumes(bench: Bench) -> None:
    task = bench.tasks[0]
    whole, expected = bench.execute(task, "whole")

    class Stop(Exception):
        pass

    def stop_before(step: int) -> Callable[[Method], None]:
        def change(method: Method) -> None:
            on_step_begin = method.on_step_begin

            def begin(number: int) -> None:
                if number == step:
                    raise Stop
                on_step_begin(number)

            method.on_step_begin = begin

        return change

    for step in STOPS:
        name = f"stopped before step {step}"
        with contextlib.suppress(Stop), _changed(stop_before(step)):
            bench.execute(task, name)
        record, resumed = bench.execute(task, name)
        if record.steps and not record.resumed:
            raise UserError("a run that was stopped did not go on from its checkpoint")
        if record.curve != whole.curve or not np.array_equal(expected, resumed):
            raise UserError(
                f"a run that was {name}, and resumed, ended otherwise than one that was not: what the method keeps "
                "beside its parameters is lost; compute it from the step"
            )


def _check_parts(bench: Bench) -> None:
    hardware = Hardware(torch.device("cpu"), "fp32")
    for task in bench.tasks:
        method, model, data = _build(bench, task)
        if method.relates_examples:
            return
        if not parameters_of(method, model.train()).trained:  # a control has no loss
            return
        for dropout in [module for module in model.modules() if isinstance(module, nn.Dropout)]:
            dropout.p = 0.0  # it is drawn for each part, so it cannot be the same
        parameters = list(model.parameters())
        batch = training_batch(data, np.arange(8), hardware.device)
        for step in (0, STEPS - 1):
            method.on_step_begin(step)
            whole, parts = (_gradients(method, model, batch, size, parameters, hardware) for size in (8, 3))
            # The gradients of a balanced batch may nearly cancel out; rounding is of the parts that do.
            part = next(parts_of(batch, 3, by_length=True))[0]
            of_part = _gradients(method, model, part, 3, parameters, hardware)
            largest = max((float(gradient.abs().max()) for gradient in [*whole, *of_part]), default=0.0)
            pairs = zip(whole, parts, strict=True)
            if not all(torch.allclose(one, other, rtol=1e-3, atol=1e-5 * largest) for one, other in pairs):
                raise UserError(
                    f"{task}: a batch that goes through the model in parts, each padded to its own longest, has other "
                    "gradients: loss() is to be a mean over the examples, in which padding has no part; where it "
                    "relates them to one another, write relates_examples = True in the class"
                )


def _gradients(method, model, batch, micro_batch, parameters, hardware) -> list[torch.Tensor]:
    compute_gradients(method, model, batch, micro_batch, parameters, hardware)
    return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]


def _check_batch(bench: Bench) -> None:
    def change(method: Method) -> None:
        loss = method.loss

        def compare(model: nn.Module, batch: Batch) -> torch.Tensor:
            before = {name: tensor.clone() for name, tensor in batch.items()}
            value = loss(model, batch)
            if list(batch) != list(before) or not all(torch.equal(batch[name], before[name]) for name in before):
                raise UserError("loss() changes the batch in place; work on a copy")
            return value

        method.loss = compare

    with _changed(change):
        bench.execute(bench.tasks[0], "batch")


def _check_contained(bench: Bench) -> None:
    own = [(bench.folder / name).resolve() for name in ("contained", "checkpoints")]
    places = [bench.folder, METHODS_FOLDER]
    before = list_contents(places, own)
    names = {path.name for path in Path().iterdir()}
    with watch(METHODS_FOLDER / bench.method) as watcher:
        bench.execute(bench.tasks[0], "contained")
    after = list_contents(places, own)
    changes = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    changes += [str(path.resolve()) for path in Path().iterdir() if path.name not in names]
    allowed = tuple(f"{path}{os.sep}" for path in [*own, "/dev"])
    outside = {path for path in [*watcher.paths, *changes] if not f"{path}/".startswith(allowed)} | set(watcher.others)
    if outside:
        raise UserError(f"it reached outside the run's folder: {', '.join(sorted(outside))}")


def _build(bench: Bench, task: str) -> tuple[Method, nn.Module, TaskData]:
    """A new instance of the method, what it builds for its run on a task, and the data of that run."""
    task_run, hardware = bench.run(task), Hardware(torch.device("cpu"), "fp32")
    data = run.task_data(bench.plan, task_run, bench.folder)
    method = method_module.load_method(METHODS_FOLDER / bench.method)
    seed_everything(task_run.seed)
    return method, method.build(run.context(bench.plan, task_run, bench.folder, data, STEPS, hardware.device)), data


@contextlib.contextmanager
def _changed(change: Callable[[Method], None]) -> Iterator[None]:
    """Within the block every method is changed before it runs."""
    original = run.load_method

    def load(folder: Path) -> Method:
        method = original(folder)
        change(method)
        return method

    run.load_method = load
    try:
        yield
    finally:
        run.load_method = original


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


CONTAINED = "nothing is fetched and nothing written outside the run's folder"
CHECKS: list[tuple[str, Callable]] = [
    ("metadata complete", _check_metadata),
    (f"{STEPS} steps give a finite loss, for classes and for values", _check_trains),
    ("the steps change the compressed model", _check_learns),
    ("a batch is left as it was", _check_batch),
    ("the same seed gives the same predictions, also in another process", _check_deterministic),
    ("a resumed run equals an uninterrupted one", _check_resumes),
    ("a batch in parts gives the same update", _check_parts),
    ("the labels of the dev set and the files of other tasks have no part in the result", _check_blind),
    (CONTAINED, _check_contained),
    ("the template's words are replaced", _check_words),
]
INSIDE = (_check_learns, _check_batch, _check_resumes, _check_parts)  # they look into, or change, the code of a method
# Of a program it is seen what it leaves where somebody looks, and not what it does.
WORDS_OF_COMMAND = {CONTAINED: "nothing is left in the folders of the suite, the methods and the project"}
