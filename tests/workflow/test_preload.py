"""The fork server: each request is run as if the client had run it itself."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from theseus_bench import commands, preload
from theseus_bench.errors import UserError

# The server, with nothing preloaded. Its `run` shows what a command sees, and ends as its first argument says.
SERVER = """
import json, os, signal, sys
from theseus_bench import preload
preload.preload = lambda: None

def run(arguments):
    if arguments[0] == "crash":
        raise RuntimeError("the boiler burst")
    if arguments[0] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if arguments[0] == "wait":
        sys.stdin.read()
        return 0
    request = {"argv": sys.argv[1:], "folder": os.getcwd(), "mark": os.environ.get("MARK"), "ppid": os.getppid()}
    print(json.dumps(request | {"stdin": sys.stdin.read()}))
    print("a word to say", file=sys.stderr)
    return int(arguments[0])

sys.exit(preload.run_with_preload(sys.argv[1:], run))
"""
CLIENT = "import sys; from theseus_bench import preload; sys.exit(preload.forward_command(sys.argv[1:]))"


def run_script(script: str, tmp_path: Path, **environment) -> subprocess.CompletedProcess:
    """Run `script` under a fork server. It has `ask(*arguments, **options)`, which runs a client to its end."""
    preamble = f"""
        import json, os, socket, subprocess, sys
        from theseus_bench import preload

        def ask(*arguments, **options):
            command = [sys.executable, "-c", {CLIENT!r}, *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=30, **{{"input": ""}} | options)

        def socket_of_server():
            return os.environ[preload.SOCKET].partition(":")[2]
        """
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(preamble) + textwrap.dedent(script))
    return subprocess.run(
        [sys.executable, "-c", SERVER, sys.executable, str(file)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_servers_exit_code_is_the_commands(tmp_path):
    assert [run_script(f"sys.exit({code})", tmp_path).returncode for code in (0, 3)] == [0, 3]


def test_a_command_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(preload, "preload", lambda: None)
    with pytest.raises(UserError, match="cannot run 'no-such-command': No such file"):
        preload.run_with_preload(["no-such-command"], lambda arguments: 0)


def test_a_folder_whose_path_is_too_long_for_a_socket_is_named(tmp_path, monkeypatch):
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(UserError, match=rf"with-preload: no socket at {folder}/.*; set TMPDIR to a shorter path"):
        preload.run_with_preload(["true"], lambda arguments: 0)


def test_the_server_preloads_all_without_asking_cuda_anything():
    """A fork of a process that has asked CUDA cannot use a GPU."""
    script = """
        import gc, sys
        import torch
        torch.cuda.is_available = torch.cuda.device_count = lambda: sys.exit("CUDA was asked")
        from theseus_bench import preload
        preload.preload()
        assert gc.get_freeze_count() > 0
        assert {"theseus_bench.training.run", "theseus_bench.figures.frames", "textbrewer"} <= sys.modules.keys()
        """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr


def test_each_request_gets_its_own_exit_code(tmp_path):
    process = run_script("print([ask(str(code)).returncode for code in (0, 1, 130, 0)])", tmp_path)
    assert process.stdout == "[0, 1, 130, 0]\n"
    assert process.stderr == ""


def test_a_command_sees_the_folder_environment_and_streams_of_the_client(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    script = f"""
        there = {{"cwd": {str(tmp_path / "elsewhere")!r}, "env": os.environ | {{"MARK": "client"}}}}
        process = ask("0", "--flag", "two words", input="from the client", **there)
        print(json.dumps([process.stdout, process.stderr]))
        """
    process = run_script(script, tmp_path, MARK="server")
    assert process.stderr == ""  # nothing went to the server's own streams
    stdout, stderr = json.loads(process.stdout)
    child = json.loads(stdout)
    del child["ppid"]
    assert child == {
        "argv": ["0", "--flag", "two words"],
        "folder": str(tmp_path / "elsewhere"),
        "mark": "client",
        "stdin": "from the client",
    }
    assert stderr == "a word to say\n"


def test_what_only_the_server_has_in_its_environment_is_not_seen(tmp_path):
    script = """
        print(ask("0", env={key: value for key, value in os.environ.items() if key != "MARK"}).stdout)
        """
    assert json.loads(run_script(script, tmp_path, MARK="server").stdout)["mark"] is None


def test_one_request_leaves_no_trace_in_the_next(tmp_path):
    script = """
        ask("0", cwd="/", env=os.environ | {"MARK": "first"})
        print(ask("0").stdout)
        """
    child = json.loads(run_script(script, tmp_path, MARK="server").stdout)
    assert (child["folder"], child["mark"]) == (os.getcwd(), "server")


def test_all_requests_are_run_by_children_of_one_server(tmp_path):
    script = """
        parents = [json.loads(ask("0").stdout)["ppid"] for _ in range(3)]
        print(json.dumps([parents, os.getppid()]))
        """
    parents, server = json.loads(run_script(script, tmp_path).stdout)
    assert parents == [server] * 3


def test_requests_run_side_by_side(tmp_path):
    script = f"""
        # The first waits for its input, which is closed only when the second is done.
        first = subprocess.Popen([sys.executable, "-c", {CLIENT!r}, "wait"], stdin=subprocess.PIPE)
        second = ask("4").returncode
        first.stdin.close()
        print(second, first.wait(timeout=30))
        """
    assert run_script(script, tmp_path).stdout == "4 0\n"


def test_a_crash_is_told_to_the_client(tmp_path):
    process = run_script(
        'crash = ask("crash"); print(json.dumps([crash.returncode, crash.stderr]), ask("0").returncode)', tmp_path
    )
    crash, after = process.stdout.rsplit(" ", 1)
    code, stderr = json.loads(crash)
    assert code == 1
    assert stderr.startswith("Traceback")
    assert "RuntimeError: the boiler burst" in stderr
    assert int(after) == 0


def test_a_child_that_is_killed_is_a_failure_and_the_rest_goes_on(tmp_path):
    process = run_script('print(ask("die").returncode, ask("0").returncode)', tmp_path)
    assert process.stdout == "1 0\n"


HANG_UP = """
    def request(*arguments, stdin, stdout):
        client = socket.socket(socket.AF_UNIX)
        client.connect(socket_of_server())
        request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        data = json.dumps(request).encode()
        socket.send_fds(client, [len(data).to_bytes(8)], [stdin, stdout, stdout])
        client.sendall(data)
        return client
