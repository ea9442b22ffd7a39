"""A run done again beside its suite: whether it is the same, and what differs if it is not."""

import json
import time

import pytest
from suites import make_plan
from theseus_bench import stopping
from theseus_bench.commands import run as run_command
from theseus_bench.errors import UserError
from theseus_bench.files import write_json
from theseus_bench.training.conformance_bench import make_bench
from theseus_bench.training.rerun import rerun
from theseus_bench.training.run import execute


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A suite whose student has been trained: it reads the predecessor's model."""
    bench = make_bench("theseus", tmp_path_factory.mktemp("suite"))
    execute(bench.plan, bench.run("rte"), bench.folder, bench.folder / "checkpoints")
    write_json(bench.folder / "suite.json", bench.plan.suite.model_dump())
    return bench


def files_of(folder) -> dict[str, bytes]:
    """The contents of every file in a folder."""
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_run_done_again_is_equal_to_the_bit_and_changes_nothing_of_the_suite(bench, capsys):
    before = files_of(bench.folder)
    assert run_command(["rerun", str(bench.folder), "theseus", "rte", "1"]) == 0
    record = json.loads((bench.folder / bench.run("rte").path / "run.json").read_text())
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == (
        f"runs/theseus/rte/seed-1: identical: the predictions are equal to the bit ({record['predictions_sha256']})"
    )
    assert all(line.startswith("theseus on rte, seed 1, once more: step ") for line in lines[:-1])
    assert files_of(bench.folder) == before


def test_a_rerun_whose_job_ends_says_that_nothing_is_kept(bench, monkeypatch):
    monkeypatch.setenv(stopping.DEADLINE, str(time.time()))
    message = (
        r"runs/theseus/rte/seed-1: stopped at step 1 of \d+, as its job ends at \S+, and nothing of it is kept; run it"
    )
    with pytest.raises(UserError, match=message):
        rerun(bench.plan, bench.run("rte"), bench.folder)


def test_a_record_whose_settings_were_others_is_told_with_what_differs(bench, capsys, tmp_path):
    plan = make_plan_of_rate(bench, 2e-3)
    run = plan.run("theseus", "rte", 1)
    record = bench.folder / run.path / "run.json"
    text = record.read_text()
    try:
        values = json.loads(text) | {"fingerprint": plan.fingerprint(run), "threads": 7}
        values["provenance"]["libraries"]["torch"] = "1.0.0"
        write_json(record, {key: value for key, value in values.items() if key != "sha256"}, sealed=True)
        same, lines = rerun(plan, run, bench.folder)
    finally:
        record.write_text(text)
    assert not same
    assert lines[0].startswith("runs/theseus/rte/seed-1: not identical: dev score ")
    assert lines[0].endswith(" dev examples")
    assert "  learning_rate 2e-05 → 0.002" in lines
    assert "  threads 7 → 1" in lines
    assert any(line.startswith("  torch 1.0.0 → ") for line in lines)


def make_plan_of_rate(bench, rate: float):
    """The bench's plan with another learning rate."""
    settings = [*bench.plan.suite.model_dump()["settings"], {"set": {"learning_rate": rate}}]
    values = bench.plan.suite.model_dump() | {"settings": settings}
    return make_plan(**values)


def test_without_a_sound_record_there_is_nothing_to_compare_with(bench):
    with pytest.raises(UserError, match=r"no sound record to compare with: not run"):
        rerun(bench.plan, bench.run("stsb"), bench.folder)
