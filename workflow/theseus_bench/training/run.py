"""One run from start to record: read what it needs, train, predict, write."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from theseus_bench.checksums import checksum
from theseus_bench.data.encoding import open_split, summary
from theseus_bench.data.metrics import measure_task, score
from theseus_bench.data.parquet import Split
from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.files import AGAIN, atomic
from theseus_bench.modeling import architectures
from theseus_bench.modeling import checkpoints as checkpoints_module
from theseus_bench.modeling.compile import prepare_for_device
from theseus_bench.modeling.devices import (
    Hardware,
    choose_hardware,
    device_name,
    peak_memory_mb,
    seed_everything,
    set_malloc_mmap_threshold,
)
from theseus_bench.modeling.flops import count_flops, total_flops
from theseus_bench.suite.config import LoopSettings
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.provenance import provenance
from theseus_bench.suite.records import SCHEMA, RunRecord, record_crash, save_record
from theseus_bench.suite.run_files import inputs_of, run_outputs, shelter
from theseus_bench.suite.run_names import EQUAL
from theseus_bench.suite.search import read_choice
from theseus_bench.training.command_method import CommandJob
from theseus_bench.training.loop import (
    HELD_OUT,
    TaskData,
    fit,
    planned_steps,
    predict,
    without_held_out,
)
from theseus_bench.training.method import Method, RunContext, load_method, name_line
from theseus_bench.training.model_card import model_card
from theseus_bench.training.teacher_outputs import open_teacher_outputs, write_teacher_outputs
from theseus_bench.training.trainer_state import CHECKPOINTS, STATE_VERSION, Checkpoint, TrainerState

SCORE_TOLERANCE = 0.02  # in [-1, 1]: rounding may turn a few decisions of a GPU's; another model turns many
DECISIONS = 3  # or as many decisions, of few examples


def execute(plan: Plan, run: Run, suite_folder: Path, checkpoints: Path = CHECKPOINTS) -> RunRecord:
    """Train one run and write its folder; on an error, or Stopped, error.json says why, and it is raised.

    A checkpoint is written to a folder of the run's own in `checkpoints` in the suite's intervals, taken up if one is
    there, and removed once the record is safe: also from a snakemake that takes the run for failed.
    """
    folder = suite_folder / run.path
    folder.mkdir(parents=True, exist_ok=True)
    with record_crash(folder), name_line(METHODS_FOLDER / run.spec.name):
        run, trial = with_chosen(run, suite_folder)
        inputs = inputs_of(plan, run, suite_folder)
        hardware = _hardware(plan, run)
        identity = _identity(plan, run, suite_folder, inputs, hardware)
        checkpoint = Checkpoint(checkpoints / identity, plan.suite.checkpoint_every)
        record = _execute(plan, run, trial, suite_folder, folder, hardware, checkpoint, inputs)
        save_record(folder, record)
        shelter(run_outputs(run, suite_folder), suite_folder)
        checkpoint.discard()
    return record


def with_chosen(run: Run, suite_folder: Path) -> tuple[Run, int | None]:
    """The run with the settings that its search has chosen, and which trial they are; itself where none is searched."""
    if not run.trials:
        return run, None
    choice = read_choice(suite_folder / run.search_file)
    if choice is None:
        command = f"theseus-bench select-settings {suite_folder} {run.name} {run.task.name}"
        raise UserError(f"{suite_folder / run.search_file}: no such file; the settings are searched first: {command}")
    return replace(run, settings=choice.chosen_trial.settings), choice.chosen_trial.trial


def _execute(
    plan: Plan,
    run: Run,
    trial: int | None,
    suite_folder: Path,
    folder: Path,
    hardware: Hardware,
    checkpoint: Checkpoint,
    inputs: dict[str, str],
) -> RunRecord:
    start_time = time.monotonic()
    data = task_data(plan, run, suite_folder)
    splits = _splits_to_predict(plan, run, suite_folder, data)
    if run.spec.command:
        steps = planned_steps(_loop(run), len(data.train))
        hardware = replace(hardware, precision="fp32")  # in which the suite and the program have to agree
        job_context = context(plan, run, suite_folder, data, steps, hardware.device)
        job = CommandJob(run, job_context, data, splits, hardware, folder, checkpoint.folder / "command")
        state, compressed_model = job.execute()
        check_depth(compressed_model, run.settings["layers"])
        predictions = _predict_all(prepare_for_device(compressed_model, hardware.device), splits, data.pad, hardware)
        job.check_logits({split: logits for split, (_, logits) in predictions.items()})
    else:
        seed_everything(run.seed)
        method = load_method(METHODS_FOLDER / run.spec.name)
        steps = run_length(run, method, len(data.train))
        run_context = context(plan, run, suite_folder, data, steps, hardware.device)
        model = method.build(run_context)
        seed_everything(run.seed)  # however much building drew, dropout begins alike in every method
        state = fit(method, model, data, _loop(run), run.seed, hardware, checkpoint, steps)
        compressed_model = compress(run, method, model, run_context)
        with count_flops(state.evaluation_flops, observed=not state.curve):
            # a control has no compressed model
            result = model if compressed_model is None else prepare_for_device(compressed_model, hardware.device)
            predictions = _predict_all(result, splits, data.pad, hardware)
    if state.curve:
        examples = sum(map(len, data.chosen_by.values()))
        check_score(state.best_score, _score_of(run.task, predictions, data.chosen_by), examples)
    check_inputs(inputs, inputs_of(plan, run, suite_folder))
    if run.spec.command:
        job.remove()
    table = pa.concat_tables([predictions_table(split, *part) for split, part in predictions.items()])
    dev_score = _score_of(run.task, predictions, run.task.dev) if state.curve else None
    seconds = {"all": state.seconds_before_resume + time.monotonic() - start_time}
    with atomic(folder / "predictions.parquet") as scratch:
        pq.write_table(table, scratch, compression="zstd")
    results = {"inputs": inputs, "predictions_sha256": checksum(folder / "predictions.parquet"), "dev_score": dev_score}
    record = _record(plan, run, trial, suite_folder, data, state, steps, compressed_model, hardware, seconds, results)
    shutil.rmtree(folder / "model", ignore_errors=True)  # of an earlier run, which would not be this one's
    if plan.keeps_model(run) and compressed_model is not None:
        card = model_card(run, record)
        checkpoints_module.save_checkpoint(compressed_model.cpu(), suite_folder / "backbone", folder / "model", card)
    return record


def run_length(run: Run, method: Method, examples: int) -> int:
    """How many optimizer steps a run plans: by its settings, or by its recipe as the method has it.

    Under equal effort, and where the suite sets epochs or max_steps itself, the settings alone decide.
    """
    steps = planned_steps(_loop(run), examples)
    recipe = run.spec.defaults | run.spec.per_task.get(run.task.name, {})
    adapted = any(run.settings[key] != recipe[key] for key in ("epochs", "max_steps") if key in recipe)
    return steps if run.protocol == EQUAL or adapted else method.run_length(SimpleNamespace(**run.settings), steps)


def compress(run: Run, method: Method, model: nn.Module, run_context: RunContext) -> nn.Module | None:
    """What the method makes of its model, as plain `transformers` builds it; None for a control that has none.

    UserError unless it is a model that plain `transformers` knows, of the depth that the method names. Whatever else
    the method's module does in its forward pass has no part in the predictions.
    """
    model = method.compressed(model)
    if model is None:
        if run.spec.role != "control":
            raise UserError("compressed() gave no model; only a control may have none")
        return None
    model = checkpoints_module.rebuild_classifier(model)
    check_depth(model, method.compressed_layers(run_context))
    return model


def check_depth(model: nn.Module, layers: int) -> None:
    """UserError unless the compressed model has so many layers."""
    depth = len(architectures.layers_of(model))
    if depth != layers:
        raise UserError(f"the compressed model has {depth} layers, but the run is of {layers}")


def check_score(in_training: float, of_result: float | None, examples: int) -> None:
    """UserError unless the compressed model scores as the method's own did when it was chosen, in [-1, 1]."""
    tolerance = max(SCORE_TOLERANCE, DECISIONS / examples)
    if of_result is None or abs(of_result - in_training) > tolerance:
        value = "nothing finite" if of_result is None else f"{of_result:.3f}"
        raise UserError(
            f"in its training the model is said to have scored {in_training:.3f}, but the compressed model, by plain "
            f"transformers, scores {value}; in evaluation what is trained must behave as what comes of it"
        )


