"""Peak memory: of training runs on BERT-base, and of what is made of the results of a suite as large as the paper's.

    python benchmarks/memory.py training [METHOD …]
    python benchmarks/memory.py aggregation

Each number is of a `theseus-bench` command in a process of its own. The weights are random, the predictions simulated.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import processes
from theseus_bench.files import write_json
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan, read_plan
from theseus_bench.suite.plan import Plan

COMMAND = str(Path(sys.executable).with_name("theseus-bench"))
METHODS = ["finetune", "vanilla_kd", "pkd", "theseus", "tinybert"]
BATCH, LENGTH, STEPS = 32, 128, 3
TRAINING_AIM, AGGREGATION_AIM = 6000, 2000  # MB, of 10⁶ bytes
SEEDS = list(range(1, 11))
READ = "the predictions, read and nothing more"


def main() -> None:
    actions = {"training": training, "aggregation": aggregation}
    inner = {"prepare_training": prepare_training, "prepare_aggregation": prepare_aggregation, "read": read}
    (actions | inner)[sys.argv[1]](*sys.argv[2:])


def training(*methods: str) -> None:
    """A few steps of the predecessor and of methods that learn from it, at the paper's batch size and length."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "suite"
        _inside("prepare_training", str(folder))
        print(f"batches of {BATCH}, {LENGTH} tokens, {STEPS} steps; the aim is {TRAINING_AIM} MB")
        for name in ["predecessor", *(methods or METHODS)]:
            usage = processes.run([COMMAND, "train", str(folder), name, "rte", "1"])
            _say(name, usage.largest, TRAINING_AIM)
            if name == "predecessor":
                usage = processes.run([COMMAND, "teacher-outputs", str(folder), name, "rte", "1"])
                _say("its outputs for the students", usage.largest, TRAINING_AIM)


COMMANDS = (
    "score",
    "significance",
    "score-tables",
    "verdict-tables",
    "description-tables",
    "experiment-figures",
)


def aggregation(experiment: str = "glue_dev", *seeds: str) -> None:
    """All that is made of an experiment's predictions; `seeds` in the place of ten make it smaller."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "suite"
        _inside("prepare_aggregation", str(folder), experiment, *seeds)
        plan = read_plan(folder)
        runs = plan.experiment_runs(experiment)
        print(f"{experiment}: {len(runs)} runs; the aim is {AGGREGATION_AIM} MB")
        floor = processes.run([sys.executable, __file__, "read", str(folder), experiment])
        _say(READ, floor.together, AGGREGATION_AIM, f"{floor.processor:.1f} s of processor")
        for command in COMMANDS:
            workers = ["--workers", "2"] * (command == "significance")
            usage = processes.run(
                [COMMAND, command, str(folder), experiment, *workers], environment={"OMP_NUM_THREADS": "1"}
            )
            times = usage.processor / floor.processor
            _say(
                command, usage.together, AGGREGATION_AIM, f"{usage.processor:.1f} s of processor, {times:.1f} × reading"
            )


def prepare_training(folder: Path) -> None:
    """A suite's folder with a random BERT-base and a task whose sentences all have the full length."""
    import numpy as np
    from theseus_bench.data.parquet import ROW
    from theseus_bench.data.synthetic import write_tokenizer
    from theseus_bench.modeling.checkpoints import save_checkpoint
    from transformers import BertConfig, BertForMaskedLM

    folder = Path(folder)
    suite = {
        "suite": "memory",
        "data": {"source": "demo", "rows": BATCH * STEPS},
        "backbone": {"source": "demo", "layers": 12},
        "student_layers": 6,
        "tasks": ["rte"],
        "seeds": [1],
        "device": "cpu",
        "threads": 2,
        "settings": [{"set": {"epochs": 1.0, "batch_size": BATCH}}],
        "experiments": {"memory": {"title": "Memory", "methods": ["predecessor", *METHODS]}},
    }
    plan = load_plan(suite)
    write_json(folder / "suite.json", suite)
    write_tokenizer(folder / "tokenizer")
    save_checkpoint(BertForMaskedLM(BertConfig()), folder / "tokenizer", folder / "backbone")
    data = folder / "data" / "rte"
    data.mkdir(parents=True)
    random = np.random.default_rng(0)
    sizes = {"train": BATCH * STEPS, "validation": plan.tasks["rte"].rows["validation"], "test": BATCH}
    for split, size in sizes.items():
        rows = np.zeros(size, ROW)
        rows["start"], rows["length"], rows["first"] = np.arange(size) * LENGTH, LENGTH, LENGTH // 2
        rows["label"], rows["idx"] = np.arange(size) % 2, np.arange(size)
        np.save(data / f"{split}.rows.npy", rows)
        np.save(data / f"{split}.tokens.npy", random.integers(1000, 30000, size * LENGTH, np.uint16))
    splits = {split: {"rows": size, "official_rows": size} for split, size in sizes.items()}
    write_json(data / "data.json", {"task": "rte", "max_length": LENGTH, "pad": 0, "splits": splits})


