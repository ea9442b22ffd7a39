"""How fast the training loop is beside what a user would run instead, as ratios of steps that take turns.

    python benchmarks/training.py [cola|mrpc|stsb|sst2|rte …]

A model of MiniLM's shape (6 layers, 384 wide) with random weights learns random tokens whose lengths are spread as
those of the task; batch 32. The peers train the same model on the same examples:

    run_glue         transformers' Trainer as its example script sets it: fp32, every sequence padded to 128
    tuned            the Trainer with dynamic padding, bf16 where the processor has it, and our batches
    TextBrewer 128   TextBrewer's own `train`, padded to 128 as in its examples; the teacher computes at each step
    TextBrewer       the same on our batches
    official         module replacing as in the paper's code: padded to 128, fp32, all gradients computed

and fine-tuning is also beside itself with whole batches, where ours go through the model in parts of like lengths.

In each round every contestant does a few steps; a ratio is that of a round, and the median of the rounds is shown. The
share of the peak is that of the operations on real tokens, against the largest matrix product of the same rounds.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from lengths import LENGTHS, draw_lengths
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
from theseus_bench.data import batches as batches_module
from theseus_bench.data import parquet
from theseus_bench.data.synthetic import write_tokenizer
from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.modeling.architectures import layers_of, set_layers
from theseus_bench.modeling.checkpoints import quiet_transformers
from theseus_bench.modeling.devices import Hardware, choose_precision
from theseus_bench.modeling.flops import count_flops, new_count, total_flops
from theseus_bench.suite.config import LoopSettings
from theseus_bench.suite.method_spec import METHODS_FOLDER, load_spec, resolve_settings
from theseus_bench.training.loop import TaskData, make_optimizer, parameters_of, train_step, training_batch
from theseus_bench.training.method import RunContext, load_method
from theseus_bench.training.micro_batches import group_lengths
from theseus_bench.training.teacher_outputs import TeacherOutputs
from torch import nn
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

CPU = torch.device("cpu")
SHAPE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
BATCH, RATE, STUDENT_LAYERS, PADDED_LENGTH = 32, 2e-5, 3, 128
ROUNDS = 5  # the first is not counted
STEPS = {PADDED_LENGTH: 2, 0: 6}  # of a round: those of a batch padded to 128 are all alike, the others need not be
EXAMPLES = 8000
NORM = "theseus, clip_frozen: false"  # without the gradients that the paper's code computes for the norm alone
WHOLE = "finetune, whole batches"
METHODS = {
    name: {} for name in ["predecessor", "finetune", WHOLE, "vanilla_kd", "pkd", "layerdrop", "tinybert", "minilm"]
}
REPLACING = {"schedule": "constant", "base_rate": 0.3, "full_rate_at": 1e9}  # the same share of successors as the peer
METHODS |= {"theseus": REPLACING, NORM: REPLACING | {"clip_frozen": False}}  # with what is set
RIVALS = {  # peer → the methods of ours that do the same work
    WHOLE: ["finetune"],
    "run_glue": ["predecessor"],
    "tuned": ["predecessor"],
    "TextBrewer 128, KD": ["vanilla_kd"],
    "TextBrewer, KD": ["vanilla_kd"],
    "TextBrewer 128, PKD": ["pkd"],
    "TextBrewer, PKD": ["pkd"],
    "official": ["theseus", NORM],
}
Steps = Callable[[int], tuple[int, float]]  # how many → examples seen, seconds


def main() -> None:
    logging.getLogger("Distillation").setLevel(logging.ERROR)
    precision = choose_precision("auto", CPU)
    print(f"{torch.get_num_threads()} threads, {precision}")
    for task in sys.argv[1:] or LENGTHS:
        with tempfile.TemporaryDirectory() as scratch:
            compare(task, precision, Path(scratch))


def compare(task: str, precision: str, folder: Path) -> None:
    """Let all contestants take turns on the lengths of a task, and print what they did."""
    bench = Bench(task, precision, folder)
    methods = {name: OurMethod(bench, name) for name in METHODS}
    contestants: dict[str, tuple[int, Steps]] = {name: (STEPS[0], one.steps) for name, one in methods.items()}
    contestants |= peers(bench)
    speeds: dict[str, list[float]] = {name: [] for name in [*contestants, "peak"]}
    for turn in range(ROUNDS):
        names = list(contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            count, steps = contestants[name]
            examples, seconds = steps(count)
            speeds[name].append(examples / seconds)
        speeds["peak"].append(matrix_product(precision))
    speeds = {name: np.array(values[1:]) for name, values in speeds.items()}
    tokens = bench.split.rows["length"].mean()
    padding = [f"{methods[name].padding:.1%}" for name in (WHOLE, "finetune")]
    print(f"\n{task}: {tokens:.1f} tokens an example; {' of our batches, '.join(padding)} of their parts is padding")
    print(f"peak {np.median(speeds['peak']) / 1e9:.0f} GFLOP/s")
    for name, one in methods.items():
        share = np.median(speeds[name] * one.total_flops / speeds["peak"])
        print(f"{name}: {np.median(speeds[name]):.1f} examples/s, {share:.0%} of the peak")
    for peer, names in RIVALS.items():
        for name in names:
            ratio = np.median(speeds[name] / speeds[peer])
            print(f"{name} against {peer} ({np.median(speeds[peer]):.1f} examples/s): {ratio:.1f} ×", flush=True)


class Bench:
    """What all contestants share: the task, its examples, a random predecessor and outputs of it."""

    def __init__(self, task: str, precision: str, folder: Path):
        torch.manual_seed(0)
        self.task = load_tasks(TASKS_FILE)["rte"]  # two classes for all, also for the lengths of STS-B
        self.precision, self.backbone = precision, folder / "backbone"
        BertForSequenceClassification(BertConfig(**SHAPE)).save_pretrained(self.backbone)
        random = np.random.default_rng(0)
        rows = np.zeros(EXAMPLES, parquet.ROW)
        rows["length"] = draw_lengths(task, random, EXAMPLES)
        rows["first"], rows["label"], rows["idx"] = rows["length"], random.integers(2, size=EXAMPLES), range(EXAMPLES)
        rows["start"] = np.cumsum(rows["length"]) - rows["length"]
        self.split = parquet.Split(random.integers(1000, 30000, rows["length"].sum()).astype(np.uint16), rows)
        layers = [2, 4, 6]
        states = random.standard_normal((EXAMPLES, len(layers), SHAPE["hidden_size"])).astype(np.float16)
        outputs = TeacherOutputs(random.standard_normal((EXAMPLES, 2)).astype(np.float32), states, layers)
        self.data = TaskData(self.task, 0, self.split, {}, outputs)
        self.order = batches_module.shuffled_batches(len(self.split), task, 1, 0, BATCH)
        self.padded = [order[order < EXAMPLES] for order in np.split(random.permutation(EXAMPLES), len(self.order))]

    def model(self, layers: int = SHAPE["num_hidden_layers"], **kwargs) -> nn.Module:
        """A model as a user loads it."""
        kwargs["num_hidden_layers"] = layers
        with quiet_transformers():
            return BertForSequenceClassification.from_pretrained(self.backbone, **kwargs)

    def batches(self, padded: bool) -> Iterator[dict[str, torch.Tensor]]:
        """Batches without end as transformers' models take them: ours, or shuffled and padded to 128."""
        for examples in itertools.cycle(self.padded if padded else self.order):
            batch = training_batch(self.data, examples, CPU)
            missing = PADDED_LENGTH - batch["input_ids"].shape[1] if padded else 0
            inputs = ("input_ids", "attention_mask", "token_type_ids")
            yield {name: functional.pad(batch[name], (0, missing)) for name in inputs} | {"labels": batch["labels"]}


