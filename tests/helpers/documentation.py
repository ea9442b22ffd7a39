"""docs/generate.py as a module, and what a test says where a file of the documentation is stale."""

import importlib.util
from pathlib import Path
from types import ModuleType

COMMAND = "python docs/generate.py"


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", Path(__file__).parents[2] / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_current(file: str, text: str) -> None:
    assert Path(file).read_text(encoding="utf-8") == text, f"{file} is stale; make it anew with: {COMMAND}"
