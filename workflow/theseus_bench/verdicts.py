"""Whether what the papers print is reproduced: number by number, and claim by claim.

A number is *reproduced* or *within tolerance* by the rule in the suite's configuration, else
*not reproduced*. It is *not comparable* where the suite has another backbone or other data, or the number is of another
kind, and *not run* where ours is missing. Dev is only ever compared with dev, test with test. A compressed model is
compared with the printed one of the same method, variant and share of the backbone's layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import pandas as pd

from theseus_bench.naming import ADAPTED, EQUAL, join_name, protocol_of, read_part, split_name
from theseus_bench.plan import Plan
from theseus_bench.published import PUBLISHED_FOLDER, Claim, Paper, PublishedRow, PublishedTable, load_published
from theseus_bench.table_formats import Cell, Column, Row, Table, series, signed
from theseus_bench.tables import CHOSEN_ON_DEV
from theseus_bench.tasks import METRIC_NAMES, Task

REPRODUCED, WITHIN, NOT_REPRODUCED = "reproduced", "within tolerance", "not reproduced"
NOT_COMPARABLE, NOT_RUN = "not comparable", "not run"
HOLDS, FAILS = "holds", "does not hold"
SCORE = "score"
Kind = tuple[str, tuple[str, ...], Fraction | None]
Values = dict[tuple[str, str, str, str, str], pd.Series]


@dataclass(frozen=True)
class Verdict:
    """One printed number beside ours, in points. `what` is a task's name or 'macro'."""

    table: str
    name: str  # of our runs
    what: str
    metric: str  # 'score', or the one metric that is printed
    printed: float
    ours: float | None
    seeds: int
    verdict: str
    reason: str
    split: str = ""  # the one that is printed, of a task with several; '' for all of them


def judge_numbers(plan: Plan, experiment: str, scores: pd.DataFrame) -> list[Verdict]:
    """A verdict on every number that the experiment's `compare_with` tables print for one of its rows.

    `scores` is the tidy frame of theseus_bench.scores.
    """
    values = _indexed(scores)
    verdicts = []
    for key, (paper, table) in _compared(plan, experiment).items():
        for name in plan.experiment_names(experiment):
            for row_name, row in table.rows.items():
                if _kind(plan, name) in counterparts(plan, paper, row_name):
                    verdicts += _judge_row(plan, experiment, values, key, paper, table, row, name)
    return verdicts


def counterparts(plan: Plan, paper: Paper, row: str) -> set[Kind]:
    """What of ours a published row is compared with, under any protocol."""
    names = [name for spec in plan.specs.values() for name in spec.published.get(row, [])]
    return {_printed_kind(plan, paper, name) for name in names}


def judge_claims(plan: Plan, experiment: str, scores: pd.DataFrame, speed: dict) -> list[tuple[Claim, str, str, str]]:
    """(claim, protocol, verdict, what was seen) of every claim whose runs the experiment has.

    Only claims of the tables that the experiment is compared with. A claim about an order is judged on the macro score
    (mean over the experiment's tasks of the medians over seeds); the same without CoLA, on which half of the paper's
    gain rests, and the number of seeds in which the order holds are said beside it. `speed` is '<method>[@variant]' →
    speed-up and interval.
    """
    values = _indexed(scores)
    judged = []
    for paper, table in _compared(plan, experiment).values():
        for claim in paper.claims:
            for protocol in plan.suite.experiments[experiment].protocols:
                groups = [_asked(plan, experiment, paper, names, protocol) for names in claim.models]
                if claim.table == table.table and all(groups):
                    adapted = any(plan.is_adapted(name) for group in groups for name in group)
                    word = ADAPTED if adapted else protocol
                    judged.append((claim, word, *_judge_claim(plan, experiment, values, speed, claim, groups)))
    return judged


