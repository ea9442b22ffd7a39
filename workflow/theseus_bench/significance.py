"""Which differences between the methods of an experiment are more than chance, from the saved predictions.

Two families of comparisons are declared: every trained method with one named control, and every proposed method with
every baseline, like with like: of the same protocol, and of the same settings in what the experiment varies, as near as
it has that. Within each family, protocol by protocol, p is adjusted by Holm over all methods and tasks; the macro
scores are families of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from theseus_bench import inference
from theseus_bench.errors import UserError
from theseus_bench.metrics import decide
from theseus_bench.naming import EQUAL, join_name, protocol_of, split_name
from theseus_bench.plan import Plan, Run
from theseus_bench.records import read_predictions, write_json
from theseus_bench.resampling import resample_task
from theseus_bench.scores import read_scores
from theseus_bench.tasks import Task

CONTROL, BASELINE = "control", "baseline"  # the families: against the control, against the baselines
MACROS = {"macro": lambda task: task.macro, "macro_without_cola": lambda task: task.macro and task.name != "cola"}
THRESHOLDS = np.arange(50.0, 110.5, 0.5)  # of the performance profile, % of the predecessor


@dataclass(frozen=True)
class Comparison:
    """A run's name beside the one that it is compared with, in one of the families."""

    family: str
    name: str
    other: str


def write_significance(plan: Plan, experiment: str, folder: Path, workers: int = 1) -> None:
    """Test the experiment's differences, into `folder`/significance/<experiment>.json.

    The file holds `differences` (a comparison on a task or a macro: see `_on_task` and `_on_macro`), `ranks` (a
    comparison over the tasks), `friedman` (a protocol's methods over the tasks) and `aggregates` (a method over tasks
    and seeds). Differences are in points, first minus other, of means over the seeds that both have.
    """
    scores = seed_scores(plan, experiment, folder)
    comparisons = compared(plan, experiment)
    tasks = plan.experiment_tasks(plan.suite.experiments[experiment])
    with ThreadPoolExecutor(workers) as pool:  # numpy lets go of the interpreter while it draws and multiplies
        found = list(pool.map(lambda task: _on_task(plan, task, scores, comparisons, folder), tasks))
    rows = [row for rows, _ in found for row in rows]
    spreads = {key: spread for _, spreads in found for key, spread in spreads.items()}
    rows += _on_macro(plan, tasks, comparisons, spreads)
    _adjust(rows)
    result = {
        "alpha": plan.suite.significance.alpha,
        "resamples": plan.suite.significance.resamples,
        "differences": rows,
        "ranks": _over_tasks(plan, scores, comparisons),
        "friedman": _friedman(plan, experiment, scores),
        "aggregates": _aggregates(plan, experiment, scores),
    }
    write_json(folder / "significance" / f"{experiment}.json", result)


def seed_scores(plan: Plan, experiment: str, folder: Path) -> dict[tuple[str, str], dict[int, float]]:
    """Dev score (points) by seed, for each run's name and task of an experiment, as its scores file has them."""
    frame = read_scores(experiment, folder)
    frame = frame[(frame["split"] == "dev") & (frame["metric"] == "score")].dropna(subset=["value"])
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in frame.itertuples():
        name = f"{row.method}@{row.variant}" if row.variant else row.method
        found.setdefault((name, row.task), {})[int(row.seed)] = round(float(row.value), 9)  # equal is equal
    return found


def compared(plan: Plan, experiment: str) -> list[Comparison]:
    """The comparisons of both families that an experiment's methods allow, in the order of its table."""
    names = plan.experiment_names(experiment)
    trained = [name for name in names if _role(plan, name) != "control"]
    found = [Comparison(CONTROL, name, _nearest(plan, name, _controls(plan, experiment, name))) for name in trained]
    for name in trained:
        if _role(plan, name) == "proposed":
            kinds: dict[tuple, list[str]] = {}
            for other in names:
                if _role(plan, other) == "baseline":
                    kinds.setdefault(_kind(plan, other, name), []).append(other)
            found += [Comparison(BASELINE, name, _nearest(plan, name, others)) for others in kinds.values()]
    return [comparison for comparison in found if comparison.other]


