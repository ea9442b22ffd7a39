"""LayerDrop against plain transformers models of the layers that are present, and of those that are kept."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from theseus_bench.modeling.checkpoints import save_checkpoint
from theseus_bench.training.loop import fit
from tiny import (
    HARDWARE,
    LAYERS,
    build,
    inputs_of,
    make_batch,
    make_checkpoint,
    make_data,
    same,
    stack_layers,
    weights,
    write_checkpoint,
)
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

DEPTH = 4
CHOICES = list(itertools.product([False, True], repeat=DEPTH))
PRUNED = {4: [0, 1, 2, 3], 2: [0, 2], 1: [0]}  # the layers kept, by how many
NO_GRADIENT = ("key.bias", "k_lin.bias")  # no attention depends on it: its gradient is rounding


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """By family: a backbone and a predecessor, classifiers that have no weight in common, without dropout."""
    made = {}
    for family in LAYERS:
        folder = tmp_path_factory.mktemp(family)
        made[family] = SimpleNamespace(
            backbone=write_checkpoint(folder / "backbone", family, DEPTH, 2, seed=1, dropout=0.0),
            predecessor=write_checkpoint(folder / "predecessor", family, DEPTH, 2, seed=2, dropout=0.0),
        )
    return made


def make(checkpoints, family="bert", data=None, **settings):
    folders = checkpoints[family]
    built = build("layerdrop", data or make_data(), folders.backbone, folders.predecessor, DEPTH, **settings)
    built.layers = built.method.layers
    built.backbone = folders.backbone
    return built


def plain_model(built, numbers):
    """transformers' own model of the backbone's layers with these numbers."""
    return stack_layers(built.backbone, [(built.backbone, number) for number in numbers])


def logits_of(model, batch):
    return model(**inputs_of(model, batch)).logits


def drawn(built, steps):
    """Which layers are present at each step (steps, layers)."""
    present = []
    for step in range(steps):
        built.method.on_step_begin(step)
        present.append(list(built.layers.step_mask))
    return np.array(present)


# -- the forward pass


@pytest.mark.parametrize("family", LAYERS)
def test_every_choice_computes_what_a_plain_model_of_the_layers_present_does(checkpoints, family):
    built = make(checkpoints, family)
    batch = make_batch(make_data())
    seen = []
    for choice in CHOICES:
        built.layers.step_mask = list(choice)
        built.model.train()
        logits = logits_of(built.model, batch)
        reference = plain_model(built, [i for i, present in enumerate(choice) if present]).train()
        torch.testing.assert_close(logits, logits_of(reference, batch), rtol=1e-5, atol=1e-5)
        loss = built.method.loss(built.model, batch)
        torch.testing.assert_close(loss, functional.cross_entropy(logits, batch["labels"]))  # the task's loss alone
        seen.append(logits.detach())
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("layers", PRUNED)
def test_evaluation_is_always_the_pruned_model(checkpoints, family, layers):
    built = make(checkpoints, family, layers=layers)
    batch = make_batch(make_data())
    expected = logits_of(plain_model(built, PRUNED[layers]).eval(), batch)
    built.model.eval()
    torch.testing.assert_close(logits_of(built.model, batch), expected, rtol=1e-5, atol=1e-5)
    for choice in CHOICES:
        built.layers.step_mask = list(choice)
        torch.testing.assert_close(logits_of(built.model, batch), expected, rtol=1e-5, atol=1e-5)


def test_of_twelve_layers_the_even_ones_are_kept(tmp_path):
    """The case that the authors' code and the README give: 12 → 6 keeps 0, 2, 4, 6, 8, 10."""
    backbone = write_checkpoint(tmp_path / "backbone", layers=12, outputs=2, dropout=0.0, hidden=8)
    built = build("layerdrop", make_data(), backbone, depth=12, layers=6)
    batch = make_batch(make_data())
    reference = stack_layers(backbone, [(backbone, number) for number in (0, 2, 4, 6, 8, 10)]).eval()
    torch.testing.assert_close(logits_of(built.model.eval(), batch), logits_of(reference, batch), rtol=1e-5, atol=1e-5)


def test_a_layer_left_out_gets_no_gradient(checkpoints):
    built = make(checkpoints)
    batch = make_batch(make_data())
    for choice in CHOICES:
        built.layers.step_mask = list(choice)
        built.model.train()
        built.model.zero_grad()
        built.method.loss(built.model, batch).backward()
        got = [all(p.grad is not None for p in layer.parameters()) for layer in map(built.layers.__getitem__, range(4))]
        assert got == list(choice)
        assert built.model.classifier.weight.grad.abs().max() > 0


def test_values_are_learnt_by_their_squared_error(checkpoints, tmp_path):
    data = make_data(1)
    built = build("layerdrop", data, write_checkpoint(tmp_path / "backbone", outputs=1, dropout=0.0))
    batch = make_batch(data)
    loss = built.method.loss(built.model, batch)
    values = logits_of(built.model, batch)[:, 0]
    torch.testing.assert_close(loss, ((values - batch["labels"]) ** 2).mean())


