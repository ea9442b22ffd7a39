"""Theseus with one module to replace: what is replaced, what is trained, and what is left in the end."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from theseus_bench.errors import UserError
from theseus_bench.modeling.checkpoints import save_checkpoint
from theseus_bench.training.conformance_bench import make_bench
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
    folders = {}
    for family, (depth, _) in SHAPES.items():
        folder = tmp_path_factory.mktemp(family)
        folders[family] = SimpleNamespace(
            backbone=write_checkpoint(folder / "backbone", family, depth, seed=1, dropout=0.0),
            predecessor=write_checkpoint(folder / "predecessor", family, depth, 2, seed=2, dropout=0.0),
        )
    return folders


def make(checkpoints, family="bert", **settings):
    depth, modules = SHAPES[family]
    settings = {"layers": modules, "start": "pretrained"} | ALONE | settings
    folders = checkpoints[family]
    setup = build("theseus", make_data(), folders.backbone, folders.predecessor, depth, **settings)
    setup.modules, setup.folders, setup.family = setup.method.modules, folders, family
    return setup


def plain_model(setup, numbers):
    """transformers' own model: the predecessor, but for one layer of the backbone in each module in `numbers`."""
    depth, modules = SHAPES[setup.family]
    size = depth // modules
    layers = []
    for i in range(modules):
        old = [(setup.folders.predecessor, number) for number in range(i * size, (i + 1) * size)]
        layers += [(setup.folders.backbone, i)] if i + 1 in numbers else old
    return stack_layers(setup.folders.predecessor, layers)


def logits_of(model, batch):
    return model(**inputs_of(model, batch)).logits


def draw_choices(setup, steps):
    """The choices of all steps (steps, modules)."""
    choices = []
    for step in range(steps):
        setup.method.on_step_begin(step)
        choices.append(list(setup.modules.replacements))
    return np.array(choices)


# -- what is replaced


@pytest.mark.parametrize(("family", "module"), CASES)
def test_only_the_one_module_is_ever_replaced_and_as_often_as_the_rate_says(checkpoints, family, module):
    """Within 4.5 standard errors."""
    steps = 3000
    choices = draw_choices(make(checkpoints, family, module=module, base_rate=0.3, steps=steps), steps)
    others = [i for i in range(SHAPES[family][1]) if i != module - 1]
    assert not choices[:, others].any()
    assert abs(choices[:, module - 1].mean() - 0.3) < 4.5 * np.sqrt(0.3 * 0.7 / steps)


@pytest.mark.parametrize("schedule", ["constant", "curriculum"])
def test_only_the_one_module_is_replaced_once_the_rate_is_full(checkpoints, schedule):
    choices = draw_choices(make(checkpoints, module=2, schedule=schedule, full_rate_at=20.0, steps=60), 60)
    assert (choices[20:] == [False, True, False]).all()
    assert (choices[:20, 1]).any()


@pytest.mark.parametrize(("family", "module"), CASES)
def test_training_passes_through_the_module_drawn_and_the_predecessor_elsewhere(checkpoints, family, module):
    setup = make(checkpoints, family, module=module, steps=40)
    batch = make_batch(make_data())
    expected = {
        replacement: logits_of(plain_model(setup, [module] if replacement else []).train(), batch)
        for replacement in (False, True)
    }
    assert (expected[True] - expected[False]).abs().max() > 1e-3
    states = set()
    for step in range(40):
        setup.method.on_step_begin(step)
        replacement = bool(setup.modules.replacements[module - 1])
        if replacement not in states:
            states.add(replacement)
            setup.model.train()
            torch.testing.assert_close(logits_of(setup.model, batch), expected[replacement], rtol=1e-5, atol=1e-5)
            loss = setup.method.loss(setup.model, batch)
            torch.testing.assert_close(loss, functional.cross_entropy(expected[replacement], batch["labels"]))
    assert states == {False, True}


@pytest.mark.parametrize(("family", "module"), CASES)
def test_evaluation_is_always_the_predecessor_with_its_one_module_replaced(checkpoints, family, module):
    setup = make(checkpoints, family, module=module)
    batch = make_batch(make_data())
    expected = logits_of(plain_model(setup, [module]).eval(), batch)
    setup.model.eval()
    torch.testing.assert_close(logits_of(setup.model, batch), expected, rtol=1e-5, atol=1e-5)
    for step in range(5):
        setup.method.on_step_begin(step)
        torch.testing.assert_close(logits_of(setup.model, batch), expected, rtol=1e-5, atol=1e-5)


def test_the_steps_without_a_replacement_are_those_of_the_one_module(checkpoints):
    setup = make(checkpoints, module=3, steps=80)
    undrawn = np.cumsum(~draw_choices(setup, 80)[:, 2])
    for step in range(80):
        setup.method.on_step_begin(step)
        assert setup.method.metrics_to_log()["undrawn_steps"] == undrawn[step]
    assert 20 < undrawn[-1] < 60


# -- what is trained


