"""A small suite through a real Slurm: whatever ends jobs, daemons or snakemake, it is made as on one machine."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from copies import copy_project
from slurm_cluster import CPUS, GPU, Cluster, missing_programs, wait_until
from theseus_bench.locks import lock_file, read_holder

pytestmark = pytest.mark.slurm

SUITE = Path("results/mini")
CONFIG = ["--configfile", "config/mini.yaml"]
STUDENT, OTHER = "runs/finetune/rte/seed-1", "runs/vanilla_kd/rte/seed-1"
PATIENCE = 1800  # seconds until a test gives up waiting: the machine may have other work
# What jobs call for theseus-bench, found by the setting of the profile for the environment of a site. It notes each
# call, and does first what a test has left for it: once, of the method or experiment named.
SITE = """\
#!/bin/sh
cd {project}
echo "$1 ${{3:-none}} $SLURM_JOB_ID ${{CUDA_VISIBLE_DEVICES:-none}}" >> calls
if mv "fault-$3" "taken-$3" 2> /dev/null; then . "./taken-$3"; fi
exec {program} "$@"
"""
STALL = "touch begun; while [ -e hold ]; do sleep 0.1; done\n"
# More than twice what these runs ask for.
FILL_MEMORY = "python -c 'import time; block = bytearray(b\"x\") * 3_000_000_000; time.sleep(600)'; exit 1\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    missing = missing_programs()
    if missing:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}): make slurm")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
        assert cluster.jobs() == [], "no test leaves a job"
        wait_until(lambda: cluster.processes_of_jobs() == [], "that the processes of jobs end")
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A copy of the project with a small demo suite, of which nothing has been made."""
    project = tmp_path_factory.mktemp("bare")
    copy_project(project)
    config = yaml.safe_load((project / "config/demo.yaml").read_text())
    methods = ["predecessor", "finetune", "vanilla_kd"]
    config.update(suite="mini", tasks=["rte"], seeds=[1], compact={}, keep_models=[])
    config.update(experiments={"small": {"title": "Small", "methods": methods}})
    config["data"]["rows"] = 128
    config["backbone"]["steps"] = 100
    config["settings"] = [{"set": {"epochs": 2.0, "precision": "fp32"}}]
    config["speed"].update(repetitions=3, seconds=0.01, batch_sizes=[1], headline={"batch_size": 1, "length": 32})
    (project / "config/mini.yaml").write_text(yaml.safe_dump(config))
    return project


@pytest.fixture(scope="module")
def local(bare, tmp_path_factory) -> Path:
    """The suite as this machine alone makes it."""
    project = tmp_path_factory.mktemp("local") / "project"
    shutil.copytree(bare, project)
    command = ["theseus-bench", "with-preload", "snakemake", "--cores", str(CPUS), *CONFIG]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-4000:]
    return project


@pytest.fixture
def project(local, tmp_path) -> Path:
    """A copy of the complete suite, from which a run is taken."""
    project = tmp_path / "project"
    shutil.copytree(local, project, symlinks=True)
    shutil.rmtree(project / SUITE / STUDENT)
    return project


def start(project: Path, cluster: Cluster, *arguments: str) -> subprocess.Popen:
    """Snakemake on the cluster, in the background; what it says goes to said.log."""
    site = project / "site"
    site.mkdir(exist_ok=True)
    (site / "theseus-bench").write_text(SITE.format(project=project, program=shutil.which("theseus-bench")))
    (site / "theseus-bench").chmod(0o755)
    command = ["snakemake", "--profile", "profiles/slurm", *CONFIG, "--precommand", f"export PATH={site}:$PATH"]
    command += ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "20", *arguments]
    with open(project / "said.log", "a") as log:
        return subprocess.Popen(
            command,
            cwd=project,
            env=cluster.environment,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's & ignores it
        )


def end(project: Path, snakemake: subprocess.Popen) -> None:
    """Wait for snakemake, which must end well, and for the suite, in which then nothing is missing."""
    assert snakemake.wait(PATIENCE) == 0, (project / "said.log").read_text()[-4000:]
    status = subprocess.run(["theseus-bench", "status", str(SUITE)], cwd=project, capture_output=True, text=True)
    assert status.stdout.endswith(", 0 missing\n"), status.stdout


def calls(project: Path, command: str = "") -> list[list[str]]:
    """The words of each call that a job has made: command, method, task or experiment, job and GPU."""
    file = project / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.split() for line in lines if line.startswith(command)]


