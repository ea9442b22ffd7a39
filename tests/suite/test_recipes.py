"""The recipes, held to a table that was read by hand against the papers: nothing in them changes unseen.

tests/suite/golden/recipes.yaml has the settings of every method of the paper's suite on every task under both
protocols, as they are resolved, and what its search tries. After a change that is meant, rewrite it with
`THESEUS_GOLDEN=write pytest tests/suite/test_recipes.py`, which fails, and read the difference before committing it.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.config import EFFORT
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.training.method import load_method
from theseus_bench.training.run import run_length

GOLDEN = Path(__file__).parent / "golden" / "recipes.yaml"
PAPER = load_plan(read_yaml(Path("config/config.yaml")))
PROTOCOLS = ("published", "equal")


def recipe(name, task):
    """What a run is given and, as `tried KEY`, the values among the settings that its search tries."""
    run = PAPER.run(name, task, 1)
    trials = {f"tried {key}": sorted({trial[key] for trial in run.trials}) for key in (run.trials or [{}])[0]}
    return run.settings | {"max_length": run.task.max_length, "trials": len(run.trials)} | trials


def recipes():
    """For every method and protocol what holds on most tasks, and below it what differs on single ones."""
    result = {}
    for name in dict.fromkeys(PAPER.canonical(method, protocol) for method in PAPER.specs for protocol in PROTOCOLS):
        exclude = PAPER.specs[name.split("@")[0]].exclude
        by_task = {task: recipe(name, task) for task in PAPER.trained_tasks if task not in exclude}
        keys = dict.fromkeys(key for one in by_task.values() for key in one)
        values = {key: [one.get(key) for one in by_task.values()] for key in keys}
        common = {key: max(each, key=each.count) for key, each in values.items()}
        differences = {
            task: {key: one.get(key) for key in keys if one.get(key) != common[key]} for task, one in by_task.items()
        }
        result[name] = {"all": common} | {task: lines for task, lines in differences.items() if lines}
    return result


class Plain(yaml.SafeDumper):
    """Writes each list where it stands."""

    def ignore_aliases(self, data):
        return True


def test_the_resolved_recipes_are_the_golden_ones():
    text = yaml.dump(recipes(), Dumper=Plain, sort_keys=False, width=110, default_flow_style=None)
    if os.environ.get("THESEUS_GOLDEN") == "write":
        GOLDEN.write_text(text)
        pytest.fail(f"{GOLDEN} was written: read the difference, then commit it")
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("task", PAPER.trained_tasks)
def test_under_equal_effort_all_have_the_same(task):
    names = [PAPER.canonical(method, "equal") for method, spec in PAPER.specs.items() if spec.trained]
    runs = [PAPER.run(name, task, 1) for name in names if task not in PAPER.specs[name.split("@")[0]].exclude]
    efforts = [{key: run.settings[key] for key in EFFORT} for run in runs]
    assert efforts == [efforts[0]] * len(runs)
    assert efforts[0]["patience"] is None
    assert efforts[0]["choose_on"] == "held_out"
    assert not any(set(EFFORT) & trial.keys() for run in runs for trial in run.trials)
    assert {len(run.trials) for run in runs} == {8}


@pytest.mark.parametrize("task", ["cola", "mrpc", "rte", "stsb", "sst2", "qnli", "qqp", "mnli"])
def test_every_curriculum_on_offer_ends(task):
    """Of Theseus by its recipe: after N steps as many again are left."""
    run, method = PAPER.run("theseus", task, 1), load_method(METHODS_FOLDER / "theseus")
    for trial in run.trials:
        trial_run = replace(run, settings=run.settings | trial)
        length = run_length(trial_run, method, run.task.rows["train"])
        assert 2 * trial["full_rate_at"] <= length <= run.settings["max_steps"]


@pytest.mark.parametrize(("file", "digest"), [("reference", "2b57aeb09fa92659"), ("demo", "5bef11bff105d69b")])
def test_no_fingerprint_changes_unseen(file, digest):
    """A new key of the configuration, unused, must train nothing again; what changes results raises LOOP_VERSION."""
    plan = load_plan(read_yaml(Path(f"config/{file}.yaml")))
    lines = [f"{path} {plan.fingerprint(run)}" for path, run in sorted(plan.runs.items())]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digest
