"""Compiled transformer layers, for a GPU: one graph for all layers of a shape.

A step of a small model on a large GPU is many short kernels, and the processor is hardly fast enough to start them.
Compiling fuses them. What is compiled is the layer, not the model: module replacing runs the layers in 2^n orders, and
layer dropout in as many, each of which would be a model to compile. All layers of an architecture share one graph, as
their weights are inputs of it, so whichever layers a step happens to use, there is nothing to compile for it. Training
batches are padded to whole multiples of PAD_TO_MULTIPLE_OF, so a run meets few lengths, each with its own graph of
fixed shapes.

CUDA graphs are left alone (torch.compile's mode "reduce-overhead"): a replayed graph writes its outputs where it wrote
them the time before, but here one graph serves many layers within a step, and the backward pass needs what each wrote.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from theseus_bench.modeling.attention import fuse_attention
from theseus_bench.modeling.flops import add_flops, full_count_active, measure_linear_flops

PAD_TO_MULTIPLE_OF = (
    32  # tokens: training batches on a GPU are padded to a multiple, which makes four lengths of GLUE's 128
)
PATIENCE = 1000  # uncompiled calls at a shape before it is compiled: that costs about as much, and some shapes are rare
BACKEND = "inductor"
GRAPHS = 64  # at most: lengths, times what has gradients, times kinds of layer; beyond it torch stops compiling


def prepare_for_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to the device, on a GPU with fused attention and with layers that compile themselves when trained.

    On a CPU the plain attention has the faster backward pass, and compiling is not worth its time.
    """
    if device.type == "cuda":
        fuse_attention(model)
        compile_layers(model)
    return model.to(device)


def padded_length(device: torch.device) -> int:
    """To a multiple of how many tokens a training batch for this device is padded."""
    return PAD_TO_MULTIPLE_OF if device.type == "cuda" else 1


def compile_layers(model: nn.Module) -> None:
    """From now on the model's transformer layers compute compiled when they are trained or trained with.

    A layer runs as it is in evaluation (a batch of every size, none met often), where all operations are looked at
    (theseus_bench.modeling.flops), where something inside it is watched
    (theseus_bench.modeling.attention.AttentionRecorder), at a shape met fewer than PATIENCE times, and where torch
    cannot compile, of which a warning is given. Modules keep their names, so checkpoints are the same.
    """
    for layer in model.modules():
        # what transformers derives the layers of all families from; the mark keeps a second call from wrapping twice
        if isinstance(layer, GradientCheckpointingLayer) and "forward" not in vars(layer):
            layer.forward = _Forward(layer)


@dataclass
class _Shape:
    """A layer's weights, its input, and which of these have gradients: what each call at it computes, and how many."""

    flops: int = 0  # of its linear layers, backward pass included
    calls: int = 0


class _Forward:
    """A layer's forward(), which runs it compiled where that is wanted."""

    shapes: dict[tuple, _Shape] = {}  # for all layers
    graph = None  # the compiled _plain_forward, which all layers share
    compiles = True  # until torch fails to

    def __init__(self, layer: nn.Module):
        self.layer = layer
        self.inner = [module for module in layer.modules() if module is not layer]

    def __call__(self, states: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if torch.is_inference_mode_enabled() or full_count_active() or self._has_hooks() or not _Forward.compiles:
            return _plain_forward(self.layer, states, *args, **kwargs)
        shape = _Forward.shapes.setdefault(self._key(states), _Shape())
        shape.calls += 1
        if shape.calls <= PATIENCE:
            output, shape.flops = measure_linear_flops(lambda: _plain_forward(self.layer, states, *args, **kwargs))
            return output
        if _Forward.graph is None:
            _Forward.graph = torch.compile(_plain_forward, dynamic=False, backend=BACKEND, recompile_limit=GRAPHS)
        try:
            with add_flops(shape.flops):
                return _Forward.graph(self.layer, states, *args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            _Forward.compiles = False
            reason = " ".join(str(error).split("\n\n")[0].split())
            warnings.warn(f"layers run uncompiled, and slower, since torch cannot compile here: {reason}", stacklevel=2)
        return _plain_forward(self.layer, states, *args, **kwargs)

    def _key(self, states: torch.Tensor) -> tuple:
        weights = tuple((p.shape, p.requires_grad) for p in self.layer.parameters())
        return type(self.layer), states.shape, torch.is_grad_enabled(), states.requires_grad, weights

    def _has_hooks(self) -> bool:
        """Whether a module inside has a hook, which would be compiled into the graph of all layers.

        transformers gives every attention one of its own, for attention weights, once hidden states are asked for.
        Fused attention has no such weights, so that hook is taken away.
        """
        for module in self.inner:
            for key, hook in list(module._forward_hooks.items()):
                if hook.__module__ == "transformers.utils.output_capturing":
                    del module._forward_hooks[key]
        return any(module._forward_hooks for module in self.inner)


def _plain_forward(layer: nn.Module, states: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    return type(layer).forward(layer, states, *args, **kwargs)
