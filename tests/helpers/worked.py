"""A suite small enough to be worked out by hand: what each run got wrong, and what follows from it by the textbook.

Nothing here calls the project's metrics, tests or tables: what is expected of them is worked out a second time, from
counts of right and wrong. Two protocols, a variant of Theseus, WNLI among the tasks, two dev splits of MNLI, a test
split with labels, three seeds; a run that failed, one that was never evaluated, and one that is missing.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from suites import deciding, leave_run, make_plan
from theseus_bench.evaluation.significance import write_significance
from theseus_bench.files import write_json

ROOT = Path(__file__).parents[2]
SEEDS = (1, 2, 3)
MACRO = ["cola", "mrpc", "stsb", "mnli"]
TASKS = [*MACRO, "wnli"]
LABELS = {"cola": "CoLA", "mrpc": "MRPC", "stsb": "STS-B", "mnli": "MNLI", "wnli": "WNLI"}
NAMES = {
    "majority": "Majority class",
    "predecessor": "Predecessor",
    "finetune": "Fine-tuning",
    "vanilla_kd": "Vanilla KD",
    "theseus": "BERT-of-Theseus",
    "theseus@constant": "BERT-of-Theseus, constant",
    "predecessor@equal": "Predecessor (equal)",
    "finetune@equal": "Fine-tuning (equal)",
    "vanilla_kd@equal": "Vanilla KD (equal)",
    "theseus@equal": "BERT-of-Theseus (equal)",
    "theseus@equal+constant": "BERT-of-Theseus, constant (equal)",
}
CLASSES = {"cola": (12, 8), "mrpc": (13, 7), "wnli": (4, 4)}  # examples of class 1 and of class 0
SPLITS = {"mnli": {"validation_matched": 10, "validation_mismatched": 8}}
VALUES = 10  # examples of STS-B, labelled 0, 0.5, … 4.5

# Of seeds 1, 2 and 3. Two classes: how many of class 1 are missed, and how many of class 0 are taken for class 1. MNLI:
# how many are wrong in either half. STS-B: which two of the ten examples, in the order of their labels, change places.
WRONG = {
    "predecessor": {
        "cola": [(1, 0), (1, 1), (0, 1)], "mrpc": [(1, 1), (0, 1), (1, 0)], "wnli": [(1, 1), (2, 1), (1, 2)],
        "mnli": [(1, 1), (0, 1), (1, 2)], "stsb": [(0, 2), (0, 3), (4, 6)],
    },
    "finetune": {
        "cola": [(4, 3), (3, 4), (4, 4)], "mrpc": [(3, 3), (4, 3), (3, 4)], "wnli": [(0, 0), (0, 0), (0, 0)],
        "mnli": [(4, 4), (5, 3), (4, 5)], "stsb": [(0, 6), (1, 7), (0, 5)],
    },
    "vanilla_kd": {
        "cola": [(3, 3), (2, 3), (3, 2)], "mrpc": [(3, 2), (2, 3), (3, 3)], "wnli": [(1, 0), (1, 1), (0, 1)],
        "mnli": [(3, 4), (4, 3), (4, 4)], "stsb": [(0, 5), (2, 7), (3, 8)],
    },
    "theseus": {
        "cola": [(1, 1), (2, 1), (1, 2)], "mrpc": [(1, 1), (5, 5), (1, 2)], "wnli": [(4, 4), (4, 4), (4, 4)],
        "mnli": [(2, 1), (1, 2), (2, 2)], "stsb": [(0, 3), (1, 4), (5, 9)],
    },
    "theseus@constant": {
        "cola": [(3, 2), (2, 3), (3, 3)], "mrpc": [(2, 2), (2, 3), (3, 2)], "wnli": [(2, 2), (2, 1), (1, 2)],
        "mnli": [(3, 3), (2, 3), (3, 2)], "stsb": [(0, 4), (2, 7), (4, 8)],
    },
    "predecessor@equal": {
        "cola": [(1, 1), (2, 0), (1, 0)], "mrpc": [(1, 0), (1, 1), (0, 0)], "wnli": [(1, 1), (1, 1), (2, 2)],
        "mnli": [(0, 1), (1, 1), (0, 2)], "stsb": [(0, 1), (0, 2), (4, 6)],
    },
    "finetune@equal": {
        "cola": [(3, 3), (3, 2), None], "mrpc": [(3, 2), (2, 3), (3, 3)], "wnli": [(1, 1), (1, 1), (1, 1)],
        "mnli": [(3, 2), (4, 3), (3, 3)], "stsb": [(0, 5), (1, 6), (0, 4)],
    },
    "vanilla_kd@equal": {
        "cola": [(3, 1), (2, 2), (2, 3)], "mrpc": [(2, 2), (3, 3), (2, 3)], "wnli": [(1, 0), (0, 1), (1, 1)],
        "mnli": [(2, 3), (3, 3), (3, 2)], "stsb": [(0, 4), (2, 6), "missing"],
    },
    "theseus@equal": {
        "cola": [(2, 2), (1, 3), (2, 1)], "mrpc": [(1, 2), (2, 1), (2, 2)], "wnli": [(3, 3), (3, 2), (2, 3)],
        "mnli": [(2, 2), (3, 1), (2, 3)], "stsb": [(0, 4), (1, 4), (5, 8)],
    },
    "theseus@equal+constant": {
        "cola": [(2, 3), (3, 3), (3, 2)], "mrpc": [(2, 1), (3, 2), (2, 3)], "wnli": [(2, 2), (2, 2), (1, 1)],
        "mnli": [(3, 2), (3, 3), (2, 3)], "stsb": [(0, 4), (2, 6), (4, 9)],
    },
}  # fmt: skip
PUBLISHED = ["predecessor", "finetune", "vanilla_kd", "theseus", "theseus@constant"]
EQUAL = ["predecessor@equal", "finetune@equal", "vanilla_kd@equal", "theseus@equal", "theseus@equal+constant"]
FAILED_RUN = ("theseus", "mrpc", 2)
NEVER_EVALUATED = ("finetune@equal", "cola", 3)
MISSING = ("vanilla_kd@equal", "stsb", 3)

METHODS = ["majority", "predecessor", "finetune", "vanilla_kd", "theseus", "theseus@constant"]
SUITE = {
    "tasks": TASKS,
    "seeds": list(SEEDS),
    "equal": {"set": {"epochs": 7}},
    "significance": {"resamples": 10_000},
    "verdicts": {"tolerance": 5.0, "tolerance_by_task": {"cola": 25.0}},
    "data": {"source": "hub", "revision": "0" * 40, "max_train": {"mnli": 3000}},
    "experiments": {
        "glue": {
            "title": "All methods",
            "methods": METHODS,
            "protocols": ["published", "equal"],
            "compare_with": ["worked: Table 1"],
        },
        "schedules": {
            "title": "Schedules",
            "methods": ["finetune", "theseus", "theseus@constant"],
            "tasks": ["cola", "mrpc"],
            "control": "theseus",
            "compare_with": ["worked: Table 2"],
        },
    },
}
PAPER = """
source: Worker 2001, A worked example
backbone: google-bert/bert-base-uncased
layers: 12
compressed_layers: 6
claims:
  - {claim: Theseus beats fine-tuning, table: Table 1, models: [[theseus], [finetune]]}
  - {claim: Theseus beats vanilla KD, table: Table 1, models: [[theseus], [vanilla_kd]]}
  - {claim: Fine-tuning beats the predecessor, table: Table 1, models: [[finetune], [predecessor]]}
  - claim: Theseus retains half at 1.9 times the speed
    table: Table 1
    models: [[theseus], [predecessor]]
    retains: 0.5
    speedup: 1.9
  - claim: The curriculum beats the constant rate
    table: Table 2
    models: [[theseus], [theseus@constant]]
    tasks: [cola, mrpc]
