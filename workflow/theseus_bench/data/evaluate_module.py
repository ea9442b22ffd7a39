"""GLUE's metrics as a module of the `evaluate` library, loaded from this file and never from the hub.

evaluate.load("workflow/theseus_bench/data/evaluate_module.py", "mrpc").compute(predictions=…, references=…)
"""

from __future__ import annotations

from functools import cache

import datasets
import evaluate
import numpy as np

from theseus_bench.data.metrics import measure
from theseus_bench.data.tasks import TASKS_FILE, Task, load_tasks


class Glue(evaluate.Metric):
    """The metrics of one GLUE task; the configuration's name is the task's, as in config/tasks.yaml."""

    def _info(self):
        number = {"predictions": datasets.Value("float32"), "references": datasets.Value("float32")}
        return evaluate.MetricInfo(
            description="The metrics with which the GLUE benchmark scores a task.",
            citation="Wang et al. 2019, GLUE, arXiv 1804.07461",
            inputs_description="predictions, references: class codes, or values for STS-B",
            features=datasets.Features(number),
        )

    def _compute(self, predictions, references):
        task = _tasks()[self.config_name]
        return {name: measure(name, np.asarray(predictions), np.asarray(references)) for name in task.metrics}


@cache
def _tasks() -> dict[str, Task]:
    """Of the file, which a score reads for every split of every run."""
    return load_tasks(TASKS_FILE)
