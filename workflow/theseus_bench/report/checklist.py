"""The reproducibility checklists of ACL and NeurIPS, filled from the records; what only an author can say stays blank.

The items are those of the Responsible NLP Research checklist (ACL Rolling Review) and of the NeurIPS paper checklist,
by their own letters and numbers, in words of ours. An answer says what the plan and the records say, and no more: a
number of tries is that of the tries that have a record, and where runs had two machines both are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theseus_bench.data.tasks import METRIC_NAMES
from theseus_bench.evaluation.significance_file import read_significance, significance_file
from theseus_bench.evaluation.variances import MODERATED
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.run_names import RunName
from theseus_bench.suite.search import read_choice
from theseus_bench.wording import series

ACL, NEURIPS = "ACL", "NeurIPS"
NO_RECORDS = "Not known: no run has left a record yet."
RECORDS = "runs/*/*/*/run.json"
RunKey = tuple[str, str, str, int]  # method, variant, task and seed


@dataclass(frozen=True)
class CheckItem:
    """One item of a checklist. `where` says which files bear the answer out; a blank answer has none."""

    source: str  # 'ACL' or 'NeurIPS'
    item: str
    answer: str  # '' is a blank: only a person can fill it in
    where: str


def checklist(plan: Plan, records: list[RunRecord], folder: Path) -> list[CheckItem]:
    """Both checklists in their own order. `records` are the suite's, each run once; `folder` is the suite's."""
    compute = f"{_parameters(plan, records)} {_compute(records)} {_machines(records)}"
    setup = f"{_settings(plan, records)} {_search(plan, records, folder)}"
    statistics = f"{_seeds(plan, records)} {_tests(plan, folder)}"
    items = [
        (ACL, "A1: limitations", "", ""),
        (ACL, "A2: potential risks", "", ""),
        (ACL, "B1: creators of what is used are cited", _creators(plan), "methods/*/method.yaml, config/tasks.yaml"),
        (ACL, "B2: licences and terms of use", "", ""),
        (ACL, "B3: use is as intended", "", ""),
        (ACL, "B4: personal or offensive content in the data", "", ""),
        (ACL, "B5: what the data and models cover", _coverage(plan), "config/tasks.yaml"),
        (ACL, "B6: sizes and splits of the data", _data(plan, records), "data/*/data.json, ro-crate-metadata.json"),
        (ACL, "C1: model size, budget and infrastructure", compute, RECORDS),
        (ACL, "C2: set-up and hyperparameters", setup, f"{RECORDS}, tables/*_search.csv, tables/*_trials.csv"),
        (ACL, "C3: statistics of the results", statistics, "tables/, scores/, significance/"),
        (ACL, "C4: packages and their versions", _packages(records), f"{RECORDS}, constraints.txt"),
        (ACL, "D1–D5: annotators and participants", "", ""),
        (ACL, "E1: AI assistants", "", ""),
        (NEURIPS, "1: claims match the results", "", ""),
        (NEURIPS, "2: limitations", "", ""),
        (NEURIPS, "3: assumptions and proofs", "", ""),
        (NEURIPS, "4: results can be reproduced", _reproduction(plan, records), "suite.json, ro-crate-metadata.json"),
        (NEURIPS, "5: access to data and code", _access(plan, records), f"suite.json, {RECORDS}"),
        (NEURIPS, "6: settings of the experiments", setup, f"{RECORDS}, tables/*_search.csv"),
        (NEURIPS, "7: statistical significance", statistics, "tables/, significance/"),
        (NEURIPS, "8: compute resources", compute, RECORDS),
        (NEURIPS, "9: code of ethics", "", ""),
        (NEURIPS, "10: broader impacts", "", ""),
        (NEURIPS, "11: safeguards", "", ""),
        (NEURIPS, "12: licences of what is used", "", ""),
        (NEURIPS, "13: new assets are documented", _models(plan, records), "runs/*/*/*/model/README.md"),
        (NEURIPS, "14: crowdsourcing and human subjects", "", ""),
        (NEURIPS, "15: approval by a review board", "", ""),
        (NEURIPS, "16: use of language models in the research", "", ""),
    ]
    return [CheckItem(*item) for item in items]


def _creators(plan: Plan) -> str:
    specs = {run.spec.name: run.spec for run in plan.runs.values()}
    methods = "; ".join(f"{spec.label}: {spec.citation}" for spec in specs.values() if spec.citation != "none")
    return f"Methods: {methods}. {_source(plan)} {_backbone(plan)}"


def _coverage(plan: Plan) -> str:
    if plan.suite.data.source == "demo":
        return "Generated sentences in the schema of GLUE's tasks; they say nothing of real text."
    tasks = [plan.tasks[name] for name in plan.suite.tasks]
    words = [
        f"{task.label} ({'values from 0 to 5' if task.regression else ', '.join(task.labels or [])}; "
        f"{' and '.join(METRIC_NAMES[metric] for metric in task.metrics)})"
        for task in tasks
    ]
    return f"GLUE tasks: {'; '.join(words)}."


def _data(plan: Plan, records: list[RunRecord]) -> str:
    """Rows of each split as the runs saw them; a split that runs saw in several sizes has them all."""
    if not records:
        return NO_RECORDS
    rows: dict[str, dict[str, set[str]]] = {}
    for record in records:
        for split, split_record in record.data.items():
            official = (
                ""
                if split_record["rows"] == split_record["official_rows"]
                else f" (official GLUE: {split_record['official_rows']})"
            )
            rows.setdefault(record.task, {}).setdefault(split, set()).add(f"{split_record['rows']}{official}")
    tasks = [
        f"{plan.tasks[task].label}: {', '.join(f'{split} {_list(sizes)}' for split, sizes in splits.items())}"
        for task, splits in rows.items()
    ]
    return f"Rows by split: {'; '.join(tasks)}. {_source(plan)} A SHA-256 of each split is in the records."


def _source(plan: Plan) -> str:
    data = plan.suite.data
    origin = {
        "hub": f"Data: {data.name} at {data.revision}.",
        "local": "Data: a local folder.",
        "demo": f"Data: generated, {data.rows} training sentences a task.",
    }[data.source]
    parts = [plan.tasks[name].label for name in plan.trained_tasks if plan.is_sample(name)]
    return f"{origin} Declared as other than official GLUE: {series(parts)}." if parts else origin


def _parameters(plan: Plan, records: list[RunRecord]) -> str:
    """Millions of parameters by method, from the smallest to the largest model where they differ."""
    counts: dict[str, list[int]] = {}
    for record in records:
        if record.parameters is not None:
            counts.setdefault(plan.specs[record.method].label, []).append(record.parameters)
    if not counts:
        return NO_RECORDS
    ends = {label: dict.fromkeys(_millions(end(values)) for end in (min, max)) for label, values in counts.items()}
    words = [f"{label} {'–'.join(values)} M" for label, values in ends.items()]
    return f"Parameters: {'; '.join(words)}."


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f}" if count >= 1e6 else f"{count / 1e6:.3f}"


def _compute(records: list[RunRecord]) -> str:
    """Device-hours, floating point operations and energy of all training runs, and the part of the searches."""
    if not records:
        return ""
    timed_records = [record for record in records if "all" in record.seconds]
    total_hours, trial_hours = (
        _hours(record for record in timed_records if part(record)) for part in (lambda _: True, _is_trial)
    )
    words = [
        f"Training took {total_hours} device-hours in {len(timed_records)} runs, {trial_hours} of them in searches"
    ]
    for name, unit, values in (
        ("floating point operations", "", [sum(record.flops.values()) for record in records if record.flops]),
        ("energy", " MJ", [record.energy_joules / 1e6 for record in records if record.energy_joules is not None]),
    ):
        coverage = "" if len(values) == len(records) else f" (of {len(values)} of {len(records)} runs)"
        words.append(f"{name}: {sum(values):.3g}{unit}{coverage}" if values else f"{name}: not measured")
    return "; ".join(words) + "."


def _hours(records: Iterable[RunRecord]) -> str:
    return f"{sum(record.seconds['all'] for record in records) / 3600:.3g}"


def _machines(records: list[RunRecord]) -> str:
    """Each kind of machine that runs had, with how many had it."""
    records_with_provenance = [record for record in records if record.provenance]
    total = len(records_with_provenance)
    kinds = Counter(
        f"{record.provenance['processor']}, {record.provenance['cores']} cores, device {record.device}, "
        f"{record.precision}, threads a run: {record.threads}"
        for record in records_with_provenance
    )
    return (
        f"Machines: {'; '.join(f'{kind} ({count} of {total} runs)' for kind, count in kinds.items())}." if kinds else ""
    )


def _settings(plan: Plan, records: list[RunRecord]) -> str:
    if not records:
        return NO_RECORDS
    protocols = dict.fromkeys(name for experiment in plan.suite.experiments.values() for name in experiment.protocols)
    choice_words = {
        "dev": "on the dev set that is reported, as the papers do",
        "held_out": "on a slice held out of train",
    }
    choices = [words for key, words in choice_words.items() if any(record.chosen_on == key for record in records)]
    choice_sentence = f" The best evaluation is kept: {', or under equal effort '.join(choices)}." if choices else ""
    return (
        f"Each of {len(records)} records has its resolved settings; protocols: {', '.join(protocols)}.{choice_sentence}"
    )


def _search(plan: Plan, records: list[RunRecord], folder: Path) -> str:
    """What was really tried: settings with a record, the values among them, and the searches that have chosen."""
    recorded_keys = {_key(record) for record in records}
    searched_runs = {run.search_file: run for run in plan.runs.values() if run.trials}
    if not searched_runs:
        return "Nothing was searched: every run has its method's or the configuration's settings."
    seeds = len(plan.suite.search.seeds)
    trials: set[tuple[str, int]] = set()
    values: dict[str, set[Any]] = {}
    for file, run in searched_runs.items():
        for position, trial in enumerate(plan.trials_of(run)):
            if _run_key(trial) in recorded_keys:
                trials.add((file, position // seeds))
                for key, value in run.trials[position // seeds].items():
                    values.setdefault(key, set()).add(value)
    choice_count = sum(read_choice(folder / file) is not None for file in searched_runs)
    trial_count = sum(len(run.trials) for run in searched_runs.values())
    budget = ", ".join(f"{plan.suite.search.budget_of(name)} ({name})" for name in ("published", "equal"))
    words = "; ".join(f"{key} {_list(settings)}" for key, settings in sorted(values.items())) or "none"
    return (
        f"Searches: {len(searched_runs)}, of which {choice_count} have chosen, by the score of seeds of their own; "
        f"budget for each method and task: {budget}; settings tried: {len(trials)} of {trial_count}. "
        f"Values tried: {words}."
    )


def _seeds(plan: Plan, records: list[RunRecord]) -> str:
    """How many seeds stand behind a number, what is shown of them, and how many runs failed."""
    if not records:
        return NO_RECORDS
    recorded_keys = {_key(record) for record in records}
    final_runs = {run.path: run for name in plan.suite.experiments for run in plan.experiment_runs(name)}
    groups = Counter((run.name, run.task.name) for run in final_runs.values() if _run_key(run) in recorded_keys)
    counts = _list({min(groups.values()), max(groups.values())}, "–") if groups else "none"
    states = Counter(record.status for record in records)
    return (
        f"Seeds behind a method's number on a task: {counts}. There are tables of the mean ± the sample standard "
        f"deviation over the seeds and of the median. Of {len(plan.runs)} runs {states['complete']} are complete, "
        f"{states['failed']} failed and {len(plan.runs) - len(records)} have no record."
    )


def _tests(plan: Plan, folder: Path) -> str:
    """Which experiments' differences were tested, and how."""
    names = list(plan.suite.experiments)
    results = [read_significance(name, folder) for name in names if significance_file(name, folder).is_file()]
    tested_count = sum(any(row.p_holm is not None for row in result.differences) for result in results)
    if not tested_count:
        return "No difference was tested."
    rule = plan.suite.significance
    return (
        f"Differences were tested in {tested_count} of {len(names)} experiments: over seeds and examples, the "
        f"examples' variance by {rule.resamples} resamples and the seeds' by Student's t, a method's variance on a "
        f"task {MODERATED}; Holm within each family, α = {rule.alpha:g}. Primary are the macro differences of the "
        "proposed methods and the baselines."
    )


