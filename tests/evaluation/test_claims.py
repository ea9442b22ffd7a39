"""A claim holds, fails or stays open by the intervals of the differences that it is about."""

import pytest
from suites import make_plan
from theseus_bench.evaluation.claims import claimed_tasks, judge_claims
from theseus_bench.evaluation.significance_file import SignificanceResults
from theseus_bench.tables.scores import DEV_CHOICE_REMARK
from theseus_bench.tables.verdicts import claims_table

from results import results_of, timing_of

EIGHT = ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb"]
TABLE_2 = ["theseus: Table 2"]
EQUAL = {"set": {"epochs": 7}}


def plan_of(*methods, compare_with=TABLE_2, suite=None, **experiment):
    settings = {"title": "One", "methods": list(methods), "compare_with": list(compare_with), **experiment}
    return make_plan(**{"tasks": EIGHT, "experiments": {"first": settings}, **(suite or {})})


def differences_of(*rows, **changes) -> SignificanceResults:
    """(name, other, low, high) as what is left of the tests of macro differences, adjusted."""
    return results_of(
        *(
            {"name": name, "other": other, "low": low, "high": high, "difference": (low + high) / 2} | changes
            for name, other, low, high in rows
        )
    )


def judge(plan, results, text, speed=None):
    (judgement,) = [j for j in judge_claims(plan, "first", results, speed or {}) if text in j[0].claim]
    return judgement[2:]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 3.9, "holds"), (-0.1, 4.1, "undecided"), (-3.9, -0.1, "does not hold"), (0.0, 4.0, "holds")],
)
def test_an_order_is_judged_by_the_interval_of_its_difference(low, high, expected):
    verdict, evidence = judge(plan_of("pkd", "theseus"), differences_of(("theseus", "pkd", low, high)), "beats PKD")
    assert verdict == expected
    if low == -3.9:
        assert evidence == "BERT-of-Theseus less BERT-PKD: −2.0 (−3.9 to −0.1) points"


def test_a_difference_that_was_tested_the_other_way_round_is_turned():
    results = differences_of(("pkd", "theseus", -3.9, -0.1))
    assert judge(plan_of("pkd", "theseus"), results, "beats PKD") == (
        "holds", "BERT-of-Theseus less BERT-PKD: +2.0 (+0.1 to +3.9) points",
    )  # fmt: skip


def test_models_that_do_not_differ_at_all_leave_a_claim_open():
    assert judge(plan_of("pkd", "theseus"), differences_of(("theseus", "pkd", 0.0, 0.0)), "beats PKD")[0] == "undecided"


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_a_claim_is_undecided(seeds):
    few = differences_of(("theseus", "pkd", 1.0, 3.0), seeds=seeds, low=None, high=None)
    word = f"{seeds} seed{'s' * (seeds > 1)}"
    assert judge(plan_of("pkd", "theseus"), few, "beats PKD") == ("undecided", word)


def test_a_claim_needs_every_task_that_it_speaks_of():
    results = differences_of(("theseus", "pkd", 1.0, 3.0))
    seven = plan_of("pkd", "theseus", tasks=[task for task in EIGHT if task != "cola"])
    assert judge(seven, results, "beats PKD") == ("not run", "it speaks of CoLA too")
    two = plan_of("pkd", "theseus", tasks=["mrpc", "rte"])
    assert judge(two, results, "beats PKD")[1] == "it speaks of CoLA, SST-2, STS-B, QQP, MNLI and QNLI too"
    vary = [{"base_rate": rate, "learning_rate": 2e-5} for rate in (0.1, 0.5, 0.7)]
    about = {"vary": vary, "tasks": ["mrpc", "rte"], "compare_with": ["theseus: Figure 3"]}
    figure = plan_of("theseus@constant+full_rate_at=1000", **about, suite={"search": {"budget": 2}})
    tasks = [claimed_tasks(figure, "first", j[0]) for j in judge_claims(figure, "first", differences_of(), {})]
    assert tasks == [{"mrpc", "rte"}]


def test_a_claim_whose_difference_is_missing_is_not_run():
    assert judge(plan_of("pkd", "theseus"), differences_of(), "beats PKD") == ("not run", "a task of it has no score")


def test_on_generated_data_no_claim_is_judged():
    plan = plan_of("pkd", "theseus", suite={"data": {"source": "demo", "rows": 16}})
    results = differences_of(("theseus", "pkd", -3.9, -0.1))
    assert judge(plan, results, "beats PKD") == ("not comparable", "generated sentences")


def test_a_claim_is_judged_where_its_difference_is_found_of():
    results = differences_of(("theseus", "pkd", 1.0, 3.0), tested_in="earlier", low=None, high=None)
    assert judge_claims(plan_of("pkd", "theseus"), "first", results, {}) == []


