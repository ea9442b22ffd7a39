"""Every setting of a method on a task, with the layer of the configuration that set it."""

from __future__ import annotations

import json

from theseus_bench.data.tasks import find_task
from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import suggest
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.search import Settings


def list_settings(plan: Plan, name: str, task: str) -> list[str]:
    """A line for each setting of the runs called `name` (METHOD or METHOD@VARIANT) on a task: value and origin.

    The settings that a search varies are followed by what its trials try. UserError for a method, variant or task that
    is not there.
    """
    definition = find_task(plan.tasks, task, "settings")
    if definition.trained_on:
        raise UserError(f"settings: {task} is predicted with the model of {definition.trained_on}; ask for that")
    if task not in plan.suite.tasks:
        raise UserError(f"settings: the suite has no task {task!r}{suggest(task, plan.suite.tasks)}")
    settings, trials = plan.run_settings.resolve(name, task)
    origins = plan.run_settings.origins(name, task)
    rows = [(key, json.dumps(value), origins[key]) for key, value in settings.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{key:{widths[0]}}  {value:{widths[1]}}  {origin}" for key, value, origin in rows]
    return [f"{name} on {task}", *lines, *_list_trials(trials)]


def _list_trials(trials: tuple[Settings, ...]) -> list[str]:
    """What each trial of a search lays over the settings; the final runs have those of the one that it chooses."""
    texts = [", ".join(f"{key} {json.dumps(value)}" for key, value in trial.items()) for trial in trials]
    return [f"trial {number} of its search: {settings}" for number, settings in enumerate(texts)]
