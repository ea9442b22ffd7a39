"""Text of users in settings and titles: the workflow passes it on, and neither shell nor Snakemake reads it."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from copies import ROOT, copy_project

SUITE = {
    "suite": "mini",
    "data": {"source": "demo", "rows": 16},
    "backbone": {"source": "demo", "layers": 4, "steps": 5},
    "student_layers": 2,
    "tasks": ["rte"],
    "seeds": [1],
}


def snakemake(project: Path, config: dict, *arguments: str) -> subprocess.CompletedProcess:
    (project / "config/mini.yaml").write_text(yaml.safe_dump(SUITE | config))
    command = ["snakemake", "--cores", "1", "--configfile", "config/mini.yaml", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the project with a method that has a setting of text."""
    copy_project(tmp_path)
    method = tmp_path / "methods/worded"
    method.mkdir()
    (method / "method.py").write_text((tmp_path / "methods/finetune/method.py").read_text())
    spec = yaml.safe_load((tmp_path / "methods/finetune/method.yaml").read_text()) | {"name": "worded", "published": {}}
    spec["defaults"]["my_mode"] = "plain"
    (method / "method.yaml").write_text(yaml.safe_dump(spec))
    return tmp_path


def test_all_that_a_rule_puts_into_its_command_is_quoted():
    rules = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
    commands = [part for file in rules for part in re.findall(r'shell(?:\(|:\n)((?:\s*".*"\n?)+)', file.read_text())]
    assert len(commands) >= 17  # of the seventeen rules that run a command, one inherits it; and that of onerror
    fields = [field for command in commands for field in re.findall(r"\{([^}]*)\}", command)]
    assert fields
    assert [field for field in fields if not field.endswith(":q")] == []


def test_a_settings_text_reaches_the_command_and_no_shell(project):
    text = '$(touch pwned) `touch pwned`; touch pwned & it\'s "two" * ~ words'
    name = f"worded@my_mode={text}"
    for folder in ("data/rte", "backbone"):  # what the run reads; empty, so that the command ends with one line
        (project / "results/mini" / folder).mkdir(parents=True)
    record = f"results/mini/runs/{name}/rte/seed-1/run.json"
    config = {"experiments": {"first": {"title": "One", "methods": [name]}}}
    snakemake(project, config, "--allowed-rules", "train", "--", record)
    log = project / f"results/mini/logs/train/{name}/rte/seed-1.log"
    assert log.read_text() == (
        "theseus-bench: results/mini/backbone/model.safetensors: no such file; the same snakemake command mends it\n"
    )
    assert list(project.rglob("pwned")) == []


def test_braces_in_a_title_are_no_wildcards(project):
    run = snakemake(project, {"experiments": {"first": {"title": "$F_{max}$", "methods": ["finetune"]}}}, "--dry-run")
    assert run.returncode == 0, run.stdout[-2000:]
    assert "suite_report" in run.stdout


def test_snakemake_refuses_a_key_that_stands_twice_and_reads_exponents_as_numbers(project):
    experiments = {"first": {"title": "One", "methods": ["worded"]}}
    file = project / "config/mini.yaml"
    suite = yaml.safe_dump(SUITE | {"experiments": experiments})
    command = ["snakemake", "--cores", "1", "--configfile", "config/mini.yaml", "--dry-run"]
    file.write_text(f"{suite}seeds: [2]\n")
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1].startswith(
        f"theseus-bench: {file}: not valid YAML: the key 'seeds' stands twice"
    )
    file.write_text(f"{suite}search: {{budget: 2, space: {{learning_rate: [1e-3, 0.001]}}}}\n")
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1] == "theseus-bench: config: search.space.learning_rate offers a value twice"
    assert run.returncode == 1


def test_snakemake_says_that_a_file_is_in_the_place_of_the_results(project):
    (project / "results/mini").touch()
    run = snakemake(project, {"experiments": {"first": {"title": "One", "methods": ["worded"]}}})
    assert [line for line in run.stderr.splitlines() if "theseus-bench: " in line] == [
        "theseus-bench: results/mini/.lock: not a directory; a file is in the place of a folder; move it away"
    ]
    assert "Traceback" not in run.stdout + run.stderr


def test_a_number_within_the_command_lines_settings_is_a_number(project):
    config = {"experiments": {"first": {"title": "One", "methods": ["theseus"]}}}
    settings = "settings=[{methods: [theseus], set: {full_rate_at: 1e-1, clip_frozen: false}}]"
    done = snakemake(project, config, "--config", settings, "--dry-run")
    assert done.returncode == 0, done.stderr
    done = snakemake(project, config, "--config", settings.replace("1e-1", "soon"), "--dry-run")
    assert "expected float like 1000.0, found 'soon'" in done.stderr
