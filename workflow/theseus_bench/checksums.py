"""Checksums of what is written, against which whoever reads it again checks it: a flipped bit becomes no number.

Three kinds of things carry them:

- A folder that a rule makes has a list of its files, `.sha256`, as sha256sum writes it and `sha256sum --check .sha256`
  reads it, whose last line is the checksum of the lines before it. It is written with the folder.
- Files that stand among others', as tables do, have such a list beside them, for each job that makes them.
- A JSON file that stands alone may be sealed (theseus_bench.files): it ends with the checksum of the text before that.

What carries none, as an earlier version has left it, is read as it is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from stat import S_ISDIR

from theseus_bench.errors import UserError
from theseus_bench.files import AGAIN, atomic, read_json, write_json

LIST = ".sha256"  # the list of a folder's own files
CACHE = Path(".cache/checksums")
LARGE = 2**18  # bytes: the checksum of a file of that size is remembered, until the file changes
GONE = f"no such file; {AGAIN}"


def checksum(path: Path, from_disk: bool = False) -> str:
    """The SHA-256 of a file's contents, or of a folder's files and their names; UserError if it is not there.

    That of a large file is remembered while its size and dates stay the same, unless it is to be read `from_disk`: who
    computes with its contents sees also what a disk has done to them, which leaves the dates as they were.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: {GONE}") from None
    if S_ISDIR(stat.st_mode):
        digest = hashlib.sha256()
        for file in sorted(path.iterdir()):
            if not file.name.startswith("."):
                digest.update(f"{file.name} {checksum(file, from_disk)}\n".encode())
        return digest.hexdigest()
    if stat.st_size < LARGE:
        return _digest(path)
    cache_file = CACHE / hashlib.sha256(os.path.abspath(path).encode()).hexdigest()[:24]
    identity = {"size": stat.st_size, "written": stat.st_mtime_ns, "changed": stat.st_ctime_ns, "inode": stat.st_ino}
    try:
        entry = read_json(cache_file)
    except (OSError, UserError):
        entry = {}
    if from_disk or {key: entry.get(key) for key in identity} != identity:
        entry = identity | {"sha256_of_file": _digest(path)}
        write_json(cache_file, entry, sealed=True)
    return str(entry["sha256_of_file"])


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sign_folder(folder: Path) -> None:
    """List the files of a folder that is whole, but hidden ones, in the folder."""
    sign([file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")], folder / LIST)


def sign(files: Iterable[Path], listing: Path) -> None:
    """Write the list of `files`, which are in the folder of `listing` or below it."""
    # not by `checksum`, which would remember what is still to be moved into its place
    lines = "".join(f"{_digest(file)}  {file.relative_to(listing.parent)}\n" for file in sorted(files))
    with atomic(listing, durable=False) as scratch:
        scratch.write_text(f"{lines}# {hashlib.sha256(lines.encode()).hexdigest()}\n", encoding="utf-8")


def fault_of_listed(listing: Path, names: Iterable[str] | None = None, from_disk: bool = False) -> str:
    """What is wrong with the files (all, or those called `names`) on the list; '' if nothing is. The list exists."""
    try:
        *lines, last = listing.read_text(encoding="utf-8").splitlines(keepends=True)
        by_name = {line[66:-1]: line[:64] for line in lines}
    except ValueError:
        last, lines, by_name = "", [], {}
    if last != f"# {hashlib.sha256(''.join(lines).encode()).hexdigest()}\n":
        return f"{listing.name} is damaged"
    for name in by_name if names is None else names:
        if name not in by_name:
            return f"{name} is not on the list {listing.name}"
        try:
            is_whole = checksum(listing.parent / name, from_disk) == by_name[name]
        except UserError:
            return f"{name} is gone"
        if not is_whole:
            return f"{name} is damaged"
    return ""


def check_files(listing: Path, names: Iterable[str] | None = None) -> None:
    """UserError unless files that are about to be read are those that were written; nothing where there is no list."""
    fault = fault_of_listed(listing, names, from_disk=True) if listing.is_file() else ""
    if fault:
        raise UserError(f"{listing.parent}: {fault}: it is not what was written; {AGAIN}")


def check_folder(folder: Path, *names: str) -> None:
    """`check_files` of a folder that a rule has made: all of it, or the files called `names`."""
    check_files(folder / LIST, names or None)
