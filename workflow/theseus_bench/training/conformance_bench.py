"""A tiny suite on disk in which a method can run in a moment: random models, and a few generated examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from theseus_bench.data.encoding import encode_task
from theseus_bench.data.synthetic import generate, vocabulary, write_tokenizer
from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.files import write_json
from theseus_bench.modeling.checkpoints import save_checkpoint
from theseus_bench.strict_yaml import parse
from theseus_bench.suite.config import Suite
from theseus_bench.suite.load import load_methods
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.run_names import RunName
from theseus_bench.training.run import execute, store_teacher_outputs

ROWS, STEPS = 40, 12
TASKS = ["rte", "stsb"]  # a pair of sentences with classes, and with values


@dataclass(frozen=True)
class Bench:
    """A tiny suite on disk in which the method under test can run."""

    plan: Plan
    folder: Path

    def run(self, task: str, *changes: str) -> Run:
        """The method's run on a task, cut to a few steps; with KEY=VALUE changes of its settings."""
        return self.plan.run(str(RunName.parse(self.method).setting(*changes)), task, 1)

    @property
    def tasks(self) -> list[str]:
        """The tasks that the method does not exclude."""
        return [name for name in TASKS if name not in self.plan.specs[self.method].exclude]

    @property
    def method(self) -> str:
        return next(iter(self.plan.suite.experiments.values())).methods[0]

    def execute(self, task: str, name: str, *changes: str, data: str = "data") -> tuple[RunRecord, np.ndarray]:
        """Train the run in a folder of its own, over the shared inputs; its record and its logits.

        `data` is the folder that holds the tasks' tokens.
        """
        folder, run = self.folder / name, self.run(task, *changes)
        if not folder.exists():
            (folder / "runs").mkdir(parents=True)
            (folder / "data").symlink_to(self.folder / data)
            for part in ("backbone", "teacher", "compact"):
                (folder / part).symlink_to(self.folder / part)
            spec = self.plan.specs[self.method]
            for other in {self.plan.teacher.name} | ({spec.source.method} if spec.source else set()):
                if other != self.method:
                    (folder / "runs" / other).symlink_to(self.folder / "runs" / other)
        record = execute(self.plan, run, folder, self.folder / "checkpoints")
        return record, self.logits(task, name, *changes)

    def logits(self, task: str, name: str, *changes: str) -> np.ndarray:
        """The logits (examples, outputs) that a run has left, dev first."""
        table = pq.read_table(self.folder / name / self.run(task, *changes).path / "predictions.parquet")
        return np.stack(table["logits"].to_numpy())

    def encode(self, task: str, data: str = "data", other_labels: bool = False) -> None:
        """Put the task's generated examples into the folder `data`; with `other_labels` those of dev have others."""
        definition = self.plan.tasks[task]
        source = self.folder / f"source of {data}" / task
        source.mkdir(parents=True)
        for split, frame in generate(definition, ROWS).items():
            if other_labels and split in definition.dev:
                labels = frame["label"]
                frame["label"] = 5.0 - labels if definition.regression else (labels + 1) % definition.outputs
            frame.to_parquet(source / f"{split}.parquet", index=False)
        files = {split: source / f"{split}.parquet" for split in definition.splits}
        encode_task(definition, files, self.folder / "backbone", self.folder / data / task, sample=True, verify=False)


def make_plan(method: str) -> Plan:
    """The plan of the tiny suite, in which one experiment names the method."""
    tasks = load_tasks(TASKS_FILE)
    specs, faults = load_methods(METHODS_FOLDER, tasks)
    few = {"set": {"epochs": 10.0, "max_steps": STEPS, "batch_size": 8, "evaluate_every": 3, "precision": "fp32"}}
    suite = {
        "suite": "check",
        "data": {"source": "demo", "rows": ROWS},
        "backbone": {"source": "demo", "layers": 4},
        "compact": {name: {"source": "recipe"} for name, spec in specs.items() if "compact_checkpoint" in spec.needs},
        "student_layers": 2,
        "tasks": TASKS,
        "seeds": [1],
        "device": "cpu",
        "checkpoint_every": 0,
        "keep_models": ["all"],
        "settings": [few],
        "experiments": {"check": {"title": "check", "methods": [method]}},
    }
    return Plan(parse(Suite, suite, "check"), tasks, specs, faults)


def make_bench(method: str, folder: Path) -> Bench:
    """A tiny random backbone, a predecessor trained on it, its outputs, a compact checkpoint and a source's model, all
    in `folder`."""
    plan = make_plan(method)
    bench = Bench(plan, folder)
    write_tokenizer(folder / "tokenizer")
    torch.manual_seed(0)  # the same checks each time: with some weights the gradients of a batch nearly cancel out
    for path, layers in [("backbone", 4), *((f"compact/{name}", 2) for name in plan.suite.compact)]:
        save_checkpoint(BertForMaskedLM(_tiny_config(layers)), folder / "tokenizer", folder / path)
    (folder / "compact").mkdir(exist_ok=True)
    (folder / "teacher").mkdir()
    for name in TASKS:
        _make_inputs(bench, name)
    if plan.specs[method].source:
        source = plan.source_of(bench.run(bench.tasks[0]))
        model = BertForSequenceClassification(_tiny_config(2, num_labels=source.task.outputs))
        save_checkpoint(model, folder / "tokenizer", folder / source.path / "model")
        write_json(folder / source.path / "run.json", {})  # its date is part of the run's identity
    return bench


def _make_inputs(bench: Bench, name: str) -> None:
    folder = bench.folder
    bench.encode(name)
    teacher = bench.plan.run(bench.plan.teacher.name, name, 1)
    execute(bench.plan, teacher, folder, folder / "checkpoints")
    if "teacher_outputs" in bench.run(name).needs:
        store_teacher_outputs(bench.plan, teacher, folder)


def _tiny_config(layers: int, **changes) -> BertConfig:
    return BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        **changes,
    )
