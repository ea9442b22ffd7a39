"""Whose seeds tell how far a method's own lie apart: those of its start, or of its protocol where these are few."""

import numpy as np
import pytest
from suites import make_plan, methods
from theseus_bench.evaluation.variances import list_pools, moderate_seeds

STUDENTS = ["finetune", "vanilla_kd", "pkd"]  # whose layers may start from either model
OWN = [f"{name}@start=predecessor" for name in STUDENTS] + ["theseus"]
OTHERS = ["predecessor", *STUDENTS, "theseus@pretrained_start"]
CALM, WILD = np.array([80.0, 81.0, 82.0]), np.array([60.0, 80.0, 100.0])


@pytest.fixture(scope="module")
def plan():
    rates = [{"tasks": ["rte"], "methods": ["finetune"], "set": {"start": "predecessor"}}]
    return make_plan(seeds=[1, 2, 3], tasks=["rte", "mrpc"], settings=rates, **methods("majority", *OWN, *OTHERS))


def test_a_pool_is_of_one_start_or_of_a_protocol_where_that_has_too_few(plan):
    pools = list_pools(plan, ["majority", *OWN, *OTHERS], "mrpc")
    assert pools["majority"] == ["majority"]
    assert pools["theseus"] == ["theseus", *OWN[:-1]]
    assert pools["finetune"] == ["finetune", *(name for name in OTHERS if name != "finetune")]
    few = list_pools(plan, [*OWN[1:], *OTHERS], "mrpc")
    assert few["theseus"] == ["theseus", *OWN[1:-1], *OTHERS], "three methods of a start are too few"
    assert few["finetune"] == pools["finetune"], "and are in no other start's pool"


def test_a_start_is_that_of_the_task(plan):
    pool = list_pools(plan, [*OWN[1:], *OTHERS], "rte")["theseus"]
    assert set(pool) == {*OWN[1:], "finetune"}, "on RTE the configuration has fine-tuning start from the predecessor"


def test_methods_of_different_protocols_say_nothing_of_each_other():
    plan = make_plan(tasks=["rte"], experiments={"first": {
        "title": "First", "protocols": ["published", "equal"], "methods": ["finetune", "vanilla_kd", "pkd", "theseus"],
    }})  # fmt: skip
    names = plan.experiment_names("first")
    pools = list_pools(plan, names, "rte")
    assert {name.endswith("@equal") for name in pools["finetune@equal"]} == {True}
    assert {name.endswith("@equal") for name in pools["finetune"]} == {False}


def test_a_start_whose_seeds_lie_far_apart_adds_nothing_to_another(plan):
    pools = list_pools(plan, ["majority", *OWN, *OTHERS], "mrpc")
    scores = dict.fromkeys(OWN, CALM) | dict.fromkeys(OTHERS, WILD) | {"theseus@pretrained_start": CALM}
    variances = moderate_seeds(pools, scores | {"majority": CALM[:1], "theseus": np.full(3, 80.0)})
    assert "majority" not in variances, "one seed has no variance"
    assert {(variances[name].variance, variances[name].df) for name in OWN[:-1]} == {(1.0, 2.0)}
    assert (variances["theseus"].variance, variances["theseus"].df) == (pytest.approx(2 / 3), 6)
    calm = variances["theseus@pretrained_start"]
    assert calm.variance > 250, "a calm method of a start whose others are wild is taken for as wild"
    assert sum(part for part, _ in calm.sources.values()) == pytest.approx(calm.variance)
    assert calm.sources.keys() == set(OTHERS)


def test_a_method_that_lacks_a_second_seed_moderates_nobody(plan):
    pools = list_pools(plan, [*OWN, *OTHERS], "mrpc")
    variances = moderate_seeds(pools, dict.fromkeys(OWN[:2], CALM) | {OWN[2]: CALM[:1], "theseus": np.full(3, 80.0)})
    assert variances["theseus"].sources.keys() == {*OWN[:2], "theseus"}
    assert moderate_seeds(pools, {"no longer in the suite": CALM}) == {}
    assert variances["theseus"].variance == pytest.approx(2 / 3)
