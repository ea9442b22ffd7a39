"""The families in which an experiment's differences are tested, as the configuration alone fixes them.

A family counts every test that the suite asks for, also those whose runs are not there yet: what is completed later
makes no family stricter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from theseus_bench.data.tasks import Task
from theseus_bench.evaluation.pairs import Comparison, list_comparisons, role_of
from theseus_bench.evaluation.significance_file import MACRO, PRIMARY, TASKS, WITHOUT_COLA
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.run_names import RunName

MACROS: dict[str, Callable[[Task], bool]] = {
    MACRO: lambda task: task.macro,
    WITHOUT_COLA: lambda task: task.macro and task.name != "cola",
}


@dataclass(frozen=True)
class Family:
    """What is adjusted together by Holm."""

    experiment: str  # the first that has its differences
    name: str  # PRIMARY, MACRO, WITHOUT_COLA or TASKS
    protocol: str
    proposal: str  # the proposed method that stands after another and has families of its own; '' otherwise


def list_families(plan: Plan, experiment: str) -> dict[tuple[Comparison, str], Family]:
    """The family of each of an experiment's differences, by comparison and target (a task, MACRO or WITHOUT_COLA).

    A comparison that is made for a claim alone has no more than the primary target.
    """
    first_experiments: dict[tuple[object, ...], str] = {}
    families: dict[tuple[Comparison, str], Family] = {}
    for name in plan.suite.experiments:
        families, primary = {}, primary_target(plan, name)
        for pair in list_comparisons(plan, name):
            protocol = RunName.parse(pair.name).protocol
            proposal = further_proposal(plan, name, pair.name)
            for target, contents in _targets(plan, name, pair):
                if target == primary:
                    family = PRIMARY if pair.primary else MACRO
                elif pair.primary or pair.control:
                    family = target if target in MACROS else TASKS
                else:
                    continue
                tested_in = first_experiments.setdefault((pair.pair, target, contents), name)
                families[pair, target] = Family(tested_in, family, protocol, proposal)
        if name == experiment:
            break
    return families


def common_tasks(plan: Plan, experiment: str, pair: Comparison) -> list[str]:
    """The experiment's tasks that both of a pair are to be run on."""
    exclusions = {task for name in (pair.name, pair.other) for task in plan.spec_of(name).exclude}
    tasks = plan.experiment_tasks(plan.suite.experiments[experiment])
    return [task.name for task in tasks if task.name not in exclusions]


def macro_tasks(plan: Plan, experiment: str) -> dict[str, list[str]]:
    """The tasks of each macro score of an experiment; none of fewer than two tasks, and no second one of the same."""
    tasks = plan.experiment_tasks(plan.suite.experiments[experiment])
    by_target = {target: [task.name for task in tasks if holds(task)] for target, holds in MACROS.items()}
    if by_target[WITHOUT_COLA] == by_target[MACRO]:
        del by_target[WITHOUT_COLA]
    return {target: names for target, names in by_target.items() if len(names) > 1}


def primary_target(plan: Plan, experiment: str) -> str:
    """What an experiment's primary family is of: the macro, or the one task that would count in it; '' for neither."""
    tasks = plan.experiment_tasks(plan.suite.experiments[experiment])
    macro = [task.name for task in tasks if task.macro]
    return MACRO if len(macro) > 1 else "".join(macro)


def further_proposal(plan: Plan, experiment: str, name: str) -> str:
    """The proposed method of the runs called `name` where the experiment names another before it, '' otherwise.

    A method that starts from another's model is that one's proposal.
    """
    specs = [plan.spec_of(other) for other in (*plan.experiment_names(experiment), name)]
    proposals = [spec.source.method if spec.source else spec.name for spec in specs if spec.role == "proposed"]
    is_further = role_of(plan, name) == "proposed" and proposals[-1] != proposals[0]
    return proposals[-1] if is_further else ""


def _targets(plan: Plan, experiment: str, pair: Comparison) -> list[tuple[str, tuple[object, ...]]]:
    """Each task and macro that both of a pair are to be run on, with what its score is of: the tasks and the seeds."""
    seeds = tuple(plan.experiment_seeds(plan.suite.experiments[experiment]))
    tasks = common_tasks(plan, experiment, pair)
    parts = {task: [task] for task in tasks} | macro_tasks(plan, experiment)
    return [(target, (tuple(sorted(names)), seeds)) for target, names in parts.items() if set(names) <= set(tasks)]
