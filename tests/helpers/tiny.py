"""Tiny random checkpoints, splits and runs for the unit tests: no text, no network, seconds in all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file
from theseus_bench.data.batches import collate
from theseus_bench.data.parquet import ROW, Split
from theseus_bench.data.tasks import Task
from theseus_bench.modeling.devices import Hardware, seed_everything, to_tensors
from theseus_bench.suite.config import LoopSettings
from theseus_bench.suite.method_spec import load_spec, resolve_settings
from theseus_bench.training.loop import TaskData, planned_steps
from theseus_bench.training.method import Method, RunContext, load_method
from theseus_bench.training.teacher_outputs import TeacherOutputs
from theseus_bench.training.trainer_state import Checkpoint
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizer,
    DistilBertConfig,
    RobertaConfig,
)

torch.set_num_threads(1)

ROOT = Path(__file__).parents[2]
METHODS = ROOT / "methods"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(55))]
PAD, CLS, SEP, FIRST_WORD = 0, 2, 3, 5
HARDWARE = Hardware(torch.device("cpu"), "fp32")
LAYERS = {
    "bert": "bert.encoder.layer",
    "roberta": "roberta.encoder.layer",
    "distilbert": "distilbert.transformer.layer",
}


def make_task(outputs: int = 2) -> Task:
    """A task with that many classes, or with values if there is one output."""
    return Task(
        name="tiny",
        label="Tiny",
        columns=["sentence1", "sentence2"],
        labels=None if outputs == 1 else [f"class{i}" for i in range(outputs)],
        metrics=["pearson"] if outputs == 1 else ["accuracy"],
        dev=["validation"],
        test=[],
        rows={},
        macro=True,
        max_length=16,
    )


def make_split(examples: int, outputs: int = 2, seed: int = 0) -> Split:
    """Random sentence pairs of 5 to 16 tokens; the label is a function of the first word."""
    random = np.random.default_rng(seed)
    rows, tokens = np.zeros(examples, ROW), []
    for i in range(examples):
        first, second = (random.integers(FIRST_WORD, len(WORDS), random.integers(1, 8)) for _ in range(2))
        example = [CLS, *first, SEP, *second, SEP]
        label = first[0] % outputs if outputs > 1 else first[0] / 12
        rows[i] = (len(tokens), len(example), len(first) + 2, label, i)
        tokens += example
    return Split(np.array(tokens, np.uint16), rows)


def make_config(family: str = "bert", layers: int = 4, hidden: int = 16, dropout: float = 0.1, **changes):
    """The config of a tiny encoder; its weights are drawn wide enough that every layer matters."""
    options = {"vocab_size": len(WORDS), "max_position_embeddings": 40, "initializer_range": 0.2, "pad_token_id": PAD}
    options |= changes
    if family == "distilbert":
        sizes = {"dim": hidden, "n_layers": layers, "n_heads": 2, "hidden_dim": 2 * hidden}
        rates = {"dropout": dropout, "attention_dropout": dropout, "seq_classif_dropout": dropout}
        return DistilBertConfig(**options, **sizes, **rates)
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 2}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    kind = BertConfig if family == "bert" else RobertaConfig
    return kind(**options, **sizes, **rates, intermediate_size=2 * hidden)


def write_checkpoint(folder: Path, family="bert", layers=4, outputs=0, seed=0, dropout=0.1, hidden=16) -> Path:
    """A random checkpoint with its tokenizer: a classifier, or without `outputs` a masked language model."""
    torch.manual_seed(seed)
    config = make_config(family, layers, hidden, dropout, **({"num_labels": outputs} if outputs else {}))
    kind = AutoModelForSequenceClassification if outputs else AutoModelForMaskedLM
    model = kind.from_config(config)
    with torch.no_grad():  # biases and norms differ from layer to layer too, as in a trained model
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    BertTokenizer(vocab={word: code for code, word in enumerate(WORDS)}, model_max_length=32).save_pretrained(folder)
    return folder


def write_pair(folder: Path, **changes) -> tuple[Path, Path]:
    """A backbone and a predecessor with two classes, which have no weight in common."""
    backbone = write_checkpoint(folder / "backbone", seed=1, **changes)
    return backbone, write_checkpoint(folder / "predecessor", outputs=2, seed=2, **changes)


def make_loop(**changes) -> LoopSettings:
    """Settings of the training loop: batches of 8, fp32."""
    settings = {"layers": 2, "batch_size": 8, "learning_rate": 1e-3, "epochs": 1, "precision": "fp32"}
    return LoopSettings(**settings | changes)


def make_data(outputs: int = 2, train: int = 36, dev: int = 20, teacher: TeacherOutputs | None = None) -> TaskData:
    """A task's splits: 36 examples are five batches an epoch, the last of four."""
    dev_split = {"validation": make_split(dev, outputs, seed=1)}
    return TaskData(make_task(outputs), PAD, make_split(train, outputs), dev_split, teacher)


