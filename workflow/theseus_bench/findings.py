"""The answers on the report's first screen: what reproduces, what does not, how sure that is, and at what cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from theseus_bench.costs import total_costs
from theseus_bench.naming import EQUAL, split_name
from theseus_bench.plan import Plan
from theseus_bench.published import Claim
from theseus_bench.report_model import Finding, duration
from theseus_bench.scores import read_scores
from theseus_bench.significance import CONTROL, MACROS
from theseus_bench.significance_tables import label_of_name, read_significance
from theseus_bench.speed import read_speed
from theseus_bench.status import state, states
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
        _reproduces(plan, numbers, claims, folder),
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
    """Every claim that some experiment can judge, each once per protocol: by the one with most tasks."""
    found: dict[tuple[str, str], Judged] = {}
    sizes: dict[tuple[str, str], int] = {}
    for experiment in plan.suite.experiments:
        speed = (read_speed(experiment, folder) or {"methods": {}})["methods"]
        for judged in judge_claims(plan, experiment, read_scores(experiment, folder), speed):
            key = (judged[0].claim, judged[1])
            size = len(plan.experiment_tasks(plan.suite.experiments[experiment]))
            if key not in found or size > sizes[key]:
                found[key], sizes[key] = judged, size
    return list(found.values())


def _reproduces(plan: Plan, numbers: list[Verdict], claims: list[Judged], folder: Path) -> Finding:
    count = Counter(v.verdict for v in numbers)
    judged, good = sum(count[verdict] for verdict in JUDGED), count[REPRODUCED] + count[WITHIN]
    holding, tested = (sum(verdict in wanted for _, _, verdict, _ in claims) for wanted in ((HOLDS,), (HOLDS, FAILS)))
    parts = [f"{count[REPRODUCED]} reproduced, {count[WITHIN]} within tolerance."] if judged else []
    parts += [f"Of the papers' claims, {holding} of {tested} hold on our own numbers."] if tested else []
    parts += _not_judged(numbers, count)
    parts += _chosen_on_dev(plan, folder)
    if not judged and not tested:
        return Finding("What reproduces", "Nothing to judge yet", " ".join(parts) or "Nothing is compared.", "missing")
    answer = f"{good} of {judged} numbers" if judged else f"{holding} of {tested} claims"
    real = plan.suite.data.source != "demo"  # of generated sentences nothing can be said for the papers
    return Finding("What reproduces", answer, " ".join(parts), "complete" if real and (good or holding) else "")


def _chosen_on_dev(plan: Plan, folder: Path) -> list[str]:
    """How many evaluations the scores were chosen from that were chosen on the dev set itself."""
    states = (state(plan, run, folder)[2] for run in plan.runs.values() if run.spec.trained and not run.is_trial)
    counts = [record.evaluations for record in states if record is not None and record.chosen_on == "dev"]
    if not counts:
        return []
    few, most = min(counts), max(counts)
    return [f"Without equal effort a score is the best of {few}{f' to {most}' * (few < most)} looks at the dev set."]


def _not_judged(numbers: list[Verdict], count: Counter) -> list[str]:
    """Why some printed numbers have no verdict."""
    parts = []
    if count[NOT_COMPARABLE]:
        reasons = dict.fromkeys(v.reason.partition(";")[0] for v in numbers if v.verdict == NOT_COMPARABLE)
        parts.append(f"{count[NOT_COMPARABLE]} are not comparable ({series(list(reasons))})")
    if count[NOT_RUN]:
        parts.append(f"{count[NOT_RUN]} were not run")
    return [f"Of {len(numbers)} printed numbers, {series(parts)}."] if parts else []


def _does_not(plan: Plan, numbers: list[Verdict], claims: list[Judged], folder: Path) -> Finding:
    missed = [v for v in numbers if v.verdict == NOT_REPRODUCED]
    broken = [
        f"“{claim.claim}”{' (equal effort)' * (p == EQUAL)}" for claim, p, verdict, _ in claims if verdict == FAILS
    ]
    tested = sum(verdict in (HOLDS, FAILS) for _, _, verdict, _ in claims)
    failed = sum(status == "failed" and not run.is_trial for run, status, _ in states(plan, folder))
    judged = sum(v.verdict in JUDGED for v in numbers)
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
        parts.append(f"{failed} {'run' if failed == 1 else 'runs'} failed: diverged, or no better than the majority.")
    if not judged and not tested:
        return Finding("What does not", "Nothing to judge yet", " ".join(parts) or "Nothing is compared.", "missing")
    answer = f"{len(missed)} of {judged} numbers" if judged else f"{len(broken)} of {tested} claims"
    return Finding("What does not", answer, " ".join(parts) or "All that was judged holds.", "failed" if parts else "")


def _how_sure(plan: Plan, folder: Path) -> Finding:
    """The first tested difference of a proposed method from its control, and how many tests are significant."""
    for experiment, wanted in plan.suite.experiments.items():
        tests = read_significance(experiment, folder)
        rows = [row for row in tests["differences"] if plan.specs[split_name(row["name"])[0]].role == "proposed"]
        rows = [row for row in rows if row["family"] == CONTROL] or rows
        rows = [row for row in rows if row["what"] == "macro"] or rows
        if not rows:
            continue
        row = rows[0]
        what = "macro" if row["what"] == "macro" else plan.tasks[row["what"]].label
        answer = f"{signed(row['difference'])} points ({signed(row['low'])} to {signed(row['high'])})"
        p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.3f}"
        seeds = "one seed, so this is about these very models" if row["seeds"] == 1 else f"{row['seeds']} seeds"
        tasks = {(r["name"], r["other"], r["what"]): r for r in tests["differences"] if r["what"] not in MACROS}
        significant = sum(r["p_holm"] < tests["alpha"] for r in tasks.values())
        detail = (
            f"{label_of_name(plan, row['name'])} minus {label_of_name(plan, row['other'])}, {what}, with its "
            f"{100 * (1 - tests['alpha']):g} % interval; {p} after Holm, {seeds} ({wanted.title}). Task by task "
            f"{significant} of {len(tasks)} differences tested there are significant."
        )
        kind = "complete" if row["difference"] > 0 else "failed"
        return Finding("How sure", answer, detail, kind if row["p_holm"] < tests["alpha"] else "")
    return Finding("How sure", "Not tested", "No proposed method has runs in common with its control.", "missing")


def _cost(plan: Plan, folder: Path) -> Finding:
    """What all runs cost, from start to record; a sum that some run lacks is said to be unknown."""
    costs = total_costs(plan, folder)
    seconds, searching = costs["device_seconds"] + costs["search_device_seconds"], costs["search_device_seconds"]
    spent = f"Device time of {costs['runs']:,} runs, from start to record"
    spent += f", {duration(searching)} of it for searches" if searching else ""
    flops, energy, memory = costs["flops"], costs["energy_joules"], costs["peak_memory_mb"]
    measured = [
        "floating point operations not measured in all runs" if flops is None else f"{_power(flops)} FLOPs",
        *([f"at most {memory:,.0f} MiB of memory a run"] if memory is not None else []),
        "energy not measured in all runs" if energy is None else f"{energy / 3.6e6:.3g} kWh",
    ]
    return Finding("At what cost", duration(seconds), f"{spent}; {series(measured)}.")


def _power(value: float) -> str:
    """A large number as '2.3 · 10^15'."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} · 10^{int(exponent)}"
