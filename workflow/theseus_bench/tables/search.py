"""The tables of an experiment's searches: what was chosen for each task and at which cost, and all that was tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from theseus_bench.evaluation.search import HALVINGS
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.run_names import setting_part
from theseus_bench.suite.search import read_choice
from theseus_bench.tables.model import Cell, Column, Row, Table


def search_table(plan: Plan, experiment: str, folder: Path) -> Table:
    """The settings chosen for each method and task: the best ones known, with what the search cost."""
    columns = (
        Column("task", "Task", text=True),
        Column("trials", "Tried", decimals=0),
        Column("settings", "Chosen", text=True),
        Column("score", "Score", ("chosen",)),
        Column("default", "Score", ("default",)),
        Column("same_half", "Nested", ("same half",)),
        Column("other_half", "Nested", ("other half",)),
        Column("flatters", "Flatters", ("points",)),
        Column("seconds", "Cost", ("device-seconds",), decimals=0),
    )
    rows = []
    for run in _searched_runs(plan, experiment):
        choice = read_choice(folder / run.search_file)
        if choice is None:
            gap = Cell(None, notes=("its search is not complete",))
            cells = (Cell(float(len(run.trials))), *[gap] * 7)
        else:
            best_trial, selection = choice.chosen_trial, choice.nested_selection
            cells = (
                Cell(float(len(choice.trials))),
                Cell(_settings_text(choice.trials[best_trial.trial].settings)),
                Cell(best_trial.score),
                Cell(choice.trials[0].mean_score),
                *map(Cell, (selection.same_half, selection.other_half, selection.flatters)),
                Cell(choice.device_seconds),
            )
        rows.append(Row(run.label, (Cell(run.task.label), *cells), (run.spec.name, run.variant)))
    seeds = ", ".join(map(str, plan.suite.search.seeds))
    notes = (
        f"Chosen by the score (points) of the search's seeds ({seeds}) on the dev set, under equal effort on the slice "
        "held out of train; the final runs have other seeds.",
        "Nested: settings chosen on a random half of these examples, scored on that half and on the other, mean of "
        f"{2 * HALVINGS} choices; the difference is what reporting on the examples one chose by flatters.",
    )
    title = plan.suite.experiments[experiment].title
    caption = "The settings that the searches chose."
    return Table(title, caption, columns, tuple(rows), notes, identity=("method", "variant"))


def trials_table(plan: Plan, experiment: str, folder: Path) -> Table:
    """Everything that was tried."""
    columns = (
        Column("task", "Task", text=True),
        Column("trial", "Trial", decimals=0),
        Column("settings", "Settings", text=True),
        Column("score", "Score", ("points",)),
        Column("status", "Status", text=True),
        Column("seconds", "Cost", ("device-seconds",), decimals=0),
        Column("chosen", "Chosen", text=True),
    )
    rows = []
    for run in _searched_runs(plan, experiment):
        choice = read_choice(folder / run.search_file)
        if choice is None:
            continue
        for trial in choice.trials:
            cells = (
                Cell(run.task.label),
                Cell(float(trial.trial)),
                Cell(_settings_text(trial.settings)),
                Cell(trial.mean_score),
                Cell(", ".join(dict.fromkeys(trial.status))),
                Cell(trial.seconds),
                Cell("chosen" if trial.trial == choice.chosen_trial.trial else ""),
            )
            rows.append(Row(run.label, cells, (run.spec.name, run.variant)))
    title = plan.suite.experiments[experiment].title
    caption = "Every setting that the searches tried; trial 0 is the method's default."
    return Table(title, caption, columns, tuple(rows), identity=("method", "variant"))


def _searched_runs(plan: Plan, experiment: str) -> list[Run]:
    """One run of each searched method and task; the search is the same for all its seeds."""
    runs = {run.search_file: run for run in plan.experiment_runs(experiment)[::-1] if run.trials}
    return list(runs.values())[::-1]


def _settings_text(settings: dict[str, Any]) -> str:
    return ", ".join(setting_part(key, value).replace("=", " ") for key, value in settings.items())
