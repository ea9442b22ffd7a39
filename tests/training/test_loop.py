"""The training loop against plain hand-written ones: schedule, steps, best parameters, stopping, resume, pairing."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from theseus_bench.checksums import sign_folder
from theseus_bench.data import batches
from theseus_bench.data.batches import collate, shuffled_batches
from theseus_bench.data.held_out import hold_out, take
from theseus_bench.data.parquet import ROW, Split
from theseus_bench.errors import UserError
from theseus_bench.modeling.architectures import layers_of
from theseus_bench.modeling.devices import Hardware, autocast, choose_precision, seed_everything
from theseus_bench.training import micro_batches
from theseus_bench.training import run as runs_module
from theseus_bench.training.conformance_bench import STEPS, make_bench
from theseus_bench.training.loop import fit, learning_rate, planned_steps, predict, without_held_out
from theseus_bench.training.method import Method, ParameterGroup, classify, parameter_groups, task_loss
from theseus_bench.training.run import majority_score, run_status
from theseus_bench.training.trainer_state import TrainerState
from tiny import (
    HARDWARE,
    build,
    inputs_of,
    make_batch,
    make_checkpoint,
    make_data,
    make_loop,
    make_split,
    make_teacher,
    same,
    weights,
    write_checkpoint,
)
from torch import nn
from transformers import get_linear_schedule_with_warmup

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return SimpleNamespace(
        backbone=write_checkpoint(folder / "backbone", seed=1),
        still=write_checkpoint(folder / "still", seed=1, dropout=0.0),
        predecessor=write_checkpoint(folder / "predecessor", outputs=2, seed=2),
    )


class Dial(nn.Module):
    """One number that each step lowers by the learning rate; what it predicts is `logits_of(number)`, for all alike."""

    def __init__(self, logits_of):
        super().__init__()
        self.number = nn.Parameter(torch.zeros(1))
        self.logits_of = logits_of
        self.config = SimpleNamespace(model_type="bert", num_labels=2)

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.logits_of(self.number).float().expand(len(input_ids), 2))


class Lowering(Method):
    def __init__(self, broken_at=math.inf):
        self.numbers, self.step, self.broken_at = [], 0, broken_at

    def on_step_begin(self, step):
        self.step = step

    def loss(self, model, batch):
        self.numbers.append(model.number.item())
        return model.number.sum() * (math.nan if self.step >= self.broken_at else 1.0)


def dial_data():
    """A dev set of which class 1 has three quarters."""
    data = make_data()
    data.dev["validation"].rows["label"] = [1, 1, 1, 0] * 5
    return data


def window(low, high):
    """Class 1 while the number is between, class 0 else."""
    return lambda number: torch.cat([torch.zeros(1), 2.0 * ((number > low) & (number < high)) - 1.0])


# -- schedule and steps


@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_learning_rate_is_transformers_linear_schedule(warmup, steps):
    settings = make_loop(warmup=warmup, learning_rate=3e-5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-5)
    schedule = get_linear_schedule_with_warmup(optimizer, int(warmup * steps), steps)
    for step in range(steps):
        assert learning_rate(settings, step, steps) == pytest.approx(schedule.get_last_lr()[0], rel=1e-12, abs=0)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("epochs", "examples", "cap", "expected"),
    [
        (4, 64, None, 8),
        (4, 65, None, 12),  # a last batch that is not full counts
        (0.5, 65, None, 2),  # 1.5 batches
        (2.5, 128, None, 10),
        (0.01, 32, None, 1),
        (4, 64, 5, 5),
        (4, 64, 50, 8),
        (1.1, 1600, None, 55),  # 1.1 · 50 is a little more than 55 in binary
    ],
)
def test_planned_steps(epochs, examples, cap, expected):
    assert planned_steps(make_loop(epochs=epochs, max_steps=cap, batch_size=32), examples) == expected


# -- the loop itself


def plain_groups(named_parameters, decay=0.1, **options):
    """Groups for torch's optimizer: those that decay, and biases and layer norms, which do not."""
    plain, decaying = [], []
    for name, parameter in named_parameters:
        (plain if name.endswith("bias") or "LayerNorm" in name else decaying).append(parameter)
    groups = [{"params": decaying, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
    return [group | options for group in groups if group["params"]]


def plain_loop(model, data, settings, seed, steps, groups=None, clipped=None):
    """What the loop promises, written with transformers' own loss and schedule."""
    groups, clipped = groups or plain_groups(model.named_parameters()), clipped or list(model.parameters())
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, int(settings.warmup * steps), steps)
    orders = (
        shuffled_batches(len(data.train), "tiny", seed, epoch, settings.batch_size) for epoch in itertools.count()
    )
    losses = []
    model.train()
    for examples in itertools.islice(itertools.chain.from_iterable(orders), steps):
        batch = make_batch(data, examples)
        loss = model(**inputs_of(model, batch), labels=batch["labels"]).loss
        loss.backward()
        nn.utils.clip_grad_norm_(clipped, settings.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("outputs", [2, 3, 1])
@pytest.mark.parametrize("start", ["backbone", "still"])
def test_fit_is_bit_equal_to_a_plain_loop(checkpoints, tmp_path, outputs, start):
    data, folder = make_data(outputs), getattr(checkpoints, start)
    options = {"epochs": 2.4, "weight_decay": 0.1, "warmup": 0.25, "clip_norm": 0.5, "evaluate_every": 100}
    setup, reference = (build("finetune", data, folder, **options) for _ in range(2))
    seed_everything(5)
    losses = plain_loop(reference.model, data, reference.loop, seed=1, steps=12)
    seed_everything(5)
    state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert state.step == 12
    assert same(weights(setup.model), weights(reference.model))
    assert state.curve[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_groups_have_their_rate_and_decay_under_one_schedule_and_one_norm(checkpoints, tmp_path):
    data = make_data()
    options = {"epochs": 2.4, "weight_decay": 0.1, "warmup": 0.25, "clip_norm": 0.5, "evaluate_every": 100}
    setup, reference = (build("finetune", data, checkpoints.backbone, **options) for _ in range(2))

    def parameters(model):
        first, second = layers_of(model)
        ids = {id(p) for p in [*first.parameters(), *second.parameters()]}
        rest = [p for p in model.parameters() if id(p) not in ids]
        first = ParameterGroup(first.parameters(), rate_factor=0.25)
        return [first, *rest, ParameterGroup(second.parameters(), rate_factor=0.5, weight_decay=0.3)]

    setup.method.parameters = parameters
    pairs = list(reference.model.named_parameters())
    first, second = ([(n, p) for n, p in pairs if f"layer.{i}." in n] for i in (0, 1))
    rest = [(n, p) for n, p in pairs if "layer." not in n]
    rate = reference.loop.learning_rate
    groups = plain_groups(rest) + plain_groups(first, lr=rate / 4) + plain_groups(second, 0.3, lr=rate / 2)
    clipped = [p for _, p in rest + first + second]  # all, in the order in which their norm is summed
    assert len(first) == len(second) > 0
    seed_everything(5)
    plain_loop(reference.model, data, reference.loop, seed=1, steps=12, groups=groups, clipped=clipped)
    seed_everything(5)
    fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert same(weights(setup.model), weights(reference.model))


@pytest.mark.parametrize(
    ("groups_of", "complaint"),
    [
        (lambda p: [p, ParameterGroup([p])], "a parameter is in two groups, or twice in one; put it in one, once"),
        (lambda p: [ParameterGroup([p], rate_factor=-0.1)], "a group's rate_factor is -0.1; give a number that is not"),
        (lambda p: [ParameterGroup([p], weight_decay=math.nan)], "a group's weight_decay is nan; give a number"),
    ],
)
def test_groups_that_cannot_be_trained_are_refused(groups_of, complaint):
    with pytest.raises(UserError) as error:
        parameter_groups(groups_of(nn.Parameter(torch.zeros(1))))
    assert str(error.value).startswith(f"parameters(): {complaint}")


def test_weight_decay_leaves_biases_and_norms_alone(checkpoints, tmp_path):
    data = make_data()
    setup = build("finetune", data, checkpoints.backbone, weight_decay=0.5, epochs=1, warmup=0.0)
    setup.method.loss = lambda model, batch: sum(0.0 * p.sum() for p in model.parameters())
    before = weights(setup.model)
    fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    shrunk = math.prod(1 - 1e-3 * (5 - step) / 5 * 0.5 for step in range(5))
    for name, value in setup.model.state_dict().items():
        if value.ndim == 1:
            assert torch.equal(value, before[name]), name
        else:
            torch.testing.assert_close(value, before[name] * shrunk, rtol=1e-5, atol=0, msg=name)


def test_the_best_parameters_are_kept_not_the_last(tmp_path):
    model, method = Dial(window(-4.3e-3, -2.6e-3)), Lowering()
    settings = make_loop(epochs=2, evaluate_every=1, warmup=0.0)  # numbers: -1e-3, -1.9e-3, -2.7e-3, -3.4e-3, -4e-3, …
    state = fit(method, model, dial_data(), settings, 1, HARDWARE, make_checkpoint(tmp_path))
    assert [entry["score"] for entry in state.curve] == [0.25] * 2 + [0.75] * 3 + [0.25] * 5
    assert (state.step, state.best_step, state.best_score) == (10, 3, 0.75)
    assert model.number.item() == method.numbers[3] == pytest.approx(-2.7e-3)


def test_patience_counts_evaluations_since_the_best(tmp_path):
    settings = make_loop(epochs=4, evaluate_every=2, patience=3, warmup=0.0)
    model = Dial(window(-8e-3, -3e-3))  # class 1 from step 4 to step 9 or so
    state = fit(Lowering(), model, dial_data(), settings, 1, HARDWARE, make_checkpoint(tmp_path))
    assert (state.best_step, state.step, state.evaluations_without_improvement) == (4, 10, 3)
    assert state.step < planned_steps(settings, 36)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"epochs": 2, "evaluate_every": 3}, [3, 6, 9, 10]),
        ({"epochs": 2}, [5, 10]),
        ({"epochs": 1.5}, [5, 8]),
        ({"epochs": 3, "max_steps": 7}, [5, 7]),
        ({"epochs": 2, "evaluations": 4}, [3, 5, 8, 10]),
        ({"epochs": 2, "evaluations": 4, "evaluate_every": 1}, [3, 5, 8, 10]),
        ({"epochs": 2, "evaluations": 99}, list(range(1, 11))),
    ],
)
def test_evaluation_steps(tmp_path, options, expected):
    state = fit(
        Lowering(), Dial(window(0, 1)), dial_data(), make_loop(**options), 1, HARDWARE, make_checkpoint(tmp_path)
    )
    assert [entry["step"] for entry in state.curve] == expected
    assert [entry["epoch"] for entry in state.curve] == [step / 5 for step in expected]


