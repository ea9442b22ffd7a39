"""However a suite was stopped, and whatever is gone from it, the same command completes it, to the same predictions."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from copies import SMALL_COMMAND, SMALL_SUITE, copy_project_with_small_suite
from damaged_files import inject_into_files
from outcomes import Outcomes
from theseus_bench.locks import lock_file
from theseus_bench.preload import SOCKET

SUITE, COMMAND = SMALL_SUITE, SMALL_COMMAND
PATIENCE = 120  # seconds until a test gives up waiting
STUDENT, OTHER = "runs/vanilla_kd@equal/rte/seed-1", "runs/vanilla_kd@equal/qnli/seed-1"
TRIAL = "runs/vanilla_kd@equal+trial=0/rte/seed-101"
COMPACT = "runs/distilbert@equal+learning_rate=0.0015/rte/seed-1"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """The environment of commands that share one fork server."""
    command = ["theseus-bench", "with-preload", "sh", "-c", f'echo "${SOCKET}"; cat']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        yield os.environ | {SOCKET: parent.stdout.readline().strip()}
        parent.stdin.close()


@pytest.fixture(scope="module")
def complete_project(tmp_path_factory, environment) -> Path:
    """A copy of the project with a small demo suite, run once without a disturbance."""
    project = tmp_path_factory.mktemp("project")
    copy_project_with_small_suite(project)
    assert_completes(project, environment)
    return project


@pytest.fixture
def project(complete_project, tmp_path) -> Path:
    """A copy of the complete suite that a test may change."""
    shutil.copytree(complete_project, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def assert_completes(project: Path, environment: dict[str, str], *arguments: str) -> str:
    """The command ends well, and then all is complete; what it said."""
    process = subprocess.run([*COMMAND, *arguments], cwd=project, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-4000:]
    strict = ["theseus-bench", "status", "--strict", str(SUITE)]
    status = subprocess.run(strict, cwd=project, env=environment, capture_output=True, text=True)
    assert status.returncode == 0, status.stdout
    assert not (project / SUITE / "partial").exists()
    return process.stdout + process.stderr


def contents(project: Path, pattern: str) -> dict[str, bytes]:
    """The files of the suite that match, by their path."""
    files = sorted(file for file in (project / SUITE).glob(pattern) if file.is_file())
    return {str(file.relative_to(project)): file.read_bytes() for file in files}


def predictions(project: Path) -> dict[str, bytes]:
    return contents(project, "runs/**/predictions.parquet")


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def wait_for(condition: Callable[[], int | None], event: str) -> int:
    """What the condition gives as soon as it gives something."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        value = condition()
        if value is not None:
            return value
        time.sleep(0.005)
    raise AssertionError(f"{event} did not happen in {PATIENCE} s")


def writer_of(project: Path, path: str) -> int | None:
    """The process that is making `place` of the suite, once one is."""
    try:
        return int(lock_file(project / SUITE, path).read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return None


def wait_for_run(project: Path) -> int:
    """The process of the run STUDENT, once it has begun."""
    return wait_for(lambda: writer_of(project, STUDENT), "the run's beginning")


def unfinish(project: Path) -> None:
    """Take two students' runs and the report from the complete suite."""
    for path in (STUDENT, OTHER, "report", "tables"):
        shutil.rmtree(project / SUITE / path)


def start(project: Path, environment: dict[str, str], *before: str) -> subprocess.Popen:
    """The command, in the background; what it says goes to first.log."""
    with open(project / "first.log", "w") as log:
        return subprocess.Popen(
            [*before, *COMMAND],
            cwd=project,
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's & ignores it
        )


def assert_shown(project: Path) -> None:
    """What was there when the command ended can be looked at, in a place that is no rule's output."""
    page = SUITE / "partial/report/index.html"
    assert str(page) in (project / "first.log").read_text()
    assert (project / page).is_file()
    assert not (project / SUITE / "report/index.html").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "asked to end"])
def test_a_stopped_snakemake_shows_what_is_there_and_the_same_command_goes_on(
    number, complete_project, project, environment
):
    unfinish(project)
    first = start(project, environment)
    wait_for_run(project)
    first.send_signal(number)
    assert first.wait(PATIENCE) != 0
    assert_shown(project)
    assert_completes(project, environment)
    assert predictions(project) == predictions(complete_project)