def verdicts_table(plan: Plan, verdicts: list[Verdict], title: str) -> Table:
    """Ours beside the printed numbers; why a verdict is what it is, and what printed the number, as footnotes."""
    columns = (
        Column("task", "Task", text=True),
        Column("metric", "Metric", text=True),
        Column("printed", "Printed", ("points",)),
        Column("ours", "Ours", ("points",)),
        Column("difference", "Difference", ("points",)),
        Column("seeds", "Seeds", decimals=0),
        Column("verdict", "Verdict", fields=("reason",), text=True),
    )
    published = list(dict.fromkeys(v.table for v in verdicts))
    rows = []
    for v in verdicts:
        method, parts = split_name(v.name)
        variant = "+".join(parts)
        why = (v.reason,) if v.reason else ()
        difference = None if v.ours is None else v.ours - v.printed
        cells = (
            Cell(plan.tasks[v.what].label if v.what in plan.tasks else v.what),
            Cell(METRIC_NAMES.get(v.metric, v.metric) + (f" ({v.split})" if v.split else "")),
            Cell(v.printed, notes=(f"printed in {v.table}",) if len(published) > 1 else ()),
            Cell(v.ours, notes=why if v.ours is None else ()),
            Cell("") if difference is None else Cell(difference, signed(difference)),
            Cell(float(v.seeds)),
            Cell(v.verdict, notes=why, data={"reason": v.reason}),
        )
        label = plan.run(v.name, plan.trained_tasks[0], 0).label
        rows.append(Row(label, cells, (method, variant, v.table), v.verdict.replace(" ", "-")))
    rule = plan.suite.verdicts
    by_task = "".join(f", {points:g} on {plan.tasks[name].label}" for name, points in rule.tolerance_by_task.items())
    notes = (
        f"Reproduced: within {rule.reproduced:g} points of the printed number; within tolerance: within "
        f"{rule.tolerance:g}{by_task}; the rule is in the configuration.",
        CHOSEN_ON_DEV,
        "Ours: median over the seeds; a macro is the mean of the medians of the tasks that are printed.",
    )
    caption = (
        f"Ours beside the numbers of {published[0]}." if len(published) == 1 else "Ours beside the printed numbers."
    )
    return Table(title, caption, columns, tuple(rows), notes, identity=("method", "variant", "published"))


def claims_table(judged: list[tuple[Claim, str, str, str]], title: str) -> Table:
    """The papers' claims, each with what speaks for and against it here."""
    columns = (
        Column("verdict", "Verdict", text=True),
        Column("protocol", "Protocol", text=True),
        Column("seen", "Seen here", text=True),
    )
    rows = [
        Row(
            f"{claim.claim} ({claim.table})",
            (Cell(verdict), Cell(protocol), Cell(seen)),
            (claim.claim, claim.table),
            verdict.replace(" ", "-"),
        )
        for claim, protocol, verdict, seen in judged
    ]
    notes = (
        "A claim is judged by the medians alone, on this suite's own backbone and data; in how many seeds it holds "
        "says how sure that is. Shares are rounded to whole per cent and speed-ups to two decimals, as printed.",
    )
    if any(protocol != EQUAL for _, protocol, _, _ in judged):
        notes += (CHOSEN_ON_DEV,)
    caption = "Claims about directions, and where they are printed."
    return Table(title, caption, columns, tuple(rows), notes, stub="Claim", identity=("claim", "published"))


def _judge_row(
    plan: Plan,
    experiment: str,
    scores: Values,
    key: str,
    paper: Paper,
    table: PublishedTable,
    row: PublishedRow,
    name: str,
) -> Iterator[Verdict]:
    asked = {task.name for task in plan.experiment_tasks(plan.suite.experiments[experiment])}
    seeds = len(plan.experiment_seeds(plan.suite.experiments[experiment]))
    ours: dict[str, pd.Series] = {}
    for task_name, printed in row.scores.items():
        if task_name not in asked:
            continue
        task = plan.tasks[task_name]
        numbers = printed if isinstance(printed, list) else [printed]
        for number, (splits, metric) in zip(numbers, _measured(task, table.split, row, numbers), strict=True):
            values = _by_seed(scores, name, task_name, splits, metric)
            value = float(values.median()) if len(values) else None
            if value is not None and metric == SCORE:
                ours[task_name] = values
            tolerance = plan.suite.verdicts.tolerance_by_task.get(task_name, plan.suite.verdicts.tolerance)
            reason = _incomparable(plan, paper, table, name, [task])
            missing = "the labels are the GLUE server's" if table.split == "test" else "no run of it has a score"
            verdict = _verdict(plan, number, value, len(values), seeds, tolerance, reason, missing)
            split = splits[0] if len(task.dev) > 1 and len(splits) == 1 and splits != ["dev"] else ""
            yield Verdict(key, name, task_name, metric, number, value, len(values), *verdict, split)
    if row.macro is not None and table.split == "dev" and row.scores.keys() <= asked:
        complete = ours.keys() == row.scores.keys()
        value = sum(float(values.median()) for values in ours.values()) / len(ours) if complete else None
        fewest = min(len(values) for values in ours.values()) if complete else 0
        reason = _incomparable(plan, paper, table, name, [plan.tasks[task] for task in row.scores])
        rule = plan.suite.verdicts.tolerance
        verdict = _verdict(plan, row.macro, value, fewest, seeds, rule, reason, "a task is missing")
        yield Verdict(key, name, "macro", SCORE, row.macro, value, fewest, *verdict)