speed:
  tables: Table 3
  hardware: one abacus
  speedups: {6: 1.8, 3: 3.0}
  line: {fixed: 0.1, per_layer: 0.075}
tables:
  - table: Table 1
    split: dev
    statistic: median
    runs: 4
    rows:
      bert_base: {scores: {cola: 80.0, mrpc: 91.0, stsb: 90.0, mnli: 60.0}, macro: 80.0}
      finetune: {scores: {cola: 30.0, mrpc: 98.0, stsb: 60.0}, macro: null}
      theseus:
        scores: {cola: 70.0, mrpc: 80.0, stsb: 60.5, mnli: 82.0}
        macro: 82.75
        splits: {mnli: validation_matched}
        metrics: {mnli: accuracy}
  - table: Table 2
    split: dev
    statistic: null
    runs: null
    rows:
      theseus_constant: {scores: {cola: 40.0, mrpc: 70.0}, macro: null}
"""


def labels_of(task: str, split: str = "validation") -> np.ndarray:
    """(examples,) class codes or values."""
    if task == "stsb":
        return np.arange(VALUES) / 2
    if task == "mnli":
        return np.arange(SPLITS[task][split]) % 3
    ones, zeros = CLASSES[task]
    return np.array([1] * ones + [0] * zeros)


def decisions_of(name: str, task: str, seed: int, split: str = "validation") -> np.ndarray:
    """(examples,) what the run decided; of two classes, wrong on those after the seed's number, going round."""
    labels = labels_of(task, split)
    if name == "majority":
        return np.full(len(labels), {"stsb": 2.25, "mnli": 0}.get(task, 1))
    wrong = WRONG[name][task][seed - 1]
    if wrong is None:  # never evaluated: what the majority would decide
        return np.ones(len(labels), int)
    if task == "stsb":
        decisions = labels.copy()
        decisions[list(wrong)] = labels[list(wrong)[::-1]]
        return decisions
    if task == "mnli":
        count = wrong[list(SPLITS[task]).index(split)]
        places = (seed + np.arange(count)) % len(labels)
        return np.where(np.isin(np.arange(len(labels)), places), (labels + 1) % 3, labels)
    (ones, zeros), (false_negatives, false_positives) = CLASSES[task], wrong
    places = [*(seed + np.arange(false_negatives)) % ones, *(ones + (seed + np.arange(false_positives)) % zeros)]
    return np.where(np.isin(np.arange(len(labels)), places), 1 - labels, labels)


