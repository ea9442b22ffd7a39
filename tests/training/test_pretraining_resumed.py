"""Pretraining that was stopped goes on where it was, and ends bit-equal to one that was not."""

import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from copies import link_project
from safetensors.torch import load_file
from theseus_bench import commands
from theseus_bench.data.parquet import Split
from theseus_bench.files import write_json
from theseus_bench.suite.config import Compact
from theseus_bench.suite.load import read_plan
from theseus_bench.training import inputs, pretraining, trainer_state
from theseus_bench.training.inputs import make_backbone, make_compact_checkpoint
from theseus_bench.training.pretraining import make_compact, make_demo_backbone
from tiny import HARDWARE, make_checkpoint, make_split, same, write_checkpoint

BATCH = {"source": "recipe", "batch_size": 8, "learning_rate": 1e-2}


class Stop(Exception):
    """What a test raises in the middle of a step."""


class Steps:
    """Counts the steps that are computed; the one numbered `stop_at` (from 1) raises instead."""

    def __init__(self, monkeypatch):
        self.count, self.stop_at, autocast = 0, 0, pretraining.autocast

        def count_step(*arguments):
            if self.count + 1 == self.stop_at:
                raise Stop
            self.count += 1
            return autocast(*arguments)

        monkeypatch.setattr(pretraining, "autocast", count_step)

    def of(self, make, stop_at=0) -> int:
        """How many steps a call of `make` computes, stopped in the middle of the one numbered `stop_at` if given."""
        self.count, self.stop_at = 0, stop_at
        if stop_at:
            with pytest.raises(Stop):
                make()
        else:
            make()
        return self.count


@pytest.fixture
def steps(monkeypatch):
    return Steps(monkeypatch)


@pytest.fixture
def every_third_step(monkeypatch):
    """A clock by which a step lasts a second, and a machine that keeps its state every three."""
    monkeypatch.setattr(trainer_state, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    return 3.0


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Four layers with dropout, so that torch's generator counts too."""
    return write_checkpoint(tmp_path_factory.mktemp("backbone"), layers=4, seed=1, dropout=0.1)


TOTAL = 12  # steps of each case


def maker(case, backbone):
    """A function of a folder and an interval that makes the case's checkpoint there; its report and its weights."""
    phases = {"steps": 7, "head_steps": 5} if case == "distillation" else {"steps": TOTAL}

    def run(folder, every):
        checkpoint, output = make_checkpoint(folder, every), folder / "output"
        if case == "demo backbone":
            report = make_demo_backbone(2, TOTAL, HARDWARE, checkpoint, output)
        else:
            recipe = Compact(objective=case, **phases, **BATCH)
            report = make_compact(backbone, make_split(36), recipe, 2, HARDWARE, checkpoint, output)
        return report, load_file(output / "model.safetensors")

    return run


CASES = ["demo backbone", "distillation", "masked_words"]


@pytest.mark.parametrize("case", CASES)
def test_stopped_at_any_step_it_ends_as_if_it_was_not(case, backbone, tmp_path, steps):
    make = maker(case, backbone)
    report, whole = make(tmp_path / "whole", 600.0)
    for stop_at in (2, 6, 8, TOTAL):  # the first step of a phase, of an epoch, and in the middle of both
        folder = tmp_path / str(stop_at)
        assert steps.of(lambda folder=folder: make(folder, 0.0), stop_at) == stop_at - 1
        torch.manual_seed(99)  # whatever the generator holds now, the checkpoint's state counts
        results = []
        assert steps.of(lambda folder=folder, results=results: results.extend(make(folder, 0.0))) == TOTAL - (
            stop_at - 1
        )
        assert results[0] == report
        assert same(results[1], whole), f"stopped in step {stop_at}"


@pytest.mark.parametrize("case", CASES)
def test_it_may_be_stopped_again_and_again_between_checkpoints(case, backbone, tmp_path, steps, every_third_step):
    make = maker(case, backbone)
    report, whole = make(tmp_path / "whole", 600.0)
    counts = [steps.of(lambda: make(tmp_path / "parts", every_third_step), stop_at=5) for _ in range(2)]
    results = []
    last = steps.of(lambda: results.extend(make(tmp_path / "parts", every_third_step)))
    assert TOTAL < sum(counts) + last <= TOTAL + 2 * 3  # a stop costs no more than the interval
    assert last < TOTAL - 3
    assert results[0] == report
    assert same(results[1], whole)


def test_a_stop_in_the_second_phase_repeats_nothing_of_the_first(backbone, tmp_path, steps):
    """However rarely the state is kept: the end of a phase always is."""
    make = maker("distillation", backbone)
    assert steps.of(lambda: make(tmp_path, 600.0), stop_at=8) == 7  # two of them the student's
    assert steps.of(lambda: make(tmp_path, 600.0)) == TOTAL - 5


# -- as the workflow calls it


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """The folder of a suite that pretrains its backbone and makes both compact checkpoints, and its configuration."""
    link_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "tiny"
    config = {
        "suite": "tiny",
        "data": {"source": "demo", "rows": 8},
        "backbone": {"source": "demo", "layers": 4, "steps": 6},
        "compact": {"distilbert": BATCH | {"steps": 6, "head_steps": 4}},
        "student_layers": 2,
        "tasks": ["rte"],
        "seeds": [1],
        "device": "cpu",
        "checkpoint_every": 0,
        "experiments": {"one": {"title": "One", "methods": ["distilbert"]}},
    }
    write_json(folder / "suite.json", config)
    write_checkpoint(folder / "backbone", layers=4, seed=1, dropout=0.1)
    write_text(folder, make_split(36))
    return SimpleNamespace(folder=folder, config=config)


def write_text(folder: Path, text: Split) -> None:
    target = folder / "data" / "rte"
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / "train.tokens.npy", text.tokens)
    np.save(target / "train.rows.npy", text.rows)


