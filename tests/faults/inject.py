"""Inject faults into a small suite of generated data, and print what came of each: python tests/faults/inject.py.

The suite is made in a folder of its own, or one that was made before is taken. Most faults are bits flipped in files,
files cut, emptied and deleted, shown to the code that reads them again and to the next plan. After others the whole
command is called again: damaged files, signals at random moments to each of its processes and to all of them, a full
disk and a read-only one (as root alone). What must come out is the same predictions, scores, tests and tables, bit for
bit.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests/helpers"), str(ROOT / "workflow")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "workflow"), os.environ.get("PYTHONPATH", "")])

from copies import SMALL_SUITE, copy_project_with_small_suite  # noqa: E402
from damaged_files import inject_into_files  # noqa: E402
from outcomes import Outcomes  # noqa: E402
from stopped_processes import (  # noqa: E402
    COMMAND,
    contents,
    damage_and_complete,
    fill_disk,
    small_disk,
    stop_commands,
    stop_trainings,
)


def main() -> int:
    """Inject, print the table, and fail if anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000, help="faults in files, each shown to its readers")
    parser.add_argument("--rounds", type=int, default=3, help="of a damaged file of each kind and the command")
    parser.add_argument("--stops", type=int, default=30, help="of the whole command, by signals")
    parser.add_argument("--trainings", type=int, default=80, help="stops of a single training")
    parser.add_argument("--disks", type=int, default=40, help="commands on a full or a read-only disk")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--project", type=Path, help="a folder in which the suite was made before")
    arguments = parser.parse_args()
    outcomes, start = Outcomes(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        project = arguments.project or Path(scratch)
        if not (project / SMALL_SUITE).is_dir():
            copy_project_with_small_suite(project)
        subprocess.run(COMMAND, cwd=project, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        expected = contents(project)
        choose = random.Random(arguments.seed)
        os.chdir(project)
        parts = [
            lambda: inject_into_files(SMALL_SUITE, arguments.files, arguments.seed, outcomes),
            lambda: stop_trainings(project, expected, arguments.trainings, choose, outcomes),
            lambda: _inject_into_disk(project, expected, arguments.disks, choose, outcomes),
            lambda: damage_and_complete(project, expected, arguments.rounds, choose, outcomes),
            lambda: stop_commands(project, expected, arguments.stops, choose, outcomes),
        ]
        for part in parts:
            part()
            print(f"{outcomes.total()} faults after {time.monotonic() - start:.0f} s", file=sys.stderr)
        os.chdir(ROOT)
    print(f"seed {arguments.seed}, {platform.platform()}, {os.cpu_count()} cores, {time.monotonic() - start:.0f} s\n")
    print(outcomes.table())
    return int(outcomes.total("lost", "wrong") > 0)


def _inject_into_disk(project, expected, count, choose, outcomes) -> None:
    if count and os.geteuid() == 0:
        with small_disk(project) as place:
            fill_disk(place, expected, count, choose, outcomes)
    elif count:
        print("full and read-only disks are not tried: that takes root", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