class OurMethod:
    """A method in our loop."""

    def __init__(self, bench: Bench, name: str):
        changes, is_whole, name = METHODS[name], name == WHOLE, name.partition(",")[0]
        spec = load_spec(METHODS_FOLDER / name)
        layers = SHAPE["num_hidden_layers"] if spec.role == "teacher" else STUDENT_LAYERS
        values = {"layers": layers, "batch_size": BATCH, "learning_rate": RATE, "precision": bench.precision}
        settings = resolve_settings(spec, layers, [("benchmark", values | changes)])
        context = RunContext(
            task=bench.task,
            seed=1,
            settings=SimpleNamespace(**settings),
            steps=len(bench.order),
            labels=torch.from_numpy(bench.split.labels),
            predecessor_layers=SHAPE["num_hidden_layers"],
            teacher_layers=bench.data.teacher.layers,
            backbone_folder=bench.backbone,
            predecessor_folder=bench.backbone,
            compact_folder=None,
            source_folder=None,
            device=CPU,
        )
        self.bench, self.method = bench, load_method(METHODS_FOLDER / name)
        self.method.relates_examples = is_whole
        self.model = self.method.build(context).train()
        self.parameters = parameters_of(self.method, self.model)
        self.loop = LoopSettings(**{key: settings[key] for key in LoopSettings.model_fields})
        self.optimizer = make_optimizer(self.parameters.groups, self.loop)
        self.hardware = Hardware(CPU, bench.precision)
        self.step, self.examples, self.count = 0, 0, new_count()

    def steps(self, count: int) -> tuple[int, float]:
        before, began = self.examples, time.perf_counter()
        for _ in range(count):
            examples = self.bench.order[self.step]
            batch = training_batch(self.bench.data, examples, CPU)
            self.method.on_step_begin(self.step)
            with count_flops(self.count, observed=self.step == 0):  # in the first round, which does not count
                arguments = self.optimizer, self.parameters, RATE, self.loop, self.hardware, len(examples)
                train_step(self.method, self.model, batch, *arguments)
            self.step += 1
            self.examples += len(examples)
        return self.examples - before, time.perf_counter() - began

    @property
    def padding(self) -> float:
        """The share of padding in what goes through the model."""
        lengths = self.bench.split.rows["length"]
        batches = [lengths[batch] for batch in self.bench.order]
        parts = batches if self.method.relates_examples else [b[g] for b in batches for g in group_lengths(b)]
        return 1 - lengths.sum() / sum(len(part) * part.max() for part in parts)

    @property
    def total_flops(self) -> float:
        """Floating point operations an example, of real tokens alone."""
        return total_flops(self.count) / self.examples * (1 - self.padding)


