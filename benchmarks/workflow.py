"""What the workflow itself costs, beside the least that Snakemake needs for as much.

    python benchmarks/workflow.py parse      parsing the demo's Snakefile, and a dry run of it
    python benchmarks/workflow.py first      from the call to the first job, of the demo and of the paper
    python benchmarks/workflow.py jobs       the overhead of a job
    python benchmarks/workflow.py preload    a short command, by itself and from a fork server
    python benchmarks/workflow.py grid       the dry run of all of the paper's jobs

Ours and the other run in turn, each in a process of its own. Each pair gives a ratio, of processor seconds or, where
it is said, of seconds of the clock; the median is printed, and the smallest and the largest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import processes
from theseus_bench.files import write_json
from theseus_bench.preload import SOCKET
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.plan import Plan

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SNAKEMAKE, COMMAND = str(BIN / "snakemake"), str(BIN / "theseus-bench")
PROJECT = ["Snakefile", "workflow/rules", "config", "methods", "report", "profiles", "results/published"]
QUIET = ["--quiet", "all", "--cores", "2"]
EMPTY = "rule all:\n"
# The same jobs, waiting for the same others; each only touches a file. `backbone` is job 0.
LEAST = r"""
import json

WAITS = json.load(open("waits.json"))

rule all:
    input:
        [f"done/{job}" for job in range(len(WAITS))],

rule backbone:
    output:
        "done/0",
    shell:
        "date +%s.%N > begun; touch {output}"

rule job:
    input:
        lambda w: [f"done/{job}" for job in WAITS[int(w.job)]],
    output:
        "done/{job}",
    wildcard_constraints:
        job=r"[1-9]\d*",
    shell:
        "touch {output}"
"""
# In the place of theseus-bench: it leaves the outputs of the rules up to `train`, and does nothing else.
STUB = """#!/bin/sh
case "$1" in
backbone) date +%s.%N > begun; mkdir -p "$2/backbone" ;;
fetch) mkdir -p "$4" ;;
encode) mkdir -p "$2/data/$3" ;;
train) touch "$2/runs/$3/$4/seed-$5/run.json" "$2/runs/$3/$4/seed-$5/predictions.parquet" ;;
esac
"""


def main() -> None:
    actions = {"parse": parse, "first": first, "jobs": jobs, "preload": preload, "grid": grid}
    actions[sys.argv[1]](*map(int, sys.argv[2:]))


def parse(rounds: int = 5) -> None:
    """Parsing alone, which every job on a cluster does again, and a dry run; beside an empty Snakefile."""
    with _project() as project, tempfile.TemporaryDirectory() as empty:
        (Path(empty) / "Snakefile").write_text(EMPTY)
        for name, words in [("parsing", ["--list-rules"]), ("a dry run", ["--dry-run", *QUIET])]:
            _compare(
                f"{name} of the demo, beside an empty Snakefile",
                lambda words=words: processes.run([SNAKEMAKE, *words, "--configfile", "config/demo.yaml"], project),
                lambda words=words: processes.run([SNAKEMAKE, *words], Path(empty)),
                rounds,
            )


def first(rounds: int = 3) -> None:
    """Seconds of the clock from calling snakemake until its first job begins, with all jobs of the suite planned."""
    for name in ("demo", "config"):
        plan = load_plan(read_yaml(ROOT / "config" / f"{name}.yaml"), ROOT)
        waits = _waits(plan)
        with _project() as project, _least(waits) as least:
            _compare(
                f"seconds to the first job of {plan.suite.suite} ({len(waits)} jobs), beside as many that touch a file",
                lambda name=name, project=project: _until_first(project, "--configfile", f"config/{name}.yaml"),
                lambda least=least: _until_first(least),
                rounds,
                of="clock",
            )


def jobs(rounds: int = 3, seeds: int = 10) -> None:
    """A suite whose commands do nothing but leave their outputs, beside as many jobs that touch a file."""
    config = read_yaml(ROOT / "config" / "demo.yaml")
    config = {key: config[key] for key in ("data", "backbone", "student_layers", "tasks")}
    experiment = {"title": "Jobs", "methods": ["majority", "finetune"]}
    config |= {"suite": "jobs", "seeds": list(range(1, seeds + 1)), "experiments": {"trained": experiment}}
    waits = _waits(load_plan(config, ROOT))
    with _project() as project, _least(waits) as least:
        write_json(project / "config" / "jobs.yaml", config)

        def run(folder: Path, *words: str) -> processes.Usage:
            _forget(folder)
            return processes.run([SNAKEMAKE, *QUIET, *words], folder, _with_stub(folder))

        _compare(
            f"{len(waits)} jobs that do nothing, beside as many that touch a file",
            lambda: run(project, "--until", "train", "--configfile", "config/jobs.yaml"),
            lambda: run(least),
            rounds,
            len(waits),
        )


def preload(rounds: int = 7) -> None:
    """Seconds of the clock of a run that trains nothing: by itself, and from a fork server."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "suite"
        config = read_yaml(ROOT / "config" / "demo.yaml")
        config["data"]["rows"], config["backbone"]["steps"] = 64, 1
        write_json(folder / "suite.json", config)
        for words in (["backbone"], ["fetch", "rte", str(folder / "source" / "rte")], ["encode", "rte"]):
            processes.run([COMMAND, words[0], str(folder), *words[1:]], ROOT)
        run = [COMMAND, "train", str(folder), "majority", "rte", "1"]
        with _fork_server() as server:
            _compare(
                "a run that trains nothing, beside the same from a fork server",
                lambda: processes.run(run, ROOT),
                lambda: processes.run(run, ROOT, {SOCKET: server}),
                rounds,
                of="clock",
            )


