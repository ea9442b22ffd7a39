"""Which runs of a suite are complete, failed or missing, and why; it imports nothing that computes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from theseus_bench.checksums import LIST, fault_of_listed
from theseus_bench.errors import UserError
from theseus_bench.files import AGAIN, is_sealed
from theseus_bench.suite.checkpoint_files import MODEL
from theseus_bench.suite.method_code import has_same_code
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.suite.outputs import CRATE_FILE, CRATE_LIST, REPORT_FILES, REPORT_LIST, STEPS, files_of, list_of
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.record_diff import explain_staleness
from theseus_bench.suite.records import RunRecord, crash_reason, read_record
from theseus_bench.suite.search import read_choice

MADE_FROM = "made_from.json"  # of a checkpoint: what it was made of, and its files; written last


def states(plan: Plan, folder: Path, runs: Iterable[Run] | None = None) -> list[tuple[Run, str, str]]:
    """Every run of the suite, or of `runs`, with its state (complete, failed, missing) and why it is not complete."""
    rows = []
    for run in plan.runs.values() if runs is None else runs:
        status, reason, record = state(plan, run, folder)
        if record is not None and not plan.suite.trust_records and not has_model(plan, run, record, folder):
            status, reason = "missing", f"its model is gone or damaged; {AGAIN}"
        rows.append((run, status, reason))
    return rows


def state(plan: Plan, run: Run, folder: Path, remember: bool = True) -> tuple[str, str, RunRecord | None]:
    """One run's state, its reason, and its record where it has one.

    A record that other settings or other code have left counts as missing: its numbers are not those that the suite
    asks for.
    """
    try:
        record = read_record(folder / run.path, remember)
    except UserError as error:
        return "missing", str(error), None
    if record is None:
        return "missing", _why_missing(plan, run, folder), None
    if record.fingerprint != plan.fingerprint(run):
        return "missing", f"its record is of other settings ({explain_staleness(plan, run, record)}); {AGAIN}", None
    try:
        is_of_code = plan.suite.trust_records or has_same_code(record.inputs, METHODS_FOLDER / run.spec.name)
    except UserError as error:  # a file that is being edited
        return "missing", str(error), None
    if not is_of_code:
        return "missing", f"its record is of other code of its method; {AGAIN}", None
    fault = _fault_of_predictions(folder / run.path / "predictions.parquet", record.predictions_sha256)
    if fault:
        return "missing", f"its predictions are {fault}; {AGAIN}", None
    return record.status, record.reason, record


def has_model(plan: Plan, run: Run, record: RunRecord, folder: Path) -> bool:
    """Whether the run's model is there and whole, where it is to be kept and its method makes one."""
    needs_model = record.architecture is not None and plan.keeps_model(run)
    return not needs_model or _is_whole(folder / run.path / "model")


def unsound(plan: Plan, runs: Iterable[Run], experiments: Iterable[str], folder: Path) -> list[str]:
    """What is there of `runs` and `experiments` but cannot be used: records, and what is damaged or has lost a part.

    Snakemake takes a file that is there and not older than its inputs for sound. This looks without importing torch,
    quick enough for each time that the workflow is parsed.
    """
    runs = list(runs)
    records = [f"{run.path}/run.json" for run in runs if _is_unsound(plan, run, folder)]
    return records + list(faults(plan, runs, experiments, folder))


def faults(plan: Plan, runs: Iterable[Run], experiments: Iterable[str], folder: Path) -> dict[str, str]:
    """What is there beside the records but cannot be used, with the reason: inputs of `runs`, what is made of them."""
    runs = list(runs)
    outputs = {output: [output] for output in _inputs(plan, runs)}
    lists = {output: folder / output / LIST for output in outputs}
    for name in experiments:
        for step in STEPS:
            outputs[f"{step} {name}"] = [str(file.relative_to(folder)) for file in files_of(step, name, folder)]
            lists[f"{step} {name}"] = list_of(step, name, folder)
    outputs |= {"report": list(REPORT_FILES), "ro_crate": [CRATE_FILE]}
    lists |= {"report": folder / REPORT_LIST, "ro_crate": folder / CRATE_LIST}
    reasons: dict[str, str] = {}
    for key, listing in lists.items():
        there = [output for output in outputs[key] if (folder / output).exists()]
        reason = _fault(plan, listing, is_fetched=key.startswith("source/")) if there else ""
        reasons |= dict.fromkeys(there, reason) if reason else {}
    for file in dict.fromkeys(run.search_file for run in runs if run.trials):
        try:
            read_choice(folder / file)
        except UserError as error:
            reasons[file] = str(error)
    return reasons


def _inputs(plan: Plan, runs: list[Run]) -> list[str]:
    """The folders that `runs` read, but models of other runs."""
    tasks = dict.fromkeys(task for run in runs for task in plan.predicted_with(run.task.name))
    inputs = ["backbone"] if runs else []
    inputs += [f"data/{task}" for task in tasks]
    inputs += [f"source/{task}" for task in tasks] if plan.suite.data.source != "local" else []
    inputs += [f"compact/{run.spec.name}" for run in runs if "compact_checkpoint" in run.spec.needs]
    inputs += [plan.teacher_outputs_of(run) for run in runs if "teacher_outputs" in run.spec.needs]
    return list(dict.fromkeys(inputs))


def _fault(plan: Plan, listing: Path, is_fetched: bool) -> str:
    """What is wrong with the files on a list; '' if nothing is.

    What an earlier version has made has no list, and is made again: but not what may have been fetched from afar, and
    nothing that cannot be made again where records are trusted.
    """
    if listing.is_file():
        return fault_of_listed(listing)
    return "" if is_fetched or plan.suite.trust_records else f"there is no list of checksums, {listing.name}"


def _is_whole(model: Path) -> bool:
    """Whether a run's model is there, and what was written; one of an earlier version has no list of checksums."""
    if (model / LIST).is_file():
        return not fault_of_listed(model / LIST)
    return all((model / name).is_file() for name in MODEL)


def count_unsealed(plan: Plan, folder: Path) -> int:
    """How many of the suite's records hold no checksum of themselves, since an earlier version has left them."""
    files = [folder / path / "run.json" for path in plan.runs]
    return sum(not is_sealed(file) for file in files if file.is_file())


def _is_unsound(plan: Plan, run: Run, folder: Path) -> bool:
    """Whether the run has a record that does not hold."""
    if not (folder / run.path / "run.json").is_file():
        return False
    record = state(plan, run, folder, remember=False)[2]
    if record is None or plan.suite.trust_records:
        return record is None
    return not has_model(plan, run, record, folder)


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
            if source.path not in to_run and not _is_whole(folder / source.path / "model"):
                to_run[source.path] = source
                queue.append(source)
    return [run for run in runs if run.path in to_run]


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


def _why_missing(plan: Plan, run: Run, folder: Path) -> str:
    """Why a run has no record; a searched run may wait for a trial that crashed."""
    for trial in plan.trials_of(run):
        reason = crash_reason(folder / trial.path)
        if reason.startswith("crashed"):
            return f"not run, since {trial.variant} of its search {reason}"
    return crash_reason(folder / run.path)