@pytest.mark.parametrize(("broken_at", "best_step"), [(4, 4), (5, 4), (0, 0)])
def test_a_loss_that_is_not_finite_ends_the_run_at_its_best(tmp_path, broken_at, best_step):
    model = Dial(window(-1, -2.6e-3))
    settings = make_loop(epochs=2, evaluate_every=2, warmup=0.0)
    state = fit(Lowering(broken_at), model, dial_data(), settings, 1, HARDWARE, make_checkpoint(tmp_path))
    assert state.divergence.startswith("diverged: the loss")
    assert state.step == broken_at - broken_at % 2 + 2  # seen at the next evaluation
    assert state.best_step == best_step
    assert model.number.item() == pytest.approx([0.0, 0, 0, 0, -3.4e-3][best_step])
    assert run_status("baseline", state.divergence, 0.9, 0.1)[0] == "failed"


def test_outputs_that_are_not_finite_end_the_run_at_its_best(tmp_path):
    logits_of = window(-1, 1)
    model = Dial(lambda number: torch.where(number < -2.5e-3, math.nan, logits_of(number)))
    settings = make_loop(epochs=2, evaluate_every=1, warmup=0.0)
    state = fit(Lowering(), model, dial_data(), settings, 1, HARDWARE, make_checkpoint(tmp_path))
    assert state.divergence.startswith("diverged: the outputs")
    assert (state.step, state.best_step, len(state.curve)) == (3, 1, 2)
    assert model.number.item() == pytest.approx(-1e-3)


