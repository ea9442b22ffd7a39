"""Whether what the papers claim holds on our own numbers: *holds*, *does not hold*, or *undecided* where it is open.

A claim about an order is judged by the adjusted intervals of the macro differences
(theseus_bench.evaluation.significance), one about a share by that of the first less the share of the other. It is *not
run* without every task that it speaks of, and *not comparable* on generated data. A claim that says several things
holds where each holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from theseus_bench.evaluation.counterparts import claimed_pairs, claims_of, compared_tables
from theseus_bench.evaluation.families import primary_target
from theseus_bench.evaluation.significance_file import Difference, SignificanceResults
from theseus_bench.evaluation.speed import Timing
from theseus_bench.evaluation.statistics import FEWEST
from theseus_bench.evaluation.verdicts import GENERATED, NOT_COMPARABLE, NOT_RUN, UNDECIDED
from theseus_bench.suite.plan import Plan, label_of_name
from theseus_bench.suite.published import Claim
from theseus_bench.suite.run_names import ADAPTED
from theseus_bench.wording import series, signed

HOLDS, FAILS = "holds", "does not hold"
ELSEWHERE = "judged elsewhere"  # in the experiment that tests its differences
ClaimVerdict = tuple[Claim, str, str, str]  # the claim, the protocol, the verdict, and the numbers that it rests on


def judge_claims(
    plan: Plan, experiment: str, results: SignificanceResults, speed: Mapping[str, Timing]
) -> list[ClaimVerdict]:
    """A verdict on every claim whose models the experiment has, of the tables that it is compared with.

    `speed` has the timings at the reference size by '<method>[@variant]'. A claim whose
    differences are tested in another experiment is left to that one.
    """
    verdicts = []
    for claim, protocol, groups in claims_of(plan, experiment):
        is_adapted = any(plan.is_adapted(name) for group in groups for name in group)
        verdict, evidence = _judge(plan, experiment, results, speed, claim, groups)
        if verdict != ELSEWHERE:
            verdicts.append((claim, ADAPTED if is_adapted else protocol, verdict, evidence))
    return verdicts


def claimed_tasks(plan: Plan, experiment: str, claim: Claim) -> set[str]:
    """The tasks that a claim speaks of: its own, else all those of its table's rows."""
    tables = [table for _, table in compared_tables(plan, experiment).values() if table.table == claim.table]
    return set(claim.tasks or [task for table in tables for row in table.rows.values() for task in row.scores])


def _judge(
    plan: Plan,
    experiment: str,
    results: SignificanceResults,
    speed: Mapping[str, Timing],
    claim: Claim,
    groups: list[list[str]],
) -> tuple[str, str]:
    macro_tasks = [task for task in plan.experiment_tasks(plan.suite.experiments[experiment]) if task.macro]
    claim_tasks = claimed_tasks(plan, experiment, claim)
    missing_tasks = [
        task.label for task in plan.tasks.values() if task.name in claim_tasks - {task.name for task in macro_tasks}
    ]
    if plan.suite.data.source == "demo":
        return NOT_COMPARABLE, GENERATED
    if missing_tasks:
        return NOT_RUN, f"it speaks of {series(missing_tasks)} too"
    target = primary_target(plan, experiment)
    rows = {(row.name, row.other, row.share): row for row in results.differences if row.target == target}
    rows |= {(b, a, share): _turn(row) for (a, b, share), row in rows.items() if share == 1}
    pairs = claimed_pairs(claim, groups)
    if any(pair not in rows for pair in pairs):
        return NOT_RUN, "a task of it has no score"
    seeds = min(rows[pair].seeds for pair in pairs)
    if seeds < FEWEST:
        return UNDECIDED, f"{seeds} {'seed' if seeds == 1 else 'seeds'}"
    if any(rows[pair].tested_in != experiment for pair in pairs):
        return ELSEWHERE, ""
    parts = [_order(rows, first, second, pairs[0][2]) for first, second in itertools.pairwise(groups)]
    evidence = [_describe(plan, rows[pair]) for pair in pairs]
    if claim.speedup is not None:
        verdict, words = _faster(claim.speedup, speed.get(groups[0][0]))
        parts, evidence = [*parts, verdict], [*evidence, words]
    return _combine(parts), "; ".join(evidence)


def _order(rows: Mapping[tuple[str, str, float], Difference], first: list[str], second: list[str], share: float) -> str:
    """Whether the best of the first beats the best of the second: one of the first that beats all of the second."""
    signs = [[_sign(rows[a, b, share]) for b in second] for a in first]
    if any(all(sign > 0 for sign in row) for row in signs):
        return HOLDS
    return FAILS if any(all(row[j] < 0 for row in signs) for j in range(len(second))) else UNDECIDED


def _sign(row: Difference) -> int:
    """On which side of zero a difference's interval lies; 0 if zero is in it."""
    if row.difference == 0 or row.low is None or row.high is None or row.low < 0 < row.high:
        return 0
    return 1 if row.difference > 0 else -1


def _turn(row: Difference) -> Difference:
    """The difference of the second less the first."""
    low, high = (None if end is None else -end for end in (row.high, row.low))
    names = {"name": row.other, "other": row.name}
    return row.model_copy(update=names | {"difference": -row.difference, "low": low, "high": high})


def _describe(plan: Plan, row: Difference) -> str:
    first, second = (label_of_name(plan, name) for name in (row.name, row.other))
    second = second if row.share == 1 else f"{100 * row.share:g} % of {second}"
    interval = "" if row.low is None or row.high is None else f" ({signed(row.low)} to {signed(row.high)})"
    return f"{first} less {second}: {signed(row.difference)}{interval} points"


def _faster(speedup: float, timing: Timing | None) -> tuple[str, str]:
    """Whether the model is as many times as fast as is claimed, by the interval of its speed-up."""
    if timing is None:
        return NOT_RUN, "its speed was not measured"
    verdict = UNDECIDED
    if round(timing.low, 2) >= speedup:
        verdict = HOLDS
    elif round(timing.high, 2) < speedup:
        verdict = FAILS
    return verdict, f"{timing.speedup:.2f} ({timing.low:.2f} to {timing.high:.2f}) times as fast"


def _combine(verdicts: Iterable[str]) -> str:
    """Of a claim that says several things: it fails with one, and holds with all."""
    distinct = set(verdicts)
    return next((verdict for verdict in (FAILS, NOT_RUN, UNDECIDED) if verdict in distinct), HOLDS)
