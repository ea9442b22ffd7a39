"""A method that begins as a copy of the template."""

from pathlib import Path

from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.method_spec import METHODS_FOLDER, create_method


def new_method(name: str) -> Path:
    """The folder of a new method in which its author has replaced the template's words."""
    return replace_words(create_method(name))


def replace_words(folder: Path) -> Path:
    template, file = read_yaml(METHODS_FOLDER / "_template/method.yaml"), folder / "method.yaml"
    text = file.read_text()
    for key in ("summary", "citation"):
        text = text.replace(template[key], f"The {key} of its author.")
    file.write_text(text)
    return folder
