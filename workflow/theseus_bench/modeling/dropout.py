"""Dropout on a processor, several times as fast as torch's own.

Torch draws dropout's random numbers one by one on a CPU: 8 to 14 ns an element, a tenth and more of a training step.
Here four decisions are cut out of each 64-bit number of the same generator, so seeding it and storing its state do what
they always did.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

ATTENTION = "eager_fast_dropout"  # the name of `attention` in transformers' registry
CHOICES = 2**16  # of a decision's 16 bits


class Dropout(nn.Dropout):
    """torch's Dropout, with fast_dropout on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        return fast_dropout(input, self.p) if self.training else input


def use_fast_dropout(model: nn.Module) -> nn.Module:
    """The same model with every nn.Dropout replaced; what attention drops, `attention` draws."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
    return model


def fast_dropout(x: Tensor, p: float) -> Tensor:
    """Each element of x set to zero with probability p, the others multiplied by 1/(1 − p).

    On a CPU p is rounded to a multiple of 2⁻¹⁶, in the probability and the factor alike, so the expectation is x.
    """
    if x.device.type != "cpu" or not 0 < round(p * CHOICES) < CHOICES:
        return functional.dropout(x, p)
    return _Masked.apply(x, *_draw(x.shape, p))


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_,
) -> tuple[Tensor, Tensor]:
    """Softmax attention as transformers' eager one (Vaswani et al. 2017, equation 1), with fast_dropout.

    query, key, value (batch, heads, length, size); attention_mask is added to the scores. Returns the result (batch,
    length, heads, size) and the attention probabilities (batch, heads, length, length) after dropout.
    """
    scores = torch.matmul(query * (scaling or query.shape[-1] ** -0.5), key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = functional.softmax(scores, dim=-1)
    if dropout:  # 0 in evaluation
        probabilities = fast_dropout(probabilities, dropout)
    return torch.matmul(probabilities, value).transpose(1, 2).contiguous(), probabilities


class _Masked(torch.autograd.Function):
    """x · mask · factor, which remembers one byte an element; torch's own dropout remembers a number of x's kind."""

    @staticmethod
    def forward(ctx, x: Tensor, mask: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.factor = factor
        return (x * mask).mul_(factor)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (gradient * mask).mul_(ctx.factor), None, None


def _draw(shape: torch.Size, p: float) -> tuple[Tensor, float]:
    """Which elements stay, and by what they are multiplied."""
    threshold, number = round(p * CHOICES), shape.numel()
    bits = torch.empty((number + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    mask = bits.view(torch.int16)[:number].view(shape) >= threshold - CHOICES // 2
    return mask, CHOICES / (CHOICES - threshold)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)
