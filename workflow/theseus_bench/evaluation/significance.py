"""Which differences between the methods of an experiment are more than chance, from the saved predictions.

The primary family, within a protocol: the macro difference of every proposed method and every baseline, like with like,
that is of the same settings in what the experiment varies, as near as it has that. Each pair once. Secondary are the
other macro differences (all with a control, and what the papers' claims compare), the macro without CoLA, and the
differences task by task. A difference belongs to one family, in one experiment, the first that has it; within its
family p is adjusted by Holm, and its interval holds together with the others'. Which these are: families.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from theseus_bench.data.metrics import decide
from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.evaluation import statistics
from theseus_bench.evaluation.families import Family, common_tasks, further_proposal, list_families, macro_tasks
from theseus_bench.evaluation.pairs import Comparison, list_comparisons
from theseus_bench.evaluation.resampling import resample_task
from theseus_bench.evaluation.scores import majority_decisions, read_scores
from theseus_bench.evaluation.significance_file import save_significance
from theseus_bench.evaluation.statistics import FEWEST
from theseus_bench.evaluation.variances import list_pools, moderate_seeds
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import read_predictions, read_record
from theseus_bench.suite.run_names import RunName

THRESHOLDS = np.arange(50.0, 110.5, 0.5)  # of the performance profile, % of the predecessor
UNTESTED = ("error", "df", "p", "p_holm", "low", "high")  # null in the row of a difference that is not tested
Row = dict[str, Any]  # of the file, key by key
Scores = dict[tuple[str, str], dict[int, float]]  # points by seed, by run's name and task
Spreads = dict[tuple[Comparison, str], statistics.Spread]  # by comparison and task
SIGNED = {"matthews", "pearson", "spearman"}  # the metrics that go down to −100 points


def write_significance(plan: Plan, experiment: str, folder: Path, workers: int = 1) -> None:
    """Test the experiment's differences, into `folder`/significance/<experiment>.json.

    The file holds `differences` (a comparison on a task or a macro: see `_on_task` and `_on_macro`), `ranks` (a
    comparison over the tasks), `friedman` (a protocol's methods over the tasks) and `aggregates` (a method over tasks
    and seeds). Differences are in points, of means over the seeds of either.
    """
    scores = seed_scores(plan, experiment, folder)
    comparisons = list_comparisons(plan, experiment)
    tasks = plan.experiment_tasks(plan.suite.experiments[experiment])
    with ThreadPoolExecutor(workers) as pool:  # numpy lets go of the interpreter while it draws and multiplies
        by_task = list(pool.map(lambda task: _on_task(plan, experiment, task, scores, comparisons, folder), tasks))
    rows = [row for rows, _ in by_task for row in rows]
    spreads = {key: spread for _, spreads in by_task for key, spread in spreads.items()}
    rows += _on_macro(plan, experiment, comparisons, rows, spreads)
    rows = _adjust(plan, experiment, rows)
    result = {
        "alpha": plan.suite.significance.alpha,
        "resamples": plan.suite.significance.resamples,
        "differences": rows,
        "ranks": _over_tasks(plan, experiment, scores, comparisons),
        "friedman": _friedman(plan, experiment, scores),
        "aggregates": _aggregates(plan, experiment, scores),
    }
    save_significance(experiment, folder, result)


def seed_scores(plan: Plan, experiment: str, folder: Path) -> Scores:
    """Dev score (points) by seed, for each run's name and task of an experiment, as its scores file has them."""
    frame = read_scores(experiment, folder)
    frame = frame[(frame["split"] == "dev") & (frame["metric"] == "score")].dropna(subset=["value"])
    scores: Scores = {}
    for row in frame.itertuples():
        name = str(RunName.of(row.method, row.variant))
        scores.setdefault((name, row.task), {})[int(row.seed)] = round(float(row.value), 9)  # equal is equal
    return scores


