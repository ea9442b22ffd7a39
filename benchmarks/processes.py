"""Run a command and say what it took: for the benchmarks of commands, which need a process of its own for each."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil  # Snakemake depends on it

LOOK_EVERY = 0.25  # seconds


@dataclass(frozen=True)
class Usage:
    """What a command and the processes that it started took."""

    clock: float  # seconds
    processor: float  # seconds, of all of them
    largest: float  # MB (10⁶ bytes) resident at most, of the largest of them
    together: float  # MB resident at most, of all at once, as far as was seen; a page that they share counts for each


def run(command: list[str], folder: Path = Path("."), environment: dict[str, str] | None = None) -> Usage:
    """Run a command in `folder`; what it says is shown if it fails, and the benchmark ends.

    Linux counts the memory of who starts a process as the process's own, so the caller must itself be small: it has
    to leave torch to its children.
    """
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        end, peak = threading.Event(), [0.0]
        watch = threading.Thread(target=_watch, args=(process.pid, end, peak))
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        clock = time.monotonic() - began
        end.set()
        watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')[-3000:]}")
    largest = usage.ru_maxrss * 1024 / 1e6
    return Usage(clock, usage.ru_utime + usage.ru_stime, largest, max(peak[0], largest))


def _watch(pid: int, end: threading.Event, peak: list[float]) -> None:
    """Until it has ended, keep in `peak` how much memory (MB) a process and its descendants had at most."""
    while not end.wait(LOOK_EVERY):
        try:
            process = psutil.Process(pid)
            peak[0] = max(peak[0], sum(map(_resident, [process, *process.children(recursive=True)])))
        except psutil.Error:
            return


def _resident(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 1e6
    except psutil.Error:
        return 0.0
