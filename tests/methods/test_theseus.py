"""Module replacing against plain transformers models, the paper's formulas and the official code's update."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from theseus_bench.data.batches import shuffled_batches
from theseus_bench.errors import UserError
from theseus_bench.modeling.checkpoints import save_checkpoint
from theseus_bench.modeling.devices import seed_everything
from theseus_bench.suite.method_spec import load_spec
from theseus_bench.training.conformance import make_bench
from theseus_bench.training.loop import fit, learning_rate
from theseus_bench.training.method import load_method
from theseus_bench.training.run import run_length
from tiny import (
    HARDWARE,
    LAYERS,
    METHODS,
    build,
    inputs_of,
    make_batch,
    make_checkpoint,
    make_data,
    same,
    weights,
    write_checkpoint,
)
from torch.nn import functional
from transformers import AutoConfig, AutoModelForSequenceClassification

DEPTH = {"bert": 6, "roberta": 4, "distilbert": 4}  # of the predecessor: three and two modules of two layers


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """By family and dropout: a backbone and a predecessor that have no weight in common."""
    folders = {}
    for family, depth in DEPTH.items():
        for dropout in (0.0, 0.1):
            folder = tmp_path_factory.mktemp(family)
            folders[family, dropout] = SimpleNamespace(
                backbone=write_checkpoint(folder / "backbone", family, depth, seed=1, dropout=dropout),
                predecessor=write_checkpoint(folder / "predecessor", family, depth, 2, seed=2, dropout=dropout),
            )
    return folders


def make(checkpoints, family="bert", dropout=0.0, data=None, **settings):
    settings = {"layers": DEPTH[family] // 2, "start": "pretrained", "full_rate_at": 0.5} | settings
    folders = checkpoints[family, dropout]
    setup = build("theseus", data or make_data(), folders.backbone, folders.predecessor, DEPTH[family], **settings)
    setup.modules = setup.method.modules
    setup.folders = folders
    return setup


def layer_state(state, prefix, number):
    """The weights of one layer, by their names inside it."""
    start = f"{prefix}.{number}."
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


def plain_model(folders, family, layers):
    """transformers' own model: head and embeddings of the predecessor, the layers named [('prd' | 'scc', number)]."""
    sources = {"prd": folders.predecessor, "scc": folders.backbone}
    states = {name: AutoModelForSequenceClassification.from_pretrained(f).state_dict() for name, f in sources.items()}
    config = AutoConfig.from_pretrained(folders.predecessor)
    config.update({"n_layers" if family == "distilbert" else "num_hidden_layers": len(layers)})
    state = {name: value for name, value in states["prd"].items() if not name.startswith(LAYERS[family])}
    for position, (source, number) in enumerate(layers):
        layer = layer_state(states[source], LAYERS[family], number)
        state |= {f"{LAYERS[family]}.{position}.{name}": value for name, value in layer.items()}
    model = AutoModelForSequenceClassification.from_config(config)
    model.load_state_dict(state, strict=True)
    return model


def layers_of_choice(choice):
    """The layers of the deep model in which the modules chosen are replaced."""
    modules = [
        [("scc", i)] if replacement else [("prd", 2 * i), ("prd", 2 * i + 1)] for i, replacement in enumerate(choice)
    ]
    return list(itertools.chain.from_iterable(modules))


# -- the forward pass


@pytest.mark.parametrize("family", DEPTH)
def test_every_choice_computes_what_a_plain_model_of_its_layers_does(checkpoints, family):
    setup = make(checkpoints, family)
    batch = make_batch(make_data())
    outputs = []
    for choice in itertools.product([False, True], repeat=DEPTH[family] // 2):
        setup.modules.replacements = list(choice)
        setup.model.train()
        logits = setup.model(**inputs_of(setup.model, batch)).logits
        reference = plain_model(setup.folders, family, layers_of_choice(choice)).train()
        torch.testing.assert_close(logits, reference(**inputs_of(reference, batch)).logits, rtol=1e-5, atol=1e-5)
        loss = setup.method.loss(setup.model, batch)
        torch.testing.assert_close(loss, functional.cross_entropy(logits, batch["labels"]))  # the task's loss alone
        outputs.append(logits)
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.combinations(outputs, 2))


