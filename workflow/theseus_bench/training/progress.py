"""How far a training has come, for who waits: a bar on a terminal, lines now and then in a log, a file for `status`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from theseus_bench.suite.progress_file import TrainingProgress, write_progress

SECONDS_BETWEEN = {"bar": 0.2, "line": 60.0, "file": 5.0}  # two states of each, so that telling costs nothing
_display: ProgressDisplay | None = None  # of the training in this process


@contextmanager
def show_progress(title: str, file: Path | None = None) -> Iterator[None]:
    """Tell how far the trainings in this block are: on a terminal by a bar, else by lines on standard output.

    There is a line for each evaluation, and for each minute without one. `file` is written anew every few seconds, for
    who looks from outside, and removed in the end.
    """
    global _display
    _display = ProgressDisplay(title, file)
    try:
        yield
    finally:
        _display.end()
        _display = None


def begin_progress(step: int, steps: int) -> None:
    """Say that a training of `steps` begins, or goes on, after `step`."""
    if _display is not None:
        _display.begin(step, steps)


def update_progress(step: int, learning_rate: float, evaluation: dict[str, Any]) -> None:
    """Say that `step` is done, where it is time to; `evaluation` is the curve's last entry, {} before the first.

    Without a `step` it is no evaluation, but has the loss of the step.
    """
    if _display is not None:
        _display.update(step, learning_rate, evaluation)


class ProgressDisplay:
    """Tells of one training at a time; most calls of `update` cost a look at the clock."""

    def __init__(self, title: str, file: Path | None) -> None:
        self.title, self.file = title, file
        self.first_step = self.steps = 0  # from which it goes on, and up to which
        self.start_time = 0.0
        self.last_evaluation = 0  # the step of the last one that has its line
        self.last_times = dict.fromkeys(SECONDS_BETWEEN, 0.0)
        self.bars: Bars | None = None

    def begin(self, step: int, steps: int) -> None:
        self.end()
        self.first_step, self.steps, self.last_evaluation = step, steps, step
        self.start_time = self.last_times["line"] = time.monotonic()
        if sys.stdout.isatty():
            columns = TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[state]}")
            self.bars = Bars(*columns, console=Console(file=sys.stdout), auto_refresh=False)
            self.bars.add_task(self.title, total=steps, completed=step, state=f"step {step:,} of {steps:,}")
            self.bars.start()

    def update(self, step: int, learning_rate: float, evaluation: dict[str, Any]) -> None:
        now, evaluation_step = time.monotonic(), evaluation.get("step", 0)
        if self.bars is not None and (self._is_due("bar", now) or step == self.steps):
            state = str(self._describe(step, learning_rate, evaluation, now))
            self.bars.update(self.bars.task_ids[0], completed=step, state=state, refresh=True)
        if self.bars is None and (evaluation_step > self.last_evaluation or self._is_due("line", now)):
            self.last_times["line"], self.last_evaluation = now, max(evaluation_step, self.last_evaluation)
            print(f"{self.title}: {self._describe(step, learning_rate, evaluation, now)}", flush=True)
        if self.file is not None and self._is_due("file", now):
            write_progress(self.file, self._describe(step, learning_rate, evaluation, now))

    def end(self) -> None:
        """Leave a bar as it stands, and no file."""
        if self.bars is not None:
            self.bars.stop()
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    def _is_due(self, kind: str, now: float) -> bool:
        """Whether it is time for the next of its kind; then this is its time."""
        is_due = now - self.last_times[kind] >= SECONDS_BETWEEN[kind]
        self.last_times[kind] = now if is_due else self.last_times[kind]
        return is_due

    def _describe(self, step: int, learning_rate: float, evaluation: dict[str, Any], now: float) -> TrainingProgress:
        seconds_per_step = (now - self.start_time) / max(1, step - self.first_step)
        return TrainingProgress(
            step=step,
            steps=self.steps,
            learning_rate=learning_rate,
            loss=float(evaluation["loss"]) if "loss" in evaluation else None,  # a processor waits here for its GPU
            score=evaluation.get("score"),
            seconds_left=seconds_per_step * (self.steps - step),
        )
