"""The picture of a suite's runs: each sign, what does not fit, what runs now, and the picture that follows."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from suites import deciding, leave_run, make_plan
from theseus_bench.commands import run as run_command
from theseus_bench.files import write_json
from theseus_bench.locks import exclusive_lock, is_held, lock_file
from theseus_bench.suite.progress_file import TrainingProgress, progress_file, write_progress
from theseus_bench.suite.status_listing import Picture, StateReader, fit

DEV = {"validation": (range(2), [0, 1], deciding([0, 1], 2))}
PATIENCE = 60.0  # seconds
HOLDER = """
import sys
from pathlib import Path
from theseus_bench.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""
WATCHER = """
import sys
from theseus_bench.suite import status_listing
status_listing.INTERVAL, status_listing.REST = 0.05, 0
from theseus_bench.commands import run
sys.exit(run(["status", "--watch", sys.argv[1]]))
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}


def make_suite(folder: Path, **changes):
    """A suite's plan, and its suite.json: two methods on two tasks with three seeds, if not said otherwise."""
    methods = {"first": {"title": "One", "methods": ["finetune", "majority"]}}
    plan = make_plan(**{"tasks": ["rte", "mrpc"], "compact": {}, "experiments": methods} | changes)
    write_json(folder / "suite.json", plan.suite.model_dump(exclude_unset=True), sealed=True)
    return plan


def leave(plan, folder: Path, name: str, task: str, seed: int, **record) -> None:
    leave_run(plan, plan.run(name, task, seed), folder, DEV, **{"architecture": None} | record)


def status(folder: Path, capsys, *options: str) -> list[str]:
    """What the command prints where there is no terminal."""
    run_command(["status", str(folder), *options])
    return capsys.readouterr().out.splitlines()


def cells(lines: list[str], row: str) -> list[str]:
    """What stands in a row of the matrix."""
    return next(line.removeprefix(row).split() for line in lines if line.startswith(f"{row} "))


def sums(lines: list[str]) -> str:
    """The line that counts."""
    return next(line for line in lines if " complete, " in line)


@contextmanager
def maker(folder: Path, place: str):
    """Another process that is at work on `place`."""
    command = [sys.executable, "-c", HOLDER, str(folder), place]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=ENVIRONMENT, text=True, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_each_run_has_the_sign_of_its_state(tmp_path, capsys):
    plan = make_suite(tmp_path)
    leave(plan, tmp_path, "finetune", "rte", 1)
    leave(plan, tmp_path, "finetune", "rte", 2, status="failed", reason="diverged")
    leave(plan, tmp_path, "finetune", "mrpc", 1, fingerprint="0" * 16)
    write_json(tmp_path / "runs/finetune/mrpc/seed-2/error.json", {"reason": "out of paper"})
    lines = status(tmp_path, capsys)
    assert next(line.split() for line in lines if line.startswith("  ")) == ["rte", "mrpc"]
    assert cells(lines, "finetune") == ["✓✗·", "!!·"]
    assert cells(lines, "majority") == ["···", "···"]
    assert "failed   runs/finetune/rte/seed-2: diverged" in lines
    assert "missing  runs/finetune/mrpc/seed-2: crashed: out of paper" in lines
    assert any(line.startswith("missing  runs/finetune/mrpc/seed-1: its record is of other settings") for line in lines)
    assert sums(lines) == "1 complete, 1 failed, 10 missing (8 waiting)"


def test_runs_that_wait_have_lines_only_where_the_suite_is_judged(tmp_path, capsys):
    make_suite(tmp_path)
    assert not [line for line in status(tmp_path, capsys) if line.startswith("missing ")]
    assert run_command(["status", str(tmp_path)]) == 0
    assert run_command(["status", "--strict", str(tmp_path)]) == 1
    capsys.readouterr()
    lines = status(tmp_path, capsys, "--strict")
    assert "missing  runs/majority/mrpc/seed-3: not run" in lines
    assert len([line for line in lines if line.startswith("missing ")]) == 12