def test_a_claim_is_judged_where_its_table_is_compared_with():
    assert (
        judge_claims(plan_of("pkd", "theseus", compare_with=["theseus: Table 3"]), "first", differences_of(), {}) == []
    )
    assert [j[0].claim for j in judge_claims(plan_of("finetune", "theseus"), "first", differences_of(), {})] == [
        "Theseus beats fine-tuning on the dev macro"
    ]


CONSTANT = ["theseus@constant", "theseus@constant+base_rate=0.7", "theseus@constant+base_rate=0.9"]
ANTI = "theseus@anti_curriculum"


@pytest.mark.parametrize(
    ("curriculum", "anti", "expected"),
    [
        ([1, 1, 1], [1, 0, 0], "holds"),
        ([1, 1, 0], [1, 1, 1], "undecided"),  # it must beat the best of them, so all
        ([1, 1, -1], [1, 1, 1], "does not hold"),
        ([1, 1, 1], [0, 0, 0], "undecided"),
        ([1, 1, 1], [0, -1, -1], "undecided"),  # one of them may still be above
        ([1, 1, 1], [-1, -1, -1], "does not hold"),
    ],
)
def test_of_several_in_one_place_the_best_counts(curriculum, anti, expected):
    ends = {1: (0.5, 2.0), 0: (-1.0, 2.0), -1: (-2.0, -0.5)}
    rows = [("theseus", name, *ends[sign]) for name, sign in zip(CONSTANT, curriculum, strict=True)]
    rows += [(name, ANTI, *ends[sign]) for name, sign in zip(CONSTANT, anti, strict=True)]
    plan = plan_of("theseus", *CONSTANT, ANTI, compare_with=["theseus: Table 6"])
    assert judge(plan, differences_of(*rows), "curriculum beats")[0] == expected


@pytest.mark.parametrize(
    ("low", "high", "speed", "expected"),
    [
        (0.1, 0.5, (1.96, 1.94, 1.98), "holds"),
        (0.1, 0.5, (1.96, 1.935, 1.98), "holds"),  # rounded as printed
        (0.1, 0.5, (1.96, 1.90, 1.98), "undecided"),
        (0.1, 0.5, (1.90, 1.88, 1.92), "does not hold"),
        (-0.1, 0.5, (1.96, 1.94, 1.98), "undecided"),
        (-0.5, -0.1, (1.96, 1.90, 1.98), "does not hold"),
        (0.1, 0.5, None, "not run"),
    ],
)
def test_a_share_needs_the_difference_from_it_and_the_speed(low, high, speed, expected):
    timings = {"theseus": timing_of(**dict(zip(("speedup", "low", "high"), speed, strict=True)))} if speed else {}
    results = differences_of(("theseus", "predecessor", low, high), share=0.98)
    verdict, evidence = judge(plan_of("predecessor", "theseus"), results, "retains", timings)
    assert verdict == expected
    assert evidence.startswith("BERT-of-Theseus less 98 % of Predecessor: ")


def test_claims_are_judged_under_each_protocol_apart_and_adapted_recipes_are_called_so():
    plan = plan_of("pkd", "theseus", protocols=["published", "equal"], suite={"equal": EQUAL})
    results = differences_of(("theseus", "pkd", 1.0, 3.0), ("theseus@equal", "pkd@equal", -3.0, -1.0))
    verdicts = {j[1]: j[2] for j in judge_claims(plan, "first", results, {}) if "PKD" in j[0].claim}
    assert verdicts == {"published": "holds", "equal": "does not hold"}
    plan = plan_of("pkd", "theseus", suite={"settings": [{"methods": ["theseus"], "set": {"epochs": 3}}]})
    assert {j[1] for j in judge_claims(plan, "first", results, {})} == {"adapted"}


def test_the_claims_say_where_they_are_printed_and_how_their_scores_were_chosen():
    for protocols, has_remark in ((["published", "equal"], True), (["equal"], False)):
        plan = plan_of("finetune", "theseus", protocols=protocols, suite={"equal": EQUAL})
        table = claims_table(judge_claims(plan, "first", differences_of(), {}), "One")
        assert table.rows[0].label == "Theseus beats fine-tuning on the dev macro (Table 2)"
        assert table.rows[0].identity == ("Theseus beats fine-tuning on the dev macro", "Table 2")
        assert [cell.value for cell in table.rows[0].cells] == ["not run", protocols[0], "a task of it has no score"]
        assert {row.cells[1].value for row in table.rows} == set(protocols)
        assert (DEV_CHOICE_REMARK in table.notes) == has_remark