"""


def test_the_client_may_be_killed_while_the_command_runs(tmp_path):
    script = """
    hold, ours = os.pipe()
    theirs, out = os.pipe()
    client = request("wait", stdin=hold, stdout=out)
    client.recv(8)  # the command has begun
    client.close()
    os.close(ours)  # now it ends, and has nobody to tell
    os.close(out)
    os.read(theirs, 1)  # until the child is gone
    print(ask("0").returncode, os.path.exists(socket_of_server()))
    """
    process = run_script(textwrap.dedent(HANG_UP) + textwrap.dedent(script), tmp_path)
    assert process.stdout == "0 True\n"
    assert process.returncode == 0


@pytest.mark.parametrize("sent", [b"", b"\0\0\0", (1000).to_bytes(8) + b'{"argu'], ids=["nothing", "size", "half"])
def test_a_client_may_be_killed_before_the_request_is_out(tmp_path, sent):
    script = f"""
        client = socket.socket(socket.AF_UNIX)
        client.connect(socket_of_server())
        client.sendall({sent!r})
        client.close()
        print(ask("0").returncode)
        """
    assert run_script(script, tmp_path).stdout == "0\n"


def test_the_socket_goes_with_the_command(tmp_path):
    process = run_script("print(socket_of_server())", tmp_path)
    assert not Path(process.stdout.strip()).exists()
    assert not Path(process.stdout.strip()).parent.exists()


def test_a_server_that_is_gone_is_told_apart_from_a_command_that_failed(tmp_path, monkeypatch):
    monkeypatch.setenv(preload.SOCKET, f"{os.getsid(0)}:{tmp_path / 'nowhere'}")
    assert preload.forward_command(["0"]) is None
    process = subprocess.run(["theseus-bench", "plan", "config/demo.yaml"], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "glue_dev" in process.stdout


def test_a_server_asked_to_end_ends_its_command(tmp_path):
    process = run_script(
        """
        import signal
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        os.kill(os.getppid(), signal.SIGTERM)
        signal.pause()
        """,
        tmp_path,
    )
    assert process.returncode == 5


def test_a_job_with_a_session_of_its_own_is_not_run_by_the_server_of_who_submitted_it(tmp_path):
    """A scheduler's daemon starts a job in a new session, with the environment of who submitted it."""
    script = """
        code = "from theseus_bench import preload; print(preload.forward_command(['0']))"
        command = [sys.executable, "-c", code]
        for job in (True, False):
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
            print(subprocess.run(command, **streams, text=True, start_new_session=job).stdout.splitlines()[-1])
        """
    assert run_script(script, tmp_path).stdout == "None\n0\n"


@pytest.mark.parametrize("before", [[], ["--"]])
def test_the_command_gets_every_word_that_follows_it(monkeypatch, before):
    calls = []
    monkeypatch.setattr(preload, "run_with_preload", lambda command, run: calls.append(command) or 0)
    command = ["snakemake", "--cores", "2", "--help", "--", "glue_dev"]
    assert commands.run(["with-preload", *before, *command]) == 0
    assert calls == [command]


def test_a_client_imports_next_to_nothing():
    code = "import sys; import theseus_bench.cli; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    paths = os.pathsep.join(sys.path)
    process = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}, capture_output=True)
    modules = set(process.stdout.decode().replace("'", "").strip("[]\n").split(", "))
    assert "theseus_bench" in modules
    assert not modules & {"typer", "pydantic", "yaml", "numpy", "torch", "subprocess", "tempfile", "pathlib"}
