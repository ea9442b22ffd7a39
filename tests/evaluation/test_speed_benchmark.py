"""Size and speed of models: operations by hand, and ratios of rounds that were measured side by side."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from suites import leave_run, make_plan
from theseus_bench.evaluation.speed import read_speed
from theseus_bench.evaluation.speed_benchmark import (
    NotMeasurable,
    RoundTimes,
    compare,
    describe,
    measure,
    measure_experiment,
)
from theseus_bench.suite.config import Size, Speed
from tiny import write_checkpoint

CPU = torch.device("cpu")
ONCE = Speed(batch_sizes=[2], lengths=[8], headline={"batch_size": 2, "length": 8}, repetitions=3)


def bert(layers: int, **changes) -> dict:
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 16}
    return {"model_type": "bert", "vocab_size": 20, "num_hidden_layers": layers, **shape, **changes}


def build(architecture: dict):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**architecture)).eval()


def times_of(seconds, memory: float = 1.0) -> RoundTimes:
    return RoundTimes(np.asarray(seconds, float), memory)


def test_known_ratios_give_the_known_medians():
    student = np.array([0.010, 0.020, 0.010, 0.030, 0.010])
    timing = compare(times_of(student * [2.0, 1.9, 2.1, 1.0, 5.0]), times_of(student, memory=7.5), batch_size=4)
    assert timing["speedup"] == pytest.approx(2.0)
    assert timing["latency_ms"] == pytest.approx(10.0)
    assert timing["throughput"] == pytest.approx(400.0)
    assert (timing["memory_mb"], timing["rounds"]) == (7.5, 5)


def test_the_ratio_is_taken_within_each_round():
    # The machine is slow in one half of the rounds: the medians' ratio would be far from 2, or its interval wide.
    drift = np.array([1.0, 10.0] * 8)
    timing = compare(times_of(2.0 * drift), times_of(drift), 1)
    assert (timing["low"], timing["speedup"], timing["high"]) == pytest.approx((2.0, 2.0, 2.0))


def test_the_intervals_are_those_of_bootstrapped_medians():
    ratios, seconds = np.random.default_rng(1).lognormal(0, 0.1, size=(2, 41))
    timing = compare(times_of(ratios * seconds), times_of(seconds), 1)
    random = np.random.default_rng(5)
    for values, names in (
        (ratios, ("low", "speedup", "high")),
        (1000 * seconds, ("latency_low", "latency_ms", "latency_high")),
    ):
        medians = [np.median(random.choice(values, len(values))) for _ in range(4000)]
        expected = [np.percentile(medians, 2.5), np.median(values), np.percentile(medians, 97.5)]
        assert [timing[name] for name in names] == pytest.approx(expected, rel=0.02)


def test_the_same_times_give_the_same_interval():
    times = [times_of(seconds) for seconds in np.random.default_rng(2).uniform(1, 2, size=(2, 12))]
    assert compare(*times, 1) == compare(*times, 1)


@pytest.mark.parametrize("length", [8, 16])
def test_operations_and_parameters_are_those_counted_by_hand(length):
    hidden, inner, layers = 16, 24, 3
    description = describe(bert(layers), [length])
    layer = 2 * length * (4 * hidden**2 + 2 * hidden * inner) + 4 * length**2 * hidden
    assert description["flops"] == {
        str(length): layers * layer + 2 * hidden * (hidden + 2)
    }  # and pooler and classifier
    embeddings = hidden * (20 + 16 + 2) + 2 * hidden  # words, positions, segments; norm
    weights = 4 * hidden * (hidden + 1) + 2 * hidden * inner + inner + hidden + 4 * hidden
    head = hidden * (hidden + 1) + 2 * (hidden + 1)
    assert description["embedding_parameters"] == embeddings
    assert description["parameters"] == embeddings + layers * weights + head
    assert (description["layers"], description["hidden_size"], description["intermediate_size"]) == (
        layers,
        hidden,
        inner,
    )


def test_families_of_one_width_and_depth_compute_as_much():
    distil = {"model_type": "distilbert", "vocab_size": 30, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
    description = describe(distil | {"max_position_embeddings": 16}, [8, 32])
    assert description["flops"] == describe(bert(2), [8])["flops"], "and none at a length that it cannot read"
    assert (description["layers"], description["hidden_size"], description["intermediate_size"]) == (2, 16, 24)


def test_each_model_is_measured_as_often_as_asked():
    models = {"deep": build(bert(2)), "shallow": build(bert(1))}
    times = measure(models, Size(batch_size=2, length=8), ONCE, CPU, "fp32")
    assert list(times) == list(models)
    for one in times.values():
        assert one.seconds.shape == (3,)
        assert (one.seconds > 0).all()


def test_time_bounds_the_rounds_but_five_are_made():
    speed = Speed(repetitions=100, seconds=1e-9)
    times = measure({"one": build(bert(1))}, Size(batch_size=1, length=8), speed, CPU, "fp32")
    assert len(times["one"].seconds) == 5


class RecordingModel(torch.nn.Module):
    """A model that says when it is asked, or that finds no memory."""

    def __init__(self, name: str, order: list, error: Exception | None = None):
        super().__init__()
        self.name, self.order, self.error = name, order, error
        self.config = type(
            "Config", (), {"vocab_size": 5, "max_position_embeddings": 8, "pad_token_id": 0, "model_type": "bert"}
        )

    def forward(self, input_ids, attention_mask):
        assert input_ids.shape == attention_mask.shape == (2, 8)
        self.order.append(self.name)
        if self.error:
            raise self.error


def test_every_round_times_every_model_in_turning_order():
    order = []
    measure({k: RecordingModel(k, order) for k in "abc"}, ONCE.sizes[0], ONCE, CPU, "fp32")
    rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert {"".join(sorted(r)) for r in rounds} == {"abc"}
    assert [r[0] for r in rounds[-3:]] == ["a", "b", "c"]  # none always has the first place


def test_what_does_not_fit_is_left_out_with_its_reason():
    with pytest.raises(RuntimeError) as on_a_cpu:
        torch.empty(10**15)
    for error in (torch.OutOfMemoryError("no room"), on_a_cpu.value):
        with pytest.raises(NotMeasurable, match="out of memory"):
            measure({"full": RecordingModel("full", [], error)}, ONCE.sizes[0], ONCE, CPU, "fp32")
    with pytest.raises(RuntimeError, match="another"):
        measure({"wrong": RecordingModel("wrong", [], RuntimeError("another"))}, ONCE.sizes[0], ONCE, CPU, "fp32")
    with pytest.raises(NotMeasurable, match="longer than the model's 16 positions"):
        measure({"short": build(bert(1))}, Size(batch_size=1, length=32), ONCE, CPU, "fp32")
    roberta = bert(1, model_type="roberta", pad_token_id=1)
    with pytest.raises(NotMeasurable, match="longer than the model's 14 positions"):
        measure({"short": build(roberta)}, Size(batch_size=1, length=16), ONCE, CPU, "fp32")


def test_peak_memory_is_the_weights_and_what_lives_at_once():
    class Doubling(RecordingModel):
        def __init__(self):
            super().__init__("doubling", [])
            self.weight = torch.nn.Parameter(torch.zeros(2**18))  # 1 MiB

        def forward(self, input_ids, attention_mask):
            first = torch.ones(2**20)  # 4 MiB
            second = first * 2  # 4 more
            del first
            return second[:1] + torch.zeros(2**18).sum()  # 1 more, beside the second

    times = measure({"doubling": Doubling()}, ONCE.sizes[0], ONCE, CPU, "fp32")["doubling"]
    assert times.memory == pytest.approx(1 + 8, abs=0.01)


def test_memory_grows_with_the_batch_by_what_a_batch_needs():
    model = {"one": build(bert(2, max_position_embeddings=64))}
    one, two, four = (
        measure(model, Size(batch_size=batch, length=64), ONCE, CPU, "fp32")["one"].memory for batch in (16, 32, 64)
    )
    assert one < two < four
    assert four - two == pytest.approx(2 * (two - one), rel=0.1)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A suite with a measured experiment: a predecessor of 4 layers, models of 2, one method without a run."""
    folder = tmp_path_factory.mktemp("suite")
    plan = make_plan(
        tasks=["rte"], seeds=[1], device="cpu",
        speed={"batch_sizes": [1, 2], "lengths": [8, 64], "headline": {"batch_size": 2, "length": 8}, "repetitions": 3},
        experiments={"first": {"title": "One", "methods": ["predecessor", "finetune", "theseus", "pkd"]}},
    )  # fmt: skip
    write_checkpoint(folder / "backbone", layers=4)
    config = json.loads((folder / "backbone" / "config.json").read_text())
    for name in ("finetune", "theseus"):
        run = plan.run(name, "rte", 1)
        leave_run(plan, run, folder, {}, architecture=config | {"num_hidden_layers": 2, "model_type": "bert"})
    measure_experiment(plan, "first", folder)
    return plan, folder


