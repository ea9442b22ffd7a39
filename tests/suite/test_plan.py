"""The plan: every run that a suite asks for, its settings, what it needs, and what is wrong before anything starts."""

import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from theseus_bench import commands
from theseus_bench.errors import UserError
from theseus_bench.files import write_json
from theseus_bench.strict_yaml import read_config, read_yaml
from theseus_bench.suite.config import EFFORT, LoopSettings
from theseus_bench.suite.load import load_plan, read_plan
from theseus_bench.suite.plan import source_files

SPEC = {"summary": "s", "version": 1, "role": "baseline", "citation": "none", "defaults": {}}
METHODS = {
    "elder": SPEC | {"label": "Elder", "role": "teacher", "defaults": {"learning_rate": 1e-4}},
    "plain": SPEC | {"label": "Plain", "defaults": {"learning_rate": 5e-5}},
    "pupil": SPEC
    | {
        "label": "Pupil",
        "needs": ["teacher_outputs"],
        "defaults": {"epochs": 7, "weight": 0.5, "mode": "soft"},
        "per_task": {"rte": {"epochs": 8, "weight": 0.6}},
        "variants": {"hard_only": {"mode": "hard", "weight": 0.9}, "long": {"epochs": 99}},
        "exclude": {"stsb": "needs classes"},
    },
    "heir": SPEC | {"label": "Heir", "defaults": {"start": "predecessor"}},
    "segments": SPEC | {"label": "Segments", "families": ["bert"]},
    "dwarf": SPEC | {"label": "Dwarf", "needs": ["compact_checkpoint"]},
}


def write_methods(folder, methods):
    for name, block in methods.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "method.yaml").write_text(yaml.safe_dump({"name": name} | block), encoding="utf-8")
        (folder / name / "method.py").touch()


@pytest.fixture
def root(tmp_path):
    """A project with the real tasks and six invented methods."""
    (tmp_path / "config").mkdir()
    shutil.copy("config/tasks.yaml", tmp_path / "config")
    write_methods(tmp_path / "methods", METHODS)
    return tmp_path


def values(methods=("plain",), experiment=None, **changes) -> dict:
    return {
        "suite": "small",
        "data": {"source": "demo", "rows": 16},
        "backbone": {"source": "demo", "layers": 4},
        "student_layers": 2,
        "tasks": ["rte", "stsb"],
        "seeds": [1, 2],
        "experiments": {"first": {"title": "One", "methods": list(methods)} | (experiment or {})},
    } | changes


def complaint(root, config) -> str:
    with pytest.raises(UserError) as error:
        load_plan(config, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def settings(root, method, task="rte", **changes) -> dict:
    return load_plan(values([method], **changes), root).run(method, task, 1).settings


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (values(["plian"]), "config: experiments.first.methods: there is no method 'plian' (did you mean 'plain'?)"),
        (values(["pupil@hard"]), "method pupil has no variant 'hard' (did you mean 'hard_only'?)"),
        (values(["plain@hard"]), "method plain has no variant 'hard' (known: none)"),
        (values(tasks=["rtee"]), "config: tasks: there is no task 'rtee' (did you mean 'rte'?)"),
        (values(experiment={"tasks": ["rtee"]}), "config: experiments.first.tasks: there is no task 'rtee'"),
        (values(experiment={"tasks": ["ax"]}), "ax has no training set; it is predicted with mnli's"),
        (values(experiment={"tasks": ["cola"]}), "no experiment can be made of the tasks ['rte', 'stsb'] alone"),
        (values(data={"source": "demo", "rows": 16, "samples": ["rt"]}), "config: data.samples: there is no task 'rt'"),
        (values(keep_models=["plian"]), "config: keep_models: there is no method 'plian' (did you mean 'plain'?)"),
        (values(settings=[{"set": {}}, {"set": {}, "tasks": ["rtee"]}]), "config: settings.1: there is no task 'rtee'"),
        (values(settings=[{"set": {}, "methods": ["plian"]}]), "config: settings.0: there is no method 'plian'"),
    ],
)
def test_an_unknown_name_is_shown_where_it_stands_with_what_was_meant(root, config, message):
    assert message in complaint(root, config)


def test_an_unknown_setting_of_an_override_is_named_with_its_index(root):
    overrides = [{"set": {"epochs": 2}}, {"methods": ["pupil"], "set": {"wieght": 0.1}}]
    message = complaint(root, values(["pupil"], settings=overrides))
    assert message == "config: settings.1: method pupil has no setting 'wieght' (did you mean 'weight'?)"


