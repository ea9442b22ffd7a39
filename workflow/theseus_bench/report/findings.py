"""The answers on the report's first screen: what reproduces, what does not, how sure that is, and at what cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from theseus_bench.evaluation.claims import FAILS, HOLDS, ClaimVerdict, judge_claims
from theseus_bench.evaluation.costs import total_costs
from theseus_bench.evaluation.scores import read_scores
from theseus_bench.evaluation.significance_file import PRIMARY, TASKS, not_tested, read_significance
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

NUMBER_VERDICTS = (REPRODUCED, UNDECIDED, NOT_REPRODUCED)
CLAIM_VERDICTS = (HOLDS, UNDECIDED, FAILS)


def list_findings(plan: Plan, folder: Path) -> list[Finding]:
    """The four answers, all of them counted from the verdicts, tests and records."""
    numbers, claims = judge_all_numbers(plan, folder), judge_all_claims(plan, folder)
    return [
        _reproduced_finding(plan, numbers, claims, folder),
        _contradicted_finding(plan, numbers, claims, folder),
        _certainty_finding(plan, folder),
        _cost_finding(plan, folder),
    ]


def judge_all_numbers(plan: Plan, folder: Path) -> list[Verdict]:
    """Every printed number's verdict, each once however many experiments are compared with its table."""
    verdicts: dict[tuple[str, ...], Verdict] = {}
    for experiment in plan.suite.experiments:
        for verdict in judge_numbers(plan, experiment, read_scores(experiment, folder)):
            key = (verdict.table, verdict.row, verdict.target, verdict.metric, verdict.split)
            if key not in verdicts or verdicts[key].verdict == NOT_RUN:
                verdicts[key] = verdict
    return list(verdicts.values())


def judge_all_claims(plan: Plan, folder: Path) -> list[ClaimVerdict]:
    """Every claim that some experiment can judge, each once per protocol: by the first that has all it speaks of."""
    verdicts: dict[tuple[str, str], ClaimVerdict] = {}
    for experiment in plan.suite.experiments:
        speed = method_timings(experiment, folder)
        for entry in judge_claims(plan, experiment, read_significance(experiment, folder), speed):
            key = (entry[0].claim, entry[1])
            if key not in verdicts or verdicts[key][2] == NOT_RUN:
                verdicts[key] = entry
    return list(verdicts.values())


def _reproduced_finding(plan: Plan, numbers: list[Verdict], claims: list[ClaimVerdict], folder: Path) -> Finding:
    number_counts, claim_counts = Counter(v.verdict for v in numbers), Counter(verdict for _, _, verdict, _ in claims)
    number_count, claim_count = (
        sum(number_counts[verdict] for verdict in NUMBER_VERDICTS),
        sum(claim_counts[verdict] for verdict in CLAIM_VERDICTS),
    )
    parts = [f"{number_counts[UNDECIDED]} of them are undecided."] if number_counts[UNDECIDED] else []
    if claim_count:
        parts.append(f"Of the papers' claims, {claim_counts[HOLDS]} of {claim_count} hold on our own numbers")
        parts[-1] += f" and {claim_counts[UNDECIDED]} are undecided." if claim_counts[UNDECIDED] else "."
    parts += _numbers_without_verdict(numbers, number_counts)
    parts += _chosen_on_dev(plan, folder)
    if not number_count and not claim_count:
        return _empty_finding("What reproduces", numbers, claims, parts)
    answer = (
        f"{number_counts[REPRODUCED]} of {number_count} numbers"
        if number_count
        else f"{claim_counts[HOLDS]} of {claim_count} claims"
    )
    return Finding(
        "What reproduces",
        answer,
        " ".join(parts),
        "complete" if number_counts[REPRODUCED] or claim_counts[HOLDS] else "",
    )


def _empty_finding(title: str, numbers: list[Verdict], claims: list[ClaimVerdict], parts: list[str]) -> Finding:
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
    fewest, most = min(counts), max(counts)
    return [
        f"Without equal effort a score is the best of {fewest}{f' to {most}' * (fewest < most)} looks at the dev set."
    ]


def _numbers_without_verdict(numbers: list[Verdict], counts: Counter[str]) -> list[str]:
    """Why some printed numbers have no verdict."""
    parts = []
    if counts[NOT_COMPARABLE]:
        reasons = dict.fromkeys(v.reason.partition(";")[0] for v in numbers if v.verdict == NOT_COMPARABLE)
        parts.append(f"{counts[NOT_COMPARABLE]} are not comparable ({series(list(reasons))})")
    if counts[NOT_RUN]:
        parts.append(f"{counts[NOT_RUN]} were not run")
    return [f"Of {len(numbers)} printed numbers, {series(parts)}."] if parts else []


