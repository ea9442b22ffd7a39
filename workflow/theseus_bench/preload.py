"""A fork server: many short commands without the seconds that importing torch costs each.

    theseus-bench with-preload snakemake --cores all --configfile config/demo.yaml

starts the command given and imports all that ours need. While that runs, every `theseus-bench` it calls is a client: it
hands its arguments to the server, which forks a child for it. So one run is still one process with its own record, the
rules are the same as without it, and no run can leave anything behind in the next, as several trained in one process
could. The server never computes, so no thread is lost in a fork, and it ends with the command that it started. If it is
killed, so are that command and its children.

A job of a cluster inherits the environment of who submitted it, and may even start on the same machine; what it runs
has to run inside the job, which accounts for it, limits it and ends it. So only a client in the server's own session
(that of a terminal, a batch job, a service) is served: a scheduler gives each job a session of its own.

A client imports this module too, some hundreds of times: what the server alone needs is imported inside its functions.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable

from theseus_bench.errors import UserError

SOCKET = "THESEUS_BENCH_PRELOAD"  # environment variable: the server's session, and after a colon its socket
NOT_PRELOADED = {"theseus_bench.commands", "theseus_bench.cli"}  # they import this module
LAZY_IMPORTS = [  # what our modules and the libraries import only when it is first used
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "scipy.stats",
    "textbrewer",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
]


def run_with_preload(command: list[str], run: Callable[[list[str]], int]) -> int:
    """Start `command`; until it ends, fork a child for each request and `run` its arguments there. The exit code."""
    import subprocess
    import tempfile

    from theseus_bench.stopping import end_with_parent

    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(folder, "socket")
        try:
            listener.bind(path)
        except OSError as error:
            raise UserError(f"with-preload: no socket at {path} ({error}); set TMPDIR to a shorter path") from None
        listener.listen(64)
        try:
            server = os.getpid()
            process = subprocess.Popen(
                command,
                env=os.environ | {SOCKET: f"{os.getsid(0)}:{path}"},
                preexec_fn=lambda: end_with_parent(server),
            )
        except OSError as error:
            raise UserError(f"with-preload: cannot run {command[0]!r}: {error.strerror}") from None
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command decides what an interrupt means
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # and a request to end
        try:
            preload()  # while the command starts: its first request waits for this
            children: set[int] = set()
            with selectors.DefaultSelector() as selector:
                selector.register(listener, selectors.EVENT_READ)
                while process.poll() is None:
                    if selector.select(timeout=0.1):
                        children |= _fork_child(listener, run)
                    children -= {pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]}
            for pid in children:
                os.kill(pid, signal.SIGTERM)
            return process.returncode
        except BaseException:
            process.terminate()
            raise


def preload() -> None:
    """Import every module of ours, with the libraries that they need, and leave all of it out of Python's sweeps.

    Otherwise the garbage collector of each child would go through, and so copy, what they have in common.
    """
    import gc
    import importlib
    import pkgutil

    import theseus_bench

    modules = [module.name for module in pkgutil.walk_packages(theseus_bench.__path__, "theseus_bench.")]
    for name in [name for name in modules if name not in NOT_PRELOADED] + LAZY_IMPORTS:
        importlib.import_module(name)
    # What is built at its first use: from the patterns of hundreds of architectures, from all that is installed.
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("bert")
    importlib.import_module("sklearn.metrics").accuracy_score([0], [0])
    gc.collect()
    gc.freeze()


def forward_command(arguments: list[str]) -> int | None:
    """Have the server run `theseus-bench` with these arguments, on our terminal and in our folder; its exit code.

    None if the server is gone, as its death must not fail every run that a workflow has left, and where it is none of
    ours but that of who submitted this job.
    """
    session, _, path = os.environ[SOCKET].partition(":")
    if session != str(os.getsid(0)):
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        data = json.dumps(request).encode()
        socket.send_fds(connection, [len(data).to_bytes(8)], [0, 1, 2])
        connection.sendall(data)
        try:
            child = int.from_bytes(_receive(connection, 8))
        except ConnectionError:
            return 1  # the child was killed before it began
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(child, number))
        code = connection.recv(1)
        return code[0] if code else 1  # no answer: the child was killed


def _fork_child(listener: socket.socket, run: Callable[[list[str]], int]) -> set[int]:
    """Accept a request and fork a child that runs it; the child's number, or none if the client was gone already."""
    from theseus_bench.stopping import end_with_parent

    connection, _ = listener.accept()
    with connection:
        size, files, _, _ = socket.recv_fds(connection, 8, 3)
        try:
            request = json.loads(_receive(connection, int.from_bytes(size))) if len(size) == 8 else None
        except ConnectionError:
            request = None
        sys.stdout.flush()
        sys.stderr.flush()
        server = os.getpid()
        pid = os.fork() if request else None
        if pid == 0:
            end_with_parent(server)
            listener.close()
            _run_request(connection, files, request, run)
        for file in files:
            os.close(file)
    return {pid} if pid else set()


def _run_request(connection: socket.socket, files: list[int], request: dict, run: Callable[[list[str]], int]) -> None:
    """In the child: become the client's process, run its command, answer with the exit code, and end."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for descriptor, file in enumerate(files):
            os.dup2(file, descriptor)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv[1:] = request["arguments"]
        connection.sendall(os.getpid().to_bytes(8))
        code = run(request["arguments"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            connection.sendall(bytes([code & 0xFF]))
        finally:  # whatever happens, a child never goes back into the server's loop
            os._exit(code & 0xFF)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the other side has gone")
        data += part
    return data
