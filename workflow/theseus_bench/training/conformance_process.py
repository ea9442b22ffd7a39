"""What check-method has another Python process do: one that has not read method.py, and in which text hashes otherwise.

Called as python -m theseus_bench.training.conformance_process METHOD TASK FOLDER NAME OTHER [KEY=VALUE]...: it
evaluates the model that the run in FOLDER/NAME has saved, and only then trains the method itself, in FOLDER/OTHER. It
prints JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from theseus_bench.data.encoding import open_split, summary
from theseus_bench.data.metrics import measure_task, score
from theseus_bench.errors import UserError
from theseus_bench.modeling.checkpoints import load_classifier
from theseus_bench.modeling.devices import Hardware
from theseus_bench.training.conformance_bench import Bench, make_plan
from theseus_bench.training.loop import predict

HASH_SEED = 271828  # of text; that of a process is drawn at random where none is said


def ask_process(bench: Bench, task: str, name: str, other: str, *changes: str) -> dict[str, Any]:
    """Have a new process evaluate the run `name` on a task, and train the run `other`; what `main` says.

    Both have these KEY=VALUE changes of their settings. UserError if it fails, with its last line.
    """
    command = [sys.executable, "-m", __name__, bench.method, task, str(bench.folder), name, other, *changes]
    environment = os.environ | {"PYTHONHASHSEED": str(HASH_SEED)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"in another process: {done.stderr.strip().splitlines()[-1]}")
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


def evaluate_saved(bench: Bench, task: str, name: str, *changes: str) -> dict[str, Any]:
    """The dev logits (examples, outputs) and score of a run's saved model; None for both where it has none."""
    folder = bench.folder / name / bench.run(task, *changes).path / "model"
    if not folder.is_dir():
        return {"logits": None, "score": None}
    definition, data = bench.plan.tasks[task], bench.folder / "data" / task
    model, hardware = load_classifier(folder, definition), Hardware(torch.device("cpu"), "fp32")
    splits = {split: open_split(data, split) for split in definition.dev}
    logits = {split: predict(model, rows, summary(data)["pad"], hardware) for split, rows in splits.items()}
    values = measure_task(definition, logits, {split: rows.labels for split, rows in splits.items()})
    return {"logits": [row for part in logits.values() for row in part.tolist()], "score": score(values)}


def main(method: str, task: str, folder: str, name: str, other: str, *changes: str) -> None:
    """Print what is seen of the run `name`, and train the run `other`."""
    bench = Bench(make_plan(method), Path(folder))
    seen = evaluate_saved(bench, task, name, *changes)
    bench.execute(task, other, *changes)
    print(json.dumps(seen))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (UserError, OSError) as error:
        sys.exit(str(error))