def predictions(project: Path) -> dict[str, bytes]:
    files = sorted((project / SUITE).glob("runs/**/predictions.parquet"))
    return {str(file.relative_to(project)): file.read_bytes() for file in files}


def targets(*runs: str) -> list[str]:
    return ["--", *(f"{SUITE}/{run}/run.json" for run in runs)]


def stall(project: Path) -> None:
    """Have the next run of STUDENT wait, before it begins, until the file `hold` goes."""
    (project / "hold").touch()
    (project / "fault-finetune").write_text(STALL)


def wait_for_stall(project: Path, snakemake: subprocess.Popen) -> None:
    wait_until(lambda: (project / "begun").exists() or snakemake.poll() is not None, "that the run begins", PATIENCE)
    assert (project / "begun").exists(), (project / "said.log").read_text()[-4000:]


def release(project: Path) -> None:
    (project / "hold").unlink()


def jobs_of(project: Path, method: str) -> list[str]:
    """The numbers of the jobs that have called for a run of the method; the first is waited for."""
    wait_until(lambda: calls(project, f"train {method} "), f"that a job calls for {method}", PATIENCE)
    return [call[2] for call in calls(project, f"train {method} ")]


def job_of(project: Path, method: str) -> str:
    """The number of the last job that has called for a run of the method."""
    return jobs_of(project, method)[-1]


def test_a_suite_is_made_as_on_one_machine(cluster, bare, local, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(bare, project)
    begin = time.monotonic()
    end(project, start(project, cluster, "--default-resources", f"gpu_model={GPU}", "--config", "device=auto"))
    seconds = time.monotonic() - begin
    made = calls(project)
    print(f"{len(made)} jobs in {seconds:.0f} s")
    assert predictions(project) == predictions(local)
    assert (project / SUITE / "report/index.html").is_file()
    # Jobs for what computes; what takes seconds is made where snakemake runs.
    expected = ["backbone", "encode", "teacher-outputs", "train", "train", "train", "significance", "speed"]
    assert sorted(call[0] for call in made) == sorted(expected)
    by_command = {call[0]: call for call in made}
    assert by_command["train"][3] in ("0", "1"), "device: auto asks a cluster for a GPU"
    assert by_command["encode"][3] == "none"
    shared = {name: cluster.jobs("--states=all", f"--jobs={by_command[name][2]}", form="%h") for name in by_command}
    assert [name for name, value in shared.items() if value == ["NO"]] == ["speed"], "its node is its own"


def test_a_cancelled_job_is_started_again(cluster, local, project):
    stall(project)
    snakemake = start(project, cluster, *targets(STUDENT))
    wait_for_stall(project, snakemake)
    cluster.run("scancel", job_of(project, "finetune"))
    release(project)
    end(project, snakemake)
    assert len(calls(project, "train")) == 2
    assert predictions(project) == predictions(local)


def test_jobs_that_exceed_memory_or_time_are_given_more(cluster, local, project):
    shutil.rmtree(project / SUITE / OTHER)
    stall(project)
    (project / "fault-vanilla_kd").write_text(FILL_MEMORY)
    snakemake = start(project, cluster, *targets(STUDENT, OTHER))
    wait_for_stall(project, snakemake)
    first = {method: limits(cluster, jobs_of(project, method)[0]) for method in ("finetune", "vanilla_kd")}
    cluster.run("scontrol", "update", f"JobId={job_of(project, 'finetune')}", "TimeLimit=1")
    end(project, snakemake)
    second = {method: limits(cluster, job_of(project, method)) for method in ("finetune", "vanilla_kd")}
    for method, (state, minutes, memory) in second.items():
        assert (state, minutes, memory) == ("COMPLETED", 2 * first[method][1], 2 * first[method][2]), method
    assert len(calls(project, "train")) == 4
    assert "TIMEOUT" in (project / "said.log").read_text()
    assert predictions(project) == predictions(local)


def limits(cluster: Cluster, job: str) -> tuple[str, int, int]:
    """State, minutes and MiB of a job."""
    state, limit, memory = cluster.jobs("--states=all", f"--jobs={job}", form="%T %l %m")[0].split()
    days, _, clock = limit.rpartition("-")
    fields = [int(field) for field in clock.split(":")]
    hours = fields[0] if len(fields) == 3 else 0
    return state, int(days or 0) * 1440 + hours * 60 + fields[-2], int(memory.removesuffix("M"))


def test_killed_daemons_that_come_back_cost_nothing(cluster, local, project):
    stall(project)
    snakemake = start(project, cluster, *targets(STUDENT))
    wait_for_stall(project, snakemake)
    job = job_of(project, "finetune")
    node = cluster.jobs(f"--jobs={job}", form="%N")[0]
    cluster.write_state(job)
    cluster.kill("slurmctld")
    cluster.kill(node)
    release(project)  # the job ends while nobody is there to be told
    try:
        wait_until((project / SUITE / STUDENT / "run.json").exists, "that the run ends", PATIENCE)
    finally:
        cluster.start_controller()
        cluster.start_node(node)
    end(project, snakemake)
    assert len(calls(project, "train")) == 1
    assert predictions(project) == predictions(local)


def test_a_job_on_a_lost_node_is_started_again_on_another(cluster, local, project):
    stall(project)
    snakemake = start(project, cluster, *targets(STUDENT))
    wait_for_stall(project, snakemake)
    node = cluster.jobs(f"--jobs={job_of(project, 'finetune')}", form="%N")[0]
    cluster.lose(node)
    release(project)
    try:
        end(project, snakemake)
    finally:
        cluster.start_node(node)
    assert len(calls(project, "train")) == 2
    assert cluster.jobs("--states=all", f"--jobs={job_of(project, 'finetune')}", form="%N") != [node]
    assert predictions(project) == predictions(local)


@pytest.mark.parametrize(
    ("number", "calls_in_all"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)], ids=["asked to end", "interrupted"]
)
def test_a_stopped_snakemake_leaves_nothing_half_done_and_the_same_command_goes_on(
    number, calls_in_all, cluster, local, project
):
    """SIGTERM lets the jobs that have begun end; Ctrl-C cancels them."""
    stall(project)
    snakemake = start(project, cluster, *targets(STUDENT))
    wait_for_stall(project, snakemake)
    snakemake.send_signal(number)
    if number == signal.SIGINT:
        assert snakemake.wait(PATIENCE) != 0
    release(project)
    snakemake.wait(PATIENCE)
    wait_until(lambda: cluster.jobs() == [], "that its job ends", PATIENCE)
    end(project, start(project, cluster, *targets(STUDENT)))
    assert len(calls(project, "train")) == calls_in_all
    assert predictions(project) == predictions(local)


