"""What a run was made of, by contents, and what is therefore kept."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from suites import deciding, leave_run, make_plan
from theseus_bench.checksums import CACHE, LARGE, checksum, sign_folder
from theseus_bench.files import read_json, write_json
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.suite.outputs import sign_step
from theseus_bench.suite.run_files import (
    inputs_of,
    keep_checkpoint,
    keep_run,
    run_outputs,
    set_aside,
    shelter,
    sign_checkpoint,
)
from theseus_bench.suite.search import save_choice
from theseus_bench.suite.status import faults, state, unsound

from results import choice_of


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A plan, one of its students with a record that holds, and the suite's folder with all that the student reads."""
    plan = make_plan()
    run = plan.run("vanilla_kd", "rte", 1)
    folder = tmp_path / "suite"
    for path in ("data/rte/data.json", "teacher/predecessor/rte/seed-1/logits.npy", "backbone/model.safetensors"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    (folder / "backbone/config.json").write_text("{}")
    predictions = {"validation": (np.arange(4), np.zeros(4), deciding(np.zeros(4, int), 2))}
    leave_run(plan, run, folder, predictions)
    file = folder / run.path / "predictions.parquet"
    leave_record(folder, run, inputs=inputs_of(plan, run, folder), predictions_sha256=checksum(file))
    return plan, run, folder


def leave_record(folder, run, **changes):
    file = folder / run.path / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes) + "\n")


def remake(path, text):
    """Write a file again, newer than it was."""
    path.unlink()
    path.write_text(text)


def test_a_run_is_kept_while_all_it_read_has_the_same_contents(suite):
    plan, run, folder = suite
    record = folder / run.path / "run.json"
    os.utime(record, (0, 0))
    text = record.read_bytes()
    remake(folder / "teacher/predecessor/rte/seed-1/logits.npy", "teacher/predecessor/rte/seed-1/logits.npy")
    assert keep_run(plan, run, folder)
    assert record.read_bytes() == text
    assert record.stat().st_mtime > (folder / "teacher/predecessor/rte/seed-1/logits.npy").stat().st_mtime - 1


@pytest.mark.parametrize(
    "path",
    [
        "teacher/predecessor/rte/seed-1/logits.npy",
        "data/rte/data.json",
        "backbone/model.safetensors",
        "backbone/config.json",
    ],
)
def test_a_run_is_not_kept_once_what_it_read_has_changed_or_is_gone(suite, path):
    plan, run, folder = suite
    remake(folder / path, "something else")
    assert not keep_run(plan, run, folder)
    assert not (folder / run.path / "run.json").exists(), "it must not outlive a try to replace it"


def test_a_record_that_an_older_version_has_left_holds_while_the_text_of_method_py_is_the_same(suite):
    plan, run, folder = suite
    file = METHODS_FOLDER / "vanilla_kd" / "method.py"
    inputs = inputs_of(plan, run, folder)
    del inputs["methods/vanilla_kd/*.py"]
    older = inputs | {"methods/vanilla_kd/method.py": hashlib.sha256(file.read_bytes()).hexdigest()}
    leave_record(folder, run, inputs=older)
    assert f"{run.path}/run.json" not in unsound(plan, [run], [], folder)
    assert keep_run(plan, run, folder)
    leave_record(folder, run, inputs=older | {"methods/vanilla_kd/method.py": "of another text"})
    assert f"{run.path}/run.json" in unsound(plan, [run], [], folder)
    assert not keep_run(plan, run, folder)


def test_a_run_is_not_kept_with_predictions_that_are_not_its_own(suite):
    plan, run, folder = suite
    file = folder / run.path / "predictions.parquet"
    file.write_bytes(file.read_bytes()[:-8] + b"\0\0\0\0PAR1")
    assert not keep_run(plan, run, folder)


