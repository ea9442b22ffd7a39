"""The runs behind a number in the table of an experiment's scores, and what each of them was made of."""

from __future__ import annotations

import csv
import json
import shlex
import textwrap
from pathlib import Path
from typing import Any

from theseus_bench.errors import UserError
from theseus_bench.evaluation.families import macro_tasks
from theseus_bench.strict_yaml import suggest
from theseus_bench.suite.method_spec import resolve_settings
from theseus_bench.suite.outputs import PARTIAL
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.run_names import RunName
from theseus_bench.suite.status import state
from theseus_bench.wording import count_noun, format_number, series

WIDTH = 80  # columns of a terminal
LABEL = 14  # of these, what stands before a value: a SHA-256 just fits behind it


def trace_cell(plan: Plan, experiment: str, row: str, column: str, folder: Path) -> list[str]:
    """Lines on a number of tables/<experiment>.csv in the suite's `folder`: its value, and each run behind it.

    `row` is METHOD or METHOD@VARIANT, `column` a task or a macro. A run that failed or is missing says so.
    UserError for an experiment, row or column that is not there.
    """
    runs = cell_runs(plan, experiment, row, column)
    tasks = list(dict.fromkeys(run.task.label for run in runs))
    number = f"{experiment}: {runs[0].label}, {column}: {_read_number(experiment, runs[0], column, folder)}"
    scope = f"{count_noun(len(runs), 'run')} on {series(tasks)}; settings: those that are not the method's defaults"
    lines = textwrap.wrap(number, WIDTH) + textwrap.wrap(scope, WIDTH)
    for run in runs:
        lines += ["", *_describe_run(plan, run, folder)]
    return lines


def cell_runs(plan: Plan, experiment: str, row: str, column: str) -> list[Run]:
    """The runs whose scores the cell is made of, task by task, one for each seed; of a macro those of its tasks."""
    if experiment not in plan.suite.experiments:
        raise UserError(f"the suite has no experiment {experiment!r}{suggest(experiment, plan.suite.experiments)}")
    names = plan.experiment_names(experiment)
    name = str(RunName.parse(row))
    if name not in names:
        raise UserError(f"the table of {experiment} has no row {row!r}{suggest(name, names)}")
    macros = macro_tasks(plan, experiment)
    tasks = [task.name for task in plan.experiment_tasks(plan.suite.experiments[experiment])]
    if column not in [*tasks, *macros]:
        raise UserError(f"the table of {experiment} has no column {column!r}{suggest(column, [*tasks, *macros])}")
    column_tasks = macros.get(column, [column])
    runs = [run for run in plan.experiment_runs(experiment) if run.name == name and run.task.name in column_tasks]
    if not runs:
        raise UserError(f"{name} has no run on {column}: methods/{RunName.parse(name).method}/method.yaml excludes it")
    return runs


def _read_number(experiment: str, run: Run, column: str, folder: Path) -> str:
    """What the table says in the column, in the row of the run's method: the mean in points, and its deviation."""
    tables = [part / "tables" / f"{experiment}.csv" for part in (folder, folder / PARTIAL)]
    file = next((table for table in tables if table.is_file()), None)
    if file is None:
        return f"no table yet; make it with: theseus-bench score-tables {folder} {experiment}"
    with file.open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    rows = [row for row in table if (row["method"], row["variant"]) == (run.spec.name, run.variant)]
    value, deviation = (rows[0].get(key) for key in (column, f"{column}_sd")) if rows else ("", "")
    if not value:
        return "no number"
    beside = f" ± {format_number(float(deviation), 1)}" if deviation else ""
    return format_number(float(value), 1) + beside


def _describe_run(plan: Plan, run: Run, folder: Path) -> list[str]:
    """The run's path, and below it what is known of it."""
    status, reason, record = state(plan, run, folder)
    lines = [run.path, *_entry("seed", str(run.seed)), *_entry("status", f"{status}: {reason}" if reason else status)]
    if record is not None:
        lines += _entry("score", _score(record))
        lines += _entry("settings", _settings(run, record.settings))
        if record.trial is not None:
            lines += _entry("search", f"trial {record.trial} was chosen: {run.search_file}")
        lines += _entry("predictions", record.predictions_sha256)
        for name, sha256 in record.inputs.items():
            lines += [f"  read {name}", *_entry("", sha256)]
    command = ["theseus-bench", "train", str(folder), run.name, run.task.name, str(run.seed)]
    lines.append(f"  made by {shlex.join(command)}")  # in one line, to be copied
    return lines


def _score(record: RunRecord) -> str:
    if record.dev_score is None:
        return f"none, so it counts as the majority's {format_number(100 * record.majority_score, 1)}"
    return format_number(100 * record.dev_score, 1)


def _settings(run: Run, settings: dict[str, Any]) -> str:
    """The layers, and the settings that are not the defaults of the method and the loop."""
    defaults = resolve_settings(run.spec, settings["layers"], [])
    del defaults["layers"]  # which are the suite's to say
    changes = [f"{key} {json.dumps(value)}" for key, value in settings.items() if defaults.get(key) != value]
    return ", ".join(changes)


def _entry(label: str, text: str) -> list[str]:
    """A label and its text, in as many lines as it needs."""
    indent = " " * LABEL
    wrapped = textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
    return [f"  {label}".ljust(LABEL) + line[LABEL:] if n == 0 else line for n, line in enumerate(wrapped)]
