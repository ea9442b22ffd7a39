"""On a GPU the processor must run ahead: nothing in a step may make it wait for a value from the device.

What would is an operation of a known kind, wherever it runs, so a CPU can tell: a tensor becomes a number or a truth
value, or its values decide the size of another.
"""

import pytest
import torch
from theseus_bench.modeling.attention import fuse_attention
from theseus_bench.modeling.checkpoints import load_masked_lm
from theseus_bench.training import loop, method, pretraining
from theseus_bench.training.loop import fit
from theseus_bench.training.pretraining import distil, pretrain
from tiny import HARDWARE, build, make_checkpoint, make_data, make_loop, make_split, make_teacher, write_pair
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer

WAITING = ["_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero", "repeat_interleave"]


class Waits(TorchDispatchMode):
    """Keeps the names of operations for which a processor would wait."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        indices = arguments[1] if name in ("index", "index_put", "index_put_", "_unsafe_index_put") else []
        by_truth = any(i is not None and i.dtype == torch.bool for i in indices)
        if by_truth or name in WAITING:
            self.operations.append(name)
        return function(*arguments, **keywords or {})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Models are placed as on a GPU, but where they are and uncompiled."""

    def prepare(model, _device):
        fuse_attention(model)
        return model

    for room in (loop, pretraining, method):
        monkeypatch.setattr(room, "prepare_for_device", prepare)


def test_waits_are_noticed():
    values = torch.tensor([1.0, 0.0])
    for wait in (values.sum().item, lambda: bool(values.all()), lambda: values[values > 0], values.nonzero):
        with Waits() as waits:
            wait()
        assert waits.operations, wait
    with Waits() as waits:
        values[torch.tensor([0])].sum() + 1
    assert not waits.operations


CASES = {
    "finetune": {},
    "vanilla_kd": {},
    "pkd": {},
    "layerdrop": {"drop_rate": 0.3},
    "tinybert": {"matching_share": 0.5},
    "minilm": {"matching_share": 0.5},
    "theseus": {"schedule": "curriculum", "base_rate": 0.4, "full_rate_at": 0.6},
    "theseus, frozen apart": {"schedule": "curriculum", "base_rate": 0.4, "full_rate_at": 0.6, "clip_frozen": False},
}


@pytest.mark.parametrize("case", CASES)
def test_no_step_of_a_method_waits(checkpoints, as_on_a_gpu, tmp_path, monkeypatch, case):
    data = make_data(train=80, teacher=make_teacher(80, 2, [2]) if case in ("vanilla_kd", "pkd") else None)
    setup = build(case.split(",")[0], data, *checkpoints, epochs=1, **CASES[case])
    step, waits = loop.train_step, Waits()

    def run_step(*arguments):
        with waits:
            return step(*arguments)

    monkeypatch.setattr(loop, "train_step", run_step)
    assert fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path)).step == 10
    assert not waits.operations


@pytest.mark.parametrize("kind", ["pretrain", "distil"])
def test_no_step_of_pretraining_waits(checkpoints, as_on_a_gpu, tmp_path, kind):
    teacher, student = load_masked_lm(checkpoints[0]), load_masked_lm(checkpoints[0])
    inputs = (make_split(40), AutoTokenizer.from_pretrained(checkpoints[0]), make_loop(max_steps=4))
    where = HARDWARE, make_checkpoint(tmp_path)
    with Waits() as waits:
        losses = pretrain(student, *inputs, *where) if kind == "pretrain" else distil(teacher, student, *inputs, *where)
    assert len(losses) == 4
    assert not waits.operations
