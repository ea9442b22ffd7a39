"""Faults in the processes of a suite and in the disk under them, each followed by the same command."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from copies import SMALL_COMMAND, SMALL_SUITE
from damaged_files import KINDS, damage
from outcomes import LOST, SURVIVED, WRONG, Outcomes
from theseus_bench import commands
from theseus_bench.suite.load import read_plan
from theseus_bench.training.run import execute

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
# What must come out bit for bit: all that no time of day or of computation is in.
COMPARED = (
    "runs/**/predictions.parquet",
    "teacher/**/*.npy",
    "data/**/*.npy",
    "compact/*/model.safetensors",
    "scores/*.parquet",
    "significance/*.json",
    "submissions/**/*.zip",
    "tables/equal.csv",
    "tables/equal_significance.*",
    "tables/equal_seeds.*",
    "tables/equal_behaviour.*",
)
PATIENCE = 900  # seconds until a command counts as hung
COMMAND = ["theseus-bench", "with-preload", *SMALL_COMMAND]


def contents(project: Path) -> dict[str, bytes]:
    """The files of the suite that are compared, by their paths."""
    suite = project / SMALL_SUITE
    files = [file for pattern in COMPARED for file in sorted(suite.glob(pattern))]
    return {str(f.relative_to(suite)): _scores_of(f) if f.name == "equal.csv" else f.read_bytes() for f in files}


def _scores_of(table: Path) -> bytes:
    """The table of scores without its measured speeds."""
    with table.open(newline="") as stream:
        rows = [{key: row[key] for key in row if "speed" not in key} for row in csv.DictReader(stream)]
    return repr(rows).encode()


def complete(project: Path, expected: dict[str, bytes]) -> tuple[str, str]:
    """Call the command once: survived if it then has the expected contents, and is complete by its own account."""
    try:
        done = subprocess.run(COMMAND, cwd=project, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return LOST, "the command hung"
    if done.returncode:
        return LOST, done.stderr[-1500:]
    strict = ["theseus-bench", "status", "--strict", str(SMALL_SUITE)]
    status = subprocess.run(strict, cwd=project, capture_output=True, text=True)
    results = contents(project)
    changed = [name for name in expected if name in results and results[name] != expected[name]]
    if changed:
        return WRONG, ", ".join(changed)
    missing = sorted(expected.keys() - results.keys())
    return (LOST, f"{status.stdout[-500:]} {missing}") if status.returncode or missing else (SURVIVED, "")


def damage_and_complete(
    project: Path, expected: dict[str, bytes], rounds: int, choose: random.Random, outcomes: Outcomes
) -> None:
    """In each round one file of each kind is damaged, then the command is called once."""
    for _ in range(rounds):
        faults = []
        for kind in KINDS:
            file = choose.choice(kind.files(project / SMALL_SUITE))
            faults.append((kind.name, choose.choice(["a flipped bit", "a flipped bit", "cut", "emptied", "deleted"])))
            damage(file, faults[-1][1], choose)
        outcome, note = complete(project, expected)
        for place, fault in faults:
            outcomes.add(f"{place}, then the command", fault, outcome, note)


def processes_of(session: int) -> dict[int, str]:
    """The processes of a session by their command lines."""
    processes = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                processes[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
    return processes


def _targets(whom: str, parent: int) -> list[int]:
    """Which processes a signal goes to."""
    processes = processes_of(parent)
    if whom == "every process (a lost node)":
        return list(processes)
    if whom == "the preloaded process":
        return [parent]
    snakemakes = [pid for pid, line in processes.items() if "bin/snakemake" in line and "with-preload" not in line]
    if whom == "snakemake":
        return snakemakes[:1]
    jobs = [pid for pid, line in processes.items() if "theseus-bench" in line and pid not in (parent, *snakemakes)]
    return jobs[:1]


def stop_commands(
    project: Path, expected: dict[str, bytes], count: int, choose: random.Random, outcomes: Outcomes
) -> None:
    """Start the command with most of its work to do, send a signal to one of its processes, or to all, and go on."""
    pending = []
    for number in range(count):
        if number % 10 == 0:
            for place in ("runs", "teacher", "search", "scores", "tables", "report"):
                shutil.rmtree(project / SMALL_SUITE / place, ignore_errors=True)
        whom = choose.choice(["snakemake", "the preloaded process", "a job", "every process (a lost node)"])
        number_of_signal = signal.SIGKILL if "every" in whom else choose.choice(SIGNALS)
        command = subprocess.Popen(
            COMMAND, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait = choose.uniform(1, 25)
        try:
            command.wait(wait)
        except subprocess.TimeoutExpired:
            for pid in _targets(whom, command.pid):
                try:
                    os.kill(pid, number_of_signal)
                except ProcessLookupError:
                    continue
        pending.append((f"{whom}, after a while", number_of_signal.name))
        try:
            command.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            outcomes.add(*pending.pop(), LOST, "the command did not end")
            os.killpg(command.pid, signal.SIGKILL)
        if number % 10 == 9 or number == count - 1:
            outcome, note = complete(project, expected)
            for place, name in pending:
                outcomes.add(place, name, outcome, note)
            pending = []


def _in_a_child(call: Callable[[], object], log: Path) -> int:
    """Start the call in a child of this process, which has imported all; its number."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            code = call()
            sys.stdout.flush()
            os._exit(code if isinstance(code, int) else 0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)