def test_an_override_for_all_methods_must_fit_all(root):
    assert "settings.0: method dwarf has no setting 'weight'" in complaint(
        root, values(settings=[{"set": {"weight": 1}}])
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": "much"}, "settings.0: weight: expected float like 0.5, found 'much'"),
        ({"weight": True}, "settings.0: weight: expected float like 0.5, found True"),
        ({"mode": 3}, "settings.0: mode: expected str like 'soft', found 3"),
        ({"epochs": "many"}, "settings.0: epochs: "),
        ({"learning_rate": -1}, "settings.0: learning_rate: "),
        ({"start": "halfway"}, "settings.0: start: "),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named_where_it_was_set(root, changes, message):
    assert message in complaint(root, values(["pupil"], settings=[{"methods": ["pupil"], "set": changes}]))


def test_layers_set_for_a_method_must_divide_the_backbones(root):
    text = complaint(root, values(settings=[{"methods": ["plain"], "set": {"layers": 3}}]))
    assert "method plain: layers 3 does not divide the backbone's 4 layers" in text


def test_the_last_word_on_a_setting_wins(root):
    assert settings(root, "plain")["epochs"] == 4  # the loop's default
    assert settings(root, "pupil", "cola", tasks=["cola"])["epochs"] == 7  # the method's
    assert settings(root, "pupil")["epochs"] == 8  # the method's for the task
    overrides = [{"set": {"epochs": 9}}, {"methods": ["pupil"], "set": {"epochs": 10, "weight": 1}}]
    assert settings(root, "pupil", settings=overrides)["epochs"] == 10  # the suite's, in their order
    assert settings(root, "pupil", settings=overrides[::-1])["epochs"] == 9
    assert settings(root, "plain", settings=overrides)["epochs"] == 9
    variant = settings(root, "pupil@hard_only", settings=overrides)  # the variant's
    assert (variant["epochs"], variant["weight"], variant["mode"]) == (10, 0.9, "hard")


def test_an_override_touches_only_the_tasks_it_names(root):
    overrides = [{"tasks": ["stsb"], "set": {"epochs": 9}}]
    assert [settings(root, "plain", task, settings=overrides)["epochs"] for task in ["rte", "stsb"]] == [4, 9]


def test_a_whole_number_may_stand_for_a_float(root):
    weight = settings(root, "pupil", settings=[{"methods": ["pupil"], "set": {"weight": 1}}])["weight"]
    assert (weight, type(weight)) == (1.0, float)


def test_the_predecessor_is_as_deep_as_the_backbone_and_students_are_not(root):
    assert settings(root, "elder")["layers"] == 4
    assert settings(root, "plain")["layers"] == 2


def test_layers_are_not_taken_from_the_predecessor(root):
    experiments = {"first": {"title": "One", "methods": ["elder"]}}
    text = complaint(root, values(settings=[{"set": {"layers": 2}}], experiments=experiments))
    assert "method elder: layers is 2, but the predecessor has the backbone's 4" in text


def test_a_compact_checkpoint_that_no_method_needs_is_refused(root):
    text = complaint(root, values(compact={"dwraf": {"source": "recipe"}}))
    assert "compact: no method 'dwraf' needs a compact checkpoint (did you mean 'dwarf'?)" in text


def test_a_run_that_two_experiments_share_exists_once(root):
    config = values(experiments={k: {"title": k, "methods": ["plain"]} for k in ["first", "second"]})
    plan = load_plan(config, root)
    expected = {f"runs/plain/{task}/seed-{seed}" for task in ["rte", "stsb"] for seed in [1, 2]}
    assert set(plan.runs) == expected
    assert [run.path for run in plan.experiment_runs("first")] == [run.path for run in plan.experiment_runs("second")]


@pytest.mark.parametrize("method", ["pupil", "heir"])
def test_the_predecessors_that_students_need_are_added(root, method):
    plan = load_plan(values([method], tasks=["rte"], experiment={"seeds": [5]}), root)
    assert set(plan.runs) == {f"runs/{method}/rte/seed-5", "runs/elder/rte/seed-5"}
    assert plan.teacher_of(plan.run(method, "rte", 5)).path == "runs/elder/rte/seed-5"


def test_an_excluded_task_is_left_out(root):
    plan = load_plan(values(["pupil", "plain"]), root)
    assert [(run.name, run.task.name) for run in plan.experiment_runs("first") if run.seed == 1] == [
        ("pupil", "rte"),
        ("plain", "rte"),
        ("plain", "stsb"),
    ]


def test_a_variant_has_runs_and_a_label_of_its_own(root):
    run = load_plan(values(["pupil@hard_only"]), root).experiment_runs("first")[0]
    assert (run.path, run.label) == ("runs/pupil@hard_only/rte/seed-1", "Pupil, hard only")


def test_ax_needs_mnli_and_is_predicted_but_not_trained(root):
    assert "ax is predicted with the model of mnli; add mnli" in complaint(root, values(tasks=["ax"]))
    plan = load_plan(values(tasks=["mnli", "ax"]), root)
    assert {run.task.name for run in plan.runs.values()} == {"mnli"}
    assert plan.predicted_with("mnli") == ["mnli", "ax"]
    assert "ax has no training set" in complaint(root, values(tasks=["mnli", "ax"], experiment={"tasks": ["ax"]}))


def test_a_family_that_a_method_cannot_do_is_refused(root):
    backbone = {"source": "demo", "layers": 4, "family": "roberta"}
    text = complaint(root, values(["plain", "segments"], backbone=backbone))
    assert "experiments.first.methods: segments works with bert backbones, not roberta; its README says why" in text
    assert load_plan(values(["plain"], backbone=backbone), root).runs


def test_a_compact_checkpoint_that_is_not_given_is_asked_for(root):
    assert "dwarf needs a compact checkpoint; say where from under compact.dwarf" in complaint(root, values(["dwarf"]))
    assert load_plan(values(["dwarf"], compact={"dwarf": {"source": "recipe"}}), root).runs


def fingerprint(root, method="pupil", **changes):
    plan = load_plan(values([method], **changes), root)
    return plan.fingerprint(plan.run(method, "rte", 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": [{"methods": ["pupil"], "set": {"weight": 0.7}}]},
        {"settings": [{"methods": ["elder"], "set": {"epochs": 9}}]},
        {"student_layers": 1},
        {"data": {"source": "demo", "rows": 32}},
        {"data": {"source": "demo", "rows": 16, "samples": ["rte"]}},
        {"backbone": {"source": "demo", "layers": 6}},
    ],
    ids=["own setting", "predecessor's setting", "depth", "data", "its own sample", "backbone"],
)
def test_the_fingerprint_changes_with_what_the_results_depend_on(root, changes):
    assert fingerprint(root, **changes) != fingerprint(root)


@pytest.mark.parametrize(
    ("key", "value", "matters"),
    [
        ("max_length", 64, True), ("metrics", ["matthews"], True), ("dev", ["test"], True),
        ("columns", ["sentence2", "sentence1"], True), ("labels", ["not_entailment", "entailment"], True),
        ("label", "Entailment", False), ("macro", False, False), ("server", {"test": "Other"}, False),
    ],
)  # fmt: skip
def test_the_fingerprint_changes_with_what_a_task_is_and_not_with_what_it_is_called(root, key, value, matters):
    def fingerprints() -> dict[str, str]:
        plan = load_plan(values(), root)
        return {task: plan.fingerprint(plan.run("plain", task, 1)) for task in ("rte", "stsb")}

    before = fingerprints()
    file = root / "config" / "tasks.yaml"
    tasks = yaml.safe_load(file.read_text(encoding="utf-8"))
    tasks["rte"][key] = value
    file.write_text(yaml.safe_dump(tasks, sort_keys=False), encoding="utf-8")
    after = fingerprints()
    assert (after["rte"] != before["rte"]) == matters
    assert after["stsb"] == before["stsb"], "another task is as it was"


@pytest.mark.parametrize("method", ["pupil", "elder"])
def test_the_fingerprint_changes_with_the_version(root, method):
    before = {name: fingerprint(root, name) for name in ["pupil", "heir", "plain"]}
    write_methods(root / "methods", {method: METHODS[method] | {"version": 2}})
    changes = {name for name in before if fingerprint(root, name) != before[name]}
    assert changes == ({"pupil"} if method == "pupil" else {"pupil", "heir"})


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": [{"methods": ["plain"], "set": {"epochs": 9}}]},
        {"settings": [{"tasks": ["stsb"], "set": {"epochs": 9}}]},
        {"data": {"source": "demo", "rows": 16, "samples": ["stsb"]}},
        {"data": {"source": "demo", "rows": 16, "diagnostic": "config/tasks.yaml"}},
        {"seeds": [1, 2, 3]},
        {"tasks": ["rte"]},
        {"compact": {"dwarf": {"source": "recipe"}}},
        {"threads": 2, "keep_models": ["all"]},
    ],
    ids=[
        "other method",
        "other task",
        "other sample",
        "labels of AX",
        "more seeds",
        "fewer tasks",
        "other's checkpoint",
        "how, not what",
    ],
)
def test_the_fingerprint_ignores_the_rest(root, changes):
    assert fingerprint(root, **changes) == fingerprint(root)