def splits_of(task: str) -> list[str]:
    return list(SPLITS.get(task, {"validation": 0}))


def score_of(name: str, task: str, seed: int) -> float:
    """The task's score in points, from counts."""
    if name == "majority" and task == "stsb":
        return 0.0  # a constant orders nothing
    if task == "stsb":
        first, second = WRONG[name][task][seed - 1]
        # A swap of two ranks is two differences of second − first: ρ = 1 − 6 Σ d² / n(n² − 1). The values are evenly
        # spaced, so that Pearson's r is the same.
        return 100 * (1 - 6 * 2 * (second - first) ** 2 / (VALUES * (VALUES**2 - 1)))
    if task == "mnli":
        right = [np.mean(decisions_of(name, task, seed, split) == labels_of(task, split)) for split in splits_of(task)]
        return 100 * sum(right) / 2
    ones, zeros = CLASSES[task]
    false_negatives, false_positives = (0, zeros) if name == "majority" else WRONG[name][task][seed - 1] or (0, zeros)
    return 100 * from_counts(task, ones - false_negatives, false_positives, false_negatives, zeros - false_positives)


def from_counts(task: str, tp, fp, fn, tn):
    """A two-class task's score in [-1, 1] from true and false positives and negatives (numbers or arrays)."""
    accuracy = (tp + tn) / (tp + fp + fn + tn)
    if task == "wnli":
        return accuracy
    if task == "mrpc":
        return (2 * tp / np.maximum(2 * tp + fp + fn, 1) + accuracy) / 2
    under = np.sqrt(1.0 * (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.where(under > 0, (tp * tn - fp * fn) / np.where(under > 0, under, 1), 0.0)


def scores_of(name: str, task: str) -> np.ndarray:
    """The scores of the seeds that have one."""
    return np.array([score_of(name, task, seed) for seed in SEEDS if (name, task, seed) != MISSING])


def macro_of(name: str, tasks: list[str] = MACRO) -> float:
    return float(np.mean([scores_of(name, task).mean() for task in tasks]))


def moderated_variances(names: list[str], task: str) -> dict[str, tuple[float, float, dict[str, float]]]:
    """Each method's variance over seeds, drawn upwards to the others' winsorised mean, with its degrees of freedom; and
    what the seeds of each method contribute to it."""
    own = {name: (scores_of(name, task).var(ddof=1), len(scores_of(name, task)) - 1) for name in names}
    result = {}
    for name, (variance, df) in own.items():
        others = np.sort([one for other, (one, _) in own.items() if other != name])
        assert len(others) == 4
        prior = (2 * others[1] + 2 * others[2]) / 4 / MIDDLE_OF_FOUR  # the outer quarters, one each, drawn in
        weight = min(2 * df, sum(d for other, (_, d) in own.items() if other != name))
        result[name] = (variance, df, {name: variance})
        if variance < prior:
            drawn = {other: sorted([one, others[1], others[2]])[1] for other, (one, _) in own.items() if other != name}
            shares = {other: weight * one / 4 / MIDDLE_OF_FOUR for other, one in drawn.items()} | {name: df * variance}
            shares = {other: share / (weight + df) for other, share in shares.items()}
            result[name] = ((weight * prior + df * variance) / (weight + df), weight + df, shares)
    return result


def part_of_mean(entry: tuple[float, float, dict[str, float]], task: str, factor: float) -> tuple[float, float]:
    """What one of `moderated_variances` adds to the variance of a mean, with no more degrees than its sources have."""
    variance, df, shares = entry
    by_source = sum(share**2 / (len(scores_of(name, task)) - 1) for name, share in shares.items())
    return variance * factor, min(df, variance**2 / by_source) if by_source else df


def middle_of_four() -> float:
    """The mean of the middle two of four estimates of a variance of 1 with two degrees each: less than 1."""
    samples = np.sort(np.random.default_rng(1).chisquare(2, (200_000, 4)) / 2, axis=1)
    return samples[:, 1:3].mean()


MIDDLE_OF_FOUR = middle_of_four()


def leave_worked_suite(folder: Path):
    """Its plan, with records, predictions and speeds under `folder`, and the paper that it is compared with."""
    for name in ("methods", "config"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "results" / "published").mkdir(parents=True)
    (folder / "results" / "published" / "worked.yaml").write_text(PAPER)
    plan = make_plan(**SUITE)
    results = folder / plan.folder
    for run in plan.runs.values():
        key = run.name, run.task.name, run.seed
        if key != MISSING:
            leave_run(plan, run, results, predictions_of(*key), **record_of(run, *key))
    for experiment in plan.suite.experiments:
        write_json(results / "speed" / f"{experiment}.json", SPEED)
    return plan, results


def predictions_of(name: str, task: str, seed: int) -> dict:
    """Of MRPC the test split too, with labels, and every decision on it wrong: it must count for nothing."""
    predictions = {}
    for split in splits_of(task):
        labels, decisions = labels_of(task, split), decisions_of(name, task, seed, split)
        logits = decisions[:, None] if task == "stsb" else 3.0 * deciding(decisions, 3 if task == "mnli" else 2)
        if (name, task, seed) == NEVER_EVALUATED:
            logits = np.full((len(labels), 2), np.nan)
        predictions[split] = (np.arange(len(labels)), labels, np.asarray(logits, np.float32))
    if task == "mrpc":
        labels = labels_of(task)
        predictions["test"] = (np.arange(len(labels)), labels, np.asarray(deciding(1 - labels, 2), np.float32))
    return predictions


def record_of(run, name: str, task: str, seed: int) -> dict:
    """What run.json says: the cost of a run is 10 s for each seed's number, ten times that of a predecessor's."""
    majority = score_of("majority", task, seed) / 100
    never = (name, task, seed) == NEVER_EVALUATED
    equal = "equal" in name
    score = None if never else score_of(name, task, seed) / 100
    seconds = 10.0 * seed * (10 if run.spec.role == "teacher" else 1)
    layers = 12 if run.spec.role == "teacher" else 6
    curve = (
        [] if never else [{"step": 4, "epoch": 1.0, "score": score - 0.25}, {"step": 8, "epoch": 2.0, "score": score}]
    )
    if name.startswith("theseus"):
        curve = [entry | {"replacing_rate": rate} for entry, rate in zip(curve, (0.5, 1.0), strict=True)]
    if equal:  # chosen on a slice of train; dev was watched, and was half as far from 1 at the first evaluation
        curve = [entry | {"dev_score": dev} for entry, dev in zip(curve, ((1 + (score or 0)) / 2, score), strict=False)]
    control = run.spec.role == "control"
    return {
        "dev_score": score,
        "majority_score": majority,
        "chosen_on": "nothing" if control else "held_out" if equal else "dev",
        "held_out_score": score if equal else None,
        "curve": [] if control else curve,
        "evaluations": 0 if control else 2,
        "status": "failed" if never or (name, task, seed) == FAILED_RUN else "complete",
        "reason": "diverged" if never else "no better than the majority" if (name, task, seed) == FAILED_RUN else "",
        "parameters": None if control else 24_000_000 + layers * 7_000_000,
        "architecture": None if control else {"model_type": "bert", "num_hidden_layers": layers},
        "seconds": {"training": seconds - 2, "evaluating": 1.0, "all": seconds},
        "flops": {"training": 3e15 * seed, "evaluation": 1e15},
        "energy_joules": 1000.0 * seed,
        "peak_memory_mb": 100.0 + layers,
        "data": {"train": {"rows": TRAINED_ON[task], "official_rows": TRAINED_ON[task]}},
        "provenance": PROVENANCE | {"cores": 2 if equal else 4},
    }


PROVENANCE = {"code": "0a1b2c", "processor": "A processor", "python": "3.11.7", "libraries": {"numpy": "2.0"}}
TRAINED_ON = {"cola": 8551, "mrpc": 3668, "stsb": 5749, "mnli": 3000, "wnli": 635}
HEADLINE = {"device": "cpu", "batch_size": 32, "length": 128}


def _shape(methods: list[str], layers: int, speedup: float) -> dict:
    ends = {"speedup": speedup, "low": speedup - 0.06, "high": speedup + 0.06}
    row = HEADLINE | ends | {"latency_ms": 120 / speedup, "latency_low": 110 / speedup, "latency_high": 130 / speedup}
    row |= {"throughput": 32 * speedup / 0.12, "memory_mb": 10.0 * layers, "rounds": 9}
    about = {"methods": methods, "layers": layers, "hidden_size": 768, "intermediate_size": 3072, "model_type": "bert"}
    sizes = {"parameters": 24_000_000 + layers * 7_000_000, "embedding_parameters": 23_000_000}
    return about | sizes | {"flops": {"128": layers * 1.5e9}, "measured": [row]}


STUDENTS = [name for name in NAMES if not name.startswith(("majority", "predecessor"))]
SHAPES = [_shape(["predecessor", "predecessor@equal"], 12, 1.0), _shape(STUDENTS, 6, 1.95)]
SPEED = {
    "threads": 2,
    "devices": {"cpu": {"name": "A processor", "precision": "fp32"}},
    "repetitions": 9,
    "headline": HEADLINE,
    "shapes": SHAPES,
    "left_out": [],
    "methods": {
        name: {key: value for key, value in shape["measured"][0].items() if key not in HEADLINE}
        for shape in SHAPES
        for name in shape["methods"]
    },
    "provenance": PROVENANCE,
}


def frame_of(experiment: str, names: list[str], tasks: list[str]) -> pd.DataFrame:
    """The tidy scores of an experiment from counts; of single metrics those of MNLI and of MRPC's test set."""
    rows = []
    for name, task, seed in itertools.product(names, tasks, SEEDS):
        if (name, task, seed) == MISSING:
            continue
        common = ("small", experiment, *name.partition("@")[::2], task, seed)
        for split in splits_of(task) if task == "mnli" else []:
            right = np.mean(decisions_of(name, task, seed, split) == labels_of(task, split))
            rows.append((*common, split, "accuracy", 100 * right))
        rows += [(*common, "test", metric, 0.0) for metric in ("f1", "accuracy") if task == "mrpc"]
        rows.append((*common, "dev", "score", score_of(name, task, seed)))
    columns = ["suite", "experiment", "method", "variant", "task", "seed", "split", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def compare_methods(plan, results: Path) -> None:
    """Write the scores of both experiments as worked out here, and test their differences."""
    (results / "scores").mkdir()
    schedules = ["finetune", "theseus", "theseus@constant"]
    for experiment, names, tasks in (("glue", list(NAMES), TASKS), ("schedules", schedules, ["cola", "mrpc"])):
        frame_of(experiment, names, tasks).to_parquet(results / "scores" / f"{experiment}.parquet")
        write_significance(plan, experiment, results)


def copy_of(results: Path, folder: Path) -> Path:
    """The suite's folder once more, for a test that changes something in it."""
    return Path(shutil.copytree(results, folder / "copy"))
