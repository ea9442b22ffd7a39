"""The answers on the report's first screen: what reproduces, what does not, how sure that is, and at what cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from theseus_bench.evaluation.claims import FAILS, HOLDS, ClaimVerdict, judge_claims
from theseus_bench.evaluation.costs import total_costs
from theseus_bench.evaluation.scores import read_scores
from theseus_bench.evaluation.significance_file import PRIMARY, not_tested, read_significance
from theseus_bench.evaluation.speed import method_timings
from theseus_bench.evaluation.statistics import FEWEST
from theseus_bench.evaluation.verdicts import (
    GENERATED,
    NOT_COMPARABLE,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    UNDECIDED,
    Verdict,
    judge_numbers,
)
from theseus_bench.report.content import Finding
from theseus_bench.suite.plan import Plan, label_of_name
from theseus_bench.suite.run_names import EQUAL
from theseus_bench.suite.status import state
from theseus_bench.wording import duration, power, series, signed

JUDGED = (REPRODUCED, UNDECIDED, NOT_REPRODUCED)
TESTED = (HOLDS, UNDECIDED, FAILS)


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
            key = (verdict.table, verdict.row, verdict.target, verdict.metric, verdict.split)
            if key not in found or found[key].verdict == NOT_RUN:
                found[key] = verdict
    return list(found.values())


def all_claims(plan: Plan, folder: Path) -> list[ClaimVerdict]:
    """Every claim that some experiment can judge, each once per protocol: by the first that has all it speaks of."""
    found: dict[tuple[str, str], ClaimVerdict] = {}
    for experiment in plan.suite.experiments:
        speed = method_timings(experiment, folder)
        for judged in judge_claims(plan, experiment, read_significance(experiment, folder), speed):
            key = (judged[0].claim, judged[1])
            if key not in found or found[key][2] == NOT_RUN:
                found[key] = judged
    return list(found.values())


def _reproduces(plan: Plan, numbers: list[Verdict], claims: list[ClaimVerdict], folder: Path) -> Finding:
    count, held = Counter(v.verdict for v in numbers), Counter(verdict for _, _, verdict, _ in claims)
    judged, tested = sum(count[verdict] for verdict in JUDGED), sum(held[verdict] for verdict in TESTED)
    parts = [f"{count[UNDECIDED]} of them are undecided."] if count[UNDECIDED] else []
    if tested:
        parts.append(f"Of the papers' claims, {held[HOLDS]} of {tested} hold on our own numbers")
        parts[-1] += f" and {held[UNDECIDED]} are undecided." if held[UNDECIDED] else "."
    parts += _not_judged(numbers, count)
    parts += _chosen_on_dev(plan, folder)
    if not judged and not tested:
        return _nothing("What reproduces", numbers, claims, parts)
    answer = f"{count[REPRODUCED]} of {judged} numbers" if judged else f"{held[HOLDS]} of {tested} claims"
    return Finding("What reproduces", answer, " ".join(parts), "complete" if count[REPRODUCED] or held[HOLDS] else "")


def _nothing(title: str, numbers: list[Verdict], claims: list[ClaimVerdict], parts: list[str]) -> Finding:
    """The answer where nothing was judged: nothing can be compared, or nothing has been run."""
    verdicts = [v.verdict for v in numbers] + [verdict for _, _, verdict, _ in claims]
    if NOT_COMPARABLE in verdicts:
        return Finding(title, "Not comparable", " ".join(parts), "")
    return Finding(title, "Nothing to judge yet", " ".join(parts) or "Nothing is compared.", "missing")


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


def _does_not(plan: Plan, numbers: list[Verdict], claims: list[ClaimVerdict], folder: Path) -> Finding:
    missed = [v for v in numbers if v.verdict == NOT_REPRODUCED]
    broken = [
        f"“{claim.claim}”{' (equal effort)' * (p == EQUAL)}" for claim, p, verdict, _ in claims if verdict == FAILS
    ]
    tested = sum(verdict in TESTED for _, _, verdict, _ in claims)
    asked = [(run, state(plan, run, folder)[0]) for run in plan.runs.values() if not run.is_trial]
    failed = sum(status == "failed" for _, status in asked)
    judged = sum(v.verdict in JUDGED for v in numbers)
    parts = []
    if missed:
        worst = max(missed, key=lambda v: abs(v.mean - v.reported_score))
        target = plan.tasks[worst.target].label if worst.target in plan.tasks else worst.target
        difference = signed(worst.mean - worst.reported_score)
        parts.append(f"Farthest: {label_of_name(plan, worst.name)} on {target}, {difference} points.")
    if broken:
        shown = broken[:2] + [f"{len(broken) - 2} more"] * (len(broken) > 2)
        parts.append(f"{'Does' if len(broken) == 1 else 'Do'} not hold here: {series(shown)}.")
    failures = f"{failed} of {len(asked)} runs failed: diverged, or no better than the majority."
    parts += [failures] if failed else []
    if not judged and not tested:
        return _nothing("What does not", numbers, claims, parts)
    answer = f"{len(missed)} of {judged} numbers" if judged else f"{len(broken)} of {tested} claims"
    words = " ".join(parts) or "Nothing that was judged is contradicted."
    return Finding("What does not", answer, words, "failed" if missed or broken else "")


def _how_sure(plan: Plan, folder: Path) -> Finding:
    """The first primary difference, the control's where it is tested, and how many of its family are significant."""
    untested = ""
    for experiment in plan.suite.experiments:
        tests = read_significance(experiment, folder)
        rows = [row for row in tests.differences if row.family == PRIMARY and row.tested_in == experiment]
        tested = [row for row in rows if row.p_holm is not None]
        if rows and not tested:
            untested = untested or not_tested(max(row.seeds for row in rows)).capitalize()
        if not tested:
            continue
        row = next((row for row in tested if row.control), tested[0])
        what = "macro" if row.target == "macro" else plan.tasks[row.target].label
        answer = f"{signed(row.difference)} points ({signed(row.low)} to {signed(row.high)})"
        p = "p < 0.001" if row.p_holm < 0.001 else f"p = {row.p_holm:.3f}"
        significant = sum(tests.is_significant(one) for one in tested)
        detail = (
            f"{label_of_name(plan, row.name)} minus {label_of_name(plan, row.other)}, {what}, {row.seeds} "
            f"seeds; {p}, adjusted like the interval for the {row.tests} primary differences of its protocol. "
            f"{significant} of all {len(tested)} are significant."
        )
        if plan.suite.data.source == "demo":
            return Finding("How sure", answer, f"{detail} On {GENERATED} this says nothing of the methods.", "")
        kind = "complete" if row.difference > 0 else "failed"
        return Finding("How sure", answer, detail, kind if tests.is_significant(row) else "")
    words = f"Below {FEWEST} seeds nothing is tested." if untested else ""
    words = words or "No proposed method has runs in common with a baseline."
    return Finding("How sure", untested or "Not tested", words, "missing")


def _cost(plan: Plan, folder: Path) -> Finding:
    """What all runs cost, from start to record; a sum that some run lacks is said to be unknown."""
    costs = total_costs(plan, folder)
    seconds, searching = costs["device_seconds"] + costs["search_device_seconds"], costs["search_device_seconds"]
    spent = f"Device time of {costs['runs']:,} runs, from start to record"
    spent += f", {duration(searching)} of it for searches" if searching else ""
    flops, energy, memory = costs["flops"], costs["energy_joules"], costs["peak_memory_mb"]
    measured = [
        "floating point operations not measured in all runs" if flops is None else f"{power(flops)} FLOPs",
        *([f"at most {memory:,.0f} MiB of memory a run"] if memory is not None else []),
        "energy not measured in all runs" if energy is None else f"{energy / 3.6e6:.3g} kWh",
    ]
    return Finding("At what cost", duration(seconds), f"{spent}; {series(measured)}.")
