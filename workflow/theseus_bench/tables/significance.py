"""The tables of an experiment's tests, from what `theseus_bench.evaluation.significance` has left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from theseus_bench.evaluation.significance_file import (
    MACRO,
    MACRO_LABELS,
    PRIMARY,
    TASKS,
    WITHOUT_COLA,
    Difference,
    SignificanceResults,
    not_tested,
    read_significance,
)
from theseus_bench.evaluation.statistics import FEWEST
from theseus_bench.evaluation.variances import MODERATED
from theseus_bench.suite.plan import Plan, label_of_name
from theseus_bench.suite.run_names import PUBLISHED, RunName
from theseus_bench.tables.model import Cell, Column, Row, Table, interval_of
from theseus_bench.tables.scores import DEV_CHOICE_REMARK

FAMILIES = {
    PRIMARY: "primary",
    MACRO: "secondary",
    WITHOUT_COLA: "secondary, without CoLA",
    TASKS: "secondary, by task",
}
NOT_ATTAINABLE = "not attainable"


def verdict_on(plan: Plan, row: Difference, results: SignificanceResults) -> str:
    """What a row of the tests says of its difference, in words."""
    if row.seeds < FEWEST:
        return not_tested(row.seeds)
    if row.p_holm is None:
        return f"tested in: {plan.suite.experiments[row.tested_in].title}"
    return "significant" if results.is_significant(row) else "not significant"


def other_label(plan: Plan, row: Difference) -> str:
    """What the first of a row is compared with: 'Fine-tuning', or '98 % of Predecessor'."""
    label = label_of_name(plan, row.other)
    return label if row.share == 1 else f"{100 * row.share:g} % of {label}"


def significance_tables(plan: Plan, experiment: str, folder: Path) -> dict[str, Table]:
    """The tables by the ending of their files' name: significance, seeds, ranks and aggregates."""
    results = read_significance(experiment, folder)
    definition = plan.suite.experiments[experiment]
    tables = {
        "significance": differences_table(plan, results, definition.title),
        "seeds": seeds_table(plan, results, definition.title),
        "ranks": ranks_table(plan, results, definition.title),
        "aggregates": aggregates_table(plan, results, definition.title),
    }
    remarks = (DEV_CHOICE_REMARK,) if PUBLISHED in definition.protocols else ()
    return {ending: replace(table, notes=(*table.notes, *remarks)) for ending, table in tables.items()}


def differences_table(plan: Plan, results: SignificanceResults, title: str, targets: Sequence[str] = ()) -> Table:
    """Every difference with its test, the primary ones first; with `targets`, those of these tasks or macros alone."""
    columns = (
        Column("other", "Compared with", text=True),
        Column("among", "Family", text=True),
        Column("what", "Task", text=True),
        Column("seeds", "Seeds", decimals=0),
        Column("difference", "Difference", ("points",), fields=("low", "high", "error", "df")),
        Column("p", "p", decimals=3),
        Column("p_holm", "p", ("Holm",), decimals=3, fields=("tests",)),
        Column("verdict", "Difference", ("after Holm",), text=True),
    )
    rows = []
    for row in sorted(results.differences, key=lambda row: list(FAMILIES).index(row.family)):
        if targets and row.target not in targets:
            continue
        verdict = verdict_on(plan, row, results)
        is_tested = row.p_holm is not None
        data = {"low": row.low, "high": row.high, "error": row.error, "df": row.df}
        interval = interval_of(row.low, row.high) if is_tested else None
        cells: tuple[Cell, ...] = (
            Cell(other_label(plan, row)),
            Cell(FAMILIES[row.family]),
            Cell(_target_label(plan, row.target)),
        )
        cells += (Cell(float(row.seeds)), Cell(row.difference, interval=interval, data=data))
        if is_tested:
            cells += (Cell(row.p, value_text=_small_p(row.p)),)
            cells += (Cell(row.p_holm, value_text=_small_p(row.p_holm), data={"tests": row.tests}),)
        else:
            cells += (Cell(""), Cell("", data={"tests": None}))
        identity = (row.family, *_identity(row.name))
        kind = verdict.replace(" ", "-") if is_tested else "missing"
        rows.append(Row(label_of_name(plan, row.name), (*cells, Cell(verdict)), identity, kind))
    confidence = f"{100 * (1 - results.alpha):g} %"
    notes = (
        "Difference: first minus other, of means over the seeds of either. Its test is over seeds and examples at "
        f"once: examples paired, {results.resamples:,} resamples of them; seeds by their t distribution, a method's "
        f"variance on a task {MODERATED}.",
        f"Intervals hold together with {confidence} within a family (Bonferroni); one that Holm's correction, which is "
        "stronger, finds to leave zero out ends there. A family counts every test that the suite asks for, also those "
        "whose runs are not there yet.",
        "Primary: the macro difference of a proposed method and every baseline, one family for each protocol. All else "
        "is secondary, in families of its own: other macro differences, the macro without CoLA, single tasks. No "
        "difference is in two families.",
        *results.few_seeds(),
    )
    return Table(title, "Tested differences.", columns, tuple(rows), notes, identity=("family", "method", "variant"))