def _on_task(
    plan: Plan, experiment: str, task: Task, scores: Scores, comparisons: list[Comparison], folder: Path
) -> tuple[list[Row], Spreads]:
    """Rows of a task, and the parts of each tested difference's variance for the macro, by (comparison, task).

    A row has the comparison; `what`, the task; `seeds`, the fewer that either has; `difference`, `error`, `df` and `p`
    (statistics.conclude). From FEWEST seeds on it also has, over seeds, `welch` (p), `sign_flip` (p, of the seeds that
    both have), `differing` (on how many of these the two differ), `needed` (how many such could reach α), `hedges_g`
    and `improvement`; and for an accuracy `mcnemar`, p by seed. Below, its tests are null.
    """
    compared_names = dict.fromkeys(name for pair in comparisons for name in (pair.name, pair.other))
    runs = [
        plan.run(name, task.name, seed) for name in compared_names for seed in sorted(scores.get((name, task.name), {}))
    ]
    if not runs:
        return [], {}
    decisions, labels = read_decisions(runs, folder)
    rows: list[Row] = []
    spreads: Spreads = {}
    resamples = resample_task(task, decisions, labels, plan.suite.significance.resamples)
    column_of = {(run.name, run.seed): i for i, run in enumerate(runs)}
    examples = sum(map(len, labels.values()))
    variances = moderate_task(plan, experiment, task.name, scores)
    for pair in comparisons:
        names = pair.name, pair.other
        seeds = [sorted(scores.get((name, task.name), {})) for name in names]
        first, second = (
            np.array([scores[name, task.name][seed] for seed in name_seeds])
            for name, name_seeds in zip(names, seeds, strict=True)
        )
        if not min(map(len, seeds)):
            continue
        row = asdict(pair) | {"what": task.name, "seeds": min(map(len, seeds))}
        row |= {"difference": float(first.mean() - pair.share * second.mean())} | dict.fromkeys(UNTESTED)
        rows.append(row)
        if row["seeds"] < FEWEST:
            continue
        columns = [
            [column_of[name, seed] for seed in name_seeds] for name, name_seeds in zip(names, seeds, strict=True)
        ]
        tables = resamples[:, columns[0]], resamples[:, columns[1]]
        seed_variances = variances[pair.name], variances[pair.other]
        spread = statistics.spread_of((first, second), tables, seed_variances, examples, pair.share)
        spreads[pair, task.name] = spread
        row |= asdict(statistics.conclude([spread]))
        if pair.share != 1:
            continue
        common_seeds = sorted(set(seeds[0]) & set(seeds[1]))
        seed_differences = [
            scores[pair.name, task.name][seed] - scores[pair.other, task.name][seed] for seed in common_seeds
        ]
        row |= _over_seeds(plan, np.array(seed_differences), first, second)
        if "accuracy" in task.metrics:
            right = {split: decisions[split] == labels[split] for split in task.dev}
            pairs = [(column_of[pair.name, seed], column_of[pair.other, seed]) for seed in common_seeds]
            row["mcnemar"] = {
                str(seed): statistics.mcnemar(*(np.hstack([right[split][i] for split in task.dev]) for i in ends))
                for seed, ends in zip(common_seeds, pairs, strict=True)
            }
    return rows, spreads


def moderate_task(plan: Plan, experiment: str, task: str, scores: Scores) -> dict[str, statistics.SeedVariance]:
    """The variance over seeds of each method of the experiment that has two on the task, moderated by its pool."""
    of_task = {name: np.array(list(seeds.values())) for (name, other), seeds in scores.items() if other == task}
    return moderate_seeds(list_pools(plan, plan.experiment_names(experiment), task), of_task)


