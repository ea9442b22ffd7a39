"""pyproject.toml, constraints.txt and environment.yml speak of the same packages at the same versions."""

import re
import tomllib
from pathlib import Path

import yaml


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    return {normal(name): version for name, version in (line.split("==") for line in lines if "==" in line)}


CONSTRAINTS = pins(Path("constraints.txt").read_text().split())
PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
PIP = next(
    item["pip"]
    for item in yaml.safe_load(Path("environment.yml").read_text())["dependencies"]
    if isinstance(item, dict)
)


def test_every_dependency_is_pinned():
    extras = [name for group in PROJECT["optional-dependencies"].values() for name in group]
    names = {normal(re.split(r"[<>=]", name)[0]) for name in PROJECT["dependencies"] + extras}
    assert names <= CONSTRAINTS.keys()


def test_conda_names_every_dependency_at_the_constrained_version():
    extras = [name for group in PROJECT["optional-dependencies"].values() for name in group]
    names = {normal(re.split(r"[<>=]", name)[0]) for name in PROJECT["dependencies"] + extras}
    assert pins(PIP) == {name: CONSTRAINTS[name] for name in names}


def test_torch_is_the_small_build():
    # An open range would take a build of several gigabytes where only a processor is at hand.
    assert CONSTRAINTS["torch"] == "2.13.0"


def test_benchmarks_call_commands_that_exist():
    from theseus_bench.commands import COMMAND

    text = Path("benchmarks/memory.py").read_text()
    commands = re.findall(r'COMMAND, "([a-z-]+)"', text) + re.findall(r'^ {4}"([a-z-]+)",$', text, re.MULTILINE)
    assert len(commands) >= 4
    assert set(commands) <= set(COMMAND.commands)
