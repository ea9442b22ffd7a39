"""The contract of a method: what method.py defines, and what it is given.

A method says what is trained and with which loss. Everything else (batches, optimizer, schedule, precision, stopping)
is the training loop's, so that methods differ in their idea alone.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from torch import nn
from torch.nn import functional

from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.modeling.architectures import keep_layers, layers_of
from theseus_bench.modeling.attention import model_inputs
from theseus_bench.modeling.checkpoints import check_same_vocabulary, load_classifier
from theseus_bench.modeling.compile import prepare_for_device
from theseus_bench.strict_yaml import suggest

RENAMED_HOOKS = {"on_step": "on_step_begin", "may_stop": "allow_early_stopping", "log": "metrics_to_log"}


class ContractError(Exception):
    """The method's code asks for what its method.yaml does not. `name_line` adds the line that asks."""


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
        if self.predecessor_folder is None:
            raise ContractError("no predecessor's model was asked for; write needs: [teacher_model] in method.yaml")
        return load_classifier(self.predecessor_folder, self.task)

    def load_teacher(self) -> nn.Module:
        """The predecessor to learn from: on the run's device, without dropout, and never trained."""
        return prepare_for_device(self.load_predecessor(), self.device).eval().requires_grad_(False)

    def load_source(self) -> nn.Module:
        """The compressed model of the method's source, under a fresh head for this run's task; of the run's depth."""
        if self.source_folder is None:
            raise ContractError("the method has no source; write source: {method: …, task: …} in method.yaml")
        torch.manual_seed(self.seed)
        model = load_classifier(self.source_folder, self.task, fresh_head=True)
        return self._of_depth(model, self.source_folder, "its source has another depth, so do not vary it")

    def load_compact(self) -> nn.Module:
        """The compact checkpoint under a fresh head; it must have the backbone's vocabulary and the student's depth."""
        if self.compact_folder is None:
            raise ContractError("no compact checkpoint was asked for; write needs: [compact_checkpoint] in method.yaml")
        check_same_vocabulary(self.compact_folder, self.backbone_folder)
        torch.manual_seed(self.seed)
        model = load_classifier(self.compact_folder, self.task)
        return self._of_depth(model, self.compact_folder, "choose a compact checkpoint of that depth")

    def _of_depth(self, model: nn.Module, folder: Path, remedy: str) -> nn.Module:
        depth = len(layers_of(model))
        if depth != self.settings.layers:
            raise UserError(f"{folder}: {depth} layers, but the run asks for {self.settings.layers}; {remedy}")
        return model


class Batch(dict[str, torch.Tensor]):
    """A training batch, by the names that `Method.loss` lists."""

    def __missing__(self, key: str) -> torch.Tensor:
        if key in ("teacher_logits", "teacher_cls"):
            raise ContractError(f"{key} was not asked for; write needs: [teacher_outputs] in method.yaml")
        raise ContractError(f"a batch has no {key!r}{suggest(key, self)}")


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with a learning rate and a weight decay of their own."""

    parameters: Iterable[nn.Parameter]
    rate_factor: float = 1.0  # times the scheduled learning rate, at every step
    weight_decay: float | None = None  # None: the run's; biases and layer norms do not decay in any case


class Method:
    """The base of every method. `build` and `loss` must be written; the rest has the usual answer."""

    # Whether the loss is of an example beside others of its batch, and so no mean over the examples. Such a batch goes
    # through the model whole; where memory is short, the run ends.
    relates_examples = False

    def build(self, run: RunContext) -> nn.Module:
        """The module to train. In evaluation it must behave as the compressed model."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The scalar to minimise for one batch. `model` is in training mode, and is to be left so.

        Called for each part of a step's batch: of like lengths on a processor, of what fits where memory is short.
        `batch` holds input_ids, attention_mask, token_type_ids (batch, length), labels (batch,) and, for a method
        that needs teacher_outputs, teacher_logits (batch, outputs) and teacher_cls (batch, layers stored, hidden).
        """
        raise NotImplementedError

    def parameters(self, model: nn.Module) -> Iterable[nn.Parameter | ParameterGroup]:
        """What the optimizer moves, settled before the first step. Nothing to train is an answer too.

        A `ParameterGroup` has a learning rate and a weight decay of its own; what is in no group has the run's.
        """
        return [p for p in model.parameters() if p.requires_grad]

    def clipped_parameters(self, model: nn.Module) -> Iterable[nn.Parameter | ParameterGroup]:
        """Whose gradients count in the one norm that is clipped, whatever the groups, settled before the first step."""
        return self.parameters(model)

    def on_step_begin(self, step: int) -> None:
        """Called before each optimizer step, counted from 0, before its forward passes."""

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

    def compressed_layers(self, run: RunContext) -> int:
        """How many layers the compressed model has: those that the run asks for, unless a variant has another depth."""
        return run.settings.layers

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


def parameter_groups(parameters: Iterable[nn.Parameter | ParameterGroup]) -> list[ParameterGroup]:
    """What `Method.parameters` gives, all of it in groups: first what is in none; UserError for what cannot be trained.

    Each group's parameters are a list.
    """
    parameters = list(parameters)
    loose = [p for p in parameters if not isinstance(p, ParameterGroup)]
    groups = [replace(g, parameters=list(g.parameters)) for g in parameters if isinstance(g, ParameterGroup)]
    for group in groups:
        for name, value in (("rate_factor", group.rate_factor), ("weight_decay", group.weight_decay or 0.0)):
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"parameters(): a group's {name} is {value}; give a number that is not below 0")
    groups = [ParameterGroup(loose), *groups]
    count = sum(len(group.parameters) for group in groups)
    if len({id(p) for group in groups for p in group.parameters}) < count:
        raise UserError("parameters(): a parameter is in two groups, or twice in one; put it in one, once")
    return groups


def load_method(folder: Path) -> Method:
    """An instance of the one Method class that `folder`/method.py defines; UserError where it defines another number.

    method.py may import the Python files beside it: `from . import helper`. A class that defines a hook by its old name
    is refused, as nothing would call it.
    """
    file = folder / "method.py"
    with name_line(folder):
        module = _import_package(f"theseus_bench_method_{folder.name}", file)
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
    with name_line(folder):
        return classes[0]()


def _import_package(name: str, file: Path) -> ModuleType:
    """The module in `file`, read anew with those that it imports from its folder."""
    for other in [other for other in sys.modules if other == name or other.startswith(f"{name}.")]:
        del sys.modules[other]
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where `from . import helper` looks for the package
    spec.loader.exec_module(module)
    return module


@contextmanager
def name_line(folder: Path) -> Iterator[None]:
    """Turn an error that the Python files in a method's folder raise or run into a UserError that names their line.

    What went wrong is its cause. A UserError, and what the method's code has no part in, stay as they are.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = _line_in(folder, error)
        if place is None:
            raise
        what = "" if isinstance(error, ContractError) else f"{type(error).__name__}: "
        raise UserError(f"{place}: {what}{' '.join(str(error).split())}") from error


def _line_in(folder: Path, error: Exception) -> str | None:
    """The innermost line of a method's own code that an error went through: 'methods/mine/method.py, line 12'."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename is not None:
        places.append((error.filename, error.lineno))
    for name, line in reversed(places):
        file = Path(name).resolve()
        if file.is_relative_to(folder.resolve()):
            return f"{folder / file.relative_to(folder.resolve())}, line {line}"
    return None