def test_runs_of_one_suite_have_fingerprints_of_their_own(root):
    plan = load_plan(values(["plain", "pupil", "pupil@hard_only"]), root)
    assert len({plan.fingerprint(run) for run in plan.runs.values()}) == len(plan.runs)


def test_a_local_folder_must_be_there_with_every_table(root):
    local = {"source": "local", "path": str(root / "glue")}
    config = values(data=local, tasks=["rte"])
    assert f"config: data.path: {root / 'glue'} is not a folder" in complaint(root, config)
    (root / "glue" / "rte").mkdir(parents=True)
    for split in ["train", "validation"]:
        (root / "glue" / "rte" / f"{split}.parquet").touch()
    text = complaint(root, config)
    assert f"missing {root / 'glue' / 'rte' / 'test.parquet'};" in text
    assert "train.parquet" not in text
    plan = load_plan(values(data=local | {"samples": ["rte"]}, tasks=["rte"]), root)  # a sample may lack its test split
    assert [Path(file).stem for file in source_files(plan, "rte")] == ["train", "validation"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "plane"}, "name is 'plane' but the folder is 'plain'"),
        ({"role": "teacher"}, "one method has the role teacher, but elder and plain have it"),
        ({"per_task": {"rte": {"epoch": 1}}}, "per_task.rte: method plain has no setting 'epoch'"),
        ({"variants": {"long": {"epoch": 1}}}, "variants.long: method plain has no setting 'epoch'"),
        ({"defaults": {"lr": 1.0e-5}}, "defaults: 'lr' is easily taken for the loop's 'learning_rate'"),
        ({"search": {"lr": [1.0e-5]}}, "search: method plain has no setting 'lr' (did you mean 'learning_rate'?)"),
        ({"search": {"epoch": [1]}}, "search: method plain has no setting 'epoch' (did you mean 'epochs'?)"),
        ({"per_task": {"rtee": {"epochs": 1}}}, "methods/plain/method.yaml: per_task: there is no task 'rtee'"),
        ({"exclude": {"rtee": "why"}}, "methods/plain/method.yaml: exclude: there is no task 'rtee'"),
        ({"versoin": 1}, "unknown key 'versoin' (did you mean 'version'?)"),
    ],
)
def test_a_mistake_in_a_methods_metadata_is_named(root, changes, message):
    write_methods(root / "methods", {"plain": METHODS["plain"] | changes})
    assert message in complaint(root, values())


def test_a_method_without_code_is_refused_and_a_draft_is_not_read(root):
    write_methods(root / "methods", {"_draft": {"nonsense": 1}})
    assert "_draft" not in load_plan(values(), root).specs
    (root / "methods" / "plain" / "method.py").unlink()
    assert "method.py is missing" in complaint(root, values())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"versoin": 1}, "unknown key 'versoin' (did you mean 'version'?)"),
        ({"defaults": {"lr": 1e-5}}, "defaults: 'lr' is easily taken for the loop's 'learning_rate'"),
        ({"per_task": {"rtee": {"epochs": 1}}}, "per_task: there is no task 'rtee'"),
        ({"source": {"method": "nobody", "task": "mnli"}}, "source: there is no method 'nobody'"),
        ({"source": {"method": "elder", "task": "mnli"}}, "source: 'elder' is no method that makes a compressed model"),
        ({"published": {"pdk": ["plain"]}}, "published: no table has a row 'pdk' (did you mean 'pkd'?)"),
        ({"published": {"pkd": ["pupil"]}}, "published.pkd: 'pupil' is not a run of this method"),
    ],
)
def test_a_method_that_is_not_valid_stops_the_suites_that_name_it_alone(root, changes, fault):
    write_methods(root / "methods", {"plain": METHODS["plain"] | changes})
    plan = load_plan(values(["pupil"]), root)
    assert "plain" not in plan.specs
    assert fault in plan.faults["plain"]
    assert {run.spec.name for run in plan.runs.values()} == {"elder", "pupil"}
    with pytest.raises(UserError) as refused:
        plan.run("plain", "rte", 1)
    assert fault in str(refused.value)
    for named in (
        values(["plain"]),
        values(["pupil"], settings=[{"methods": ["plain"], "set": {"epochs": 1}}]),
        values(["pupil"], keep_models=["plain"]),
        values(["pupil"], significance={"control": "plain"}),
    ):
        assert fault in complaint(root, named)


def test_an_invalid_predecessor_is_the_reason_that_no_suite_has_one(root):
    write_methods(root / "methods", {"elder": METHODS["elder"] | {"versoin": 1}})
    text = complaint(root, values())
    assert "one method has the role teacher, but none has it; left out: " in text
    assert "methods/elder/method.yaml: unknown key 'versoin' (did you mean 'version'?)" in text