def test_methods_of_one_shape_share_its_measurement(experiment):
    speeds = read_speed("first", experiment[1])
    assert [shape.methods for shape in speeds.shapes] == [["predecessor"], ["finetune", "theseus"]]
    assert speeds.methods["finetune"] == speeds.methods["theseus"]
    assert speeds.methods["predecessor"].speedup == 1
    sizes = [row.key for row in speeds.shapes[1].measurements]
    assert sizes == [("cpu", 1, 8), ("cpu", 2, 8)]
    reference = speeds.shapes[1].timing(speeds.reference_size)
    assert speeds.methods["theseus"].model_dump().items() <= reference.model_dump().items()
    assert [(size.key, size.reason) for size in speeds.sizes_left_out] == [
        (("cpu", batch, 64), "longer than the model's 40 positions") for batch in (1, 2)
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_measured_beside_the_cpu(experiment, tmp_path):
    plan, folder = experiment
    folder = Path(shutil.copytree(folder, tmp_path / "suite"))
    both = make_plan(**plan.suite.model_dump() | {"device": "auto"})
    measure_experiment(both, "first", folder)
    speeds = read_speed("first", folder)
    assert list(speeds.devices) == ["cpu", "cuda"]
    assert speeds.reference_size.device == "cuda"
    assert {row.device for row in speeds.shapes[0].measurements} == {"cpu", "cuda"}
    assert all(row.memory_mb > 0 for row in speeds.shapes[0].measurements)
