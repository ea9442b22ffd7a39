"""What differs between two suites, or two versions of one: configurations, runs, scores and why they may differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from theseus_bench.errors import UserError
from theseus_bench.files import read_json
from theseus_bench.suite.record_diff import compare_values, explain_difference
from theseus_bench.suite.records import RunRecord, read_record
from theseus_bench.suite.run_names import RunName
from theseus_bench.wording import count_noun, format_number, series

Cell = tuple[str, str]  # a method with its variant, and a task
Runs = dict[int, RunRecord]  # by seed


def compare_suites(before: Path, after: Path) -> list[str]:
    """Lines on what differs between the suites in two folders, and one that counts the runs that are equal.

    Runs are equal where their predictions are, to the bit. They are taken as their folders have them, whatever the
    configuration asks for. UserError for a folder that holds no suite, or a record that cannot be read.
    """
    configurations = [_read_configuration(folder) for folder in (before, after)]
    lines = [f"configuration: {change}" for change in compare_values(*configurations)]
    cells, other_cells = _read_runs(before), _read_runs(after)
    in_both = equal = 0
    for cell in dict.fromkeys([*cells, *other_cells]):
        runs, others = cells.get(cell, {}), other_cells.get(cell, {})
        lines += [f"{' on '.join(cell)}: {text}" for text in _compare_runs(runs, others, before, after)]
        in_both += len(runs.keys() & others.keys())
        equal += sum(_are_equal(runs[seed], others[seed]) for seed in runs.keys() & others.keys())
    return [*lines, f"{count_noun(in_both, 'run')} in both, {equal:,} with equal predictions"]


def _read_configuration(folder: Path) -> dict[str, Any]:
    if not (folder / "suite.json").is_file():
        raise UserError(f"{folder}: there is no suite (no suite.json); name two folders such as results/demo")
    configuration: dict[str, Any] = read_json(folder / "suite.json")
    return configuration


def _read_runs(folder: Path) -> dict[Cell, Runs]:
    cells: dict[Cell, Runs] = {}
    for file in sorted((folder / "runs").glob("*/*/*/run.json")):
        record = read_record(file.parent, remember=False)
        if record is not None:
            name = str(RunName.of(record.method, record.variant))
            cells.setdefault((name, record.task), {})[record.seed] = record
    return cells


def _compare_runs(runs: Runs, others: Runs, before: Path, after: Path) -> list[str]:
    """What is to be said of the runs of a method on a task in the one folder and in the other."""
    texts = []
    for folder, seeds in ((before, runs.keys() - others.keys()), (after, others.keys() - runs.keys())):
        if seeds:
            texts.append(f"{_list_seeds(seeds)} in {folder} alone")
    seeds = {seed for seed in runs.keys() & others.keys() if not _are_equal(runs[seed], others[seed])}
    if seeds:
        scores = " → ".join(_mean_score([records[seed] for seed in seeds]) for records in (runs, others))
        causes = dict.fromkeys(
            cause for seed in sorted(seeds) for cause in explain_difference(runs[seed], others[seed])
        )
        texts.append("; ".join([f"{_list_seeds(seeds)}: dev score {scores}", *causes]))
    return texts


def _list_seeds(seeds: set[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + series(list(map(str, sorted(seeds))))


def _are_equal(run: RunRecord, other: RunRecord) -> bool:
    return run.predictions_sha256 == other.predictions_sha256


def _mean_score(records: list[RunRecord]) -> str:
    """The records' mean in points; none where one has no score."""
    scores = [record.dev_score for record in records if record.dev_score is not None]
    return format_number(100 * sum(scores) / len(scores), 1) if len(scores) == len(records) else "none"