def checkpoints() -> list[Path]:
    """Those that are whole: not what is being written beside them."""
    return [file for depth in ("*", "*/head") for file in Path(".cache/checkpoints").glob(f"{depth}/state.pt")]


def compact(suite) -> None:
    make_compact_checkpoint(read_plan(suite.folder), "distilbert", suite.folder)


def test_the_checkpoint_is_gone_once_the_output_is_there(suite, steps):
    assert steps.of(lambda: compact(suite), stop_at=7) == 6
    assert len(checkpoints()) == 2  # the head's, which is done, and the student's
    assert not (suite.folder / "compact").exists()
    assert steps.of(lambda: compact(suite)) == 4
    assert (suite.folder / "compact" / "distilbert" / "source.json").is_file()
    assert not list(Path(".cache/checkpoints").iterdir())
    make = lambda: make_backbone(read_plan(suite.folder), suite.folder)  # noqa: E731
    assert steps.of(make, stop_at=4) == 3
    assert len(checkpoints()) == 1
    assert steps.of(make) == 3
    assert not list(Path(".cache/checkpoints").iterdir())


def change_recipe(suite):
    suite.config["compact"]["distilbert"]["learning_rate"] = 2e-2
    write_json(suite.folder / "suite.json", suite.config)


def change_depth(suite):
    write_json(suite.folder / "suite.json", suite.config | {"student_layers": 1})


def change_backbone(suite):
    write_checkpoint(suite.folder / "backbone", layers=4, seed=2, dropout=0.1)


def change_text(suite):
    write_text(suite.folder, make_split(36, seed=5))


def move_suite(suite):
    suite.folder = suite.folder.rename(suite.folder.with_name("moved"))


@pytest.mark.parametrize("change", [change_recipe, change_depth, change_backbone, change_text, move_suite])
def test_nothing_goes_on_from_a_checkpoint_of_something_else(suite, steps, change):
    steps.of(lambda: compact(suite), stop_at=7)
    change(suite)
    assert steps.of(lambda: compact(suite)) == 10


def test_what_was_pretrained_is_kept_until_the_version_of_the_loop_is_raised(suite, steps, monkeypatch):
    backbone = lambda: make_backbone(read_plan(suite.folder), suite.folder)  # noqa: E731
    assert [steps.of(backbone), steps.of(backbone)] == [6, 0]
    assert [steps.of(lambda: compact(suite)), steps.of(lambda: compact(suite))] == [10, 0]
    monkeypatch.setattr(inputs, "LOOP_VERSION", inputs.LOOP_VERSION + 1)
    assert [steps.of(lambda: compact(suite)), steps.of(backbone)] == [10, 6]


def test_killed_from_outside_it_goes_on(suite):
    """SIGKILL in the middle of `theseus-bench compact`, and the same command again."""
    suite.config["compact"]["distilbert"] |= {"steps": 300, "head_steps": 0, "learning_rate": 1e-3}
    write_json(suite.folder / "suite.json", suite.config | {"checkpoint_every": 600})
    compact(suite)
    output = suite.folder / "compact" / "distilbert"
    whole, losses = load_file(output / "model.safetensors"), json.loads((output / "source.json").read_text())["losses"]
    for file in output.iterdir():
        file.unlink()
    output.rmdir()

    write_json(suite.folder / "suite.json", suite.config | {"checkpoint_every": 0.1})
    words = ["compact", str(suite.folder), "distilbert"]
    command = [sys.executable, "-c", "from theseus_bench.cli import main; main()", *words]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    try:
        while not checkpoints():
            assert time.monotonic() < deadline, "it did not keep its state in time"
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"it ended before it could be killed, with {process.wait(0.01)}")
    finally:
        process.kill()
        process.wait()
    assert not output.exists()

    # The losses before the stop can only be known from the checkpoint: a mark on the first shows that it was read.
    (file,) = checkpoints()
    with file.open("rb") as stream:
        stream.readline()  # the checksum of the rest
        state = torch.load(stream, weights_only=True)
    assert 0 < len(state["losses"]) < 300
    state["losses"][0] = 123.0
    with io.BytesIO() as stream:
        torch.save(state, stream)
        file.write_bytes(hashlib.sha256(stream.getvalue()).hexdigest().encode() + b"\n" + stream.getvalue())
    assert commands.run(words) == 0
    assert same(load_file(output / "model.safetensors"), whole)
    assert json.loads((output / "source.json").read_text())["losses"] == losses | {"first": 123.0}
    assert not checkpoints()
