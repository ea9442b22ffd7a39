"""How long the sentences of five tasks of GLUE are, so that benchmarks need none of them."""

import numpy as np

PERCENT = [*range(0, 100, 5), 97, 98, 99, 99.5, 100]  # close together at the end: the longest make a batch's padding
# Tokens of a training example as MiniLM's tokenizer counts them: quantiles at PERCENT, cut to 128. Batches of 32 drawn
# of them have 1.00 to 1.08 times the padded tokens of the real ones.
LENGTHS = {
    "cola": [4, 6, 7, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 12, 12, 13, 14, 15, 17, 20, 22, 23, 25, 27, 47],
    "mrpc": [19, 32, 36, 39, 41, 44, 45, 47, 50, 51, 53, 55, 57, 59, 61, 62, 64, 67, 70, 74, 77, 79, 83, 86, 103],
    "stsb": [10, 15, 16, 17, 18, 19, 19, 20, 21, 22, 23, 24, 25, 26, 28, 31, 35, 42, 51, 60, 66, 70, 75, 80, 125],
    "sst2": [3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 10, 11, 13, 14, 16, 18, 20, 23, 27, 33, 37, 40, 44, 48, 66],
    "rte": [13, 29, 33, 37, 40, 43, 45, 47, 50, 53, 56, 59, 62, 67, 72, 85, 103, 120, *[128] * 7],
}


def draw_lengths(task: str, random: np.random.Generator, examples: int) -> np.ndarray:
    """The lengths (examples,) of so many examples of a task."""
    return np.interp(100 * random.random(examples), PERCENT, LENGTHS[task]).round()
