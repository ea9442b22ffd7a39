"""The speed experiment on models of BERT-base's or MiniLM's shape, beside the paper's speed-ups and their line.

    python benchmarks/speed.py [base|minilm]

Nothing is trained, since speed depends on a model's shape alone: the runs' records say which depths there are, and
`theseus-bench speed` measures random weights, at the batch sizes and lengths of config/config.yaml. Every speed-up is
the median of the rounds' ratios, with its 95 % interval, on a processor with two threads, in bf16 if it multiplies in
that and else in fp32.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import memory
import torch
from theseus_bench.files import write_json
from theseus_bench.modeling.checkpoints import architecture
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.plan import Plan
from theseus_bench.tables.formats import to_markdown
from theseus_bench.tables.speed import speed_tables
from transformers import BertConfig, BertForSequenceClassification

BASE = BertConfig()
MINILM = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
SHAPES = {"base": (BASE, [6, 4, 3]), "minilm": (MINILM, [3, 2])}  # the predecessor, and depths beside it
EXPERIMENT = "depths"


def main(shape: str = "base") -> None:
    """Measure, and print the experiment's own two tables."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "suite"
        plan = prepare(*SHAPES[shape], folder)
        subprocess.run([memory.COMMAND, "speed", str(folder), EXPERIMENT], check=True)
        for table in speed_tables(plan, EXPERIMENT, folder).values():
            print(to_markdown(table))


def prepare(backbone: BertConfig, depths: list[int], folder: Path) -> Plan:
    """A suite's folder in which one run of each depth has left a record; gives the suite's plan."""
    config = read_yaml(Path("config/config.yaml"))
    experiment = {
        "title": "Depths of the compressed model",
        "methods": ["predecessor", "theseus"],
        "vary": [{"layers": layers} for layers in depths],
        "compare_with": ["theseus: Table 7"],
    }
    suite = config | {
        "backbone": config["backbone"] | {"layers": backbone.num_hidden_layers},
        "student_layers": depths[0],
        "tasks": ["rte"],
        "seeds": [1],
        "device": "cpu",
        "threads": 2,
        "search": {"budget": 1},
        "experiments": {EXPERIMENT: experiment},
    }
    plan = load_plan(suite)
    write_json(folder / "suite.json", suite)
    backbone.save_pretrained(folder / "backbone")
    for run in plan.experiment_runs(EXPERIMENT):
        shape = BertConfig(**backbone.to_dict() | {"num_hidden_layers": run.settings["layers"]})
        with torch.device("meta"):
            model = BertForSequenceClassification(shape)
        write_json(folder / run.path / "run.json", memory.record(plan, run, architecture(model)))
        (folder / run.path / "predictions.parquet").touch()  # a record counts only beside its predictions
    return plan


if __name__ == "__main__":
    main(*sys.argv[1:])