def test_a_run_that_another_process_makes_is_running_with_the_time_that_it_needs(tmp_path, capsys):
    plan, run = make_suite(tmp_path), "runs/finetune/rte/seed-2"
    progress = TrainingProgress(step=400, steps=1200, learning_rate=2e-5, loss=0.5, score=0.625, seconds_left=190.0)
    with maker(tmp_path, run):
        lines = status(tmp_path, capsys)
        assert cells(lines, "finetune") == ["·▶·", "···"]
        assert f"running  {run}: no step yet" in lines
        write_progress(progress_file(tmp_path, run), progress)
        lines = status(tmp_path, capsys)
        told = "step 400 of 1,200, learning rate 2.0e-05, loss 0.500, score 62.5, 3 min 10 s left"
        assert f"running  {run}: {told}" in lines
        assert sums(lines) == "0 complete, 0 failed, 12 missing (1 running, 11 waiting)"
    leave(plan, tmp_path, "finetune", "rte", 2)
    assert cells(status(tmp_path, capsys), "finetune") == ["·✓·", "···"]


def test_a_training_that_was_killed_runs_no_more(tmp_path, capsys):
    make_suite(tmp_path)
    run = "runs/finetune/rte/seed-2"
    with maker(tmp_path, run) as process:
        process.kill()
        process.wait(PATIENCE)
    assert lock_file(tmp_path, run).is_file()
    assert cells(status(tmp_path, capsys), "finetune") == ["···", "···"]
    with exclusive_lock(tmp_path, run):  # nor has the look kept the lock
        pass
    assert "waiting for" not in capsys.readouterr().out


def test_to_look_for_a_lock_leaves_nothing(tmp_path):
    assert not is_held(tmp_path, "place")
    assert list(tmp_path.iterdir()) == []


def test_the_backbone_that_is_being_made_has_a_line(tmp_path, capsys):
    make_suite(tmp_path)
    with maker(tmp_path, "backbone"):
        assert "running  backbone: no step yet" in status(tmp_path, capsys)


def make_searched_suite(folder: Path):
    """Theseus under equal effort: two trials with two seeds on each task, the runs of the suite's seeds, one more."""
    search = {"search": {"learning_rate": [1e-5, 2e-5]}, "space": {}}
    first = {"title": "One", "methods": ["finetune"], "protocols": ["equal"]}
    other = {"title": "Two", "methods": ["majority"], "tasks": ["rte"], "seeds": [3, 4]}
    return make_suite(
        folder,
        search={"budget": {"equal": 2, "published": 1}, "seeds": [101, 102]},
        equal=search,
        experiments={"first": first, "second": other},
    )


def test_trials_and_seeds_that_are_not_the_suites_are_counted(tmp_path, capsys):
    plan = make_searched_suite(tmp_path)
    trials = plan.trials_of(plan.run("finetune@equal", "rte", 1))
    assert len(trials) == 4
    leave_run(plan, trials[0], tmp_path, DEV, architecture=None)
    leave_run(plan, trials[1], tmp_path, DEV, architecture=None, status="failed", reason="diverged")
    write_json(tmp_path / trials[2].path / "error.json", {"reason": "out of paper"})
    lines = status(tmp_path, capsys)
    assert cells(lines, "search of finetune@equal") == ["2/4!", "0/4"]
    assert cells(lines, "other seeds of majority") == ["0/1"]
    majority = next(line for line in lines if line.startswith("majority "))
    assert majority.split() == ["majority", "·"]
    assert majority.index("·") == next(line for line in lines if line.startswith("  ")).index("rte") + 2, "the third"
    assert sums(lines).endswith(", 1 failed trial")
    assert not [line for line in lines if line.startswith("failed ")], "a failed trial is a result"


