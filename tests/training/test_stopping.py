"""A training that has to end before its time keeps its state, says that it goes on, and does so."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from copies import link_project
from suites import make_plan
from theseus_bench import stopping
from theseus_bench.commands import run as run_command
from theseus_bench.errors import UserError
from theseus_bench.files import write_json
from theseus_bench.locks import lock_file
from theseus_bench.suite.load import read_plan
from theseus_bench.suite.run_files import ASIDE
from theseus_bench.suite.status import states
from theseus_bench.training import conformance_bench, inputs, loop, run
from theseus_bench.training.conformance_bench import make_bench
from theseus_bench.training.loop import fit
from theseus_bench.training.trainer_state import Checkpoint
from tiny import HARDWARE, build, make_checkpoint, make_data, same, weights, write_checkpoint

RUN = ("finetune", "rte", "1")
STEPS = 200
PATIENCE = 600  # seconds until a test gives up waiting


@pytest.fixture(autouse=True)
def heard_interrupts():
    """Interrupts as a terminal sends them: a shell that starts the tests in the background has them ignored."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def deadline(monkeypatch):
    """A clock that stands still, and a function that asks a deadline of so many seconds from then."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(stopping.time, "time", lambda: clock.now)

    def make(seconds):
        monkeypatch.setenv(stopping.DEADLINE, str(clock.now + seconds))
        return stopping.Deadline()

    return SimpleNamespace(make=make, clock=clock)


# -- when it has to stop


def test_without_a_job_or_a_signal_it_may_go_on(monkeypatch):
    for name in (stopping.DEADLINE, stopping.SLURM_DEADLINE, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    assert stopping.Deadline().end == math.inf
    assert stopping.Deadline().reason_to_stop() == ""


def test_it_stops_while_there_is_time_to_keep_its_state(deadline):
    watched = deadline.make(100)
    stops = []
    for _ in range(100):
        deadline.clock.now += 1
        stops.append(bool(watched.reason_to_stop()))
    assert stops.index(True) + 1 == 100 - 30 - 2  # seconds: thirty are left, and twice the longest step


def test_a_slow_evaluation_is_given_twice_its_time(deadline):
    watched = deadline.make(100)
    deadline.clock.now += 20
    assert watched.reason_to_stop() == ""
    deadline.clock.now += 9
    assert watched.reason_to_stop() == ""  # 71 s are left
    deadline.clock.now += 1
    end = time.strftime("%H:%M:%S", time.localtime(1100))
    assert watched.reason_to_stop() == f"as its job ends at {end}"


def test_a_deadline_that_is_no_time_is_one_line(monkeypatch):
    monkeypatch.setenv(stopping.DEADLINE, "in ten minutes")
    with pytest.raises(UserError, match="THESEUS_BENCH_DEADLINE is 'in ten minutes'; it should be a time in seconds"):
        stopping.Deadline()


@pytest.mark.parametrize(
    ("said", "end"),
    [("echo 1700000000", 1700000000.0), ("echo N/A", math.inf), ("exit 1", math.inf), (None, math.inf)],
    ids=["limited", "unlimited", "no controller", "no squeue"],
)
def test_slurm_is_asked_for_the_end_of_a_job_where_the_environment_does_not_say_it(tmp_path, monkeypatch, said, end):
    for name in (stopping.DEADLINE, stopping.SLURM_DEADLINE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("PATH", str(tmp_path))
    if said:
        asked = '[ "$SLURM_TIME_FORMAT $*" = "%s --noheader --jobs=77 --format=%e" ] || exit 2'
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{asked}\n{said}\n")
        (tmp_path / "squeue").chmod(0o755)
    assert stopping.Deadline().end == end
    monkeypatch.setenv(stopping.SLURM_DEADLINE, "1800000000")
    assert stopping.Deadline().end == 1800000000.0
    monkeypatch.setenv(stopping.DEADLINE, "1900000000")
    assert stopping.Deadline().end == 1900000000.0


def test_a_second_interrupt_ends_it_at_once_but_not_one_that_came_twice(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock.now)
    with pytest.raises(KeyboardInterrupt), stopping.stop_by_signal():  # noqa: PT012
        for now in (10.0, 10.5):
            clock.now = now
            os.kill(os.getpid(), signal.SIGINT)
        assert stopping.Deadline().reason_to_stop() == "by SIGINT"
        clock.now = 13.0
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert stopping.Deadline().reason_to_stop() == ""


def test_what_a_shell_has_put_into_the_background_ignores_interrupts(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping.stop_by_signal():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_workflow_is_told_to_end_though_its_main_thread_holds_what_that_needs():
    """Snakemake's handler takes the scheduler's lock; the signal may come while the main thread has it."""
    script = """
