"""How much a suite's jobs compute: steps, tokens and floating point operations, estimated from sizes, without torch."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from theseus_bench.errors import UserError
from theseus_bench.files import read_json
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.search import Settings

# Tokens of a batch per token of its sentences: shuffled in training, where GLUE's batches of 32 have 1.5 (MRPC) to 3.0
# (SST-2), and in parts of like lengths on a processor 1.1 (MRPC) to 1.5 (SST-2); of like lengths in evaluation.
TRAINING_PADDING, PART_PADDING, EVALUATION_PADDING = 2.2, 1.2, 1.1
ROWS = 10_000  # of a split of which nothing is known
FORWARD, TRAINING = 2, 6  # operations of a parameter and token, without and with the backward pass


@dataclass(frozen=True)
class Shape:
    """The widths of a transformer; BERT-base's by default."""

    hidden: int = 768
    intermediate: int = 3072
    vocabulary: int = 30522
    positions: int = 512

    @property
    def layer(self) -> int:
        """The parameters of one layer."""
        return 4 * self.hidden**2 + 2 * self.hidden * self.intermediate

    def parameters(self, layers: int) -> int:
        """All parameters of a model of so many layers."""
        return (self.vocabulary + self.positions) * self.hidden + layers * self.layer


DEMO = Shape(64, 128, 1000, 64)  # of the backbone that the demo pretrains


@dataclass(frozen=True)
class Workload:
    """What the runs of a suite compute, which has its results in `folder`."""

    plan: Plan
    folder: Path
    # Read once each, when it is there: a suite asks for thousands of runs.
    _shapes: list[Shape] = field(default_factory=list, init=False, repr=False)
    _splits: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict, init=False, repr=False)

    @property
    def backbone_file(self) -> Path:
        """The backbone's widths are known once it is there."""
        return self.folder / "backbone" / "config.json"

    def data_file(self, task: str) -> Path:
        """A task's rows and tokens are known once it is there."""
        return self.folder / "data" / task / "data.json"

    @property
    def shape(self) -> Shape:
        """The backbone's widths; as long as it is out of reach BERT-base's."""
        if not self._shapes:
            if not self.backbone_file.is_file():
                return self._expected_shape
            self._shapes.append(self._read_shape([self.backbone_file]))
        return self._shapes[0]

    @cached_property
    def _expected_shape(self) -> Shape:
        """The widths that the backbone will have, where they can be known."""
        return DEMO if self.plan.suite.backbone.source == "demo" else self._read_shape(self._sources)

    @property
    def is_shape_known(self) -> bool:
        """Whether the backbone's widths are known, or BERT-base's stand for them."""
        places = [self.backbone_file, *self._sources]
        return self.plan.suite.backbone.source == "demo" or any(file.is_file() for file in places)

    def _read_shape(self, files: list[Path]) -> Shape:
        """Of the first configuration that is there; BERT-base's where it cannot be read."""
        try:
            values = next(read_json(file) for file in files if file.is_file())
        except (StopIteration, OSError, UserError):
            return Shape()
        keys = {  # DistilBERT's own words come second
            "hidden": ("hidden_size", "dim"),
            "intermediate": ("intermediate_size", "hidden_dim"),
            "vocabulary": ("vocab_size",),
            "positions": ("max_position_embeddings",),
        }
        return Shape(**{key: values[name] for key, names in keys.items() for name in names if name in values})

    @property
    def _sources(self) -> list[Path]:
        """Where the widths of a backbone are that is on this machine already."""
        backbone = self.plan.suite.backbone
        if backbone.source == "folder" and backbone.name:
            return [Path(backbone.name).expanduser() / "config.json"]
        package, _, inner = (backbone.name or "").partition("/")
        spec = importlib.util.find_spec(package) if backbone.source == "package" and package.isidentifier() else None
        return [Path(place) / inner / "config.json" for place in (spec and spec.submodule_search_locations) or []]

    def rows(self, task: str, split: str) -> int:
        """Of a split: those that were encoded, or are to be."""
        known = self._split(task, split).get("rows")
        data = self.plan.suite.data
        official = data.rows or self.plan.tasks[task].rows.get(split, ROWS)
        limit = data.max_train.get(task) if split == "train" else None
        return int((official if limit is None else min(official, limit)) if known is None else known) or 1

    def tokens(self, task: str, split: str) -> float:
        """Of a split, without padding; until they are counted by the task's mean, or half of the most that may be."""
        known, definition = self._split(task, split).get("tokens"), self.plan.tasks[task]
        mean_length = definition.mean_length or definition.max_length / 2
        return float(self.rows(task, split) * mean_length if known is None else known)

    def steps(self, run: Run, settings: Settings) -> int:
        """Optimizer steps that the settings plan."""
        if not run.spec.trained:
            return 0
        return math.ceil(self._trained_rows(run, settings) / int(settings["batch_size"]))

    def operations(self, run: Run, settings: Settings, gpu: bool) -> float:
        """Of training a run with these settings, its evaluations and its predictions."""
        if not run.spec.trained:
            return 0.0
        task, layer, layers = run.task, self.shape.layer, int(settings["layers"])
        share = self._trained_rows(run, settings) / self.rows(task.name, "train")
        evaluations = settings["evaluations"] or math.ceil(share)
        if settings["evaluate_every"] is not None:
            evaluations = math.ceil(self.steps(run, settings) / settings["evaluate_every"])
        predicted = sum(self.tokens(task.name, split) for split in task.dev) * evaluations
        for name in self.plan.predicted_with(task.name):
            predicted += sum(self.tokens(name, split) for split in self.plan.tasks[name].splits if split != "train")
        predicted *= EVALUATION_PADDING
        padding = TRAINING_PADDING if gpu or run.spec.command else PART_PADDING
        trained = share * padding * self.tokens(task.name, "train")
        operations: float = layers * layer * (TRAINING * trained + FORWARD * predicted)
        depth = self.plan.suite.backbone.layers
        if "teacher_model" in run.needs and depth > layers:  # which takes part in the passes
            operations += TRAINING * depth * layer * trained
        return operations

    def _trained_rows(self, run: Run, settings: Settings) -> float:
        """Training examples that are seen, each as often as it is."""
        rows = settings["epochs"] * self.rows(run.task.name, "train")
        return float(
            rows if settings["max_steps"] is None else min(rows, settings["max_steps"] * settings["batch_size"])
        )

    def _split(self, task: str, split: str) -> dict[str, Any]:
        """What is known of an encoded split: `rows` and `tokens`; {} until it is there."""
        if task not in self._splits:
            if not self.data_file(task).is_file():
                return {}
            try:
                values = read_json(self.data_file(task))
                self._splits[task] = {name: dict(known) for name, known in values["splits"].items()}
            except (OSError, UserError, KeyError, TypeError, ValueError, AttributeError):
                self._splits[task] = {}  # what is damaged is made again; it is an estimate
        return self._splits[task].get(split, {})
