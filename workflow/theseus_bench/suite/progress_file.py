"""How far a training is that has not ended: a small file beside its lock, which `theseus-bench status` reads."""

from __future__ import annotations

from pathlib import Path

from theseus_bench.errors import UserError
from theseus_bench.files import atomic, read_json
from theseus_bench.locks import lock_file
from theseus_bench.strict_yaml import Strict, parse
from theseus_bench.wording import duration, format_number


class TrainingProgress(Strict):
    """Where a training is."""

    step: int
    steps: int  # that it plans
    learning_rate: float
    loss: float | None  # mean over the steps before the last evaluation, None before the first; in pretraining the last
    score: float | None  # of the last evaluation, of the splits by which the checkpoint is chosen
    seconds_left: float

    def __str__(self) -> str:
        parts = [f"step {self.step:,} of {self.steps:,}", f"learning rate {self.learning_rate:.1e}"]
        parts += [] if self.loss is None else [f"loss {self.loss:.3f}"]
        parts += [] if self.score is None else [f"score {format_number(100 * self.score, 1)}"]
        return ", ".join([*parts, f"{duration(self.seconds_left)} left"])


def progress_file(folder: Path, place: str) -> Path:
    """The file that tells how far the training is that makes `place` of the suite in `folder`."""
    return lock_file(folder, place).with_suffix(".progress")


def write_progress(file: Path, progress: TrainingProgress) -> None:
    """Write it, the old or the new for who reads."""
    with atomic(file, durable=False) as scratch:
        scratch.write_text(progress.model_dump_json(), encoding="utf-8")


def read_progress(file: Path) -> TrainingProgress | None:
    """What the file says; None if there is none, or none that can be read."""
    try:
        return parse(TrainingProgress, read_json(file), str(file))
    except (OSError, UserError):
        return None
