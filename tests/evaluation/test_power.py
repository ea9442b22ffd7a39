"""What seeds can show: the difference that is said to be found four times in five is found four times in five."""

import sys
from pathlib import Path

import numpy as np
import pytest
from suites import make_plan

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import families
from theseus_bench.evaluation import statistics
from theseus_bench.evaluation.power import (
    DISAGREEMENT,
    POWER,
    TaskPower,
    describe_power,
    least_permutation_p,
    smallest_difference,
)


@pytest.mark.parametrize(
    ("deviations", "seeds"), [([2.0], 3), ([0.5, 3.0, 1.0], 3), ([1.0, 1.0], 5)], ids=["one", "three", "five-seeds"]
)
def test_a_difference_of_that_size_is_found_four_times_in_five(deviations, seeds):
    """By simulation: scores of six equal methods over seeds, the examples' part known, and a shift of the first."""
    random, methods, trials = np.random.default_rng(1), 6, 1500
    tasks = [TaskPower(examples=400, deviation=deviation) for deviation in deviations]
    shift = smallest_difference(tasks, seeds, methods, alpha=0.05)
    found = 0
    for _ in range(trials):
        spreads = []
        for task in tasks:
            scores = random.normal(0, task.deviation, (methods, seeds))
            examples_part = 100**2 * DISAGREEMENT / task.examples
            variances = families.moderate_methods(scores.var(axis=1, ddof=1), seeds)
            difference = shift + scores[0].mean() - scores[1].mean() + random.normal(0, examples_part**0.5)
            parts = statistics.parts_of_seeds((variances["0"], 1 / seeds), (variances["1"], 1 / seeds))
            spreads.append(statistics.Spread(difference, task.examples, parts, examples_part))
        found += statistics.conclude(spreads).p < 0.05
    assert found / trials == pytest.approx(POWER, abs=0.035)


def test_below_three_seeds_nothing_is_found():
    assert smallest_difference([TaskPower(400)], 2, 6, 0.05) is None
    plan = make_plan(seeds=[1, 2], tasks=["rte"], compact={})
    assert describe_power(plan, "first", []) == ["first, 2 seeds: nothing is tested below 3"]


def test_more_seeds_and_examples_show_less():
    def size(seeds, examples, alpha=0.05):
        return smallest_difference([TaskPower(examples)], seeds, 6, alpha)

    assert size(3, 300) > size(5, 300) > size(5, 3000)
    assert size(3, 300, alpha=0.005) > size(3, 300)


def test_a_permutation_over_three_seeds_says_a_quarter_at_the_least():
    assert [least_permutation_p(seeds) for seeds in (1, 3, 5)] == [1.0, 0.25, 0.0625]


def test_what_an_earlier_experiment_tests_is_in_no_family_of_a_later_one():
    one = {"title": "One", "methods": ["predecessor", "finetune", "pkd", "theseus"], "tasks": ["cola", "rte"]}
    plan = make_plan(
        experiments={"first": one, "second": one, "third": one | {"tasks": ["cola", "mrpc"]}}, seeds=[1, 2, 3]
    )
    found = {
        name: [line for line in describe_power(plan, name, []) if "family of" in line]
        for name in plan.suite.experiments
    }
    assert [len(lines) for lines in found.values()] == [1, 0, 1]
    assert found["third"][0].endswith("in a family of 2")


@pytest.mark.parametrize("names", [["majority"], ["majority", "theseus"], ["predecessor", "majority"]])
def test_an_experiment_with_little_to_compare_is_told_too(names):
    plan = make_plan(tasks=["rte"], compact={}, experiments={"first": {"title": "First", "methods": names}})
    alone = smallest_difference([TaskPower(277)], 3, 2, 0.05)
    assert any(line.endswith(f"RTE {alone:.1f}") for line in describe_power(plan, "first", []))


def test_an_experiments_power_is_that_of_its_smallest_pool():
    names = ["finetune", "vanilla_kd", "pkd"]
    both = [*names, *(f"{name}@start=predecessor" for name in names), "theseus", "theseus@pretrained_start", "tinybert"]
    one = {"title": "First", "methods": ["predecessor", *both]}
    plan = make_plan(tasks=["rte"], compact={}, experiments={"first": one})
    small, large = (smallest_difference([TaskPower(277)], 3, methods, 0.05) for methods in (4, 10))
    (line,) = (line for line in describe_power(plan, "first", []) if "one task alone" in line)
    assert f"{small:.1f}" != f"{large:.1f}"
    assert line.endswith(f"RTE {small:.1f}")


def test_an_experiment_is_told_by_family_and_task():
    plan = make_plan(tasks=["cola", "rte"], compact={})
    lines = describe_power(plan, "first", [])
    tasks = [TaskPower(1043), TaskPower(277)]
    family = smallest_difference(tasks, 3, 3, 0.05)  # of one: Theseus beside fine-tuning
    alone = [smallest_difference([task], 3, 3, 0.05) for task in tasks]
    assert lines == [
        f"first, 3 seeds: a difference in macro of {family:.1f} points is found four times in five, in a family of 1",
        f"first, 3 seeds: on one task alone, untouched by a family: CoLA {alone[0]:.1f}, RTE {alone[1]:.1f}",
        "first, 3 seeds: a permutation test over the seeds says p = 0.25 at the least",
    ]
