"""Every folder under methods/, the template too, passes the tests that its author would run with check-method."""

from pathlib import Path

import pytest
from copies import link_project, link_project_but_methods
from new_method import new_method
from theseus_bench.errors import UserError
from theseus_bench.suite import method_spec
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.training import conformance
from theseus_bench.training.method import load_method

METHODS = sorted(path.parent.name for path in METHODS_FOLDER.glob("[!_]*/method.yaml"))


@pytest.mark.parametrize("name", METHODS)
def test_method_conforms(name, tmp_path, monkeypatch):
    link_project(tmp_path)
    monkeypatch.chdir(tmp_path)  # so that checkpoints do not meet other tests'
    assert problems(name) == {}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder of its own with a copy of the methods, where methods can be added and broken."""
    link_project_but_methods(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(name: str) -> dict[str, str]:
    return {title: problem for title, problem in conformance.check(METHODS_FOLDER / name) if problem}


def problem_of(name: str, title: str) -> str:
    """What the check of this title says of the method; those after it are not made."""
    return next(problem for full_title, problem in conformance.check(METHODS_FOLDER / name) if title in full_title)


def test_a_new_method_from_the_template_conforms(project):
    new_method("mine")
    assert problems("mine") == {}


def test_a_new_method_does_not_overwrite(project):
    new_method("mine")
    with pytest.raises(UserError, match="exists already"):
        new_method("mine")


@pytest.mark.parametrize("name", ["My-Method", "../escape", "_hidden", ""])
def test_a_new_method_has_a_plain_name(project, name):
    with pytest.raises(UserError, match="cannot name a method"):
        method_spec.create_method(name)


def edit(file: Path, *replacements: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


# What a method's code asks for, the line of the template's method.py that then asks, and the need that was forgotten.
FORGOTTEN = {
    "run.load_start()": (
        "run.load_teacher()",
        10,
        "no predecessor's model was asked for; write needs: [teacher_model]",
    ),
    "run.load_start() ": ("run.load_compact()", 10, "no compact checkpoint was asked for; write needs: [compact_chec"),
    "run.load_start()  ": ("run.load_source()", 10, "the method has no source; write source: {method: …, task: …}"),
    "needs: [teacher_outputs]": ("needs: []", 15, "teacher_logits was not asked for; write needs: [teacher_outputs]"),
    'batch["teacher_logits"]': (
        'batch["teacher_logit"]',
        15,
        "a batch has no 'teacher_logit' (did you mean 'teacher_logits'?)",
    ),
    'batch["labels"]': ('batch["label"]', 16, "a batch has no 'label' (did you mean 'labels'?)"),
}


@pytest.mark.parametrize("old", FORGOTTEN)
def test_a_forgotten_need_is_one_line_that_names_the_authors_own_once(project, old, capfd):
    folder = new_method("mine")
    new, line, complaint = FORGOTTEN[old]
    edit(folder / ("method.yaml" if old.startswith("needs") else "method.py"), (old.strip(), new))
    (problem, *others) = problems("mine").values()
    assert problem.startswith(f"methods/mine/method.py, line {line}: {complaint}")
    assert set(others) == {"the same"}
    assert "Traceback" not in capfd.readouterr().err


def test_with_debug_the_traceback_is_printed_once(project, capfd):
    folder = new_method("mine")
    edit(
        folder / "method.py",
        ("        logits = classify", "        raise ValueError('out of paper')\n        logits = classify"),
    )
    assert dict(conformance.check(folder, debug=True))[conformance.CHECKS[1][0]] == (
        "methods/mine/method.py, line 14: ValueError: out of paper"
    )
    assert capfd.readouterr().err.count("Traceback (most recent call last)") == 1


def test_python_files_beside_method_py_can_be_imported(project):
    folder = new_method("mine")
    (folder / "errors.py").write_text("from torch.nn.functional import mse_loss as squared\n")
    edit(
        folder / "method.py",
        ("from torch.nn import functional", "from . import errors"),
        ("functional.mse_loss", "errors.squared"),
    )
    assert problem_of("mine", "steps give a finite loss") == ""
    (folder / "errors.py").write_text("def squared(first, second):\n    return first.nothing\n")
    complaint = "methods/mine/errors.py, line 2: AttributeError: 'Tensor' object has no attribute 'nothing'"
    assert problem_of("mine", "steps give a finite loss") == complaint


def test_a_loss_that_relates_examples_has_to_say_so_and_its_batch_stays_whole(project):
    file = new_method("mine") / "method.py"
    edit(file, ('batch["teacher_logits"])', 'batch["teacher_logits"]) + functional.pdist(logits).mean()'))
    problem = problem_of("mine", "a batch in parts")
    assert problem.endswith("where it relates them to one another, write relates_examples = True in the class")
    edit(file, ("class MyMethod(Method):\n", "class MyMethod(Method):\n    relates_examples = True\n\n"))
    assert problem_of("mine", "a batch in parts") == ""
    edit(file, ("        logits = classify", "        raise MemoryError\n        logits = classify"))
    assert problem_of("mine", "steps give a finite loss") == "methods/mine/method.py, line 16: MemoryError: "


def test_another_method_that_is_not_valid_does_not_stop_the_check(project):
    new_method("mine")
    edit(new_method("other") / "method.yaml", ("version: 1", "versoin: 1"))
    assert problem_of("mine", "steps give a finite loss") == ""
    assert problems("other") == {
        "metadata complete": "methods/other/method.yaml: missing key 'version'; unknown key 'versoin' "
        "(did you mean 'version'?)"
    }


def test_a_second_teacher_and_an_unknown_published_row_are_told_of_by_the_check(project):
    file = new_method("mine") / "method.yaml"
    edit(file, ("published: {}", "published: {pdk: [mine]}"))
    assert "no table has a row 'pdk' (did you mean 'pkd'?)" in problems("mine")["metadata complete"]
    edit(file, ("published: {pdk: [mine]}", "published: {}"), ("role: baseline", "role: teacher"))
    complaint = "methods/mine/method.yaml: role: there is one teacher, but mine and predecessor are"
    assert problems("mine")["metadata complete"] == complaint


@pytest.mark.parametrize(
    ("old", "new"), [("on_step", "on_step_begin"), ("may_stop", "allow_early_stopping"), ("log", "metrics_to_log")]
)
def test_a_hook_by_its_old_name_is_refused_in_one_line(project, old, new):
    file = new_method("mine") / "method.py"
    file.write_text(file.read_text() + f"\n    def {old}(self, *arguments):\n        pass\n")
    problem = f"{file}: MyMethod.{old} is never called; the hook is now {new}, so rename it"
    assert next(conformance.check(file.parent)) == ("metadata complete", problem)
    with pytest.raises(UserError) as error:
        load_method(file.parent)
    assert str(error.value) == problem
