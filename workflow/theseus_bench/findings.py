"""The answers on the report's first screen: what reproduces, what does not, how sure that is, and at what cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from theseus_bench.costs import total_costs
from theseus_bench.naming import EQUAL
from theseus_bench.plan import Plan
from theseus_bench.published import Claim
from theseus_bench.report_model import Finding, duration
from theseus_bench.scores import read_scores, states
from theseus_bench.significance import BASELINE, CONTROL, MACROS
from theseus_bench.significance_tables import label_of_name, read_significance
from theseus_bench.speed import read_speed
from theseus_bench.table_formats import series, signed
from theseus_bench.verdicts import (
    FAILS,
    HOLDS,
    NOT_COMPARABLE,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    WITHIN,
    Verdict,
    judge_claims,
    judge_numbers,
)

JUDGED = (REPRODUCED, WITHIN, NOT_REPRODUCED)
Judged = tuple[Claim, str, str, str]


def find(plan: Plan, folder: Path) -> list[Finding]:
    """The four answers, all of them counted from the verdicts, tests and records."""
    numbers, claims = all_numbers(plan, folder), all_claims(plan, folder)
    return [
        _reproduces(numbers, claims),
        _does_not(plan, numbers, claims, folder),
        _how_sure(plan, folder),
        _cost(plan, folder),
    ]


def all_numbers(plan: Plan, folder: Path) -> list[Verdict]:
    """Every printed number's verdict, each once however many experiments are compared with its table."""
    found = {}
    for experiment in plan.suite.experiments:
        for verdict in judge_numbers(plan, experiment, read_scores(experiment, folder)):
            key = (verdict.table, verdict.name, verdict.what, verdict.metric, verdict.printed)
            if key not in found or found[key].verdict == NOT_RUN:
                found[key] = verdict
    return list(found.values())


def all_claims(plan: Plan, folder: Path) -> list[Judged]:
    """Every claim that some experiment can judge, each once per protocol."""
    found = {}
    for experiment in plan.suite.experiments:
        speed = (read_speed(experiment, folder) or {"methods": {}})["methods"]
        for judged in judge_claims(plan, experiment, read_scores(experiment, folder), speed):
            key = (judged[0].claim, judged[1])
            if key not in found or found[key][2] == NOT_RUN:
                found[key] = judged
    return list(found.values())


def _reproduces(numbers: list[Verdict], claims: list[Judged]) -> Finding:
    count = Counter(v.verdict for v in numbers)
    judged, good = sum(count[verdict] for verdict in JUDGED), count[REPRODUCED] + count[WITHIN]
    holding = [claim for claim, _, verdict, _ in claims if verdict == HOLDS]
    tested = sum(verdict in (HOLDS, FAILS) for _, _, verdict, _ in claims)
    answer = f"{good} of {judged} numbers" if judged else f"{len(holding)} of {tested} claims"
    parts = []
    if judged:
        parts.append(f"{count[REPRODUCED]} reproduced, {count[WITHIN]} within tolerance.")
    if numbers:
        parts.append(_not_judged(numbers, count))
    if tested:
        parts.append(f"Of the papers' claims, {len(holding)} of {tested} hold on our own numbers.")
    if not numbers and not tested:
        return Finding("What reproduces", "Nothing to compare", "No experiment is compared with a published table.")
    return Finding("What reproduces", answer, " ".join(filter(None, parts)), "complete" if good or holding else "")


def _not_judged(numbers: list[Verdict], count: Counter) -> str:
    """Why some printed numbers have no verdict."""
    parts = []
    if count[NOT_COMPARABLE]:
        reasons = dict.fromkeys(v.reason.partition(";")[0] for v in numbers if v.verdict == NOT_COMPARABLE)
        parts.append(f"{count[NOT_COMPARABLE]} printed numbers are not comparable ({series(list(reasons))})")
    if count[NOT_RUN]:
        parts.append(f"{count[NOT_RUN]} were not run")
    return f"{series(parts)}." if parts else ""