import os, signal, sys, threading
from theseus_bench.stopping import stop_workflow_by_signal
lock, told = threading.Lock(), threading.Event()

def finish():
    with lock:
        told.set()

stop_workflow_by_signal(finish)
with lock:
    os.kill(os.getpid(), signal.SIGTERM)
    print("still at work", flush=True)
assert told.wait(60)
"""
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=paths, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "still at work\n"), done.stderr


# -- in the loop


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("backbone"), seed=1)


def train(backbone, folder, signal_at=0):
    """Fine-tune for 9 steps, with checkpoints every ten minutes; a signal comes as step `signal_at` (from 0) begins."""
    built = build("finetune", make_data(), backbone, epochs=1.8, evaluate_every=3, patience=None)
    steps = []

    def begin(step):
        steps.append(step)
        if signal_at and step == signal_at:
            os.kill(os.getpid(), signal.SIGTERM)

    built.method.on_step_begin = begin
    with stopping.stop_by_signal():
        state = fit(built.method, built.model, make_data(), built.loop, 1, HARDWARE, make_checkpoint(folder))
    return SimpleNamespace(state=state, weights=weights(built.model), steps=steps)


def test_a_signal_keeps_the_step_in_which_it_came_and_none_is_done_twice(backbone, tmp_path):
    whole = train(backbone, tmp_path / "whole")
    for signal_at in (1, 2, 4, 8):  # also in a step with an evaluation, and in the last
        folder = tmp_path / str(signal_at)
        with pytest.raises(stopping.Stopped, match=rf"^stopped at step {signal_at + 1} of 9, by SIGTERM; the same"):
            train(backbone, folder, signal_at)
        resumed = train(backbone, folder)
        assert resumed.steps == list(range(signal_at + 1, 9))
        assert same(resumed.weights, whole.weights)
        assert resumed.state.curve == whole.state.curve


def test_a_job_whose_time_is_short_still_advances_by_a_step(backbone, tmp_path, monkeypatch):
    whole = train(backbone, tmp_path / "whole")
    monkeypatch.setenv(stopping.DEADLINE, str(time.time()))
    for step in range(1, 10):
        with pytest.raises(stopping.Stopped, match=rf"^stopped at step {step} of 9, as its job ends at"):
            train(backbone, tmp_path / "parts")
    last = train(backbone, tmp_path / "parts")  # all trained: what is left is what comes after
    assert last.steps == []
    assert same(last.weights, whole.weights)


def test_what_is_trained_is_kept_where_the_predictions_may_not_end_in_time(tmp_path, monkeypatch):
    """A run that is killed while it predicts: in a job with a deadline no step of it is trained again."""
    bench = make_bench("finetune", tmp_path)
    seldom = bench.plan.suite.model_copy(update={"checkpoint_every": 600.0})
    bench = replace(bench, plan=replace(bench.plan, suite=seldom))
    steps = []
    observed = loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *a: steps.append(1) or observed(*a))
    for deadline, again in ((None, conformance_bench.STEPS), (time.time() + 10**6, 0)):
        place = f"deadline-{deadline}"
        if deadline:
            monkeypatch.setenv(stopping.DEADLINE, str(deadline))
        with monkeypatch.context() as patch, suppress(InterruptedError):
            patch.setattr(run, "_predict_all", _raise)
            bench.execute("rte", place)
        steps.clear()
        record, _ = bench.execute("rte", place)
        assert (len(steps), record.resumed) == (again, int(not again))


def _raise(*_):
    raise InterruptedError("killed")


def test_a_run_that_had_enough_early_does_not_go_on_when_it_is_taken_up(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv(stopping.DEADLINE, str(time.time() + 10**6))
    built = [
        build("finetune", make_data(), backbone, epochs=4, evaluate_every=1, patience=1, learning_rate=1e-9)
        for _ in range(2)
    ]
    first, second = (
        fit(one.method, one.model, make_data(), one.loop, 1, HARDWARE, make_checkpoint(tmp_path)) for one in built
    )
    assert first.step == second.step == 2
    assert second.curve == first.curve


def test_the_checkpoint_goes_after_the_record_was_set_aside(tmp_path, monkeypatch):
    bench = make_bench("finetune", tmp_path)
    aside = tmp_path / "one" / ASIDE
    aside.mkdir(parents=True)
    for name in ("data", "backbone", "teacher", "compact", "runs"):
        with suppress(FileExistsError):
            (tmp_path / "one" / name).symlink_to(tmp_path / name)
    seen = []
    monkeypatch.setattr(Checkpoint, "discard", lambda self: seen.extend(aside.glob("runs/finetune/rte/seed-1/*")))
    bench.execute("rte", "one")
    assert {file.name for file in seen} == {"run.json", "predictions.parquet"}


@pytest.mark.parametrize(("source", "ends_at_once"), [("hub", True), ("demo", False)])
def test_a_download_ends_at_once_where_it_is_asked_to_and_a_pretraining_keeps_its_state_first(
    tmp_path, monkeypatch, source, ends_at_once
):
    blocks = {
        "hub": {"source": "hub", "name": "some/bert", "revision": "1" * 40, "layers": 12},
        "demo": {"source": "demo"},
    }
    plan = make_plan(backbone={"layers": 12} | blocks[source], compact={})
    write_json(tmp_path / "suite.json", plan.suite.model_dump())
    handlers = []
    monkeypatch.setattr(inputs, "make_backbone", lambda *_: handlers.append(signal.getsignal(signal.SIGTERM)))
    assert run_command(["backbone", str(tmp_path)]) == 0
    assert (handlers == [signal.getsignal(signal.SIGTERM)]) == ends_at_once


# -- as processes


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A suite of tiny random models whose inputs are there, and of it a run that was not disturbed."""
    folder = tmp_path_factory.mktemp("prepared")
    link_project(folder)
    suite = folder / "results/check"
    bench = make_bench("finetune", suite)
    values = bench.plan.suite.model_dump(exclude_none=True)
    values["settings"][0]["set"] |= {"max_steps": STEPS, "evaluate_every": 40, "epochs": 90}
    values["checkpoint_every"] = 0.2
    write_json(suite / "suite.json", values)
    for place in ("runs", "teacher", "checkpoints"):
        shutil.rmtree(suite / place)
    assert command(folder).wait(PATIENCE) == 0
    return folder


