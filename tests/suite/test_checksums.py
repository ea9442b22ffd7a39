"""Sealed files and lists of checksums: any flipped bit is seen, and what carries no checksum is read as it is."""

import json
import subprocess
from contextlib import suppress

import pytest
from theseus_bench.checksums import check_folder, sign, sign_folder
from theseus_bench.errors import UserError
from theseus_bench.files import is_sealed, read_json, write_json

VALUES = {"name": "µ", "score": 0.85, "curve": [1, 2.5, None]}


def flips(file):
    """The file with each of its bits flipped, one after the other."""
    contents = file.read_bytes()
    for i in range(8 * len(contents)):
        flipped = bytearray(contents)
        flipped[i // 8] ^= 1 << i % 8
        file.write_bytes(flipped)
        yield i
    file.write_bytes(contents)


def test_no_flipped_bit_of_a_sealed_file_becomes_another_value(tmp_path):
    file = tmp_path / "run.json"
    write_json(file, VALUES, sealed=True)
    assert read_json(file) == VALUES
    assert is_sealed(file)
    assert json.loads(file.read_bytes()).keys() == {*VALUES, "sha256"}, "it is JSON for everybody"
    unseen = []
    for bit in flips(file):
        # Where the seal is none any more, a reader that knows the keys refuses what is left of it.
        with suppress(UserError):
            unseen += [bit] if read_json(file).keys() == VALUES.keys() else []
    assert unseen == []


def test_a_damaged_file_is_named_with_a_remedy(tmp_path):
    file = tmp_path / "run.json"
    write_json(file, VALUES, sealed=True)
    file.write_bytes(file.read_bytes().replace(b"0.85", b"0.86"))
    with pytest.raises(UserError, match=rf"^{file}: damaged: it is not what was written; the same snakemake command"):
        read_json(file)


def test_a_json_file_without_a_seal_is_read_as_it_is(tmp_path):
    write_json(tmp_path / "old.json", VALUES)
    assert read_json(tmp_path / "old.json") == VALUES
    assert not is_sealed(tmp_path / "old.json")


def test_no_flipped_bit_of_a_folder_or_its_list_passes(tmp_path):
    for name in ("a.npy", "b.npy"):
        (tmp_path / name).write_bytes(name.encode())
    sign_folder(tmp_path)
    check_folder(tmp_path)
    for file in (tmp_path / "a.npy", tmp_path / ".sha256"):
        for _ in flips(file):
            with pytest.raises(UserError, match=rf"^{tmp_path}: ({file.name}) is damaged"):
                check_folder(tmp_path)
    check_folder(tmp_path)
    (tmp_path / "b.npy").unlink()
    check_folder(tmp_path, "a.npy")
    with pytest.raises(UserError, match=r": b\.npy is gone: .*; the same snakemake command mends it"):
        check_folder(tmp_path)


def test_sha256sum_reads_the_list(tmp_path):
    (tmp_path / "with a space.csv").write_text("1")
    sign([tmp_path / "with a space.csv"], tmp_path / ".tables.sha256")
    check = ["sha256sum", "--check", "--strict", ".tables.sha256"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "with a space.csv").write_text("2")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 1
