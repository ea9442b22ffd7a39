"""When a training has to end before its time: a signal asks for it, or the job that it runs in is about to be ended.

A training asks after each step (`Deadline.reason_to_stop`). If it has to stop it keeps its state and raises `Stopped`,
of which the command makes the exit code GO_ON: called again, it goes on from there. To Snakemake that is a failure like
any other, which its `retries` starts again.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from theseus_bench import slurm
from theseus_bench.errors import UserError

GO_ON = 75  # EX_TEMPFAIL of sysexits.h: not done, try again
DEADLINE = "THESEUS_BENCH_DEADLINE"  # environment variable: seconds since 1970 at which the process will be killed
SLURM_DEADLINE = "SLURM_JOB_END_TIME"  # the same, as newer versions of Slurm set it
RESERVE = 30.0  # seconds before the deadline that are left for keeping the state, beside the longest time it has taken
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
TRAININGS = ("train", "backbone", "compact")  # the commands that keep their state when they are asked to stop
IMPATIENCE = 2.0  # seconds after which a second interrupt is another one; a terminal and its clients send one twice

_signals: list[tuple[signal.Signals, float]] = []  # what has asked this process to stop, and when


class Stopped(Exception):
    """A training has ended before its time, its state kept. The text says where, and why."""


class Deadline:
    """The time by which this process has to be done; whoever asks it after each step stops in time."""

    def __init__(self) -> None:
        self.end = _end_of_job()  # seconds since 1970; infinity where nothing says when
        self._last_time = time.time()
        self._longest = 0.0  # seconds between two questions: a step with an evaluation, or with a checkpoint

    def reason_to_stop(self) -> str:
        """Why the training has to stop now; "" if it may go on."""
        now = time.time()
        self._longest, self._last_time = max(self._longest, now - self._last_time), now
        if _signals:
            return f"by {_signals[0][0].name}"
        if now + RESERVE + 2 * self._longest >= self.end:
            return f"as its job ends at {time.strftime('%H:%M:%S', time.localtime(self.end))}"
        return ""


@contextmanager
def stop_by_signal(trains: bool = True) -> Iterator[None]:
    """Within the block SIGTERM and an interrupt ask the training to stop; a second interrupt ends it at once.

    Where nothing `trains` that would look whether it has to stop, they do what they always do.
    """
    if not trains:
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number, handler in handlers.items():
        if handler != signal.SIG_IGN:  # as where a shell has started it in the background
            signal.signal(number, _note_signal)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _signals.clear()


def stop_workflow_by_signal(finish: Callable[[], None]) -> None:
    """From now on SIGTERM has this process, a snakemake, `finish` what runs, and the trainings among it stop.

    Snakemake's own handler takes a lock, for which it waits for ever where the signal has come while its main thread
    holds it; in a thread of its own `finish` gets it in time.
    """

    def stop() -> None:
        finish()
        asked: set[int] = set()
        while True:  # until this process ends: a job may have been about to start
            asked |= _stop_trainings(asked)
            time.sleep(1.0)

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop, daemon=True).start())


def end_with_parent(parent: int) -> None:
    """Have the system kill this process when its `parent` dies, however that dies; on Linux alone.

    So nothing that was started is left at work, and the same command can be called again at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the system was told
            os._exit(1)


def _stop_trainings(asked: set[int]) -> set[int]:
    """Send SIGTERM to the trainings that this process has started, but for those `asked` already; their numbers."""
    import psutil  # it comes with snakemake, where alone this is called

    stopped = set()
    for process in psutil.Process().children(recursive=True):
        try:
            words = [Path(word).name for word in process.cmdline()[:4]]
            if process.pid not in asked and any(f"theseus-bench {name}" in " ".join(words) for name in TRAININGS):
                process.terminate()
                stopped.add(process.pid)
        except psutil.Error:  # it has just ended
            pass
    return stopped


def _note_signal(number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    if number == signal.SIGINT and any(n == number and now - when > IMPATIENCE for n, when in _signals):
        raise KeyboardInterrupt
    _signals.append((signal.Signals(number), now))


def _end_of_job() -> float:
    """When the job of this process will be killed, in seconds since 1970; infinity where nothing says so."""
    for name in (DEADLINE, SLURM_DEADLINE):
        if os.environ.get(name):
            try:
                return float(os.environ[name])
            except ValueError:
                raise UserError(f"{name} is {os.environ[name]!r}; it should be a time in seconds since 1970") from None
    end = slurm.end_of(slurm.own_job()) if slurm.own_job() else None
    return math.inf if end is None else end
