"""Layers that compile themselves: few graphs whatever the path, and the same training as without.

On a CPU, with torch's tracer but no code generator, so that what is computed can be compared to the bit.
"""

import itertools
import warnings

import pytest
import torch
from theseus_bench.modeling import compile, dropout
from theseus_bench.modeling.architectures import layers_of
from theseus_bench.modeling.attention import fuse_attention, model_inputs
from theseus_bench.modeling.checkpoints import load_classifier, save_checkpoint
from theseus_bench.modeling.compile import compile_layers, padded_length
from theseus_bench.modeling.flops import total_flops
from theseus_bench.training import loop, method
from theseus_bench.training.loop import fit, predict
from tiny import (
    HARDWARE,
    build,
    inputs_of,
    make_batch,
    make_checkpoint,
    make_data,
    make_task,
    make_teacher,
    same,
    weights,
    write_checkpoint,
    write_pair,
)
from torch._dynamo.testing import CompileCounter
from torch.nn import functional


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def counter(monkeypatch):
    """Counts the graphs that are made; layers are compiled at the second call at a shape.

    Dropout is torch's own, as on a GPU.
    """
    backend = CompileCounter()
    monkeypatch.setattr(dropout, "fast_dropout", functional.dropout)
    monkeypatch.setattr(compile, "BACKEND", backend)
    monkeypatch.setattr(compile, "PATIENCE", 1)
    monkeypatch.setattr(compile._Forward, "shapes", {})
    monkeypatch.setattr(compile._Forward, "graph", None)
    monkeypatch.setattr(compile._Forward, "compiles", True)
    torch._dynamo.reset()
    yield backend
    torch._dynamo.reset()


def of_length(batch, length):
    """The batch, repeated or cut to so many tokens."""
    places = torch.arange(length) % batch["input_ids"].shape[1]
    return {name: value[:, places] if value.ndim == 2 else value for name, value in batch.items()}


@pytest.mark.parametrize(("clip_frozen", "most", "lengths"), [(True, 1, (8, 16, 24)), (False, 4, (8, 16))])
def test_no_path_of_theseus_compiles_anything_new(checkpoints, counter, clip_frozen, most, lengths):
    """One graph a length; with the predecessor frozen up to four: a layer may have gradients or not, and its input."""
    setup = build("theseus", make_data(), *checkpoints, clip_frozen=clip_frozen)
    fuse_attention(setup.model)
    compile_layers(setup.model)
    setup.model.train()
    batch = make_batch(make_data(), range(8))
    for _ in range(2):  # the second time everything was met before
        for length, replacements in itertools.product(lengths, itertools.product([False, True], repeat=2)):
            setup.method.modules.replacements = replacements
            loss = setup.method.loss(setup.model, of_length(batch, length))
            if loss.requires_grad:
                loss.backward()
    assert 0 < counter.frame_count <= most * len(lengths)
    assert not torch._dynamo.utils.counters["graph_break"]


CASES = {
    "theseus": {"schedule": "constant", "base_rate": 0.5, "full_rate_at": 0.9, "clip_frozen": False},
    "layerdrop": {"drop_rate": 0.3},
    "pkd": {},  # looks at hidden states
    "tinybert": {"matching_share": 0.5},  # watches queries and keys inside of layers
}


@pytest.mark.parametrize("case", CASES)
def test_compiled_training_is_the_same_training(checkpoints, counter, tmp_path, monkeypatch, case):
    """Bit-equal weights, dropout included, the same scores and the same count of operations."""
    data = make_data(train=80, dev=8, teacher=make_teacher(80, 2, [2]) if case == "pkd" else None)
    monkeypatch.setattr(loop, "padded_length", lambda _device: 16)
    settings = CASES[case] | {"epochs": 2, "evaluate_every": 10}

    def compiling(model, _device):
        compile_layers(model)
        return model

    def train(prepare):
        monkeypatch.setattr(loop, "prepare_for_device", prepare)
        monkeypatch.setattr(method, "prepare_for_device", prepare)
        setup = build(case, data, *checkpoints, **settings)
        fuse_attention(setup.model)
        state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
        return weights(setup.model), state

    plain, expected = train(lambda model, _device: model)
    assert not counter.frame_count
    compiled_weights, state = train(compiling)
    assert counter.frame_count
    assert same(compiled_weights, plain)
    assert state.curve == expected.curve
    assert state.training_flops == expected.training_flops
    assert total_flops(state.training_flops) > 0


def test_evaluation_and_rare_shapes_run_as_they_are(checkpoints, counter, monkeypatch, tmp_path):
    monkeypatch.setattr(compile, "PATIENCE", 2 * 4)  # two batches of four layers
    data = make_data()
    model = load_classifier(checkpoints[0], data.task)
    compile_layers(model)
    for _ in range(3):
        predict(model, data.dev["validation"], data.pad, HARDWARE)
    batch = make_batch(data)
    for step in range(3):
        assert counter.frame_count == 0, step
        model(**inputs_of(model, batch))
    assert counter.frame_count == 1


def test_a_checkpoint_is_that_of_the_plain_model(checkpoints, counter, tmp_path):
    model = load_classifier(checkpoints[1], make_task())
    before = weights(model)
    compile_layers(model)
    compile_layers(model)  # as when a model is placed twice
    for _ in range(2):
        model(**inputs_of(model, make_batch(make_data()))).logits.sum().backward()
    assert counter.frame_count == 1
    save_checkpoint(model, checkpoints[0], tmp_path / "saved")
    assert same(weights(load_classifier(tmp_path / "saved", make_task())), before)


def test_where_torch_cannot_compile_layers_run_as_they_are(checkpoints, counter, monkeypatch):
    def fail(graph, inputs):
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(compile, "BACKEND", fail)
    model = load_classifier(checkpoints[1], make_task()).eval()
    batch = inputs_of(model, make_batch(make_data()))
    expected = model(**batch).logits
    compile_layers(model)
    with pytest.warns(UserWarning, match="uncompiled.*no C compiler"):
        outputs = [model(**batch).logits for _ in range(2)]
    assert all(torch.equal(logits, expected) for logits in outputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        assert torch.equal(model(**batch).logits, expected)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_fused_attention_takes_the_mask_and_gives_the_same_logits(tmp_path, family):
    folder = write_checkpoint(tmp_path / family, family, outputs=2, dropout=0.0)
    model = load_classifier(folder, make_task())
    batch = make_batch(make_data(), range(20))
    assert not batch["attention_mask"].all()
    expected = model(**model_inputs(model, batch)).logits
    fuse_attention(model)
    inputs = model_inputs(model, batch)
    assert inputs["attention_mask"].shape == (20, 1, *[batch["input_ids"].shape[1]] * 2)
    torch.testing.assert_close(model(**inputs).logits, expected)


def test_successors_are_fused_with_the_predecessor(checkpoints):
    """They stem from another model, and would add the mask to their scores as if it were a bias."""
    logits = []
    for fuse in (lambda model: None, fuse_attention):
        setup = build("theseus", make_data(), *checkpoints, start="pretrained")
        fuse(setup.model)
        setup.model.eval()
        assert layers_of(setup.model).replaceable == [True, True]
        logits.append(setup.model(**model_inputs(setup.model, make_batch(make_data(), range(20)))).logits)
    torch.testing.assert_close(*logits)


def test_only_batches_for_a_gpu_fill_buckets():
    assert padded_length(torch.device("cpu")) == 1
    assert padded_length(torch.device("cuda")) > 1
