"""What a saved model says of itself: the README.md beside its weights, filled in from the run's record."""

from __future__ import annotations

from theseus_bench.data.tasks import METRIC_NAMES
from theseus_bench.suite.plan import Run
from theseus_bench.suite.records import RunRecord

CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
language: en
tags: [theseus-bench, {method}]
datasets: [{data}]
{base_model}---

# {label} on {task}, seed {seed}

{summary} Made by theseus-bench from {backbone}; it has {layers} layers and {parameters:.1f} million parameters, of
which {embeddings:.1f} million are embeddings.

| on the dev set | |
|---|---|
| {metrics} (points) | {score} |
| majority class | {majority:.1f} |
| status of the run | {status} |

{chosen} {searched}{sample}

    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained("THIS FOLDER")
    tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")

Inputs are {inputs}, at most {length} tokens; outputs are {outputs}.

## Training

{settings}

{citation}

The record of the run, `run.json` in the folder above, has its revisions, versions and timings. The data and the
backbone have terms of their own, which this model inherits.
"""
CHOSEN = {
    "dev": "The score is the best of the run's {evaluations} evaluations on that same set, after {step} of {steps} "
    "steps, so it\nflatters a little.",
    "held_out": "The checkpoint after {step} of {steps} steps was chosen from {evaluations} by a slice held out of the "
    "training\nset; its choice saw nothing of the dev set.",
    "nothing": "Nothing was trained, and nothing chosen.",
}


def model_card(run: Run, record: RunRecord) -> str:
    """The card of a run's model, as Markdown with the hub's metadata block."""
    task, backbone = run.task, record.backbone
    rows = [f"| {key} | {value} |" for key, value in record.settings.items() if value is not None]
    source = record.data_source
    whole = record.data["train"]["rows"] == record.data["train"]["official_rows"]
    part = not whole or task.name in source.get("samples", [])
    hub = backbone["source"] == "hub"
    return CARD.format(
        method=run.spec.name,
        data={"hub": source.get("name"), "local": "nyu-mll/glue", "demo": "generated"}[source["source"]],
        base_model=f"base_model: {backbone['name']}\n" if hub else "",
        label=run.label,
        task=task.label,
        seed=run.seed,
        summary=run.spec.summary,
        backbone=backbone.get("name") or "the tiny BERT of its demo",
        layers=record.architecture.get("num_hidden_layers") or record.architecture.get("n_layers"),
        parameters=record.parameters / 1e6,
        embeddings=record.embedding_parameters / 1e6,
        metrics=" and ".join(METRIC_NAMES[metric] for metric in task.metrics),
        score="none" if record.dev_score is None else f"{100 * record.dev_score:.1f}",
        majority=100 * record.majority_score,
        status=f"{record.status}: {record.reason}" if record.reason else record.status,
        chosen=CHOSEN[record.chosen_on].format(
            evaluations=record.evaluations, step=record.best_step, steps=record.planned_steps
        ),
        searched="" if record.trial is None else "Its settings were chosen in the same way, with other seeds. ",
        sample=_sample(record, source["source"] == "demo", part),
        inputs=" and ".join(f"`{column}`" for column in task.columns),
        length=task.max_length,
        outputs=", ".join(task.labels) if task.labels else "a value from 0 to 5",
        settings="\n".join(["| setting | |", "|---|---|", *rows]),
        citation=f"Source of the method: {run.spec.citation}.",
    )


def _sample(record: RunRecord, synthetic: bool, part: bool) -> str:
    """A sentence on what it was trained on, where that is not the whole of GLUE's training set."""
    rows = record.data["train"]["rows"]
    if synthetic:
        return f"It was trained on {rows} generated sentences, and says nothing of GLUE."
    return f"It was trained on {rows} examples, not on all of GLUE's." if part else ""
