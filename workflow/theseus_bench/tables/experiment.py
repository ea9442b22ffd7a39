"""From scores, tests and records to the tables of an experiment, gaps shown as gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from theseus_bench.data.tasks import Task
from theseus_bench.evaluation.behaviour import behaviour_frame
from theseus_bench.evaluation.claims import judge_claims
from theseus_bench.evaluation.pairs import list_comparisons
from theseus_bench.evaluation.scores import read_scores
from theseus_bench.evaluation.significance_file import SignificanceResults, read_significance
from theseus_bench.evaluation.speed import SpeedResults, method_timings, read_speed
from theseus_bench.evaluation.verdicts import incomparable, judge_numbers, reported_rows
from theseus_bench.files import atomic
from theseus_bench.suite.plan import Plan, Run, label_of_name
from theseus_bench.suite.published import cite
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.run_names import ADAPTED, EQUAL, PUBLISHED
from theseus_bench.suite.status import state
from theseus_bench.tables.behaviour import behaviour_table
from theseus_bench.tables.costs import costs_table
from theseus_bench.tables.diagnostic import diagnostic_table
from theseus_bench.tables.formats import write_table
from theseus_bench.tables.model import Table
from theseus_bench.tables.scores import ReportedScores, Statistic, scores_table
from theseus_bench.tables.search import search_table, trials_table
from theseus_bench.tables.selection import selection_table
from theseus_bench.tables.significance import significance_tables
from theseus_bench.tables.speed import conditions, speed_tables
from theseus_bench.tables.verdicts import claims_table, verdicts_table
from theseus_bench.wording import series

PROTOCOLS = {PUBLISHED: "published recipes", ADAPTED: "adapted recipes", EQUAL: "equal effort"}  # as a title says them
STATISTICS: dict[Statistic, str] = {"mean": "", "median": "_median"}  # what the name of a table's files ends in


def write_score_tables(plan: Plan, experiment: str, folder: Path) -> None:
    """The experiment's scores and tests in `folder`/tables.

    Scores: <experiment> (mean over seeds) and <experiment>_median. Tests: <experiment>_significance, _seeds, _ranks and
    _aggregates. Speed: <experiment>_speed and _timings.
    """
    for statistic, table in experiment_tables(plan, experiment, folder).items():
        write_table(table, folder / "tables", experiment + STATISTICS[statistic])
    _write(significance_tables(plan, experiment, folder), experiment, folder)
    _write(speed_tables(plan, experiment, folder), experiment, folder)


def write_verdict_tables(plan: Plan, experiment: str, folder: Path) -> None:
    """What the papers print beside ours, in `folder`/tables: <experiment>_verdicts and <experiment>_claims."""
    _write(verdict_tables(plan, experiment, folder), experiment, folder)


def write_search_tables(plan: Plan, experiment: str, folder: Path) -> None:
    """What was searched, in `folder`/tables: <experiment>_search (the choices) and <experiment>_trials (the tries)."""
    _write(search_tables(plan, experiment, folder), experiment, folder)


def write_description_tables(plan: Plan, experiment: str, folder: Path) -> None:
    """What is known beyond the scores, in `folder`/tables: <experiment>_behaviour, _costs, _selection and, of AX,
    _diagnostic.

    <experiment>_behaviour.csv has every run's values; the other formats have the methods'.
    """
    _write(description_tables(plan, experiment, folder), experiment, folder)
    with atomic(folder / "tables" / f"{experiment}_behaviour.csv") as scratch:
        behaviour_frame(plan, experiment, folder).to_csv(scratch, index=False, float_format="%.6g")


def experiment_tables(plan: Plan, experiment: str, folder: Path) -> dict[Statistic, Table]:
    """The experiment's scores, by statistic; the means, of which the tests are, beside the printed numbers."""
    scores, speed = read_scores(experiment, folder), read_speed(experiment, folder)
    runs, records = runs_frame(plan, experiment, folder)
    definition = plan.suite.experiments[experiment]
    tasks = {task.name: _with_train_size(task, records) for task in plan.experiment_tasks(definition)}
    remarks = [f"Backbone: {describe_backbone(plan)}.", *describe_data(plan), *_effort_remarks(plan, experiment)]
    remarks += _speed_remarks(speed)
    tests = read_significance(experiment, folder)
    reported: dict[Statistic, dict[str, list[ReportedScores]]]
    reported = {"mean": reported_scores(plan, experiment), "median": {}}
    return {
        statistic: scores_table(
            scores,
            runs,
            speed.methods if speed else {},
            tasks,
            definition.title,
            statistic,
            remarks,
            daggers=tests.daggers(),
            significance_remark=_dagger_remark(plan, experiment, tests),
            reported_scores=reported[statistic],
        )
        for statistic in STATISTICS
    }