def peers(bench: Bench) -> dict[str, tuple[int, Steps]]:
    """The steps of every peer, and how many it does in a round."""
    kd = {"temperature": 4.0, "hard_label_weight": 0.5, "kd_loss_weight": 0.5, "kd_loss_type": "ce"}
    follow = [{"layer_T": 2 * i, "layer_S": i, "feature": "hidden", "loss": "pkd", "weight": 1.0} for i in (1, 2)]
    pkd = kd | {"intermediate_matches": follow}
    return {
        "run_glue": (STEPS[PADDED_LENGTH], trainer_steps(bench, padded=True)),
        "tuned": (STEPS[0], trainer_steps(bench, padded=False)),
        "TextBrewer 128, KD": (STEPS[PADDED_LENGTH], textbrewer_steps(bench, kd, padded=True)),
        "TextBrewer, KD": (STEPS[0], textbrewer_steps(bench, kd, padded=False)),
        "TextBrewer 128, PKD": (STEPS[PADDED_LENGTH], textbrewer_steps(bench, pkd, padded=True)),
        "TextBrewer, PKD": (STEPS[0], textbrewer_steps(bench, pkd, padded=False)),
        "official": (STEPS[PADDED_LENGTH], official_steps(bench)),
    }


class Clock(TrainerCallback):
    """Seconds of a Trainer's steps, but for the first, which prepares more than a step."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 1:
            self.began = time.perf_counter()
        self.ended = time.perf_counter()


class Examples(torch.utils.data.Dataset):
    """The examples as a tokenized data set of the datasets library gives them to a Trainer."""

    def __init__(self, bench: Bench):
        tokens, rows = bench.split.tokens.astype(np.int64), bench.split.rows
        ids = [tokens[row["start"] : row["start"] + row["length"]].tolist() for row in rows]
        self.rows = [{"input_ids": i, "label": int(row["label"])} for i, row in zip(ids, rows, strict=True)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict:
        return self.rows[i]


def trainer_steps(bench: Bench, padded: bool) -> Steps:
    """Steps of transformers' Trainer: as in run_glue.py, or tuned."""
    model, examples, folder = bench.model(), Examples(bench), bench.backbone.parent / f"trainer-{padded}"
    write_tokenizer(folder)
    padding = {"padding": "max_length", "max_length": PADDED_LENGTH} if padded else {"padding": True}
    collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder), **padding)
    batches = itertools.cycle(bench.order)

    def steps(count: int) -> tuple[int, float]:
        subset = examples
        if not padded:
            indices = np.concatenate(list(itertools.islice(batches, count + 1)))
            subset = torch.utils.data.Subset(examples, indices.tolist())
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            max_steps=count + 1,
            train_sampling_strategy="random" if padded else "sequential",
            bf16=not padded and bench.precision == "bf16",
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            seed=random.randrange(2**31),
        )
        clock = Clock()
        trainer = Trainer(model, arguments, collator, subset, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return count * BATCH, clock.ended - clock.began

    return steps


def textbrewer_steps(bench: Bench, config: dict, padded: bool) -> Steps:
    """Steps of TextBrewer's own training of a student of 3 layers; its teacher computes at each step."""
    teacher = bench.model(output_hidden_states=True).eval()
    student = bench.model(STUDENT_LAYERS, output_hidden_states=True).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE)
    batches, folder = bench.batches(padded), str(bench.backbone.parent)

    def adapt(_batch, output) -> dict:
        return {"logits": [output.logits], "losses": [output.loss], "hidden": [h[:, :1] for h in output.hidden_states]}

    def steps(count: int) -> tuple[int, float]:
        settings = TrainingConfig(output_dir=folder, device="cpu", ckpt_steps=10**6)
        distiller = GeneralDistiller(settings, DistillationConfig(**config), teacher, student, adapt, adapt)
        clock: list[float] = []

        def timed_batches() -> Iterator[dict]:  # step i is over when batch i + 1 is asked for
            for batch in itertools.islice(batches, count + 1):
                clock.append(time.perf_counter())
                yield batch

        with contextlib.redirect_stderr(io.StringIO()):
            distiller.train(optimizer, timed_batches(), num_steps=count + 1, max_grad_norm=1.0)
        return count * BATCH, clock[-1] - clock[0]

    return steps