def _controls(plan: Plan, experiment: str, name: str) -> list[str]:
    """Those of an experiment's names that are its control, under any protocol; the suite's control in every version.

    A control that the experiment itself names is that very run.
    """
    names, named = plan.experiment_names(experiment), plan.suite.experiments[experiment].control
    if named is None:
        kind = _kind(plan, plan.suite.significance.control, name)
        return [other for other in names if _kind(plan, other, name) == kind]
    method, parts = split_name(plan.canonical(named))
    return [other for other in names if other in (join_name(method, parts), join_name(method, (EQUAL, *parts)))]


def _kind(plan: Plan, other: str, name: str) -> tuple[str, ...]:
    """What makes `other` another method to `name`: its method, its variants, and settings that `name` does not have."""
    method, parts = split_name(other)
    options = plan.specs[split_name(name)[0]].options
    return method, *(part for part in parts if part != EQUAL and part.partition("=")[0] not in options)


def _nearest(plan: Plan, name: str, others: Sequence[str]) -> str:
    """The one of `others` that is made most as `name` is; '' if that is `name` itself, or there is none.

    The protocol counts most, then in how many of the settings that are varied the two agree, as resolved.
    """
    keys = {part.partition("=")[0] for one in (name, *others) for part in split_name(one)[1] if "=" in part}
    own = _settings(plan, name)

    def likeness(other: str) -> tuple[bool, int]:
        settings = _settings(plan, other)
        same = protocol_of(other.partition("@")[2]) == protocol_of(name.partition("@")[2])
        return same, sum(key in own and settings.get(key) == own[key] for key in keys | {"layers"})

    best = max(others, key=likeness, default="")
    return "" if name in others and likeness(name) == likeness(best) else best


def _settings(plan: Plan, name: str) -> dict:
    return plan.run(name, plan.trained_tasks[0], 0).settings


def _role(plan: Plan, name: str) -> str:
    return plan.specs[split_name(name)[0]].role


def _on_task(plan: Plan, task: Task, scores: dict, comparisons: list[Comparison], folder: Path):
    """Rows of a task, and the parts of each difference's variance for the macro, by (comparison, task).

    A row has the comparison; `what`, the task; `seeds`, how many both have; `difference`, `error`, `df`, `low`, `high`
    and `p` (inference.conclude), `p_holm`; `percentile`, the plain multi-bootstrap's low, high and p; over seeds
    `welch` (p), `sign_flip` (p), `differing` (the seeds on which the two differ), `needed` (how many of these could
    reach α) and `hedges_g`; `improvement` (value, low, high); and for an accuracy `mcnemar`, p by seed.
    """
    names = dict.fromkeys(name for pair in comparisons for name in (pair.name, pair.other))
    runs = [plan.run(name, task.name, seed) for name in names for seed in sorted(scores.get((name, task.name), {}))]
    if not runs:
        return [], {}
    decisions, labels = read_decisions(runs, folder)
    resampled = resample_task(task, decisions, labels, plan.suite.significance.resamples)
    place = {(run.name, run.seed): i for i, run in enumerate(runs)}
    examples = sum(map(len, labels.values()))
    rows, spreads = [], {}
    for pair in comparisons:
        ours, theirs = scores.get((pair.name, task.name), {}), scores.get((pair.other, task.name), {})
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            continue
        first = [place[pair.name, seed] for seed in seeds]
        second = [place[pair.other, seed] for seed in seeds]
        observed = np.array([ours[seed] - theirs[seed] for seed in seeds])
        spread = inference.spread_of(observed, resampled[:, first] - resampled[:, second], examples)
        spreads[pair, task.name] = spread
        row = asdict(pair) | {"what": task.name, "seeds": len(seeds)}
        row |= asdict(inference.conclude([spread], plan.suite.significance.alpha))
        row |= _percentiles(plan, resampled[:, first] - resampled[:, second])
        row |= _over_seeds(plan, observed, np.array(list(ours.values())), np.array(list(theirs.values())))
        if "accuracy" in task.metrics:
            right = {split: decisions[split] == labels[split] for split in task.dev}
            pairs = zip(seeds, first, second, strict=True)
            row["mcnemar"] = {
                str(seed): inference.mcnemar(*(np.hstack([right[split][i] for split in task.dev]) for i in (a, b)))
                for seed, a, b in pairs
            }
        rows.append(row)
    return rows, spreads