def reported_scores(plan: Plan, experiment: str) -> dict[str, list[ReportedScores]]:
    """The published rows that stand under each of the experiment's methods: those of whole scores, on dev."""
    task_names = {task.name for task in plan.experiment_tasks(plan.suite.experiments[experiment])}
    by_name: dict[str, list[ReportedScores]] = {}
    for entry in reported_rows(plan, experiment):
        row = entry.row
        scores = {  # on dev a task has one number
            task: value
            for task, value in row.scores.items()
            if task in task_names and task not in row.metrics and not isinstance(value, list)
        }
        if entry.table.split != "dev" or not scores:
            continue
        if row.macro is not None and row.scores.keys() <= task_names:
            scores["macro"] = row.macro
        for name in entry.names:
            reason = incomparable(
                plan, entry.paper, entry.table, name, [plan.tasks[task] for task in scores if task in task_names]
            )
            note = f"not comparable: {reason}" if reason else ""
            by_name.setdefault(name, []).append(ReportedScores(cite(entry.key), scores, note))
    return by_name


def verdict_tables(plan: Plan, experiment: str, folder: Path) -> dict[str, Table]:
    """The experiment's numbers beside the published ones, and the published claims."""
    scores = read_scores(experiment, folder)
    title = plan.suite.experiments[experiment].title
    speed = method_timings(experiment, folder)
    return {
        "verdicts": verdicts_table(plan, judge_numbers(plan, experiment, scores), title),
        "claims": claims_table(judge_claims(plan, experiment, read_significance(experiment, folder), speed), title),
    }


def search_tables(plan: Plan, experiment: str, folder: Path) -> dict[str, Table]:
    """The experiment's searches: what was chosen, and all that was tried."""
    return {"search": search_table(plan, experiment, folder), "trials": trials_table(plan, experiment, folder)}


def description_tables(plan: Plan, experiment: str, folder: Path) -> dict[str, Table]:
    """What is known beyond the scores: behaviour, costs, what the choice of checkpoints adds, and AX where its labels
    are at hand."""
    diagnostic = diagnostic_table(plan, experiment, folder)
    tables = {
        "behaviour": behaviour_table(plan, experiment, folder),
        "costs": costs_table(plan, experiment, folder),
        "selection": selection_table(plan, experiment, folder),
    }
    return tables | ({"diagnostic": diagnostic} if diagnostic else {})


def runs_frame(plan: Plan, experiment: str, folder: Path) -> tuple[pd.DataFrame, list[RunRecord]]:
    """One row for each run the experiment asks for, excluded ones included, and the records that are there."""
    definition = plan.suite.experiments[experiment]
    rows, records = [], []
    for method in plan.experiment_names(experiment):
        for task in plan.experiment_tasks(definition):
            for seed in plan.experiment_seeds(definition):
                run = plan.run(method, task.name, seed)
                status, reason, record = "excluded", run.spec.exclude.get(task.name, ""), None
                if not reason:
                    status, reason, record = state(plan, run, folder)
                    records += [record] if record else []
                rows.append(_row(run, status, reason, record))
    return pd.DataFrame(rows), records


def describe_backbone(plan: Plan) -> str:
    """The backbone in words."""
    return f"{_name_backbone(plan)}, {plan.suite.backbone.layers} layers"


def describe_suite(plan: Plan) -> str:
    """Protocols, backbone and data in one line, for a title."""
    protocols = dict.fromkeys(run.protocol for run in plan.runs.values() if run.spec.trained and not run.is_trial)
    effort = series([PROTOCOLS[protocol] for protocol in PROTOCOLS if protocol in protocols])
    data = {"demo": "generated sentences", "hub": "GLUE", "local": "GLUE"}[plan.suite.data.source]
    if any(plan.is_sample(name) for name in plan.trained_tasks):
        data += ", partly sampled"
    depths = f"{plan.suite.backbone.layers} → {plan.suite.student_layers} layers"
    return f"{effort[:1].upper()}{effort[1:]}; {_name_backbone(plan)}, {depths}; {data}"


