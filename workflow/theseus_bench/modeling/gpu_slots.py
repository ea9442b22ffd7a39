"""Which of the machine's GPUs a run takes: the one that the fewest runs are on.

A run says that it is on a GPU by holding a lock on a file of its own in that GPU's folder. The system drops a lock with
the process that held it, however it ended, so there is nothing to clean up and nothing that can be stale. How many runs
there may be at once is the workflow's to say (gpu_slots, see profiles/), so there is no limit here: one that is started
by hand beside a full workflow finds a slot too.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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

    `folder` is where the slots are kept. UserError if it cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with _lock_slots(folder):
            counts = {name: _count_runs(folder / _file_name(name)) for name in names}
            gpu = min(names, key=counts.__getitem__)
            own = folder / _file_name(gpu)
            slot = tempfile.NamedTemporaryFile(dir=own, prefix=f"{os.getpid()}-", delete=False)  # noqa: SIM115
            fcntl.flock(slot, fcntl.LOCK_EX)
    except OSError as error:
        raise UserError(f"{folder}: cannot note there which GPU is taken ({error.strerror}); set TMPDIR") from None
    return gpu, slot


@contextmanager
def _lock_slots(folder: Path) -> Iterator[None]:
    """Within the block no other process counts or takes slots."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _count_runs(folder: Path) -> int:
    """How many slots in `folder` a living process holds; the others are removed."""
    folder.mkdir(exist_ok=True)
    count = 0
    for file in folder.iterdir():
        with file.open() as slot:
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                count += 1
            else:
                file.unlink()
    return count


def _file_name(gpu: str) -> str:
    """A GPU's name as a file may have it; a MIG id of old drivers has slashes."""
    return gpu.replace("/", "_")
