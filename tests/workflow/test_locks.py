"""One writer at a time, and nobody waits for the dead."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from theseus_bench import locks
from theseus_bench.errors import UserError
from theseus_bench.locks import LOCKS, check_suite, exclusive_lock, hold_suite, is_held, lock_file

HOLDER = """
import sys
from pathlib import Path
from theseus_bench.locks import exclusive_lock, hold_suite
folder = Path(sys.argv[2])
if sys.argv[1] == "suite":
    hold_suite(folder)
    print("held", flush=True)
    sys.stdin.read()
else:
    with exclusive_lock(folder, "place"):
        print("held", flush=True)
        sys.stdin.read()
"""


def start(kind: str, folder: Path, **environment: str) -> subprocess.Popen:
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    command = [sys.executable, "-c", HOLDER, kind, str(folder)]
    return subprocess.Popen(command, env=paths, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_second_writer_waits_and_says_for_whom(tmp_path):
    with start("run", tmp_path) as first:
        assert first.stdout.readline() == "held\n"
        with start("run", tmp_path) as second:
            assert second.stdout.readline() == (
                f"waiting for process {first.pid}, which is at work on {tmp_path / 'place'}\n"
            )
            first.stdin.close()
            assert second.stdout.readline() == "held\n"
            second.stdin.close()
    assert list((tmp_path / LOCKS).iterdir()) == []


def test_nobody_waits_for_a_writer_that_was_killed(tmp_path, capsys):
    with start("run", tmp_path) as first:
        assert first.stdout.readline() == "held\n"
        first.kill()
        first.wait(30)
        with exclusive_lock(tmp_path, "place"):
            pass
    assert capsys.readouterr().out == ""


def test_a_suite_is_held_by_one_and_free_when_that_is_killed(tmp_path):
    check_suite(tmp_path)
    assert list(tmp_path.iterdir()) == []  # to look leaves nothing behind
    with start("suite", tmp_path) as first:
        assert first.stdout.readline() == "held\n"
        for ask in (check_suite, hold_suite):
            with pytest.raises(UserError, match=rf"another snakemake \(process {first.pid}\) is running on .*: wait"):
                ask(tmp_path)
        first.kill()
        first.wait(30)
        check_suite(tmp_path)


def test_a_suites_lock_is_not_inherited_by_what_is_started(tmp_path):
    script = """
import subprocess, sys
from pathlib import Path
from theseus_bench.locks import hold_suite
hold_suite(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False)
print(child.pid)
"""
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=paths, capture_output=True, text=True, check=True
    )
    try:
        check_suite(tmp_path)  # though the child lives on
    finally:
        os.kill(int(process.stdout), 9)


# -- where locks do not reach: several machines on one file system, simulated by what the lock's file says


def say_held(folder: Path, process: int, machine: str, job: str = "") -> Path:
    """A lock's file as another process has left it, or holds it where we do not see the lock."""
    file = lock_file(folder, "place")
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{process} {machine} {job}")
    return file


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A function that has squeue give an answer for each question, the last one from then on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(locks, "INTERVAL", 0.0)

    def answer(*answers: str) -> None:
        for number, text in enumerate(answers):
            (folder / f"answer{number}").write_text(text)
        script = f"""#!/bin/sh
            cd {folder}
            n=$(cat asked 2>/dev/null || echo 0)
            echo $((n + 1)) > asked
            [ -f answer$n ] || n={len(answers) - 1}
            . ./answer$n
            """
        (folder / "squeue").write_text(script)
        (folder / "squeue").chmod(0o755)

    return answer


def test_a_writer_in_a_running_job_of_another_machine_is_waited_for_though_its_lock_is_not_seen(
    tmp_path, squeue, capsys
):
    squeue("echo RUNNING", "echo RUNNING", "exit 1", "echo COMPLETING", "true")  # once, there is no controller
    say_held(tmp_path, 12, "node3", "77")
    with exclusive_lock(tmp_path, "place"):
        count = int((tmp_path / "bin/asked").read_text())
    assert count == 5
    assert capsys.readouterr().out == (
        f"waiting for process 12 of job 77 on node3, which is at work on {tmp_path / 'place'}\n"
    )


@pytest.mark.parametrize(
    "answer",
    ["echo PENDING", "true", 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'],
    ids=["requeued", "ended", "forgotten"],
)
def test_nobody_waits_for_a_writer_whose_job_has_ended(tmp_path, squeue, capsys, answer):
    squeue(answer)
    say_held(tmp_path, 12, "node3", "77")
    with exclusive_lock(tmp_path, "place"):
        pass
    assert capsys.readouterr().out == ""


def test_who_looks_sees_the_job_of_another_machine_while_it_runs(tmp_path, squeue):
    squeue("echo RUNNING", "true")
    say_held(tmp_path, 12, "node3", "77")
    assert is_held(tmp_path, "place")
    assert not is_held(tmp_path, "place"), "the job has ended"


def test_a_second_snakemake_is_refused_while_the_first_ones_job_runs_on_another_machine(tmp_path, squeue):
    squeue("echo RUNNING")
    say_held(tmp_path, 12, "node3", "77").rename(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"another snakemake \(process 12 of job 77 on node3\) is running on"):
        hold_suite(tmp_path)


def test_without_slurm_what_another_machine_has_left_holds_nobody_up(tmp_path, monkeypatch, capsys):
    """Its lock is then all that can be known, and that was free."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for job in ("", "77"):
        say_held(tmp_path, 12, "node3", job)
        with exclusive_lock(tmp_path, "place"):
            pass
    assert capsys.readouterr().out == ""


def test_on_a_file_system_without_locks_a_living_writer_is_seen_by_its_number(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    hold_suite(tmp_path)  # though there is no lock to have
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        (tmp_path / ".lock").write_text(f"{other.pid} {socket.gethostname()}")
        with pytest.raises(UserError, match=rf"another snakemake \(process {other.pid}\) is running"):
            hold_suite(tmp_path)
    hold_suite(tmp_path)


def test_the_lock_says_whose_it_is(tmp_path):
    with start("run", tmp_path, SLURM_JOB_ID="77") as first:
        assert first.stdout.readline() == "held\n"
        assert lock_file(tmp_path, "place").read_text().split() == [str(first.pid), socket.gethostname(), "77"]
        first.stdin.close()
