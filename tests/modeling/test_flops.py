"""Counted operations against a formula by hand, and against a count of every operation of a whole training."""

from itertools import pairwise

import pytest
import torch
from theseus_bench.modeling.devices import Hardware
from theseus_bench.modeling.flops import OBSERVED_STEPS, count_flops, is_observed, new_count, total_flops
from theseus_bench.training import loop, micro_batches
from theseus_bench.training.loop import fit, predict
from tiny import HARDWARE, build, make_checkpoint, make_data, write_pair
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

HIDDEN, LENGTH, BATCH = 16, 12, 8


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("checkpoints"), hidden=HIDDEN)


def even_data():
    """Examples of one length, so that nothing is padded and every batch is alike."""
    data = make_data(train=BATCH * 20, dev=BATCH)
    for split in (data.train, data.dev["validation"]):
        split.rows["start"], split.rows["length"] = 0, LENGTH
    return data


def layer_by_hand(batch=BATCH, length=LENGTH, hidden=HIDDEN):
    """Forward pass of a transformer layer whose inner width is 2·hidden: 16·h² a token, and attention's 4·l²·h."""
    return batch * (16 * length * hidden**2 + 4 * length**2 * hidden)


def head_by_hand(batch=BATCH, hidden=HIDDEN, outputs=2):
    return 2 * batch * hidden * (hidden + outputs)  # pooler and classifier


def test_a_fine_tuning_is_three_forward_passes_a_step(checkpoints, tmp_path):
    data = even_data()
    setup = build("finetune", data, *checkpoints, epochs=1)
    state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    forward = 2 * layer_by_hand() + head_by_hand()
    assert total_flops(state.training_flops) == 20 * 3 * forward
    assert total_flops(state.evaluation_flops) == forward


def test_what_is_frozen_or_replaced_costs_less(checkpoints, tmp_path):
    """Successors are drawn in every step; embeddings, pooler and classifier get no gradient of their own."""
    data = even_data()
    settings = {"schedule": "constant", "base_rate": 1.0, "full_rate_at": 0.9, "clip_frozen": False, "epochs": 1}
    setup = build("theseus", data, *checkpoints, **settings)
    state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    linear = BATCH * LENGTH * 16 * HIDDEN**2
    attention = layer_by_hand() - linear
    # The first layer's queries, keys and values pass no gradient on to the embeddings.
    layers = 2 * 3 * (linear + attention) - 3 * 2 * BATCH * LENGTH * HIDDEN**2
    assert total_flops(state.training_flops) == 20 * (layers + 2 * head_by_hand())


WHOLE = {
    "theseus": {"schedule": "curriculum", "base_rate": 0.2, "full_rate_at": 0.6},
    "theseus, frozen apart": {"schedule": "constant", "base_rate": 0.4, "full_rate_at": 0.9, "clip_frozen": False},
    "theseus, in parts": {"schedule": "curriculum", "base_rate": 0.2, "full_rate_at": 0.6},
    "tinybert": {"matching_share": 0.5},
    "minilm": {"matching_share": 0.5},
}


@pytest.mark.parametrize("case", WHOLE)
def test_few_observed_steps_give_the_count_of_all(checkpoints, tmp_path, monkeypatch, case):
    if case.endswith("in parts"):
        monkeypatch.setattr(micro_batches, "PART_TOKENS", 0)
    data = make_data(train=160, dev=8)
    setup = build(case.split(",")[0], data, *checkpoints, epochs=1, **WHOLE[case])
    total = 0
    step = loop.train_step

    def count_step(*arguments):
        nonlocal total
        with FlopCounterMode(display=False) as every:
            loss = step(*arguments)
        total += every.get_total_flops()
        return loss

    monkeypatch.setattr(loop, "train_step", count_step)
    state = fit(setup.method, setup.model, data, setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert sum(is_observed(step, state.step) for step in range(state.step)) == OBSERVED_STEPS < state.step
    # Attention is a fifth of this tiny model's work, and its share moves with length and replacing; of a real one's it
    # is a thirtieth, and so the deviation.
    assert total_flops(state.training_flops) == pytest.approx(total, rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_observed_block_counts_what_torch_counts(checkpoints, tmp_path, precision):
    data, hardware = make_data(train=32), Hardware(torch.device("cpu"), precision)
    setup = build("theseus", data, *checkpoints, epochs=1, base_rate=1.0)
    counts = new_count(), new_count()
    with count_flops(counts[0], observed=True):  # under inference_mode, where compound operations come undivided
        predict(setup.model, data.dev["validation"], data.pad, hardware)
    with count_flops(counts[1], observed=True):  # backward passes too
        fit(setup.method, setup.model, data, setup.loop, 1, hardware, make_checkpoint(tmp_path))
    with FlopCounterMode(display=False) as predicting:
        predict(setup.model, data.dev["validation"], data.pad, hardware)
    setup = build("theseus", data, *checkpoints, epochs=1, base_rate=1.0)
    with FlopCounterMode(display=False) as fitting:
        fit(setup.method, setup.model, data, setup.loop, 1, hardware, make_checkpoint(tmp_path))
    assert counts[0]["observed"] == predicting.get_total_flops() > 0
    assert counts[1]["observed"] == fitting.get_total_flops() > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_observing_changes_no_number_and_draws_none(checkpoints, tmp_path, precision):
    data, hardware = make_data(), Hardware(torch.device("cpu"), precision)
    model = build("finetune", data, *checkpoints).model
    torch.manual_seed(3)
    alone = predict(model, data.dev["validation"], data.pad, hardware)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    with count_flops(new_count(), observed=True):
        observed = predict(model, data.dev["validation"], data.pad, hardware)
    assert (alone == observed).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_products_outside_of_linear_layers_count_too():
    count, matrix = new_count(), torch.ones(4, 4)
    for _ in range(3):
        with count_flops(count, observed=True):
            matrix @ matrix
    assert total_flops(count) == 3 * 2 * 4**3
    assert total_flops(new_count()) == 0


def test_a_block_that_fails_leaves_no_count_and_no_hook():
    count, layer = new_count(), nn.Linear(4, 4)

    def fail():
        with count_flops(count, observed=False):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    layer(torch.ones(1, 4))
    assert count == new_count()


@pytest.mark.parametrize("steps", [1, 3, 4, 9, 114, 60_000])
def test_every_run_is_observed_a_few_times_from_its_first_step_on(steps):
    observed = [step for step in range(steps) if is_observed(step, steps)]
    assert observed[0] == 0
    assert len(observed) == min(steps, OBSERVED_STEPS)
    assert all(end - start <= -(-steps // OBSERVED_STEPS) for start, end in pairwise([*observed, steps]))
