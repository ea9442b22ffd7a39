"""The whole workflow in miniature, through Snakemake, in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest
import yaml
from copies import copy_project
from crates import runs_of_cell

TASKS = ["rte", "stsb", "mnli"]
METHODS = ["majority", "predecessor", "finetune", "vanilla_kd", "pkd", "distilbert", "theseus"]
EXPERIMENTS = {
    "glue_dev": {"title": "All methods", "methods": METHODS, "compare_with": ["theseus: Table 2"], "submission": True},
    "equal": {
        "title": "Equal effort",
        "methods": ["predecessor", "finetune"],
        "protocols": ["equal"],
        "tasks": ["rte"],
    },
    "transfer": {"title": "Transfer", "methods": ["theseus", "theseus_transfer"], "tasks": ["rte", "mnli"]},
}


def snakemake(project: Path, *arguments: str, preload: bool = False) -> subprocess.CompletedProcess:
    command = ["theseus-bench", "with-preload"] if preload else []
    command += ["snakemake", "--cores", "2", "--configfile", "config/mini.yaml", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def plan_jobs(project: Path, *arguments: str) -> set[str]:
    """What a dry run would do: 'train finetune rte 1' for each run to train, the rule's name for any other job."""
    run = snakemake(project, "--dry-run", *arguments)
    output = run.stdout + run.stderr
    jobs = set(re.findall(r"^(\w+) +\d+$", output, re.MULTILINE)) - {"total", "train", "train_teacher"}
    for rule, body in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", output, re.MULTILINE):
        words = re.search(r"wildcards: (.*)", body)
        values = re.findall(r"=([^,\n]+)", words.group(1)) if words else []
        jobs.add(" ".join(["train", *values]) if rule.startswith("train") else rule)
    return jobs


def edit_config(project: Path, change) -> None:
    file = project / "config" / "mini.yaml"
    config = yaml.safe_load(file.read_text())
    change(config)
    file.write_text(yaml.safe_dump(config))


def scores_of(project: Path, experiment: str, suite: str = "results/mini") -> pd.DataFrame:
    """An experiment's table by method, without the published numbers."""
    table = pd.read_csv(project / f"{suite}/tables/{experiment}.csv")
    return table[~table["role"].isin(["printed", "difference"])].set_index("method")


