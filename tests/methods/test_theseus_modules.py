"""Theseus with one module to replace: what is replaced, what is trained, and what is left in the end."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from theseus_bench.errors import UserError
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

SHAPES = {"bert": (6, 3), "roberta": (4, 2), "distilbert": (6, 2)}  # layers of the predecessor, modules
CASES = [(family, module) for family, (_, modules) in SHAPES.items() for module in range(1, modules + 1)]
ALONE = {"schedule": "constant", "base_rate": 0.5, "full_rate_at": 1e9}  # as the variant one_module


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """By family: a backbone and a predecessor that have no weight in common, without dropout."""
    made = {}
    for family, (depth, _) in SHAPES.items():
        folder = tmp_path_factory.mktemp(family)
        made[family] = SimpleNamespace(
            backbone=write_checkpoint(folder / "backbone", family, depth, seed=1, dropout=0.0),
            predecessor=write_checkpoint(folder / "predecessor", family, depth, 2, seed=2, dropout=0.0),
        )
    return made


def make(checkpoints, family="bert", **settings):
    depth, modules = SHAPES[family]
    settings = {"layers": modules, "start": "pretrained"} | ALONE | settings
    folders = checkpoints[family]
    built = build("theseus", make_data(), folders.backbone, folders.predecessor, depth, **settings)
    built.modules, built.folders, built.family = built.method.modules, folders, family
    return built


def plain_model(built, replaced):
    """transformers' own model: the predecessor, but for one layer of the backbone in each module in `replaced`."""
    depth, modules = SHAPES[built.family]
    size = depth // modules
    layers = []
    for i in range(modules):
        old = [(built.folders.predecessor, number) for number in range(i * size, (i + 1) * size)]
        layers += [(built.folders.backbone, i)] if i + 1 in replaced else old
    return stack_layers(built.folders.predecessor, layers)


def logits_of(model, batch):
    return model(**inputs_of(model, batch)).logits


def drawn(built, steps):
    """The choices of all steps (steps, modules)."""
    choices = []
    for step in range(steps):
        built.method.on_step_begin(step)
        choices.append(list(built.modules.replacements))
    return np.array(choices)


# -- what is replaced


@pytest.mark.parametrize(("family", "module"), CASES)
def test_only_the_one_module_is_ever_replaced_and_as_often_as_the_rate_says(checkpoints, family, module):
    """Within 4.5 standard errors."""
    steps = 3000
    choices = drawn(make(checkpoints, family, module=module, base_rate=0.3, steps=steps), steps)
    others = [i for i in range(SHAPES[family][1]) if i != module - 1]
    assert not choices[:, others].any()
    assert abs(choices[:, module - 1].mean() - 0.3) < 4.5 * np.sqrt(0.3 * 0.7 / steps)


@pytest.mark.parametrize("schedule", ["constant", "curriculum"])
def test_only_the_one_module_is_replaced_once_the_rate_is_full(checkpoints, schedule):
    choices = drawn(make(checkpoints, module=2, schedule=schedule, full_rate_at=20.0, steps=60), 60)
    assert (choices[20:] == [False, True, False]).all()
    assert (choices[:20, 1]).any()


@pytest.mark.parametrize(("family", "module"), CASES)
def test_training_passes_through_the_module_drawn_and_the_predecessor_elsewhere(checkpoints, family, module):
    built = make(checkpoints, family, module=module, steps=40)
    batch = make_batch(make_data())
    expected = {
        replaced: logits_of(plain_model(built, [module] if replaced else []).train(), batch)
        for replaced in (False, True)
    }
    assert (expected[True] - expected[False]).abs().max() > 1e-3
    found = set()
    for step in range(40):
        built.method.on_step_begin(step)
        replaced = bool(built.modules.replacements[module - 1])
        if replaced not in found:
            found.add(replaced)
            built.model.train()
            torch.testing.assert_close(logits_of(built.model, batch), expected[replaced], rtol=1e-5, atol=1e-5)
            loss = built.method.loss(built.model, batch)
            torch.testing.assert_close(loss, functional.cross_entropy(expected[replaced], batch["labels"]))
    assert found == {False, True}


@pytest.mark.parametrize(("family", "module"), CASES)
def test_evaluation_is_always_the_predecessor_with_its_one_module_replaced(checkpoints, family, module):
    built = make(checkpoints, family, module=module)
    batch = make_batch(make_data())
    expected = logits_of(plain_model(built, [module]).eval(), batch)
    built.model.eval()
    torch.testing.assert_close(logits_of(built.model, batch), expected, rtol=1e-5, atol=1e-5)
    for step in range(5):
        built.method.on_step_begin(step)
        torch.testing.assert_close(logits_of(built.model, batch), expected, rtol=1e-5, atol=1e-5)


def test_the_steps_without_a_replacement_are_those_of_the_one_module(checkpoints):
    built = make(checkpoints, module=3, steps=80)
    undrawn = np.cumsum(~drawn(built, 80)[:, 2])
    for step in range(80):
        built.method.on_step_begin(step)
        assert built.method.metrics_to_log()["undrawn_steps"] == undrawn[step]
    assert 20 < undrawn[-1] < 60


# -- what is trained


