"""Test predictions as the files that the GLUE server takes: one zip for each method.

The server gives one score for one set of predictions, so one seed stands for a method: on each task the run whose dev
score is the median (the lower of the two middle ones), since no run has the mean. Choosing the best would
flatter the test score by the spread of the seeds.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from theseus_bench.data.metrics import decide
from theseus_bench.data.tasks import Task
from theseus_bench.files import atomic, write_json
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.status import state

HEADER = "index\tprediction"
STAMP = (1980, 1, 1, 0, 0, 0)  # of every file in a zip, so that equal predictions make equal files


def write_submissions(plan: Plan, experiment: str, folder: Path) -> None:
    """Write <method>.zip for each of the experiment's methods and submissions.json, into submissions/<experiment>.

    submissions.json says for each zip which run each of its files is of, and why the server would not take it: files
    that are missing, since their task was not run or the data lacks its test split, and files that are not of official
    GLUE, as those of the demo.
    """
    runs = plan.experiment_runs(experiment)
    with atomic(folder / "submissions" / experiment) as scratch:
        scratch.mkdir()
        contents = {}
        for name in dict.fromkeys(run.name for run in runs):
            files, origins, problems = _files(plan, [run for run in runs if run.name == name], folder)
            server_files = {f"{file}.tsv" for task in plan.tasks.values() for file in task.server.values()}
            problems += [f"{file}: missing" for file in sorted(server_files - files.keys())]
            contents[f"{name}.zip"] = {"accepted": not problems, "problems": problems, "runs": origins}
            if files:
                write_zip(scratch / f"{name}.zip", files)
        write_json(scratch / "submissions.json", contents)


def median_run(plan: Plan, runs: list[Run], folder: Path) -> Run | None:
    """The run with the median of the scores that its checkpoints were chosen by; None where none has a score.

    Of an even number the lower middle one.
    """
    records = [(run, record) for run in runs if (record := state(plan, run, folder)[2])]
    candidates = [(record.choice_score, run.seed, run) for run, record in records if record.choice_score is not None]
    return sorted(candidates, key=lambda entry: entry[:2])[(len(candidates) - 1) // 2][2] if candidates else None


def server_file(task: Task, index: np.ndarray, logits: np.ndarray) -> str:
    """The text of one of the server's files: a header, then one line an example in the order of the index.

    Classes are codes or names as the task's file wants; values are cut to [0, 5] and have three decimals.
    """
    order = np.argsort(index, kind="stable")
    predictions = decide(logits, task)[order]
    if task.regression:
        texts = [f"{value:.3f}" for value in np.clip(predictions, 0, 5)]
    else:
        labels = _server_labels(task)
        texts = [labels[code] for code in predictions]
    lines = [f"{i}\t{text}" for i, text in zip(index[order], texts, strict=True)]
    return "\n".join([HEADER, *lines]) + "\n"


def server_problems(task: Task, split: str, text: str) -> list[str]:
    """What the server would not take in the file `text` of a test split; it wants every official index once, in order.

    Of several wrong lines the first is named.
    """
    name = f"{task.server[split]}.tsv"
    header, *lines = text.splitlines()
    if header != HEADER:
        return [f"{name}: the first line is {header!r}, expected {HEADER!r}"]
    if len(lines) != task.rows[split]:
        return [f"{name}: {len(lines)} predictions, the official test set has {task.rows[split]} examples"]
    labels = _server_labels(task)
    for number, line in enumerate(lines):
        index, _, label = line.partition("\t")
        if index != str(number):
            return [f"{name}: line {number + 2} has index {index!r}, expected {number}"]
        if not (_is_value(label) if task.regression else label in labels):
            values = "a number from 0 to 5" if task.regression else f"one of {', '.join(labels)}"
            return [f"{name}: line {number + 2} says {label!r}, expected {values}"]
    return []


def write_zip(path: Path, files: dict[str, str]) -> None:
    """A zip with these files at its top level, the same bytes for the same texts."""
    with atomic(path) as scratch, zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, STAMP), text, zipfile.ZIP_DEFLATED)


def _files(plan: Plan, runs: list[Run], folder: Path) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The server's files of one method by name, the run that each is of, and what is wrong with them."""
    files, origins, problems = {}, {}, []
    for task_name in dict.fromkeys(run.task.name for run in runs):
        run = median_run(plan, [run for run in runs if run.task.name == task_name], folder)
        if run is None:
            continue
        frame = pq.read_table(folder / run.path / "predictions.parquet").to_pandas()
        for name in plan.predicted_with(task_name):
            task = plan.tasks[name]
            for split in task.test:
                part = frame[frame["split"] == (split if name == task_name else f"{name}/{split}")]
                if len(part):
                    text = server_file(task, part["idx"].to_numpy(), np.stack(part["logits"]))
                    files[f"{task.server[split]}.tsv"], origins[f"{task.server[split]}.tsv"] = text, run.path
                    problems += server_problems(task, split, text)
    return files, origins, problems


def _server_labels(task: Task) -> list[str]:
    """What the server calls each class: its name or its code."""
    return task.labels if task.server_labels and task.labels else [str(code) for code in range(task.outputs)]


def _is_value(text: str) -> bool:
    try:
        return 0 <= float(text) <= 5
    except ValueError:
        return False