def test_a_narrow_terminal_has_more_blocks_and_every_task(tmp_path):
    tasks = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
    make_suite(tmp_path, tasks=tasks, experiments={"first": {"title": "One", "methods": ["majority", "vanilla_kd"]}})
    state = StateReader(tmp_path).read()
    for width in (120, 80, 40, 24):
        lines = Picture(state, width).matrix
        heads = [line.split() for line in lines if line.startswith(" ")]
        assert [task for head in heads for task in head] == tasks, width
        assert len([line for line in lines if line.startswith("majority ")]) == len(heads)
        assert max(map(len, lines)) <= width
        assert sum(line.count("···") for line in lines) == 3 * len(tasks), "the predecessor's too"
    assert [len(Picture(state, width).matrix) for width in (80, 40)] == [2 + 5, 3 + 2 * 5]


def test_long_names_and_many_seeds_do_not_burst_the_terminal(tmp_path):
    name = "theseus@full_rate_at=0.123456789+learning_rate=1.23456789e-05"
    experiments = {"first": {"title": "One", "methods": [name, "majority"]}}
    make_suite(tmp_path, seeds=list(range(1, 61)), experiments=experiments)
    lines = Picture(StateReader(tmp_path).read(), 60).matrix
    assert max(map(len, lines)) <= 60
    assert cells(lines, f"{name[:29]}…") == ["0/60", "0/60"]


def test_lines_are_parted_for_a_terminal_alone(tmp_path):
    make_suite(tmp_path)
    reason = "a word " * 20
    write_json(tmp_path / "runs/finetune/mrpc/seed-2/error.json", {"reason": reason.strip()})
    state = StateReader(tmp_path).read()
    assert len(Picture(state, None).faults) == 1
    assert len(Picture(state, 80).faults) == 3
    assert " ".join(" ".join(Picture(state, 80).faults).split()) == " ".join(Picture(state, None).faults[0].split())


def test_runs_of_a_name_with_the_same_reason_are_one_line_on_a_terminal_and_in_a_pipe_each_has_its_own(tmp_path):
    make_suite(tmp_path)
    for seed in (1, 2):
        write_json(tmp_path / f"runs/finetune/mrpc/seed-{seed}/error.json", {"reason": "no paper"})
    state = StateReader(tmp_path).read()
    assert Picture(state, None).faults == [
        f"missing  runs/finetune/mrpc/seed-{seed}: crashed: no paper" for seed in (1, 2)
    ]
    assert Picture(state, 120).faults == [
        "missing  runs/finetune/mrpc/seed-1 and 1 more of finetune: crashed: no paper"
    ]


def test_a_low_terminal_shows_what_is_at_work_and_the_sums(tmp_path):
    experiments = {"first": {"title": "One", "methods": ["finetune", "vanilla_kd", "pkd", "theseus", "majority"]}}
    plan = make_suite(tmp_path, experiments=experiments)
    for task in ("rte", "mrpc"):
        for seed in (1, 2, 3):
            leave(plan, tmp_path, "majority", task, seed)
    run = "runs/finetune/rte/seed-2"
    with maker(tmp_path, run):
        state = StateReader(tmp_path).read()
    assert fit(state, 80, 13) == Picture(state, 80).lines, "legend 2, head 2, rows 6, an empty line, running, sums"
    lines = fit(state, 80, 10)
    assert len(lines) <= 10
    assert "not drawn: 1 row done, 4 rows waiting" in lines, "pkd, theseus, vanilla_kd and their predecessor wait"
    assert cells(lines, "finetune") == ["·▶·", "···"]
    assert lines[-2:] == [f"running  {run}: no step yet", "6 complete, 0 failed, 30 missing (1 running, 29 waiting)"]


