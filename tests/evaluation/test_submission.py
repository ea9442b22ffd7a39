"""Predictions as the GLUE server takes them."""

import json
import zipfile

import numpy as np
import pytest
from suites import deciding, leave_run, make_plan
from theseus_bench.data.tasks import TASKS_FILE, load_tasks
from theseus_bench.evaluation.submission import median_run, server_file, server_problems, write_submissions, write_zip

TASKS = load_tasks(TASKS_FILE)
# The names and labels that the server's own sample submission has.
FILES = {
    "cola": ["CoLA"], "sst2": ["SST-2"], "mrpc": ["MRPC"], "stsb": ["STS-B"], "qqp": ["QQP"],
    "mnli": ["MNLI-m", "MNLI-mm"], "qnli": ["QNLI"], "rte": ["RTE"], "wnli": ["WNLI"], "ax": ["AX"],
}  # fmt: skip


def test_every_test_split_has_the_servers_name():
    for name, files in FILES.items():
        assert list(TASKS[name].server) == TASKS[name].test
        assert list(TASKS[name].server.values()) == files


@pytest.mark.parametrize(
    ("task", "classes", "lines"),
    [
        ("cola", [1, 0], ["0\t1", "1\t0"]),
        ("wnli", [0, 1], ["0\t0", "1\t1"]),
        ("rte", [0, 1], ["0\tentailment", "1\tnot_entailment"]),
        ("qnli", [1, 0], ["0\tnot_entailment", "1\tentailment"]),
        ("mnli", [2, 0], ["0\tcontradiction", "1\tentailment"]),
        ("ax", [1, 2], ["0\tneutral", "1\tcontradiction"]),
    ],
)
def test_classes_are_written_as_the_server_names_them(task, classes, lines):
    text = server_file(TASKS[task], np.array([0, 1]), deciding(classes, TASKS[task].outputs))
    assert text == "\n".join(["index\tprediction", *lines]) + "\n"


def test_values_are_cut_to_the_scale():
    text = server_file(TASKS["stsb"], np.arange(4), np.array([[-0.2], [2.34567], [5.4], [0.0]]))
    assert text.splitlines()[1:] == ["0\t0.000", "1\t2.346", "2\t5.000", "3\t0.000"]


def test_lines_are_in_the_order_of_the_index():
    text = server_file(TASKS["cola"], np.array([2, 0, 1]), deciding([1, 0, 0], 2))
    assert text.splitlines()[1:] == ["0\t0", "1\t0", "2\t1"]


def official(task: str, split: str) -> str:
    size = TASKS[task].rows[split]
    return server_file(TASKS[task], np.arange(size), np.random.default_rng(0).random((size, TASKS[task].outputs)))


@pytest.mark.parametrize(("task", "split"), [(name, split) for name in FILES for split in TASKS[name].test])
def test_a_whole_file_has_no_problem(task, split):
    assert server_problems(TASKS[task], split, official(task, split)) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("index\tprediction", "id\tlabel", "RTE.tsv: the first line is 'id\\tlabel'"),
        ("0\t", "", "RTE.tsv: line 2 has index"),
        ("\n7\t", "\n8\t", "RTE.tsv: line 9 has index '8', expected 7"),
        ("\n2999\tentailment\n", "\n", "RTE.tsv: 2999 predictions, the official test set has 3000 examples"),
        ("\n3\tentailment", "\n3\tmaybe", "RTE.tsv: line 5 says 'maybe', expected one of entailment, not_entailment"),
    ],
)
def test_what_the_server_would_refuse_is_named(old, new, message):
    text = server_file(TASKS["rte"], np.arange(3000), deciding([0] * 3000, 2))
    assert old in text
    (problem,) = server_problems(TASKS["rte"], "test", text.replace(old, new, 1))
    assert problem.startswith(message)


def test_a_value_outside_the_scale_is_named():
    text = official("stsb", "test").splitlines()
    for value in ("5.100", "nan", "high"):
        (problem,) = server_problems(TASKS["stsb"], "test", "\n".join([*text[:-1], f"1378\t{value}"]))
        assert "line 1380" in problem
        assert "a number from 0 to 5" in problem


def test_equal_predictions_make_equal_zips(tmp_path):
    files = {"RTE.tsv": "b", "CoLA.tsv": "a"}
    for name in ("one", "two"):
        write_zip(tmp_path / f"{name}.zip", dict(sorted(files.items(), reverse=name == "two")))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert zipfile.ZipFile(tmp_path / "one.zip").namelist() == ["CoLA.tsv", "RTE.tsv"]


def rte_and_mnli(plan, folder, scores) -> None:
    for task, splits in (("rte", ["test"]), ("mnli", ["test_matched", "ax/test"])):
        for seed, score in enumerate(scores, start=1):
            run = plan.run("finetune", task, seed)
            predictions = {}
            for split in splits:
                size = TASKS["ax"].rows["test"] if split == "ax/test" else TASKS[task].rows[split]
                classes = [seed % TASKS[task].outputs] * size
                predictions[split] = (range(size), [-1] * size, deciding(classes, TASKS[task].outputs))
            leave_run(plan, run, folder, predictions, dev_score=score)


@pytest.fixture
def plan():
    return make_plan(experiments={"first": {"title": "One", "methods": ["finetune", "pkd"], "tasks": ["rte", "mnli"]}})


def test_the_seed_with_the_median_dev_score_stands_for_the_method(plan, tmp_path):
    rte_and_mnli(plan, tmp_path, [0.70, 0.60, 0.65])
    runs = [plan.run("finetune", "rte", seed) for seed in (1, 2, 3)]
    assert median_run(plan, runs, tmp_path).seed == 3
    assert median_run(plan, runs[:2], tmp_path).seed == 2  # the lower of two
    assert median_run(plan, [plan.run("pkd", "rte", 1)], tmp_path) is None


def test_a_methods_zip_holds_what_was_run_and_says_what_lacks(plan, tmp_path):
    rte_and_mnli(plan, tmp_path, [0.70, 0.60, 0.65])
    write_submissions(plan, "first", tmp_path)
    folder = tmp_path / "submissions" / "first"
    submissions = json.loads((folder / "submissions.json").read_text())
    archive = zipfile.ZipFile(folder / "finetune.zip")
    assert archive.namelist() == ["AX.tsv", "MNLI-m.tsv", "RTE.tsv"]
    assert archive.read("RTE.tsv").decode().splitlines()[1] == "0\tnot_entailment"  # seed 3's
    assert archive.read("AX.tsv").decode().splitlines()[-1] == "1103\tentailment"
    assert submissions["finetune.zip"]["runs"]["AX.tsv"] == "runs/finetune/mnli/seed-3"
    assert not submissions["finetune.zip"]["accepted"]
    assert [p for p in submissions["finetune.zip"]["problems"] if "missing" not in p] == []
    assert "MNLI-mm.tsv: missing" in submissions["finetune.zip"]["problems"]
    assert not (folder / "pkd.zip").exists()
    assert len(submissions["pkd.zip"]["problems"]) == 11


def test_a_sample_is_written_and_said_to_be_refused(plan, tmp_path):
    run = plan.run("finetune", "rte", 1)
    leave_run(plan, run, tmp_path, {"test": (range(10), [-1] * 10, deciding([0] * 10, 2))})
    write_submissions(plan, "first", tmp_path)
    submissions = json.loads((tmp_path / "submissions" / "first" / "submissions.json").read_text())
    assert "RTE.tsv: 10 predictions, the official test set has 3000 examples" in submissions["finetune.zip"]["problems"]