@pytest.mark.parametrize("clip_frozen", [True, False])
@pytest.mark.parametrize(("family", "module"), CASES)
def test_only_the_one_module_moves(checkpoints, tmp_path, family, module, clip_frozen):
    """Everything else is bit-identical: the predecessor, the head, and the other modules' successors."""
    setup = make(checkpoints, family, module=module, clip_frozen=clip_frozen, epochs=2, weight_decay=0.1)
    inside = {id(p) for p in setup.modules.successor[module - 1].parameters()}
    assert {id(p) for p in setup.method.parameters(setup.model)} == inside
    names = {name for name, p in setup.model.named_parameters() if id(p) in inside}
    before = weights(setup.model)
    fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    after = weights(setup.model)
    changes = {name for name in before if not torch.equal(before[name], after[name])}
    assert changes <= names
    assert names - changes <= {name for name in names if name.endswith(("key.bias", "k_lin.bias"))}  # of no gradient


def test_the_frozen_parameters_have_gradients_only_where_they_are_clipped(checkpoints):
    batch = make_batch(make_data())
    for clip_frozen in (True, False):
        setup = make(checkpoints, module=2, clip_frozen=clip_frozen)
        setup.modules.replacements = [False, True, False]
        setup.model.train()
        setup.method.loss(setup.model, batch).backward()
        with_gradient = {id(p) for p in setup.model.parameters() if p.grad is not None}
        own = {id(p) for p in setup.modules.successor[1].parameters()}
        assert own <= with_gradient
        assert (with_gradient == own) != clip_frozen
        assert (id(setup.model.classifier.weight) in with_gradient) == clip_frozen


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
        fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path / name)).step
        for name, setup in (("early", early), ("late", late))
    ]
    assert steps == [2, 7]


# -- the setting


@pytest.mark.parametrize("module", [4, 17])
def test_a_module_that_is_not_there_is_one_user_error(checkpoints, module):
    with pytest.raises(UserError) as error:
        make(checkpoints, module=module)
    assert str(error.value) == f"theseus: module {module} is wanted, but there are 3"


def test_a_negative_module_is_one_user_error(checkpoints):
    with pytest.raises(UserError) as error:
        make(checkpoints, module=-1)
    assert "module: -1 is not at least 0" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", SHAPES)
def test_module_zero_replaces_all_as_if_nothing_were_said(checkpoints, tmp_path, family):
    modules = SHAPES[family][1]
    batch, results = make_batch(make_data()), []
    for name, settings in (("default", {}), ("zero", {"module": 0})):
        setup = make(checkpoints, family, epochs=2, **settings)
        choices = draw_choices(setup, 10)
        assert choices.any(axis=0).all()
        expected = logits_of(plain_model(setup, range(1, modules + 1)).eval(), batch)
        torch.testing.assert_close(logits_of(setup.model.eval(), batch), expected, rtol=1e-5, atol=1e-5)
        parameters = {id(p) for p in setup.method.parameters(setup.model)}
        assert parameters == {id(p) for p in setup.modules.successor.parameters()}
        fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path / name))
        student = setup.method.compressed(setup.model)
        assert student.config.num_hidden_layers == modules
        results.append((choices, weights(student)))
    assert np.array_equal(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])


# -- the result


@pytest.mark.parametrize(("family", "module"), CASES)
def test_the_compressed_model_is_a_plain_one_with_one_module_less(checkpoints, tmp_path, family, module):
    depth, modules = SHAPES[family]
    data = make_data()
    setup = make(checkpoints, family, module=module)
    fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    batch = make_batch(data)
    expected = logits_of(setup.model.eval(), batch).detach()
    state = dict(setup.modules.successor[module - 1][0].state_dict())
    student = setup.method.compressed(setup.model.train())
    reference = weights(plain_model(setup, [module]))
    layer = (module - 1) * depth // modules
    prefix = f"{LAYERS[family]}.{layer}."
    reference |= {prefix + name: value for name, value in state.items()}
    assert same(weights(student), reference)  # and so nothing but the one module has changed
    save_checkpoint(student, setup.folders.backbone, tmp_path / "model")
    model, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.num_hidden_layers == len(model.get_submodule(LAYERS[family])) == depth - depth // modules + 1
    assert same(weights(model), reference)
    for mode in (False, True):
        torch.testing.assert_close(logits_of(model.train(mode), batch), expected, rtol=1e-5, atol=1e-5)


def test_every_module_gives_another_model(checkpoints):
    batch = make_batch(make_data())
    outputs = [logits_of(make(checkpoints, module=module).model.eval(), batch).detach() for module in (0, 1, 2, 3)]
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.combinations(outputs, 2))


def test_a_run_that_replaces_one_module_has_the_depth_that_is_left(tmp_path):
    """Of four layers in two modules: with one of them replaced by a layer, three."""
    bench = make_bench("theseus", tmp_path)
    depths = {
        change: bench.execute("rte", "one", change)[0].architecture["num_hidden_layers"]
        for change in ("module=0", "module=1", "module=2")
    }
    assert depths == {"module=0": 2, "module=1": 3, "module=2": 3}
