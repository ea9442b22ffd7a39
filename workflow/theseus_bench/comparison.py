"""From scores and records to the tables of an experiment and the report of a suite, gaps shown as gaps."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from theseus_bench.errors import UserError
from theseus_bench.plan import Plan, Run
from theseus_bench.records import RunRecord, read_choice
from theseus_bench.report import Section, write_report
from theseus_bench.scores import state, write_scores
from theseus_bench.searches import search_table, trials_table
from theseus_bench.speed import measure_experiment
from theseus_bench.submission import write_submissions
from theseus_bench.table_formats import Table, series, write_table
from theseus_bench.tables import scores_table, with_scores
from theseus_bench.tasks import Task
from theseus_bench.verdicts import claims_table, judge_claims, judge_numbers, verdicts_table

TEMPLATES = Path("report")
STATISTICS = {"median": "", "mean": "_mean"}  # what the name of a table's files ends in


def write_tables(plan: Plan, experiment: str, folder: Path) -> None:
    """The experiment's tables in `folder`/tables: <experiment> (median over seeds) and <experiment>_mean."""
    for statistic, table in experiment_tables(plan, experiment, folder).items():
        write_table(table, folder / "tables", experiment + STATISTICS[statistic])


def write_verdicts(plan: Plan, experiment: str, folder: Path) -> None:
    """What the papers print beside ours, in `folder`/tables: <experiment>_verdicts and <experiment>_claims."""
    for name, table in verdict_tables(plan, experiment, folder).items():
        write_table(table, folder / "tables", f"{experiment}_{name}")


def write_search_tables(plan: Plan, experiment: str, folder: Path) -> None:
    """What was searched, in `folder`/tables: <experiment>_search (the choices) and <experiment>_trials (the tries)."""
    for name, table in search_tables(plan, experiment, folder).items():
        write_table(table, folder / "tables", f"{experiment}_{name}")


def write_suite_report(plan: Plan, folder: Path) -> None:
    """The suite's report in `folder`/report/index.html."""
    sections, frames, scores = [], [], []
    for name, experiment in plan.suite.experiments.items():
        tables = experiment_tables(plan, name, folder)
        several = len(plan.experiment_seeds(experiment)) > 1  # over one seed, all statistics are the same
        shown = list(tables.values())[: None if several else 1]
        shown += [table for table in verdict_tables(plan, name, folder).values() if table.rows]
        if plan.searched(name):
            shown.append(search_tables(plan, name, folder)["search"])
        sections.append(Section(name, experiment.title, shown))
        frames.append(runs_frame(plan, name, folder)[0])
        scores.append(_scores(plan, name, folder))
    keys = ["method", "variant", "task", "seed", "split", "metric"]
    runs = with_scores(pd.concat(frames), pd.concat(scores).drop_duplicates(keys))
    summary = {
        "backbone": _backbone(plan),
        "statistic": "median",
        "notes": _notes(plan),
        "search_seconds": sum(choice["device_seconds"] for choice in _choices(plan, folder)),
    }
    write_report(
        folder / "report" / "index.html",
        plan.suite.suite,
        summary,
        sections,
        runs,
        _environment(plan, [record for run in plan.runs.values() if (record := state(plan, run, folder)[2])]),
        TEMPLATES,
        base="../",
    )


def rebuild(plan: Plan, folder: Path) -> None:
    """Scores, speed, tables, submissions and report of whatever the suite's runs have left so far."""
    for experiment in plan.suite.experiments:
        if (folder / "backbone").is_dir() and not (folder / "speed" / f"{experiment}.json").is_file():
            measure_experiment(plan, experiment, folder)
        write_scores(plan, experiment, folder)
        write_tables(plan, experiment, folder)
        write_verdicts(plan, experiment, folder)
        write_search_tables(plan, experiment, folder)
        if plan.suite.experiments[experiment].submission:
            write_submissions(plan, experiment, folder)
    write_suite_report(plan, folder)


def experiment_tables(plan: Plan, experiment: str, folder: Path) -> dict[str, Table]:
    """The tables of an experiment, by statistic."""
    scores = _scores(plan, experiment, folder)
    runs, records = runs_frame(plan, experiment, folder)
    speed = _speed(experiment, folder)
    wanted = plan.suite.experiments[experiment]
    tasks = {task.name: _as_trained(task, records) for task in plan.experiment_tasks(wanted)}
    remarks = [f"Backbone: {_backbone(plan)}.", *_notes(plan), *_effort(plan, experiment), *_conditions(speed)]
    measured = speed["methods"] if speed else {}
    return {name: scores_table(scores, runs, measured, tasks, wanted.title, name, remarks) for name in STATISTICS}


def verdict_tables(plan: Plan, experiment: str, folder: Path) -> dict[str, Table]:
    """The experiment's numbers beside the published ones, and the published claims."""
    scores = _scores(plan, experiment, folder)
    title = plan.suite.experiments[experiment].title
    speed = (_speed(experiment, folder) or {"methods": {}})["methods"]
    return {
        "verdicts": verdicts_table(plan, judge_numbers(plan, experiment, scores), title),
        "claims": claims_table(judge_claims(plan, experiment, scores, speed), title),
    }


