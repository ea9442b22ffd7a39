"""Which runs of a suite are complete, failed or missing, and why; it imports nothing that computes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from theseus_bench.errors import UserError
from theseus_bench.plan import Plan, Run
from theseus_bench.records import AGAIN, RunRecord, crash_reason, read_json, read_record

WEIGHTS = "model.safetensors"
CHECKPOINT = [WEIGHTS, "config.json", "made_from.json"]  # made_from.json is written last (theseus_bench.run_files)


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
    fault = _fault_of_predictions(folder / run.path / "predictions.parquet")
    if fault:
        return "missing", f"its predictions are {fault}; {AGAIN}", None
    return record.status, record.reason, record


def has_model(plan: Plan, run: Run, record: RunRecord, folder: Path) -> bool:
    """Whether the run's model is there, where it is to be kept and its method makes one."""
    wanted = record.architecture is not None and plan.keeps_model(run)
    return not wanted or (folder / run.path / "model" / WEIGHTS).is_file()


def unsound(plan: Plan, runs: Iterable[Run], experiments: Iterable[str], folder: Path) -> list[str]:
    """What is there of `runs` and `experiments` but cannot be used: records, and what has lost a part.

    Snakemake takes a file that is there and not older than its inputs for sound. This looks without importing torch,
    quick enough for each time that the workflow is parsed.
    """
    runs = list(runs)
    found = [f"{run.path}/run.json" for run in runs if _is_unsound(plan, run, folder)]
    needed = {"backbone": CHECKPOINT} if runs else {}
    for task in dict.fromkeys(task for run in runs for task in plan.predicted_with(run.task.name)):
        needed[f"data/{task}"] = _parts_of_data(folder / "data" / task)
    for run in runs:
        if "compact_checkpoint" in run.spec.needs:
            needed[f"compact/{run.spec.name}"] = CHECKPOINT
        if "teacher_outputs" in run.spec.needs:
            needed[plan.teacher_outputs_of(run)] = ["teacher.json", "logits.npy", "cls.npy"]
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


def _parts_of_data(folder: Path) -> list[str]:
    """The names of an encoded task's files, by its data.json; that of data.json alone where it cannot be read."""
    try:
        splits = read_json(folder / "data.json")["splits"]
    except (OSError, UserError):
        return ["data.json"]
    return ["data.json", *(f"{split}.{part}.npy" for split in splits for part in ("tokens", "rows"))]


def _fault_of_predictions(file: Path) -> str:
    """What is wrong with a run's predictions at a glance: gone, or cut off; nothing if they are whole."""
    if not file.is_file():
        return "gone"
    return "" if _ends(file, b"PAR1") else "damaged"


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
