"""One writer at a time: locks that the system takes back when their process dies, however it dies."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from theseus_bench.errors import UserError

LOCKS = Path(".cache/locks")
SUITE_LOCK = ".lock"  # the file in a suite's folder that the snakemake at work on it holds
_suite_locks: list[int] = []  # open files whose locks last as long as the process


@contextmanager
def exclusive_lock(path: Path, locks: Path = LOCKS) -> Iterator[None]:
    """Be the only process that makes `path`; wait, with one line that says for whom, while another one does."""
    locks.mkdir(parents=True, exist_ok=True)
    file = locks / lock_name(path)
    descriptor = _acquire(file)
    if descriptor is None:
        print(f"waiting for process {_owner(file)}, which is at work on {path}", flush=True)
        descriptor = _acquire(file, wait=True)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is held: who waits for it sees that it is gone, and opens a new one
        os.close(descriptor)


def lock_name(path: Path) -> str:
    """The name of the file that is locked while `path` is made; the maker's process number is in it."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]


def hold_suite(folder: Path) -> None:
    """Hold the suite in `folder` until this process ends; UserError if another snakemake is at work on it.

    Snakemake's own lock outlives a snakemake that was killed, and would refuse the command that goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(folder / SUITE_LOCK)
    if descriptor is None:
        raise UserError(_busy_message(folder))
    _suite_locks.append(descriptor)


def check_suite(folder: Path) -> None:
    """UserError if another snakemake is at work on the suite in `folder`; nothing is written."""
    try:
        with open(folder / SUITE_LOCK, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        pass
    except BlockingIOError:
        raise UserError(_busy_message(folder)) from None


def _busy_message(folder: Path) -> str:
    """Who is at work on the suite in `folder`, and what to do."""
    return f"another snakemake (process {_owner(folder / SUITE_LOCK)}) is running on {folder}: wait for it, or stop it"


def _acquire(file: Path, wait: bool = False) -> int | None:
    """Open `file` and lock it, with our process's number in it; None if another process has it and we do not wait."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        if same_file(descriptor, file):
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
        os.close(descriptor)


def same_file(descriptor: int, path: Path) -> bool:
    """Whether what is open is still what is found at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(file: Path) -> str:
    """The number of the process that holds `file`, as far as it has said."""
    try:
        return file.read_text(encoding="ascii") or "?"
    except FileNotFoundError:
        return "?"
