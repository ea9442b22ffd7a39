"""What a run leaves on disk.

A run's folder holds run.json (everything that was decided and seen), predictions.parquet (split, idx, label, logits)
and, where it is kept, model/. A run that crashed leaves error.json instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from theseus_bench.errors import UserError
from theseus_bench.files import AGAIN, read_json, write_json
from theseus_bench.stopping import Stopped
from theseus_bench.strict_yaml import Strict
from theseus_bench.suite.result_files import read_result

SCHEMA = 4
NOT_RUN = "not run"  # why most runs have no record


class RunRecord(Strict):
    """The contents of run.json.

    One rule for reading older ones: a field may be added without a new version if its default is None, which then means
    "not recorded", and older records stay what they are. Where a field goes or changes its meaning, SCHEMA is raised; a
    record of another version counts as missing, and the run is trained again.
    """

    schema_version: Literal[4]
    method: str
    variant: str
    method_version: int
    task: str
    seed: int
    fingerprint: str
    status: Literal["complete", "failed"]
    reason: str
    settings: dict[str, Any]
    trial: int | None  # which setting of the search was chosen, for a run that was searched
    chosen_on: Literal["dev", "held_out", "nothing"]  # by whose score the checkpoint was chosen
    evaluations: int  # that it was chosen from: the entries of `curve`
    held_out_score: float | None  # of the chosen checkpoint, where a slice of train was held out to choose it by
    dev_score: float | None  # of the chosen checkpoint, in [-1, 1] or [0, 1], as the task's metrics
    majority_score: float  # what predicting the training set's majority class (or mean) scores on dev
    best_step: int
    steps: int
    planned_steps: int
    resumed: int  # how often the run was taken up again from a checkpoint
    curve: list[dict[str, Any]]
    parameters: int | None
    embedding_parameters: int | None
    architecture: dict[str, Any] | None  # the compressed model's transformers config
    precision: str
    device: str
    threads: int
    micro_batch: int  # examples that went through the model at once, at most
    seconds: dict[str, float]  # training: in the loop; evaluating: of these, in evaluations; all: from start to record
    steps_per_second: float  # optimizer steps, without the evaluations
    examples_per_second: float
    peak_memory_mb: float
    flops: (
        dict[str, float] | None
    )  # floating point operations of training and evaluation (theseus_bench.modeling.flops)
    energy_joules: float | None  # drawn while training and evaluating, where it can be measured
    data: dict[str, Any]  # rows, checksum and tokens of each split
    data_source: dict[str, Any]
    backbone: dict[str, Any]
    compact: dict[str, Any] | None  # where the compact checkpoint came from, for a method that needs one
    teacher: str | None  # fingerprint of the predecessor's run, for a method that reads of it
    source: str | None  # fingerprint of the run whose model this one started from, for a method that has one
    inputs: dict[str, str]  # SHA-256 of the contents of all that it read (theseus_bench.suite.run_files)
    predictions_sha256: str
    provenance: dict[str, Any]

    @property
    def choice_score(self) -> float | None:
        """The score by which its checkpoint was chosen, and by which it is chosen among the trials of a search."""
        return self.held_out_score if self.chosen_on == "held_out" else self.dev_score


def save_record(folder: Path, record: RunRecord) -> None:
    """Write the record of the run in `folder`, sealed."""
    write_json(folder / "run.json", record.model_dump(), sealed=True)


def read_record(folder: Path, remember: bool = True) -> RunRecord | None:
    """The record of the run in `folder`; None if it has none. UserError if the file is not a record of this schema.

    It is remembered while the file stays the same, unless thousands are looked at in passing.
    """
    file = folder / "run.json"
    return read_result(file, RunRecord, f"a run record of schema {SCHEMA}", AGAIN, remember) if file.is_file() else None


@dataclass(frozen=True)
class Predictions:
    """What a run predicts of one split."""

    idx: np.ndarray  # (examples,) the examples' numbers in the source
    labels: np.ndarray  # (examples,) class codes or values; -1 where hidden
    logits: np.ndarray  # (examples, outputs)


def read_predictions(folder: Path, splits: list[str]) -> dict[str, Predictions]:
    """The predictions of the run in `folder` on those of `splits` that it has predicted; {} if it has left none.

    UserError if they are not readable, or not those that its record, if it has one, has the checksum of.
    """
    file = folder / "predictions.parquet"
    if not file.is_file():
        return {}
    contents, record = file.read_bytes(), read_record(folder)
    if record is not None and hashlib.sha256(contents).hexdigest() != record.predictions_sha256:
        raise UserError(f"{file}: damaged: these are not the predictions that the run left; {AGAIN}")
    try:
        with pq.ParquetFile(pa.BufferReader(contents)) as parquet:  # of a small file, quicker than read_table
            table = parquet.read().select(["split", "idx", "label", "logits"])
    except (pa.ArrowException, KeyError, OSError) as error:
        fault = str(error).splitlines()[0]
        raise UserError(f"{file}: not readable as predictions ({fault}); delete {folder}, and {AGAIN}") from None
    outputs = table["logits"].type.list_size
    logits = table["logits"].combine_chunks().flatten().to_numpy().reshape(-1, outputs)
    split_of = np.asarray(table["split"].cast("string"))
    by_split = {}
    for split in [name for name in dict.fromkeys(split_of) if name in splits]:
        part = split_of == split
        by_split[split] = Predictions(table["idx"].to_numpy()[part], table["label"].to_numpy()[part], logits[part])
    return by_split


def crash_reason(folder: Path) -> str:
    """Why the run in `folder` has no record, as far as it could say."""
    file = folder / "error.json"
    if not file.is_file():
        return NOT_RUN
    try:
        crash = read_json(file)
        return crash["reason"] if crash.get("stopped") else f"crashed: {crash['reason']}"
    except (UserError, KeyError, TypeError, AttributeError):
        return f"crashed: {file} does not say why; its log may"


@contextmanager
def record_crash(folder: Path) -> Iterator[None]:
    """Leave error.json in `folder` if the block raises, and none from an earlier try if it does not."""
    (folder / "error.json").unlink(missing_ok=True)
    try:
        yield
    except Stopped as stop:
        write_json(folder / "error.json", {"reason": str(stop), "stopped": True})
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        reason = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
        write_json(folder / "error.json", {"reason": reason[:500]})
        raise