def stop_trainings(
    project: Path, expected: dict[str, bytes], count: int, choose: random.Random, outcomes: Outcomes
) -> None:
    """Stop the training of a run again and again, with a checkpoint every tenth of a second; in the end it is whole."""
    os.chdir(project)
    plan = read_plan(SMALL_SUITE)
    plan = replace(plan, suite=plan.suite.model_copy(update={"checkpoint_every": 0.1}))
    runs = [run for run in plan.runs.values() if run.spec.trained]
    while count > 0:
        run, signals = choose.choice(runs), []
        folder = SMALL_SUITE / run.path
        aside = folder.with_name("aside")
        os.replace(folder, aside)

        def train(run=run) -> None:
            execute(plan, run, SMALL_SUITE)

        for _ in range(min(count, 8)):
            child = _in_a_child(train, Path("train.log"))
            time.sleep(choose.uniform(0, 2.5))
            number = choose.choice(SIGNALS)
            os.kill(child, number)
            os.waitpid(child, 0)
            signals.append(number)
        code = os.waitpid(_in_a_child(train, Path("train.log")), 0)[1]
        name = f"{run.path}/predictions.parquet"
        if code or not (SMALL_SUITE / name).is_file():
            outcome, note = LOST, Path("train.log").read_text()[-500:]
        else:
            is_equal = (SMALL_SUITE / name).read_bytes() == expected[name]
            outcome, note = (SURVIVED, "") if is_equal else (WRONG, name)
        for number in signals:
            outcomes.add("a training", number.name, outcome, f"{run.path}: {note}")
        count -= len(signals)
        shutil.rmtree(folder)
        os.replace(aside, folder)


STEPS = [  # commands by hand, and what of the suite each makes
    (["train", "RUN", "TASK", "1"], ["runs/RUN/TASK/seed-1"]),
    (["teacher-outputs", "predecessor@equal", "TASK", "1"], ["teacher/predecessor@equal/TASK/seed-1"]),
    (["encode", "TASK"], ["data/TASK"]),
    (["fetch", "TASK", "results/mini/source/TASK"], ["source/TASK"]),
    (["select-settings", "vanilla_kd@equal", "TASK"], ["search/vanilla_kd@equal/TASK.json"]),
    (["score", "equal"], ["scores"]),
    (["significance", "equal"], ["significance"]),
    (["score-tables", "equal"], [f"tables/equal{ending}.csv" for ending in ("", "_significance", "_seeds")]),
    (["experiment-figures", "equal"], ["figures"]),
    (["submissions", "equal"], ["submissions"]),
    (["report"], ["report"]),
    (["ro-crate"], ["ro-crate-metadata.json"]),
]


@contextmanager
def small_disk(project: Path, mega_bytes: int = 192) -> Iterator[Path]:
    """A copy of the project on a disk of memory of its own, which can be filled or made read-only; needs root."""
    place = Path(f"{project}-disk")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mega_bytes}m", "none", place], check=True)
    try:
        shutil.copytree(project, place / "project", symlinks=True, ignore=shutil.ignore_patterns(".snakemake"))
        yield place
    finally:
        os.chdir("/")
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


def fill_disk(place: Path, expected: dict[str, bytes], count: int, choose: random.Random, outcomes: Outcomes) -> None:
    """One step of the suite at a time, on a disk that is full or cannot be written to, and again when it can."""
    project = place / "project"
    os.chdir(project)
    for _ in range(count):
        words, makes = choose.choice(STEPS)
        task, run = choose.choice(["rte", "qnli"]), choose.choice(["vanilla_kd@equal", "predecessor@equal"])
        words, makes = ([w.replace("TASK", task).replace("RUN", run) for w in part] for part in (words, makes))
        fault = choose.choice(["full disk", "full disk", "read-only disk"])
        for name in makes:
            made = SMALL_SUITE / name
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        arguments = [words[0], str(SMALL_SUITE), *words[1:]]
        if fault == "full disk":
            free = shutil.disk_usage(place).free
            (place / "filler").write_bytes(bytes(max(0, free - choose.randrange(200_000) // 4096 * 4096)))
        else:
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        log = Path(f"{place}.log")
        code = os.waitpid(_in_a_child(lambda arguments=arguments: commands.run(arguments), log), 0)[1]
        said = log.read_text()
        if fault == "full disk":
            (place / "filler").unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        again = os.waitpid(_in_a_child(lambda arguments=arguments: commands.run(arguments), log), 0)[1]
        results = contents(project)
        wrong = [name for name in expected if name in results and results[name] != expected[name]]
        missing = [name for name in expected if name not in results and name.startswith(tuple(makes))]
        is_clear = not code or (said.splitlines()[-1:] and said.splitlines()[-1].startswith("theseus-bench: "))
        outcome = WRONG if wrong else SURVIVED if not again and not missing and is_clear else LOST
        outcomes.add(f"{words[0]}", fault, outcome, f"{wrong or missing} {said[-700:]} {log.read_text()[-300:]}")
        log.unlink()
