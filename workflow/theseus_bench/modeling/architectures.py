"""Where the layers of a backbone are, and how a model is cut to a depth.

Three families are known, told apart by a checkpoint's `model_type`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


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


def keep_layers(model: nn.Module, keep: list[int]) -> nn.Module:
    """The same model with only the layers numbered `keep` (from 0), its config in step."""
    layers = layers_of(model)
    set_layers(model, nn.ModuleList([layers[i] for i in keep]))
    setattr(model.config, family_of(model).depth, len(keep))
    return model


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Number of parameters in all, and of those in the embeddings."""
    embeddings = sum(p.numel() for p in body_of(model).embeddings.parameters())
    return sum(p.numel() for p in model.parameters()), embeddings
