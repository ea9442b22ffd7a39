"""The papers' numbers and claims beside ours, as tables."""

from __future__ import annotations

from theseus_bench.data.tasks import METRIC_NAMES
from theseus_bench.evaluation.claims import ClaimVerdict
from theseus_bench.evaluation.statistics import FEWEST
from theseus_bench.evaluation.variances import MODERATED
from theseus_bench.evaluation.verdicts import Verdict
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.run_names import EQUAL, RunName
from theseus_bench.tables.model import Cell, Column, Row, Table, interval_of
from theseus_bench.tables.scores import DEV_CHOICE_REMARK
from theseus_bench.wording import signed


def verdicts_table(plan: Plan, verdicts: list[Verdict], title: str) -> Table:
    """Ours beside the printed numbers; why a verdict is what it is, and what printed the number, as footnotes."""
    columns = (
        Column("task", "Task", text=True),
        Column("metric", "Metric", text=True),
        Column("printed", "Printed", ("points",)),
        Column("ours", "Ours", ("points",)),
        Column("difference", "Difference", ("points",), fields=("low", "high")),
        Column("seeds", "Seeds", decimals=0),
        Column("verdict", "Verdict", fields=("reason",), text=True),
    )
    sources = list(dict.fromkeys(v.table for v in verdicts))
    rows = []
    for v in verdicts:
        run_name = RunName.parse(v.name)
        reasons = (v.reason,) if v.reason else ()
        cells = (
            Cell(plan.tasks[v.target].label if v.target in plan.tasks else v.target),
            Cell(METRIC_NAMES.get(v.metric, v.metric) + (f" ({v.split})" if v.split else "")),
            Cell(v.reported_score, notes=(f"printed in {v.table}",) if len(sources) > 1 else ()),
            Cell(v.mean, notes=reasons if v.mean is None else ()),
            _difference(v),
            Cell(float(v.seeds)),
            Cell(v.verdict, notes=reasons, data={"reason": v.reason}),
        )
        label = plan.run(v.name, plan.trained_tasks[0], 0).label
        rows.append(Row(label, cells, (run_name.method, run_name.variant, v.table), v.verdict.replace(" ", "-")))
    rule = plan.suite.verdicts
    by_task = "".join(f", {points:g} on {plan.tasks[name].label}" for name, points in rule.tolerance_by_task.items())
    notes = (
        f"Difference: ours less the printed, and its {100 * (1 - plan.suite.significance.alpha):g} % interval, each "
        f"for itself. Reproduced: the interval is within {rule.tolerance:g} points{by_task}; not reproduced: it is "
        f"outside; undecided: it is neither, or of fewer than {FEWEST} seeds. The tolerance is in the configuration.",
        "Ours: mean over the seeds; a macro is the mean of the tasks that are printed. The interval is of our seeds, a "
        f"method's variance on a task {MODERATED}. A printed number that is said to be of several "
        "runs is given the error that so many of ours would have, since no paper prints its spread; any other is "
        "taken as it stands.",
        DEV_CHOICE_REMARK,
    )
    caption = f"Ours beside the numbers of {sources[0]}." if len(sources) == 1 else "Ours beside the printed numbers."
    return Table(title, caption, columns, tuple(rows), notes, identity=("method", "variant", "published"))


def _difference(v: Verdict) -> Cell:
    if v.mean is None:
        return Cell("", data={"low": None, "high": None})
    difference = v.mean - v.reported_score
    return Cell(
        difference, signed(difference), interval=interval_of(v.low, v.high), data={"low": v.low, "high": v.high}
    )


def claims_table(verdicts: list[ClaimVerdict], title: str) -> Table:
    """The papers' claims, each with what speaks for and against it here."""
    columns = (
        Column("verdict", "Verdict", text=True),
        Column("protocol", "Protocol", text=True),
        Column("seen", "Seen here", text=True),
    )
    rows = [
        Row(
            f"{claim.claim} ({claim.table})",
            (Cell(verdict), Cell(protocol), Cell(evidence)),
            (claim.claim, claim.table),
            verdict.replace(" ", "-"),
        )
        for claim, protocol, verdict, evidence in verdicts
    ]
    notes: tuple[str, ...] = (
        "Holds: the difference's interval is above zero; does not hold: below; undecided: zero is in it, or there are "
        f"fewer than {FEWEST} seeds. The intervals are those of the tested differences, on this suite's own backbone "
        "and data. Speed-ups are rounded to two decimals, as printed.",
    )
    if any(protocol != EQUAL for _, protocol, _, _ in verdicts):
        notes += (DEV_CHOICE_REMARK,)
    caption = "Claims about directions, and where they are printed."
    return Table(title, caption, columns, tuple(rows), notes, stub="Claim", identity=("claim", "published"))
