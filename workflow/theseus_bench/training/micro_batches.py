"""A batch in parts: of like lengths, as padding costs a processor time, and no larger than what fits in memory.

The gradients of the parts add up to those of the batch, up to rounding, as each part's loss is weighed by its share of
the examples. What is drawn for a step (replaced modules, dropped layers) is drawn once. Dropout is drawn for each part,
so that it is not the same as the whole batch's, but of the same law.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

from theseus_bench.errors import UserError
from theseus_bench.files import AGAIN

Batch = dict[str, torch.Tensor]
PART_TOKENS = 128  # padded tokens that one part more has to save: it has costs of its own (benchmarks/README.md)
PADDED = ("input_ids", "attention_mask", "token_type_ids")  # have a column for each token
ALLOCATORS = (  # what RuntimeErrors say that are of memory: torch's for the CPU and a GPU, C++'s, cuBLAS's
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "out of memory",
    "ALLOC_FAILED",
)


def parts_of(batch: Batch, micro_batch: int, by_length: bool = False) -> Iterator[tuple[Batch, float]]:
    """The batch in parts of at most `micro_batch` examples, each with its share of the examples; whole where it fits.

    `by_length`: in parts of like lengths, each padded to its own longest, where that saves enough; else padding is the
    batch's. A part's attention_mask has the whole batch's as its attribute `step_mask`: of a loss that is a mean over
    tokens, the part's share is another (theseus_bench.training.objectives).
    """
    examples = len(batch["labels"])
    if by_length:
        groups = group_lengths(batch["attention_mask"].sum(1).numpy())
        choices = [part for group in groups for part in torch.from_numpy(group).split(micro_batch)]
    else:  # a GPU copies nothing for a slice, and waits for nothing
        choices = [slice(start, start + micro_batch) for start in range(0, examples, micro_batch)]
    if len(choices) == 1:
        yield batch, 1.0
        return
    for choice in choices:
        part = type(batch)({name: tensor[choice] for name, tensor in batch.items()})
        if by_length:
            width = int(part["attention_mask"].sum(1).max())
            part |= {name: part[name][:, :width] for name in PADDED}
        part["attention_mask"].step_mask = batch["attention_mask"]
        yield part, len(part["labels"]) / examples


def group_lengths(lengths: np.ndarray) -> list[np.ndarray]:
    """Groups of like lengths, as arrays of the examples' numbers, from short to long.

    Of all ways to part the examples in the order of their `lengths` (examples,) it is the one with the fewest padded
    tokens, where each group counts as PART_TOKENS more.
    """
    order = np.argsort(lengths, kind="stable")
    longest = np.unique(lengths)  # with which a group may end
    bounds = np.searchsorted(lengths, longest, side="right", sorter=order)
    starts = np.concatenate([[0], bounds])

    # costs[k]: of the best groups of all examples up to the k-th length; the last of them starts at starts[first[k]]
    costs, first = np.zeros(len(longest) + 1), []
    for k, (end, length) in enumerate(zip(bounds, longest, strict=True)):
        candidates = costs[: k + 1] + (end - starts[: k + 1]) * length + PART_TOKENS
        first.append(int(candidates.argmin()))
        costs[k + 1] = candidates[first[k]]

    groups, k = [], len(longest)
    while k:
        groups.append(order[starts[first[k - 1]] : starts[k]])
        k = first[k - 1]
    return groups[::-1]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, the machine's or a GPU's."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in ALLOCATORS)


def fit_in_memory(
    attempt: Callable[[int], torch.Tensor], micro_batch: int, device: torch.device
) -> tuple[torch.Tensor, int]:
    """What `attempt` gives with parts of at most so many examples, halved until they fit, and how many these are.

    Each attempt begins with torch's generators as they were, so that a step depends on its parts alone. UserError where
    not one example fits. An attempt must not change what it cannot do again.
    """
    generators = torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    while True:
        try:
            return attempt(micro_batch), micro_batch
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        # Only here, since the error holds what the attempt had computed.
        if micro_batch == 1:
            raise UserError(f"not enough memory for one example at a time ({reason}); give the run more, and {AGAIN}")
        micro_batch = -(-micro_batch // 2)
        print(f"not enough memory ({reason}): from here on {micro_batch} examples at once", file=sys.stderr)
        gc.collect()
        torch.set_rng_state(generators[0])
        if generators[1] is not None:
            torch.cuda.empty_cache()
            torch.cuda.set_rng_state(generators[1], device)
