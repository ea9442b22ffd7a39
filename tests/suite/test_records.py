"""What a run leaves on disk: whole files or none, and an honest account of where they came from."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import RECORD
from theseus_bench import commands
from theseus_bench.errors import UserError, message_of
from theseus_bench.files import atomic, write_json
from theseus_bench.suite.provenance import code_revision, provenance
from theseus_bench.suite.records import RunRecord, crash_reason, read_predictions, read_record, record_crash
from theseus_bench.training.run import predictions_table
from tiny import make_split


def leave_half(path, error=None):
    """Write half of `path` and fail."""
    with atomic(path) as scratch:
        scratch.write_text("new, but only ha")
        raise error or RuntimeError("power cut")


def test_atomic_leaves_the_old_file_where_the_block_fails(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"):
        leave_half(file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_atomic_leaves_nothing_where_there_was_nothing(tmp_path):
    with pytest.raises(RuntimeError):
        leave_half(tmp_path / "deep" / "file.txt")
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(("free", "error"), [(1000, OSError), (2**30, AttributeError)])
def test_on_a_full_disk_a_librarys_own_error_says_so(tmp_path, monkeypatch, free, error):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(error) as failure:
        leave_half(tmp_path / "figures", AttributeError("'Stream' object has no attribute 'pos'"))
    if error is OSError:
        assert message_of(failure.value) == f"{tmp_path}/figures: no space left on device; make room on the disk"
    assert list(tmp_path.iterdir()) == []


def test_atomic_shows_nothing_before_the_block_ends(tmp_path):
    file = tmp_path / "file.txt"
    with atomic(file) as scratch:
        scratch.write_text("new")
        assert not file.exists()
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


WRITER = """
import os, signal, sys
from pathlib import Path
from theseus_bench.files import atomic
with atomic(Path(sys.argv[1])) as scratch:
    scratch.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def start_writer(file) -> subprocess.Popen:
    """A process that is at writing `file` until its input ends."""
    command = [sys.executable, "-c", WRITER, str(file)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen(command, env=paths, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "writing\n"
    return writer


def test_atomic_sweeps_what_a_killed_writer_of_the_same_path_has_left(tmp_path):
    file, other = tmp_path / "file.txt", tmp_path / "file.txt-other"
    for path in (file, other):
        with start_writer(path) as writer:
            writer.kill()
    with atomic(file) as scratch:
        scratch.write_text("new")
    assert file.read_text() == "new"
    names = [path.name for path in tmp_path.iterdir() if path != file]
    assert len(names) == 1
    assert names[0].startswith(".file.txt-other-")


def test_atomic_leaves_a_living_writer_of_the_same_path_alone(tmp_path):
    file = tmp_path / "file.txt"
    with start_writer(file) as writer:
        with atomic(file) as scratch:
            scratch.write_text("new")
        assert file.read_text() == "new"
        writer.stdin.close()
        assert writer.wait(30) == 0
    assert file.read_text() == "half"
    assert list(tmp_path.iterdir()) == [file]


def test_atomic_has_all_on_disk_before_it_moves(tmp_path, monkeypatch):
    synced_paths, sync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (synced_paths.append(os.readlink(f"/proc/self/fd/{file}")), sync(file))
    )
    paths_at_move, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (paths_at_move.extend(synced_paths), replace(*names)))
    with atomic(tmp_path / "folder") as scratch:
        scratch.mkdir()
        (scratch / "file").write_text("new")
    assert {Path(path).name for path in paths_at_move} == {"folder", "file"}
    assert synced_paths[-1] == str(tmp_path)


def test_atomic_replaces_a_whole_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "stale").write_text("old")
    with atomic(folder) as scratch:
        scratch.mkdir()
        (scratch / "fresh").write_text("new")
        assert (folder / "stale").exists()
    assert [file.name for file in folder.iterdir()] == ["fresh"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_json_refuses_what_is_not_a_number_and_keeps_the_old_file(tmp_path, bad):
    file = tmp_path / "values.json"
    write_json(file, {"score": 0.5, "word": "naïve"})
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"score": bad})
    assert json.loads(file.read_text(encoding="utf-8")) == {"score": 0.5, "word": "naïve"}


def test_a_record_comes_back_as_it_was_written(tmp_path):
    write_json(tmp_path / "run.json", RunRecord(**RECORD).model_dump())
    assert read_record(tmp_path) == RunRecord(**RECORD)


def test_no_record_is_none(tmp_path):
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORD)[:200],
        "",
        "[]",
        json.dumps(RECORD | {"schema_version": 2}),
        json.dumps(RECORD | {"status": "fine"}),
        json.dumps(RECORD | {"shoe_size": 43}),
        json.dumps({key: value for key, value in RECORD.items() if key != "seed"}),
    ],
    ids=["cut off", "empty", "list", "other schema", "unknown status", "unknown key", "missing key"],
)
def test_a_broken_record_is_named_on_one_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError) as error:
        read_record(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'run.json'}: not a run record of schema 4")
    assert "\n" not in str(error.value)


