"""How fast training is on a GPU: BERT-base, random weights, sentences as long as those of two tasks of GLUE.

    python benchmarks/gpu.py

For each method: examples and operations a second in the loop as it is, once its layers are compiled; the share of what
the GPU does at most in bf16, measured on a product of matrices; how often in a step the processor waits for the GPU (0
is meant); and peak memory. Then runs an hour with 1, 2, 4 and 8 of them on the GPU at a time, each a process, imports
and compilation included. Without a GPU nothing is measured, and the tables say so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lengths import draw_lengths
from theseus_bench.data.parquet import ROW
from theseus_bench.data.synthetic import write_tokenizer
from theseus_bench.files import write_json
from theseus_bench.modeling.checkpoints import save_checkpoint
from theseus_bench.modeling.flops import OBSERVED_STEPS
from theseus_bench.suite.load import load_plan, read_plan
from theseus_bench.training import run as run_module
from transformers import BertConfig, BertForMaskedLM

METHODS = ["predecessor", "finetune", "vanilla_kd", "pkd", "layerdrop", "tinybert", "minilm", "theseus"]
TASKS = ["sst2", "rte"]  # short sentences, and long ones
SLOTS = [1, 2, 4, 8]
PARALLEL_RUN = "finetune", "rte"  # the run of which there are several at a time
MATRIX = 8192  # rows and columns: enough to fill a large GPU
COLUMNS = ["examples/s", "TFLOP/s", "share of the peak", "waits a step", "peak memory, MiB"]


@dataclass(frozen=True)
class Size:
    """How large a suite is: the model's shape (as BertConfig has it), steps of a run, examples."""

    shape: dict[str, int] = field(default_factory=dict)  # {} is BERT-base
    student_layers: int = 6
    steps: int = 2000  # a multiple of OBSERVED_STEPS; all usual lengths are compiled before the time is taken
    examples: int = 16_000
    batch: int = 32
    device: str = "cuda"

    @property
    def begin(self) -> int:
        """The step from which on time is taken: after the last of those that theseus_bench.modeling.flops observes."""
        return (OBSERVED_STEPS - 1) * (self.steps // OBSERVED_STEPS) + 1

    @property
    def end(self) -> int:
        """The step up to which it is; in the rest, waits are counted."""
        return self.begin + (self.steps - self.begin) * 3 // 4


def main() -> None:
    if len(sys.argv) > 1:  # a process of our own, see in_a_process
        print(json.dumps({"prepare": prepare, "measure": measure, "peak": peak}[sys.argv[1]](*sys.argv[2:])))
        return
    if not torch.cuda.is_available():
        print_tables("no GPU here", {}, {})
        return
    with tempfile.TemporaryDirectory() as folder:
        in_a_process("prepare", folder)
        most = in_a_process("peak", "cuda")
        peak_said = f"{most / 1e12:.0f} TFLOP/s" if most else "not measured"
        print(f"{torch.cuda.get_device_name()}; bf16 peak: {peak_said}\n", flush=True)
        results = {(name, task): in_a_process("measure", folder, name, task) for task in TASKS for name in METHODS}
        print_tables("failed", {key: row(one, most) for key, one in results.items()}, runs_an_hour(Path(folder)))


def prepare(folder: str, size: Size = Size()) -> None:
    """A suite's folder with a random backbone and tasks of random tokens."""
    suite_folder = Path(folder)
    loop = {"max_steps": size.steps, "epochs": 1000.0, "batch_size": size.batch, "evaluate_every": size.steps}
    config = BertConfig(**size.shape)
    suite = {
        "suite": "gpu",
        "data": {"source": "demo", "rows": size.examples},
        "backbone": {"source": "demo", "layers": config.num_hidden_layers},
        "student_layers": size.student_layers,
        "tasks": TASKS,
        "seeds": list(range(1, max(SLOTS) + 1)),
        "device": size.device,
        "threads": 1,
        "keep_models": [],
        "settings": [{"set": loop}],
        "experiments": {"gpu": {"title": "GPU", "methods": METHODS}},
    }
    tasks = load_plan(suite).tasks
    write_json(suite_folder / "suite.json", suite)
    write_tokenizer(suite_folder / "tokenizer")
    torch.manual_seed(0)
    save_checkpoint(BertForMaskedLM(config), suite_folder / "tokenizer", suite_folder / "backbone")
    random = np.random.default_rng(0)
    for task in TASKS:
        data = suite_folder / "data" / task
        data.mkdir(parents=True)
        splits = {split: size.examples if split == "train" else 4 * size.batch for split in tasks[task].splits}
        for split, examples in splits.items():
            rows = np.zeros(examples, ROW)
            rows["length"] = draw_lengths(task, random, examples)
            rows["start"] = np.cumsum(rows["length"]) - rows["length"]
            rows["first"] = rows["length"] // 2
            rows["label"], rows["idx"] = random.integers(2, size=examples), np.arange(examples)
            np.save(data / f"{split}.rows.npy", rows)
            tokens = random.integers(1, config.vocab_size, int(rows["length"].sum()))
            np.save(data / f"{split}.tokens.npy", tokens.astype(np.uint16))
        counts = {split: {"rows": rows, "official_rows": tasks[task].rows[split]} for split, rows in splits.items()}
        write_json(data / "data.json", {"task": task, "max_length": 128, "pad": 0, "splits": counts})


def measure(folder: str, name: str, task: str, size: Size = Size()) -> dict[str, Any]:
    """Train one run, of the predecessor with its outputs for the students; what was seen in its last steps."""
    suite_folder = Path(folder)
    plan = read_plan(suite_folder)
    run = plan.run(name, task, 1)
    clock, load = Clock(size), run_module.load_method
    run_module.load_method = lambda method_folder: clock.watch(load(method_folder))
    try:
        record = run_module.execute(plan, run, suite_folder)
    finally:
        run_module.load_method = load
    if name == plan.teacher.name:
        run_module.store_teacher_outputs(plan, run, suite_folder)
    return {
        "steps_a_second": (size.end - size.begin) / clock.seconds,
        "batch": size.batch,
        "operations_a_step": record.flops["training"] / record.steps,
        "waits_a_step": clock.waits,
        "peak_memory_mb": record.peak_memory_mb,
    }


class Clock:
    """Takes the time of a run's late steps, and counts in its last ones how often the processor waits for the GPU."""

    def __init__(self, size: Size):
        self.size = size
        self.gpu = size.device == "cuda"
        self.seconds, self.waits = 0.0, None

    def watch(self, method):
        """The method, watched at the beginning of each of its steps."""
        on_step_begin = method.on_step_begin

        def step_and_look(step: int) -> None:
            self._look(step)
            on_step_begin(step)

        method.on_step_begin = step_and_look
        return method

    def _look(self, step: int) -> None:
        if step == self.size.begin:
            self._finish()
            self.began = time.perf_counter()
        elif step == self.size.end:
            self._finish()
            self.seconds = time.perf_counter() - self.began
            if self.gpu:
                self.recorder = warnings.catch_warnings(record=True)
                self.records = self.recorder.__enter__()
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
        elif step == self.size.steps - 1 and self.gpu:  # the evaluation after it waits, as it has to
            torch.cuda.set_sync_debug_mode("default")
            self.recorder.__exit__(None, None, None)
            waits = [warning for warning in self.records if "synchroniz" in str(warning.message)]
            self.waits = len(waits) / (step - self.size.end)

    def _finish(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()


def peak(device: str, matrix: int = MATRIX, repetitions: int = 30) -> float:
    """Operations a second of the best of some products of two bf16 matrices."""
    one, other = (torch.randn(matrix, matrix, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(3 + repetitions):
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        one @ other
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * matrix**3 / min(times[3:])


def runs_an_hour(folder: Path) -> dict[int, float]:
    """Runs an hour by how many there are at a time, each the command that the workflow calls; none where one fails."""
    rates = {}
    for slots in SLOTS:
        began = time.perf_counter()
        command = [Path(sys.executable).with_name("theseus-bench"), "train", folder, *PARALLEL_RUN]
        quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
        processes = [subprocess.Popen([*command, str(seed)], **quiet) for seed in range(1, slots + 1)]
        codes = [one.wait() for one in processes]
        if not any(codes):
            rates[slots] = slots * 3600 / (time.perf_counter() - began)
    return rates


def in_a_process(*arguments: str) -> Any:
    """What a function of this file returns when it is run in a process of its own; None, and a word, if it fails."""
    process = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if process.returncode:
        print(f"{' '.join(arguments)} failed:\n{process.stderr[-2000:]}", file=sys.stderr)
        return None
    return json.loads(process.stdout.splitlines()[-1])


def row(result: dict[str, Any] | None, most: float | None) -> list[str] | None:
    """The cells of a method, in the order of COLUMNS; None where it was not measured."""
    if result is None:
        return None
    rate = result["steps_a_second"] * result["operations_a_step"]
    return [
        f"{result['steps_a_second'] * result['batch']:.0f}",
        f"{rate / 1e12:.1f}",
        f"{rate / most:.0%}" if most else "not measured",
        "not measured" if result["waits_a_step"] is None else f"{result['waits_a_step']:.1f}",
        f"{result['peak_memory_mb']:.0f}",
    ]


def print_tables(why_not: str, rows: dict[tuple[str, str], list[str] | None], hourly: dict[int, float]) -> None:
    """Two Markdown tables; what is missing from them was not measured, `why_not`."""
    gap = f"not measured: {why_not}"
    print("| task | method | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (2 + len(COLUMNS)))
    for task in TASKS:
        for name in METHODS:
            cells = rows.get((name, task)) or [gap] + ["not measured"] * (len(COLUMNS) - 1)
            print(f"| {task} | {name} | " + " | ".join(cells) + " |")
    method, task = PARALLEL_RUN
    print(f"\n| {method} on {task}, {Size().steps} steps: at a time | runs an hour |\n|---|---|")
    for slots in SLOTS:
        print(f"| {slots} | " + (f"{hourly[slots]:.1f}" if slots in hourly else gap) + " |")


if __name__ == "__main__":
    main()
