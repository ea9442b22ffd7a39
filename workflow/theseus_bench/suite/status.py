"""Which runs of a suite are complete, failed or missing, and why; it imports nothing that computes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from theseus_bench.errors import UserError
from theseus_bench.files import AGAIN, read_json
from theseus_bench.suite.checkpoint_files import MODEL, WEIGHTS
from theseus_bench.suite.method_code import has_same_code
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord, crash_reason, read_record

MADE_FROM = "made_from.json"  # of a checkpoint: what it was made of, and its files; written last


def states(plan: Plan, folder: Path) -> list[tuple[Run, str, str]]:
    """Every run of the suite with its state (complete, failed, missing) and the reason for the latter two."""
    rows = []
    for run in plan.runs.values():
        status, reason, record = state(plan, run, folder)
        if record is not None and not plan.suite.trust_records and not has_model(plan, run, record, folder):
            status, reason = "missing", f"its model is gone; {AGAIN}"
        rows.append((run, status, reason))
    return rows


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
    needs_model = record.architecture is not None and plan.keeps_model(run)
    return not needs_model or all((folder / run.path / "model" / name).is_file() for name in MODEL)


def unsound(plan: Plan, runs: Iterable[Run], experiments: Iterable[str], folder: Path) -> list[str]:
    """What is there of `runs` and `experiments` but cannot be used: records, and what has lost a part.

    Snakemake takes a file that is there and not older than its inputs for sound. This looks without importing torch,
    quick enough for each time that the workflow is parsed.
    """
    runs = list(runs)
    paths = [f"{run.path}/run.json" for run in runs if _is_unsound(plan, run, folder)]
    contents = (
        {"backbone": _list_files(folder / "backbone", MADE_FROM, lambda listing: listing["files"])} if runs else {}
    )
    for task in dict.fromkeys(task for run in runs for task in plan.predicted_with(run.task.name)):
        contents[f"data/{task}"] = _list_files(folder / "data" / task, "data.json", _files_of_data)
        if plan.suite.data.source != "local":
            contents[f"source/{task}"] = [f"{split}.parquet" for split in plan.tasks[task].splits]
    for run in runs:
        if "compact_checkpoint" in run.spec.needs:
            output = f"compact/{run.spec.name}"
            contents[output] = _list_files(folder / output, MADE_FROM, lambda listing: listing["files"])
        if "teacher_outputs" in run.spec.needs:
            contents[plan.teacher_outputs_of(run)] = ["teacher.json", "logits.npy", "cls.npy"]
    for name in experiments:
        figures, submissions = f"figures/{name}", f"submissions/{name}"
        contents[figures] = _list_files(folder / figures, "pictures.json", _files_of_pictures)
        contents[submissions] = _list_files(folder / submissions, "submissions.json", _files_of_submissions)
    for output, names in contents.items():
        if (folder / output).is_dir() and not all((folder / output / name).is_file() for name in names):
            paths.append(output)
    files = {run.search_file for run in runs if run.trials}
    files |= {f"{kind}/{name}.json" for kind in ("significance", "speed") for name in experiments}
    return paths + sorted(file for file in files if (folder / file).is_file() and not _ends(folder / file, b"}\n"))


def _is_unsound(plan: Plan, run: Run, folder: Path) -> bool:
    """Whether the run has a record that does not hold."""
    if not (folder / run.path / "run.json").is_file():
        return False
    record = state(plan, run, folder, remember=False)[2]
    if record is None or plan.suite.trust_records:
        return record is None
    return not (has_model(plan, run, record, folder) and has_same_code(record.inputs, METHODS_FOLDER / run.spec.name))


def to_train(plan: Plan, runs: Iterable[Run], folder: Path) -> list[Run]:
    """Those of `runs` whose jobs are planned: all, or with trusted records those that are not done.

    These are the runs without a record that can be used, and those of whose model one of them reads, if it is gone.
    """
    runs = list(runs)
    if not plan.suite.trust_records:
        return runs
    to_run = {run.path: run for run in runs if state(plan, run, folder, remember=False)[2] is None}
    queue = list(to_run.values())
    while queue:
        run = queue.pop()
        sources = ([plan.teacher_of(run)] if run.learns else []) + ([plan.source_of(run)] if run.spec.source else [])
        for source in sources:
            if source.path not in to_run and not (folder / source.path / "model" / WEIGHTS).is_file():
                to_run[source.path] = source
                queue.append(source)
    return [run for run in runs if run.path in to_run]


def _list_files(folder: Path, name: str, files_of: Callable[[Any], Iterable[str]]) -> list[str]:
    """The files that a folder's own list, `name`, says are in it, and the list; that alone where it cannot be read."""
    try:
        return [name, *files_of(read_json(folder / name))]
    except (OSError, UserError, KeyError, TypeError):
        return [name]


def _files_of_data(listing: dict[str, Any]) -> Iterable[str]:
    return (f"{split}.{part}.npy" for split in listing["splits"] for part in ("tokens", "rows"))


def _files_of_pictures(listing: list[dict[str, Any]]) -> Iterable[str]:
    return (f"{picture['name']}.{ending}" for picture in listing for ending in ("svg", "pdf", "png"))


def _files_of_submissions(listing: dict[str, Any]) -> Iterable[str]:
    return (name for name, content in listing.items() if content["runs"])


def _fault_of_predictions(file: Path, sha256: str) -> str:
    """What is wrong with a run's predictions: gone, or not those that it left; nothing if they are."""
    if not file.is_file():
        return "gone"
    stat = file.stat()
    return "" if _digest(file, stat.st_ino, stat.st_mtime_ns, stat.st_size) == sha256 else "damaged"


@cache
def _digest(file: Path, inode: int, modified: int, size: int) -> str:
    """The SHA-256 of the file as it was at that time: a report asks for each a dozen times."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _ends(file: Path, end: bytes) -> bool:
    """Whether the file's last bytes are `end`."""
    with file.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - len(end)))
        return stream.read() == end


def _why_missing(plan: Plan, run: Run, folder: Path) -> str:
    """Why a run has no record; a searched run may wait for a trial that crashed."""
    for trial in plan.trials_of(run):
        reason = crash_reason(folder / trial.path)
        if reason.startswith("crashed"):
            return f"not run, since {trial.variant} of its search {reason}"
    return crash_reason(folder / run.path)
