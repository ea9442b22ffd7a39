"""How long the sentences of three tasks of GLUE are, so that benchmarks need none of them."""

# Tokens of a training example as MiniLM's tokenizer counts them: quantiles in steps of 5 %, cut to 128.
LENGTHS = {
    "cola": [4, 6, 7, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 12, 12, 13, 14, 15, 17, 20, 47],
    "sst2": [3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 10, 11, 13, 14, 16, 18, 20, 23, 27, 33, 66],
    "rte": [13, 29, 33, 37, 40, 43, 45, 47, 50, 53, 56, 59, 62, 67, 72, 85, 103, 120, 128, 128, 128],
}
