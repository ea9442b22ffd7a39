"""What a run was made of, by its contents, and whether it is therefore to be kept; nothing here imports torch.

Snakemake runs a job again when a file it reads was made again, and deletes the job's outputs first. A predecessor's
outputs that were lost and computed a second time are the same, though, and so would be all that was trained with them.
So before the jobs start, the outputs of those that may be kept are set aside (`set_aside`: hard links, no copies), and
a job first looks whether what it would make was made of the same contents already (`keep_run`, `keep_checkpoint`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from theseus_bench.checksums import GONE, LIST, checksum, sign_folder
from theseus_bench.errors import UserError
from theseus_bench.files import read_json, write_json
from theseus_bench.suite.checkpoint_files import MODEL
from theseus_bench.suite.method_code import code_checksum, code_key, has_same_code
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.search import read_choice
from theseus_bench.suite.status import MADE_FROM, has_model, state

ASIDE = ".before"  # the folder in the suite's that holds what was set aside, at the same paths


def inputs_of(plan: Plan, run: Run, suite_folder: Path) -> dict[str, str]:
    """The SHA-256 of all that the run reads, by name; UserError where something is not there.

    Of the method's code it is the one that comments do not change.
    """
    data = [f"data/{task}" for task in plan.predicted_with(run.task.name)]
    models = ["backbone"]
    if "teacher_outputs" in run.needs:
        data.append(plan.teacher_outputs_of(run))
    if "teacher_model" in run.needs:
        models.append(f"{plan.teacher_of(run).path}/model")
    if "compact_checkpoint" in run.needs:
        models.append(f"compact/{run.spec.name}")
    if run.spec.source:
        models.append(f"{plan.source_of(run).path}/model")
    names = data + [f"{model}/{file}" for model in models for file in MODEL]
    checksums = {name: checksum(suite_folder / name) for name in names}
    method = METHODS_FOLDER / run.spec.name
    checksums[code_key(method)] = code_checksum(method)
    if run.trials:
        choice = read_choice(suite_folder / run.search_file)
        if choice is None:
            raise UserError(f"{suite_folder / run.search_file}: {GONE}")
        settings = json.dumps(choice.chosen_trial.settings, sort_keys=True)
        checksums[run.search_file] = hashlib.sha256(settings.encode()).hexdigest()
    return checksums


def keep_run(plan: Plan, run: Run, suite_folder: Path) -> bool:
    """Whether the run need not be trained, as its record holds: in its place, or set aside and now brought back.

    Its files are then as new, for Snakemake. What was set aside stays there too, as the job that brings it back may
    still be taken for failed. A record that does not hold is removed, lest it outlive a try to replace it.
    """
    folder = suite_folder / run.path
    for root in (suite_folder, suite_folder / ASIDE):
        if _holds(plan, run, root, suite_folder):
            if root != suite_folder:
                _bring_back(root / run.path, folder)
            if not plan.keeps_model(run):
                shutil.rmtree(folder / "model", ignore_errors=True)
            (folder / "error.json").unlink(missing_ok=True)
            for file in (folder / "predictions.parquet", folder / "run.json"):
                os.utime(file)  # newer than what it was made of, as Snakemake will have it
            return True
    (folder / "run.json").unlink(missing_ok=True)
    return False


def _holds(plan: Plan, run: Run, root: Path, suite_folder: Path) -> bool:
    """Whether the run's record in `root` (the suite's folder, or what was set aside) is what training would make."""
    record = state(plan, run, root)[2]
    if record is None or not (has_model(plan, run, record, root) or has_model(plan, run, record, suite_folder)):
        return False
    try:
        return plan.suite.trust_records or _read_the_same(record, inputs_of(plan, run, suite_folder))
    except UserError:  # what is missing is told by who needs it
        return False


def _read_the_same(record: RunRecord, inputs: dict[str, str]) -> bool:
    """Whether what the run read has the contents that it has now."""
    method = METHODS_FOLDER / record.method
    code = {code_key(method), str(method / "method.py")}
    before, now = ({k: v for k, v in part.items() if k not in code} for part in (record.inputs, inputs))
    return before == now and has_same_code(record.inputs, method)


def keep_checkpoint(output: Path, made_from: dict[str, Any], suite_folder: Path) -> bool:
    """Whether the checkpoint `output` need not be made: it was made of the same, and is whole, here or set aside."""
    aside = suite_folder / ASIDE / output.relative_to(suite_folder)
    for folder in (output, aside):
        if _is_made_from(folder, made_from):
            if folder != output:
                _link(folder, output)
            sign_folder(output)
            return True
    return False


def _is_made_from(checkpoint: Path, made_from: dict[str, Any]) -> bool:
    """Whether the checkpoint's made_from.json says that, and of the files that are there."""
    try:
        return bool(read_json(checkpoint / MADE_FROM) == _describe(checkpoint, made_from))
    except (FileNotFoundError, UserError):
        return False