def grid(rounds: int = 2) -> None:
    """The dry run of every job of the paper, beside as many that touch a file."""
    waits = _waits(load_plan(read_yaml(ROOT / "config" / "config.yaml"), ROOT))
    with _project() as project, _least(waits) as least:
        _compare(
            f"a dry run of the paper ({len(waits)} jobs), beside as many that touch a file",
            lambda: processes.run([SNAKEMAKE, "--dry-run", *QUIET], project),
            lambda: processes.run([SNAKEMAKE, "--dry-run", *QUIET], least),
            rounds,
        )


def _compare(
    title: str, run_ours: Callable, run_other: Callable, rounds: int, jobs: int = 0, of: str = "processor"
) -> None:
    """Run the two in turn, each giving what processes.run gives, and print how their seconds `of` and memory compare.

    With `jobs` the seconds are also given for one job.
    """
    pairs = [(run_ours(), run_other()) for _ in range(rounds)]
    times = [tuple(getattr(usage, of) for usage in pair) for pair in pairs]
    ratios = sorted(a / b for a, b in times)
    middle = [statistics.median(column) for column in zip(*times, strict=True)]
    memory = [max(pair[i].largest for pair in pairs) for i in (0, 1)]
    each = f", {1000 * middle[0] / jobs:.1f} ms and {1000 * middle[1] / jobs:.1f} ms a job" if jobs else ""
    print(
        f"{title}: {statistics.median(ratios):.2f} × ({ratios[0]:.2f} to {ratios[-1]:.2f}); {middle[0]:.2f} s and "
        f"{middle[1]:.2f} s of {'the ' * (of == 'clock')}{of}{each}; {memory[0]:.0f} MB and {memory[1]:.0f} MB",
        flush=True,
    )


def _waits(plan: Plan) -> list[list[int]]:
    """For each job up to the runs and searches, the backbone's first: the numbers of those it waits for."""
    needs: dict[str, list[str]] = {"backbone": []}
    for task in plan.suite.tasks:
        needs[f"source/{task}"] = []
        needs[f"data/{task}"] = ["backbone", f"source/{task}"]
    for method in plan.suite.compact:
        needs[f"compact/{method}"] = ["backbone"]
    for run in plan.runs.values():
        outputs = f"teacher/{run.task.name}/seed-{run.seed}"
        teacher = plan.teacher_of(run).path if run.spec.role != "teacher" else ""
        if run.spec.role == "teacher":
            needs[outputs] = [run.path]
        needs[run.path] = ["backbone", *(f"data/{name}" for name in plan.predicted_with(run.task.name))]
        needs[run.path] += [outputs] * ("teacher_outputs" in run.needs) + [teacher] * ("teacher_model" in run.needs)
        needs[run.path] += [f"compact/{run.spec.name}"] * ("compact_checkpoint" in run.needs)
        needs[run.path] += [plan.source_of(run).path] if run.spec.source else []
        if run.trials:
            needs[run.path].append(run.search_file)
            needs[run.search_file] = [trial.path for trial in plan.trials_of(run)]
    numbers = {name: number for number, name in enumerate(needs)}
    return [[numbers[other] for other in others] for others in needs.values()]


@contextlib.contextmanager
def _project() -> Iterator[Path]:
    """A copy of the project's workflow, without results."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in PROJECT:
            source, target = ROOT / name, Path(scratch) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        yield Path(scratch)


@contextlib.contextmanager
def _least(waits: list[list[int]]) -> Iterator[Path]:
    """A folder with the smallest workflow of these jobs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "Snakefile").write_text(LEAST)
        (folder / "waits.json").write_text(json.dumps(waits))
        yield folder


@contextlib.contextmanager
def _fork_server() -> Iterator[str]:
    """The socket of a fork server that lives as long as the block."""
    command = [COMMAND, "with-preload", "sh", "-c", f"echo ${SOCKET}; read ended"]
    server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().strip()
    finally:
        server.communicate("\n")


def _until_first(folder: Path, *words: str) -> processes.Usage:
    """One job of all that are planned in `folder`; the clock until it begins, the processor until snakemake ends."""
    _forget(folder)
    begin = time.time()
    usage = processes.run([SNAKEMAKE, *QUIET, "--until", "backbone", *words], folder, _with_stub(folder))
    return replace(usage, clock=float((folder / "begun").read_text()) - begin)


def _with_stub(folder: Path) -> dict[str, str]:
    """An environment in which theseus-bench is the stub."""
    stub = folder / "bin" / "theseus-bench"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text(STUB)
    stub.chmod(0o755)
    return {"PATH": f"{stub.parent}:{os.environ['PATH']}"}


def _forget(folder: Path) -> None:
    """Remove what an earlier round has left."""
    for path in [folder / "done", folder / ".snakemake", *(folder / "results").glob("*")]:
        if path.name != "published":
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