def read_decisions(runs: list[Run], folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What runs of one task decided on its dev splits, and the labels: (runs, examples) and (examples,) by split."""
    decisions: dict[str, list[np.ndarray]] = {split: [] for split in runs[0].task.dev}
    labels: dict[str, np.ndarray] = {}
    for run in runs:
        found = read_predictions(folder / run.path, run.task.dev)
        for split in run.task.dev:
            truth = found[split].labels
            if not np.array_equal(labels.setdefault(split, truth), truth):
                raise UserError(
                    f"{folder / run.path}: its {split} examples are not those of the other runs of {run.task.label}"
                )
            decisions[split].append(decide(found[split].logits, run.task))
    return {split: np.stack(values) for split, values in decisions.items()}, labels


def _percentiles(plan: Plan, resampled: np.ndarray) -> dict:
    """The multi-bootstrap as it is published; the draws of seeds are the same for every comparison."""
    draws = inference.multi_bootstrap(resampled, np.random.default_rng(0))
    return {"percentile": inference.percentiles(draws, plan.suite.significance.alpha)}


def _over_seeds(plan: Plan, differences: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> dict:
    alpha, resamples = plan.suite.significance.alpha, plan.suite.significance.resamples
    needed, differing = inference.pairs_needed(alpha), int(np.count_nonzero(differences))
    return {
        "welch": inference.welch(ours, theirs),
        "sign_flip": inference.sign_flip(differences) if differing >= needed else None,
        "differing": differing,
        "needed": needed,
        "hedges_g": inference.hedges_g(ours, theirs),
        "improvement": inference.improvement([ours], [theirs], alpha, resamples),
    }


def _on_macro(plan: Plan, tasks: list[Task], comparisons: list[Comparison], spreads: dict) -> Iterator[dict]:
    """Rows of the macro scores, for the comparisons that have every task of them; none for fewer than two tasks."""
    counted = {what: [task.name for task in tasks if holds(task)] for what, holds in MACROS.items()}
    if counted["macro_without_cola"] == counted["macro"]:
        del counted["macro_without_cola"]
    for what, names in counted.items():
        for pair in comparisons:
            parts = [spreads[pair, task] for task in names if (pair, task) in spreads]
            if len(names) > 1 and len(parts) == len(names):
                conclusion = inference.conclude(parts, plan.suite.significance.alpha)
                yield asdict(pair) | {"what": what, "seeds": min(part.seeds for part in parts)} | asdict(conclusion)


def _adjust(rows: list[dict]) -> None:
    """Holm's p within each family: the comparisons of a kind under a protocol, tasks together, each macro alone."""
    families: dict[tuple, list[dict]] = {}
    for row in rows:
        macro = row["what"] if row["what"] in MACROS else ""
        families.setdefault((row["family"], protocol_of(row["name"].partition("@")[2]), macro), []).append(row)
    for family in families.values():
        for row, p in zip(family, inference.holm([row["p"] for row in family]), strict=True):
            row |= {"p_holm": p, "tests": len(family)}


def _over_tasks(plan: Plan, scores: dict, comparisons: list[Comparison]) -> list[dict]:
    """Each comparison over the macro's tasks that both have: Wilcoxon on medians, and probability of improvement.

    Holm goes over the comparisons of a family and protocol; `needed` is the number of tasks with which the first of
    them could be significant at all, and where there are fewer `wilcoxon` and `wilcoxon_holm` are null.
    """
    alpha, resamples = plan.suite.significance.alpha, plan.suite.significance.resamples
    families: dict[tuple, list[dict]] = {}
    for pair in comparisons:
        tasks = [name for name, task in plan.tasks.items() if task.macro and (pair.name, name) in scores]
        tasks = [name for name in tasks if (pair.other, name) in scores]
        if not tasks:
            continue
        ours, theirs = ([np.array(list(scores[name, t].values())) for t in tasks] for name in (pair.name, pair.other))
        medians = np.array([np.median(a) - np.median(b) for a, b in zip(ours, theirs, strict=True)])
        row = asdict(pair) | {"tasks": len(tasks), "differing": int(np.count_nonzero(medians))}
        row["median_difference"] = float(np.median(medians))
        row["wilcoxon"] = inference.signed_ranks(medians)
        row["improvement"] = inference.improvement(ours, theirs, alpha, resamples)
        families.setdefault((pair.family, protocol_of(pair.name.partition("@")[2])), []).append(row)
    for family in families.values():
        adjusted = inference.holm([1.0 if row["wilcoxon"] is None else row["wilcoxon"] for row in family])
        for row, p in zip(family, adjusted, strict=True):
            row["needed"] = inference.pairs_needed(alpha, len(family))
            row["wilcoxon_holm"] = p if row["differing"] >= row["needed"] else None
    return [row for family in families.values() for row in family]


def _friedman(plan: Plan, experiment: str, scores: dict) -> list[dict]:
    """Friedman's test of the compressed methods of each protocol, on medians over the tasks that all of them have."""
    found, alpha = [], plan.suite.significance.alpha
    for protocol in plan.suite.experiments[experiment].protocols:
        names = [n for n in plan.experiment_names(experiment) if plan.specs[split_name(n)[0]].compressed]
        names = [name for name in names if protocol_of(name.partition("@")[2]) == protocol]
        tasks = [t for t, task in plan.tasks.items() if task.macro and all((name, t) in scores for name in names)]
        medians = [[float(np.median(list(scores[name, task].values()))) for name in names] for task in tasks]
        p = inference.friedman(np.array(medians)) if tasks else None
        needed = inference.tasks_needed(alpha, len(names)) if len(names) > 1 else None
        found.append({"protocol": protocol, "methods": len(names), "tasks": len(tasks), "needed": needed, "p": p})
    return found


def _aggregates(plan: Plan, experiment: str, scores: dict) -> list[dict]:
    """Each method's runs as shares (%) of the predecessor's median on their task: interquartile mean and profile.

    Over the macro's tasks on which the predecessor has a score above zero; a method that lacks one of them is left out.
    """
    alpha, resamples = plan.suite.significance.alpha, plan.suite.significance.resamples
    macro = [task.name for task in plan.experiment_tasks(plan.suite.experiments[experiment]) if task.macro]
    found = []
    for name in plan.experiment_names(experiment):
        teacher = plan.teacher_name(name)
        whole = {t: float(np.median(list(scores.get((teacher, t), {0: 0.0}).values()))) for t in macro}
        tasks = [task for task in macro if whole[task] > 0]
        if not tasks or any((name, task) not in scores for task in tasks):
            continue
        kept = [np.round(100 * np.array(list(scores[name, t].values())) / whole[t], 9) for t in tasks]  # equal is 100
        profile = inference.performance_profile(kept, THRESHOLDS, alpha, min(resamples, 2000))
        row = {"name": name, "tasks": len(tasks), "runs": sum(map(len, kept))}
        row["interquartile_mean"] = inference.interquartile_mean(kept, alpha, resamples)
        row["profile"] = {
            key: [None if np.isnan(value) else float(value) for value in values]
            for key, values in zip(("share", "low", "high"), profile, strict=True)
        }
        found.append(row)
    return found
