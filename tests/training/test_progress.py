"""How a training tells of itself: lines in a log, a bar on a terminal, a file for who looks from outside."""

import io
import re

import pytest
from theseus_bench.commands import run as run_command
from theseus_bench.files import write_json
from theseus_bench.suite.progress_file import TrainingProgress, progress_file, read_progress
from theseus_bench.training import progress
from theseus_bench.training.conformance_bench import STEPS, make_bench
from theseus_bench.training.progress import begin_progress, show_progress, update_progress


class Terminal(io.StringIO):
    """A standard output on which somebody looks."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, as the one number of a list that a test may change."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_for_each_evaluation_and_for_each_minute_without_one(clock, capsys):
    with show_progress("theseus on rte, seed 1"):
        begin_progress(0, 100)
        for step in range(1, 101):
            clock[0] += 8.0
            evaluation = {"step": 50, "loss": 0.5, "score": 0.625} if step >= 50 else {}
            update_progress(step, 1e-4, evaluation)
    lines = capsys.readouterr().out.splitlines()
    steps = [int(re.search(r"step (\d+) of 100", line).group(1)) for line in lines]
    assert steps == [8, 16, 24, 32, 40, 48, 50, 58, 66, 74, 82, 90, 98]
    assert lines[0] == "theseus on rte, seed 1: step 8 of 100, learning rate 1.0e-04, 12 min 16 s left"
    assert lines[6] == (
        "theseus on rte, seed 1: step 50 of 100, learning rate 1.0e-04, loss 0.500, score 62.5, 6 min 40 s left"
    )


def test_the_time_left_is_by_the_steps_since_it_went_on(clock, capsys):
    with show_progress("run"):
        begin_progress(90, 100)
        clock[0] += 60.0
        update_progress(92, 1e-4, {"step": 80, "loss": 0.5, "score": 0.5})  # told before it was stopped
    assert capsys.readouterr().out == "run: step 92 of 100, learning rate 1.0e-04, loss 0.500, score 50.0, 4 min left\n"


def test_a_terminal_has_a_bar_in_the_place_of_lines(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    with show_progress("theseus on rte, seed 1"):
        begin_progress(0, 4)
        for step in range(1, 5):
            clock[0] += 1.0
            update_progress(step, 1e-4, {})
    pictures = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part) for part in re.split(r"[\r\n]+", terminal.getvalue())]
    bars = [picture for picture in pictures if picture.startswith("theseus on rte, seed 1 ━")]
    assert "step 2 of 4" in " ".join(bars)
    assert "step 4 of 4, learning rate 1.0e-04, 0 s left" in bars[-1]


def fail_at_step_four(file, clock) -> list[TrainingProgress]:
    """A training that ends in an error; what its file said after each step."""
    states = []
    with show_progress("run", file):
        begin_progress(0, 10)
        for step, seconds in ((3, 6.0), (4, 1.0)):
            clock[0] += seconds
            update_progress(step, 1e-4, {})
            states.append(read_progress(file))
            if step == 4:
                raise InterruptedError(states)
    return states


def test_the_file_says_where_a_training_is_and_is_gone_with_it(clock, tmp_path):
    file = progress_file(tmp_path, "runs/theseus/rte/seed-1")
    file.parent.mkdir()
    with pytest.raises(InterruptedError) as ending:
        fail_at_step_four(file, clock)
    state = TrainingProgress(step=3, steps=10, learning_rate=1e-4, loss=None, score=None, seconds_left=14.0)
    assert ending.value.args[0] == [state, state]  # not each step is worth a write
    assert not file.exists()
    assert read_progress(file) is None


def test_a_training_by_hand_tells_of_its_evaluations(tmp_path, capsys):
    bench = make_bench("finetune", tmp_path)
    write_json(tmp_path / "suite.json", bench.plan.suite.model_dump())
    assert run_command(["train", str(tmp_path), "finetune", "rte", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] + line.partition(",")[2].partition(",")[0] for line in lines[:3]] == [
        f"finetune on rte seed 1: step {step} of {STEPS}" for step in (3, 6, 9)
    ]
    assert all(re.search(r", loss \d\.\d+, score \d+\.\d, ", line) for line in lines[:3])
    assert lines[-1].startswith("runs/finetune/rte/seed-1: ")
