"""What a suite has on the hub: the tables of a task, by the card of the data set, and compact checkpoints."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from huggingface_hub import metadata_load

from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.modeling.hub import MAIN, Repository, fetch_snapshot, fetched_names
from theseus_bench.strict_yaml import suggest
from theseus_bench.suite.checkpoint_files import WEIGHTS
from theseus_bench.suite.plan import Plan

CARD = "README.md"


def fetch_tables(repository: Repository, task: Task) -> dict[str, pa.Table]:
    """The table of each split of a task; UserError if the hub does not give it."""
    files = table_files(repository, task)
    folder = fetch_snapshot(repository, [CARD, *(file for names in files.values() for file in names)])
    tables = {}
    for split, names in files.items():
        try:
            tables[split] = pa.concat_tables([pq.ParquetFile(folder / name).read() for name in names])
        except pa.ArrowInvalid as error:
            fault = str(error).splitlines()[0][:120]
            raise UserError(
                f"{repository}: {', '.join(names)}: not readable as parquet tables ({fault}); choose a revision whose "
                "tables are, or use a local folder (data.source: local)"
            ) from None
    return tables


def table_files(repository: Repository, task: Task) -> dict[str, list[str]]:
    """The paths, in the repository, of the parquet files of each split of a task; UserError if one has none."""
    card = fetch_snapshot(repository, [CARD]) / CARD
    configs = _configs(card)
    if task.name not in configs:
        raise UserError(
            f"{repository} has no tables of {task.name}, by its card{suggest(task.name, configs)}; choose a revision "
            "that has them as parquet files, or use a local folder (data.source: local)"
        )
    names = fetched_names(repository)
    files = {}
    for split in task.splits:
        patterns = configs[task.name].get(split, [])
        files[split] = sorted(
            name for name in names if name.endswith(".parquet") and any(fnmatch(name, p) for p in patterns)
        )
        if not files[split]:
            raise UserError(
                f"{repository} has no parquet file of {task.name}, split {split}, where its card says; choose another "
                "revision, or use a local folder (data.source: local)"
            )
    return files


def compact_repository(plan: Plan, method: str) -> Repository:
    """Where the hub has the compact checkpoint of `method`; UserError if neither commit nor contents are pinned."""
    compact = plan.suite.compact[method]
    if compact.revision is None and compact.sha256 is None:
        raise UserError(
            f"config: compact.{method}: {compact.name} is not pinned, and a branch moves; set revision to the commit "
            f"(40 digits), or sha256 to the checksum of {WEIGHTS}, that its page on the hub gives, or make the "
            "checkpoint with source: recipe"
        )
    return Repository(compact.name, "model", compact.revision or MAIN)


def _configs(card: Path) -> dict[str, dict[str, list[str]]]:
    """By configuration and split, the patterns of the files that a data set's card names."""
    try:
        configs = metadata_load(card)["configs"]
        return {
            config["config_name"]: {
                entry["split"]: entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
                for entry in config["data_files"]
            }
            for config in configs
        }
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return {}  # a card that says it in another way, or nothing