@pytest.mark.parametrize("family", DEPTH)
def test_evaluation_is_always_the_pure_successor(checkpoints, family):
    setup = make(checkpoints, family, dropout=0.1)
    batch = make_batch(make_data())
    size = DEPTH[family] // 2
    reference = plain_model(setup.folders, family, layers_of_choice([True] * size)).eval()
    expected = reference(**inputs_of(reference, batch)).logits
    setup.model.eval()
    for choice in itertools.product([False, True], repeat=size):
        setup.modules.replacements = list(choice)
        torch.testing.assert_close(setup.model(**inputs_of(setup.model, batch)).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("start", ["predecessor", "pretrained"])
def test_the_successor_starts_as_the_first_layers_of_its_start(checkpoints, start):
    setup = make(checkpoints, start=start)
    folder = setup.folders.predecessor if start == "predecessor" else setup.folders.backbone
    state = AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    for i, module in enumerate(setup.modules.successor):
        assert same(dict(module[0].state_dict()), layer_state(state, LAYERS["bert"], i))
    originals = AutoModelForSequenceClassification.from_pretrained(setup.folders.predecessor).state_dict()
    for i, module in enumerate(setup.modules.predecessor):
        for j, layer in enumerate(module):
            assert same(dict(layer.state_dict()), layer_state(originals, LAYERS["bert"], 2 * i + j))
    addresses = {id(p) for p in setup.modules.predecessor.parameters()}
    assert not addresses & {id(p) for p in setup.modules.successor.parameters()}  # copies, not the same tensors


# -- rates and draws


@pytest.mark.parametrize("schedule", ["curriculum", "constant", "anti_curriculum"])
@pytest.mark.parametrize(("base", "full_at", "full_step"), [(0.3, 10.0, 10), (0.1, 0.5, 20), (0.5, 80.0, 80)])
def test_rates_follow_the_papers_formula(checkpoints, schedule, base, full_at, full_step):
    setup = make(checkpoints, schedule=schedule, base_rate=base, full_rate_at=full_at, steps=40)
    k = (1 - base) / full_step
    for step in range(40):
        curriculum = min(1.0, k * step + base)
        expected = {
            "curriculum": curriculum,
            "anti_curriculum": 1 - curriculum,
            "constant": base if step < full_step else 1.0,
        }[schedule]
        setup.method.on_step_begin(step)
        assert setup.method.metrics_to_log()["replacing_rate"] == pytest.approx(expected, abs=1e-12)


def draw_choices(setup, steps):
    """The choices of all steps (steps, modules)."""
    choices = []
    for step in range(steps):
        setup.method.on_step_begin(step)
        choices.append(list(setup.modules.replacements))
    return np.array(choices)


@pytest.mark.parametrize("schedule", ["constant", "curriculum"])
def test_draws_are_independent_and_as_frequent_as_the_rate(checkpoints, schedule):
    steps = 6000
    setup = make(checkpoints, schedule=schedule, base_rate=0.3, full_rate_at=1e9, steps=steps)
    choices = draw_choices(setup, steps)
    assert choices.shape == (steps, 3)
    bound = 4.5 * np.sqrt(0.3 * 0.7 / steps)
    assert (np.abs(choices.mean(axis=0) - 0.3) < bound).all()
    for a, b in itertools.combinations(range(3), 2):
        assert abs((choices[:, a] & choices[:, b]).mean() - 0.09) < 4.5 * np.sqrt(0.09 * 0.91 / steps)
    assert abs((choices[1:] & choices[:-1]).mean() - 0.09) < 4.5 * np.sqrt(0.09 * 0.91 / steps)


def test_draws_follow_a_moving_rate(checkpoints):
    steps = 4000
    setup = make(checkpoints, base_rate=0.2, full_rate_at=3000.0, steps=steps)
    choices = draw_choices(setup, steps)
    assert choices[3000:].all()
    for start in range(0, 3000, 500):
        rates = np.array([min(1.0, 0.2 + 0.8 * t / 3000) for t in range(start, start + 500)])
        expected, spread = 3 * rates.sum(), np.sqrt(3 * (rates * (1 - rates)).sum())
        assert abs(choices[start : start + 500].sum() - expected) < 4.5 * spread


def test_draws_depend_on_the_seed_alone(checkpoints):
    options = {"schedule": "constant", "base_rate": 0.5, "full_rate_at": 1e9, "steps": 50}
    choices = [draw_choices(make(checkpoints, seed=seed, **options), 50) for seed in (3, 3, 4)]
    assert np.array_equal(choices[0], choices[1])
    assert not np.array_equal(choices[0], choices[2])


def test_one_draw_serves_the_whole_step(checkpoints, tmp_path):
    setup = make(checkpoints, dropout=0.1, schedule="constant", base_rate=0.5, epochs=2)
    loss, choices = setup.method.loss, []
    setup.method.loss = lambda model, batch: choices.append(list(setup.modules.replacements)) or loss(model, batch)
    fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert np.array_equal(choices, draw_choices(setup, 10))
    assert len(np.unique(choices, axis=0)) > 2


# -- what is trained


@pytest.mark.parametrize("clip_frozen", [True, False])
def test_only_the_successor_moves(checkpoints, tmp_path, clip_frozen):
    setup = make(checkpoints, dropout=0.1, clip_frozen=clip_frozen, epochs=2, weight_decay=0.1)
    before = weights(setup.model)
    fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    after = weights(setup.model)
    for name in before:
        inside = ".successor." in name
        assert torch.equal(before[name], after[name]) != inside, name
    assert sum(".successor." in name for name in before) == 3 * 16


@pytest.mark.parametrize("choice", [c for c in itertools.product([False, True], repeat=3) if any(c)])
def test_gradients_are_the_same_whether_the_frozen_ones_are_computed(checkpoints, choice):
    batch, gradients = make_batch(make_data()), []
    for clip_frozen in (True, False):
        setup = make(checkpoints, dropout=0.1, clip_frozen=clip_frozen)
        setup.modules.replacements = list(choice)
        setup.model.train()
        seed_everything(8)
        setup.method.loss(setup.model, batch).backward()
        gradients.append({name: p.grad for name, p in setup.modules.successor.named_parameters() if p.grad is not None})
    assert same(*gradients)
    assert {int(name.split(".")[0]) for name in gradients[0]} == {
        i for i, replacement in enumerate(choice) if replacement
    }


def official_loop(setup, data, choices, clip_frozen):
    """The official code's update: the optimizer has the successor, gradients are zeroed in place, all are clipped."""
    successor = list(setup.modules.successor.parameters())
    optimizer = torch.optim.AdamW(successor, lr=1e-3, eps=1e-8, weight_decay=0.0)
    step = 0
    for epoch in range(-(-len(choices) // 5)):
        for examples in shuffled_batches(len(data.train), "tiny", 1, epoch, 8):
            if step == len(choices):
                return
            setup.modules.replacements = choices[step]
            setup.model.train()
            batch = make_batch(data, examples)
            loss = functional.cross_entropy(setup.model(**inputs_of(setup.model, batch)).logits, batch["labels"])
            loss.backward()
            parameters = list(setup.model.parameters()) if clip_frozen else successor
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = sum(float((g.double() ** 2).sum()) for g in gradients) ** 0.5
            for gradient in gradients:
                gradient *= min(1.0, setup.loop.clip_norm / (norm + 1e-6))
            optimizer.param_groups[0]["lr"] = learning_rate(setup.loop, step, len(choices))
            optimizer.step()
            setup.model.zero_grad(set_to_none=False)
            step += 1


@pytest.mark.parametrize("clip_frozen", [True, False])
def test_training_is_the_official_codes(checkpoints, tmp_path, clip_frozen):
    data = make_data()
    options = {"epochs": 2, "clip_norm": 0.05, "dropout": 0.1, "evaluate_every": 50}
    options |= {"schedule": "constant", "base_rate": 0.25, "full_rate_at": 0.8}
    # The reference always computes all gradients; the norm that it clips is what differs.
    reference = make(checkpoints, data=data, clip_frozen=True, **options)
    choices = draw_choices(reference, 10)
    assert (~choices).all(axis=1).any()  # a step with no successor drawn is among them
    seed_everything(5)
    official_loop(reference, data, choices.tolist(), clip_frozen)
    setup = make(checkpoints, data=data, clip_frozen=clip_frozen, **options)
    start = weights(setup.modules.successor)
    seed_everything(5)
    state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert state.step == 10
    for name, value in weights(reference.modules.successor).items():
        weight = setup.modules.successor.state_dict()[name]
        if "key.bias" not in name:  # no attention depends on it: its gradient is rounding, which Adam blows up
            torch.testing.assert_close(weight, value, rtol=1e-4, atol=2e-6, msg=name)
            assert (value - start[name]).abs().max() > 1e-3


@pytest.mark.parametrize("clip_frozen", [True, False])
def test_the_clipped_norm_covers_what_the_setting_says(checkpoints, tmp_path, clip_frozen):
    data = make_data()
    options = {"clip_norm": 0.05, "schedule": "constant", "base_rate": 1.0, "max_steps": 1}
    setup = make(checkpoints, data=data, clip_frozen=clip_frozen, **options)
    fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    reference = plain_model(setup.folders, "bert", layers_of_choice([True] * 3)).train()
    batch = make_batch(data, shuffled_batches(len(data.train), "tiny", 1, 0, 8)[0])
    reference(**inputs_of(reference, batch), labels=batch["labels"]).loss.backward()
    grads = {name: p.grad for name, p in reference.named_parameters()}
    norms = {name: float(g.norm()) for name, g in grads.items() if clip_frozen or name.startswith(LAYERS["bert"])}
    norm = float(np.linalg.norm(list(norms.values())))
    assert norm > 0.05
    for i, module in enumerate(setup.modules.successor):
        for name, p in module[0].named_parameters():
            expected = grads[f"{LAYERS['bert']}.{i}.{name}"] * 0.05 / norm
            torch.testing.assert_close(p.grad, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("clip_frozen", [True, False])
def test_steps_with_no_successor_drawn_are_survived_and_counted(checkpoints, tmp_path, clip_frozen):
    never = {"schedule": "constant", "base_rate": 0.0, "full_rate_at": 1.0}
    setup = make(checkpoints, clip_frozen=clip_frozen, epochs=2, evaluate_every=5, **never)
    before = weights(setup.model)
    state = fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert [entry["undrawn_steps"] for entry in state.curve] == [5, 10]
    assert all(np.isfinite(entry["loss"]) for entry in state.curve)
    assert same(weights(setup.model), before)  # nothing has had a gradient yet, so nothing has momentum


def test_a_run_of_which_no_step_draws_a_successor_is_refused_and_moves_nothing(checkpoints, tmp_path):
    never = {"schedule": "constant", "base_rate": 0.0, "full_rate_at": 1.0}
    setup = make(checkpoints, epochs=4, evaluate_every=5, **never)  # 20 steps
    before = weights(setup.model)
    with pytest.raises(UserError, match="no trained parameter ever had a gradient"):
        fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert same(weights(setup.model), before)


@pytest.mark.parametrize(
    ("changes", "steps", "length"),
    [
        ({"full_rate_at": 1000.0}, 1560, 2000),  # RTE: 20 epochs are fewer than twice N
        ({"full_rate_at": 1000.0}, 5360, 5360),
        ({"full_rate_at": 30000.0}, 60000, 60000),
        ({"full_rate_at": 40000.0}, 1560, 60000),  # the cap
        ({"full_rate_at": 0.5}, 1560, 1560),
        ({"full_rate_at": 1.0, "schedule": "constant"}, 1560, 1560),
        ({"full_rate_at": 1000.0, "schedule": "constant"}, 1560, 2000),
        ({"full_rate_at": 5000.0, "schedule": "anti_curriculum"}, 1560, 1560),
    ],
)
def test_a_run_is_as_long_as_its_curriculum_needs(changes, steps, length):
    settings = SimpleNamespace(**load_spec(METHODS / "theseus").defaults | {"max_steps": 60000} | changes)
    assert load_method(METHODS / "theseus").run_length(settings, steps) == length


def test_a_run_takes_the_length_that_the_method_asks_for_but_not_under_equal_effort(tmp_path):
    bench = make_bench("theseus", tmp_path)
    method = load_method(METHODS / "theseus")
    published, equal = (bench.plan.run(name, "rte", 1) for name in ("theseus", "theseus@equal"))
    recipe = load_spec(METHODS / "theseus").defaults | {"full_rate_at": 90.0, "batch_size": 8}
    for run, changes, length in (
        (published, {}, 180),
        (equal, {}, 100),  # 20 epochs of 40 examples
        (published, {"epochs": 1.0}, 5),  # a suite that says how long a run takes is obeyed
        (published, {"max_steps": 7}, 7),
    ):
        assert run_length(replace(run, settings=run.settings | recipe | changes), method, 40) == length


def test_the_anti_curriculum_falls_over_the_whole_run(checkpoints):
    variant = load_spec(METHODS / "theseus").variants["anti_curriculum"]
    rates = make(checkpoints, steps=50, base_rate=0.3, **variant).method.rates
    assert rates[0] == pytest.approx(0.7)
    assert 0 < rates[-1] < 0.02
    assert (np.diff(rates) < 0).all()


def test_training_may_stop_only_once_replacing_is_over(checkpoints):
    method = make(checkpoints, schedule="curriculum", full_rate_at=6.0, steps=9).method
    stops = []
    for step in range(9):
        method.on_step_begin(step)
        stops.append(bool(method.allow_early_stopping()))
    assert stops == [False] * 6 + [True] * 3


def test_undrawn_steps_are_counted_as_drawn(checkpoints):
    setup = make(checkpoints, base_rate=0.1, full_rate_at=60.0, steps=80)
    choices = draw_choices(setup, 80)
    for step in range(80):
        setup.method.on_step_begin(step)
        assert setup.method.metrics_to_log()["undrawn_steps"] == (choices[: step + 1].sum(axis=1) == 0).sum()
    assert 1 < setup.method.metrics_to_log()["undrawn_steps"] < 40


@pytest.mark.parametrize("clip_frozen", [True, False])
def test_an_undrawn_successor_goes_on_by_its_momentum(checkpoints, tmp_path, clip_frozen):
    """AdamW written out, with a gradient of zero where a module took no part; one that never did stays put."""
    options = {"epochs": 1, "max_steps": 3, "warmup": 0.0, "evaluate_every": 50}
    setup = make(checkpoints, dropout=0.1, clip_frozen=clip_frozen, **options)
    setup.method.replacements = np.array([[True, False, False], [False, False, False], [False, True, False]])
    states = [weights(setup.modules.successor)]
    gradients = []
    on_step_begin = setup.method.on_step_begin

    def record_step(step):
        if step:
            states.append(weights(setup.modules.successor))
            gradients.append({n: None if p.grad is None else p.grad.clone() for n, p in parameters})
        on_step_begin(step)

    parameters = list(setup.modules.successor.named_parameters())
    setup.method.on_step_begin = record_step
    fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    states.append(weights(setup.modules.successor))
    for name, start in states[0].items():
        module = int(name.split(".")[0])
        if module == 2:
            assert torch.equal(states[3][name], start)
        if module == 1:
            assert torch.equal(states[2][name], start)
            assert not torch.equal(states[3][name], start)
        if module == 0:
            gradient, value = gradients[0][name], start
            for t, rate in enumerate([1e-3, 1e-3 * 2 / 3, 1e-3 / 3], start=1):
                mean = 0.1 * gradient * 0.9 ** (t - 1) / (1 - 0.9**t)
                square = 0.001 * gradient**2 * 0.999 ** (t - 1) / (1 - 0.999**t)
                value = value - rate * mean / (square.sqrt() + 1e-8)
                torch.testing.assert_close(states[t][name], value, rtol=1e-5, atol=1e-6)
            if name.endswith("output.dense.weight"):
                assert (states[2][name] - states[1][name]).abs().max() > 1e-4


# -- the result


@pytest.mark.parametrize("family", DEPTH)
def test_the_compressed_model_is_a_plain_one_of_half_the_depth(checkpoints, tmp_path, family):
    data = make_data()
    setup = make(checkpoints, family, dropout=0.1, data=data, epochs=1, base_rate=0.5)
    fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    batch = make_batch(data)
    expected = setup.model.eval()(**inputs_of(setup.model, batch)).logits
    student = setup.method.compressed(setup.model)
    size = DEPTH[family] // 2
    plain = plain_model(setup.folders, family, layers_of_choice([True] * size))
    assert student.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(student.eval()(**inputs_of(student, batch)).logits, expected)
    save_checkpoint(student, setup.folders.backbone, tmp_path / "model")
    model, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.num_hidden_layers == size
    assert len(model.get_submodule(LAYERS[family])) == size
    assert same(weights(model), weights(student))
    torch.testing.assert_close(model.eval()(**inputs_of(model, batch)).logits, expected, rtol=1e-5, atol=1e-5)
