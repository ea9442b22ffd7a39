"""The speed of models: ratios of rounds that were measured side by side."""

import numpy as np
import pytest
import torch
from theseus_bench.config import Speed
from theseus_bench.speed import compare, measure

CPU = torch.device("cpu")


def bert(layers: int, **changes) -> dict:
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 16}
    return {"model_type": "bert", "vocab_size": 20, "num_hidden_layers": layers, **shape, **changes}


def test_known_ratios_give_the_known_median():
    student = np.array([0.010, 0.020, 0.010, 0.030, 0.010])
    found = compare(student * [2.0, 1.9, 2.1, 1.0, 5.0], student)
    assert found["speedup"] == pytest.approx(2.0)
    assert found["latency_ms"] == pytest.approx(10.0)


def test_the_ratio_is_taken_within_each_round():
    # The machine is slow in one half of the rounds: the medians' ratio would be far from 2, or its interval wide.
    drift = np.array([1.0, 10.0] * 8)
    found = compare(2.0 * drift, drift)
    assert (found["low"], found["speedup"], found["high"]) == pytest.approx((2.0, 2.0, 2.0))


def test_the_interval_contains_the_median_and_narrows_with_more_rounds():
    noise = np.random.default_rng(1).lognormal(0, 0.1, size=400)
    few, many = (compare(3.0 * noise[:n], np.ones(n)) for n in (10, 400))
    for found in (few, many):
        assert found["low"] <= found["speedup"] <= found["high"]
    assert 0 < many["high"] - many["low"] < few["high"] - few["low"]
    assert many["low"] <= 3.0 <= many["high"]


def test_the_same_times_give_the_same_interval():
    times = np.random.default_rng(2).uniform(1, 2, size=(2, 12))
    assert compare(*times) == compare(*times)


def test_each_model_is_measured_as_often_as_asked():
    shapes = {"deep": bert(2), "shallow": bert(1)}
    distil = {"model_type": "distilbert", "vocab_size": 30, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    shapes["distilbert"] = distil | {"max_position_embeddings": 16}
    times = measure(shapes, Speed(batch_size=2, length=8, repetitions=4), CPU, "fp32")
    assert list(times) == list(shapes)
    for seconds in times.values():
        assert seconds.shape == (4,)
        assert (seconds > 0).all()


def test_every_round_times_every_model_in_turning_order(monkeypatch):
    order = []

    class Counted(torch.nn.Module):
        def __init__(self, architecture):
            super().__init__()
            self.name, self.config = architecture["name"], type("Config", (), {"vocab_size": 5})

        def forward(self, input_ids, attention_mask):
            assert input_ids.shape == attention_mask.shape == (2, 8)
            assert not self.training
            order.append(self.name)

    monkeypatch.setattr("theseus_bench.speed._build", Counted)
    measure({k: {"name": k} for k in "abc"}, Speed(batch_size=2, length=8, repetitions=3), CPU, "fp32")
    rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert {"".join(sorted(r)) for r in rounds} == {"abc"}
    assert {r[0] for r in rounds} == {"a", "b", "c"}  # none always has the first place