def test_after_a_killed_snakemake_the_same_command_goes_on_at_once(complete_project, project, environment):
    """The run that it had started lives on: it is waited for, and its record kept."""
    unfinish(project)
    first = start(project, environment)
    run = wait_for_run(project)
    first.kill()
    first.wait(PATIENCE)
    os.kill(run, signal.SIGSTOP)
    second = start(project, environment)
    log = project / SUITE / "logs/train" / STUDENT.removeprefix("runs/").replace("/seed-1", "/seed-1.log")
    wait_for(lambda: (log.is_file() and f"waiting for process {run}" in log.read_text()) or None, "the wait")
    os.kill(run, signal.SIGCONT)
    assert second.wait(PATIENCE) == 0, (project / "first.log").read_text()
    assert "kept, as it was made of the same" in log.read_text()
    assert_completes(project, environment)
    assert predictions(project) == predictions(complete_project)


def test_a_killed_run_is_made_again(complete_project, project, environment):
    unfinish(project)
    first = start(project, environment)
    os.kill(wait_for_run(project), signal.SIGKILL)
    assert first.wait(PATIENCE) != 0
    assert_shown(project)
    assert_completes(project, environment)
    assert predictions(project) == predictions(complete_project)


def test_a_killed_fork_server_takes_all_with_it_and_the_same_command_goes_on(complete_project, project, environment):
    unfinish(project)
    parent = start(project, dict(os.environ), "theseus-bench", "with-preload")
    run = wait_for_run(project)
    parent.kill()
    parent.wait(PATIENCE)
    assert_completes(project, environment)  # at once: nothing is left that holds the suite
    assert not Path(f"/proc/{run}").exists()
    assert predictions(project) == predictions(complete_project)


def test_a_second_snakemake_on_the_suite_ends_before_it_begins(project, environment):
    unfinish(project)
    first = start(project, environment)
    wait_for_run(project)
    second = subprocess.run(COMMAND, cwd=project, env=environment, capture_output=True, text=True)
    assert second.returncode != 0
    assert [line for line in second.stderr.splitlines() if line.startswith("theseus-bench: ")] == [
        f"theseus-bench: another snakemake (process {first.pid}) is running on {SUITE}: wait for it, or stop it"
    ]
    assert "Traceback" not in second.stderr
    first.kill()
    first.wait(PATIENCE)


def test_a_run_that_raised_an_error_is_made_again(complete_project, project, environment):
    unfinish(project)
    file = project / "methods/vanilla_kd/method.py"
    once = "import pathlib\n        raised = pathlib.Path('raised')\n        if not raised.exists():\n"
    once += "            raised.touch()\n            raise ValueError('out of paper')\n        "
    lines = file.read_text().split("loss(self, model, batch):\n        ")
    assert len(lines) == 2
    file.write_text(f"loss(self, model, batch):\n        {once}".join(lines))
    first = subprocess.run(COMMAND, cwd=project, env=environment, capture_output=True, text=True)
    assert first.returncode != 0
    page = (project / SUITE / "partial/report/index.html").read_text()
    line = 1 + file.read_text().partition("raise ValueError")[0].count("\n")
    assert f"crashed: methods/vanilla_kd/method.py, line {line}: ValueError: out of paper" in page
    assert_completes(project, environment)
    assert predictions(project) == predictions(complete_project)


# What is made of the runs, and by which rules it is made again, with all that is made of it.
REPORT = {"suite_report", "ro_crate"}
RULES_BY_PRODUCT = {
    "scores/equal_curves.csv": {"score", "significance", "score_tables", "experiment_figures"} | REPORT,
    "significance/equal.json": {"significance", "score_tables", "experiment_figures"} | REPORT,
    "speed/equal.json": {"speed", "score_tables", "experiment_figures"} | REPORT,
    "tables/equal_ranks.tex": {"score_tables"} | REPORT,
    "tables/equal_costs.md": {"description_tables"} | REPORT,
    "tables/equal_trials.csv": {"search_tables"} | REPORT,
    "figures/equal": {"experiment_figures"} | REPORT,
    "submissions/equal": {"submissions"} | REPORT,
    "report/report.pdf": REPORT,
    "ro-crate-metadata.json": {"ro_crate"},
}


def test_each_product_that_is_gone_is_made_again_and_nothing_else(project, tmp_path, environment):
    for path, rules in RULES_BY_PRODUCT.items():
        os.rename(project / SUITE / path, tmp_path / "gone")
        dry = subprocess.run([*COMMAND, "--dry-run"], cwd=project, env=environment, capture_output=True, text=True)
        os.rename(tmp_path / "gone", project / SUITE / path)
        counts = re.findall(r"^(\w+) +\d+$", dry.stdout + dry.stderr, re.MULTILINE)  # the table of jobs
        assert set(counts) == rules | {"all", "total"}


