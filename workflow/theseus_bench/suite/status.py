"""Which runs of a suite are complete, failed or missing, and why; it imports nothing that computes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from theseus_bench.errors import UserError
from theseus_bench.files import AGAIN, read_json
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord, crash_reason, read_record

WEIGHTS = "model.safetensors"
MODEL = [WEIGHTS, "config.json"]  # what of a model its students read
MADE_FROM = "made_from.json"  # of a checkpoint: what it was made of, and its files; written last


def states(plan: Plan, folder: Path) -> list[tuple[Run, str, str]]:
    """Every run of the suite with its state (complete, failed, missing) and the reason for the latter two."""
    found = []
    for run in plan.runs.values():
        status, reason, record = state(plan, run, folder)
        if record is not None and not plan.suite.trust_records and not has_model(plan, run, record, folder):
            status, reason = "missing", f"its model is gone; {AGAIN}"
        found.append((run, status, reason))
    return found


def state(plan: Plan, run: Run, folder: Path, remember: bool = True) -> tuple[str, str, RunRecord | None]:
    """One run's state, its reason, and its record where it has one.

    A record that other settings have left counts as missing: its numbers are not those that the suite asks for.
    """
    try:
        record = read_record(folder / run.path, remember)
    except UserError as error:
        return "missing", str(error), None
    if record is None:
        return "missing", _why_missing(plan, run, folder), None
    if record.fingerprint != plan.fingerprint(run):
        return "missing", f"its record is of other settings; {AGAIN}", None
    fault = _fault_of_predictions(folder / run.path / "predictions.parquet", record.predictions_sha256)
    if fault:
        return "missing", f"its predictions are {fault}; {AGAIN}", None
    return record.status, record.reason, record


def has_model(plan: Plan, run: Run, record: RunRecord, folder: Path) -> bool:
    """Whether the run's model is there, where it is to be kept and its method makes one."""
    wanted = record.architecture is not None and plan.keeps_model(run)
    return not wanted or all((folder / run.path / "model" / name).is_file() for name in MODEL)


def unsound(plan: Plan, runs: Iterable[Run], experiments: Iterable[str], folder: Path) -> list[str]:
    """What is there of `runs` and `experiments` but cannot be used: records, and what has lost a part.

    Snakemake takes a file that is there and not older than its inputs for sound. This looks without importing torch,
    quick enough for each time that the workflow is parsed.
    """
    runs = list(runs)
    found = [f"{run.path}/run.json" for run in runs if _is_unsound(plan, run, folder)]
    needed = {"backbone": _listed(folder / "backbone", MADE_FROM, lambda said: said["files"])} if runs else {}
    for task in dict.fromkeys(task for run in runs for task in plan.predicted_with(run.task.name)):
        needed[f"data/{task}"] = _listed(folder / "data" / task, "data.json", _files_of_data)
        if plan.suite.data.source != "local":
            needed[f"source/{task}"] = [f"{split}.parquet" for split in plan.tasks[task].splits]
    for run in runs:
        if "compact_checkpoint" in run.spec.needs:
            place = f"compact/{run.spec.name}"
            needed[place] = _listed(folder / place, MADE_FROM, lambda said: said["files"])
        if "teacher_outputs" in run.spec.needs:
            needed[plan.teacher_outputs_of(run)] = ["teacher.json", "logits.npy", "cls.npy"]
    for name in experiments:
        figures, submissions = f"figures/{name}", f"submissions/{name}"
        needed[figures] = _listed(folder / figures, "pictures.json", _files_of_pictures)
        needed[submissions] = _listed(folder / submissions, "submissions.json", _files_of_submissions)
    for place, names in needed.items():
        if (folder / place).is_dir() and not all((folder / place / name).is_file() for name in names):
            found.append(place)
    files = {run.search_file for run in runs if run.trials}
    files |= {f"{kind}/{name}.json" for kind in ("significance", "speed") for name in experiments}
    return found + sorted(file for file in files if (folder / file).is_file() and not _ends(folder / file, b"}\n"))


def _is_unsound(plan: Plan, run: Run, folder: Path) -> bool:
    """Whether the run has a record that does not hold."""
    if not (folder / run.path / "run.json").is_file():
        return False
    record = state(plan, run, folder, remember=False)[2]
    return record is None or not (plan.suite.trust_records or has_model(plan, run, record, folder))


def to_train(plan: Plan, runs: Iterable[Run], folder: Path) -> list[Run]:
    """Those of `runs` whose jobs are planned: all, or with trusted records those that are not done.

    These are the runs without a record that can be used, and those of whose model one of them reads, if it is gone.
    """
    runs = list(runs)
    if not plan.suite.trust_records:
        return runs
    found = {run.path: run for run in runs if state(plan, run, folder, remember=False)[2] is None}
    waiting = list(found.values())
    while waiting:
        run = waiting.pop()
        read = ([plan.teacher_of(run)] if run.learns else []) + ([plan.source_of(run)] if run.spec.source else [])
        for other in read:
            if other.path not in found and not (folder / other.path / "model" / WEIGHTS).is_file():
                found[other.path] = other
                waiting.append(other)
    return [run for run in runs if run.path in found]


def _listed(folder: Path, name: str, files_of: Callable[[Any], Iterable[str]]) -> list[str]:
    """The files that a folder's own list, `name`, says are in it, and the list; that alone where it cannot be read."""
    try:
        return [name, *files_of(read_json(folder / name))]
    except (OSError, UserError, KeyError, TypeError):
        return [name]


def _files_of_data(said: dict) -> Iterable[str]:
    return (f"{split}.{part}.npy" for split in said["splits"] for part in ("tokens", "rows"))


def _files_of_pictures(said: list) -> Iterable[str]:
    return (f"{picture['name']}.{ending}" for picture in said for ending in ("svg", "pdf", "png"))


def _files_of_submissions(said: dict) -> Iterable[str]:
    return (name for name, content in said.items() if content["runs"])


def _fault_of_predictions(file: Path, sha256: str) -> str:
    """What is wrong with a run's predictions: gone, or not those that it left; nothing if they are."""
    if not file.is_file():
        return "gone"
    now = file.stat()
    return "" if _digest(file, now.st_ino, now.st_mtime_ns, now.st_size) == sha256 else "damaged"


@cache
def _digest(file: Path, inode: int, changed: int, size: int) -> str:
    """The SHA-256 of the file as it was at that time: a report asks for each a dozen times."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _ends(file: Path, end: bytes) -> bool:
    """Whether the file's last bytes are `end`."""
    with file.open("rb") as opened:
        opened.seek(0, 2)
        opened.seek(max(0, opened.tell() - len(end)))
        return opened.read() == end


def _why_missing(plan: Plan, run: Run, folder: Path) -> str:
    """Why a run has no record; a searched run may wait for a trial that crashed."""
    for trial in plan.trials_of(run):
        reason = crash_reason(folder / trial.path)
        if reason.startswith("crashed"):
            return f"not run, since {trial.variant} of its search {reason}"
    return crash_reason(folder / run.path)