def test_all_that_a_run_reads_has_a_checksum(suite):
    plan, run, folder = suite
    read = {"data/rte", "teacher/predecessor/rte/seed-1", "backbone/model.safetensors", "backbone/config.json"}
    assert inputs_of(plan, run, folder).keys() == read | {"methods/vanilla_kd/*.py"}
    search_plan = make_plan(search={"budget": 2, "seeds": [101]})
    other = search_plan.run("vanilla_kd", "rte", 1)
    inputs = []
    for rate in (1e-5, 2e-5):
        choice = folder / other.search_file
        choice.parent.mkdir(parents=True, exist_ok=True)
        values = choice_of(other)
        choice.write_text(json.dumps(values | {"chosen": values["chosen"] | {"settings": {"learning_rate": rate}}}))
        inputs.append(inputs_of(search_plan, other, folder))
    assert inputs[0].keys() == read | {"methods/vanilla_kd/*.py", other.search_file}
    assert {key for key in inputs[0] if inputs[0][key] != inputs[1][key]} == {other.search_file}


def test_a_flipped_byte_in_predictions_is_seen_by_status_and_made_again(suite):
    plan, run, folder = suite
    file = folder / run.path / "predictions.parquet"
    assert state(plan, run, folder)[0] == "complete"
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    assert state(plan, run, folder)[:2] == (
        "missing",
        "its predictions are damaged; the same snakemake command mends it",
    )
    assert f"{run.path}/run.json" in unsound(plan, [run], [], folder)


def test_what_is_forced_is_not_brought_back(suite):
    plan, run, folder = suite
    outputs = [f"{folder}/{run.path}/{name}" for name in ("run.json", "predictions.parquet")]
    set_aside([outputs], [], folder)
    for output in outputs:
        os.unlink(output)
    set_aside([], [outputs], folder)
    assert not keep_run(plan, run, folder)


def test_a_checkpoint_is_kept_while_each_of_its_files_is_what_it_was(tmp_path):
    folder = tmp_path / "backbone"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / name).write_text(name)
    sign_checkpoint(folder, {"steps": 3})
    assert keep_checkpoint(folder, {"steps": 3}, tmp_path)
    assert not keep_checkpoint(folder, {"steps": 4}, tmp_path)
    (folder / "tokenizer.json").write_text("other")
    assert not keep_checkpoint(folder, {"steps": 3}, tmp_path)


FOLDERS = {
    "backbone": "tokenizer.json",
    "data/rte": "train.rows.npy",
    "source/rte": "train.parquet",
    "figures/first": "curves.svg",
    "submissions/first": "a.zip",
}


@pytest.fixture(params=FOLDERS)
def folder_of(request, tmp_path):
    """A plan, a run, a folder that the run reads or that is made of it, one of its files, and what is unsound."""
    plan = make_plan()
    run = plan.run("finetune", "rte", 1)
    folder = tmp_path / request.param
    folder.mkdir(parents=True)
    for name in (FOLDERS[request.param], "other"):
        (folder / name).write_text("what was made")
    sign_folder(folder)
    return folder / FOLDERS[request.param], lambda: unsound(plan, [run], ["first"], tmp_path) == [request.param]


def test_a_folder_that_has_lost_a_file_is_made_again(folder_of):
    file, is_unsound = folder_of
    assert not is_unsound()
    file.unlink()
    assert is_unsound()


def test_a_folder_with_a_flipped_bit_is_made_again(folder_of):
    file, is_unsound = folder_of
    file.write_text("what waz made")
    assert is_unsound()


def test_a_folder_of_an_earlier_version_is_made_again_but_not_fetched(folder_of):
    file, is_unsound = folder_of
    (file.parent / ".sha256").unlink()
    assert is_unsound() == ("source" not in file.parts)


def test_where_records_are_trusted_what_has_no_checksums_is_sound(tmp_path):
    plan = make_plan(trust_records=True)
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed/first.json").write_text("{}")
    assert faults(plan, [], ["first"], tmp_path) == {}
    sign_step("speed", "first", tmp_path)
    (tmp_path / "speed/first.json").write_text("{ }")
    assert faults(plan, [], ["first"], tmp_path) == {"speed/first.json": "first.json is damaged"}