# -- draws


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_layers_drop_independently_and_as_often_as_the_rate_says(checkpoints, rate):
    """Within 4.5 standard errors: layer by layer, two layers of a step, and a layer in two steps that follow."""
    steps = 6000
    dropped = ~drawn(make(checkpoints, drop_rate=rate, steps=steps), steps)
    assert dropped.shape == (steps, DEPTH)
    both, bound = rate**2, 4.5 * np.sqrt(rate * (1 - rate) / steps)
    bound_of_both = 4.5 * np.sqrt(both * (1 - both) / steps)
    assert (np.abs(dropped.mean(axis=0) - rate) < bound).all()
    for a, b in itertools.combinations(range(DEPTH), 2):
        assert abs((dropped[:, a] & dropped[:, b]).mean() - both) < bound_of_both
    assert (np.abs((dropped[1:] & dropped[:-1]).mean(axis=0) - both) < bound_of_both).all()


@pytest.mark.parametrize(("rate", "present"), [(0.0, True), (1.0, False)])
def test_at_the_ends_of_the_rate_all_layers_are_present_or_none(checkpoints, rate, present):
    assert (drawn(make(checkpoints, drop_rate=rate, steps=500), 500) == present).all()


def test_draws_depend_on_the_seed_alone(checkpoints):
    first = drawn(make(checkpoints, steps=50, seed=3), 50)
    others = {"family": "roberta", "layers": 1, "learning_rate": 1e-2, "start": "predecessor", "data": make_data(2, 80)}
    for name, value in others.items():
        assert np.array_equal(drawn(make(checkpoints, steps=50, seed=3, **{name: value}), 50), first), name
    assert not np.array_equal(drawn(make(checkpoints, steps=50, seed=4), 50), first)


def test_one_draw_serves_the_whole_step(checkpoints, tmp_path):
    built = make(checkpoints, epochs=2)
    loss, seen = built.method.loss, []
    built.method.loss = lambda model, batch: seen.append(list(built.layers.step_mask)) or loss(model, batch)
    fit(built.method, built.model, make_data(), built.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert np.array_equal(seen, drawn(built, 10))
    assert len(np.unique(seen, axis=0)) > 2


# -- what is trained


@pytest.mark.parametrize("start", ["pretrained", "predecessor"])
@pytest.mark.parametrize("family", LAYERS)
def test_the_deep_model_starts_as_the_whole_of_its_start(checkpoints, family, start):
    built = make(checkpoints, family, start=start)
    folders = checkpoints[family]
    folder = folders.predecessor if start == "predecessor" else folders.backbone
    assert same(weights(built.model), weights(AutoModelForSequenceClassification.from_pretrained(folder)))


@pytest.mark.parametrize("family", LAYERS)
def test_training_moves_all_of_the_deep_model(checkpoints, tmp_path, family):
    """Also the layers that are pruned in the end."""
    built = make(checkpoints, family, epochs=2, evaluate_every=50)
    before = weights(built.model)
    fit(built.method, built.model, make_data(), built.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    after = weights(built.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in before if not name.endswith(NO_GRADIENT)} <= moved
    assert all(any(name.startswith(f"{LAYERS[family]}.{i}.") for name in moved) for i in range(DEPTH))


# -- the result


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("layers", [2, 1])
def test_the_compressed_model_is_a_plain_one_of_the_layers_kept(checkpoints, tmp_path, family, layers):
    data = make_data()
    built = make(checkpoints, family, data=data, layers=layers)
    fit(built.method, built.model, data, built.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    batch = make_batch(data)
    expected = logits_of(built.model.eval(), batch).detach()
    trained = weights(built.model)
    compressed = built.method.compressed(built.model)
    for i, number in enumerate(PRUNED[layers]):
        prefix, origin = f"{LAYERS[family]}.{i}.", f"{LAYERS[family]}.{number}."
        found = {n.removeprefix(prefix): v for n, v in compressed.state_dict().items() if n.startswith(prefix)}
        assert same(found, {n.removeprefix(origin): v for n, v in trained.items() if n.startswith(origin)})
    assert compressed.state_dict().keys() == plain_model(built, PRUNED[layers]).state_dict().keys()
    for mode in (False, True):  # nothing drops out any longer
        torch.testing.assert_close(logits_of(compressed.train(mode), batch), expected, rtol=1e-5, atol=1e-5)
    save_checkpoint(compressed, built.backbone, tmp_path / "model")
    loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    assert loaded.config.num_hidden_layers == len(loaded.get_submodule(LAYERS[family])) == layers
    assert same(weights(loaded), weights(compressed))
    torch.testing.assert_close(logits_of(loaded.eval(), batch), expected, rtol=1e-5, atol=1e-5)
