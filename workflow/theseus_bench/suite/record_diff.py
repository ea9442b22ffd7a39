"""In what two records of a run differ that may be why their predictions do; and two configurations, key by key."""

from __future__ import annotations

import json
from typing import Any

from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord

CIRCUMSTANCES = ("precision", "device", "threads")  # in a record beside its settings and what it read
MACHINE = ("code", "python", "processor")  # in its provenance


def explain_difference(before: RunRecord, after: RunRecord) -> list[str]:
    """What the two runs did not have in common: settings, contents that they read, device, code and libraries."""
    causes = compare_values(before.settings, after.settings)
    both = [name for name in before.inputs if name in after.inputs]  # versions differ in what they call a method's code
    causes += [f"other contents of {name}" for name in both if before.inputs[name] != after.inputs[name]]
    return causes + compare_values(_circumstances(before), _circumstances(after))


def explain_staleness(plan: Plan, run: Run, record: RunRecord) -> str:
    """What the record was made of that the plan now has otherwise: 'learning_rate 2e-05 → 3e-05, version 1 → 2'."""
    tried = {key for trial in run.trials for key in trial}  # a search's choice is a result, not a cause
    before, after = ({k: v for k, v in values.items() if k not in tried} for values in (record.settings, run.settings))
    changes = compare_values(before, after)
    changes += compare_values({"version": record.method_version}, {"version": run.spec.version})
    before, after = _sources(record), _sources_of_plan(plan, run)
    before["data"], after["data"] = (_data_of(run.task.name, sources["data"]) for sources in (before, after))
    changes += compare_values(before, after)
    if run.learns and record.teacher != plan.fingerprint(plan.teacher_of(run)):
        changes.append("its predecessor is of other settings")
    if run.spec.source and record.source != plan.fingerprint(plan.source_of(run)):
        changes.append("the model that it starts from is of other settings")
    return ", ".join(changes) or "the definition of its task, or the code of the loop"


def _sources(record: RunRecord) -> dict[str, Any]:
    """Data, backbone and compact checkpoint that the record is of."""
    return {"data": record.data_source, "backbone": record.backbone, "compact": record.compact or {}}


def _sources_of_plan(plan: Plan, run: Run) -> dict[str, Any]:
    """Data, backbone and compact checkpoint that the run is to have, in a record's words."""
    compact = plan.suite.compact[run.spec.name] if "compact_checkpoint" in run.needs else None
    blocks = {"data": plan.suite.data, "backbone": plan.suite.backbone, "compact": compact}
    return {name: {} if block is None else block.model_dump(exclude_none=True) for name, block in blocks.items()}


def _data_of(task: str, source: dict[str, Any]) -> dict[str, Any]:
    """What counts of the data for one task: not where it is kept, nor what is said of other tasks."""
    values = {key: value for key, value in source.items() if key in ("source", "name", "revision", "rows")}
    limit = source.get("max_train", {}).get(task)
    values |= {} if limit is None else {"max_train": limit}
    return values | {"samples": task in source.get("samples", [])}


def _circumstances(record: RunRecord) -> dict[str, Any]:
    machine = {name: record.provenance.get(name) for name in MACHINE}
    libraries: dict[str, Any] = record.provenance.get("libraries", {})
    return {name: getattr(record, name) for name in CIRCUMSTANCES} | machine | libraries


def compare_values(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """'equal.set.epochs 4 → 5' for each value that is not in both alike, of nested mappings too."""
    left, right = _flatten(before), _flatten(after)
    changes = []
    for key in dict.fromkeys([*left, *right]):
        texts = [_show(values[key]) if key in values else "not there" for values in (left, right)]
        if texts[0] != texts[1]:
            changes.append(f"{key} {' → '.join(texts)}")
    return changes


def _show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _flatten(values: Any, path: str = "") -> dict[str, Any]:
    """The values of nested mappings by their whole path, equal.set.epochs."""
    if not isinstance(values, dict) or not values:
        return {path: values}
    parts = [_flatten(value, f"{path}.{key}" if path else str(key)) for key, value in values.items()]
    return {key: value for part in parts for key, value in part.items()}