def test_reasons_give_way_before_rows_and_the_sums_never(tmp_path):
    plan = make_suite(tmp_path)
    for seed in (1, 2, 3):
        leave(plan, tmp_path, "finetune", "rte", seed, status="failed", reason=f"diverged at step {seed}")
    state = StateReader(tmp_path).read()
    for height, more in ((9, "… and 3 lines more"), (10, "… and 2 lines more"), (6, "… and 3 lines more")):
        lines = fit(state, 80, height)
        assert len(lines) <= height
        assert lines[-2:] == [more, "0 complete, 3 failed, 9 missing (9 waiting)"]
        assert any(line.startswith("finetune ") for line in lines) == (height > 6)


def test_a_done_run_that_is_lost_or_made_anew_is_read_again(tmp_path):
    plan = make_suite(tmp_path)
    reader = StateReader(tmp_path)
    kinds = lambda: {state.run.path: state.kind for state in reader.read().runs}  # noqa: E731
    path = "runs/finetune/rte/seed-1"
    leave(plan, tmp_path, "finetune", "rte", 1)
    assert kinds()[path] == "complete"
    leave(plan, tmp_path, "finetune", "rte", 1, status="failed", reason="diverged")
    assert kinds()[path] == "failed"
    (tmp_path / path / "predictions.parquet").unlink()
    assert kinds()[path] == "missing"


def test_the_plan_that_snakemake_writes_anew_is_followed(tmp_path):
    make_suite(tmp_path)
    reader = StateReader(tmp_path)
    assert len(reader.read().runs) == 12
    make_suite(tmp_path, seeds=[1, 2])
    assert len(reader.read().runs) == 8


def test_without_a_terminal_nothing_is_watched(tmp_path, capsys):
    make_suite(tmp_path)
    assert run_command(["status", "--watch", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error == ("theseus-bench: status: --watch draws on a terminal, and the output goes to none; leave it out\n")


class Terminal:
    """A pseudo-terminal in which the suite is watched."""

    def __init__(self, folder: Path) -> None:
        self.output, inner = pty.openpty()
        command = [sys.executable, "-c", WATCHER, str(folder)]
        environment = ENVIRONMENT | {"COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's & ignores it
        )
        os.close(inner)
        self.bytes, self.text = b"", ""

    def wait_for(self, pattern: str) -> None:
        """Read what is drawn until it has the pattern."""
        until = time.monotonic() + PATIENCE
        while re.search(pattern, self.text) is None:
            assert time.monotonic() < until, f"{pattern} was not drawn: {self.text[-2000:]}"
            if select.select([self.output], [], [], 1.0)[0]:
                self.bytes += os.read(self.output, 65536)
                self.text = re.sub(r"\x1b\[[0-9;]*m", "", self.bytes.decode(errors="replace"))  # without its styles

    def end(self) -> int:
        """Its exit code, once it has ended."""
        try:
            while os.read(self.output, 65536):
                pass
        except OSError:  # nobody writes there any more
            pass
        os.close(self.output)
        return self.process.wait(PATIENCE)


@pytest.fixture
def watch():
    terminals = []

    def start(folder: Path) -> Terminal:
        terminals.append(Terminal(folder))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.process.kill()
        terminal.process.wait(PATIENCE)


def test_the_picture_follows_the_runs_and_ends_with_the_last(tmp_path, watch):
    plan = make_suite(tmp_path)
    names = [(name, task, seed) for name in ("finetune", "majority") for task in ("rte", "mrpc") for seed in (1, 2, 3)]
    terminal = watch(tmp_path)
    terminal.wait_for(r"finetune  ···  ···")
    leave(plan, tmp_path, *names[0])
    terminal.wait_for(r"finetune  ✓··  ···")
    for name in names[1:]:
        leave(plan, tmp_path, *name)
    terminal.wait_for(r"12 complete, 0 failed, 0 missing")
    assert terminal.end() == 0


def test_an_interrupt_ends_the_picture_well(tmp_path, watch):
    make_suite(tmp_path)
    terminal = watch(tmp_path)
    terminal.wait_for("12 waiting")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
