"""A copy of the project, in which a test runs the workflow and changes what it likes."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_project(folder: Path) -> None:
    """Copy what the workflow reads of the project into `folder`."""
    for name in ("Snakefile", "workflow/rules", "config", "methods", "report", "profiles", "results/published"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True, parents=True)
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, target)
