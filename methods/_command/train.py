"""Fine-tuning of the backbone's first layers, by a program that knows of the benchmark nothing but its job.json."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy import stats
from sklearn import metrics
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

METRICS = {
    "accuracy": metrics.accuracy_score,
    "f1": metrics.f1_score,
    "f1_macro": lambda labels, decisions: metrics.f1_score(labels, decisions, average="macro"),
    "matthews": metrics.matthews_corrcoef,
    "pearson": lambda labels, values: stats.pearsonr(labels, values).statistic,
    "spearman": lambda labels, values: stats.spearmanr(labels, values).statistic,
}


def read_table(file):
    return pq.read_table(file).to_pydict()


def make_batch(table, examples, pad, device):
    """Inputs of these examples, padded to the longest; and their labels, if the table has them."""
    length = max(len(table["input_ids"][i]) for i in examples)
    ids = np.full((len(examples), length), pad)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, i in enumerate(examples):
        size = len(table["input_ids"][i])
        ids[row, :size], types[row, :size], mask[row, :size] = table["input_ids"][i], table["token_type_ids"][i], 1
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    labels = torch.tensor([table["label"][i] for i in examples], device=device) if "label" in table else None
    return {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}, labels


def call(model, inputs):
    takes_types = model.config.model_type == "bert"
    return model(**{name: x for name, x in inputs.items() if takes_types or name != "token_type_ids"}).logits


@torch.inference_mode()
def predict(model, table, job):
    """Logits (examples, outputs) of a table."""
    model.eval()
    groups = np.array_split(np.arange(len(table["idx"])), math.ceil(len(table["idx"]) / 64))
    logits = [call(model, make_batch(table, group, job["pad"], job["device"])[0]) for group in groups]
    return torch.cat(logits).float().cpu().numpy()


def score(model, tables, job):
    """The task's score: the mean of its metrics, over all tables to choose by."""
    values = []
    for table in tables:
        logits = predict(model, table, job)
        decisions = logits[:, 0] if job["task"]["outputs"] == 1 else logits.argmax(1)
        values += [METRICS[name](table["label"], decisions) for name in job["task"]["metrics"]]
    return float(np.mean(values))


def copy_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def save_results(job, model, report):
    """Leave the model, what it predicts, and the report of its training."""
    output, columns = Path(job["output"]), {"split": [], "idx": [], "logits": []}
    model.save_pretrained(output / "model")
    for split, path in job["predict"].items():
        table = read_table(path)
        columns["split"] += [split] * len(table["idx"])
        columns["idx"] += table["idx"]
        columns["logits"] += predict(model, table, job).tolist()
    pq.write_table(pa.table(columns), output / "predictions.parquet")
    (output / "report.json").write_text(json.dumps(report))


def main(file):
    job = json.loads(Path(file).read_text())
    settings, steps = job["settings"], job["steps"]
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    start = job["predecessor"] if settings["start"] == "predecessor" else job["backbone"]
    model = AutoModelForSequenceClassification.from_pretrained(
        start, num_labels=job["task"]["outputs"], num_hidden_layers=settings["layers"], dtype=torch.float32
    ).to(job["device"])
    train, choose_by = read_table(job["train"]), [read_table(table) for table in job["choose_by"].values()]
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings["weight_decay"]},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    random, size, order = np.random.default_rng(job["seed"]), settings["batch_size"], []
    every = settings["evaluate_every"] or math.ceil(len(train["idx"]) / size)
    if settings["evaluations"]:
        every = math.ceil(steps / settings["evaluations"])
    warmup, losses, evaluations, divergence = int(settings["warmup"] * steps), [], [], ""
    best, worse = (-math.inf, 0, copy_of(model)), 0  # score, step and weights; evaluations since then
    for step in range(1, steps + 1):
        if not len(order):
            order = random.permutation(len(train["idx"]))
        examples, order = order[:size], order[size:]
        inputs, labels = make_batch(train, examples, job["pad"], job["device"])
        model.train()
        logits = call(model, inputs)
        loss_of = torch.nn.functional.mse_loss if logits.shape[1] == 1 else torch.nn.functional.cross_entropy
        loss = loss_of(logits.squeeze(1), labels if logits.shape[1] == 1 else labels.long())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
        scale = step / max(1, warmup) if step < warmup else (steps - step + 1) / max(1, steps - warmup)
        for group in optimizer.param_groups:
            group["lr"] = settings["learning_rate"] * min(1.0, scale)
        optimizer.step()
        losses.append(loss.item())
        if step % every == 0 or step == steps:
            value = score(model, choose_by, job)
            if not math.isfinite(np.mean(losses) + value):
                divergence = f"diverged: loss or score were no longer finite at step {step}"
                break
            evaluations.append({"step": step, "loss": float(np.mean(losses)), "score": value})
            print(f"step {step} of {steps}: loss {np.mean(losses):.3f}, score {value:.3f}", flush=True)
            losses, worse = [], worse + 1
            if value > best[0]:
                best, worse = (value, step, copy_of(model)), 0
            if worse >= (settings["patience"] or math.inf):
                break
    model.load_state_dict(best[2])
    report = {"contract": 1, "steps": step, "best_step": best[1], "evaluations": evaluations}
    save_results(job, model, report | ({"divergence": divergence} if divergence else {}))


if __name__ == "__main__":
    main(sys.argv[1])
