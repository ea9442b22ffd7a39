"""Every folder under methods/, the template too, passes the tests that its author would run with check-method."""

import shutil
from pathlib import Path

import pytest
from theseus_bench.errors import UserError
from theseus_bench.suite import method_spec
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.training import conformance
from theseus_bench.training.method import load_method

METHODS = sorted(path.parent.name for path in METHODS_FOLDER.glob("[!_]*/method.yaml"))


@pytest.mark.parametrize("name", METHODS)
def test_method_conforms(name, tmp_path, monkeypatch):
    stay_at(monkeypatch, tmp_path)
    assert problems(name) == {}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the methods in a folder of its own, where methods can be added and broken."""
    stay_at(monkeypatch, tmp_path)
    (tmp_path / "methods").unlink()
    shutil.copytree(METHODS_FOLDER.resolve() if METHODS_FOLDER.exists() else ROOT / "methods", tmp_path / "methods")
    return tmp_path


ROOT = Path(__file__).parents[2]


def stay_at(monkeypatch, folder: Path) -> None:
    """Work in `folder`, with the project's tasks and methods at hand, so that checkpoints do not meet other tests'."""
    for name in ("methods", "config"):
        (folder / name).symlink_to(ROOT / name)
    monkeypatch.chdir(folder)


def problems(name: str) -> dict[str, str]:
    return {title: problem for title, problem in conformance.check(METHODS_FOLDER / name) if problem}


def test_a_new_method_from_the_template_conforms(project):
    method_spec.create_method("mine")
    assert problems("mine") == {}


def test_a_new_method_does_not_overwrite(project):
    method_spec.create_method("mine")
    with pytest.raises(UserError, match="exists already"):
        method_spec.create_method("mine")


@pytest.mark.parametrize("name", ["My-Method", "../escape", "_hidden", ""])
def test_a_new_method_has_a_plain_name(project, name):
    with pytest.raises(UserError, match="cannot name a method"):
        method_spec.create_method(name)


# Each breaks the template in one way that a check must find.
BREAKS = {
    "three steps": ("return (1 - self.weight)", "return float('nan') * (1 - self.weight)"),
    "the same seed": ("imitation = ", "import time; logits = logits + time.perf_counter() % 1; imitation = "),
    "a resumed run": (
        "logits = classify",
        "self.count = getattr(self, 'count', 0) + 1; logits = self.count * classify",
    ),
    "compressed model": ("    # More of", "    def compressed(self, model):\n        return None\n\n    # More of"),
    "nothing is fetched": ("logits = classify", "open('stray', 'w').close(); logits = classify"),
}


@pytest.mark.parametrize("title", BREAKS)
def test_a_broken_method_is_found(project, title):
    file = method_spec.create_method("mine") / "method.py"
    old, new = BREAKS[title]
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert any(title in problem for problem in problems("mine")), problems("mine")


@pytest.mark.parametrize(
    ("old", "new"), [("on_step", "on_step_begin"), ("may_stop", "allow_early_stopping"), ("log", "metrics_to_log")]
)
def test_a_hook_by_its_old_name_is_refused_in_one_line(project, old, new):
    file = method_spec.create_method("mine") / "method.py"
    file.write_text(file.read_text() + f"\n    def {old}(self, *arguments):\n        pass\n")
    problem = f"{file}: MyMethod.{old} is never called; the hook is now {new}, so rename it"
    assert next(conformance.check(file.parent)) == ("metadata complete", problem)
    with pytest.raises(UserError) as error:
        load_method(file.parent)
    assert str(error.value) == problem