@pytest.fixture
def project(prepared, tmp_path):
    """A copy of the suite in which nothing has been trained."""
    shutil.copytree(prepared, tmp_path / "project", symlinks=True)
    shutil.rmtree(tmp_path / "project/results/check/runs")
    return tmp_path / "project"


def command(project: Path, *words: str, **environment: str) -> subprocess.Popen:
    """`theseus-bench train` in the background, or another command."""
    line = [sys.executable, "-c", "from theseus_bench.cli import main; main()"]
    line += words or ["train", "results/check", *RUN]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"} | environment
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(line, cwd=project, env=paths, text=True, **streams)


def wait_for(condition, process: subprocess.Popen) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended before that, with {process.wait(0.01)}: {process.stdout.read()}")


def is_training(project: Path):
    return list(project.glob(".cache/checkpoints/*/state.pt"))


def outcome(project: Path) -> tuple[bytes, dict]:
    folder = project / "results/check/runs/finetune/rte/seed-1"
    return (folder / "predictions.parquet").read_bytes(), json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["asked to end", "interrupted"])
def test_a_stopped_run_says_75_and_the_same_command_goes_on_to_the_same_predictions(project, prepared, number):
    first = command(project)
    wait_for(lambda: is_training(project), first)
    first.send_signal(number)
    assert first.wait(PATIENCE) == os.EX_TEMPFAIL
    line = first.stdout.read().splitlines()[-1]  # those before it tell how far it is
    assert line.startswith("theseus-bench: stopped at step ")
    assert line.endswith(f" of {STEPS}, by {number.name}; the same command goes on from there")
    plan = read_plan(project / "results/check")
    (reason,) = (text for a, _, text in states(plan, project / "results/check") if a.path == "runs/finetune/rte/seed-1")
    assert f"theseus-bench: {reason}" == line
    assert command(project).wait(PATIENCE) == 0
    predictions, record = outcome(project)
    assert predictions == outcome(prepared)[0]
    assert record["resumed"] == 1
    assert record["curve"] == outcome(prepared)[1]["curve"]
    assert not is_training(project)


