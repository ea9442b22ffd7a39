"""The worked example's first screen: the four answers, their counts and sums by hand."""

import json
from collections import Counter

import pytest
from theseus_bench.evaluation.costs import total_costs
from theseus_bench.report.findings import judge_all_claims, judge_all_numbers, list_findings
from worked import macro_of, scores_of


@pytest.fixture
def answers(worked_example):
    return list_findings(worked_example.plan, worked_example.folder)


def test_every_printed_number_counts_once_and_those_of_a_sample_not_at_all(worked_example, answers):
    """Table 1 prints 4 + 3 + 4 numbers and two macros, Table 2 two. MNLI is a sample, so the macros are of one too."""
    numbers = judge_all_numbers(worked_example.plan, worked_example.folder)
    assert len(numbers) == 15
    assert sorted((v.name, v.target) for v in numbers if v.verdict == "not comparable") == [
        ("predecessor", "macro"), ("predecessor", "mnli"), ("theseus", "macro"), ("theseus", "mnli"),
    ]  # fmt: skip
    count = Counter(v.verdict for v in numbers)
    assert sum(count[verdict] for verdict in ("reproduced", "undecided", "not reproduced")) == 11
    assert count["undecided"] > 0
    reproduces, does_not, *_ = answers
    assert reproduces.answer == f"{count['reproduced']} of 11 numbers"
    assert does_not.answer == f"{count['not reproduced']} of 11 numbers"
    assert reproduces.detail == (
        f"{count['undecided']} of them are undecided. Of the papers' claims, 2 of 9 hold on our own numbers and 5 are "
        "undecided. Of 15 printed numbers, 4 are not comparable (the data of MNLI is a sample). Without equal effort a "
        "score is the best of 2 looks at the dev set."
    )
    assert reproduces.kind == "complete"


def test_every_claim_counts_once_for_each_protocol(worked_example):
    verdict_by_claim = {
        (claim.claim, protocol): verdict
        for claim, protocol, verdict, _ in judge_all_claims(worked_example.plan, worked_example.folder)
    }
    assert len(verdict_by_claim) == 9
    assert Counter(verdict_by_claim.values()) == {"holds": 2, "undecided": 5, "does not hold": 2}
    assert verdict_by_claim["The curriculum beats the constant rate", "published"] == "undecided"


def test_what_does_not_hold_is_named_with_the_runs_that_failed(answers):
    does_not = answers[1]
    assert does_not.kind == "failed"
    assert does_not.detail.endswith(
        "Do not hold here: “Fine-tuning beats the predecessor” and “Fine-tuning beats the predecessor” (equal effort). "
        "2 of 165 runs failed: diverged, or no better than the majority."
    )


def test_how_sure_is_the_first_primary_difference_from_the_control(worked_example, answers):
    """Six primary differences have three seeds, four under the published protocol; three of the six are found."""
    rows = json.loads((worked_example.folder / "significance/glue.json").read_text())["differences"]
    (row,) = [r for r in rows if (r["name"], r["other"], r["what"]) == ("theseus", "finetune", "macro")]
    sure = answers[2]
    difference = macro_of("theseus") - macro_of("finetune")
    assert sure.answer == f"+{difference:.1f} points (+{row['low']:.1f} to +{row['high']:.1f})"
    assert sure.detail == (
        f"BERT-of-Theseus minus Fine-tuning, macro, 3 seeds; p = {row['p_holm']:.3f}, adjusted like the interval for "
        "the 4 primary differences of its protocol. 3 of all 6 are significant."
    )
    assert row["p_holm"] > row["p"] * 3.9, "the smallest of four"
    assert sure.kind == "complete"


def test_the_cost_is_that_of_every_run_once(worked_example, answers):
    """300 s of the majority's runs and of each method's under either protocol, 3000 s of each predecessor's, less the
    30 s of the missing run. FLOPs: 11 methods · 5 tasks · (18 + 3)·10¹⁵ less 10·10¹⁵; energy: 11 · 30 kJ less 3 kJ."""
    total = total_costs(worked_example.plan, worked_example.folder)
    assert total["runs"] == 164
    assert total["device_seconds"] == 300 * 9 + 3000 * 2 - 30
    assert total["search_device_seconds"] == 0
    assert total["flops"] == pytest.approx(1145e15)
    assert total["energy_joules"] == pytest.approx(327_000)
    assert total["peak_memory_mb"] == 112
    cost = answers[3]
    assert (cost.heading, cost.answer) == ("At what cost", "2 h 24 min"), "8,670 s"
    assert cost.detail == (
        "Device time of 164 runs, from start to record; 1.1 · 10¹⁸ FLOPs, at most 112 MiB of memory a run and "
        "0.0908 kWh."
    )


def test_the_farthest_number_is_the_largest_miss_either_way(worked_example, answers):
    misses = [v for v in judge_all_numbers(worked_example.plan, worked_example.folder) if v.verdict == "not reproduced"]
    assert {(v.name, v.target, v.reported_score) for v in misses} == {
        ("finetune", "mrpc", 98),
        ("theseus", "stsb", 60.5),
    }
    low, high = scores_of("finetune", "mrpc").mean() - 98, scores_of("theseus", "stsb").mean() - 60.5
    assert -low > high > 0
    assert answers[1].detail.startswith(f"Farthest: Fine-tuning on MRPC, −{-low:.1f} points. Do not hold here: ")
