"""What batches of like lengths do to fine-tuning, by an implementation that shares nothing with the project's.

    python benchmarks/batches.py BACKBONE STSB shuffled|grouped SEED

Fine-tunes the first three layers of the checkpoint in the folder BACKBONE on STS-B, whose folder STSB holds
train.parquet and validation.parquet: transformers' own model and a plain loop, with the settings of
config/reference.yaml. After each epoch it prints the mean loss of the last 80 steps and the dev score. `grouped` puts
like lengths together: sorted within pools of 50 batches.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import pearsonr, spearmanr
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

LAYERS, EPOCHS, BATCH, RATE, WARMUP, DECAY, LENGTH = 3, 5, 32, 1e-4, 0.1, 0.01, 128
POOL = 50 * BATCH


def draw_batches(lengths: np.ndarray, grouped: bool) -> list[list[int]]:
    """The batches of an epoch, from torch's generator."""
    order = torch.randperm(len(lengths)).numpy()
    if not grouped:
        return [order[i : i + BATCH].tolist() for i in range(0, len(order), BATCH)]
    batches = []
    for start in range(0, len(order), POOL):
        pool = order[start : start + POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + BATCH].tolist() for i in range(0, len(pool), BATCH)]
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def main(backbone: str, folder: str, order: str, seed: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    model = AutoModelForSequenceClassification.from_pretrained(
        backbone, num_labels=1, num_hidden_layers=LAYERS, problem_type="regression"
    )
    train, dev = (pd.read_parquet(Path(folder) / f"{split}.parquet") for split in ("train", "validation"))

    def predict(rows: pd.DataFrame) -> torch.Tensor:
        texts = list(rows.sentence1), list(rows.sentence2)
        tokens = tokenizer(*texts, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            return model(**tokens).logits[:, 0].float()

    encoding = tokenizer(list(train.sentence1), list(train.sentence2), truncation=True, max_length=LENGTH)
    lengths = np.array([len(ids) for ids in encoding["input_ids"]])
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == is_matrix] for is_matrix in (True, False))
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    steps = EPOCHS * -(-len(train) // BATCH)
    schedule = get_linear_schedule_with_warmup(optimizer, int(WARMUP * steps), steps)
    losses = []
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for batch in draw_batches(lengths, order == "grouped"):
            rows = train.iloc[batch]
            labels = torch.tensor(rows.label.to_numpy(), dtype=torch.float32)
            loss = torch.nn.functional.mse_loss(predict(rows), labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            scores = torch.cat([predict(dev.iloc[i : i + 100]) for i in range(0, len(dev), 100)]).numpy()
        score = 50 * (pearsonr(scores, dev.label)[0] + spearmanr(scores, dev.label)[0])
        print(f"{order}, seed {seed}, epoch {epoch}: loss {np.mean(losses[-80:]):.3f}, dev {score:.1f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
