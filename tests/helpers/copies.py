"""A copy of the project, in which a test runs the workflow and changes what it likes."""

import shutil
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def copy_project(folder: Path) -> None:
    """Copy what the workflow reads of the project into `folder`."""
    for name in ("Snakefile", "workflow/rules", "config", "methods", "report", "profiles", "results/published"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True, parents=True)
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, target)


SMALL_SUITE = Path("results/mini")
SMALL_METHODS = ["predecessor", "vanilla_kd", "distilbert@learning_rate=0.0015"]  # the last has nothing to search for
SMALL_COMMAND = ["snakemake", "--cores", "2", "--configfile", "config/mini.yaml"]


def copy_project_with_small_suite(folder: Path) -> None:
    """Copy the project into `folder`, with the configuration of a suite of generated data that SMALL_COMMAND makes.

    Two tasks and a seed: a predecessor, a student of it that is searched, and one with a compact checkpoint.
    """
    copy_project(folder)
    config = yaml.safe_load((folder / "config/demo.yaml").read_text())
    experiments = {"equal": {"title": "All", "methods": SMALL_METHODS, "protocols": ["equal"], "submission": True}}
    config.update(suite="mini", tasks=["rte", "qnli"], seeds=[1], keep_models=["all"], experiments=experiments)
    config["data"]["rows"] = 256
    config["backbone"]["steps"] = 300
    config["compact"] = {"distilbert": config["compact"]["distilbert"] | {"steps": 40}}
    config["settings"] = [{"set": {"learning_rate": 1.5e-3, "epochs": 3.0, "warmup": 0.1}}]
    config["equal"] = {"set": {"epochs": 3.0}, "search": {"learning_rate": [1.0e-3, 1.5e-3]}}
    config["search"]["budget"] = {"equal": 2}
    config["speed"].update(repetitions=3, seconds=0.01, batch_sizes=[1], headline={"batch_size": 1, "length": 32})
    (folder / "config/mini.yaml").write_text(yaml.safe_dump(config))


def link_project(folder: Path) -> None:
    """Have `folder` hold what the commands read of the project."""
    _link(folder, "config", "methods", "results/published")


def link_project_but_methods(folder: Path) -> None:
    """Have `folder` hold what the commands read of the project, its methods as a copy that may be changed."""
    _link(folder, "config", "results/published")
    shutil.copytree(ROOT / "methods", folder / "methods", ignore=shutil.ignore_patterns("__pycache__"))


def _link(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
