"""What the runs cost: device-seconds, floating point operations, peak memory, energy; searches counted apart.

Every run that has a record counts, failed ones too. A run's device-seconds are all of its time, from its start to its
record; its operations and its energy are those of training and evaluating.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from theseus_bench.suite.plan import Plan
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.status import state


def total_costs(plan: Plan, folder: Path) -> dict[str, float | None]:
    """What the suite's runs cost in all, each run once; `runs` is how many of them have a record.

    `device_seconds` of the final runs and what these need, `search_device_seconds` of what ran for the searches alone,
    `flops` (training and evaluation) and `energy_joules` of both, and `peak_memory_mb`. A sum is None where some record
    lacks its part, since it would pass for the whole.
    """
    final_runs = [run for experiment in plan.suite.experiments for run in plan.experiment_runs(experiment)]
    final = plan.with_dependencies(final_runs, searches=False)
    records = {path: record for path, run in plan.runs.items() if (record := state(plan, run, folder)[2]) is not None}
    return {
        "runs": len(records),
        "device_seconds": sum(record.seconds["all"] for path, record in records.items() if path in final),
        "search_device_seconds": sum(record.seconds["all"] for path, record in records.items() if path not in final),
        "flops": _sum(sum_flops(record) for record in records.values()),
        "energy_joules": _sum(record.energy_joules for record in records.values()),
        "peak_memory_mb": max((record.peak_memory_mb for record in records.values()), default=None),
    }


def _sum(values: Iterable[float | None]) -> float | None:
    """Their sum; None of no values, and where one is lacking."""
    terms = list(values)
    numbers = [term for term in terms if term is not None]
    return sum(numbers) if numbers and len(numbers) == len(terms) else None


def sum_flops(record: RunRecord, *parts: str) -> float | None:
    """The operations of some parts of a run, of all where none is named."""
    return None if record.flops is None else sum(record.flops[part] for part in parts or record.flops)
