"""Files written whole or not at all, and JSON.

A file is written beside its place and then moved, so that a reader finds a whole file or none. A JSON file may be
sealed: its last key is then the checksum of the text before it, which whoever reads it checks.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from theseus_bench.errors import UserError
from theseus_bench.locks import same_file

AGAIN = "the same snakemake command mends it"
FULL = 2**20  # bytes: so little room is left on a disk where what is written did not fit
SEAL = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n}\n\Z')
SEAL_SIZE = 100  # bytes, at most


@contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[Path]:
    """A place to write `path` to: moved there when the block ends well, removed when it does not. Folders too.

    What is moved has reached the disk, so that a machine that crashes leaves the old or the new, and no half; unless
    it is not `durable`, since it is soon made again, and waiting for the disk would take longer than that. A writer
    that was killed leaves its scratch folder; the next one for the same path sweeps it away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch, lock = _scratch_folder(path)
    try:
        with _name_full_disk(path):
            yield scratch / path.name
        if durable:
            _to_disk(scratch / path.name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        os.replace(scratch / path.name, path)
        if durable:
            _sync(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


@contextmanager
def _name_full_disk(path: Path) -> Iterator[None]:
    """Where the disk is full, whatever the block raises says so: some libraries tell that in errors of their own."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or shutil.disk_usage(path.parent).free > FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _scratch_folder(path: Path) -> tuple[Path, int]:
    """A new folder beside `path`, and the open lock on it that tells others of its living writer."""
    pattern = re.compile(rf"\.{re.escape(path.name)}-[a-z0-9_]{{8}}")
    with os.scandir(path.parent) as entries:
        for remnant in [Path(entry.path) for entry in entries if pattern.fullmatch(entry.name)]:
            with suppress(OSError):  # it is gone, or held, or nothing can be locked here: then nothing is swept
                lock = _lock(remnant)
                shutil.rmtree(remnant, ignore_errors=True)
                os.close(lock)
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            lock = _lock(scratch)
        except (BlockingIOError, FileNotFoundError):  # another writer is sweeping it away
            continue
        except OSError:  # no locks on folders on this file system
            lock = os.open(scratch, os.O_RDONLY)
        if same_file(lock, scratch):
            return scratch, lock
        os.close(lock)


def _lock(folder: Path) -> int:
    """An open lock on `folder`; OSError if it cannot be had."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _to_disk(path: Path) -> None:
    """Wait until `path`, a file or a folder with all that is in it, has reached the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            _sync(Path(folder, name))
        _sync(Path(folder))
    if path.is_file():
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, values: Any, sealed: bool = False) -> None:
    """Write `values` (with `sealed` a dict that is not empty) as readable JSON.

    NaN is refused: it is not JSON, and a reader would choke on it.
    """
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False).encode()
    with atomic(path) as scratch:
        scratch.write_bytes(_seal(text) if sealed else text + b"\n")


def read_json(file: Path, remedy: str = AGAIN) -> Any:
    """A JSON file of ours, without its seal; UserError, with the `remedy`, where it is not readable or damaged."""
    try:
        return json.loads(read_unsealed(file, remedy).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not readable as JSON ({error}); {remedy}") from None


def read_unsealed(file: Path, remedy: str = AGAIN) -> bytes:
    """The text of a JSON file without its seal; UserError if that does not hold. One without a seal is as it is."""
    contents = file.read_bytes()
    match = SEAL.search(contents[-SEAL_SIZE:])
    if match is None:
        return contents
    text = contents[: -len(match[0])]
    if hashlib.sha256(text).hexdigest().encode() != match[1]:
        raise UserError(f"{file}: damaged: it is not what was written; {remedy}")
    return text + b"\n}\n"


def is_sealed(file: Path) -> bool:
    """Whether a JSON file, which exists, holds a checksum of itself."""
    with file.open("rb") as stream:
        stream.seek(-min(SEAL_SIZE, file.stat().st_size), os.SEEK_END)
        return SEAL.search(stream.read()) is not None


def _seal(text: bytes) -> bytes:
    """The indented JSON of a dict with one key more, the checksum of the text before it."""
    text = text.removesuffix(b"\n}")
    return text + f',\n "sha256": "{hashlib.sha256(text).hexdigest()}"\n}}\n'.encode()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8: a reader sees the old file or the whole new one. Not durable (see `atomic`)."""
    with atomic(path, durable=False) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")