def describe_data(plan: Plan) -> list[str]:
    """A sentence on the data, where they are not official GLUE."""
    if plan.suite.data.source == "demo":
        return ["The sentences are generated: the scores show that the workflow works, and say nothing of real GLUE."]
    names = [plan.tasks[name].label for name in plan.trained_tasks if plan.is_sample(name)]
    if not names:
        return []
    return [f"Not official GLUE, but a part of it as the configuration declares: {', '.join(names)}."]


def _name_backbone(plan: Plan) -> str:
    return plan.suite.backbone.name or "a tiny BERT of the demo"


def _write(tables: dict[str, Table], experiment: str, folder: Path) -> None:
    for name, table in tables.items():
        write_table(table, folder / "tables", f"{experiment}_{name}")


def _row(run: Run, status: str, reason: str, record: RunRecord | None) -> dict[str, Any]:
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
        "chosen_on": record.chosen_on if record else "",
        "evaluations": record.evaluations if record else 0,
        "label": run.label,
        "role": run.spec.role,
        "never_evaluated": record is not None and record.dev_score is None,
    }


def _with_train_size(task: Task, records: list[RunRecord]) -> Task:
    """The task with the size of the training set that the runs saw, which a sample or the demo makes another."""
    sizes = [record.data["train"]["rows"] for record in records if record.task == task.name]
    return task.model_copy(update={"rows": task.rows | {"train": sizes[0]}}) if sizes else task


def _dagger_remark(plan: Plan, experiment: str, tests: SignificanceResults) -> str:
    """What the daggers of the experiment's table mean; '' where nothing is compared with a control."""
    rule = plan.suite.significance
    controls = dict.fromkeys(pair.other for pair in list_comparisons(plan, experiment) if pair.control)
    if not controls:
        return ""
    experiments = dict.fromkeys(row.tested_in for row in tests.differences if row.control and row.p_holm is None)
    titles = [plan.suite.experiments[name].title for name in experiments if name != experiment]
    remark = (
        f"† significantly better, ‡ significantly worse than {series([label_of_name(plan, name) for name in controls])}"
        f"{', like with like' if len(controls) > 1 else ''}: over seeds and examples, Holm within each family, "
        f"α = {rule.alpha:g}. Primary is the macro difference of a proposed method and a baseline alone; the tested "
        "differences are a table of their own."
    )
    remark += f" Some are tested in another table: {series(titles)}." if titles else ""
    return " ".join([remark, *tests.few_seeds()])


def _effort_remarks(plan: Plan, experiment: str) -> list[str]:
    """Sentences on how long the methods may train, since not all may train equally long, and on changed recipes."""
    runs = [run for run in plan.experiment_runs(experiment) if run.spec.trained]
    tasks: dict[str, dict[str, dict[str, None]]] = {}  # by method, then by epochs
    for run in runs:
        tasks.setdefault(run.label, {}).setdefault(f"{run.settings['epochs']:g}", {})[run.task.label] = None
    methods: dict[str, list[str]] = {}
    for label, by_epochs in tasks.items():
        most_common, *others = sorted(by_epochs, key=lambda epochs: -len(by_epochs[epochs]))
        exceptions = [f"{epochs} on {series(list(by_epochs[epochs]))}" for epochs in others]
        methods.setdefault(f"{most_common} ({', '.join(exceptions)})" if exceptions else most_common, []).append(label)
    words = [f"{epochs} for {series(labels)}" if len(methods) > 1 else epochs for epochs, labels in methods.items()]
    remarks = [f"Epochs at most: {'; '.join(words)}."] if words else []
    if any(run.protocol == ADAPTED for run in runs):
        remarks.append("Adapted: the suite's settings change the authors' recipe, so it is no published one.")
    return remarks


def _speed_remarks(speed: SpeedResults | None) -> list[str]:
    """A sentence on how the speed was measured."""
    if not speed:
        return []
    return [
        f"Speed: {conditions(speed, speed.reference_size.device)}; models of equal shape are measured once, with "
        "random weights. Other sizes are a table of their own."
    ]
