"""Which of the machine's GPUs a run takes: the one that the fewest runs are on.

A run says that it is on a GPU by holding a lock on a file of its own, a slot. The system drops a lock with the process
that held it, however it ended, so there is nothing to clean up and nothing that can be stale. How many runs there may
be at once is the workflow's to say (gpu_slots, see profiles/), so there is no limit here: one that is started by hand
beside a full workflow finds a slot too. In a job of Slurm's only the runs of that job count: its GPUs are its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from theseus_bench import slurm
from theseus_bench.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Of this machine and user, whatever the project's folder: on a file system of its own, where locks always work.
SLOTS = Path(tempfile.gettempdir()) / f"theseus-bench-gpus-{os.getuid()}"
_own_slot: list[IO] = []  # this process's, kept open until it ends


def take_gpu(count_gpus: Callable[[], int]) -> None:
    """Leave this process only the GPU that the fewest runs are on, and hold a slot on it until the process ends.

    To be called before CUDA is asked anything, as it looks at CUDA_VISIBLE_DEVICES only once. `count_gpus()` says how
    many GPUs there are where that is not set; without any nothing is done, and the second call changes nothing.
    """
    if _own_slot:
        return
    names = visible_gpus(os.environ.get(VISIBLE), count_gpus)
    if names:
        name, slot = claim_slot(names, SLOTS)
        _own_slot.append(slot)
        os.environ[VISIBLE] = name


def visible_gpus(value: str | None, count_gpus: Callable[[], int]) -> list[str]:
    """The GPUs that CUDA would see under this value of CUDA_VISIBLE_DEVICES: indices, UUIDs or MIG ids as they stand.

    As in CUDA, a negative index or an empty name hides all that come after it. Where it is not set (None), they are
    numbered up to `count_gpus()`.
    """
    if value is None:
        return [str(i) for i in range(count_gpus())]
    names = []
    for name in value.split(","):
        if not name.strip() or name.strip().startswith("-"):
            break
        names.append(name.strip())
    return names


def claim_slot(names: Sequence[str], folder: Path) -> tuple[str, IO]:
    """The least used of the GPUs `names` (the first of several) and a slot on it, which is held until it is closed.

    `folder` is where the slots are kept. UserError if it cannot be written, or is another user's.
    """
    try:
        place = _open_own_folder(folder)
        try:
            with _lock_slots(place):
                counts = {name: _count_runs(place, _slot_prefix(name)) for name in names}
                gpu = min(names, key=counts.__getitem__)
                slot = _open_own_file(place, f"{_slot_prefix(gpu)}{os.getpid()}-{secrets.token_hex(4)}")
                fcntl.flock(slot, fcntl.LOCK_EX)
        finally:
            os.close(place)
    except OSError as error:
        raise UserError(f"{folder}: cannot note there which GPU is taken ({error.strerror}); set TMPDIR") from None
    return gpu, slot


def _open_own_folder(folder: Path) -> int:
    """Open `folder`, made if it is not there; UserError unless it is ours and nobody else may look into it.

    In a folder for all, like /tmp, another user may have made it first. All that follows goes through what is open
    here, so that nobody can put another folder, or a link, in its place.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(descriptor)
        raise UserError(f"{folder} should be yours alone, and is not; remove it, or set TMPDIR to a folder of your own")
    return descriptor


def _open_own_file(place: int, name: str) -> IO:
    """Open a file of the open folder `place`, made if it is not there; OSError for anything but a file of ours."""

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place)

    file = open(name, "a", opener=opener)  # noqa: SIM115  # "a" empties nothing
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_nlink > 1:
        file.close()
        raise OSError(errno.EEXIST, f"{name} is none of our files")
    return file


@contextmanager
def _lock_slots(place: int) -> Iterator[None]:
    """Within the block no other process counts or takes slots."""
    with _open_own_file(place, "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _count_runs(place: int, prefix: str) -> int:
    """How many slots a living process holds, of those in the open folder whose names have `prefix`; others go."""
    count = 0
    for name in os.listdir(place):
        if re.fullmatch(rf"{re.escape(prefix)}\d+-[0-9a-f]{{8}}", name):
            with _open_own_file(place, name) as slot:
                try:
                    fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    count += 1
                else:
                    os.unlink(name, dir_fd=place)
    return count


def _slot_prefix(gpu: str) -> str:
    """What the names of a GPU's slots begin with. A cluster may number the GPUs of each job anew, from 0."""
    job = f"job-{slurm.own_job()}-" if slurm.own_job() else ""
    return f"{job}gpu-{quote(gpu, safe='')}-"
