"""Do the tests notice slips in the code between predictions and report? A seeded sample of mutants of each area.

    python benchmarks/mutants.py [--each 80] [--seed 0] [--area tables] [--jobs 2]

mutmut makes the mutants and runs, for each, the tests that call its function; [tool.mutmut] in pyproject.toml says
with which tests. Here they are drawn, in a copy of the project that is thrown away, and counted by area. Left out of
the draw are mutants of wording alone: of a string in which there is a space.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

AREAS = ("evaluation", "tables", "figures", "report")  # packages
LEFT_OUT = {"__init__", "speed_benchmark", "ro_crate", "ro_crate_graph"}  # clocks, and where files come from
PACKAGE = Path("theseus_bench")  # in the copy: mutmut takes a module's path for its name
WORDING = re.compile(r"'[^']* [^']*'|\"[^\"]* [^\"]*\"")
SURVIVED, UNTESTED = 0, 33  # mutmut's exit codes of a mutant that no test notices, and of one that no test calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--each", type=int, default=80, help="mutants of each area (default 80)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--area", choices=AREAS, action="append", help="all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_project(Path(folder))
        os.chdir(folder)
        output = mutmut("run", "nothing")  # makes the mutants and learns which tests call what; none has this name
        if "nothing matches" not in output:
            sys.exit(output[-5000:])
        samples = {area: draw(area, arguments.each, arguments.seed) for area in arguments.area or AREAS}
        names = [name for part in samples.values() for name in part]
        output = mutmut("run", "--max-children", str(arguments.jobs), *names)
        codes = {name: code for area in samples for name, code in results(area).items()}
        if any(codes[name] is None for name in names):  # the tests failed without any mutant
            sys.exit(output[-5000:])
        for area, part in samples.items():
            report(area, part, codes)


def copy_project(folder: Path) -> None:
    """The files that git knows, the package also at the top, and in the configuration which modules are mutated."""
    process = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True)
    for name in process.stdout.decode().splitlines():
        if Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, folder / name)
    shutil.copytree(folder / "workflow" / PACKAGE, folder / PACKAGE)
    modules = json.dumps([str(path) for area in AREAS for path in modules_of(area, folder)])
    config = folder / "pyproject.toml"
    config.write_text(config.read_text().replace("[tool.mutmut]\n", f"[tool.mutmut]\nonly_mutate = {modules}\n"))


def modules_of(area: str, folder: Path = Path()) -> list[Path]:
    """An area's modules, by their way from the copy's `folder`."""
    paths = sorted((folder / PACKAGE / area).glob("*.py"))
    return [path.relative_to(folder) for path in paths if path.stem not in LEFT_OUT]


def mutmut(*words: str) -> str:
    """What mutmut prints. The copy comes before any installed package, and each process has one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-m", "mutmut", *words]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def results(area: str) -> dict[str, int | None]:
    """mutmut's exit code of each of the area's mutants; None of those that were not run."""
    files = [Path("mutants", f"{path}.meta") for path in modules_of(area)]
    return {name: code for file in files for name, code in json.loads(file.read_text())["exit_code_by_key"].items()}


def draw(area: str, count: int, seed: int) -> list[str]:
    """`count` mutants of an area that change more than wording, the same ones for the same code and seed."""
    names = list(results(area))
    random.Random(seed).shuffle(names)
    sample = []
    while names and len(sample) < count:
        name = names.pop()
        removed, added = changed_lines(name)
        if WORDING.sub("", removed) != WORDING.sub("", added):
            sample.append(name)
    return sample


def changed_lines(name: str) -> tuple[str, str]:
    """What a mutant removes and what it adds."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # an extra, and it reads the copy's configuration

    path = Path(*name.split(".")[:3]).with_suffix(".py")
    lines = get_diff_for_mutant(name, path=path).splitlines()[2:]
    removed, added = ("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return removed, added


def report(area: str, sample: list[str], codes: dict[str, int | None]) -> None:
    """How many of an area's mutants were killed, and each that was not."""
    alive = [name for name in sample if codes[name] in (SURVIVED, UNTESTED)]
    print(f"\n{area}: {len(sample) - len(alive)} of {len(sample)} killed ({1 - len(alive) / len(sample):.0%})")
    for name in sorted(alive):
        removed, added = changed_lines(name)
        print(f"  {name}{' (no test calls it)' if codes[name] == UNTESTED else ''}\n    - {removed}\n    + {added}")


if __name__ == "__main__":
    main()