def _measured(task: Task, split: str, row: PublishedRow, numbers: list[float]) -> list[tuple[list[str], str]]:
    """The splits and the metric of each printed number."""
    if split == "dev":
        metric = row.metrics.get(task.name, SCORE)
        splits = [row.splits[task.name]] if task.name in row.splits else task.dev
        return [(["dev"] if metric == SCORE else splits, metric)]
    if len(task.test) > 1:
        return [([name], task.metrics[0]) for name in task.test]
    return [(task.test, metric) for metric in task.metrics[: len(numbers)]]


def _indexed(scores: pd.DataFrame) -> Values:
    """The tidy scores by method, variant, task, split and metric, a series over the seeds each: often looked up."""
    variants = scores["variant"].fillna("")
    found: dict[tuple[str, str, str, str, str], dict[int, float]] = {}
    columns = (scores["method"], variants, scores["task"], scores["split"], scores["metric"])
    for *key, seed, value in zip(*columns, scores["seed"], scores["value"], strict=True):
        found.setdefault(tuple(key), {})[seed] = value
    return {key: pd.Series(by_seed, dtype=float) for key, by_seed in found.items()}


def _by_seed(scores: Values, name: str, task: str, splits: list[str], metric: str) -> pd.Series:
    """Our value of each seed, the mean over the splits."""
    method, parts = split_name(name)
    keys = [(method, "+".join(parts), task, split, metric) for split in splits]
    found = [scores[key] for key in keys if key in scores]
    if len(found) == 1:
        return found[0].dropna()
    return pd.concat(found).groupby(level=0).mean().dropna() if found else pd.Series(dtype=float)


def _incomparable(plan: Plan, paper: Paper, table: PublishedTable, name: str, tasks: list[Task]) -> str:
    """Why ours and the printed number are of different things; '' if they are of the same."""
    suite = plan.suite
    compact = suite.compact.get(split_name(name)[0])
    samples = [task.label for task in tasks if plan.is_sample(task.name)]
    if suite.data.source == "demo":
        return "generated sentences"
    if suite.backbone.name != paper.backbone:
        return f"another backbone than {paper.backbone}"
    if plan.is_adapted(name):
        return "the suite's settings change its recipe"
    if compact is not None and compact.source == "recipe":
        return "its compact checkpoint was made here, not published"
    if samples:
        return f"the data of {', '.join(samples)} is a sample"
    if table.statistic == "best":
        return "the printed number is the best of its runs, ours their median"
    return ""


def _verdict(
    plan: Plan, printed: float, ours: float | None, seeds: int, asked: int, tolerance: float, reason: str, missing: str
) -> tuple[str, str]:
    """The verdict and its reason."""
    if ours is None:
        return NOT_RUN, missing
    few = f"{seeds} of {asked} seeds" if seeds < asked else ""
    if reason:
        return NOT_COMPARABLE, "; ".join(filter(None, [reason, few]))
    difference = round(abs(ours - printed), 6)  # 82.3 − 81.8 is 0.5
    if difference <= plan.suite.verdicts.reproduced:
        return REPRODUCED, few
    return (WITHIN if difference <= tolerance else NOT_REPRODUCED), few


def _asked(plan: Plan, experiment: str, paper: Paper, names: list[str], protocol: str) -> list[str]:
    """Those of the paper's `names` that the experiment has under the protocol; a control is the same under each."""
    wanted = {_printed_kind(plan, paper, name) for name in names}
    return [
        name
        for name in plan.experiment_names(experiment)
        if _kind(plan, name) in wanted
        and (protocol_of(name.partition("@")[2]) == protocol or not plan.specs[split_name(name)[0]].trained)
    ]


