"""Entries of config/tasks.yaml: what has a default, and what is refused."""

import re

import pytest
from theseus_bench.data.tasks import load_tasks
from theseus_bench.errors import UserError


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("labels: [a, b], metrics: [pearson]", "metrics: pearson cannot measure classes"),
        ("metrics: [accuracy]", "metrics: accuracy cannot measure values (it has no labels)"),
        ("labels: [a, b, c], metrics: [f1]", "metrics: of 3 classes take accuracy or f1_macro"),
        ("labels: [a, b, c], metrics: [accuracy, matthews]", "metrics: of 3 classes take accuracy or f1_macro"),
    ],
)
def test_a_metric_that_cannot_measure_the_task_is_refused(tmp_path, entry, message):
    file = tmp_path / "tasks.yaml"
    file.write_text(f"mine: {{label: Mine, columns: [text], {entry}}}", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"tasks.yaml: mine: {message}")):
        load_tasks(file)


def test_a_task_of_ones_own_needs_four_keys(tmp_path):
    file = tmp_path / "tasks.yaml"
    file.write_text("mine: {label: Mine, columns: [text], labels: [a, b], metrics: [f1]}", encoding="utf-8")
    task = load_tasks(file)["mine"]
    assert task.splits == ["train", "validation"]
    assert (task.dev, task.test, task.rows, task.macro, task.max_length) == (["validation"], [], {}, True, 128)