def sign_checkpoint(output: Path, made_from: dict[str, Any]) -> None:
    """Say in a checkpoint that is whole what it was made of."""
    write_json(output / MADE_FROM, _describe(output, made_from))
    sign_folder(output)


def _describe(checkpoint: Path, made_from: dict[str, Any]) -> dict[str, Any]:
    """What made_from.json says: what a checkpoint was made of, and the checksum of each of its files."""
    names = [file.name for file in sorted(checkpoint.iterdir()) if file.is_file()]
    files = {name: checksum(checkpoint / name) for name in names if name not in (MADE_FROM, LIST)}
    return {"made_from": made_from, "files": files}


def set_aside(to_keep: Iterable[Iterable[str]], to_remove: Iterable[Iterable[str]], suite_folder: Path) -> None:
    """Link what is there of the outputs of each job that may keep them, before Snakemake deletes them.

    Of a job that has left nothing, what a command that was killed had set aside stays; of a `to_remove` one it goes.
    """
    (suite_folder / ASIDE).mkdir(exist_ok=True)
    for output in itertools.chain.from_iterable(to_remove):
        _remove(suite_folder / ASIDE / Path(output).relative_to(suite_folder))
    for outputs in to_keep:
        paths = [Path(output).relative_to(suite_folder) for output in outputs]
        if any((suite_folder / path).exists() for path in paths):
            for path in paths:
                _link(suite_folder / path, suite_folder / ASIDE / path)


def run_outputs(run: Run, suite_folder: Path) -> list[Path]:
    """What the job of a run leaves that Snakemake knows of, and so may delete."""
    names = ["run.json", "predictions.parquet"] + ["model"] * (run.spec.role == "teacher")
    return [suite_folder / run.path / name for name in names]


def shelter(outputs: Iterable[Path], suite_folder: Path) -> None:
    """Set the outputs of a job aside that has just made them, while a snakemake is at work.

    Snakemake deletes what a failed job has left, and a job may fail once all is done, as at its time limit. The one
    that started it may have been killed, too; then the next one, which takes it for unfinished, deletes its outputs.
    """
    if (suite_folder / ASIDE).is_dir():
        set_aside([map(str, outputs)], [], suite_folder)


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or for each file of a folder; a copy where the file system has no such thing.

    What was there goes, whether there is a source or not.
    """
    _remove(target)
    files = [source]
    if source.is_dir():
        files = [file for file in source.iterdir() if file.name == LIST or not file.name.startswith(".")]
    for file in files:
        if file.is_file():
            name = target / file.name if source.is_dir() else target
            name.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, name)
            except OSError:
                shutil.copy2(file, name)


def _bring_back(source: Path, folder: Path) -> None:
    """Link a run that was set aside into its place, the record last."""
    for name in ("model", "predictions.parquet", "run.json"):
        if (source / name).exists():
            _link(source / name, folder / name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
