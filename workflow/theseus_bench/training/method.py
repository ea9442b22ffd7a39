"""The contract of a method: what method.py defines, and what it is given.

A method says what is trained and with which loss. Everything else (batches, optimizer, schedule, precision, stopping)
is the training loop's, so that methods differ in their idea alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional

from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.modeling.architectures import keep_layers, layers_of
from theseus_bench.modeling.attention import model_inputs
from theseus_bench.modeling.checkpoints import check_same_vocabulary, load_classifier
from theseus_bench.modeling.compile import prepare_for_device

RENAMED_HOOKS = {"on_step": "on_step_begin", "may_stop": "allow_early_stopping", "log": "metrics_to_log"}


@dataclass(frozen=True)
class RunContext:
    """What a method may know of its run."""

    task: Task
    seed: int
    settings: SimpleNamespace  # the loop's settings and the method's own, resolved
    steps: int  # optimizer steps planned
    labels: torch.Tensor  # (examples,) labels of the training set: class codes, or values for regression
    predecessor_layers: int
    teacher_layers: list[int]  # which of the predecessor's layers batch["teacher_cls"] holds, counted from 1
    backbone_folder: Path
    predecessor_folder: Path | None  # given to a method that needs teacher_model or starts from the predecessor
    compact_folder: Path | None  # given to a method that needs compact_checkpoint
    source_folder: Path | None  # given to a method that has a source
    device: torch.device

    def load_start(self) -> nn.Module:
        """A classifier of `settings.layers` layers: the first ones of whatever `settings.start` names."""
        model = self.load_predecessor() if self.settings.start == "predecessor" else self.load_backbone()
        return keep_layers(model, list(range(self.settings.layers)))

    def load_backbone(self) -> nn.Module:
        """The whole pretrained backbone under a fresh head, the same fresh head for every method of this seed."""
        torch.manual_seed(self.seed)
        return load_classifier(self.backbone_folder, self.task)

    def load_predecessor(self) -> nn.Module:
        """The predecessor of this task and seed, fine-tuned."""
        return load_classifier(self.predecessor_folder, self.task)

    def load_teacher(self) -> nn.Module:
        """The predecessor to learn from: on the run's device, without dropout, and never trained."""
        return prepare_for_device(self.load_predecessor(), self.device).eval().requires_grad_(False)

    def load_source(self) -> nn.Module:
        """The compressed model of the method's source, under a fresh head for this run's task; of the run's depth."""
        torch.manual_seed(self.seed)
        model = load_classifier(self.source_folder, self.task, fresh_head=True)
        return self._of_depth(model, self.source_folder, "its source has another depth, so do not vary it")

    def load_compact(self) -> nn.Module:
        """The compact checkpoint under a fresh head; it must have the backbone's vocabulary and the student's depth."""
        check_same_vocabulary(self.compact_folder, self.backbone_folder)
        torch.manual_seed(self.seed)
        model = load_classifier(self.compact_folder, self.task)
        return self._of_depth(model, self.compact_folder, "choose a compact checkpoint of that depth")

    def _of_depth(self, model: nn.Module, folder: Path, remedy: str) -> nn.Module:
        depth = len(layers_of(model))
        if depth != self.settings.layers:
            raise UserError(f"{folder}: {depth} layers, but the run asks for {self.settings.layers}; {remedy}")
        return model


class Method:
    """The base of every method. `build` and `loss` must be written; the rest has the usual answer."""

    def build(self, run: RunContext) -> nn.Module:
        """The module to train. In evaluation it must behave as the compressed model."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The scalar to minimise for one batch. `model` is in training mode, and is to be left so.

        `batch` holds input_ids, attention_mask, token_type_ids (batch, length), labels (batch,) and, for a method
        that needs teacher_outputs, teacher_logits (batch, outputs) and teacher_cls (batch, layers stored, hidden).
        """
        raise NotImplementedError

    def parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """What the optimizer moves, settled before the first step. Nothing to train is an answer too."""
        return [p for p in model.parameters() if p.requires_grad]

    def clipped_parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """Whose gradients count in the norm that is clipped, settled before the first step."""
        return self.parameters(model)

    def on_step_begin(self, step: int) -> None:
        """Called before each optimizer step, counted from 0, before its forward pass."""

    def run_length(self, settings: SimpleNamespace, steps: int) -> int:
        """How many optimizer steps a run takes, where the settings' epochs and max_steps plan `steps`.

        Asked before `build`, and neither under equal effort, where all take the steps that are planned, nor where a
        suite sets epochs or max_steps itself.
        """
        return steps

    def allow_early_stopping(self) -> bool:
        """Whether training may stop early after the current step; until then evaluations do not count for it.

        Without effect under equal effort, where nothing stops early.
        """
        return True

    def metrics_to_log(self) -> dict[str, float]:
        """Numbers worth a place in the curve at each evaluation."""
        return {}

    def compressed(self, model: nn.Module) -> nn.Module | None:
        """The result as a plain `transformers` model; None for a control that has none."""
        return model


def classify(model: nn.Module, batch: dict[str, torch.Tensor], hidden_states: bool = False):
    """The model's output for a batch: `.logits` (batch, outputs) and, if asked, `.hidden_states`."""
    return model(**model_inputs(model, batch), output_hidden_states=hidden_states)


def task_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of the task itself: cross entropy for classes, squared error for values (labels of floating type).

    logits (batch, outputs), labels (batch,); a scalar, computed in fp32.
    """
    if labels.is_floating_point():
        return functional.mse_loss(logits.float().squeeze(-1), labels)
    return functional.cross_entropy(logits.float(), labels)


def load_method(folder: Path) -> Method:
    """An instance of the one Method class that `folder`/method.py defines; UserError where it defines another number.

    A class that defines a hook by its old name is refused too, as nothing would call it.
    """
    file = folder / "method.py"
    spec = importlib.util.spec_from_file_location(f"theseus_bench_method_{folder.name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise UserError(f"{file}: expected one class that derives from Method, found {len(classes)}")
    for old, new in RENAMED_HOOKS.items():
        if hasattr(classes[0], old):
            raise UserError(f"{file}: {classes[0].__name__}.{old} is never called; the hook is now {new}, so rename it")
    return classes[0]()
