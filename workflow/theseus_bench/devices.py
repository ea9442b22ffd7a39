"""Where and how precisely a run computes: device, precision, threads, seeds."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import sys

import numpy as np
import torch

from theseus_bench.errors import UserError


def choose_device(wanted: str) -> torch.device:
    """The device for 'auto' (a GPU where there is one), 'cpu' or 'cuda'; UserError if a GPU is wanted and absent."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("config: device: cuda is wanted but torch sees no GPU; set device to auto or cpu")
    return torch.device("cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu")


def choose_precision(wanted: str, device: torch.device) -> str:
    """'bf16' or 'fp32'; 'auto' is bf16 where the processor multiplies matrices in it natively."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = (
        torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and torch.cpu._is_avx512_bf16_supported()
    )
    return "bf16" if native else "fp32"


def autocast(device: torch.device, precision: str):
    """The context in which a forward pass runs: bf16 autocast, or nothing."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def use_threads(threads: int) -> None:
    """Compute with as many processor threads as the workflow gave the job (OMP_NUM_THREADS), else with `threads`.

    Said aloud because a process forked from a warm parent no longer looks at the variable by itself.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", threads)))


def seed_everything(seed: int) -> None:
    """Seed every generator that a run draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_tensors(batch: dict[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
    """A batch of arrays as tensors on the device."""
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.items()}


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far in MiB: of the process (resident), or of the GPU's allocator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
