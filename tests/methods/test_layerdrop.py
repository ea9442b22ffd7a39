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
LAYER_NUMBERS = {4: [0, 1, 2, 3], 2: [0, 2], 1: [0]}  # the layers kept, by how many
NO_GRADIENT = ("key.bias", "k_lin.bias")  # no attention depends on it: its gradient is rounding


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """By family: a backbone and a predecessor, classifiers that have no weight in common, without dropout."""
    folders = {}
    for family in LAYERS:
        folder = tmp_path_factory.mktemp(family)
        folders[family] = SimpleNamespace(
            backbone=write_checkpoint(folder / "backbone", family, DEPTH, 2, seed=1, dropout=0.0),
            predecessor=write_checkpoint(folder / "predecessor", family, DEPTH, 2, seed=2, dropout=0.0),
        )
    return folders


def make(checkpoints, family="bert", data=None, **settings):
    folders = checkpoints[family]
    setup = build("layerdrop", data or make_data(), folders.backbone, folders.predecessor, DEPTH, **settings)
    setup.layers = setup.method.layers
    setup.backbone = folders.backbone
    return setup


def plain_model(setup, numbers):
    """transformers' own model of the backbone's layers with these numbers."""
    return stack_layers(setup.backbone, [(setup.backbone, number) for number in numbers])


def logits_of(model, batch):
    return model(**inputs_of(model, batch)).logits


def draw_masks(setup, steps):
    """Which layers are present at each step (steps, layers)."""
    present = []
    for step in range(steps):
        setup.method.on_step_begin(step)
        present.append(list(setup.layers.step_mask))
    return np.array(present)


# -- the forward pass


@pytest.mark.parametrize("family", LAYERS)
def test_every_choice_computes_what_a_plain_model_of_the_layers_present_does(checkpoints, family):
    setup = make(checkpoints, family)
    batch = make_batch(make_data())
    outputs = []
    for choice in CHOICES:
        setup.layers.step_mask = list(choice)
        setup.model.train()
        logits = logits_of(setup.model, batch)
        reference = plain_model(setup, [i for i, present in enumerate(choice) if present]).train()
        torch.testing.assert_close(logits, logits_of(reference, batch), rtol=1e-5, atol=1e-5)
        loss = setup.method.loss(setup.model, batch)
        torch.testing.assert_close(loss, functional.cross_entropy(logits, batch["labels"]))  # the task's loss alone
        outputs.append(logits.detach())
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.combinations(outputs, 2))


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("layers", LAYER_NUMBERS)
def test_evaluation_is_always_the_pruned_model(checkpoints, family, layers):
    setup = make(checkpoints, family, layers=layers)
    batch = make_batch(make_data())
    expected = logits_of(plain_model(setup, LAYER_NUMBERS[layers]).eval(), batch)
    setup.model.eval()
    torch.testing.assert_close(logits_of(setup.model, batch), expected, rtol=1e-5, atol=1e-5)
    for choice in CHOICES:
        setup.layers.step_mask = list(choice)
        torch.testing.assert_close(logits_of(setup.model, batch), expected, rtol=1e-5, atol=1e-5)


def test_of_twelve_layers_the_even_ones_are_kept(tmp_path):
    """The case that the authors' code and the README give: 12 → 6 keeps 0, 2, 4, 6, 8, 10."""
    backbone = write_checkpoint(tmp_path / "backbone", layers=12, outputs=2, dropout=0.0, hidden=8)
    setup = build("layerdrop", make_data(), backbone, depth=12, layers=6)
    batch = make_batch(make_data())
    reference = stack_layers(backbone, [(backbone, number) for number in (0, 2, 4, 6, 8, 10)]).eval()
    torch.testing.assert_close(logits_of(setup.model.eval(), batch), logits_of(reference, batch), rtol=1e-5, atol=1e-5)


def test_a_layer_left_out_gets_no_gradient(checkpoints):
    setup = make(checkpoints)
    batch = make_batch(make_data())
    for choice in CHOICES:
        setup.layers.step_mask = list(choice)
        setup.model.train()
        setup.model.zero_grad()
        setup.method.loss(setup.model, batch).backward()
        has_gradient = [
            all(p.grad is not None for p in layer.parameters()) for layer in map(setup.layers.__getitem__, range(4))
        ]
        assert has_gradient == list(choice)
        assert setup.model.classifier.weight.grad.abs().max() > 0


def test_values_are_learnt_by_their_squared_error(checkpoints, tmp_path):
    data = make_data(1)
    setup = build("layerdrop", data, write_checkpoint(tmp_path / "backbone", outputs=1, dropout=0.0))
    batch = make_batch(data)
    loss = setup.method.loss(setup.model, batch)
    values = logits_of(setup.model, batch)[:, 0]
    torch.testing.assert_close(loss, ((values - batch["labels"]) ** 2).mean())


