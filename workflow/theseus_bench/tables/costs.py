"""What each method cost, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from theseus_bench.evaluation.costs import sum_flops
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.status import state
from theseus_bench.tables.model import Cell, Column, Row, Table
from theseus_bench.wording import NOT_MEASURED

Records = list[RunRecord | None]  # of some runs; None where a run has none
NOTES = (
    "Training: the method's own runs, from start to record. Search: what was tried to find settings, with what that "
    "needed. Needs: the predecessors and sources that the runs learn from, with the searches for their settings; "
    "methods share them, and each was trained once.",
    "Not counted: a predecessor's pass over the training set whose outputs students read, the pretraining of the "
    "backbone and of compact checkpoints, and work that an interruption undid.",
    "FLOPs: products of matrices, forward and backward, a multiplication and an addition being two; those of linear "
    "layers are counted at every step, the others in the proportion observed on a few steps.",
    "Energy: of the whole processor package, or of the GPU, while training and evaluating; what ran beside a run is in "
    "it. Peak memory: of the process, or of the GPU's allocator.",
)


def costs_table(plan: Plan, experiment: str, folder: Path) -> Table:
    """What each method cost, over the experiment's tasks and seeds.

    Its own runs, the search for their settings, and what they need of others: the predecessors and sources that they
    learn from. Times in device-seconds, memory in MiB, energy in kJ.
    """
    records: dict[str, RunRecord | None] = {}  # by the run's path: methods share what they need

    def read_records(runs: Iterable[Run]) -> Records:
        by_path = {run.path: run for run in runs}
        for path in by_path.keys() - records.keys():
            records[path] = state(plan, by_path[path], folder)[2]
        return [records[path] for path in by_path]

    methods: dict[str, list[Run]] = {}
    for run in plan.experiment_runs(experiment):
        methods.setdefault(run.name, []).append(run)
    rows = tuple(_row(plan, method_runs, read_records) for method_runs in methods.values())
    columns = (
        Column("runs", "Runs", decimals=0, fields=("asked",)),
        Column("device_seconds", "Training", ("device-s",), decimals=0),
        Column("search_device_seconds", "Search", ("device-s",), decimals=0),
        Column("needs_device_seconds", "Needs", ("device-s",), decimals=0),
        Column("training_flops", "FLOPs", ("training",), powers=True),
        Column("evaluation_flops", "FLOPs", ("evaluation",), powers=True),
        Column("peak_memory_mb", "Peak memory", ("MiB",), decimals=0),
        Column("energy_kj", "Energy", ("kJ",)),
    )
    title = plan.suite.experiments[experiment].title
    caption = "What the runs cost, summed over tasks and seeds; of the memory, the largest of any run."
    return Table(title, caption, columns, rows, NOTES, identity=("method", "variant", "role"))


def _row(plan: Plan, method_runs: list[Run], read_records: Callable[[Iterable[Run]], Records]) -> Row:
    """The row of one method, whose runs in the experiment are `method_runs`."""
    paths = {run.path for run in method_runs}
    dependencies = [
        run for path, run in plan.with_dependencies(method_runs, searches=False).items() if path not in paths
    ]
    shared_runs = plan.with_dependencies(dependencies)
    search_records = read_records(
        run for path, run in plan.with_dependencies(method_runs).items() if path not in shared_runs.keys() | paths
    )
    dependency_records = read_records(run for path, run in shared_runs.items() if path not in paths)
    records = read_records(method_runs)
    cells = (
        Cell(float(sum(record is not None for record in records)), data={"asked": len(method_runs)}),
        *(_total(part, lambda record: record.seconds["all"]) for part in (records, search_records, dependency_records)),
        _total(records, lambda record: sum_flops(record, "training")),
        _total(records, lambda record: sum_flops(record, "evaluation")),
        _total(records, lambda record: record.peak_memory_mb, combine=max),
        _total(records, lambda record: record.energy_joules, scale=1e-3),
    )
    run = method_runs[0]
    return Row(run.label, cells, (run.spec.name, run.variant, run.spec.role), run.spec.role)


def _total(
    records: Records,
    value: Callable[[RunRecord], float | None],
    scale: float = 1,
    combine: Callable[[list[float]], float] = sum,
) -> Cell:
    """A value of all runs together; nothing to run costs nothing, and what is not known of some is said."""
    if not records:
        return Cell(0.0)
    existing = [record for record in records if record is not None]
    values = [amount for record in existing if (amount := value(record)) is not None]
    if not values:
        return Cell(None, notes=(NOT_MEASURED if existing else "no run has left a record",))
    notes = (f"of {len(values)} of {len(records)} runs",) if len(values) < len(records) else ()
    return Cell(scale * combine(values), notes=notes)