@pytest.fixture(scope="module")
def complete_project(tmp_path_factory) -> Path:
    """A copy of the project with a small demo suite, run once."""
    project = tmp_path_factory.mktemp("project")
    copy_project(project)
    shutil.copyfile(project / "config" / "demo.yaml", project / "config" / "mini.yaml")

    def shrink(config):
        config.update(suite="mini", tasks=[*TASKS, "ax"], seeds=[1, 2])
        config["data"]["rows"] = 64
        config["backbone"]["steps"] = 20
        config["compact"] = {"distilbert": config["compact"]["distilbert"] | {"steps": 5}}
        config["settings"] = [{"set": {"epochs": 1.0}}]
        config["equal"]["set"] = {"epochs": 1.0}
        config["search"]["budget"] = {"equal": 2}
        config["speed"]["repetitions"] = 3
        config["keep_models"] = ["finetune"]
        config["experiments"] = EXPERIMENTS

    edit_config(project, shrink)
    run = snakemake(project, preload=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return project


@pytest.fixture
def project(complete_project, tmp_path) -> Path:
    """A copy of the built suite that a test may change."""
    shutil.copytree(complete_project, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def test_the_suite_is_complete(complete_project):
    scores = pd.read_parquet(complete_project / "results/mini/scores/glue_dev.parquet")
    dev = scores[scores["metric"] == "score"]
    assert {tuple(row) for row in dev[["method", "task", "seed"]].to_numpy()} == {
        (method, task, seed) for method in METHODS for task in TASKS for seed in (1, 2)
    }
    table = scores_of(complete_project, "glue_dev")
    assert list(table.index) == METHODS
    rte = dev[(dev["method"] == "finetune") & (dev["task"] == "rte")]["value"]
    assert table.loc["finetune", "rte"] == pytest.approx(rte.mean(), abs=0.051)
    assert "Theseus" in (complete_project / "results/mini/report/index.html").read_text()


def test_every_experiment_has_its_tests_figures_and_provenance(complete_project):
    suite = complete_project / "results/mini"
    tests = json.loads((suite / "significance/glue_dev.json").read_text())
    assert {(row["name"], row["other"]) for row in tests["differences"]} >= {("theseus", "pkd"), ("pkd", "finetune")}
    figures = {entry["name"] for entry in json.loads((suite / "figures/glue_dev/pictures.json").read_text())}
    assert {"score_against_speed", "retention", "curves"} <= figures
    assert "differences" not in figures, "two seeds are too few for a test"
    costs = pd.read_csv(suite / "tables/glue_dev_costs.csv").set_index("method")
    assert (costs.loc[["finetune", "theseus"], "training_flops"] > 0).all()
    behaviour = pd.read_csv(suite / "tables/glue_dev_behaviour.csv")
    assert {"label_loyalty", "ece", "seed_agreement"} <= set(behaviour["measure"])
    crate = json.loads((suite / "ro-crate-metadata.json").read_text())
    cell = runs_of_cell(crate, "glue_dev", "theseus", "", "rte")
    assert len(cell) == 2
    assert {path.name for path in (suite / "report").glob("[!.]*")} == {"index.html", "report.md", "report.pdf"}


def test_snakemakes_own_report_builds(complete_project):
    process = snakemake(complete_project, "--report", "report.zip")
    assert process.returncode == 0, process.stderr[-2000:]
    names = ZipFile(complete_project / "report.zip").namelist()
    assert any(name.endswith("index.html") for name in names)


def test_ax_is_predicted_with_the_model_of_mnli(complete_project):
    predictions = pd.read_parquet(complete_project / "results/mini/runs/theseus/mnli/seed-1/predictions.parquet")
    ax = predictions[predictions["split"] == "ax/test"]
    assert len(ax) == len(pd.read_parquet(complete_project / "results/mini/source/ax/test.parquet"))
    assert (ax["label"] == -1).all()
    assert {len(logits) for logits in ax["logits"]} == {3}


def test_models_are_kept_as_asked(complete_project):
    models = {
        path.relative_to(complete_project / "results/mini/runs").parts[0]
        for path in complete_project.glob("results/mini/runs/**/model")
    }
    # Theseus's on MNLI alone, since another run starts from it
    assert models == {"predecessor", "predecessor@equal", "finetune", "theseus"}
    assert [path.parent.parent.name for path in complete_project.glob("results/mini/runs/theseus/*/*/model")] == [
        "mnli"
    ] * 2
    card = (complete_project / "results/mini/runs/finetune/rte/seed-1/model/README.md").read_text()
    assert "# Fine-tuning (adapted) on RTE, seed 1" in card


def test_a_search_is_over_before_the_final_seeds_are_trained_with_its_choice(complete_project):
    suite = complete_project / "results/mini"
    choice = json.loads((suite / "search/finetune@equal/rte.json").read_text())
    assert len(choice["trials"]) == 2
    assert {path.name for path in suite.glob("runs/finetune@equal+trial=*/rte/*")} == {"seed-101"}
    for seed in (1, 2):
        record = json.loads((suite / f"runs/finetune@equal/rte/seed-{seed}/run.json").read_text())
        assert record["trial"] == choice["chosen"]["trial"]
        assert record["settings"] == choice["chosen"]["settings"]
    scores = pd.read_parquet(suite / "scores/equal.parquet")
    assert set(scores[scores["variant"] == "equal"]["seed"]) == {1, 2}
    table = pd.read_csv(suite / "tables/equal_search.csv").set_index("method")
    assert table.loc["finetune", "seconds"] == pytest.approx(choice["device_seconds"])
    assert list(pd.read_csv(suite / "tables/equal_trials.csv")["method"]) == ["predecessor"] * 2 + ["finetune"] * 2
    assert "settings that the searches chose" in (suite / "report/index.html").read_text()
    assert scores_of(complete_project, "equal").loc["predecessor", "speedup"] == pytest.approx(
        1
    )  # of its own protocol too


def test_an_experiment_brings_its_verdicts_and_its_files_for_the_server(complete_project):
    suite = complete_project / "results/mini"
    verdicts = pd.read_csv(suite / "tables/glue_dev_verdicts.csv")
    assert set(verdicts["verdict"]) == {"not comparable"}
    assert set(verdicts[verdicts["method"] == "theseus"]["task"]) == {"MNLI", "RTE", "STS-B"}
    submissions = json.loads((suite / "submissions/glue_dev/submissions.json").read_text())
    assert submissions["theseus.zip"]["runs"]["AX.tsv"].startswith("runs/theseus/mnli/seed-")
    assert (suite / "submissions/glue_dev/theseus.zip").is_file()


def test_a_model_is_carried_from_one_task_to_another(complete_project):
    scores = pd.read_parquet(complete_project / "results/mini/scores/transfer.parquet")
    assert set(scores[scores["method"] == "theseus_transfer"]["task"]) == {"rte"}
    records = [
        json.loads((complete_project / f"results/mini/runs/{run}/seed-1/run.json").read_text())
        for run in ("theseus_transfer/rte", "theseus/mnli")
    ]
    assert records[0]["source"] == records[1]["fingerprint"]


def test_a_second_run_does_nothing(complete_project):
    again = snakemake(complete_project)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


# what every new run is followed by
AFTER = {
    "score",
    "speed",
    "significance",
    "score_tables",
    "verdict_tables",
    "description_tables",
    "experiment_figures",
    "select_settings",
    "search_tables",
    "submissions",
}
AFTER |= {"suite_report", "ro_crate", "all"}


def test_an_added_method_adds_only_its_own_jobs(project):
    subprocess.run(["theseus-bench", "new-method", "mine"], cwd=project, check=True, capture_output=True)
    edit_config(project, lambda config: config["experiments"]["glue_dev"]["methods"].append("mine"))
    runs = {f"train mine {task} {seed}" for task in TASKS for seed in (1, 2)}
    assert plan_jobs(project) - AFTER == runs


def test_an_edited_method_reruns_only_its_own(project):
    file = project / "methods" / "finetune" / "method.py"
    file.write_text(file.read_text() + "\nEDITED = True\n")
    runs = {f"train finetune {task} {seed}" for task in TASKS for seed in (1, 2)}
    equal = {f"train finetune@equal+trial={trial} rte 101" for trial in (0, 1)}
    equal |= {f"train finetune@equal rte {seed}" for seed in (1, 2)}
    assert plan_jobs(project) - AFTER == runs | equal


def test_a_comment_in_a_method_reruns_nothing(project):
    for name in ("predecessor", "finetune"):
        file = project / "methods" / name / "method.py"
        file.write_text(f'"""A docstring."""\n# A comment.\n\n\n{file.read_text()}')
    assert plan_jobs(project) == {"ro_crate", "all"}, "the crate has a checksum of the file"


def test_an_edited_method_is_noticed_where_snakemakes_notes_are_lost(project):
    file = project / "methods" / "finetune" / "method.py"
    text = file.read_text()
    file.write_text(f"# A comment.\n{text}")
    shutil.rmtree(project / ".snakemake")
    assert "train finetune rte 1" not in plan_jobs(project)
    file.write_text(f"{text}\nEDITED = True\n")
    assert "train finetune rte 1" in plan_jobs(project)


def test_a_method_that_is_no_python_is_one_line(project):
    (project / "methods" / "pkd" / "method.py").write_text("weight = (\n")
    run = snakemake(project, "--dry-run")
    assert run.returncode == 1
    assert "theseus-bench: methods/pkd/method.py, line 1: '(' was never closed" in run.stderr.splitlines()
    assert "Traceback" not in run.stderr


def test_a_raised_version_reruns_only_its_method(project):
    file = project / "methods" / "pkd" / "method.yaml"
    file.write_text(file.read_text().replace("version: 1", "version: 2"))
    assert plan_jobs(project) - AFTER == {f"train pkd {task} {seed}" for task in TASKS for seed in (1, 2)}


def test_a_raised_version_of_the_loop_trains_and_pretrains_all_again(project, monkeypatch):
    shutil.copytree("workflow/theseus_bench", project / "workflow" / "theseus_bench")
    file = project / "workflow" / "theseus_bench" / "suite" / "plan.py"
    file.write_text(re.sub(r"^LOOP_VERSION = \d+", "LOOP_VERSION = 1000", file.read_text(), flags=re.MULTILINE))
    monkeypatch.setenv("PYTHONPATH", str(project / "workflow"))
    runs = {f"train {method} {task} {seed}" for method in ("finetune", "theseus") for task in TASKS for seed in (1, 2)}
    assert {"backbone", "compact"} | runs <= plan_jobs(project)


def test_another_number_of_training_examples_encodes_that_task_again(project):
    edit_config(project, lambda config: config["data"].update(max_train={"stsb": 40}))
    jobs = plan_jobs(project)
    assert "encode" in jobs
    assert "fetch" not in jobs
    runs = {job for job in jobs if job.startswith("train")}
    assert {f"train finetune stsb {seed}" for seed in (1, 2)} <= runs
    assert "train finetune mnli 1" not in runs


def test_what_says_nothing_of_a_tasks_tokens_encodes_nothing_again(project):
    file = project / "config" / "tasks.yaml"
    tasks = yaml.safe_load(file.read_text())
    for task in tasks.values():
        task |= {"label": "Another", "mean_length": 99, "macro": False}
    file.write_text(yaml.safe_dump(tasks, sort_keys=False))
    assert not {job for job in plan_jobs(project) if job.startswith("train") or job in ("fetch", "encode")}


def test_an_added_seed_trains_only_that_seed(project):
    edit_config(project, lambda config: config["seeds"].append(3))
    runs = {job for job in plan_jobs(project) if job.startswith("train")}
    expected = {f"train {method} {task} 3" for method in METHODS for task in TASKS}
    expected |= {"train predecessor@equal rte 3", "train finetune@equal rte 3", "train theseus_transfer rte 3"}
    assert runs == expected


def test_with_trusted_records_what_they_were_made_of_may_be_gone(project):
    suite = project / "results/mini"
    folders = [suite / name for name in ("data", "source", "backbone", "compact", "teacher")]
    for folder in [*folders, *suite.glob("runs/**/model")]:
        shutil.rmtree(folder)
    edit_config(project, lambda config: config.update(trust_records=True))
    rules = {"fetch", "encode", "backbone", "compact", "teacher_outputs", "speed"}
    for notes in ("kept", "gone"):
        if notes == "gone":
            shutil.rmtree(project / ".snakemake")
        jobs = plan_jobs(project)
        assert not {job for job in jobs if job.startswith("train")} | (jobs & rules), notes
    configure = ["theseus-bench", "configure", "results/mini", "config/mini.yaml"]
    subprocess.run(configure, cwd=project, check=True)
    status = subprocess.run(["theseus-bench", "status", "results/mini"], cwd=project, capture_output=True, text=True)
    assert "0 missing" in status.stdout.splitlines()[-1].split(", ")

    # A new run brings along what it reads, and no more: the model of its own predecessor is made again.
    (suite / "runs/vanilla_kd/rte/seed-1/run.json").unlink()
    jobs = plan_jobs(project)
    assert {job for job in jobs if job.startswith("train")} == {"train vanilla_kd rte 1", "train predecessor rte 1"}
    assert jobs & rules == {"fetch", "encode", "backbone", "teacher_outputs"}


def test_the_default_configuration_takes_overrides(project):
    run = subprocess.run(
        ["snakemake", "--cores", "1", "--dry-run", "--config", "suite=mine", "seeds=[7]", "tasks=[rte]"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert "results/mine/runs/theseus/rte/seed-7/run.json" in run.stdout + run.stderr


def test_an_edited_title_makes_tables_and_report_again_and_nothing_else(project):
    edit_config(project, lambda config: config["experiments"]["glue_dev"].update(title="Another title"))
    rules = {
        "score_tables",
        "verdict_tables",
        "search_tables",
        "description_tables",
        "experiment_figures",
        "suite_report",
        "ro_crate",
        "all",
    }
    assert plan_jobs(project) == rules, "no run, no score and no test again"


def made_again(project: Path, *arguments: str) -> set[str]:
    """The jobs of experiments that a dry run would do, each as 'rule experiment'."""
    run = snakemake(project, "--dry-run", *arguments)
    output = run.stdout + run.stderr
    jobs = re.findall(r"^Job \d+: (\w+) (\w+), from the records", output, re.MULTILINE)  # a rule with a message
    for rule, body in re.findall(r"^rule (\w+):\n((?: {4}.*\n)+)", output, re.MULTILINE):
        jobs += [(rule, name) for name in re.findall(r"wildcards: experiment=(\w+)", body)]
    return {" ".join(job) for job in jobs}


def significance_jobs(*experiments: str) -> set[str]:
    """What is made when the differences of these experiments are tested again; one is beside printed numbers."""
    jobs = {f"{rule} {name}" for rule in ("significance", "score_tables", "experiment_figures") for name in experiments}
    return jobs | {"verdict_tables glue_dev"} & {f"verdict_tables {name}" for name in experiments}


@pytest.mark.parametrize(
    ("change", "experiments"),
    [
        (
            lambda config: config["experiments"]["equal"].update(control="predecessor"),
            ["equal", "glue_dev", "transfer"],
        ),
        (lambda config: config["experiments"]["glue_dev"].update(control="theseus"), ["glue_dev", "transfer"]),
        (
            lambda config: config["experiments"]["glue_dev"].update(compare_with=["theseus: Table 7"]),
            ["glue_dev", "transfer"],
        ),
        (lambda config: config["experiments"]["transfer"].update(control="theseus"), ["transfer"]),
        (lambda config: config.update(significance={"alpha": 0.01}), ["equal", "glue_dev", "transfer"]),
        (lambda config: config.update(significance={"control": "pkd"}), ["equal", "glue_dev", "transfer"]),
    ],
    ids=["the first's control", "a control", "what it is compared with", "the last's control", "alpha", "the suite's"],
)
def test_another_rule_of_testing_tests_again_what_it_is_of_and_what_follows_in_later_experiments(
    project, change, experiments
):
    """A difference is tested in the first experiment that has it, so the later ones depend on the earlier; the file
    has them in the order of their names."""
    edit_config(project, change)
    jobs = made_again(project)
    assert {job for job in jobs if job.startswith("significance ")} == {f"significance {name}" for name in experiments}
    assert significance_jobs(*experiments) <= jobs
    assert not {job for job in jobs if job.startswith("score ")}


def test_what_counts_in_the_macro_is_part_of_the_tests(project):
    file = project / "config" / "tasks.yaml"
    tasks = yaml.safe_load(file.read_text())
    tasks["rte"]["macro"] = False
    file.write_text(yaml.safe_dump(tasks, sort_keys=False))
    assert significance_jobs("equal", "glue_dev", "transfer") <= made_again(project)


def test_speed_is_measured_on_all_cores_so_that_nothing_runs_beside_it(project):
    run = snakemake(project, "--dry-run", "--printshellcmds", "--forcerun", "speed")
    output = run.stdout + run.stderr
    commands = re.findall(r"OMP_NUM_THREADS=(\d+) theseus-bench speed", output)
    assert commands == ["2"] * len(EXPERIMENTS), "as many as --cores"
    jobs = re.findall(r"^rule speed:\n((?: {4}.*\n)+)", output, re.MULTILINE)
    assert [re.search(r"threads: (\d+)", job).group(1) for job in jobs] == ["2"] * len(EXPERIMENTS)


@pytest.mark.parametrize(("users", "expected"), [(None, "glibc.malloc.hugetlb=1"), ("glibc.rtld.nns=4",) * 2])
def test_jobs_ask_for_large_pages_unless_the_user_has_a_say_in_it(project, tmp_path, monkeypatch, users, expected):
    (project / "results/mini/runs/finetune/rte/seed-1/run.json").unlink()
    command, seen = tmp_path / "bin" / "theseus-bench", tmp_path / "seen"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$GLIBC_TUNABLES" >> {seen}\nexit 1\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if users:
        monkeypatch.setenv("GLIBC_TUNABLES", users)
    snakemake(project)
    assert set(seen.read_text().split()) == {expected}


def test_an_experiment_needs_no_predecessor_of_its_own(project):
    alone = {"glue_dev": EXPERIMENTS["glue_dev"] | {"methods": ["majority", "finetune"]}}
    edit_config(project, lambda config: config.update(experiments=alone))
    run = snakemake(project)
    assert run.returncode == 0, run.stderr[-2000:]
    speed = json.loads((project / "results/mini/speed/glue_dev.json").read_text())
    assert {shape["layers"] for shape in speed["shapes"]} == {2, 4}, "the predecessor's is measured beside it"
    table = scores_of(project, "glue_dev")
    assert table.loc["finetune", "speedup"] == pytest.approx(speed["methods"]["finetune"]["speedup"])


def test_a_failed_run_is_a_gap_with_its_reason_and_stops_no_other(project):
    file = project / "methods" / "finetune" / "method.py"
    file.write_text(
        file.read_text().replace("return task_loss", "raise ValueError('out of paper')\n        return task_loss")
    )
    run = snakemake(project, preload=True)
    assert run.returncode != 0
    report = (project / "results/mini/partial/report/index.html").read_text()
    assert "crashed: methods/finetune/method.py, line 9: ValueError: out of paper" in report
    tables = [
        {file.name for file in (project / "results/mini" / part).glob("[!.]*")} for part in ("tables", "partial/tables")
    ]
    assert tables[0] <= tables[1], "all that a complete suite has"
    table = scores_of(project, "glue_dev", "results/mini/partial")
    assert pd.isna(table.loc["finetune", "rte"])
    assert not pd.isna(table.loc["pkd", "rte"])


def test_verify_demands_completeness(project):
    (project / "results/mini/runs/pkd/rte/seed-1/run.json").unlink()
    strict = subprocess.run(
        ["theseus-bench", "status", "--strict", "results/mini"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert strict.returncode == 1
    assert "missing  runs/pkd/rte/seed-1" in strict.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(seed=[1]), "unknown key 'seed' (did you mean"),
        (lambda c: c.update(student_layers=3), "does not divide the backbone's 4 layers"),
        (lambda c: c["experiments"]["glue_dev"]["methods"].append("thesius"), "did you mean 'theseus'"),
        (lambda c: c["data"].update(source="local", path="nowhere"), "nowhere is not a folder"),
    ],
)
def test_a_bad_configuration_is_one_line_before_any_work(project, change, message):
    shutil.rmtree(project / "results/mini")
    edit_config(project, change)
    run = snakemake(project)
    lines = [line for line in run.stderr.splitlines() if line.startswith("theseus-bench: ")]
    assert run.returncode != 0
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in run.stderr
    assert not (project / "results/mini").exists()


def declared_jobs(project: Path) -> list[tuple[str, str, str, str]]:
    """The rule, inputs, outputs and command of each job of the whole suite, as Snakemake lists them."""
    for file in (project / "workflow/rules").glob("*.smk"):  # a job with a message does not say what it reads
        file.write_text(re.sub(r"^ {4}message:\n {8}.*\n", "", file.read_text(), flags=re.MULTILINE))
    run = snakemake(project, "--dry-run", "--forceall", "--printshellcmds")
    pattern = r"^rule (\w+):\n(?: {4}input: (.*)\n)? {4}output: (.*)\n(?: {4}.*\n)*Shell command: (.*)$"
    return re.findall(pattern, run.stdout + run.stderr, re.MULTILINE)


def test_the_diagnostics_file_is_read_where_its_models_are_and_nowhere_else(project):
    edit_config(project, lambda config: config["data"].update(diagnostic="config/diagnostic.tsv"))
    (project / "config/diagnostic.tsv").write_text("a file of the user's own")
    jobs = declared_jobs(project)
    reading = {
        command.split()[3] for rule, inputs, _, command in jobs if "diagnostic.tsv" in inputs and "suite_" not in rule
    }
    assert reading == {"glue_dev", "transfer"}, "the others have no MNLI"
    assert [rule for rule, inputs, *_ in jobs if "diagnostic.tsv" in inputs and "source/ax" not in inputs] == []
    assert "suite_report" in {rule for rule, inputs, *_ in jobs if "diagnostic.tsv" in inputs}


def test_a_job_of_each_rule_reads_its_declared_inputs_alone(complete_project, project, tmp_path):
    """An executor that stages what a job declares, and nothing else, can run it."""
    jobs = {rule: job for rule, *job in declared_jobs(project)}
    assert jobs.keys() == {"fetch", "encode", "backbone", "compact", "train", "train_teacher", *AFTER} - {"all"} | {
        "teacher_outputs"
    }
    folders = {rule: tmp_path / "staged" / rule for rule in jobs}
    for rule, (inputs, _, command) in jobs.items():
        shutil.copytree(complete_project, folders[rule], ignore=shutil.ignore_patterns("mini", ".snakemake", ".cache"))
        for name in filter(None, [*inputs.split(", "), "results/mini/suite.json"]):
            target = folders[rule] / name
            if target.exists():
                continue  # code, which is there in full
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (complete_project / name).is_dir() else shutil.copyfile)(
                complete_project / name, target
            )
        (folders[rule] / command.rpartition(" > ")[2].split()[0]).parent.mkdir(parents=True, exist_ok=True)
    script = "\n".join(f"cd {folders[rule]}; ({command}) || echo {rule} failed" for rule, (*_, command) in jobs.items())
    process = subprocess.run(["theseus-bench", "with-preload", "bash", "-c", script], capture_output=True, text=True)
    assert process.stdout == ""
    for rule, (_, outputs, _) in jobs.items():
        for name in outputs.split(", "):
            assert (folders[rule] / name).exists(), rule
            if Path(name).suffix in (".csv", ".parquet", ".md", ".tex") and "speed" not in name:
                assert (folders[rule] / name).read_bytes() == (complete_project / name).read_bytes(), name