# -- draws


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_layers_drop_independently_and_as_often_as_the_rate_says(checkpoints, rate):
    """Within 4.5 standard errors: layer by layer, two layers of a step, and a layer in two steps that follow."""
    steps = 6000
    absent = ~draw_masks(make(checkpoints, drop_rate=rate, steps=steps), steps)
    assert absent.shape == (steps, DEPTH)
    both, bound = rate**2, 4.5 * np.sqrt(rate * (1 - rate) / steps)
    bound_of_both = 4.5 * np.sqrt(both * (1 - both) / steps)
    assert (np.abs(absent.mean(axis=0) - rate) < bound).all()
    for a, b in itertools.combinations(range(DEPTH), 2):
        assert abs((absent[:, a] & absent[:, b]).mean() - both) < bound_of_both
    assert (np.abs((absent[1:] & absent[:-1]).mean(axis=0) - both) < bound_of_both).all()


@pytest.mark.parametrize(("rate", "present"), [(0.0, True), (1.0, False)])
def test_at_the_ends_of_the_rate_all_layers_are_present_or_none(checkpoints, rate, present):
    assert (draw_masks(make(checkpoints, drop_rate=rate, steps=500), 500) == present).all()


def test_draws_depend_on_the_seed_alone(checkpoints):
    first = draw_masks(make(checkpoints, steps=50, seed=3), 50)
    others = {"family": "roberta", "layers": 1, "learning_rate": 1e-2, "start": "predecessor", "data": make_data(2, 80)}
    for name, value in others.items():
        assert np.array_equal(draw_masks(make(checkpoints, steps=50, seed=3, **{name: value}), 50), first), name
    assert not np.array_equal(draw_masks(make(checkpoints, steps=50, seed=4), 50), first)


def test_one_draw_serves_the_whole_step(checkpoints, tmp_path):
    setup = make(checkpoints, epochs=2)
    loss, masks = setup.method.loss, []
    setup.method.loss = lambda model, batch: masks.append(list(setup.layers.step_mask)) or loss(model, batch)
    fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert np.array_equal(masks, draw_masks(setup, 10))
    assert len(np.unique(masks, axis=0)) > 2


# -- what is trained


@pytest.mark.parametrize("start", ["pretrained", "predecessor"])
@pytest.mark.parametrize("family", LAYERS)
def test_the_deep_model_starts_as_the_whole_of_its_start(checkpoints, family, start):
    setup = make(checkpoints, family, start=start)
    folders = checkpoints[family]
    folder = folders.predecessor if start == "predecessor" else folders.backbone
    assert same(weights(setup.model), weights(AutoModelForSequenceClassification.from_pretrained(folder)))


@pytest.mark.parametrize("family", LAYERS)
def test_training_moves_all_of_the_deep_model(checkpoints, tmp_path, family):
    """Also the layers that are pruned in the end."""
    setup = make(checkpoints, family, epochs=2, evaluate_every=50)
    before = weights(setup.model)
    fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    after = weights(setup.model)
    changes = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in before if not name.endswith(NO_GRADIENT)} <= changes
    assert all(any(name.startswith(f"{LAYERS[family]}.{i}.") for name in changes) for i in range(DEPTH))


# -- the result


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("layers", [2, 1])
def test_the_compressed_model_is_a_plain_one_of_the_layers_kept(checkpoints, tmp_path, family, layers):
    data = make_data()
    setup = make(checkpoints, family, data=data, layers=layers)
    fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    batch = make_batch(data)
    expected = logits_of(setup.model.eval(), batch).detach()
    state = weights(setup.model)
    student = setup.method.compressed(setup.model)
    for i, number in enumerate(LAYER_NUMBERS[layers]):
        prefix, origin = f"{LAYERS[family]}.{i}.", f"{LAYERS[family]}.{number}."
        layer = {n.removeprefix(prefix): v for n, v in student.state_dict().items() if n.startswith(prefix)}
        assert same(layer, {n.removeprefix(origin): v for n, v in state.items() if n.startswith(origin)})
    assert student.state_dict().keys() == plain_model(setup, LAYER_NUMBERS[layers]).state_dict().keys()
    for mode in (False, True):  # nothing drops out any longer
        torch.testing.assert_close(logits_of(student.train(mode), batch), expected, rtol=1e-5, atol=1e-5)
    save_checkpoint(student, setup.backbone, tmp_path / "model")
    model, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.num_hidden_layers == len(model.get_submodule(LAYERS[family])) == layers
    assert same(weights(model), weights(student))
    torch.testing.assert_close(logits_of(model.eval(), batch), expected, rtol=1e-5, atol=1e-5)