# -- interruption


class Interruption(Exception):
    pass


def train(name, data, checkpoints, folder, stop_at=None, **settings):
    """Build and fit; what the parameters were before the last step, at the end, and the rest that must be equal."""
    setup = build(name, data, checkpoints.backbone, checkpoints.predecessor, **settings)
    on_step_begin, last, steps = setup.method.on_step_begin, {}, planned_steps(setup.loop, len(data.train))

    def watch_step(step):
        if step == stop_at:
            raise Interruption
        if step == steps - 1:
            last.update(weights(setup.model))
        on_step_begin(step)

    setup.method.on_step_begin = watch_step
    state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(folder, every=0.0))
    logits = predict(setup.model, data.dev["validation"], data.pad, HARDWARE)
    return SimpleNamespace(state=state, last=last, weights=weights(setup.model), logits=logits)


CASES = {
    "finetune": {},
    "pkd": {"beta": 10.0},
    "theseus": {"schedule": "constant", "base_rate": 0.4, "full_rate_at": 0.9},
    "theseus, frozen apart": {"schedule": "constant", "base_rate": 0.4, "full_rate_at": 0.9, "clip_frozen": False},
    "theseus, in parts": {"schedule": "constant", "base_rate": 0.4, "full_rate_at": 0.9},
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(checkpoints, tmp_path, monkeypatch, case):
    name = case.split(",")[0]
    if case.endswith("in parts"):
        monkeypatch.setattr(micro_batches, "PART_TOKENS", 0)
    data = make_data(teacher=make_teacher(36, 2, [2, 4]) if name == "pkd" else None)
    settings = {"epochs": 1.8, "evaluate_every": 3, "patience": None, "weight_decay": 0.01, "clip_norm": 0.1}
    settings |= CASES[case]
    whole = train(name, data, checkpoints, tmp_path / "whole", **settings)
    assert whole.state.step == 9
    for stop_at in range(1, 9):  # within an evaluation's interval, within an epoch (of five) and at its end
        folder = tmp_path / str(stop_at)
        with pytest.raises(Interruption):
            train(name, data, checkpoints, folder, stop_at, **settings)
        torch.manual_seed(99)  # whatever the generators hold now, the checkpoint's state counts
        continuation = train(name, data, checkpoints, folder, **settings)
        assert same(continuation.last, whole.last), f"stopped before step {stop_at}"
        assert same(continuation.weights, whole.weights)
        assert np.array_equal(continuation.logits, whole.logits)
        assert continuation.state.resumes == 1
        assert 0 < continuation.state.seconds_before_resume < continuation.state.seconds
        best = zip(continuation.state.best_parameters, whole.state.best_parameters, strict=True)
        assert all(torch.equal(one, other) for one, other in best)
        exclusions = ("best_parameters", "seconds", "evaluation_seconds", "seconds_before_resume", "resumes")
        exclusions = dict.fromkeys([*exclusions, "energy_joules"])
        assert vars(continuation.state) | exclusions == vars(whole.state) | exclusions


def test_a_run_may_be_interrupted_again_and_again(checkpoints, tmp_path):
    data, settings = make_data(), {"epochs": 1.8, "evaluate_every": 3}
    whole = train("finetune", data, checkpoints, tmp_path / "whole", **settings)
    for stop_at in (2, 5, 8):
        with pytest.raises(Interruption):
            train("finetune", data, checkpoints, tmp_path / "parts", stop_at, **settings)
    parts = train("finetune", data, checkpoints, tmp_path / "parts", **settings)
    assert parts.state.resumes == 3
    assert same(parts.weights, whole.weights)
    assert parts.state.curve == whole.state.curve
    make_checkpoint(tmp_path / "parts").discard()
    assert not list((tmp_path / "parts").iterdir())


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "flipped in its checksum"])
def test_a_damaged_checkpoint_is_set_aside_and_the_run_begins_anew(checkpoints, tmp_path, capsys, damage):
    data, settings = make_data(), {"epochs": 1.8, "evaluate_every": 3}
    whole = train("finetune", data, checkpoints, tmp_path / "whole", **settings)
    with pytest.raises(Interruption):
        train("finetune", data, checkpoints, tmp_path, 5, **settings)
    file = make_checkpoint(tmp_path).file
    contents = bytearray(file.read_bytes())
    contents[{"flipped": len(contents) // 2, "flipped in its checksum": 3}.get(damage, -1)] ^= 1
    file.write_bytes(contents[: {"empty": 0, "cut": len(contents) // 2}.get(damage)])
    again = train("finetune", data, checkpoints, tmp_path, **settings)
    assert capsys.readouterr().err == (
        f"{file}: damaged; it is set aside as state.damaged, and the training begins anew\n"
    )
    assert again.state.resumes == 0
    assert same(again.weights, whole.weights)
    assert again.state.curve == whole.state.curve


def test_no_run_goes_on_from_a_checkpoint_of_other_contents(tmp_path, monkeypatch):
    bench = make_bench("finetune", tmp_path)
    load = runs_module.load_method

    def stopping(folder):
        method = load(folder)

        def stop(step):
            if step == 2:
                raise Interruption

        method.on_step_begin = stop
        return method

    for change, resumes in (("nothing", 1), ("state version", 0), ("data", 0)):
        name = f"changed-{change}"
        with monkeypatch.context() as patch:
            patch.setattr(runs_module, "load_method", stopping)
            with pytest.raises(Interruption):
                bench.execute("rte", name)
        if change == "state version":
            monkeypatch.setattr(runs_module, "STATE_VERSION", runs_module.STATE_VERSION + 1)
        if change == "data":  # the same, said in other words
            file = tmp_path / "data/rte/data.json"
            file.write_text(file.read_text() + " ")
            sign_folder(file.parent)
        record, _ = bench.execute("rte", name)
        assert record.resumed == resumes


def test_the_record_says_what_the_run_computed(tmp_path):
    """Steps of 8 examples beside four passes over the dev set and a last one over dev and test."""
    record, _ = make_bench("finetune", tmp_path).execute("rte", "one")
    assert len(record.curve) == 4
    rows = record.data["validation"]["rows"]
    forward = record.flops["evaluation"] / (5 * rows + record.data["test"]["rows"])
    assert record.flops["training"] == pytest.approx(3 * STEPS * 8 * forward, rel=0.2)  # lengths differ


# -- the two seeds of a run


def test_dropout_begins_alike_however_much_building_drew(tmp_path, monkeypatch):
    bench = make_bench("finetune", tmp_path)
    _, plain = bench.execute("rte", "plain")
    load = runs_module.load_method

    def greedy(folder):
        method = load(folder)
        build = method.build

        def drawing(run):
            model = build(run)
            torch.rand(1000)
            return model

        method.build = drawing
        return method

    monkeypatch.setattr(runs_module, "load_method", greedy)
    _, other = bench.execute("rte", "greedy")
    assert np.array_equal(plain, other)


def test_what_building_draws_depends_on_the_seed_alone(tmp_path, monkeypatch):
    bench = make_bench("finetune", tmp_path)
    load, draws = runs_module.load_method, []

    def drawing(folder):
        method = load(folder)
        build = method.build

        def draw(run):
            draws.append((torch.rand(4), np.random.random(4)))
            return build(run)

        method.build = draw
        return method

    monkeypatch.setattr(runs_module, "load_method", drawing)
    for name, state in (("one", 5), ("two", 6)):
        torch.manual_seed(state)
        np.random.seed(state)
        bench.execute("rte", name)
    assert torch.equal(draws[0][0], draws[1][0])
    assert np.array_equal(draws[0][1], draws[1][1])


# -- a slice held out of train


def test_the_slice_is_a_tenth_stratified_and_the_same_every_time():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [600, 300, 100])).astype(np.float32)
    split = Split(np.zeros(1, np.uint16), np.zeros(1000, ROW))
    split.rows["label"] = labels
    train_indices, held_out = hold_out(split, "tiny")
    assert np.array_equal(np.sort(np.concatenate([train_indices, held_out])), np.arange(1000))
    assert [int((labels[held_out] == label).sum()) for label in (0, 1, 2)] == [60, 30, 10]
    assert np.array_equal(hold_out(split, "tiny")[1], held_out)
    assert not np.array_equal(hold_out(split, "other")[1], held_out)
    large = Split(split.tokens, np.zeros(30_000, ROW))
    assert len(hold_out(large, "tiny")[1]) == 1000
    assert np.std(np.diff(held_out)) > 2  # from all over the set


def test_values_are_held_out_evenly():
    values = np.random.default_rng(1).permutation(np.linspace(0, 5, 400)).astype(np.float32)
    split = Split(np.zeros(1, np.uint16), np.zeros(400, ROW))
    split.rows["label"] = values
    held_out = np.sort(values[hold_out(split, "tiny")[1]])
    assert len(held_out) == 40
    assert np.abs(held_out - np.linspace(0, 5, 40)).max() < 0.2


def test_a_run_neither_trains_on_the_slice_nor_chooses_by_dev(checkpoints, tmp_path):
    teacher = make_teacher(60, 2, [2, 4])
    whole = make_data(train=60, teacher=teacher)
    data = without_held_out(whole)
    train_indices, held_out = hold_out(whole.train, "tiny")
    assert (len(train_indices), len(held_out)) == (54, 6)
    teacher_logits, setup = [], build("vanilla_kd", data, checkpoints.backbone, epochs=2)
    loss = setup.method.loss
    setup.method.loss = lambda model, batch: teacher_logits.append(batch["teacher_logits"]) or loss(model, batch)
    state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    epoch = torch.cat(teacher_logits[:7])  # 54 examples in batches of 8
    expected = torch.from_numpy(teacher.logits[train_indices])
    assert torch.equal(epoch.sort(dim=0).values, expected.sort(dim=0).values)
    for entry in state.curve:
        assert {name.partition("/")[0] for name in entry if "/" in name} == {"held_out"}
        assert entry["score"] == entry["held_out/accuracy"]
    logits = predict(setup.model, take(whole.train, held_out), data.pad, HARDWARE)
    accuracy = (logits.argmax(axis=1) == whole.train.labels[held_out]).mean()
    assert state.best_score == accuracy == max(entry["score"] for entry in state.curve)


def test_dev_is_watched_for_the_record_alone(checkpoints, tmp_path):
    data = without_held_out(make_data(train=60))
    runs = []
    for watch_dev in (False, True):
        setup = build("finetune", data, checkpoints.backbone, epochs=3, watch_dev=watch_dev)
        state = fit(
            setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path / str(watch_dev))
        )
        runs.append((state, weights(setup.model)))
    (plain, before), (watching, after) = runs
    assert same(before, after)
    assert plain.best_step == watching.best_step
    assert all("dev_score" not in entry for entry in plain.curve)
    assert [entry["dev_score"] for entry in watching.curve] == [
        entry["validation/accuracy"] for entry in watching.curve
    ]


# -- evaluation, precision, pairing


def test_every_step_trains_with_dropout_also_after_an_evaluation(checkpoints, tmp_path, monkeypatch):
    data, modes = make_data(), []
    setup = build("finetune", data, checkpoints.backbone, epochs=2)
    loss = setup.method.loss

    def record_mode(model, batch):
        modes.append(all(module.training for module in model.modules()))
        return loss(model, batch)

    monkeypatch.setattr(setup.method, "loss", record_mode)
    state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert len(state.curve) == 2
    assert modes == [True] * state.step


def test_predict_gives_the_splits_own_order(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "EVALUATION_TOKENS", 60)  # several batches, of unlike lengths
    data = make_data(3)
    model = build("finetune", data, checkpoints.backbone).model.train()
    rows = make_split(40, seed=7)
    logits = predict(model, rows, data.pad, HARDWARE)
    assert model.training
    model.eval()
    for i in range(len(rows)):
        batch = {name: torch.from_numpy(v) for name, v in collate(rows, np.array([i]), data.pad).items()}
        with torch.no_grad():
            alone = model(**inputs_of(model, batch)).logits.numpy()[0]
        np.testing.assert_allclose(logits[i], alone, atol=2e-6)
    assert (logits.std(axis=0) > 0.01).all()


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("registers", [True, False])
def test_choose_precision(monkeypatch, kernels, registers):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: kernels, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: registers)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: registers or including_emulation)
    assert choose_precision("auto", CPU) == ("bf16" if kernels and registers else "fp32")
    assert choose_precision("auto", torch.device("cuda")) == ("bf16" if registers else "fp32")
    for device in (CPU, torch.device("cuda")):
        assert [choose_precision(precision, device) for precision in ("bf16", "fp32")] == ["bf16", "fp32"]


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_training_computes_in_the_precision_of_its_hardware(checkpoints, tmp_path, precision, dtype):
    data, dtypes = make_data(), []
    setup = build("finetune", data, checkpoints.backbone, epochs=0.2)

    def loss(model, batch):
        logits = classify(model, batch).logits
        dtypes.append(logits.dtype)
        return task_loss(logits, batch["labels"])

    setup.method.loss = loss
    fit(setup.method, setup.model, data, setup.loop, 1, Hardware(CPU, precision), make_checkpoint(tmp_path))
    assert dtypes == [dtype]
    assert {p.dtype for p in setup.model.parameters()} == {torch.float32}
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_method_that_trains_nothing_is_scored_once(checkpoints, tmp_path):
    data = make_data()
    setup = build("majority", data, checkpoints.backbone)
    state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    commonest = np.bincount(data.train.labels.astype(int)).argmax()
    score = (data.dev["validation"].labels == commonest).mean()
    assert state.step == state.best_step == 0
    assert state.best_score == score == majority_score(data)
    assert [entry["score"] for entry in state.curve] == [score]