def _judge_claim(
    plan: Plan, experiment: str, scores: Values, speed: dict, claim: Claim, groups: list[list[str]]
) -> tuple[str, str]:
    tasks = [task.name for task in plan.experiment_tasks(plan.suite.experiments[experiment]) if task.macro]
    if not tasks:
        return NOT_RUN, "no task of it counts in the macro"
    labels = [plan.tasks[task].label for task in tasks]
    where = f"mean of {series(labels)}" if len(tasks) > 1 else labels[0]
    names = [max(group, key=lambda name: _macro(scores, name, tasks)) for group in groups]
    macros = [_macro(scores, name, tasks) for name in names]
    if not all(macro > float("-inf") for macro in macros):
        return NOT_RUN, "a task of it has no score"
    if claim.retains is not None:
        if macros[1] <= 0:
            return NOT_RUN, f"{where}: nothing to retain of {macros[1]:.1f} points"
        share = macros[0] / macros[1]
        faster = (speed.get(names[0]) or {}).get("speedup")
        times = "its speed was not measured" if faster is None else f"{faster:.2f} times its speed"
        seen = f"{where}: {100 * share:.1f} % of {macros[1]:.1f} points, {times}"
        enough = round(share, 2) >= claim.retains
        if claim.speedup is not None:
            if faster is None:
                return NOT_RUN, seen
            enough &= round(faster, 2) >= claim.speedup
        return (HOLDS if enough else FAILS), seen
    seen = f"{where}: {', '.join(f'{macro:.1f}' for macro in macros)}"
    rest = [task for task in tasks if task != "cola"]
    if rest and rest != tasks:
        seen += f"; without CoLA {', '.join(f'{_macro(scores, name, rest):.1f}' for name in names)}"
    by_seed = _seeds_in_order(scores, names, tasks)
    return (HOLDS if _falling(macros) else FAILS), f"{seen}; in {sum(by_seed)} of {len(by_seed)} seeds"


def _macro(scores: Values, name: str, tasks: list[str]) -> float:
    """The mean over tasks of our medians; −∞ where one is missing."""
    medians = [_by_seed(scores, name, task, ["dev"], SCORE).median() for task in tasks]
    return sum(medians) / len(medians) if medians and not pd.isna(medians).any() else float("-inf")


def _seeds_in_order(scores: Values, names: list[str], tasks: list[str]) -> list[bool]:
    """For each seed that all of `names` have on all tasks, whether their macros fall."""
    frames = [pd.DataFrame({task: _by_seed(scores, name, task, ["dev"], SCORE) for task in tasks}) for name in names]
    macros = pd.concat([frame.dropna().mean(axis=1) for frame in frames], axis=1).dropna()
    return [_falling(list(row)) for row in macros.to_numpy()]


def _falling(values: list[float]) -> bool:
    return all(a > b for a, b in itertools.pairwise(values))


def _compared(plan: Plan, experiment: str) -> dict[str, tuple[Paper, PublishedTable]]:
    """The published tables that the experiment is compared with."""
    wanted = plan.suite.experiments[experiment].compare_with
    published = load_published(PUBLISHED_FOLDER) if wanted else {}
    return {key: published[key] for key in wanted}


def _kind(plan: Plan, name: str) -> Kind:
    """What a run of ours is, whatever the protocol: method, parts but for the depth, and share of the layers."""
    layers = plan.run(name, plan.trained_tasks[0], 0).settings["layers"]
    method, parts = split_name(name)
    rest = tuple(part for part in parts if part != EQUAL and not part.startswith("layers="))
    return method, rest, Fraction(layers, plan.suite.backbone.layers) if plan.specs[method].compressed else None


def _printed_kind(plan: Plan, paper: Paper, name: str) -> Kind:
    """What a run that a paper prints is, by the name that we have for it."""
    method, parts = split_name(join_name(*split_name(name)))
    depth = next((read_part(part)[1] for part in parts if part.startswith("layers=")), paper.compressed_layers)
    rest = tuple(part for part in parts if not part.startswith("layers="))
    return method, rest, Fraction(depth, paper.layers) if plan.specs[method].compressed else None