@pytest.mark.parametrize("fault", [{"versoin": 1}, {"per_task": {"rtee": {"epochs": 1}}}], ids=["itself", "beside"])
def test_a_method_whose_source_is_invalid_is_left_out_and_says_why(root, fault):
    sources = {"source": {"method": "plain", "task": "mnli"}}
    write_methods(root / "methods", {"plain": METHODS["plain"] | fault, "child": METHODS["plain"] | sources})
    plan = load_plan(values(["pupil"]), root)
    assert plan.faults["child"] == f"methods/child/method.yaml: source: {plan.faults['plain']}"
    assert next(iter(fault)) in plan.faults["plain"]


def test_loading_does_not_change_the_configuration_it_is_given(root):
    config = values(["pupil@hard_only"], settings=[{"methods": ["pupil"], "set": {"weight": 0.2}}])
    before = copy.deepcopy(config)
    load_plan(config, root)
    assert config == before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nobody-of-this-name/glue", "there is no user 'nobody-of-this-name'; write the path out"),
        ("/data/{size}", "braces are patterns to Snakemake"),
    ],
)
def test_a_path_that_cannot_be_looked_up_is_named(root, path, message):
    places = {
        "data.path": {"data": {"source": "local", "path": path}},
        "data.diagnostic": {"data": {"source": "demo", "rows": 16, "diagnostic": path}},
        "backbone.name": {"backbone": {"source": "folder", "name": path, "layers": 4}},
    }
    for key, changes in places.items():
        for trust in (False, True):
            assert complaint(root, values(trust_records=trust, **changes)).startswith(
                f"config: {key}: {path}: {message}"
            )


def test_a_local_backbone_must_be_there_with_its_weights_in_one_file(root):
    folder = root / "bert"
    config = values(backbone={"source": "folder", "name": str(folder), "layers": 4})
    where = f"config: backbone.name: {folder} holds "
    assert complaint(root, config) == f"{where}no config.json; expected a transformers checkpoint"
    folder.mkdir()
    (folder / "config.json").touch()
    assert complaint(root, config) == f"{where}no safetensors weights; convert them first"
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (folder / name).touch()
    message = f"{where}model-00001-of-00002.safetensors and no model.safetensors: weights in parts or of another name"
    assert complaint(root, config).startswith(message)
    assert load_plan(config | {"trust_records": True}, root).runs
    (folder / "model.safetensors").touch()
    assert load_plan(config, root).runs


def test_a_run_whose_name_no_folder_can_have_is_refused(root):
    block = METHODS["plain"] | {"defaults": METHODS["plain"]["defaults"] | {"my_mode": "short"}}
    write_methods(root / "methods", {"plain": block})
    assert load_plan(values([f"plain@my_mode={'é' * 90}"]), root).runs
    assert "has more than 200 bytes" in complaint(root, values([f"plain@my_mode={'é' * 100}"]))


def test_a_whole_number_beyond_all_floats_is_no_setting(root):
    own = values(["pupil"], settings=[{"methods": ["pupil"], "set": {"weight": 10**400}}])
    assert "settings.0: weight: expected a finite number, found one of 401 digits" in complaint(root, own)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_setting_is_a_finite_number(root, number):
    loops = values(settings=[{"set": {"epochs": number}}])
    assert f"settings.0: epochs: Input should be a finite number, found {number}" in complaint(root, loops)
    own = values(["pupil"], settings=[{"methods": ["pupil"], "set": {"weight": number}}])
    assert f"settings.0: weight: expected a finite number, found {number}" in complaint(root, own)
    message = complaint(root, values(experiment={"vary": [{"learning_rate": number}]}))
    assert message.endswith(f"learning_rate: Input should be a finite number, found '{number}'")


@pytest.mark.parametrize("text", [b'{"suite": "small", "da', b"\xff\xfe", b"[1]", b"[" * 100_000])
def test_a_damaged_suite_file_is_named_and_says_how_it_is_made(tmp_path, text):
    (tmp_path / "suite.json").write_bytes(text)
    with pytest.raises(UserError) as error:
        read_plan(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path}/suite.json: ")
    assert message.endswith(f"; make it with: theseus-bench configure {tmp_path} YOUR_CONFIG")
    assert "\n" not in message


def test_a_suite_file_whose_seal_is_damaged_is_named(tmp_path):
    write_json(tmp_path / "suite.json", {"suite": "small"}, sealed=True)
    text = (tmp_path / "suite.json").read_text()
    (tmp_path / "suite.json").write_text(text.replace('"sha256"', '"sha25v"'))
    with pytest.raises(UserError, match=rf"^{tmp_path}/suite.json: config: "):
        read_plan(tmp_path)


def test_a_suite_that_was_not_configured_says_how(tmp_path):
    with pytest.raises(UserError, match=r"suite.json: no such file; make it with: "):
        read_plan(tmp_path)


@pytest.mark.parametrize("names", [["config"], ["demo"], ["demo", "demo-more"]], ids="+".join)
def test_the_suites_that_come_with_the_project_are_sound(names):
    plan = load_plan(read_config(*(Path(f"config/{name}.yaml") for name in names)))
    assert plan.runs
    assert all(plan.fingerprint(run) for run in plan.runs.values())


def test_the_demo_has_every_method_and_every_experiment_of_the_paper_in_miniature():
    demo = load_plan(read_config(Path("config/demo.yaml"), Path("config/demo-more.yaml")))
    paper = load_plan(read_yaml(Path("config/config.yaml")))
    assert paper.suite.experiments.keys() <= demo.suite.experiments.keys()
    assert {run.spec.name for run in demo.runs.values()} == demo.specs.keys()