def prepare_aggregation(folder: Path, experiment: str, *seeds: str) -> None:
    """A suite's folder with predictions of every run of an experiment of the paper's, without a search."""
    import significance
    from theseus_bench.modeling.checkpoints import architecture
    from transformers import BertConfig, BertForSequenceClassification

    folder = Path(folder)
    significance.SEEDS[:] = map(int, seeds or SEEDS)
    config = read_yaml(Path("config/config.yaml")) | {"seeds": significance.SEEDS, "search": {"budget": 1}}
    plan = load_plan(config)
    write_json(folder / "suite.json", config)
    significance.leave_predictions(plan, experiment, folder)
    shape = architecture(BertForSequenceClassification(BertConfig(num_hidden_layers=1)))
    for run in plan.experiment_runs(experiment):
        write_json(folder / run.path / "run.json", record(plan, run, shape))


def read(folder: Path, experiment: str) -> None:
    """Read every prediction of an experiment once: what all that is made of it has to do at least."""
    from theseus_bench.suite.records import read_predictions

    folder = Path(folder)
    for run in read_plan(folder).experiment_runs(experiment):
        read_predictions(folder / run.path, run.task.splits)


def record(plan: Plan, run, shape: dict) -> dict:
    """A run.json that fits a run, its numbers invented."""
    return {
        "schema_version": 4,
        "method": run.spec.name,
        "variant": run.variant,
        "method_version": run.spec.version,
        "task": run.task.name,
        "seed": run.seed,
        "fingerprint": plan.fingerprint(run),
        "status": "complete",
        "reason": "",
        "settings": run.settings,
        "trial": None,
        "dev_score": 0.8,
        "majority_score": 0.5,
        "best_step": 100,
        "steps": 100,
        "planned_steps": 100,
        "resumed": 0,
        "curve": [{"step": 20 * i, "epoch": float(i), "loss": 1 / i, "score": 0.8} for i in range(1, 6)],
        "parameters": 66_000_000,
        "embedding_parameters": 24_000_000,
        "architecture": shape,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "seconds": {"training": 100.0, "all": 110.0},
        "peak_memory_mb": 1000.0,
        "flops": {"training": 1e15, "evaluation": 1e14},
        "energy_joules": None,
        "data": {split: {"rows": rows, "official_rows": rows} for split, rows in run.task.rows.items()},
        "data_source": {},
        "backbone": {},
        "compact": None,
        "teacher": None,
        "source": None,
        "inputs": {},
        "predictions_sha256": "",
        "provenance": {},
    }


def _inside(action: str, *arguments: str) -> None:
    """Prepare in a child: see processes.run for why this process must stay small."""
    subprocess.run([sys.executable, __file__, action, *arguments], check=True)


def _say(name: str, memory: float, aim: float, rest: str = "") -> None:
    print(f"{name}: {memory:.0f} MB, {memory / aim:.2f} of the aim{'; ' * bool(rest)}{rest}", flush=True)


if __name__ == "__main__":
    main()
