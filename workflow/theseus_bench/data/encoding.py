"""From tables of sentences to tokens on disk: checked on arrival, tokenized once, memory-mapped.

An encoded split is two NumPy files. `<split>.tokens.npy` holds the token ids of all examples end to end;
`<split>.rows.npy` has one record an example: where its tokens start, how many there are, how many belong to the first
sentence, its label and its index in the source. A batch is cut out of them without a loop over examples.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from theseus_bench.checksums import check_folder, sign_folder
from theseus_bench.data.held_out import draw_stratified
from theseus_bench.data.parquet import ROW, Split, content_sha256, read_source
from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.files import AGAIN, atomic, read_json, write_json


def encode_task(
    task: Task,
    files: dict[str, Path],
    tokenizer_folder: Path,
    output: Path,
    sample: bool,
    verify: bool,
    max_train: int | None = None,
) -> None:
    """Check and tokenize every split of a task into the folder `output`, with data.json that says what went in.

    Of a training set of more than `max_train` examples only as many are kept (`draw_stratified`), in their order.
    """
    from transformers import AutoTokenizer

    check_folder(tokenizer_folder)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tables = {split: read_source(file, task, split, sample, verify) for split, file in files.items()}
    official_rows = {split: task.rows.get(split, table.num_rows) for split, table in tables.items()}
    if max_train is not None and tables["train"].num_rows > max_train:
        labels = tables["train"]["label"].to_numpy()
        tables["train"] = tables["train"].take(draw_stratified(labels, max_train, f"sample of {task.name}"))
    with atomic(output) as scratch:
        scratch.mkdir()
        splits = {}
        for split, table in tables.items():
            content = encode_table(table, task, tokenizer)
            np.save(scratch / f"{split}.tokens.npy", content.tokens)
            np.save(scratch / f"{split}.rows.npy", content.rows)
            splits[split] = {
                "rows": len(content),
                "official_rows": official_rows[split],
                "sha256": content_sha256(table, task),
                "tokens": len(content.tokens),
                "at_max_length": int((content.rows["length"] == task.max_length).sum()),
            }
        summary = {"task": task.name, "max_length": task.max_length, "pad": tokenizer.pad_token_id, "splits": splits}
        write_json(scratch / "data.json", summary)
        sign_folder(scratch)


def encode_table(table: pa.Table, task: Task, tokenizer) -> Split:
    """Tokenize the sentences (pairs) of a table, each cut to the task's max_length."""
    texts = [table[column].to_pylist() for column in task.columns]
    return encode_texts(texts, table["label"].to_numpy(), table["idx"].to_numpy(), task.max_length, tokenizer)


def encode_texts(texts: Sequence[Sequence[str]], labels, idx, max_length: int, tokenizer) -> Split:
    """Tokenize one column of texts, or two that form pairs; `labels` and `idx` have one entry an example."""
    texts = [list(column) for column in texts]
    encoding = tokenizer(*texts, truncation="longest_first", max_length=max_length, return_attention_mask=False)
    ids = encoding["input_ids"]
    rows = np.zeros(len(ids), ROW)
    rows["length"] = [len(i) for i in ids]
    rows["start"] = np.concatenate([[0], np.cumsum(rows["length"])[:-1]])
    types = encoding.get("token_type_ids")
    # A tokenizer without segments (RoBERTa's, DistilBERT's) puts everything into the first.
    rows["first"] = [t.index(1) if 1 in t else len(t) for t in types] if types else rows["length"]
    rows["label"], rows["idx"] = labels, idx
    small = np.uint16 if len(tokenizer) <= np.iinfo(np.uint16).max else np.int32
    return Split(np.fromiter(itertools.chain.from_iterable(ids), small, int(rows["length"].sum())), rows)


def concatenate(splits: list[Split]) -> Split:
    """One split with the examples of all."""
    starts = np.cumsum([0] + [len(split.tokens) for split in splits])
    rows = np.concatenate([split.rows for split in splits])
    rows["start"] += np.repeat(starts[:-1], [len(split) for split in splits])
    return Split(np.concatenate([split.tokens for split in splits]), rows)


def open_split(folder: Path, split: str) -> Split:
    """An encoded split of the task in `folder`; UserError if it is not what was written there."""
    check_folder(folder, f"{split}.tokens.npy", f"{split}.rows.npy")
    return Split(np.load(folder / f"{split}.tokens.npy", mmap_mode="r"), np.load(folder / f"{split}.rows.npy"))


def summary(folder: Path) -> dict:
    """The data.json of an encoded task."""
    file = folder / "data.json"
    if not file.is_file():
        raise UserError(f"{file}: no such file; first: theseus-bench encode {folder.parent.parent} {folder.name}")
    check_folder(folder, file.name)
    values = read_json(file)
    if not isinstance(values, dict) or not {"pad", "splits"} <= values.keys():
        raise UserError(f"{file}: not what theseus-bench encode writes; {AGAIN}")
    return values