def _does_not(plan: Plan, numbers: list[Verdict], claims: list[Judged], folder: Path) -> Finding:
    missed = [v for v in numbers if v.verdict == NOT_REPRODUCED]
    broken = [
        f"“{claim.claim}”{' (equal effort)' * (p == EQUAL)}" for claim, p, verdict, _ in claims if verdict == FAILS
    ]
    tested = sum(verdict in (HOLDS, FAILS) for _, _, verdict, _ in claims)
    failed = sum(state == "failed" for _, state, _ in states(plan, folder))
    judged = sum(v.verdict in JUDGED for v in numbers)
    answer = f"{len(missed)} of {judged} numbers" if judged else f"{len(broken)} of {tested} claims"
    parts = []
    if missed:
        worst = max(missed, key=lambda v: abs(v.ours - v.printed))
        what = plan.tasks[worst.what].label if worst.what in plan.tasks else worst.what
        parts.append(
            f"Farthest: {label_of_name(plan, worst.name)} on {what}, {signed(worst.ours - worst.printed)} points."
        )
    if broken:
        shown = broken[:2] + [f"{len(broken) - 2} more"] * (len(broken) > 2)
        parts.append(f"{'Does' if len(broken) == 1 else 'Do'} not hold here: {series(shown)}.")
    if failed:
        parts.append(
            f"{failed} {'run' if failed == 1 else 'runs'} failed, that is, learnt no more than the majority class."
        )
    bad = bool(missed or broken or failed)
    return Finding("What does not", answer, " ".join(parts) or "Nothing that was tested.", "failed" if bad else "")


def _how_sure(plan: Plan, folder: Path) -> Finding:
    """The first experiment's difference of a proposed method and its control, and how many tests are significant."""
    found = {name: read_significance(name, folder) for name in plan.suite.experiments}
    for experiment, tests in found.items():
        rows = [row for row in tests["differences"] if row["family"] == BASELINE] or tests["differences"]
        control = plan.suite.experiments[experiment].control or plan.suite.significance.control
        rows = [row for row in rows if row["other"].partition("@")[0] == control.partition("@")[0]]
        rows = [row for row in rows if row["what"] == "macro"] or rows
        if not rows:
            continue
        row = rows[0]
        what = "macro" if row["what"] == "macro" else plan.tasks[row["what"]].label
        answer = f"{signed(row['difference'])} points ({signed(row['low'])} to {signed(row['high'])})"
        p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.3f}"
        seeds = "one seed, so this is about these very models" if row["seeds"] == 1 else f"{row['seeds']} seeds"
        tasks = [r for r in tests["differences"] if r["family"] in (BASELINE, CONTROL) and r["what"] not in MACROS]
        significant = sum(r["p_holm"] < tests["alpha"] for r in tasks)
        detail = (
            f"{label_of_name(plan, row['name'])} minus {label_of_name(plan, row['other'])}, {what}, with its "
            f"{100 * (1 - tests['alpha']):g} % interval; {p} after Holm, {seeds}. Task by task {significant} of "
            f"{len(tasks)} tested differences are significant."
        )
        sure = row["p_holm"] < tests["alpha"]
        return Finding(
            "How sure", answer, detail, "" if not sure else "complete" if row["difference"] > 0 else "failed"
        )
    return Finding("How sure", "Not tested", "No two methods that would be compared have runs in common.", "missing")


def _cost(plan: Plan, folder: Path) -> Finding:
    costs = total_costs(plan, folder)
    parts = [f"{costs['runs']:,} runs on record"]
    if costs["search_device_seconds"]:
        parts.append(f"{duration(costs['search_device_seconds'])} of it searching for settings")
    measured = []
    if costs["flops"] is not None:
        measured.append(f"{costs['flops']:.2g} floating point operations".replace("e+", " · 10^"))
    if costs["peak_memory_mb"] is not None:
        measured.append(f"at most {costs['peak_memory_mb']:,.0f} MiB of memory a run")
    energy = costs["energy_joules"]
    measured.append("energy not measured" if energy is None else f"{energy / 3.6e6:.3g} kWh")
    detail = f"{series(parts)}; {series(measured)}."
    return Finding("At what cost", duration(costs["device_seconds"] + costs["search_device_seconds"]), detail)
