"""A snakemake that is asked to end has its trainings stop, and one that was killed leaves no lock that counts."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import yaml
from copies import copy_project

PATIENCE = 600  # seconds until the test gives up waiting
SNAKEFILE = """
from theseus_bench.stopping import stop_workflow_by_signal

onstart:
    stop_workflow_by_signal(workflow.scheduler.exit_gracefully)

rule all:
    input: "train", "compact"

rule job:
    output: "{name,train|compact}"
    shell: "exec theseus-bench {wildcards.name} results/mini"

rule score:
    output: "score"
    shell: "exec theseus-bench score results/mini"
"""
# A training that never ends by itself, and a command of seconds that does not know how to stop.
COMMAND = """#!/bin/sh
case $1 in
  score) until [ -e released ]; do read -r _ < pipe; done; echo done > score; exit 0 ;;
esac
trap 'echo stopped > stopped-$1; exit 75' TERM
echo begun > begun-$1
while :; do read -r _ < pipe; done
"""


def test_a_snakemake_that_is_asked_to_end_has_its_trainings_stop_and_ends_with_them(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/theseus-bench").write_text(COMMAND)
    (tmp_path / "bin/theseus-bench").chmod(0o755)
    os.mkfifo(tmp_path / "pipe")
    paths = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "snakemake", "--cores", "3", "--keep-going", "all", "score"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | paths, stdout=log, stderr=log)
    keep_open = os.open(tmp_path / "pipe", os.O_RDWR)  # so that who reads it waits
    try:
        until = time.monotonic() + PATIENCE
        while not all((tmp_path / f"begun-{name}").exists() for name in ("train", "compact")):
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"it ended with {process.wait(0.01)}: {(tmp_path / 'log').read_text()}")
        process.send_signal(signal.SIGTERM)
        while not all((tmp_path / f"stopped-{name}").exists() for name in ("train", "compact")):
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        assert process.poll() is None  # what takes seconds is let to its end
        (tmp_path / "released").touch()
        os.write(keep_open, b"\n")
        assert process.wait(PATIENCE) != 0
    finally:
        os.close(keep_open)
        with suppress(ProcessLookupError):
            process.kill()
    log = (tmp_path / "log").read_text()
    assert log.count("exit code 75") + log.count("exit status 75") >= 2, log
    assert (tmp_path / "score").read_text() == "done\n"


def test_a_lock_that_snakemake_itself_has_left_holds_nobody_up_without_the_profile_either(tmp_path):
    """The profile has it take none (nolock); the Snakefile sees to it where another profile is named, or none."""
    copy_project(tmp_path)
    config = yaml.safe_load((tmp_path / "config/demo.yaml").read_text())
    config.update(suite="mini", tasks=["rte"], seeds=[1])
    config["experiments"] = {"one": {"title": "One", "methods": ["finetune"]}}
    (tmp_path / "config/mini.yaml").write_text(yaml.safe_dump(config))
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/mini/source/rte\n")  # of one that was killed
    command = ["snakemake", "--workflow-profile", "none", "--cores", "1", "--configfile", "config/mini.yaml"]
    done = subprocess.run([*command, "--until", "fetch"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "results/mini/source/rte/train.parquet").is_file()