def test_after_a_killed_snakemake_the_run_that_lives_on_is_waited_for(cluster, local, project):
    """Its jobs are the cluster's. The same command, called beside them, does nothing a second time."""
    snakemake = start(project, cluster, *targets(STUDENT))
    lock = lock_file(project / SUITE, STUDENT)
    wait_until(lambda: read_holder(lock) is not None, "that the run begins", PATIENCE)
    writer = read_holder(lock).process
    os.kill(writer, signal.SIGSTOP)
    snakemake.kill()
    snakemake.wait(PATIENCE)
    second = start(project, cluster, *targets(STUDENT))
    log = project / SUITE / "logs/train/finetune/rte/seed-1.log"
    waits = f"waiting for process {writer}"
    wait_until(lambda: log.is_file() and waits in log.read_text(errors="replace"), "that the other waits", PATIENCE)
    os.kill(writer, signal.SIGCONT)
    assert second.wait(PATIENCE) == 0, (project / "said.log").read_text()[-4000:]
    assert "kept, as it was made of the same" in log.read_text(errors="replace")
    assert len(calls(project, "train finetune ")) == 2
    assert predictions(project) == predictions(local)


def test_speed_is_measured_by_its_job_or_not_at_all(cluster, project, local):
    shutil.copytree(local / SUITE / STUDENT, project / SUITE / STUDENT)
    (project / SUITE / "speed/small.json").unlink()
    (project / "fault-small").write_text("exit 1\n")
    speed = ["--", f"{SUITE}/speed/small.json"]
    failed = start(project, cluster, "--retries", "0", *speed)
    assert failed.wait(PATIENCE) != 0
    assert (project / SUITE / "partial/report/index.html").is_file(), "what is there is shown"
    assert list((project / SUITE).rglob("speed/small.json")) == []
    end(project, start(project, cluster, *speed))
    assert [call[0] for call in calls(project)] == ["speed", "speed"]
    assert json.loads((project / SUITE / "speed/small.json").read_text())["threads"] == 1