def make_checkpoint(folder: Path, every: float = 600.0) -> Checkpoint:
    """A run's checkpoint in `folder`."""
    return Checkpoint(folder / "checkpoint", every)


def make_teacher(examples: int, outputs: int, layers: list[int], hidden: int = 16, seed: int = 3) -> TeacherOutputs:
    """Random stored outputs of a predecessor."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (examples, outputs)).astype(np.float32)
    return TeacherOutputs(logits, random.normal(0, 1, (examples, len(layers), hidden)).astype(np.float16), layers)


@dataclass
class Setup:
    """A method with the model it built and the loop's settings."""

    method: Method
    model: torch.nn.Module
    loop: LoopSettings


def build(
    name: str,
    data: TaskData,
    backbone: Path,
    predecessor: Path | None = None,
    depth=4,
    seed=1,
    steps=None,
    source: Path | None = None,
    **settings,
) -> Setup:
    """Method `name` as a run builds it, its settings those of its method.yaml but for `settings`."""
    defaults = {"batch_size": 8, "precision": "fp32", "learning_rate": 1e-3, "weight_decay": 0.0, "layers": 2}
    values = resolve_settings(load_spec(METHODS / name), 2, [("test", defaults | settings)])
    loop = LoopSettings(**{key: values[key] for key in LoopSettings.model_fields})
    method = load_method(METHODS / name)
    context = RunContext(
        task=data.task,
        seed=seed,
        settings=SimpleNamespace(**values),
        steps=steps or planned_steps(loop, len(data.train)),
        labels=torch.from_numpy(data.train.labels.copy()),
        predecessor_layers=depth,
        teacher_layers=data.teacher.layers if data.teacher else [],
        backbone_folder=backbone,
        predecessor_folder=predecessor,
        compact_folder=None,
        source_folder=source,
        device=torch.device("cpu"),
    )
    seed_everything(seed)
    model = method.build(context)
    seed_everything(seed)
    return Setup(method, model, loop)


def stack_layers(rest: Path, layers: list[tuple[Path, int]]):
    """transformers' own classifier: head and embeddings of the checkpoint `rest`, layers as (checkpoint, number)."""
    states = {folder: load_file(folder / "model.safetensors") for folder in {rest, *(folder for folder, _ in layers)}}
    config = AutoConfig.from_pretrained(rest)
    prefix = LAYERS[config.model_type]
    config.update({"n_layers" if config.model_type == "distilbert" else "num_hidden_layers": len(layers)})
    state = {name: value for name, value in states[rest].items() if not name.startswith(prefix)}
    for i, (folder, number) in enumerate(layers):
        start = f"{prefix}.{number}."
        state |= {n.replace(start, f"{prefix}.{i}.", 1): v for n, v in states[folder].items() if n.startswith(start)}
    model = AutoModelForSequenceClassification.from_config(config)
    model.load_state_dict(state, strict=True)
    return model


def make_batch(data: TaskData, examples=range(6)) -> dict[str, torch.Tensor]:
    """The examples of the training set as a method's loss sees them."""
    examples = np.array(examples)
    arrays = collate(data.train, examples, data.pad)
    arrays["labels"] = arrays["labels"].astype(np.float32 if data.task.regression else np.int64)
    return to_tensors(arrays | (data.teacher.take(examples) if data.teacher else {}), torch.device("cpu"))


def inputs_of(model, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a plain model of a known family is called with."""
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if model.config.model_type == "bert" else [])
    return {name: batch[name] for name in names}


def weights(model) -> dict[str, torch.Tensor]:
    """A copy of the model's parameters."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are bit-equal."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