@pytest.mark.parametrize("clip_frozen", [True, False])
@pytest.mark.parametrize(("family", "module"), CASES)
def test_only_the_one_module_moves(checkpoints, tmp_path, family, module, clip_frozen):
    """Everything else is bit-identical: the predecessor, the head, and the other modules' successors."""
    built = make(checkpoints, family, module=module, clip_frozen=clip_frozen, epochs=2, weight_decay=0.1)
    inside = {id(p) for p in built.modules.successor[module - 1].parameters()}
    assert {id(p) for p in built.method.parameters(built.model)} == inside
    names = {name for name, p in built.model.named_parameters() if id(p) in inside}
    before = weights(built.model)
    fit(built.method, built.model, make_data(), built.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    after = weights(built.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved <= names
    assert names - moved <= {name for name in names if name.endswith(("key.bias", "k_lin.bias"))}  # of no gradient


def test_the_frozen_parameters_have_gradients_only_where_they_are_clipped(checkpoints):
    batch = make_batch(make_data())
    for clip_frozen in (True, False):
        built = make(checkpoints, module=2, clip_frozen=clip_frozen)
        built.modules.replacements = [False, True, False]
        built.model.train()
        built.method.loss(built.model, batch).backward()
        with_gradient = {id(p) for p in built.model.parameters() if p.grad is not None}
        own = {id(p) for p in built.modules.successor[1].parameters()}
        assert own <= with_gradient
        assert (with_gradient == own) != clip_frozen
        assert (id(built.model.classifier.weight) in with_gradient) == clip_frozen


def test_a_rate_that_is_never_full_lets_training_stop_at_any_time(checkpoints):
    for module in (0, 2):
        method = make(checkpoints, module=module, steps=9).method
        stops = []
        for step in range(9):
            method.on_step_begin(step)
            stops.append(bool(method.allow_early_stopping()))
        assert stops == [True] * 9


def test_a_curriculum_longer_than_the_run_is_not_stopped_before_the_end(checkpoints):
    method = make(checkpoints, schedule="curriculum", full_rate_at=30.0, steps=9).method
    stops = []
    for step in range(9):
        method.on_step_begin(step)
        stops.append(bool(method.allow_early_stopping()))
    assert stops == [False] * 9


def test_a_rate_that_is_never_full_stops_early_in_training(checkpoints, tmp_path):
    """A learning rate too small to change a prediction: the second evaluation is stale."""
    options = {"learning_rate": 1e-12, "epochs": 2, "patience": 1, "evaluate_every": 1}
    early = make(checkpoints, module=1, **options)
    late = make(checkpoints, module=1, **options | {"full_rate_at": 6.0})
    steps = [
        fit(built.method, built.model, make_data(), built.loop, 1, HARDWARE, make_checkpoint(tmp_path / name)).step
        for name, built in (("early", early), ("late", late))
    ]
    assert steps == [2, 7]


# -- the setting


@pytest.mark.parametrize("module", [4, 17])
def test_a_module_that_is_not_there_is_one_user_error(checkpoints, module):
    with pytest.raises(UserError) as caught:
        make(checkpoints, module=module)
    assert str(caught.value) == f"theseus: module {module} is wanted, but there are 3"


def test_a_negative_module_is_one_user_error(checkpoints):
    with pytest.raises(UserError) as caught:
        make(checkpoints, module=-1)
    assert "module: -1 is not at least 0" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", SHAPES)
def test_module_zero_replaces_all_as_if_nothing_were_said(checkpoints, tmp_path, family):
    modules = SHAPES[family][1]
    batch, results = make_batch(make_data()), []
    for name, settings in (("default", {}), ("zero", {"module": 0})):
        built = make(checkpoints, family, epochs=2, **settings)
        choices = drawn(built, 10)
        assert choices.any(axis=0).all()
        expected = logits_of(plain_model(built, range(1, modules + 1)).eval(), batch)
        torch.testing.assert_close(logits_of(built.model.eval(), batch), expected, rtol=1e-5, atol=1e-5)
        trained = {id(p) for p in built.method.parameters(built.model)}
        assert trained == {id(p) for p in built.modules.successor.parameters()}
        fit(built.method, built.model, make_data(), built.loop, 1, HARDWARE, make_checkpoint(tmp_path / name))
        compressed = built.method.compressed(built.model)
        assert compressed.config.num_hidden_layers == modules
        results.append((choices, weights(compressed)))
    assert np.array_equal(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])


# -- the result


@pytest.mark.parametrize(("family", "module"), CASES)
def test_the_compressed_model_is_a_plain_one_with_one_module_less(checkpoints, tmp_path, family, module):
    depth, modules = SHAPES[family]
    data = make_data()
    built = make(checkpoints, family, module=module)
    fit(built.method, built.model, data, built.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    batch = make_batch(data)
    expected = logits_of(built.model.eval(), batch).detach()
    trained = dict(built.modules.successor[module - 1][0].state_dict())
    compressed = built.method.compressed(built.model.train())
    reference = weights(plain_model(built, [module]))
    place = (module - 1) * depth // modules
    prefix = f"{LAYERS[family]}.{place}."
    reference |= {prefix + name: value for name, value in trained.items()}
    assert same(weights(compressed), reference)  # and so nothing but the one module has changed
    save_checkpoint(compressed, built.folders.backbone, tmp_path / "model")
    loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    assert loaded.config.num_hidden_layers == len(loaded.get_submodule(LAYERS[family])) == depth - depth // modules + 1
    assert same(weights(loaded), reference)
    for mode in (False, True):
        torch.testing.assert_close(logits_of(loaded.train(mode), batch), expected, rtol=1e-5, atol=1e-5)


def test_every_module_gives_another_model(checkpoints):
    batch = make_batch(make_data())
    seen = [logits_of(make(checkpoints, module=module).model.eval(), batch).detach() for module in (0, 1, 2, 3)]
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.combinations(seen, 2))
