"""What the code of this process, and of those that it starts, does to files and the network while it is watched."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Where the paths that an event touches stand among its arguments, and the folder descriptors that they are relative to.
PATHS = {
    "os.mkdir": [(0, 2)],
    "os.rename": [(0, 2), (1, 3)],
    "os.remove": [(0, 1)],
    "os.rmdir": [(0, 1)],
    "os.link": [(1, 3)],
    "os.symlink": [(1, 2)],
    "os.truncate": [(0, None)],
    "os.chmod": [(0, 2)],
    "os.chown": [(0, 3)],
    "os.utime": [(0, 3)],
}
NETWORK = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo"}
PROCESSES = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork", "os.forkpty", "os.spawn"}
_watchers: list[Watcher] = []


class Watcher:
    """Collects what is done: paths that are changed, addresses, and processes that code in `folder` starts.

    Symlinks are followed, so a path is that of what is changed. What does not go through Python is not seen.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder.resolve())
        self.paths: list[str] = []
        self.others: list[str] = []

    def hear(self, event: str, arguments: tuple) -> None:
        """Note an audit event of Python's."""
        if event == "open":
            path, mode, flags = arguments
            writes = (isinstance(flags, int) and flags & WRITING) or set(mode or "") & set("wax+")
            if writes and isinstance(path, str | bytes | os.PathLike):
                self.paths.append(os.path.realpath(os.fsdecode(path)))
        elif event in PATHS:
            for place, descriptor in PATHS[event]:
                self.paths.append(_locate(arguments[place], arguments[descriptor] if descriptor else None))
        elif event in NETWORK:
            address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
            self.others.append(f"the network at {address}")
        elif event in PROCESSES and self._is_called_from_folder():
            self.others.append(f"another process ({event})")

    def _is_called_from_folder(self) -> bool:
        frame = sys._getframe()
        while frame is not None:
            if os.path.realpath(frame.f_code.co_filename).startswith(self.folder + os.sep):
                return True
            frame = frame.f_back
        return False


def _locate(path: str | bytes | int, descriptor: int | None) -> str:
    """The absolute path of what is made, moved or removed: of a link itself, not of what it leads to."""
    if isinstance(path, int):
        return os.path.realpath(f"/proc/self/fd/{path}")
    name = os.fsdecode(path)
    if descriptor is not None and descriptor >= 0:
        name = os.path.join(os.path.realpath(f"/proc/self/fd/{descriptor}"), name)
    return os.path.join(os.path.realpath(os.path.dirname(name) or "."), os.path.basename(name))


@contextlib.contextmanager
def watch(folder: Path) -> Iterator[Watcher]:
    """Within the block a Watcher fills, for whom `folder` is the code that may start no process."""
    _hook()
    _watchers.append(Watcher(folder))
    try:
        yield _watchers[-1]
    finally:
        _watchers.pop()


@functools.cache
def _hook() -> None:
    sys.addaudithook(_audit)  # cannot be taken back, so it is set once and idles while nobody watches


def _audit(event: str, arguments: tuple) -> None:
    for watcher in _watchers:
        watcher.hear(event, arguments)


def list_contents(folders: Iterable[Path], leave_out: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of every file in `folders`, by its path, where links lead, and '' for folders; but not `leave_out`.

    What two lists do not have in common was changed in between, by whatever process and library.
    """
    left_out = {path.resolve() for path in leave_out}
    contents: dict[str, str] = {}
    for folder in folders:
        for root, names, files in os.walk(folder.resolve()):
            names[:] = [name for name in names if Path(root, name) not in left_out and name != "__pycache__"]
            contents |= dict.fromkeys((os.path.join(root, name) for name in names), "")
            for name in files:
                path = Path(root, name)
                link = os.readlink(path) if path.is_symlink() else ""
                contents[str(path)] = link or hashlib.sha256(path.read_bytes()).hexdigest()
    return contents