def read_decisions(runs: list[Run], folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What runs of one task decided on its dev splits, and the labels: (runs, examples) and (examples,) by split.

    A run that was never evaluated decides for the majority, whose score it has.
    """
    decisions: dict[str, list[np.ndarray]] = {split: [] for split in runs[0].task.dev}
    labels: dict[str, np.ndarray] = {}
    for run in runs:
        predictions = read_predictions(folder / run.path, run.task.dev)
        record = read_record(folder / run.path)
        majority = record.majority_score if record is not None and record.dev_score is None else None
        for split in run.task.dev:
            truth = predictions[split].labels
            if not np.array_equal(labels.setdefault(split, truth), truth):
                raise UserError(
                    f"{folder / run.path}: its {split} examples are not those of the other runs of {run.task.label}"
                )
            classes = decide(predictions[split].logits, run.task)
            decisions[split].append(classes if majority is None else majority_decisions(run.task, truth, majority))
    return {split: np.stack(values) for split, values in decisions.items()}, labels


def _over_seeds(plan: Plan, differences: np.ndarray, first: np.ndarray, second: np.ndarray) -> Row:
    pairs_needed = statistics.pairs_needed(plan.suite.significance.alpha)
    pairs_differing = int(np.count_nonzero(differences))
    return {
        "welch": statistics.welch(first, second),
        "sign_flip": statistics.sign_flip(differences) if pairs_differing >= pairs_needed else None,
        "differing": pairs_differing,
        "needed": pairs_needed,
        "hedges_g": statistics.hedges_g(first, second),
        "improvement": statistics.improvement([first], [second]),
    }


def _on_macro(
    plan: Plan, experiment: str, comparisons: list[Comparison], rows: list[Row], spreads: Spreads
) -> Iterator[Row]:
    """Rows of the macro scores, for the comparisons that have every task of them."""
    on_task = {(row["name"], row["other"], row["share"], row["what"]): row for row in rows}
    for target, names in macro_tasks(plan, experiment).items():
        for pair in comparisons:
            keys = [(pair.name, pair.other, pair.share, task) for task in names]
            if not all(key in on_task for key in keys):
                continue
            task_rows = [on_task[key] for key in keys]
            row = asdict(pair) | {"what": target, "seeds": min(task_row["seeds"] for task_row in task_rows)}
            row |= dict.fromkeys(UNTESTED)
            row["difference"] = float(np.mean([task_row["difference"] for task_row in task_rows]))
            if row["seeds"] >= FEWEST:
                row |= asdict(statistics.conclude([spreads[pair, task] for task in names]))
            yield row


def _adjust(plan: Plan, experiment: str, rows: list[Row]) -> list[Row]:
    """The rows that are reported, each with its `family` of so many `tests`, Holm's p and the interval within that.

    What is tested in another experiment, `tested_in`, has no p here, and 0 tests.
    """
    families = list_families(plan, experiment)
    tests = Counter(families.values())
    members: dict[Family, list[Row]] = {}
    reported_rows = []
    for row in rows:
        pair = Comparison(*(row[field.name] for field in fields(Comparison)))
        if (family := families.get((pair, row["what"]))) is None:
            continue
        reported_rows.append(row)
        row |= {"family": family.name, "tested_in": family.experiment, "tests": 0}
        if family.experiment != experiment:
            row["p"] = None
        elif row["p"] is not None:
            members.setdefault(family, []).append(row)
    macros = macro_tasks(plan, experiment)
    for family, family_rows in members.items():
        conclusions = [
            statistics.Conclusion(*(row[key] for key in ("difference", "error", "df", "p"))) for row in family_rows
        ]
        bounds = [_bounds(plan, macros.get(row["what"], [row["what"]]), row["share"]) for row in family_rows]
        alpha = plan.suite.significance.alpha
        p_values, intervals = statistics.adjust_family(conclusions, alpha, bounds, tests[family])
        for row, p, (low, high) in zip(family_rows, p_values, intervals, strict=True):
            row |= {"p_holm": p, "low": low, "high": high, "tests": tests[family]}
    return reported_rows


def score_bounds(plan: Plan, names: list[str]) -> tuple[float, float]:
    """The least and the most that a mean score of these tasks can be, in points."""
    lowest = [np.mean([-100.0 * (metric in SIGNED) for metric in plan.tasks[name].metrics]) for name in names]
    return float(np.mean(lowest)), 100.0


def _bounds(plan: Plan, names: list[str], share: float) -> tuple[float, float]:
    """The least and the most that a difference of mean scores of these tasks can be, in points."""
    low, high = score_bounds(plan, names)
    return low - share * high, high - share * low


def _over_tasks(plan: Plan, experiment: str, scores: Scores, comparisons: list[Comparison]) -> list[Row]:
    """Each comparison over the macro's tasks that both have: Wilcoxon on means, and probability of improvement.

    Holm goes over the comparisons of a kind and protocol, a further proposal's apart; `needed` is the number of tasks
    with which the first of them could be significant at all. Where there are fewer `wilcoxon_holm` is null, and below
    FEWEST seeds `wilcoxon` too.
    """
    tests: Counter[tuple[Any, ...]] = Counter()
    families: dict[tuple[Any, ...], list[Row]] = {}
    for pair in comparisons:
        macro = [task for task in common_tasks(plan, experiment, pair) if plan.tasks[task].macro]
        if not macro or not (pair.primary or pair.control):
            continue
        key = pair.primary, RunName.parse(pair.name).protocol, further_proposal(plan, experiment, pair.name)
        tests[key] += 1
        tasks = [task for task in macro if (pair.name, task) in scores and (pair.other, task) in scores]
        if not tasks:
            continue
        first, second = ([np.array(list(scores[name, t].values())) for t in tasks] for name in (pair.name, pair.other))
        differences = np.array([a.mean() - b.mean() for a, b in zip(first, second, strict=True)]).round(9)
        row = asdict(pair) | {"tasks": len(tasks), "differing": int(np.count_nonzero(differences))}
        row["seeds"] = min(map(len, first + second))
        row["difference"] = float(np.median(differences))
        row["wilcoxon"] = statistics.signed_ranks(differences) if row["seeds"] >= FEWEST else None
        row["improvement"] = statistics.improvement(first, second)
        families.setdefault(key, []).append(row)
    for key, family in families.items():
        p_values = statistics.holm([1.0 if row["wilcoxon"] is None else row["wilcoxon"] for row in family], tests[key])
        for row, p in zip(family, p_values, strict=True):
            row["needed"] = statistics.pairs_needed(plan.suite.significance.alpha, tests[key])
            row["wilcoxon_holm"] = p if row["wilcoxon"] is not None and row["differing"] >= row["needed"] else None
    return [row for family in families.values() for row in family]


def _friedman(plan: Plan, experiment: str, scores: Scores) -> list[Row]:
    """Friedman's test of the compressed methods of each protocol, on means over the tasks that all of them have.

    Its p is null below FEWEST `seeds`, the fewest that a method has on a task.
    """
    rows, alpha = [], plan.suite.significance.alpha
    for protocol in plan.suite.experiments[experiment].protocols:
        names = [name for name in plan.experiment_names(experiment) if plan.spec_of(name).compressed]
        names = [name for name in names if RunName.parse(name).protocol == protocol]
        tasks = [t for t, task in plan.tasks.items() if task.macro and all((name, t) in scores for name in names)]
        values = [[list(scores[name, task].values()) for name in names] for task in tasks]
        seeds = min((len(one) for row in values for one in row), default=0)
        means = [[round(float(np.mean(one)), 9) for one in row] for row in values]
        p = statistics.friedman(np.array(means)) if seeds >= FEWEST else None
        tasks_needed = statistics.tasks_needed(alpha, len(names)) if len(names) > 1 else None
        row = {"protocol": protocol, "methods": len(names), "tasks": len(tasks), "seeds": seeds}
        rows.append(row | {"needed": tasks_needed, "p": p})
    return rows


def _aggregates(plan: Plan, experiment: str, scores: Scores) -> list[Row]:
    """Each method's runs as shares (%) of the predecessor's mean on their task: interquartile mean and profile.

    Over the macro's tasks on which the predecessor has a score above zero; a method that lacks one of them is left out.
    """
    macro = [task.name for task in plan.experiment_tasks(plan.suite.experiments[experiment]) if task.macro]
    rows = []
    for name in plan.experiment_names(experiment):
        teacher = plan.teacher_name(name)
        teacher_means = {t: float(np.mean(list(scores.get((teacher, t), {0: 0.0}).values()))) for t in macro}
        tasks = [task for task in macro if teacher_means[task] > 0]
        if not tasks or any((name, task) not in scores for task in tasks):
            continue
        runs = {task: np.array(list(scores[name, task].values())) for task in tasks}
        shares = [np.round(100 * runs[task] / teacher_means[task], 9) for task in tasks]  # equal is 100
        row = {"name": name, "tasks": len(tasks), "runs": sum(map(len, shares))}
        row["interquartile_mean"] = statistics.interquartile_mean(shares)
        row["profile"] = statistics.performance_profile(shares, THRESHOLDS).tolist()
        rows.append(row)
    return rows