def _packages(records: list[RunRecord]) -> str:
    """Versions of Python and of the libraries; where runs had two of one, both."""
    versions: dict[str, set[str]] = {}
    for record in records:
        provenance = record.provenance
        if provenance:
            for name, version in {"Python": provenance["python"], **provenance["libraries"]}.items():
                versions.setdefault(name, set()).add(version)
    words = [f"{name} {_list(numbers)}" for name, numbers in versions.items()]
    return f"{', '.join(words)}." if words else NO_RECORDS


def _reproduction(plan: Plan, records: list[RunRecord]) -> str:
    return (
        f"One configuration (suite.json) asks for {len(plan.runs)} runs, {len(records)} of which have a record "
        "of their settings, seed, revisions and code. Each table can be followed to its runs."
    )


def _access(plan: Plan, records: list[RunRecord]) -> str:
    revisions = {record.provenance["code"] for record in records if record.provenance}
    code = f"Code: theseus-bench at {_list(revisions)}." if revisions else "Code: revision not known."
    return f"{code} {_source(plan)} {_backbone(plan)}"


def _backbone(plan: Plan) -> str:
    backbone = plan.suite.backbone
    name = {"hub": f"{backbone.name} at {backbone.revision}", "demo": "pretrained on generated sentences"}
    return f"Backbone: {name.get(backbone.source, f'{backbone.source} {backbone.name}')}."


def _models(plan: Plan, records: list[RunRecord]) -> str:
    """How many of the runs that have ended keep their model, which a card is written with."""
    keys_with_model = {_key(record) for record in records if record.architecture is not None}
    model_count = sum(plan.keeps_model(run) for run in plan.runs.values() if _run_key(run) in keys_with_model)
    return (
        f"Models kept where they were trained, with a card each: {model_count}."
        if model_count
        else "No model was kept."
    )


def _key(record: RunRecord) -> RunKey:
    return record.method, record.variant, record.task, record.seed


def _run_key(run: Run) -> RunKey:
    return run.spec.name, run.variant, run.task.name, run.seed


def _is_trial(record: RunRecord) -> bool:
    return RunName.of(record.method, record.variant).trial is not None


def _list(values: Iterable[Any], separator: str = ", ") -> str:
    """Values in order, numbers by size and before words."""
    ordered = sorted(values, key=lambda value: (0, value, "") if isinstance(value, int | float) else (1, 0, str(value)))
    return separator.join(map(str, ordered))