def search_tables(plan: Plan, experiment: str, folder: Path) -> dict[str, Table]:
    """The experiment's searches: what was chosen, and all that was tried."""
    return {"search": search_table(plan, experiment, folder), "trials": trials_table(plan, experiment, folder)}


def runs_frame(plan: Plan, experiment: str, folder: Path) -> tuple[pd.DataFrame, list[RunRecord]]:
    """One row for each run the experiment asks for, excluded ones included, and the records that are there."""
    wanted = plan.suite.experiments[experiment]
    rows, records = [], []
    for method in plan.experiment_names(experiment):
        for task in plan.experiment_tasks(wanted):
            for seed in plan.experiment_seeds(wanted):
                run = plan.run(method, task.name, seed)
                status, reason, record = "excluded", run.spec.exclude.get(task.name, ""), None
                if not reason:
                    status, reason, record = state(plan, run, folder)
                    records += [record] if record else []
                rows.append(_row(run, status, reason, record))
    return pd.DataFrame(rows), records


def _row(run: Run, status: str, reason: str, record: RunRecord | None) -> dict:
    return {
        "method": run.spec.name,
        "variant": run.variant,
        "task": run.task.name,
        "seed": run.seed,
        "status": status,
        "reason": reason,
        "path": run.path,
        "seconds": record.seconds["training"] if record else float("nan"),
        "parameters": record.parameters if record and record.parameters else float("nan"),
        "label": run.label,
        "role": run.spec.role,
    }


def _as_trained(task: Task, records: list[RunRecord]) -> Task:
    """The task with the size of the training set that the runs saw, which a sample or the demo makes another."""
    sizes = [record.data["train"]["rows"] for record in records if record.task == task.name]
    return task.model_copy(update={"rows": task.rows | {"train": sizes[0]}}) if sizes else task


def _scores(plan: Plan, experiment: str, folder: Path) -> pd.DataFrame:
    file = folder / "scores" / f"{experiment}.parquet"
    if not file.is_file():
        raise UserError(f"{file}: no such file; make it with: theseus-bench score {folder} {experiment}")
    return pd.read_parquet(file)


def _choices(plan: Plan, folder: Path) -> list[dict]:
    """What the suite's searches have chosen, each once."""
    files = dict.fromkeys(run.search_file for run in plan.runs.values() if run.trials)
    return [choice for file in files if (choice := read_choice(folder / file)) is not None]


def _speed(experiment: str, folder: Path) -> dict | None:
    file = folder / "speed" / f"{experiment}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _backbone(plan: Plan) -> str:
    backbone = plan.suite.backbone
    return f"{backbone.name or 'a tiny BERT of the demo'}, {backbone.layers} layers"


def _effort(plan: Plan, experiment: str) -> list[str]:
    """A sentence on how long the methods may train, since not all may train equally long."""
    epochs: dict[str, dict[str, None]] = {}
    for run in plan.experiment_runs(experiment):
        if run.spec.role != "control":
            epochs.setdefault(f"{run.settings['epochs']:g}", {})[run.label] = None
    words = [f"{count} for {series(list(labels))}" for count, labels in epochs.items()]
    return [f"Epochs at most: {'; '.join(words)}."] if words else []


def _conditions(speed: dict | None) -> list[str]:
    """A sentence on how the speed was measured."""
    if not speed:
        return []
    return [
        f"Speed: a forward pass of {speed['batch_size']} sequences of {speed['length']} tokens on "
        f"{speed['provenance']['processor'] if speed['device'] == 'cpu' else speed['device']}, {speed['precision']}, "
        f"{speed['threads']} threads, median of {speed['repetitions']} with its 95 % interval; models of equal shape "
        "are measured once, with random weights."
    ]


def _notes(plan: Plan) -> list[str]:
    if plan.suite.data.source == "demo":
        return ["The sentences are generated: the scores show that the workflow works, and say nothing of real GLUE."]
    names = [plan.tasks[name].label for name in plan.suite.data.samples if name in plan.suite.tasks]
    if not names:
        return []
    return [f"Not official GLUE, but a part of it as the configuration declares: {', '.join(names)}."]


def _environment(plan: Plan, records: list[RunRecord]) -> dict[str, str]:
    """What the runs say of where they came from; more than one value of a thing is shown as such."""

    def values(of) -> str:
        return "; ".join(sorted({str(of(record)) for record in records})) or "not known"

    data = plan.suite.data
    libraries = records[0].provenance["libraries"] if records else {}
    return {
        "Data": {"hub": f"{data.name} at {data.revision}", "local": str(data.path), "demo": "generated"}[data.source],
        "Backbone revision": plan.suite.backbone.revision or "none: not from the hub",
        "Code": values(lambda record: record.provenance["code"]),
        "Processor": values(lambda record: f"{record.provenance['processor']}, {record.provenance['cores']} cores"),
        "Device": values(lambda record: f"{record.device}, {record.precision}, {record.threads} threads a run"),
        "Python": values(lambda record: record.provenance["python"]),
        **{name: values(lambda record, name=name: record.provenance["libraries"][name]) for name in libraries},
    }
