"""Which examples stand together in a batch, and the batch's tensors: shuffled in training, by tokens in evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from theseus_bench.data.parquet import Split

EVALUATION_TOKENS = 4096  # padded tokens of an evaluation batch: large enough for speed, and not mostly padding


def shuffled_batches(examples: int, task: str, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
    """The batches of one epoch of so many examples, as arrays of their numbers.

    Depends on the task, the seed and the epoch alone, so that all methods see the same batches in the same order. Like
    lengths are not put together, though it would save padding: no source does, and on STS-B lengths tell of labels
    (benchmarks/README.md).
    """
    random = np.random.default_rng([seed, epoch, int.from_bytes(hashlib.sha256(task.encode()).digest()[:4])])
    order = random.permutation(examples)
    return [order[i : i + batch_size] for i in range(0, examples, batch_size)]


def token_budget_batches(split: Split) -> Iterator[np.ndarray]:
    """All example numbers, longest first, in batches of at most EVALUATION_TOKENS padded tokens."""
    order = np.argsort(split.rows["length"], kind="stable")
    lengths = split.rows["length"][order]
    end = len(order)
    while end:
        size = min(end, max(1, EVALUATION_TOKENS // int(lengths[end - 1])))
        yield order[end - size : end]
        end -= size


def collate(split: Split, examples: np.ndarray, pad: int, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
    """The examples padded to the longest, or on to a multiple of `pad_to_multiple_of` tokens.

    input_ids, attention_mask and token_type_ids (batch, length), and labels (batch,).
    """
    rows = split.rows[examples]
    position = np.arange(-(-rows["length"].max() // pad_to_multiple_of) * pad_to_multiple_of)
    is_token = position < rows["length"][:, None]
    index = np.where(is_token, rows["start"][:, None] + position, 0)
    return {
        "input_ids": np.where(is_token, split.tokens[index], pad).astype(np.int64),
        "attention_mask": is_token.astype(np.int64),
        "token_type_ids": (is_token & (position >= rows["first"][:, None])).astype(np.int64),
        "labels": rows["label"],
    }