def test_parsing_imports_nothing_heavy():
    code = (
        "import json, sys, theseus_bench.suite.load as p, theseus_bench.strict_yaml as c\n"
        "assert p.load_plan(c.read_yaml(p.Path('config/demo.yaml'))).runs\n"
        "print(json.dumps(sorted({'torch', 'transformers', 'pandas', 'numpy', 'datasets'} & set(sys.modules))))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(process.stdout) == []


@pytest.mark.parametrize(
    ("allowed", "value", "message"),
    [
        (["soft", "hard"], {"mode": "sfot"}, "did you mean 'soft'"),
        ({"min": 0, "max": 1}, {"weight": 1.5}, "1.5 is not at least 0 and at most 1"),
        ({"min": 0}, {"mode": "soft"}, "expected a number, as allowed.mode gives a range; found 'soft'"),
    ],
)
def test_a_methods_own_setting_has_an_allowed_value(root, allowed, value, message):
    (key,) = value
    methods = copy.deepcopy(METHODS)
    methods["pupil"]["allowed"] = {key: allowed}
    write_methods(root / "methods", methods)
    text = complaint(root, values(settings=[{"methods": ["pupil"], "set": value}], experiments=PUPIL))
    assert message in text


def test_a_default_that_is_easily_taken_for_the_loops_is_refused(root):
    methods = copy.deepcopy(METHODS)
    methods["pupil"]["defaults"]["learning_rte"] = 0.1
    write_methods(root / "methods", methods)
    assert "'learning_rte' is easily taken for the loop's 'learning_rate'" in complaint(root, values(["pupil"]))


PUPIL = {"first": {"title": "One", "methods": ["pupil"]}}


# -- experiments that vary settings, share runs and search


GRID = {"search": {"epochs": [4, 5], "learning_rate": [1e-5, 5e-5]}}


def search_values(root, methods=("plain",), experiment=None, budget=3, **changes) -> dict:
    """A suite in which `plain` and `pupil` have a grid."""
    folder = copy.deepcopy(METHODS)
    folder["plain"] |= GRID
    folder["pupil"] |= {"search": {"weight": [0.1, 0.5, 0.9]}}
    write_methods(root / "methods", folder)
    return values(methods, experiment, **{"search": {"budget": budget, "seeds": [9]}} | changes)


def names(plan, experiment="first"):
    return list(plan.experiment_names(experiment))


def test_each_compressed_model_is_varied_and_the_predecessor_is_not(root):
    experiment = {"methods": ["elder", "plain", "pupil"], "vary": [{"layers": 2}, {"layers": 1}]}
    plan = load_plan(values(experiment=experiment), root)
    assert names(plan) == ["elder", "plain", "plain@layers=1", "pupil", "pupil@layers=1"]  # 2 is the suite's depth
    assert plan.run("plain@layers=1", "rte", 1).settings["layers"] == 1
    assert plan.run("plain@layers=1", "rte", 1).label == "Plain, layers 1"


def test_a_run_asked_for_in_other_words_is_the_same_run(root):
    experiments = {
        "first": {"title": "One", "methods": ["pupil", "pupil@weight=0.5", "plain"]},
        "second": {"title": "Two", "methods": ["plain@start=pretrained", "pupil@hard_only+weight=0.9"]},
        "third": {"title": "Three", "methods": ["plain", "heir"], "vary": [{"start": "predecessor"}]},
    }
    plan = load_plan(values(experiments=experiments), root)
    # pupil's weight is 0.6 on RTE, so that 0.5 is another run, though not on every task
    assert names(plan, "first") == ["pupil", "pupil@weight=0.5", "plain"]
    assert names(plan, "second") == ["plain", "pupil@hard_only"]
    assert names(plan, "third") == ["plain@start=predecessor", "heir"]
    assert len(plan.runs) == len({run.path for run in plan.runs.values()})


def test_a_search_tries_its_settings_with_its_own_seeds_before_the_final_runs(root):
    plan = load_plan(search_values(root, ["pupil"], {"tasks": ["rte"]}), root)
    final = plan.run("pupil", "rte", 1)
    weights = [trial["weight"] for trial in final.trials]
    assert weights[0] == 0.6  # the default for RTE
    assert len({*weights} & {0.1, 0.5, 0.9}) == 2
    trials = plan.trials_of(final)
    assert [run.name for run in trials] == [f"pupil@trial={k}" for k in range(3)]
    assert {run.seed for run in trials} == {9}
    assert [run.settings["weight"] for run in trials] == weights
    # two final runs, three trials, and a predecessor for each of the three seeds
    assert sorted(plan.all_runs("first")) == sorted(
        [f"runs/pupil/rte/seed-{seed}" for seed in (1, 2)]
        + [f"runs/pupil@trial={k}/rte/seed-9" for k in range(3)]
        + [f"runs/elder/rte/seed-{seed}" for seed in (1, 2, 9)]
    )
    assert not any(plan.keeps_model(run) for run in trials)


def test_what_a_name_fixes_is_not_searched(root):
    plan = load_plan(search_values(root, ["plain", "plain@epochs=4", "plain@epochs=4+learning_rate=5e-5"]), root)
    trials = {name: plan.run(name, "rte", 1).trials for name in names(plan)}
    assert len(trials["plain"]) == 3
    assert trials["plain@epochs=4"] == ({"learning_rate": 5e-5}, {"learning_rate": 1e-5})
    assert trials["plain@epochs=4+learning_rate=5e-05"] == ()
    assert trials.keys() == {"plain", "plain@epochs=4", "plain@epochs=4+learning_rate=5e-05"}


EQUAL = {"set": {"epochs": 11}, "search": {"start": ["pretrained", "predecessor"]}}


def test_equal_effort_is_the_same_for_all_and_leaves_the_published_recipes_alone(root):
    experiment = {"protocols": ["published", "equal"], "methods": ["elder", "plain", "pupil", "heir"]}
    plan = load_plan(search_values(root, experiment=experiment, equal=EQUAL), root)
    equal = ["plain@equal", "pupil@equal", "heir@equal"]
    assert names(plan) == ["elder", "plain", "pupil", "heir", "elder@equal", *equal]
    efforts = [{key: plan.run(name, "rte", 1).settings[key] for key in EFFORT} for name in ("elder@equal", *equal)]
    loop = {key: LoopSettings.model_fields[key].default for key in EFFORT}
    assert efforts == [loop | {"epochs": 11, "choose_on": "held_out"}] * 4
    for name in equal:
        trials = plan.run(name, "rte", 1).trials
        assert {trial["start"] for trial in trials} == {"pretrained", "predecessor"}
        assert "teacher_model" in plan.run(name, "rte", 1).needs
    assert len({len(plan.run(name, "rte", 1).trials) for name in equal[:2]}) == 1
    assert plan.run("plain", "rte", 1).settings["epochs"] == 4
    assert plan.run("elder", "rte", 1).settings["epochs"] == 4
    assert plan.run("pupil", "rte", 1).settings["epochs"] == 8


def test_no_recipe_and_no_setting_of_single_methods_makes_the_effort_unequal(root):
    """Whatever a recipe or the suite gives a method, its effort under the protocol is that of all."""
    settings = [{"methods": ["pupil"], "set": {"epochs": 3, "batch_size": 8, "patience": 1, "evaluate_every": 2}}]
    equal = {"set": {"epochs": 11, "evaluations": 5}, "per_task": {"rte": {"epochs": 13, "learning_rate": 3e-4}}}
    experiment = {"protocols": ["equal"], "methods": ["elder", "plain", "pupil"]}
    plan = load_plan(search_values(root, experiment=experiment, equal=equal, settings=settings, budget=1), root)
    for task, epochs in (("rte", 13), ("stsb", 11)):
        for name in ("elder@equal", "plain@equal", *["pupil@equal"] * (task == "rte")):
            run = plan.run(name, task, 1).settings
            assert {key: run[key] for key in EFFORT} == {
                "epochs": epochs, "max_steps": None, "batch_size": 32, "evaluate_every": None, "evaluations": 5,
                "patience": None, "choose_on": "held_out",
            }  # fmt: skip
            assert (run["learning_rate"] == 3e-4) == (task == "rte")


def test_students_of_equal_effort_learn_from_its_own_predecessor(root):
    experiment = {"protocols": ["published", "equal"], "methods": ["pupil"], "tasks": ["rte"]}
    plan = load_plan(search_values(root, experiment=experiment, equal=EQUAL, budget=1), root)
    for name, teacher in (("pupil", "elder"), ("pupil@equal", "elder@equal")):
        run = plan.run(name, "rte", 2)
        assert plan.teacher_of(run).path == f"runs/{teacher}/rte/seed-2"
        assert plan.teacher_outputs_of(run) == f"teacher/{teacher}/rte/seed-2"
        assert plan.teacher_of(run).path in plan.with_dependencies([run])


def test_the_predecessor_is_searched_once_for_all_its_students(root):
    experiment = {"protocols": ["equal"], "methods": ["elder", "plain", "pupil", "heir"], "tasks": ["rte"]}
    equal = EQUAL | {"search": EQUAL["search"] | {"learning_rate": [1e-5, 2e-5]}}
    plan = load_plan(search_values(root, experiment=experiment, equal=equal, budget=2), root)
    teacher = plan.run("elder@equal", "rte", 1)
    assert [trial.keys() for trial in teacher.trials] == [{"learning_rate"}] * 2  # it starts as what it is
    assert {plan.teacher_of(run).search_file for run in plan.runs.values() if run.learns} == {teacher.search_file}
    assert {run.path for run in plan.trials_of(teacher)} <= plan.runs.keys()
    assert not any(plan.keeps_model(trial) for trial in plan.trials_of(teacher))
    assert plan.keeps_model(plan.run("elder@equal", "rte", 9))  # which the students' tries read


def test_a_suite_that_changes_a_recipe_calls_it_adapted(root):
    def labels(**changes):
        both = {"protocols": ["published", "equal"], "methods": ["elder", "plain"]}
        plan = load_plan(search_values(root, experiment=both, equal=EQUAL, budget=2, **changes), root)
        return [plan.run(name, "rte", 1).label for name in names(plan)]

    assert labels() == ["Elder", "Plain", "Elder (equal)", "Plain (equal)"]
    assert labels(settings=[{"set": {"watch_dev": True, "precision": "fp32"}}]) == labels()
    assert labels(settings=[{"methods": ["plain"], "set": {"epochs": 4}}]) == labels()  # that is its recipe
    adapted_labels = labels(settings=[{"methods": ["plain"], "tasks": ["stsb"], "set": {"epochs": 9}}])
    assert adapted_labels == ["Elder", "Plain (adapted)", "Elder (equal)", "Plain (equal)"]


def test_a_changed_grid_and_a_changed_teacher_make_adapted_rows_too(root):
    def adapted_names(budget=2, **changes):
        both = {"methods": ["elder", "plain", "pupil"], "tasks": ["rte"]}
        plan = load_plan(search_values(root, experiment=both, budget=budget, **changes), root)
        return {name for name in names(plan) if plan.run(name, "rte", 1).protocol == "adapted"}

    assert adapted_names() == set()
    assert adapted_names(search={"budget": 2, "seeds": [9], "space": {"learning_rate": [1e-3, 2e-3]}}) == {"plain"}
    assert adapted_names(settings=[{"methods": ["elder"], "set": {"epochs": 9}}]) == {
        "elder",
        "pupil",
    }  # plain has none


def test_a_source_follows_the_protocol(root):
    heir = SPEC | {"label": "Mover", "source": {"method": "plain", "task": "rte"}, "exclude": {"rte": "its source"}}
    write_methods(root / "methods", {"mover": heir})
    plan = load_plan(values(["mover"], {"protocols": ["published", "equal"]}), root)
    for name, source in (("mover", "plain"), ("mover@equal", "plain@equal")):
        assert plan.source_of(plan.run(name, "stsb", 1)).path == f"runs/{source}/rte/seed-1"


def test_where_data_lie_changes_no_fingerprint_and_how_many_are_used_does(root, tmp_path):
    def fingerprints(**data):
        plan = load_plan(values(data={"source": "demo", "rows": 16} | data), root)
        return [plan.fingerprint(plan.run("plain", task, 1)) for task in ("rte", "stsb")]

    for name in ("one", "other"):
        for task in ("rte", "stsb"):
            for split in ("train", "validation", "test"):
                (tmp_path / name / task).mkdir(parents=True, exist_ok=True)
                (tmp_path / name / task / f"{split}.parquet").touch()
    local = [fingerprints(source="local", path=str(tmp_path / name)) for name in ("one", "other")]
    assert local[0] == local[1] != fingerprints()
    fewer = fingerprints(max_train={"rte": 20})
    assert fewer[0] != fingerprints()[0]
    assert fewer[1] == fingerprints()[1]


def test_a_part_of_the_training_set_is_called_a_sample(root):
    plan = load_plan(values(data={"source": "demo", "rows": 16, "max_train": {"rte": 20, "stsb": 9999}}), root)
    assert (plan.is_sample("rte"), plan.is_sample("stsb")) == (True, False)
    assert "data.max_train: there is no task 'rt'" in complaint(
        root, values(data={"source": "demo", "rows": 16, "max_train": {"rt": 20}})
    )


def test_a_varied_start_is_searched_for_each_start_apart(root):
    experiment = {
        "protocols": ["equal"],
        "methods": ["heir"],
        "vary": [{"start": "pretrained"}, {"start": "predecessor"}],
    }
    plan = load_plan(
        search_values(root, experiment=experiment, equal=EQUAL | {"search": EQUAL["search"] | {"warmup": [0.0, 0.2]}}),
        root,
    )
    assert names(plan) == ["heir@equal+start=pretrained", "heir@equal+start=predecessor"]
    assert [plan.run(name, "rte", 1).settings["start"] for name in names(plan)] == ["pretrained", "predecessor"]
    assert all("start" not in trial for name in names(plan) for trial in plan.run(name, "rte", 1).trials)


def test_what_equal_effort_sets_no_method_searches(root):
    experiment = {"protocols": ["published", "equal"], "methods": ["plain"]}
    plan = load_plan(search_values(root, experiment=experiment, equal=EQUAL, budget=99), root)
    assert {trial["epochs"] for trial in plan.run("plain", "rte", 1).trials} == {4, 5}
    assert {key for trial in plan.run("plain@equal", "rte", 1).trials for key in trial} == {"learning_rate", "start"}


def test_equal_effort_may_offer_other_values_of_a_methods_own_settings(root):
    experiment = {"protocols": ["published", "equal"], "methods": ["pupil"]}
    plan = load_plan(
        search_values(root, experiment=experiment, equal=EQUAL | {"space": {"weight": [0.3]}}, budget=9), root
    )
    assert {trial["weight"] for trial in plan.run("pupil", "rte", 1).trials[1:]} == {0.1, 0.5, 0.9}
    assert {trial["weight"] for trial in plan.run("pupil@equal", "rte", 1).trials[1:]} <= {0.3, 0.6}


def test_a_compact_checkpoint_is_offered_no_other_start(root):
    experiment = {"protocols": ["equal"], "methods": ["dwarf"]}
    compact = {"dwarf": {"source": "recipe"}}
    plan = load_plan(search_values(root, experiment=experiment, equal=EQUAL, compact=compact), root)
    assert plan.run("dwarf@equal", "rte", 1).trials == ()


def test_the_budget_may_differ_by_protocol(root):
    experiment = {"protocols": ["published", "equal"], "methods": ["plain"]}
    plan = load_plan(search_values(root, experiment=experiment, budget={"equal": 4}, equal=EQUAL), root)
    assert [len(plan.run(name, "rte", 1).trials) for name in names(plan)] == [0, 4]


def test_the_suites_own_values_take_the_place_of_a_methods(root):
    search = {"budget": 9, "seeds": [9], "space": {"epochs": [7]}}
    plan = load_plan(search_values(root, search=search), root)
    assert {trial["epochs"] for trial in plan.run("plain", "rte", 1).trials[1:]} == {7}


def test_a_searched_runs_fingerprint_follows_what_was_searched_and_not_what_was_chosen(root):
    def fingerprint_of(**changes):
        plan = load_plan(search_values(root, **changes), root)
        return plan.fingerprint(plan.run("plain", "rte", 1))

    assert fingerprint_of() == fingerprint_of()
    assert (
        len(
            {
                fingerprint_of(),
                fingerprint_of(budget=2),
                fingerprint_of(search={"budget": 3, "seeds": [8]}),
                fingerprint_of(budget=1),
            }
        )
        == 4
    )
    run = load_plan(search_values(root), root).run("plain", "rte", 1)
    choice = replace(run, settings=run.settings | run.trials[2])
    assert choice.settings != run.settings
    assert load_plan(search_values(root), root).fingerprint(choice) == fingerprint_of()


def test_a_method_that_starts_from_anothers_model_brings_that_run_along(root):
    heir = SPEC | {"label": "Mover", "source": {"method": "plain", "task": "rte"}, "exclude": {"rte": "its source"}}
    write_methods(root / "methods", {"mover": heir})
    plan = load_plan(values(["mover"]), root)
    assert list(plan.all_runs("first")) == [
        "runs/mover/stsb/seed-1", "runs/plain/rte/seed-1", "runs/mover/stsb/seed-2", "runs/plain/rte/seed-2",
    ]  # fmt: skip
    assert plan.keeps_model(plan.run("plain", "rte", 1))
    assert not plan.keeps_model(plan.run("plain", "stsb", 1))
    before = plan.fingerprint(plan.run("mover", "stsb", 1))
    other = load_plan(values(["mover"], settings=[{"methods": ["plain"], "set": {"epochs": 9}}]), root)
    assert other.fingerprint(other.run("mover", "stsb", 1)) != before
    assert "no experiment can be made" in complaint(root, values(["mover"], tasks=["stsb"]))


def test_a_suite_cut_to_some_tasks_keeps_what_can_be_made_of_them(root):
    experiments = {
        "both": {"title": "Both", "methods": ["plain"]},
        "some": {"title": "Some", "methods": ["plain"], "tasks": ["stsb", "rte"]},
        "others": {"title": "Others", "methods": ["plain"], "tasks": ["stsb"]},
    }
    plan = load_plan(values(experiments=experiments, tasks=["rte"]), root)
    assert list(plan.suite.experiments) == ["both", "some"]
    assert {run.task.name for run in plan.experiment_runs("some")} == {"rte"}


def test_a_name_does_not_depend_on_the_suites_tasks(root):
    """pupil's weight is 0.6 on RTE alone, so that it is said even where RTE is the only task."""
    run_names = [
        names(load_plan(values(["pupil@weight=0.6"], tasks=tasks), root)) for tasks in (["rte"], ["rte", "cola"])
    ]
    assert run_names == [["pupil@weight=0.6"]] * 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vary": [{"layer": 1}]}, "experiments.first: plain: method plain has no setting 'layer'"),
        ({"methods": ["plain@layers=3"]}, "layers 3 does not divide the backbone's 4 layers"),
        ({"methods": ["plain@layers="]}, "'layers=': expected SETTING=VALUE"),
        ({"methods": ["plain@layers=2"], "vary": [{"layers": 1}]}, "plain@layers=2: layers is set twice"),
        ({"methods": ["plain@layers=2+layers=1"]}, "layers is set twice"),
        ({"methods": ["plain@equal"]}, "equal is not for a method's name; see protocols"),
        ({"methods": ["plain@trial=1"]}, "trial=1 is not for a method's name"),
        ({"compare_with": ["theseus: Table 9"]}, "no table 'theseus: Table 9' is published"),
        ({"control": "pupil"}, "experiments.first.control: 'pupil' is none of the experiment's runs"),
        ({"protocols": ["fair"]}, "experiments.first.protocols.0: "),
        ({"protocols": ["equal"], "vary": [{"epochs": 2}]}, "epochs is part of the effort, which under protocol equal"),
        ({"protocols": ["equal"], "methods": ["plain@batch_size=8"]}, "batch_size is part of the effort"),
        ({"protocols": ["equal"], "methods": ["pupil@long"], "tasks": ["rte"]}, "epochs is part of the effort"),
    ],
)
def test_a_mistake_in_an_experiment_is_named_where_it_stands(root, config, message):
    assert message in complaint(root, values(experiment=config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"budget": 2, "seeds": [2]}}, "search.seeds: 2 is a seed of final runs too"),
        ({"search": {"budget": 0}}, "search.budget"),
        (
            {"search": {"space": {"wieght": [1]}}},
            "search.space: no method has a setting 'wieght' (did you mean 'weight'?)",
        ),
        ({"search": {"space": {"weight": []}}}, "search.space.weight offers nothing"),
        ({"search": {"space": {"weight": [1, 2, 1]}}}, "search.space.weight offers a value twice"),
        ({"equal": {"space": {"wieght": [1]}}}, "equal.space: no method has a setting 'wieght'"),
        (
            {"keep_models": ["pupil@hard"]},
            "keep_models: pupil@hard: there is no variant 'hard' (did you mean 'hard_only'?)",
        ),
        ({"equal": {"set": {"weight": 0.1}}}, "equal.set: 'weight' is no setting of the training loop"),
        ({"equal": {"set": {"patience": 3}}}, "equal.set: patience: under equal effort nothing stops early; drop it"),
        ({"equal": {"per_task": {"rte": {"choose_on": "dev"}}}}, "equal.per_task.rte: choose_on: under equal effort"),
        ({"equal": {"per_task": {"rt": {}}}}, "equal.per_task: there is no task 'rt'"),
        ({"settings": [{"set": {"choose_on": "held_out"}}]}, "settings.0: choose_on is the protocol's"),
        ({"equal": {"search": {"epochs": [1, 2]}}}, "equal.search: epochs is part of the effort, the same for all"),
        ({"equal": {"search": {"weight": [0.1]}}}, "equal.search: 'weight' is no setting of the training loop"),
        (
            {"significance": {"control": "plane"}},
            "significance.control: there is no method 'plane' (did you mean 'plain'?)",
        ),
        (
            {"data": {"source": "demo", "rows": 16, "diagnostic": "nowhere.tsv"}},
            "data.diagnostic: nowhere.tsv: no such file",
        ),
        ({"verdicts": {"tolerance_by_task": {"rtee": 1}}}, "verdicts.tolerance_by_task: there is no task 'rtee'"),
    ],
)
def test_a_mistake_in_the_search_is_named_where_it_stands(root, changes, message):
    assert message in complaint(root, values(**changes))


