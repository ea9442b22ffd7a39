"""A suite on disk as its runs would have left it: records and predictions that the tests choose."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from records import RECORD
from theseus_bench.data.metrics import measure, measure_task, score
from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.evaluation.scores import COLUMNS
from theseus_bench.files import write_json
from theseus_bench.strict_yaml import parse
from theseus_bench.suite.config import Suite
from theseus_bench.suite.method_spec import METHODS_FOLDER, load_specs
from theseus_bench.suite.plan import Plan, Run

BERT = {"source": "hub", "name": "google-bert/bert-base-uncased", "revision": "0" * 40, "layers": 12}


EMPTY_LOGITS = pa.FixedSizeListArray.from_arrays(pa.array([], pa.float32()), 2)


def make_plan(**changes) -> Plan:
    """A suite of the real methods and tasks on BERT-base; `changes` as in a configuration."""
    values = {
        "suite": "small",
        "data": {"source": "hub", "revision": "0" * 40},
        "backbone": BERT,
        "compact": {"distilbert": {"source": "recipe"}, "pd_bert": {"source": "recipe"}},
        "student_layers": 6,
        "tasks": ["cola", "mrpc", "rte", "stsb", "mnli", "ax"],
        "seeds": [1, 2, 3],
        "experiments": {"first": {"title": "One", "methods": ["predecessor", "finetune", "theseus"]}},
    }
    return Plan(parse(Suite, values | changes, "test"), load_tasks(TASKS_FILE), load_specs(METHODS_FOLDER)[0])


def leave_run(plan: Plan, run: Run, folder, predictions: dict[str, tuple], **record) -> None:
    """Write the run's record and its predictions: {split: (index, labels, logits)}."""
    tables = [
        pa.table(
            {
                "split": [split] * len(index),
                "idx": np.asarray(index),
                "label": np.asarray(labels, np.float32),
                "logits": pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(logits)), np.shape(logits)[1]),
            }
        )
        for split, (index, labels, logits) in predictions.items()
    ]
    nothing = pa.table({"split": pa.array([], pa.string()), "idx": [], "label": [], "logits": EMPTY_LOGITS})
    file = folder / run.path / "predictions.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables) if tables else nothing, file)
    values = {"method": run.spec.name, "variant": run.variant, "task": run.task.name, "seed": run.seed}
    values |= {"fingerprint": plan.fingerprint(run), "settings": run.settings}
    values["predictions_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    if set(run.task.dev) <= predictions.keys():
        logits = {split: np.asarray(predictions[split][2]) for split in run.task.dev}
        labels = {split: np.asarray(predictions[split][1]) for split in run.task.dev}
        value = score(measure_task(run.task, logits, labels))
        values |= {"dev_score": value} if np.isfinite(value) else {}
    write_json(folder / run.path / "run.json", RECORD | values | record)


def deciding(classes, outputs: int) -> np.ndarray:
    """Logits (examples, outputs) whose highest is that of the classes."""
    return np.eye(outputs)[np.asarray(classes)]


EXAMPLES = 120
SKILL = {"majority": 0.5, "predecessor": 0.9, "finetune": 0.7, "pkd": 0.72, "theseus": 0.88}


def methods(*names: str, **more) -> dict:
    return {"experiments": {"first": {"title": "One", "methods": list(names), **more}}}


def leave_suite(folder, plan, skip=(), skill=SKILL):
    """Predictions and scores of every run of the experiment on two-class tasks, by the method's skill."""
    rows = []
    for run in plan.experiment_runs("first"):
        if (run.name, run.task.name, run.seed) in skip:
            continue
        random = np.random.default_rng([run.seed, len(run.name), len(run.task.name)])
        labels = np.arange(EXAMPLES) % 2
        correct = random.random(EXAMPLES) < skill[run.spec.name]
        predictions = {
            split: (np.arange(EXAMPLES), labels, deciding(np.where(correct, labels, 1 - labels), run.task.outputs))
            for split in run.task.dev
        }
        leave_run(plan, run, folder, predictions)
        decisions = np.where(correct, labels, 1 - labels)
        value = 100 * np.mean([measure(metric, decisions, labels) for metric in run.task.metrics])
        rows.append(("small", "first", run.spec.name, run.variant, run.task.name, run.seed, "dev", "score", value))
    (folder / "scores").mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(folder / "scores/first.parquet")
