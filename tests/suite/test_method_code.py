"""What of a method's code counts: an edit that changes what it computes, and no other."""

import ast
import hashlib

import pytest
from theseus_bench.errors import UserError
from theseus_bench.suite.method_code import _simplify, code_checksum, has_same_code

CODE = """from . import helper


class Mine:
    def loss(self, model, batch):
        return helper.error(batch, 0.5)
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "method.py").write_text(CODE)
    (folder / "helper.py").write_text("def error(batch, weight):\n    return weight * batch\n")
    (folder / "method.yaml").write_text("version: 1\n")
    return folder


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("method.py", "class Mine:\n", 'class Mine:\n    """A docstring."""\n\n    # A comment.\n'),
        ("method.py", "helper.error(batch, 0.5)", "helper.error(\n            batch,\n            0.50,\n        )"),
        ("helper.py", "return weight * batch", "return (weight * batch)  # the mean"),
        ("method.yaml", "version: 1", "version: 1 # a comment"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(folder, file, old, new):
    before = code_checksum(folder)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    assert code_checksum(folder) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("method.py", "0.5", "0.6"),
        ("method.py", "batch, 0.5", "model, 0.5"),
        ("method.py", "0.5", "None"),
        ("helper.py", "weight * batch", "weight + batch"),
    ],
)
def test_what_is_computed_counts_in_helper_files_too(folder, file, old, new):
    before = code_checksum(folder)
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    assert code_checksum(folder) != before


def test_a_file_that_is_added_or_gets_another_name_counts(folder):
    before = code_checksum(folder)
    (folder / "helper.py").rename(folder / "errors.py")
    renamed = code_checksum(folder)
    (folder / "empty.py").touch()
    assert len({before, renamed, code_checksum(folder)}) == 3


def test_a_field_that_another_python_adds_and_leaves_empty_does_not_count():
    tree, newer = (ast.parse("def error(batch):\n    return batch\n") for _ in range(2))
    newer.body[0].type_parameters = []
    newer.body[0]._fields = (*newer.body[0]._fields, "type_parameters")
    assert _simplify(newer) == _simplify(tree)


def test_what_is_no_python_is_one_line_with_its_place(folder):
    (folder / "helper.py").write_text("def error(batch):\n    return batch *\n")
    with pytest.raises(UserError) as refused:
        code_checksum(folder)
    assert str(refused.value) == f"{folder}/helper.py, line 2: invalid syntax"


def test_a_record_is_of_the_same_code_by_the_text_where_an_older_version_has_left_it(folder):
    inputs = {f"{folder}/*.py": code_checksum(folder)}
    older = {f"{folder}/method.py": hashlib.sha256(CODE.encode()).hexdigest()}
    assert has_same_code(inputs, folder)
    assert has_same_code(older, folder)
    (folder / "method.py").write_text(f"# A comment.\n{CODE}")
    assert has_same_code(inputs, folder)
    assert not has_same_code(older, folder)
    (folder / "method.py").write_text(CODE.replace("0.5", "0.6"))
    assert not has_same_code(inputs, folder)
