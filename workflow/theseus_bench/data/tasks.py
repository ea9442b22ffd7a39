"""The tasks, GLUE's and others: columns, labels, metrics, splits and sizes, read from config/tasks.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import Strict, parse, read_yaml, suggest

TASKS_FILE = Path("config/tasks.yaml")  # where they stand in the project
Metric = Literal["accuracy", "f1", "f1_macro", "matthews", "pearson", "spearman"]
CORRELATIONS = {"pearson", "spearman"}  # of values; the other metrics are of classes
METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "f1_macro": "macro F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}


class Task(Strict):
    """One task of one sentence or a pair; config/tasks.yaml explains the keys in place."""

    name: str
    label: str
    columns: list[str] = Field(min_length=1, max_length=2)
    labels: list[str] | None = None
    metrics: list[Metric] = Field(min_length=1)
    dev: list[str] = ["validation"]
    test: list[str] = []
    server: dict[str, str] = {}
    server_labels: bool = False
    rows: dict[str, int] = {}  # none for a split of which no official number is known
    sha256: dict[str, str] = {}
    macro: bool = True
    mean_length: int | None = None
    max_length: int = Field(128, ge=8)
    trained_on: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wrong = [metric for metric in self.metrics if (metric in CORRELATIONS) != self.regression]
        if wrong:
            kind = "values (it has no labels)" if self.regression else "classes"
            raise ValueError(f"metrics: {wrong[0]} cannot measure {kind}")
        of_two_classes = {"f1", "matthews"} if self.dev else {"f1"}  # dev is resampled, which Matthews here is for two
        if len(self.labels or []) > 2 and of_two_classes & set(self.metrics):
            raise ValueError(f"metrics: of {len(self.labels or [])} classes take accuracy or f1_macro")
        return self

    @property
    def regression(self) -> bool:
        """Whether the label is a number in [0, 5] (STS-B) rather than a class."""
        return self.labels is None

    @property
    def outputs(self) -> int:
        """Width of the model's output: the number of classes, or 1 for regression."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def splits(self) -> list[str]:
        """All splits, the training set first where there is one."""
        return (["train"] if self.trained_on is None else []) + self.dev + self.test


def load_tasks(path: Path) -> dict[str, Task]:
    """All tasks of `path`, in the file's order."""
    return {name: parse(Task, {"name": name, **block}, f"{path}: {name}") for name, block in read_yaml(path).items()}


def find_task(tasks: dict[str, Task], name: str, where: str) -> Task:
    """The task called `name`; UserError with a suggestion, naming `where` the name stood, if there is none."""
    if name not in tasks:
        raise UserError(f"{where}: there is no task {name!r}{suggest(name, tasks)}")
    return tasks[name]
