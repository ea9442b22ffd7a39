"""benchmarks/gpu.py on a machine without a GPU: it says so, and what it would do there runs here in miniature."""

import sys
from pathlib import Path

import pytest
from theseus_bench.modeling.flops import is_observed
from theseus_bench.suite.load import read_plan

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 100,
}
TINY = gpu.Size(SHAPE, student_layers=2, steps=40, examples=64, batch=8, device="cpu")


def test_without_a_gpu_every_row_says_that_it_was_not_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    gpu.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and "examples/s" not in line]
    rows = [line for line in rows if "at a time" not in line]
    assert len(rows) == len(gpu.METHODS) * len(gpu.TASKS) + len(gpu.SLOTS)
    assert all("not measured: no GPU here" in line for line in rows)


@pytest.mark.parametrize("steps", [40, 2000])
def test_time_is_taken_where_no_step_is_observed(steps):
    size = gpu.Size(steps=steps)
    assert 0 < size.begin < size.end < steps - 1
    assert not any(is_observed(step, steps) for step in range(size.begin, steps))


def test_every_method_runs_and_gives_a_row(tmp_path):
    gpu.prepare(str(tmp_path), TINY)
    most = gpu.peak("cpu", matrix=64, repetitions=2)
    for name in gpu.METHODS:
        result = gpu.measure(str(tmp_path), name, "sst2", TINY)
        rate, flops, share, waits, memory = gpu.row(result, most)
        assert float(rate) > 0, name
        assert result["operations_a_step"] > 0
        assert float(memory) > 0
        assert share.endswith("%")
        assert waits == "not measured"  # only a GPU is waited for
        assert flops == f"{result['steps_a_second'] * result['operations_a_step'] / 1e12:.1f}"


def test_a_row_in_numbers():
    result = {
        "steps_a_second": 10.0,
        "batch": 32,
        "operations_a_step": 5e12,
        "waits_a_step": 0.0,
        "peak_memory_mb": 7.2,
    }
    assert gpu.row(result, 200e12) == ["320", "50.0", "25%", "0.0", "7"]
    assert gpu.row(None, 200e12) is None


def test_the_runs_at_a_time_are_of_the_suite(tmp_path):
    gpu.prepare(str(tmp_path), TINY)
    plan = read_plan(tmp_path)
    method, task = gpu.PARALLEL_RUN
    assert {plan.run(method, task, seed).path for seed in range(1, max(gpu.SLOTS) + 1)} <= plan.runs.keys()
