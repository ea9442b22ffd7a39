"""How many floating point operations a run computes, counted while it computes them.

Every step counts the products of its linear layers, from the shapes they meet and from what needs a gradient. That
costs next to nothing, and it is exact whatever layers a step happens to use. What else is multiplied, as in attention
or in a method's own loss, is known from a few steps on which every operation is looked at, and counted by torch's own
formulas: the count of all steps is that of their linear layers, times the ratio of the two counts on those few.

Compiled layers have no modules to be seen at work (theseus_bench.modeling.compile). Their operations at a shape are
measured once, uncompiled, and added from then on; the observed steps run uncompiled.

A multiplication and an addition are two operations. Only products of matrices count, as is usual: element-wise work and
the optimizer are well below a hundredth of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

OBSERVED_STEPS = 4  # so many of a run's steps are looked at as a whole: it slows a small model down twofold


def new_count() -> dict[str, int]:
    """A count of nothing; plain whole numbers, so that a checkpoint holds it and adding never rounds.

    `linear`: of all linear layers; `observed`: of every operation in the observed blocks; `observed_linear`: of the
    linear layers in these.
    """
    return {"linear": 0, "observed": 0, "observed_linear": 0}


def is_observed(step: int, steps: int) -> bool:
    """Whether a step, counted from 0, is among the evenly spaced ones that are looked at as a whole; the first is."""
    return step * OBSERVED_STEPS % steps < OBSERVED_STEPS


@contextmanager
def count_flops(count: dict[str, int], observed: bool) -> Iterator[None]:
    """Within the block, the operations of every module in the process are added to `count`.

    Neither what is computed nor what is drawn changes.
    """
    global _block
    _block = block = _Block(observed)
    block.start()
    try:
        with _EveryOperation() if observed else nullcontext() as every_operation:
            yield
    finally:
        block.stop()
        _block = None
    linear = block.linear + 1  # so that a block without a linear layer has a ratio too
    count["linear"] += linear
    if observed:
        count["observed"] += every_operation.total
        count["observed_linear"] += linear


def full_count_active() -> bool:
    """Whether every operation is looked at just now, so that nothing may run compiled."""
    return _block is not None and _block.observed


def measure_linear_flops(call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
    """What `call` returns, and the operations of its linear layers; they count in the block around it as always."""
    inner = _Block(observed=False)
    inner.start()
    try:
        return call(), inner.linear
    finally:
        inner.stop()


@contextmanager
def add_flops(linear: int) -> Iterator[None]:
    """Count so many operations of linear layers for what runs within, where no module is seen: it is compiled."""
    if _block is None:
        yield
        return
    _block.stop()
    try:
        yield
    finally:
        _block.start()
    _block.linear += linear


def total_flops(count: dict[str, int]) -> float:
    """The operations of all blocks that were counted; at least one of them must have been observed."""
    return count["linear"] * count["observed"] / count["observed_linear"] if count["linear"] else 0.0


class _EveryOperation(TorchDispatchMode):
    """Adds up torch's formulas for each operation within the block that has one.

    torch's FlopCounterMode comes to the same sum, but also tells the modules apart, which takes several times as long.
    """

    def __init__(self):
        super().__init__()
        self.total = 0
        self._primitives = set()  # operations that are not made of others

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        formula = flop_registry.get(operation.overloadpacket)
        if formula is None and operation not in self._primitives:
            with self:
                result = operation.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
            self._primitives.add(operation)
        result = operation(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result


class _Block:
    """Counts the operations of every linear layer in the process while it is started."""

    def __init__(self, observed: bool):
        self.observed = observed
        self.linear = 0

    def start(self) -> None:
        self._hook = register_module_forward_hook(self._add)

    def stop(self) -> None:
        self._hook.remove()

    def _add(self, module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if isinstance(module, nn.Linear):
            passes = 1
            if torch.is_grad_enabled():  # each gradient is one more product of the same size
                passes += module.weight.requires_grad + any(x.requires_grad for x in inputs)
            self.linear += 2 * output.numel() * module.in_features * passes


_block: _Block | None = None  # the block that is being counted
