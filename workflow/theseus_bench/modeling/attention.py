"""Fused attention, the inputs of a model, and a recorder of queries, keys and values."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedConfig

from theseus_bench.modeling.architectures import family_of, layers_of

FUSED = "sdpa"  # transformers' name of torch's scaled_dot_product_attention


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


class AttentionRecorder:
    """Keeps the queries, keys and values of some of a model's layers (numbered from 0) at each forward pass."""

    def __init__(self, model: nn.Module, layers: list[int]):
        self.heads = model.config.num_attention_heads
        self._outputs = [[None, None, None] for _ in layers]  # of the three projections
        for outputs, layer in zip(self._outputs, layers, strict=True):
            for i, name in enumerate(family_of(model).projections):
                layers_of(model)[layer].get_submodule(name).register_forward_hook(
                    lambda _module, _inputs, output, outputs=outputs, i=i: outputs.__setitem__(i, output)
                )

    def scores(self, i: int) -> torch.Tensor:
        """Scaled products of queries and keys, before the softmax, of the i-th recorded layer."""
        return self._products(self._outputs[i][0], self._outputs[i][1])

    def value_scores(self, i: int) -> torch.Tensor:
        """Scaled products of the values with each other, of the i-th recorded layer."""
        return self._products(self._outputs[i][2], self._outputs[i][2])

    def _products(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(batch, heads, length, length) float32 out of two of (batch, length, hidden)."""
        left, right = (x.float().unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (left, right))
        with torch.autocast(left.device.type, enabled=False):  # it would round the product to bf16 again
            return left @ right.transpose(-1, -2) / left.shape[-1] ** 0.5