def test_predictions_come_back_by_split_in_their_order(tmp_path):
    splits = {name: make_split(size, 3, seed=size) for name, size in (("test", 9), ("validation", 7), ("ax/test", 5))}
    logits = {name: np.random.default_rng(len(split)).normal(size=(len(split), 3)) for name, split in splits.items()}
    tables = [predictions_table(name, split, logits[name].astype(np.float32)) for name, split in splits.items()]
    pq.write_table(pa.concat_tables(tables), tmp_path / "predictions.parquet")
    result = read_predictions(tmp_path, ["validation", "ax/test", "absent"])
    assert result.keys() == {"validation", "ax/test"}
    for name, predictions in result.items():
        assert np.array_equal(predictions.idx, splits[name].rows["idx"])
        assert np.array_equal(predictions.labels, splits[name].labels)
        np.testing.assert_allclose(predictions.logits, logits[name], rtol=1e-6)
    assert read_predictions(tmp_path / "absent", ["validation"]) == {}


def crash(folder, error):
    with record_crash(folder):
        raise error


def test_a_crash_leaves_its_reason_and_goes_on(tmp_path):
    with pytest.raises(ZeroDivisionError):
        crash(tmp_path, ZeroDivisionError("by\n  nothing"))
    assert crash_reason(tmp_path) == "crashed: ZeroDivisionError: by nothing"


def test_a_users_mistake_is_recorded_in_its_own_words(tmp_path):
    with pytest.raises(UserError):
        crash(tmp_path, UserError("the cellar is empty"))
    assert crash_reason(tmp_path) == "crashed: the cellar is empty"


def test_a_later_success_clears_the_crash(tmp_path):
    with pytest.raises(OSError, match="disk"):
        crash(tmp_path, OSError("disk"))
    with record_crash(tmp_path):
        assert crash_reason(tmp_path) == "not run"  # while it runs, the earlier reason is not its own
    assert crash_reason(tmp_path) == "not run"


@pytest.mark.parametrize("text", ["{}", "[]", '{"rea', "\xff"])
def test_a_crash_that_does_not_say_why_is_a_crash(tmp_path, text):
    (tmp_path / "error.json").write_text(text, encoding="latin-1")
    assert crash_reason(tmp_path) == f"crashed: {tmp_path}/error.json does not say why; its log may"


def test_a_record_that_is_no_text_is_named(tmp_path):
    (tmp_path / "run.json").write_bytes(b'{"method": "\xff"}')
    with pytest.raises(
        UserError, match=rf"^{tmp_path}/run.json: not a run record .*; the same snakemake command mends"
    ):
        read_record(tmp_path)


def test_predictions_that_cannot_be_read_are_named(tmp_path):
    file = tmp_path / "predictions.parquet"
    file.write_bytes(b"junk")
    message = (
        rf"^{file}: not readable as predictions \(.*\); delete {tmp_path}, and the same snakemake command mends it$"
    )
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path, ["validation"])
    pq.write_table(pa.table({"split": ["validation"], "idx": [0]}), file)  # another table
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path, ["validation"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "results/mini"),
            "results/mini: permission denied; make it",
        ),
        (OSError(errno.EROFS, "Read-only file system", "results/mini"), "results/mini: read-only file system; work in"),
        (OSError(errno.ENOSPC, "No space left on device"), "writing: no space left on device; make room on the disk"),
    ],
)
def test_what_the_file_system_refuses_is_one_line(tmp_path, monkeypatch, capsys, error, message):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert commands.run(["configure", str(tmp_path), "config/demo.yaml"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"theseus-bench: {message}")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, capsys):
    (tmp_path / "mini").touch()
    assert commands.run(["configure", str(tmp_path / "mini"), "config/demo.yaml"]) == 1
    message = "file exists; a file is in the place of a folder; move it away"
    assert capsys.readouterr().err == f"theseus-bench: {tmp_path / 'mini'}: {message}\n"


def test_an_error_of_ours_keeps_its_traceback(monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("theseus_bench.strict_yaml.read_config", fail)
    with pytest.raises(OSError, match="Bad file descriptor"):
        commands.run(["plan", "config/demo.yaml"])


def git(folder, *words):
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.invalid"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_code_revision_is_the_commit_and_says_when_files_were_edited(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "results/reference").mkdir(parents=True)
    (tmp_path / "results/reference/run.json").write_text("{}")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--no-verify", "--no-gpg-sign", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked.txt").write_text("results")
    (tmp_path / "results/reference/run.json").write_text('{"made": "again"}')
    assert code_revision(tmp_path) == commit
    (tmp_path / "code.py").write_text("x = 2\n")
    assert code_revision(tmp_path) == f"{commit}-dirty"


def test_code_revision_outside_git_or_without_it_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_revision(tmp_path) == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_revision(tmp_path) == "unknown"


def test_provenance_is_json_and_names_the_libraries(tmp_path):
    machine = provenance(tmp_path)
    write_json(tmp_path / "provenance.json", machine)
    assert {"torch", "transformers", "numpy"} <= set(machine["libraries"])
    assert machine["code"] == code_revision(tmp_path)


def test_a_record_that_was_written_anew_is_read_anew(tmp_path):
    write_json(tmp_path / "run.json", RECORD)
    assert read_record(tmp_path) is read_record(tmp_path)  # a report asks for it a dozen times
    write_json(tmp_path / "run.json", RECORD | {"seed": 2})
    assert read_record(tmp_path).seed == 2
    (tmp_path / "run.json").unlink()
    assert read_record(tmp_path) is None