def check_inputs(before: dict[str, str], after: dict[str, str]) -> None:
    """UserError unless all that the run reads has the contents that it had when it began."""
    changes = [name for name in before if after.get(name) != before[name]]
    if changes:
        raise UserError(f"{', '.join(changes)}: changed while the run was trained, which may only read it; {AGAIN}")


def _score_of(task: Task, predictions: dict[str, tuple[Split, np.ndarray]], splits: Iterable[str]) -> float | None:
    """The task's score of the predictions on these splits; None where they are not finite."""
    logits = {split: predictions[split][1] for split in splits}
    value = score(measure_task(task, logits, {split: predictions[split][0].labels for split in splits}))
    return value if np.isfinite(value) else None


def _record(
    plan, run, trial, suite_folder, data, state, steps, compressed_model, hardware, seconds, results
) -> RunRecord:
    majority = majority_score(data)
    compact = plan.suite.compact.get(run.spec.name)
    status, reason = run_status(run.spec.role, state.divergence, results["dev_score"], majority)
    training_seconds = state.seconds - state.evaluation_seconds
    per_second = state.step / training_seconds if training_seconds > 0 else 0.0
    return RunRecord(
        schema_version=SCHEMA,
        method=run.spec.name,
        variant=run.variant,
        method_version=run.spec.version,
        task=run.task.name,
        seed=run.seed,
        fingerprint=plan.fingerprint(run),
        status=status,
        reason=reason,
        settings=run.settings,
        trial=trial,
        chosen_on=run.settings["choose_on"] if state.step else "nothing",
        evaluations=len(state.curve),
        held_out_score=state.best_score if data.held_out and state.curve else None,
        majority_score=majority,
        best_step=state.best_step,
        steps=state.step,
        planned_steps=steps if state.step else 0,
        resumed=state.resumes,
        curve=state.curve,
        **_size(compressed_model),
        precision=hardware.precision,
        device=device_name(hardware.device),
        threads=torch.get_num_threads(),
        micro_batch=state.micro_batch or run.settings["batch_size"],
        seconds={"training": state.seconds, "evaluating": state.evaluation_seconds, **seconds},
        steps_per_second=per_second,
        examples_per_second=per_second * run.settings["batch_size"],
        peak_memory_mb=peak_memory_mb(hardware.device, of_children=bool(run.spec.command)),
        flops=None if run.spec.command else _flops(state),  # what a command computes is not seen
        energy_joules=state.energy_joules,
        data=summary(suite_folder / "data" / run.task.name)["splits"],
        data_source=plan.suite.data.model_dump(exclude_none=True),
        backbone=plan.suite.backbone.model_dump(exclude_none=True),
        compact=compact.model_dump(exclude_none=True) if "compact_checkpoint" in run.needs else None,
        teacher=plan.fingerprint(plan.teacher_of(run)) if run.learns else None,
        source=plan.fingerprint(plan.source_of(run)) if run.spec.source else None,
        **results,
        provenance=provenance(),
    )