def seeds_table(plan: Plan, results: SignificanceResults, title: str) -> Table:
    """What the seeds alone say of each difference on a task, and McNemar's test for each pair of runs."""
    columns = (
        Column("other", "Compared with", text=True),
        Column("what", "Task", text=True),
        Column("seeds", "Seeds", decimals=0),
        Column("welch", "Welch", ("p",), decimals=3),
        Column("sign_flip", "Permutation", ("p",), decimals=3),
        Column("hedges_g", "Effect", ("Hedges' g",), decimals=2),
        Column("improvement", "P(better)", decimals=2),
        Column("mcnemar", "McNemar", ("p by seed",), text=True),
    )
    rows = []
    for row in results.differences:
        if row.improvement is None:  # a macro, or too few seeds
            continue
        no_spread = "both need two seeds, and some spread"
        cells: tuple[Cell, ...] = (
            Cell(label_of_name(plan, row.other)),
            Cell(_target_label(plan, row.target)),
            Cell(float(row.seeds)),
        )
        cells += (_p_cell(row.welch, no_spread), _permutation(row, results.alpha))
        cells += (Cell(row.hedges_g, notes=() if row.hedges_g is not None else (no_spread,)),)
        cells += (Cell(row.improvement), Cell(_mcnemar_text(row)))
        rows.append(Row(label_of_name(plan, row.name), cells, (row.family, *_identity(row.name))))
    notes = (
        "Not adjusted for the number of tests, and secondary: the tested differences are in their own table.",
        "Permutation: of the signs of the differences of the seeds that both have, exact up to 13 of them. Welch, "
        "effect and P(better), the probability that a run of the first beats one of the other: all seeds of either. "
        "McNemar: exact, for accuracies, by seed.",
    )
    caption = "Tests over seeds alone, and over the examples of single runs."
    return Table(title, caption, columns, tuple(rows), notes, identity=("family", "method", "variant"))


