"""One writer at a time, and nobody waits for the dead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from theseus_bench.errors import UserError
from theseus_bench.locks import check_suite, exclusive_lock, hold_suite

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
    with exclusive_lock(folder / "place", folder / "locks"):
        print("held", flush=True)
        sys.stdin.read()
"""


def start(what: str, folder: Path) -> subprocess.Popen:
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLDER, what, str(folder)]
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
    assert list((tmp_path / "locks").iterdir()) == []


def test_nobody_waits_for_a_writer_that_was_killed(tmp_path, capsys):
    with start("run", tmp_path) as first:
        assert first.stdout.readline() == "held\n"
        first.kill()
        first.wait(30)
        with exclusive_lock(tmp_path / "place", tmp_path / "locks"):
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
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, close_fds=False)
print(child.pid)
"""
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=paths, capture_output=True, text=True, check=True
    )
    try:
        check_suite(tmp_path)  # though the child lives on
    finally:
        os.kill(int(done.stdout), 9)