def _flops(state: TrainerState) -> dict[str, float]:
    counts = {"training": state.training_flops, "evaluation": state.evaluation_flops}
    return {name: total_flops(count) for name, count in counts.items()}


def store_teacher_outputs(plan: Plan, run: Run, suite_folder: Path) -> None:
    """Store the outputs of the predecessor `run` on its training set, for its students."""
    hardware = _hardware(plan, run)
    folder = suite_folder / "data" / run.task.name
    model_folder = suite_folder / run.path / "model"
    if not model_folder.is_dir():
        raise UserError(f"{model_folder}: the predecessor's model is gone; {AGAIN}")
    model = checkpoints_module.load_classifier(model_folder, run.task)
    output = suite_folder / plan.teacher_outputs_of(run)
    layers = distilled_layers(plan)
    train, pad = open_split(folder, "train"), summary(folder)["pad"]  # the whole of it: a student knows its part
    write_teacher_outputs(model, train, pad, layers, hardware.device, hardware.precision, output)


def distilled_layers(plan: Plan) -> list[int]:
    """The predecessor's layers, from 1, whose [CLS] states some student of the suite may look at."""
    students = [run for run in plan.runs.values() if "teacher_outputs" in run.needs]
    strides = {plan.suite.backbone.layers // run.settings["layers"] for run in students}
    return sorted({layer for stride in strides for layer in range(stride, plan.suite.backbone.layers + 1, stride)})


def majority_score(data: TaskData) -> float:
    """What predicting the training set's most frequent class (or mean value) scores on dev."""
    labels = data.train.labels
    if data.task.regression:
        logits = np.full((1, 1), labels.mean())
    else:
        logits = np.bincount(labels.astype(int), minlength=data.task.outputs)[None].astype(float)
    constant = {name: np.repeat(logits, len(split), axis=0) for name, split in data.dev.items()}
    return score(measure_task(data.task, constant, {name: split.labels for name, split in data.dev.items()}))


def run_status(role: str, divergence: str, dev_score: float | None, majority: float) -> tuple[str, str]:
    """The run's status and its reason: a run that diverged or is no better than the majority class has failed."""
    if divergence:
        return "failed", divergence
    if role != "control" and (dev_score is None or dev_score <= majority):
        return "failed", "at or below the majority class"
    return "complete", ""


def _loop(run: Run) -> LoopSettings:
    return LoopSettings(**{name: run.settings[name] for name in LoopSettings.model_fields})


def _identity(plan: Plan, run: Run, suite_folder: Path, inputs: dict[str, str], hardware: Hardware) -> str:
    """A hash of the run, of the contents it reads and of how it computes: no run goes on from another's checkpoint."""
    parts = [plan.fingerprint(run), str(suite_folder.resolve()), json.dumps(inputs, sort_keys=True)]
    parts += [hardware.device.type, hardware.precision, str(STATE_VERSION)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _hardware(plan: Plan, run: Run) -> Hardware:
    set_malloc_mmap_threshold()
    return choose_hardware(plan.suite.device, run.settings["precision"], plan.suite.threads)


def task_data(plan: Plan, run: Run, suite_folder: Path) -> TaskData:
    """What the run reads of its task, and of its predecessor's outputs."""
    folder = suite_folder / "data" / run.task.name
    teacher = None
    if "teacher_outputs" in run.needs:
        teacher = open_teacher_outputs(suite_folder / plan.teacher_outputs_of(run))
    dev = {split: open_split(folder, split) for split in run.task.dev}
    data = TaskData(run.task, summary(folder)["pad"], open_split(folder, "train"), dev, teacher)
    return without_held_out(data) if run.settings["choose_on"] == HELD_OUT else data


def context(plan: Plan, run: Run, suite_folder: Path, data: TaskData, steps: int, device: torch.device) -> RunContext:
    """What the run's method may know."""
    teacher_model = suite_folder / plan.teacher_of(run).path / "model" if "teacher_model" in run.needs else None
    source_model = suite_folder / plan.source_of(run).path / "model" if run.spec.source else None
    for folder in (teacher_model, source_model):
        if folder is not None and not folder.is_dir():
            raise UserError(f"{folder}: the model is gone; {AGAIN}")
    return RunContext(
        task=run.task,
        seed=run.seed,
        settings=SimpleNamespace(**run.settings),
        steps=steps,
        labels=torch.from_numpy(data.train.labels.copy()),
        predecessor_layers=plan.suite.backbone.layers,
        teacher_layers=data.teacher.layers if data.teacher else [],
        backbone_folder=suite_folder / "backbone",
        predecessor_folder=teacher_model,
        compact_folder=suite_folder / "compact" / run.spec.name if "compact_checkpoint" in run.needs else None,
        source_folder=source_model,
        device=device,
    )


def _splits_to_predict(plan: Plan, run: Run, suite_folder: Path, data: TaskData) -> dict[str, Split]:
    """Every dev and test split of the task, of the tasks that its model predicts (AX), and the slice that was held
    out."""
    splits = data.dev | data.chosen_by
    parts = {split: rows for split, rows in data.chosen_by.items() if split not in run.task.splits}
    for name in plan.predicted_with(run.task.name):
        folder = suite_folder / "data" / name
        for split in summary(folder)["splits"]:
            if split != "train":
                own = name == run.task.name
                key = split if own else f"{name}/{split}"
                parts[key] = splits[split] if own and split in splits else open_split(folder, split)
    return parts


def _predict_all(
    model: nn.Module, splits: dict[str, Split], pad: int, hardware: Hardware
) -> dict[str, tuple[Split, np.ndarray]]:
    """Rows and logits of each split."""
    return {key: (rows, predict(model, rows, pad, hardware)) for key, rows in splits.items()}


def predictions_table(split: str, rows: Split, logits: np.ndarray) -> pa.Table:
    """Per-example predictions: split, idx, label, logits."""
    return pa.table(
        {
            "split": pa.array([split] * len(rows)).dictionary_encode(),
            "idx": rows.rows["idx"],
            "label": rows.labels,
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), logits.shape[1]),
        }
    )


def _size(compressed_model: nn.Module | None) -> dict:
    if compressed_model is None:
        return {"parameters": None, "embedding_parameters": None, "architecture": None}
    total, embeddings = architectures.count_parameters(compressed_model)
    return {
        "parameters": total,
        "embedding_parameters": embeddings,
        "architecture": checkpoints_module.architecture(compressed_model),
    }