def test_of_two_commands_for_one_run_the_second_waits_and_trains_nothing(project, prepared):
    first = command(project)
    wait_for(lambda: is_training(project), first)
    second = command(project)
    assert second.stdout.readline() == (
        f"waiting for process {first.pid}, which is at work on results/check/runs/finetune/rte/seed-1\n"
    )
    assert first.wait(PATIENCE) == 0
    record = outcome(project)[1]
    assert second.wait(PATIENCE) == 0
    assert "kept, as it was made of the same" in second.stdout.read()
    assert outcome(project) == (outcome(prepared)[0], record)


def test_the_next_writer_goes_on_at_once_where_the_first_was_killed(project, prepared):
    first = command(project)
    wait_for(lambda: is_training(project), first)
    first.kill()
    first.wait(PATIENCE)
    assert lock_file(project / "results/check", "runs/finetune/rte/seed-1").is_file()
    second = command(project)
    assert second.wait(PATIENCE) == 0
    assert "waiting" not in second.stdout.read()
    assert outcome(project)[0] == outcome(prepared)[0]
    assert outcome(project)[1]["resumed"] == 1


def test_a_run_that_its_scheduler_counts_as_failed_ends_at_once_the_second_time(project):
    """Snakemake deletes what a failed job has left, also one that had just ended when its time was over."""
    suite = project / "results/check"
    (suite / ASIDE).mkdir()  # a snakemake is at work
    assert command(project).wait(PATIENCE) == 0
    before = outcome(project)
    for _ in range(2):
        for name in ("run.json", "predictions.parquet"):
            (suite / "runs/finetune/rte/seed-1" / name).unlink()
        again = command(project)
        assert again.wait(PATIENCE) == 0
        assert "kept, as it was made of the same" in again.stdout.read()
        assert outcome(project) == before


def test_how_often_a_checkpoint_is_written_changes_nothing_else(project, prepared):
    """Not the run's fingerprint, so that nothing is trained again."""
    files = [folder / "results/check/suite.json" for folder in (prepared, project)]
    write_json(files[1], json.loads(files[1].read_text()) | {"checkpoint_every": 5})
    plans = [read_plan(file.parent) for file in files]
    assert [plan.suite.checkpoint_every for plan in plans] == [0.2, 5]
    fingerprints = [[plan.fingerprint(run) for run in plan.runs.values()] for plan in plans]
    assert fingerprints[0] == fingerprints[1]
    shutil.copytree(prepared / "results/check/runs", project / "results/check/runs")
    again = command(project)
    assert again.wait(PATIENCE) == 0
    assert "kept, as it was made of the same" in again.stdout.read()


def test_a_pretraining_that_is_asked_to_stop_goes_on_too(tmp_path):
    link_project(tmp_path)
    config = {
        "suite": "tiny",
        "data": {"source": "demo", "rows": 8},
        "backbone": {"source": "demo", "layers": 2, "steps": 120},
        "student_layers": 1,
        "tasks": ["rte"],
        "seeds": [1],
        "device": "cpu",
        "checkpoint_every": 0.1,
        "experiments": {"one": {"title": "One", "methods": ["finetune"]}},
    }
    weights_of = []
    for place in ("whole", "parts"):
        write_json(tmp_path / f"results/{place}/suite.json", config)
        words = ("backbone", f"results/{place}")
        if place == "parts":
            first = command(tmp_path, *words)
            wait_for(lambda: is_training(tmp_path), first)
            first.terminate()
            assert first.wait(PATIENCE) == os.EX_TEMPFAIL
            assert "of 120 of pretraining, by SIGTERM; the same command goes on" in first.stdout.read()
            assert is_training(tmp_path)
        assert command(tmp_path, *words).wait(PATIENCE) == 0
        assert not is_training(tmp_path)
        weights_of.append((tmp_path / f"results/{place}/backbone/model.safetensors").read_bytes())
    assert weights_of[0] == weights_of[1]