def test_what_was_set_aside_is_brought_back_if_it_holds(suite):
    plan, run, folder = suite
    outputs = [f"{folder}/{run.path}/{name}" for name in ("run.json", "predictions.parquet")]
    text = (folder / run.path / "run.json").read_bytes()
    set_aside([outputs], [], folder)
    for output in outputs:  # as Snakemake does before it starts the job
        os.unlink(output)
    set_aside([outputs], [], folder)  # a second command, after the first was killed
    assert keep_run(plan, run, folder)
    assert (folder / run.path / "run.json").read_bytes() == text
    for output in outputs:  # the job that brought it back counts as failed all the same
        os.unlink(output)
    assert keep_run(plan, run, folder)
    assert (folder / run.path / "run.json").read_bytes() == text


def test_a_run_that_ends_after_its_snakemake_was_killed_outlives_the_next_ones_deletion(suite):
    plan, run, folder = suite
    text = (folder / run.path / "run.json").read_bytes()
    set_aside([], [], folder)  # the next snakemake starts while the run is still at work
    shelter(run_outputs(run, folder), folder)  # it ends
    for name in ("run.json", "predictions.parquet"):
        (folder / run.path / name).unlink()
    assert keep_run(plan, run, folder)
    assert (folder / run.path / "run.json").read_bytes() == text


def test_what_was_set_aside_is_not_brought_back_if_it_does_not_hold(suite):
    plan, run, folder = suite
    outputs = [f"{folder}/{run.path}/{name}" for name in ("run.json", "predictions.parquet")]
    set_aside([outputs], [], folder)
    for output in outputs:
        os.unlink(output)
    remake(folder / "teacher/predecessor/rte/seed-1/logits.npy", "of another predecessor")
    assert not keep_run(plan, run, folder)
    assert not (folder / run.path / "run.json").exists()


def test_a_large_files_checksum_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "large"
    file.write_bytes(bytes(LARGE))
    first = checksum(file)
    assert checksum(file) == first
    (entry,) = (tmp_path / CACHE).iterdir()
    write_json(entry, read_json(entry) | {"sha256_of_file": "remembered"}, sealed=True)
    assert checksum(file) == "remembered"
    assert checksum(file, from_disk=True) == first
    entry.write_bytes(entry.read_bytes().replace(first[:1].encode(), b"f" if first[0] != "f" else b"e", 1))
    assert checksum(file) == first, "a damaged memory is none"
    with file.open("r+b") as stream:
        stream.write(b"1")
    assert checksum(file) != first


def test_what_is_unsound_is_found(suite):
    plan, run, folder = suite
    teacher = "teacher/predecessor/rte/seed-1"
    (folder / "speed").mkdir()
    (folder / "speed/first.json").write_text('{"speed": 1}')
    sign_step("speed", "first", folder)
    for place in ("backbone", "data/rte", teacher):
        sign_folder(folder / place)
    assert unsound(plan, [run], ["first"], folder) == []
    leave_record(folder, run, fingerprint="0" * 16)
    (folder / teacher / "logits.npy").unlink()
    (folder / "backbone/.sha256").write_text("cut")
    (folder / "speed/first.json").write_text('{"speed": 2}')
    assert sorted(unsound(plan, [run], ["first"], folder)) == [
        "backbone",
        f"{run.path}/run.json",
        "speed/first.json",
        teacher,
    ]


def test_a_search_choice_whose_seal_is_damaged_is_made_again(tmp_path):
    plan = make_plan(search={"budget": 2, "seeds": [101]})
    run = plan.run("finetune", "rte", 1)
    file = tmp_path / run.search_file
    save_choice(file, choice_of(run))
    assert unsound(plan, [run], [], tmp_path) == []
    file.write_bytes(file.read_bytes().replace(b'"sha256"', b'"sha25v"'))
    assert unsound(plan, [run], [], tmp_path) == [run.search_file]


def test_status_and_what_is_kept_are_told_without_importing_what_computes():
    modules = ("suite.run_files", "suite.status", "suite.load", "commands")
    code = f"import sys, {', '.join(f'theseus_bench.{module}' for module in modules)};"
    code += "print(sorted({'torch', 'transformers', 'datasets', 'evaluate', 'pandas'} & sys.modules.keys()))"
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True)
    assert process.stdout == "[]\n", process.stderr
