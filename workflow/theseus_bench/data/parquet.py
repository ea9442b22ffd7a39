"""One split's table, read from a parquet file and checked: columns, label codes, contents."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError

ROW = np.dtype([("start", "i8"), ("length", "i4"), ("first", "i4"), ("label", "f4"), ("idx", "i8")])
HIDDEN = -1  # the label of a test example whose true label the GLUE server keeps


@dataclass(frozen=True)
class Split:
    """One encoded split, memory-mapped."""

    tokens: np.ndarray  # (number of tokens,) token ids
    rows: np.ndarray  # (number of examples,) of dtype ROW

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        """(examples,) float32: class codes, or values for regression."""
        return np.asarray(self.rows["label"])


def read_source(file: Path, task: Task, split: str, sample: bool, verify: bool) -> pa.Table:
    """The table of one split, checked: columns, types, labels, row count and, with `verify`, the content's checksum.

    Where it has no column idx, the rows are numbered from 0. `sample` accepts other rows than the official ones, if
    the task's file knows of such. Raises UserError with the file, the row where there is one, and
    what was expected.
    """
    try:
        table = pq.read_table(file)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; expected split {split} of {task.name}") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{file}: not a readable parquet file ({str(error).splitlines()[0][:120]}); fetch it again"
        ) from None
    columns = [*task.columns, "label"]
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise UserError(
            f"{file}: no column {', '.join(missing)}; expected {', '.join(columns)}, found {table.column_names}"
        )
    if "idx" not in table.column_names:
        table = table.append_column("idx", pa.array(range(table.num_rows), pa.int64()))
    table = table.select([*columns, "idx"])
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:  # text that is no UTF-8, which Arrow reads and Python does not
        raise UserError(f"{file}: damaged: {str(error).splitlines()[0][:120]}; fetch it again") from None
    _check_values(table, file, task, split)
    official = task.rows.get(split, table.num_rows)
    if not sample and table.num_rows != official:
        raise UserError(
            f"{file}: {table.num_rows} rows, expected {official}; "
            f"if this sample is meant, list {task.name} under data.samples"
        )
    if verify and not sample and split in task.sha256:
        checksum = content_sha256(table, task)
        if checksum != task.sha256[split]:
            raise UserError(
                f"{file}: content differs from official GLUE (sha256 {checksum}, expected {task.sha256[split]}); "
                f"fetch it again, or list {task.name} under data.samples if the difference is meant"
            )
    return table


def content_sha256(table: pa.Table, task: Task) -> str:
    """A checksum of a split's texts and labels in order, whatever file format they came in."""
    digest = hashlib.sha256()
    columns = [table[name].to_pylist() for name in [*task.columns, "label"]]
    for *texts, label in zip(*columns, strict=True):
        label = f"{label:.3f}" if isinstance(label, float) else label
        digest.update((json.dumps([*texts, label], ensure_ascii=False) + "\n").encode())
    return digest.hexdigest()


def _check_values(table: pa.Table, file: Path, task: Task, split: str) -> None:
    for column in task.columns:
        if not pa.types.is_string(table[column].type) and not pa.types.is_large_string(table[column].type):
            raise UserError(f"{file}: column {column} holds {table[column].type}, expected text")
        if table[column].null_count:
            row = table[column].is_null().to_pylist().index(True)
            raise UserError(f"{file}: row {row}: {column} is empty, expected text")
    for column, kinds in [("label", (pa.types.is_integer, pa.types.is_floating)), ("idx", (pa.types.is_integer,))]:
        if not any(kind(table[column].type) for kind in kinds) or (column == "idx" and table[column].null_count):
            raise UserError(f"{file}: column {column} holds {table[column].type}, expected numbers on every row")
    if pa.types.is_uint64(table["idx"].type):
        largest = pc.max(table["idx"]).as_py()
        if largest is not None and largest > np.iinfo(ROW["idx"]).max:
            raise UserError(f"{file}: idx {largest} is too large; number the rows from 0")
    if not table.num_rows:
        raise UserError(f"{file}: no rows; expected split {split} of {task.name}")
    labels = np.asarray(table["label"].to_numpy(zero_copy_only=False), dtype=float)
    if task.regression:
        allowed, expected = (labels >= 0) & (labels <= 5), "a number from 0 to 5"
    else:
        allowed = np.isin(labels, range(task.outputs))
        expected = f"one of 0..{task.outputs - 1} ({', '.join(task.labels)})"
    if split in task.test:
        allowed |= labels == HIDDEN
        expected += ", or -1 where hidden"
    if not allowed.all():
        row = int(np.argmin(allowed))
        raise UserError(f"{file}: row {row}: label {labels[row]:g}, expected {expected}")
