"""A real Slurm of several nodes on this one machine: its daemons, started and stopped by a test.

Everything of it, configuration, keys, sockets, state and logs, lies in a folder of its own, and nothing of the system's
own Slurm is touched. What has no accounting is asked for by squeue, as on a cluster without a database.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
NODES = ("n1", "n2", "n3")
CPUS, MEMORY = 2, 24000  # of a node, whatever the machine has: threads, MiB
GPU = "toy"  # the type of the two GPUs that each node says it has; there are none, and jobs compute on the processor
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
PATIENCE = 60  # seconds until it gives up waiting for a daemon

CONFIGURATION = """\
ClusterName=theseus
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
KillWait=5
MinJobAge=300
TCPTimeout=5
MessageTimeout=10
GresTypes=gpu
{nodes}
PartitionName=short Nodes=ALL MaxTime=1440 Default=YES
"""


def missing_programs() -> list[str]:
    """The programs of Slurm and munge that are not installed."""
    return [name for name in (*DAEMONS, *CLIENTS) if find_program(name) is None]


def find_program(name: str) -> str | None:
    """Where a program is; the daemons' folder is not on every user's path."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin:/usr/local/sbin")


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait for the condition; an AssertionError after `patience` seconds."""
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen in {patience:.0f} s"
        time.sleep(0.1)


class Cluster:
    """The daemons of one Slurm in `folder`; `environment` is what its commands, and snakemake, are called with."""

    def __init__(self, folder: Path):
        self.folder = folder
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        """Write the configuration and start all daemons; returns when every node is idle."""
        for name in ("bin", "state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)  # munge refuses a socket that others could not reach or could replace
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        (self.folder / "slurm.conf").write_text(self._configuration())
        (self.folder / "gres.conf").write_text(f"Name=gpu Type={GPU} File=/dev/null,/dev/zero\n")
        (self.folder / "cgroup.conf").write_text("")
        # Snakemake's job calls srun without the variables of Slurm, and would look for /etc/slurm/slurm.conf.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {find_program("srun")} "$@"\n')
        srun.chmod(0o755)
        self.start_munge()
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        wait_until(lambda: set(self.states()) == {"idle"}, "that all nodes are idle")

    def _configuration(self) -> str:
        ports = iter(free_ports(len(NODES) + 1))
        host = socket.gethostname().split(".")[0]
        user = getpass.getuser()
        port = next(ports)
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={next(ports)} CPUs={CPUS} "
            f"RealMemory={MEMORY} Gres=gpu:{GPU}:2 State=UNKNOWN"
            for node in NODES
        )
        return CONFIGURATION.format(host=host, port=port, user=user, folder=self.folder, nodes=nodes)

    def start_munge(self) -> None:
        folder = self.folder
        options = {
            "socket": "munge.socket",
            "key-file": "munge.key",
            "pid-file": "munge.pid",
            "seed-file": "munge.seed",
        }
        options |= {"log-file": "munge.log"}
        arguments = [f"--{option}={folder / file}" for option, file in options.items()]
        self._start("munged", "munged", "--foreground", "--force", "--num-threads=2", *arguments)
        wait_until((folder / "munge.socket").exists, "that munge answers")

    def start_controller(self) -> None:
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
        wait_until(lambda: self.run("scontrol", "ping").returncode == 0, "that slurmctld answers")

    def start_node(self, node: str) -> None:
        self._start(node, "slurmd", "-D", "-N", node, "-f", str(self.folder / "slurm.conf"))

    def _start(self, name: str, program: str, *arguments: str) -> None:
        path = find_program(program)
        assert path is not None
        with open(self.folder / f"{name}.out", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [path, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            )

    def write_state(self, job: str) -> None:
        """Have slurmctld write down what it knows of a job; returns when it has.

        By itself it does so some seconds after a change: one that is killed before has forgotten that the job runs.
        """
        file = self.folder / "state" / "job_state"
        before = file.stat().st_mtime_ns if file.exists() else 0
        changed = self.run("scontrol", "update", f"JobId={job}", "AdminComment=known")
        assert changed.returncode == 0, changed.stderr
        wait_until(lambda: file.exists() and file.stat().st_mtime_ns > before, "that slurmctld writes its state")

    def kill(self, name: str) -> None:
        """End a daemon ('slurmctld', or a node by its name) as a crash does; its jobs are left alone."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def lose(self, node: str) -> None:
        """End all that is on a node at once, as when it loses power; SlurmdTimeout later Slurm takes it for lost."""
        jobs = self.run("squeue", "--noheader", "--format=%i", f"--nodelist={node}").stdout.split()
        self.kill(node)
        for number in self.processes_of_jobs(*jobs):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def stop(self) -> None:
        """Cancel all jobs and end all daemons, and whatever of the jobs is still there then."""
        if "slurmctld" in self.processes:
            self.run("scancel", "--full", "--signal=KILL", "--user", getpass.getuser())
            self.run("scancel", "--user", getpass.getuser())
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in reversed(self.processes.values()):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        for number in self.strays():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def strays(self) -> list[int]:
        """The processes that were started with this cluster's environment, by its daemons, jobs or snakemake."""
        mark = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        numbers = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
        return [number for number in numbers if mark in _environment(number)]

    def processes_of_jobs(self, *jobs: str) -> list[int]:
        """The processes of these jobs, or of any."""
        marks = [f"SLURM_JOB_ID={job}".encode() for job in jobs]

        def is_of_jobs(variable: bytes) -> bool:
            return variable in marks if marks else variable.startswith(b"SLURM_JOB_ID=")

        return [number for number in self.strays() if any(map(is_of_jobs, _environment(number)))]

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """A command of Slurm's."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)

    def states(self) -> list[str]:
        """The state of each node."""
        return self.run("sinfo", "--noheader", "--Node", "--format=%t").stdout.split()

    def jobs(self, *options: str, form: str = "%i %T %k") -> list[str]:
        """A line for each job that is waiting, running or ending."""
        return self.run("squeue", "--noheader", f"--format={form}", *options).stdout.splitlines()


def _end_with_parent() -> None:
    """Have the system end this process with the one that started it, should that be killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _environment(process: int) -> list[bytes]:
    """The variables that a process was started with; none of one that has ended."""
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