def test_models_are_kept_by_name(root):
    def kept_names(*names):
        plan = load_plan(search_values(root, ["plain", "plain@layers=1"], keep_models=list(names)), root)
        return {run.name for run in plan.runs.values() if plan.keeps_model(run)}

    assert kept_names() == set()
    assert kept_names("plain") == {"plain"}
    assert kept_names("plain@layers=1") == {"plain@layers=1"}
    assert kept_names("plain@layers=2") == {"plain"}  # 2 is the suite's depth
    assert kept_names("all") == {"plain", "plain@layers=1"}  # no trial's


def test_fetch_says_that_a_local_suite_has_its_data_already(tmp_path, capsys):
    glue, output = tmp_path / "glue", tmp_path / "out"
    (glue / "rte").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        (glue / "rte" / f"{split}.parquet").touch()
    suite = values(["majority"], data={"source": "local", "path": str(glue)}, tasks=["rte"])
    write_json(tmp_path / "suite.json", suite)
    assert commands.run(["fetch", str(tmp_path), "rte", str(output)]) == 1
    message = f"theseus-bench: fetch: the suite's data is in {glue}; encode reads it from there\n"
    assert capsys.readouterr().err == message
    assert not output.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("score", "{suite}", "glue_dv"), "{suite}: the suite has no experiment 'glue_dv' (did you mean 'glue_dev'?)"),
        (("fetch", "{suite}", "rtee", "{suite}/out"), "fetch: there is no task 'rtee' (did you mean 'rte'?)"),
        (("encode", "{suite}", "rtee"), "encode: there is no task 'rtee' (did you mean 'rte'?)"),
        (
            ("compact", "{suite}", "distill"),
            "{suite}: 'distill' has no compact checkpoint (did you mean 'distilbert'?)",
        ),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_what_a_command_is_asked_for_and_a_suite_does_not_have_is_named(tmp_path, capsys, words, message):
    write_json(tmp_path / "suite.json", read_yaml(Path("config/demo.yaml")))
    assert commands.run([word.format(suite=tmp_path) for word in words]) == 1
    assert capsys.readouterr().err == f"theseus-bench: {message.format(suite=tmp_path)}\n"
