"""What jobs ask for on a cluster and on one machine, as a dry run tells it; no Slurm is needed for that."""

import re
import shutil
import subprocess

import pytest
from copies import copy_project

COMPUTING = {"backbone", "compact", "train", "train_teacher", "teacher_outputs", "speed"}
SENT = COMPUTING | {
    "encode"
}  # and significance, of which a dry run tells a message; the others run where snakemake does


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = tmp_path_factory.mktemp("project")
    copy_project(project)
    return project


def snakemake(project, *arguments: str) -> str:
    command = ["snakemake", *arguments, "--configfile", "config/demo.yaml", "--config", "device=auto", 'tasks=["rte"]']
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def resources(said: str) -> dict[str, list[dict[str, str]]]:
    """By rule, what each job asks for; local rules, as the cluster has them, left out."""
    found: dict[str, list[dict[str, str]]] = {}
    for rule, body in re.findall(r"^rule (\w+):\n((?: {4}.*\n)+)", said, re.MULTILINE):
        words = re.search(r" {4}resources: (.*)", body)
        threads = re.search(r" {4}threads: (\d+)", body)
        values = dict(word.split("=", 1) for word in words.group(1).split(", ")) if words else {}
        found.setdefault(rule, []).append(values | {"threads": threads.group(1) if threads else "1"})
    return found


def test_on_a_cluster_each_job_that_is_sent_says_what_it_asks_for(project):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    said = snakemake(project, "--dry-run", "--profile", "profiles/slurm", "--resources", "max_runtime=100")
    jobs = resources(said)
    assert jobs.keys() >= SENT
    for rule in SENT:
        for asked in jobs[rule]:
            assert 0 < int(asked["runtime"]) <= 100, rule
            assert int(asked["mem_mb"]) >= 1200, rule
            assert asked["gpu"] == ("1" if rule in COMPUTING else "0"), rule
            assert asked.get("gpu_slots", "0") == "0", "this machine's slots limit no cluster"
    assert {asked["slurm_extra"] for asked in jobs["speed"]} == {"--exclusive"}
    assert {asked["threads"] for asked in jobs["speed"]} == {"1"}, "as many as a run has"


def test_on_this_machine_speed_has_all_cores_and_no_gpu_is_asked_for(project):
    jobs = resources(snakemake(project, "--dry-run", "--cores", "3"))
    assert {asked["threads"] for asked in jobs["speed"]} == {"3"}
    assert {asked["gpu"] for rule in SENT for asked in jobs[rule]} == {"0"}


@pytest.mark.parametrize(("profile", "slots"), [(None, 1), ("resources:\n  gpu_slots: 8\n", 8)], ids=["none", "own"])
def test_a_profile_says_how_many_runs_the_gpus_have(profile, slots, project, tmp_path):
    arguments = ["--cores", "1"]
    if profile:
        (tmp_path / "profile.yaml").write_text(profile)
        arguments += ["--profile", str(tmp_path)]
    shutil.rmtree(project / "results/demo", ignore_errors=True)
    said = snakemake(project, *arguments, "--quiet", "reason", "--until", "fetch")
    assert re.search(rf'gpu_slots(=|", ){slots}\b', said), said[-2000:]
