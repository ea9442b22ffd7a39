"""One writer at a time: locks that the system takes back when their process dies, however it dies.

A lock is the system's (`flock`), on a file that says who holds it: process, machine and, under Slurm, job. Where
several machines share a file system it is for that to say how far its locks reach: over all of them on NFS, as it is
mounted by default, and on Lustre mounted with `flock`; elsewhere maybe over one machine, or there are none. So where a
lock can be had, but the file names a job of Slurm's on another machine, Slurm is asked whether that job still runs.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from theseus_bench import slurm
from theseus_bench.errors import UserError

LOCKS = ".locks"  # the folder in a suite's that holds the locks on what is being made
SUITE_LOCK = ".lock"  # the file in a suite's folder that the snakemake at work on it holds
UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # of a file system without locks
INTERVAL = 10.0  # seconds between two questions about a holder whose lock does not reach us
_suite_locks: list[int] = []  # open files whose locks last as long as the process


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock, as its file says."""

    process: int
    machine: str
    job: str = ""  # of Slurm's

    def __str__(self) -> str:
        job = f" of job {self.job}" if self.job else ""
        machine = "" if self.machine == socket.gethostname() else f" on {self.machine}"
        return f"process {self.process}{job}{machine}"


@contextmanager
def exclusive_lock(folder: Path, place: str) -> Iterator[None]:
    """Be the only process that makes `place` of the suite in `folder`; wait, and say for whom, while another does."""
    file = lock_file(folder, place)
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(file)
    if descriptor is None:
        print(f"waiting for {_describe_holder(file)}, which is at work on {folder / place}", flush=True)
        descriptor = _acquire(file, wait=True)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is held: who waits for it sees that it is gone, and opens a new one
        os.close(descriptor)


def lock_file(folder: Path, place: str) -> Path:
    """The file that is locked while `place` of the suite in `folder` is made; it names its maker."""
    return folder / LOCKS / hashlib.sha256(place.encode()).hexdigest()[:24]


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
            _lock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        pass
    except BlockingIOError:
        raise UserError(_busy_message(folder)) from None


def is_held(folder: Path, place: str) -> bool:
    """Whether a process is making `place` of the suite in `folder`; nothing is written.

    Who asks for the lock during the look, which is no longer than two calls of the system, waits for its end.
    """
    file = lock_file(folder, place)
    try:
        with open(file, "rb") as stream:
            is_locked = _lock(stream.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    holder = read_holder(file)
    return holder is not None and _is_at_work(holder, is_locked)


def read_holder(file: Path) -> Holder | None:
    """Who holds the lock on `file`, as far as it has said."""
    try:
        process, machine, *job = file.read_text(encoding="utf-8").split()
        return Holder(int(process), machine, *job)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def same_file(descriptor: int, path: Path) -> bool:
    """Whether what is open is still what is found at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _busy_message(folder: Path) -> str:
    """Who is at work on the suite in `folder`, and what to do."""
    holder = _describe_holder(folder / SUITE_LOCK)
    return f"another snakemake ({holder}) is running on {folder}: wait for it, or stop it"


def _describe_holder(file: Path) -> str:
    return str(read_holder(file) or "process ?")


def _acquire(file: Path, wait: bool = False) -> int | None:
    """Open `file` and lock it, and say in it who we are; None if another process has it and we do not wait."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            is_locked = _lock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        if same_file(descriptor, file):
            holder = read_holder(file)
            if holder is None or not _is_at_work(holder, is_locked):
                ours = f"{os.getpid()} {socket.gethostname()} {slurm.own_job()}"
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, ours.encode(), 0)
                return descriptor
            if not wait:
                os.close(descriptor)
                return None
            time.sleep(INTERVAL)
        os.close(descriptor)


def _lock(descriptor: int, operation: int) -> bool:
    """Lock an open file; False where the file system has no locks, BlockingIOError if another process has it."""
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True


def _is_at_work(holder: Holder, is_locked: bool) -> bool:
    """Whether who is named in a file that we could open, and lock if `is_locked`, is at work all the same."""
    if holder.machine == socket.gethostname():
        return not is_locked and holder.process != os.getpid() and _exists(holder.process)
    return holder.job not in ("", slurm.own_job()) and slurm.is_running(holder.job)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
