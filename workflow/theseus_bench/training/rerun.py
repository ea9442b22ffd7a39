"""One run again, beside the suite, to see whether it comes out the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from theseus_bench.errors import UserError
from theseus_bench.stopping import Stopped
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.record_diff import explain_difference
from theseus_bench.suite.records import RunRecord, read_predictions
from theseus_bench.suite.status import state
from theseus_bench.training.run import execute
from theseus_bench.wording import count_noun, format_number

LINKED_NAMES = ["suite.json", "backbone", "compact", "data", "search", "teacher"]  # what runs read, by links


def rerun(plan: Plan, run: Run, suite_folder: Path) -> tuple[bool, list[str]]:
    """Train the run once more in a folder of its own: whether the predictions are equal to the bit, and lines on it.

    The suite's own files are read, and none is changed. UserError if the run has no sound record, or what it reads is
    not there.
    """
    _, reason, record = state(plan, run, suite_folder)
    if record is None:
        raise UserError(f"{suite_folder / run.path}: no sound record to compare with: {reason}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _link_inputs(plan, run, suite_folder, folder)
        try:
            again = execute(plan, run, folder, folder / "checkpoints")
        except Stopped as stop:
            reason = str(stop).partition(";")[0]
            raise UserError(
                f"{run.path}: {reason}, and nothing of it is kept; run it again where there is time"
            ) from None
        differences = _count_differences(run, suite_folder / run.path, folder / run.path)
    return _compare(run, record, again, differences)


def _link_inputs(plan: Plan, run: Run, suite_folder: Path, folder: Path) -> None:
    """Make `folder` a suite's folder that lacks nothing of what the run reads."""
    models = [plan.teacher_of(run)] if "teacher_model" in run.needs else []
    models += [plan.source_of(run)] if run.spec.source else []
    for name in LINKED_NAMES + [f"{model.path}/model" for model in models]:
        if (suite_folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to((suite_folder / name).resolve())


def _count_differences(run: Run, folder: Path, other: Path) -> tuple[int, int]:
    """On how many dev examples the two runs' predictions differ, and of how many."""
    first, second = (read_predictions(where, run.task.dev) for where in (folder, other))
    differences = [np.any(first[split].logits != second[split].logits, axis=1) for split in first]
    return sum(int(part.sum()) for part in differences), sum(map(len, differences))


def _compare(run: Run, record: RunRecord, again: RunRecord, differences: tuple[int, int]) -> tuple[bool, list[str]]:
    if record.predictions_sha256 == again.predictions_sha256:
        return True, [f"{run.path}: identical: the predictions are equal to the bit ({again.predictions_sha256})"]
    scores = " → ".join(_show_score(one.dev_score) for one in (record, again))
    count = f"{differences[0]:,} of {count_noun(differences[1], 'dev example')}"
    first = f"{run.path}: not identical: dev score {scores}, other logits for {count}"
    return False, [first, *(f"  {cause}" for cause in explain_difference(record, again))]


def _show_score(score: float | None) -> str:
    return "none" if score is None else format_number(100 * score, 2)
