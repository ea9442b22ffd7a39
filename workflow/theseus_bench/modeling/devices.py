"""Where and how precisely a run computes: device, precision, threads, seeds; and the memory that it takes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import sys
from dataclasses import dataclass

import numpy as np
import torch

from theseus_bench.errors import UserError
from theseus_bench.modeling.gpu_slots import take_gpu

MALLOC_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h


@dataclass(frozen=True)
class Hardware:
    """What a training or a prediction computes on, and how precisely."""

    device: torch.device
    precision: str  # bf16 or fp32


def choose_device(name: str) -> torch.device:
    """The device for 'auto' (a GPU where there is one), 'cpu' or 'cuda'; UserError where 'cuda' has no GPU.

    Of several GPUs it is the one that the fewest runs are on, and the only one that this process sees from then on.
    """
    if name != "cpu" and torch.backends.cuda.is_built():
        take_gpu(torch.cuda.device_count)  # which asks the driver's library (NVML), and CUDA only without it
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("config: device: cuda is wanted but torch sees no GPU; set device to auto or cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def choose_hardware(device: str, precision: str, threads: int) -> Hardware:
    """What `choose_device` and `choose_precision` give for a configuration's words; computed on with `threads`."""
    use_threads(threads)
    torch_device = choose_device(device)
    return Hardware(torch_device, choose_precision(precision, torch_device))


def device_name(device: torch.device) -> str:
    """What a record calls the device: 'cpu', or 'cuda' with the GPU's model."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def choose_precision(name: str, device: torch.device) -> str:
    """'bf16' or 'fp32'; 'auto' is bf16 where the processor multiplies matrices in it natively."""
    if name != "auto":
        return name
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

    Said aloud because a process forked from a fork server no longer looks at the variable by itself.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", threads)))


def set_malloc_mmap_threshold() -> None:
    """Have glibc take every block of 4 MiB or more from the system, and give it back, as it does at first.

    By itself it soon keeps blocks of up to 32 MiB in its heap, where those of a layer, of many sizes, leave holes: a
    training run on BERT-base then grows to 6.9 GB, not 5.6. Other libraries of C are left as they are.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(MALLOC_MMAP_THRESHOLD, 4 * 2**20)


def seed_everything(seed: int) -> None:
    """Seed every generator that a run draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_tensors(batch: dict[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
    """A batch of arrays as tensors on the device.

    On its way to a GPU it is put into pinned memory, since from any other the processor waits for the copy to end.
    """
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    if device.type == "cuda":
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}


def peak_memory_mb(device: torch.device, of_children: bool = False) -> float:
    """Peak memory so far in MiB: of the process (resident), or of the GPU's allocator.

    With `of_children` it is that of the largest process which this one has started, and is not told of a GPU.
    """
    if device.type == "cuda" and not of_children:
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_CHILDREN if of_children else resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