def test_methods_see_identical_batches(checkpoints, tmp_path):
    def batches(name, seed=1):
        data = make_data(teacher=make_teacher(36, 2, [2, 4]))
        log, setup = [], build(name, data, checkpoints.backbone, checkpoints.predecessor, seed=seed, epochs=1.4)
        loss = setup.method.loss
        setup.method.loss = lambda model, batch: log.append(batch) or loss(model, batch)
        fit(setup.method, setup.model, data, setup.loop, seed, HARDWARE, make_checkpoint(tmp_path / f"{name}-{seed}"))
        return log

    def equal(one, other):
        return len(one) == len(other) == 7 and all(same(a, b) for a, b in zip(one, other, strict=True))

    finetune = batches("finetune")
    for name in ("theseus", "vanilla_kd", "pkd", "predecessor"):
        assert equal(finetune, batches(name)), name
    assert not equal(finetune, batches("finetune", seed=2))
    epoch = torch.cat([batch["teacher_logits"] for batch in finetune[:5]])
    expected = torch.from_numpy(make_teacher(36, 2, [2, 4]).logits)
    assert torch.equal(epoch.sort(dim=0).values, expected.sort(dim=0).values)  # each example once an epoch


@pytest.mark.parametrize(
    ("role", "score", "divergence", "status"),
    [
        ("baseline", 0.51, "", "complete"),
        ("baseline", 0.5, "", "failed"),
        ("proposed", 0.4, "", "failed"),
        ("teacher", 0.5, "", "failed"),
        ("control", 0.5, "", "complete"),
        ("control", 0.1, "", "complete"),
        ("baseline", 0.9, "diverged: so", "failed"),
        ("baseline", None, "diverged: so", "failed"),
        ("baseline", None, "", "failed"),
    ],
)
def test_judge(role, score, divergence, status):
    result, reason = run_status(role, divergence, score, majority=0.5)
    assert result == status
    assert reason == ("" if status == "complete" else divergence or "at or below the majority class")


@pytest.mark.parametrize(("curve", "mean"), [([], 1.2), ([{"step": 2}], 2.0)])
def test_the_loss_of_a_curve_is_the_mean_over_the_steps_since_the_last_evaluation(curve, mean):
    assert TrainerState([], torch.tensor(6.0), step=5, curve=curve).mean_loss == pytest.approx(mean)
