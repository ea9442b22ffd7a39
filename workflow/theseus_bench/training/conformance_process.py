"""What check-method has another Python process do: one that has not read method.py, and in which text hashes otherwise.

It evaluates the model that a run has saved, and only then trains the method itself.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from theseus_bench.data.encoding import open_split, summary
from theseus_bench.data.metrics import measure_task, score
from theseus_bench.errors import UserError
from theseus_bench.modeling.checkpoints import load_classifier
from theseus_bench.modeling.devices import Hardware
from theseus_bench.training.conformance_bench import Bench, make_plan
from theseus_bench.training.loop import predict

HASH_SEED = "PYTHONHASHSEED"  # environment variable, read when a process begins


@dataclass(frozen=True)
class SavedModel:
    """What a process sees of the model that a run has saved."""

    logits: np.ndarray  # (examples, outputs), on the dev splits
    score: float  # of the task, in [-1, 1]


def ask_process(bench: Bench, task: str, name: str, other: str, *changes: str) -> SavedModel | None:
    """Have a new process evaluate the run `name` on a task, and train the run `other`; None if `name` saved no model.

    Both have these KEY=VALUE changes of their settings. The process is forked from one that has imported this module
    and no method (multiprocessing's fork server). UserError if it is killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    before = os.environ.get(HASH_SEED)
    os.environ[HASH_SEED] = "271828" if before != "271828" else "314159"  # of the server, which may now begin
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_answer, bench.method, bench.folder, task, name, other, *changes).result()
    except BrokenProcessPool:
        raise UserError("in another process: it was killed") from None
    finally:
        del os.environ[HASH_SEED]
        os.environ.update({HASH_SEED: before} if before is not None else {})


def _answer(method: str, folder: Path, task: str, name: str, other: str, *changes: str) -> SavedModel | None:
    """What the process does."""
    torch.set_num_threads(1)
    bench = Bench(make_plan(method), folder)
    model = _evaluate_saved(bench, task, bench.folder / name / bench.run(task, *changes).path / "model")
    bench.execute(task, other, *changes)
    return model


def _evaluate_saved(bench: Bench, task: str, folder: Path) -> SavedModel | None:
    """The saved model on the task's dev splits."""
    if not folder.is_dir():
        return None
    definition, data = bench.plan.tasks[task], bench.folder / "data" / task
    model, hardware = load_classifier(folder, definition), Hardware(torch.device("cpu"), "fp32")
    splits = {split: open_split(data, split) for split in definition.dev}
    logits = {split: predict(model, rows, summary(data)["pad"], hardware) for split, rows in splits.items()}
    values = measure_task(definition, logits, {split: rows.labels for split, rows in splits.items()})
    return SavedModel(np.concatenate(list(logits.values())), score(values))
