"""Which of two settings wins, as docs/configuration.md promises it."""

import json
import re
from pathlib import Path

import pytest
from theseus_bench.commands import run as run_command
from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import parse, read_config
from theseus_bench.suite.config import LoopSettings, Suite
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.method_spec import METHODS_FOLDER, MethodSpec, load_specs
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.settings_listing import list_settings

# From the first to the last that speaks; the value that each gives to the learning rate.
PLACES = ["defaults", "per_task", "settings.0", "settings.1", "equal.set", "equal.per_task", "variant", "name"]
RATES = {place: (index + 1) / 100 for index, place in enumerate(PLACES)}


def plan_of(places: list[str], **equal) -> Plan:
    """A suite in which the method `mine` is given its learning rate in these places alone."""
    rates = {place: {"learning_rate": RATES[place]} for place in places}
    spec = MethodSpec(
        name="mine",
        label="Mine",
        summary="",
        version=1,
        role="baseline",
        citation="",
        defaults=rates.get("defaults", {}) | {"epochs": 9, "warmup": 0.5},
        per_task={"rte": rates.get("per_task", {})},
        variants={"quick": rates.get("variant", {})},
    )
    settings = [{"set": rates[place]} for place in ("settings.0", "settings.1") if place in rates]
    values = {
        "suite": "order",
        "data": {"source": "demo", "rows": 16},
        "backbone": {"source": "demo", "layers": 4},
        "student_layers": 2,
        "tasks": ["rte"],
        "seeds": [1],
        "settings": settings,
        "equal": {"set": rates.get("equal.set", {}), "per_task": {"rte": rates.get("equal.per_task", {})}} | equal,
        "search": {"budget": 2, "seeds": [101]},
        "experiments": {"first": {"title": "One", "methods": ["mine"]}},
    }
    specs = {"mine": spec, "predecessor": load_specs(METHODS_FOLDER)[0]["predecessor"]}
    return Plan(parse(Suite, values, "config"), load_tasks(TASKS_FILE), specs)


@pytest.mark.parametrize("last", range(1, len(PLACES) + 1))
def test_the_last_place_that_speaks_wins(last):
    places = PLACES[:last]
    name = "mine@equal+quick" + (f"+learning_rate={RATES['name']}" if "name" in places else "")
    assert plan_of(places).run(name, "rte", 1).settings["learning_rate"] == RATES[places[-1]]


def test_where_none_speaks_it_is_the_loops_default():
    default = LoopSettings.model_fields["learning_rate"].default
    assert plan_of([]).run("mine", "rte", 1).settings["learning_rate"] == default


def test_the_layers_are_the_suites_unless_a_later_place_says_otherwise():
    plan = plan_of([])
    assert plan.run("mine", "rte", 1).settings["layers"] == 2
    assert plan.run("predecessor", "rte", 1).settings["layers"] == 4
    assert plan.run("mine@layers=1", "rte", 1).settings["layers"] == 1


def test_what_equal_says_is_not_said_under_published():
    plan = plan_of(PLACES[:6])
    assert plan.run("mine", "rte", 1).settings["learning_rate"] == RATES["settings.1"]


def test_under_equal_the_effort_and_the_warmup_of_a_method_do_not_count():
    plan = plan_of([], set={"batch_size": 16})
    settings = plan.run("mine@equal", "rte", 1).settings
    defaults = {key: LoopSettings.model_fields[key].default for key in ("epochs", "warmup")}
    assert {key: settings[key] for key in defaults} == defaults
    assert settings["batch_size"] == 16
    assert settings["choose_on"] == "held_out"
    own = plan.run("mine", "rte", 1).settings
    assert (own["epochs"], own["warmup"], own["choose_on"]) == (9, 0.5, "dev")


def test_a_trial_has_the_last_word():
    plan = plan_of(["equal.set"], search={"learning_rate": [0.5]})
    run = plan.run("mine@equal", "rte", 1)
    assert run.settings["learning_rate"] == RATES["equal.set"]
    assert [trial["learning_rate"] for trial in run.trials] == [RATES["equal.set"], 0.5]
    assert plan.run("mine@equal+trial=1", "rte", 101).settings["learning_rate"] == 0.5


ORIGINS = [
    "methods/mine/method.yaml: defaults",
    "methods/mine/method.yaml: per_task.rte",
    "settings.0",
    "settings.1",
    "equal.set",
    "equal.per_task.rte",
    "mine@quick",
    "mine@learning_rate=0.08",
]


def line_of(key: str, lines: list[str]) -> list[str]:
    """The setting's line: its name, its value, where it comes from."""
    return next(line for line in lines if line.startswith(f"{key} ")).split(maxsplit=2)


@pytest.mark.parametrize("last", range(1, len(PLACES) + 1))
def test_the_list_of_settings_names_the_place_that_wins(last):
    places = PLACES[:last]
    name = "mine@equal+quick" + (f"+learning_rate={RATES['name']}" if "name" in places else "")
    lines = list_settings(plan_of(places), name, "rte")
    assert line_of("learning_rate", lines) == ["learning_rate", str(RATES[places[-1]]), ORIGINS[last - 1]]


def test_the_list_of_settings_has_each_setting_once_with_its_default():
    plan = plan_of([])
    lines = list_settings(plan, "mine", "rte")
    settings = plan.run("mine", "rte", 1).settings
    assert lines[0] == "mine on rte"
    assert [line.split()[:2] for line in lines[1:]] == [[key, json.dumps(value)] for key, value in settings.items()]
    assert line_of("learning_rate", lines)[2] == "default of the training loop"
    assert line_of("layers", lines)[2] == "student_layers"
    assert line_of("layers", list_settings(plan, "predecessor", "rte"))[1:] == ["4", "backbone.layers"]


def test_the_list_of_settings_ends_with_what_a_search_tries():
    plan = load_plan(read_config(Path("config/demo.yaml")))
    trials = plan.run("theseus@equal", "qnli", 1).trials
    lines = list_settings(plan, "theseus@equal", "qnli")[-len(trials) :]
    assert len(trials) == 2
    for number, (line, trial) in enumerate(zip(lines, trials, strict=True)):
        assert line.startswith(f"trial {number} of its search: learning_rate ")
        assert f"base_rate {trial['base_rate']}" in line
    assert line_of("learning_rate", list_settings(plan, "theseus@equal+trial=1", "qnli"))[2] == "search of theseus"


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("theseus@eqal", "qnli", "method theseus has no variant 'eqal'"),
        ("thesus", "qnli", "there is no method 'thesus' (did you mean 'theseus'?)"),
        ("theseus", "qnl", "settings: there is no task 'qnl' (did you mean 'qnli'?)"),
        ("theseus", "ax", "settings: ax is predicted with the model of mnli; ask for that"),
    ],
)
def test_settings_of_what_is_not_there_end_in_one_line(name, task, message):
    with pytest.raises(UserError, match=re.escape(message)):
        list_settings(load_plan(read_config(Path("config/demo.yaml"))), name, task)


def test_the_command_takes_overrides_after_its_words(capsys):
    words = ["settings", "config/demo.yaml", "finetune@learning_rate=0.5", "rte"]
    assert run_command([*words, "--config", "student_layers=1", "suite=mine"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["layers", "1", "student_layers"] in lines
    assert ["learning_rate", "0.5", "finetune@learning_rate=0.5"] in lines
    assert run_command(words[:3]) == 1
    assert "settings: name one configuration or more, a method and a task" in capsys.readouterr().err