# What may be gone, and which runs are trained for it. What stands together does not depend on each other, so that one
# call of the command shows it of each.
DELETIONS = [
    {f"{STUDENT}/run.json": True, f"{OTHER}/predictions.parquet": True, f"{COMPACT}/model": True},
    {
        "runs/predecessor@equal/rte/seed-1/model": True,
        "runs/predecessor@equal/qnli/seed-1/model/model.safetensors": True,
        TRIAL: True,
        "teacher/predecessor@equal/qnli/seed-101": False,
    },
    {"teacher/predecessor@equal/rte/seed-1/logits.npy": False, "data/qnli": False},
    {"data/rte/train.tokens.npy": False, "source/qnli": False, "source/rte/train.parquet": False},
    {"backbone": False},
    {"backbone/tokenizer.json": False, "runs/predecessor@equal/rte/seed-1/model/config.json": True},
    {"search/vanilla_kd@equal/rte.json": False, "compact/distilbert": False},
    dict.fromkeys(RULES_BY_PRODUCT, False),
    {"figures/equal/pictures.json": False, "submissions/equal/vanilla_kd@equal.zip": False},
]


def test_what_is_deleted_is_made_again_and_no_other_run_is_trained(complete_project, project, environment):
    for paths in DELETIONS:
        records = contents(project, "runs/**/run.json")
        checkpoints = contents(project, "compact/*/model.safetensors")
        for path in paths:
            remove(project / SUITE / path)
        process = subprocess.run(COMMAND, cwd=project, env=environment, capture_output=True, text=True)
        assert process.returncode == 0, (paths, process.stderr[-4000:])
        assert [path for path in paths if not (project / SUITE / path).exists()] == []
        changes = {file for file, text in contents(project, "runs/**/run.json").items() if text != records[file]}
        runs = ["/".join(path.split("/")[:4]) for path, is_trained in paths.items() if is_trained]
        assert changes == {str(SUITE / run / "run.json") for run in runs}, paths
        assert contents(project, "compact/*/model.safetensors") == checkpoints
        assert predictions(project) == predictions(complete_project), paths
    assert "Nothing to be done" in assert_completes(project, environment)


def damage(file: Path) -> None:
    """Cut the file's second half off."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def of_other_settings(file: Path) -> None:
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"fingerprint": "0" * 16}, indent=1) + "\n")


def of_an_old_schema(file: Path) -> None:
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"schema_version": 3}, indent=1) + "\n")


def test_what_is_unsound_is_made_again_also_where_snakemakes_notes_are_gone(complete_project, project, environment):
    runs = [path for path in sorted((project / SUITE / "runs").glob("*/*/*")) if "predecessor" not in str(path)]
    changes = [damage, of_other_settings, of_an_old_schema, damage]
    files = ["run.json", "run.json", "run.json", "predictions.parquet"]
    for run, change, file in zip(runs, changes, files, strict=False):
        stat = (run / file).stat()
        change(run / file)
        os.utime(run / file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    damage(project / SUITE / "search/vanilla_kd@equal/rte.json")
    damage(project / SUITE / "speed/equal.json")
    shutil.rmtree(project / ".snakemake")
    before = contents(project, "runs/**/run.json")
    assert_completes(project, environment)
    records = {path for path, text in contents(project, "runs/**/run.json").items() if text != before[path]}
    assert records == {str((run / "run.json").relative_to(project)) for run in runs[:4]}
    assert predictions(project) == predictions(complete_project)


@pytest.mark.parametrize("arguments", [["--summary"], ["--dag"], ["--list"], ["--dry-run"]], ids=" ".join)
def test_what_runs_no_job_deletes_nothing(project, environment, arguments):
    damage(project / SUITE / "speed/equal.json")
    before = contents(project, "[!.]*/**/*")
    process = subprocess.run([*COMMAND, *arguments], cwd=project, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]
    assert contents(project, "[!.]*/**/*") == before


def test_no_fault_in_a_file_is_lost_or_becomes_another_number(project, monkeypatch):
    """A short turn of tests/faults/inject.py: `make faults` injects more, into processes and disks too."""
    monkeypatch.chdir(project)
    outcomes = Outcomes()
    inject_into_files(SUITE, 60, int(os.environ.get("FAULTS_SEED", 18)), outcomes)
    assert outcomes.total() == 60
    assert not outcomes.notes, outcomes.table()


def test_stopped_at_random_moments_it_is_complete_in_the_end(complete_project, project, environment):
    seed = int(os.environ.get("STOPS_SEED", 14))  # others by hand: the moments fall elsewhere on each machine anyway
    choose = random.Random(seed)
    for path in ("runs", "teacher", "search", "scores", "tables", "report"):
        shutil.rmtree(project / SUITE / path)
    for _ in range(3):
        number, after = choose.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]), choose.uniform(2, 8)
        print(f"STOPS_SEED={seed}: {number.name} after {after:.2f} s")  # shown if it fails
        process = start(project, environment)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            process.wait(PATIENCE)
    assert_completes(project, environment)
    assert predictions(project) == predictions(complete_project)