def _contradicted_finding(plan: Plan, numbers: list[Verdict], claims: list[ClaimVerdict], folder: Path) -> Finding:
    misses = [v for v in numbers if v.verdict == NOT_REPRODUCED]
    failed_claims = [
        f"“{claim.claim}”{' (equal effort)' * (p == EQUAL)}" for claim, p, verdict, _ in claims if verdict == FAILS
    ]
    claim_count = sum(verdict in CLAIM_VERDICTS for _, _, verdict, _ in claims)
    statuses = [(run, state(plan, run, folder)[0]) for run in plan.runs.values() if not run.is_trial]
    failure_count = sum(status == "failed" for _, status in statuses)
    number_count = sum(v.verdict in NUMBER_VERDICTS for v in numbers)
    parts = []
    differences = [(v.mean - v.reported_score, v) for v in misses if v.mean is not None]
    if differences:
        difference, worst = max(differences, key=lambda pair: abs(pair[0]))
        target = plan.tasks[worst.target].label if worst.target in plan.tasks else worst.target
        parts.append(f"Farthest: {label_of_name(plan, worst.name)} on {target}, {signed(difference)} points.")
    if failed_claims:
        examples = failed_claims[:2] + [f"{len(failed_claims) - 2} more"] * (len(failed_claims) > 2)
        parts.append(f"{'Does' if len(failed_claims) == 1 else 'Do'} not hold here: {series(examples)}.")
    failures = f"{failure_count} of {len(statuses)} runs failed: diverged, or no better than the majority."
    parts += [failures] if failure_count else []
    if not number_count and not claim_count:
        return _empty_finding("What does not", numbers, claims, parts)
    answer = (
        f"{len(misses)} of {number_count} numbers" if number_count else f"{len(failed_claims)} of {claim_count} claims"
    )
    words = " ".join(parts) or "Nothing that was judged is contradicted."
    return Finding("What does not", answer, words, "failed" if misses or failed_claims else "")


def _certainty_finding(plan: Plan, folder: Path) -> Finding:
    """The first primary difference, the control's where it is tested, and how many of its family are significant."""
    few_seeds = ""
    on_tasks: list[bool | None] = []  # of the same pairs on single tasks: significant, or None, not tested
    for experiment in plan.suite.experiments:
        tests = read_significance(experiment, folder)
        pairs = [
            row for row in tests.differences if row.primary and row.family == TASKS and row.tested_in == experiment
        ]
        on_tasks += [None if row.p_holm is None else tests.is_significant(row) for row in pairs]
        rows = [row for row in tests.differences if row.family == PRIMARY and row.tested_in == experiment]
        tested_rows = [(row, row.p_holm) for row in rows if row.p_holm is not None]
        if rows and not tested_rows:
            few_seeds = few_seeds or not_tested(max(row.seeds for row in rows)).capitalize()
        if not tested_rows:
            continue
        row, p_holm = next((pair for pair in tested_rows if pair[0].control), tested_rows[0])
        target = "macro" if row.target == "macro" else plan.tasks[row.target].label
        ends = " to ".join(signed(end) for end in (row.low, row.high) if end is not None)
        answer = f"{signed(row.difference)} points ({ends})"
        p = "p < 0.001" if p_holm < 0.001 else f"p = {p_holm:.3f}"
        significant_count = sum(tests.is_significant(other) for other, _ in tested_rows)
        detail = (
            f"{label_of_name(plan, row.name)} minus {label_of_name(plan, row.other)}, {target}, {row.seeds} "
            f"seeds; {p}, adjusted like the interval for the {row.tests} primary differences of its protocol. "
            f"{significant_count} of all {len(tested_rows)} are significant."
        )
        if plan.suite.data.source == "demo":
            return Finding("How sure", answer, f"{detail} On {GENERATED} this says nothing of the methods.", "")
        kind = "complete" if row.difference > 0 else "failed"
        return Finding("How sure", answer, detail, kind if tests.is_significant(row) else "")
    words = f"Below {FEWEST} seeds nothing is tested." if few_seeds else ""
    if on_tasks and not words:
        words = "No proposed method and baseline have every task of the macro."
        tested = [significant for significant in on_tasks if significant is not None]
        if tested:
            words += f" Task by task {sum(tested)} of {len(tested)} tested differences between them are significant."
    words = words or "No proposed method has runs in common with a baseline."
    return Finding("How sure", few_seeds or "Not tested", words, "missing")


def _cost_finding(plan: Plan, folder: Path) -> Finding:
    """What all runs cost, from start to record; a sum that some run lacks is said to be unknown."""
    costs = total_costs(plan, folder)
    search_seconds = costs["search_device_seconds"] or 0.0
    seconds = (costs["device_seconds"] or 0.0) + search_seconds
    cost_words = f"Device time of {costs['runs']:,} runs, from start to record"
    cost_words += f", {duration(search_seconds)} of it for searches" if search_seconds else ""
    flops, energy, memory = costs["flops"], costs["energy_joules"], costs["peak_memory_mb"]
    measurements = [
        "floating point operations not measured in all runs" if flops is None else f"{power(flops)} FLOPs",
        *([f"at most {memory:,.0f} MiB of memory a run"] if memory is not None else []),
        "energy not measured in all runs" if energy is None else f"{energy / 3.6e6:.3g} kWh",
    ]
    return Finding("At what cost", duration(seconds), f"{cost_words}; {series(measurements)}.")