def ranks_table(plan: Plan, results: SignificanceResults, title: str) -> Table:
    """Tests over tasks, one number for each."""
    columns = (
        Column("other", "Compared with", text=True),
        Column("tasks", "Tasks", decimals=0),
        Column("difference", "Difference", ("median, points",)),
        Column("wilcoxon_holm", "Wilcoxon", ("p, Holm",), decimals=3, fields=("unadjusted", "tasks_needed")),
        Column("improvement", "P(better)", decimals=2),
    )
    rows = []
    for row in results.ranks:
        data = {"unadjusted": row.wilcoxon, "tasks_needed": row.tasks_needed}
        reason = f"{row.tasks_differing} tasks that differ cannot reach α = {results.alpha:g} in this family; "
        reason += f"{row.tasks_needed} could"
        if row.wilcoxon is None:
            reason = not_tested(row.seeds) if row.seeds < FEWEST else "no task differs"
        wilcoxon = Cell(row.wilcoxon_holm, value_text=_small_p(row.wilcoxon_holm), data=data)
        if row.wilcoxon_holm is None:
            wilcoxon = Cell(NOT_ATTAINABLE if row.wilcoxon is not None else None, notes=(reason,), data=data)
        cells: tuple[Cell, ...] = (Cell(label_of_name(plan, row.other)), Cell(float(row.tasks)), Cell(row.difference))
        cells += (wilcoxon, Cell(row.improvement))
        kind = PRIMARY if row.primary else MACRO
        rows.append(Row(label_of_name(plan, row.name), cells, (kind, *_identity(row.name))))
    notes = [
        "Secondary. Wilcoxon: signed ranks of the differences of means; Holm over the proposed methods beside "
        "baselines, and over the others, of a protocol. P(better): mean over tasks of the probability that a run "
        "beats one of the other (Agarwal et al. 2021).",
    ]
    for test in results.friedman:
        p = "not defined" if test.p is None else f"p {_small_p(test.p) or format(test.p, '.3f')}"
        if test.seeds < FEWEST:
            p = not_tested(test.seeds)
        elif test.p is not None and test.tasks_needed is not None and test.tasks < test.tasks_needed:
            p = f"{NOT_ATTAINABLE} with fewer than {test.tasks_needed} tasks"
        notes.append(
            f"Friedman, {test.protocol}: {p} that the {test.methods} compressed models rank alike on "
            f"{test.tasks} tasks. It knows nothing of seeds, and its χ² is rough for so few tasks."
        )
    caption = "Tests over tasks, from one number for each."
    return Table(title, caption, columns, tuple(rows), tuple(notes), identity=("family", "method", "variant"))


def aggregates_table(plan: Plan, results: SignificanceResults, title: str) -> Table:
    """The interquartile mean of what each method keeps of the predecessor."""
    columns = (
        Column("tasks", "Tasks", decimals=0),
        Column("runs", "Runs", decimals=0),
        Column("interquartile_mean", "Kept", ("% of the predecessor",)),
    )
    rows = []
    for row in results.aggregates:
        cells: tuple[Cell, ...] = (Cell(float(row.tasks)), Cell(float(row.runs)), Cell(row.interquartile_mean))
        rows.append(Row(label_of_name(plan, row.name), cells, _identity(row.name)))
    notes = (
        "Interquartile mean: of all runs over tasks and seeds, each as a share of the predecessor's mean on its task, "
        "the mean of the middle half (Agarwal et al. 2021). It has no interval: with few seeds theirs covers too "
        "little.",
    )
    caption = "What is kept of the predecessor."
    return Table(title, caption, columns, tuple(rows), notes, identity=("method", "variant"))


def _permutation(row: Difference, alpha: float) -> Cell:
    if row.sign_flip is not None:
        return Cell(row.sign_flip, value_text=_small_p(row.sign_flip))
    smallest_p = min(1.0, 2 / 2**row.seeds_differing)
    reason = f"the smallest p of {row.seeds_differing} seeds that differ is {smallest_p:g}; "
    reason += f"{row.seeds_needed} could reach {alpha:g}"
    return Cell(NOT_ATTAINABLE, notes=(reason,))


def _p_cell(p: float | None, reason: str) -> Cell:
    return Cell(None, notes=(reason,)) if p is None else Cell(p, value_text=_small_p(p))


def _mcnemar_text(row: Difference) -> str:
    return ", ".join(f"{_small_p(p) or format(p, '.3f')}" for p in row.mcnemar.values())


def _small_p(p: float | None) -> str:
    """How a small p is shown; '' for one that is shown as any number."""
    return "< 0.001" if p is not None and p < 0.001 else ""


def _target_label(plan: Plan, target: str) -> str:
    return MACRO_LABELS.get(target) or plan.tasks[target].label


def _identity(name: str) -> tuple[str, str]:
    run_name = RunName.parse(name)
    return run_name.method, run_name.variant
