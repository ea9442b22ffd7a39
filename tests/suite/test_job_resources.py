"""What jobs ask of a cluster: enough by what is known of such runs, more for more, and what finished runs took."""

import math

import pytest
from suites import leave_run, make_plan
from theseus_bench.files import write_json
from theseus_bench.suite.job_resources import GPU, PROCESSOR, START, JobResources
from theseus_bench.suite.workload import Workload

# Peak memory (GB) of a run on BERT-base on a processor, batches of 32, 128 tokens: benchmarks/README.md, Memory.
MEASURED = {"predecessor": 5.60, "finetune": 3.32, "vanilla_kd": 3.34, "pkd": 3.39, "theseus": 4.32, "tinybert": 4.81}
NOTHING = {"validation": ([], [], [])}


@pytest.fixture
def plan():
    return make_plan(tasks=["cola", "rte", "mnli", "ax"])


def needs(plan, folder, name="finetune", task="cola", seed=1, gpu=False):
    return JobResources(plan, folder).of_run(plan.run(name, task, seed), gpu)


@pytest.mark.parametrize("method", MEASURED)
def test_memory_is_more_than_was_measured_and_not_twice_as_much(method, plan, tmp_path):
    asked = needs(plan, tmp_path, method).memory
    measured = MEASURED[method] * 1e9 / 2**20
    assert measured < asked < 2 * measured + 1200  # and the two snakemakes around it


def test_time_grows_with_the_task_and_with_depth(plan, tmp_path):
    assert needs(plan, tmp_path, task="mnli").minutes > 10 * needs(plan, tmp_path, task="cola").minutes
    assert needs(plan, tmp_path, "predecessor").minutes > 1.5 * needs(plan, tmp_path, "finetune").minutes


def test_a_gpu_shortens_it_and_holds_what_a_processor_held(plan, tmp_path):
    with_gpu, without = (needs(plan, tmp_path, "predecessor", "mnli", gpu=gpu) for gpu in (True, False))
    assert with_gpu.minutes < without.minutes / 10
    assert with_gpu.memory < without.memory


@pytest.mark.parametrize(("gpu", "speed"), [(False, PROCESSOR), (True, GPU)])
def test_time_is_that_of_the_batches_that_the_device_computes(plan, tmp_path, gpu, speed):
    """Whole ones on a GPU, with more padding than a processor's parts."""
    run, threads = plan.run("predecessor", "mnli", 1), 1 if gpu else plan.suite.threads
    operations = Workload(plan, tmp_path).operations(run, run.settings, gpu)
    assert needs(plan, tmp_path, "predecessor", "mnli", gpu=gpu).minutes == START + math.ceil(
        1.5 * operations / (speed * threads) / 60
    )


def test_the_backbone_that_is_there_counts_and_so_do_the_sentences(plan, tmp_path):
    before = needs(plan, tmp_path)
    sizes = {"hidden_size": 64, "intermediate_size": 256, "vocab_size": 1000, "max_position_embeddings": 128}
    write_json(tmp_path / "backbone/config.json", sizes)
    smaller = needs(plan, tmp_path)
    assert smaller.memory < before.memory / 2
    assert smaller.minutes < before.minutes / 10
    splits = {split: {"rows": 1000, "tokens": 128_000_000} for split in ("train", "validation", "test")}
    write_json(tmp_path / "data/cola/data.json", {"splits": splits})
    assert needs(plan, tmp_path).minutes > 10 * smaller.minutes


def test_a_run_asks_for_what_the_other_seeds_took_and_half_as_much_again(plan, tmp_path):
    for seed, seconds, memory in ((2, 3600.0, 1000.0), (3, 1800.0, 4000.0)):
        run = plan.run("finetune", "cola", seed)
        record = {"device": "cpu", "peak_memory_mb": memory, "seconds": {"all": seconds}}
        leave_run(plan, run, tmp_path, {}, **record)
    asked = needs(plan, tmp_path)
    assert asked.minutes == 90 + 10
    assert asked.memory == 6000 + 600
    assert needs(plan, tmp_path, gpu=True).minutes < 90, "a processor says nothing of a GPU"
    assert needs(plan, tmp_path, task="rte") == needs(plan, tmp_path / "empty", task="rte")
    (tmp_path / plan.run("finetune", "cola", 2).path / "run.json").write_text("{")
    assert needs(plan, tmp_path).minutes == 45 + 10, "a damaged record says nothing"
    leave_run(plan, plan.run("finetune", "cola", 3), tmp_path, {}, fingerprint="0" * 16)
    assert needs(plan, tmp_path) == needs(plan, tmp_path / "empty"), "nor one of what the suite no longer asks for"


def test_a_searched_run_asks_for_the_most_demanding_of_its_trials(tmp_path):
    plan = make_plan(tasks=["cola"], search={"budget": 3, "seeds": [101], "space": {"batch_size": [16, 32, 64]}})
    run = plan.run("finetune", "cola", 1)
    assert len(run.trials) == 3
    trials = [JobResources(plan, tmp_path).of_run(trial, gpu=False).memory for trial in plan.trials_of(run)]
    assert JobResources(plan, tmp_path).of_run(run, gpu=False).memory == max(trials)


def test_what_takes_long_comes_first_and_the_predecessor_before_its_students(plan, tmp_path):
    jobs = JobResources(plan, tmp_path)
    order = sorted(
        [("finetune", "cola"), ("predecessor", "mnli"), ("finetune", "mnli"), ("majority", "mnli")],
        key=lambda names: jobs.priority(plan.run(*names, 1)),
        reverse=True,
    )
    assert order == [("predecessor", "mnli"), ("finetune", "mnli"), ("finetune", "cola"), ("majority", "mnli")]


def test_speed_asks_for_all_shapes_at_once(plan, tmp_path):
    more = make_plan(
        experiments={"first": {"title": "One", "methods": ["finetune"], "vary": [{"layers": 3}, {"layers": 6}]}}
    )
    few = make_plan(experiments={"first": {"title": "One", "methods": ["finetune"]}})
    asked = [JobResources(plan, tmp_path).of_speed("first", gpu=False) for plan in (few, more)]
    assert asked[0].memory < asked[1].memory
    assert asked[0].minutes < asked[1].minutes


def test_other_jobs_have_needs_of_their_own(plan, tmp_path):
    jobs = JobResources(plan, tmp_path)
    stored = jobs.of_teacher_outputs(plan.run("predecessor", "mnli", 1), gpu=False)
    assert 1430 * 1e6 / 2**20 < stored.memory < 3000  # 1.43 GB was measured
    assert jobs.of_compact("distilbert", gpu=False).memory > needs(plan, tmp_path).memory