class Replacing(nn.Module):
    """Module replacing as in the paper's code: in each forward pass each module is its successor with probability b."""

    def __init__(self, predecessor: nn.ModuleList, successor: nn.ModuleList, rate: float):
        super().__init__()
        self.predecessor, self.successor, self.rate = predecessor, successor, rate

    def __iter__(self) -> Iterator[nn.Module]:
        size = len(self.predecessor) // len(self.successor)
        for i, layer in enumerate(self.successor):
            if random.random() < self.rate:
                yield layer
            else:
                yield from self.predecessor[i * size : (i + 1) * size]


def official_steps(bench: Bench) -> Steps:
    """Steps as those of the paper's code: gradients of everything, of which only the successor's are used."""
    model, start = (bench.model(attn_implementation="eager").train() for _ in range(2))
    successor = layers_of(start)[:STUDENT_LAYERS]
    set_layers(model, Replacing(layers_of(model), successor, REPLACING["base_rate"]))
    optimizer, batches = torch.optim.AdamW(successor.parameters(), lr=RATE), bench.batches(padded=True)

    def steps(count: int) -> tuple[int, float]:
        began = time.perf_counter()
        for batch in itertools.islice(batches, count):
            model(**batch).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            model.zero_grad(set_to_none=False)
        return count * BATCH, time.perf_counter() - began

    return steps


def matrix_product(precision: str) -> float:
    """Floating point operations a second of the fastest of a few matrix products of the model's kind and larger."""
    kind, best = torch.bfloat16 if precision == "bf16" else torch.float32, 0.0
    for rows, inner, columns in [(512, 384, 1536), (2048, 384, 1536), (4096, 384, 384), (2048, 2048, 2048)]:
        left, right = torch.randn(rows, inner).to(kind), torch.randn(inner, columns).to(kind)
        for _ in range(5):
            began = time.perf_counter()
            left @ right
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - began))
    return best


if __name__ == "__main__":
    main()
