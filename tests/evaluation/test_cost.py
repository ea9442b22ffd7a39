"""What a suite is said to take: its steps and times, by finished runs, data sheets and this machine."""

from dataclasses import replace

import pytest
from suites import leave_run, make_plan
from theseus_bench.commands import run as run_command
from theseus_bench.errors import UserError
from theseus_bench.evaluation import cost
from theseus_bench.evaluation.cost import GPU_SHARE, RUN_SECONDS, Cost
from theseus_bench.suite.workload import EVALUATION_PADDING, PART_PADDING, TRAINING_PADDING, Workload

SETTINGS = [{"set": {"epochs": 2.0, "max_steps": None, "batch_size": 32, "evaluate_every": None}}]
METHODS = {"first": {"title": "One", "methods": ["majority", "predecessor", "finetune"]}}
PLAN = make_plan(tasks=["rte"], seeds=[1, 2], compact={}, settings=SETTINGS, experiments=METHODS)
STEPS = 156  # two epochs of 2,490 examples in batches of 32: 155.6


def test_all_is_left_of_a_suite_that_has_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "_measure_processor", lambda: 1e12)
    monkeypatch.setattr(cost.os, "cpu_count", lambda: 4)
    what = Cost(PLAN, tmp_path)
    workload = Workload(PLAN, tmp_path)
    runs = [PLAN.run(name, "rte", 1) for name in ("majority", "predecessor", "finetune")]
    seconds = 2 * sum(RUN_SECONDS + workload.operations(run, run.settings, gpu=False) / 1e12 for run in runs)
    assert what.device_seconds == pytest.approx(seconds)
    assert what.machine_seconds == pytest.approx(seconds / 4)
    assert what.describe()[0] == f"done: 0 runs; left: 6 runs, {4 * STEPS} steps"
    assert "of one processor thread (by a product of matrices; widths as BERT-base's), " in what.describe()[1]


@pytest.mark.parametrize(("gpu", "padding"), [(False, PART_PADDING), (True, TRAINING_PADDING)])
def test_the_operations_of_a_run_are_those_of_its_tokens(tmp_path, gpu, padding):
    """BERT-base has 7,077,888 parameters in a layer's products; RTE's examples 67 tokens, and padding comes on top."""
    run = PLAN.run("finetune", "rte", 1)
    layers, evaluations = run.settings["layers"], 2
    tokens = {split: 67 * PLAN.tasks["rte"].rows[split] for split in ("train", "validation", "test")}
    trained = padding * (2 * 2490 / 2490) * tokens["train"]
    predicted = EVALUATION_PADDING * (evaluations * tokens["validation"] + tokens["validation"] + tokens["test"])
    expected = layers * (4 * 768**2 + 2 * 768 * 3072) * (6 * trained + 2 * predicted)
    assert Workload(PLAN, tmp_path).operations(run, run.settings, gpu) == pytest.approx(expected)


def test_a_program_has_whole_batches_on_a_processor_too(tmp_path):
    run = PLAN.run("finetune", "rte", 1)
    program = replace(run, spec=run.spec.model_copy(update={"command": ["./train"]}))
    workload = Workload(PLAN, tmp_path)
    of_program, on_a_gpu = (
        workload.operations(program, run.settings, False),
        workload.operations(run, run.settings, True),
    )
    assert of_program == on_a_gpu > workload.operations(run, run.settings, False)


def test_runs_of_a_kind_that_has_finished_take_as_long(tmp_path):
    seconds = {"all": 500.0, "training": 410.0, "evaluating": 10.0}
    flops = {"training": 8e14, "evaluation": 1e12}
    for name in ("majority", "finetune"):
        leave_run(PLAN, PLAN.run(name, "rte", 1), tmp_path, {}, seconds=seconds, flops=flops, device="cpu", threads=1)
    what = Cost(PLAN, tmp_path)
    predecessor = PLAN.run("predecessor", "rte", 1)
    estimate = RUN_SECONDS + Workload(PLAN, tmp_path).operations(predecessor, predecessor.settings, gpu=False) / 2e12
    assert what.device_seconds == pytest.approx(2 * 500.0 + 2 * estimate)
    assert what.describe()[0] == f"done: 2 runs; left: 4 runs, {3 * STEPS} steps"
    assert "(by 2 finished runs; widths as BERT-base's)" in what.describe()[1]


def test_the_time_of_runs_on_a_gpu_says_nothing_of_a_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "_measure_processor", lambda: 1e12)
    before = Cost(PLAN, tmp_path).device_seconds
    run = PLAN.run("finetune", "rte", 1)
    leave_run(PLAN, run, tmp_path, {}, seconds={"all": 1.0}, device="cuda: a GPU")
    seconds = RUN_SECONDS + Workload(PLAN, tmp_path).operations(run, run.settings, gpu=False) / 1e12
    assert Cost(PLAN, tmp_path).device_seconds == pytest.approx(before - seconds)


def test_of_the_runs_to_train_now_and_the_cores_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "_measure_processor", lambda: 1e12)
    run = PLAN.run("finetune", "rte", 1)
    what = Cost(PLAN, tmp_path, cores=8, runs=(run,))
    seconds = RUN_SECONDS + Workload(PLAN, tmp_path).operations(run, run.settings, gpu=False) / 1e12
    assert (what.device_seconds, what.machine_seconds) == pytest.approx((seconds, seconds / 8))
    assert what.describe_time().endswith(" on 8 of them")


def test_a_named_gpu_has_its_data_sheets_speed(tmp_path):
    what = Cost(PLAN, tmp_path, "a100")
    assert what.throughput.operations == GPU_SHARE * 312e12
    assert what.describe()[1].endswith(
        "of one a100 (20% of its data sheet's peak, not measured; widths as BERT-base's)"
    )
    runs = [run for run in what.runs_left if run.spec.trained]
    operations = sum(what.workload.operations(run, run.settings, gpu=True) for run in runs)
    seconds = len(what.runs_left) * RUN_SECONDS + operations / what.throughput.operations
    assert what.device_seconds == pytest.approx(seconds), "of whole batches, with all of their padding"
    with pytest.raises(UserError, match=r"plan: --gpu: there is no 'a1000' \(did you mean 'a100'\?\)"):
        Cost(PLAN, tmp_path, "a1000").describe()


def test_what_would_take_weeks_without_a_gpu_names_what_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "_measure_processor", lambda: 1e6)
    assert "config/minilm.yaml and config/demo.yaml" in Cost(PLAN, tmp_path).describe_time()
    package = {"source": "package", "name": "no_such_package", "layers": 12}
    text = Cost(make_plan(backbone=package, compact={}, tasks=["rte"]), tmp_path).describe_time()
    assert "config/minilm.yaml" not in text, "it may be the one that is asked for"
    assert "(by a product of matrices; widths as BERT-base's)" in text


def test_plan_takes_what_snakemake_takes(capsys):
    assert run_command(["plan", "config/demo.yaml", "--config", "tasks=[rte]", "seeds=[1]", "suite=not_begun"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "glue_dev: Dev scores on generated sentences in the schema of GLUE: 7 runs, 7 with the" in lines[2]
    assert any(line.startswith("done: 0 runs; left: 7 runs, ") for line in lines)
    assert lines[-1] == "glue_dev, 1 seed: nothing is tested below 3"
