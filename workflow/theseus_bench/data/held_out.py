"""A slice of train on which checkpoints and settings are chosen, and samples of a fixed size."""

from __future__ import annotations

import hashlib

import numpy as np

from theseus_bench.data.parquet import Split

HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 1000  # of the training examples, where choices are made on a part of them


def hold_out(split: Split, task: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a training set's examples to train on, and of those held out to choose by, each in order.

    Held out is a tenth, at most 1,000, the same for every method and seed.
    """
    count = min(HELD_OUT_MOST, round(HELD_OUT_SHARE * len(split)))
    held = draw_stratified(split.labels, count, f"held out of {task}")
    return np.setdiff1d(np.arange(len(split)), held), held


def draw_stratified(labels: np.ndarray, count: int, salt: str) -> np.ndarray:
    """The numbers of `count` examples drawn evenly over their labels, in order; the same ones for the same `salt`.

    The examples, shuffled, are put in the order of their labels (classes or values) and cut into `count` runs of equal
    length; one of each is drawn. So a class has its share to within one example, and values are spread as in the whole.
    """
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8]))
    order = random.permutation(len(labels))
    order = order[np.argsort(np.asarray(labels)[order], kind="stable")]
    ends = np.linspace(0, len(labels), count + 1).round().astype(int)
    return np.sort(order[random.integers(ends[:-1], ends[1:])])


def take(split: Split, examples: np.ndarray) -> Split:
    """The split with these of its examples alone."""
    return Split(split.tokens, split.rows[examples])
