"""From tables of sentences to batches: checked on arrival, tokenized once, memory-mapped, bucketed by length.

An encoded split is two NumPy files. `<split>.tokens.npy` holds the token ids of all examples end to end;
`<split>.rows.npy` has one record an example: where its tokens start, how many there are, how many belong to the first
sentence, its label and its index in the source. A batch is cut out of them without a loop over examples.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from theseus_bench.errors import UserError
from theseus_bench.records import atomic, write_json
from theseus_bench.tasks import Task

ROW = np.dtype([("start", "i8"), ("length", "i4"), ("first", "i4"), ("label", "f4"), ("idx", "i8")])
POOL = 50  # batches whose examples are sorted by length together: enough equals for each, yet mixed anew each epoch
EVALUATION_TOKENS = 4096  # padded tokens of an evaluation batch: large enough for speed, and not mostly padding
HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 1000  # of the training examples, where choices are made on a part of them
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

    `sample` accepts other rows than official GLUE's. Raises UserError with the file, the row where there is one, and
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
    wanted = [*task.columns, "label", "idx"]
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise UserError(
            f"{file}: no column {', '.join(missing)}; expected {', '.join(wanted)}, found {table.column_names}"
        )
    table = table.select(wanted)
    _check_values(table, file, task, split)
    official = task.rows[split]
    if not sample and table.num_rows != official:
        raise UserError(
            f"{file}: {table.num_rows} rows, expected {official}; "
            f"if this sample is meant, list {task.name} under data.samples"
        )
    if verify and not sample and split in task.sha256:
        found = content_sha256(table, task)
        if found != task.sha256[split]:
            raise UserError(
                f"{file}: content differs from official GLUE (sha256 {found}, expected {task.sha256[split]}); "
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

    Of a training set of more than `max_train` examples only as many are kept (`stratified`), in their order.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tables = {split: read_source(file, task, split, sample, verify) for split, file in files.items()}
    if max_train is not None and tables["train"].num_rows > max_train:
        labels = tables["train"]["label"].to_numpy()
        tables["train"] = tables["train"].take(stratified(labels, max_train, f"sample of {task.name}"))
    with atomic(output) as scratch:
        scratch.mkdir()
        splits = {}
        for split, table in tables.items():
            encoded = encode_table(table, task, tokenizer)
            np.save(scratch / f"{split}.tokens.npy", encoded.tokens)
            np.save(scratch / f"{split}.rows.npy", encoded.rows)
            splits[split] = {
                "rows": len(encoded),
                "official_rows": task.rows[split],
                "sha256": content_sha256(table, task),
                "tokens": len(encoded.tokens),
                "at_max_length": int((encoded.rows["length"] == task.max_length).sum()),
            }
        summary = {"task": task.name, "max_length": task.max_length, "pad": tokenizer.pad_token_id, "splits": splits}
        write_json(scratch / "data.json", summary)


def encode_table(table: pa.Table, task: Task, tokenizer) -> Split:
    """Tokenize the sentences (pairs) of a table, each cut to the task's max_length."""
    texts = [table[column].to_pylist() for column in task.columns]
    return encode_texts(texts, table["label"].to_numpy(), table["idx"].to_numpy(), task.max_length, tokenizer)


def encode_texts(texts: Sequence[Sequence[str]], labels, idx, max_length: int, tokenizer) -> Split:
    """Tokenize one column of texts, or two that form pairs; `labels` and `idx` have one entry an example."""
    texts = [list(column) for column in texts]
    encoded = tokenizer(*texts, truncation="longest_first", max_length=max_length, return_attention_mask=False)
    ids = encoded["input_ids"]
    rows = np.zeros(len(ids), ROW)
    rows["length"] = [len(i) for i in ids]
    rows["start"] = np.concatenate([[0], np.cumsum(rows["length"])[:-1]])
    types = encoded.get("token_type_ids")
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


def hold_out(split: Split, task: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a training set's examples to train on, and of those held out to choose by, each in order.

    Held out is a tenth, at most 1,000, the same for every method and seed.
    """
    count = min(HELD_OUT_MOST, round(HELD_OUT_SHARE * len(split)))
    held = stratified(split.labels, count, f"held out of {task}")
    return np.setdiff1d(np.arange(len(split)), held), held


def stratified(labels: np.ndarray, count: int, salt: str) -> np.ndarray:
    """The numbers of `count` examples drawn evenly over their labels, in order; the same ones for the same `salt`.

    The examples, shuffled, are put in the order of their labels (classes or values) and cut into `count` runs of equal
    length; one of each is drawn. So a class has its share to within one example, and values are spread as in the whole.
    """
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8]))
    order = random.permutation(len(labels))
    order = order[np.argsort(np.asarray(labels)[order], kind="stable")]
    ends = np.linspace(0, len(labels), count + 1).round().astype(int)
    return np.sort(order[random.integers(ends[:-1], ends[1:])])


def take(split: Split, examples: np.ndarray) -> Split:
    """The split with these of its examples alone."""
    return Split(split.tokens, split.rows[examples])


def open_split(folder: Path, split: str) -> Split:
    """An encoded split of the task in `folder`, read from disk only as it is used."""
    return Split(np.load(folder / f"{split}.tokens.npy", mmap_mode="r"), np.load(folder / f"{split}.rows.npy"))


def summary(folder: Path) -> dict:
    """The data.json of an encoded task."""
    file = folder / "data.json"
    if not file.is_file():
        raise UserError(f"{file}: no such file; first: theseus-bench encode {folder.parent.parent} {folder.name}")
    return json.loads(file.read_text(encoding="utf-8"))


def training_order(split: Split, task: str, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
    """The batches of one epoch as arrays of example numbers, similar lengths together.

    Depends on the task, the seed and the epoch alone, so that all methods see the same batches in the same order.
    """
    random = np.random.default_rng([seed, epoch, int.from_bytes(hashlib.sha256(task.encode()).digest()[:4])])
    order = random.permutation(len(split))
    lengths = split.rows["length"]
    batches = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def evaluation_order(split: Split) -> Iterator[np.ndarray]:
    """All example numbers, longest first, in batches of at most EVALUATION_TOKENS padded tokens."""
    order = np.argsort(split.rows["length"], kind="stable")
    lengths = split.rows["length"][order]
    end = len(order)
    while end:
        size = min(end, max(1, EVALUATION_TOKENS // int(lengths[end - 1])))
        yield order[end - size : end]
        end -= size


def collate(split: Split, examples: np.ndarray, pad: int, bucket: int = 1) -> dict[str, np.ndarray]:
    """The examples padded to the longest, or on to a multiple of `bucket` tokens.

    input_ids, attention_mask and token_type_ids (batch, length), and labels (batch,).
    """
    rows = split.rows[examples]
    position = np.arange(-(-rows["length"].max() // bucket) * bucket)
    inside = position < rows["length"][:, None]
    where = np.where(inside, rows["start"][:, None] + position, 0)
    return {
        "input_ids": np.where(inside, split.tokens[where], pad).astype(np.int64),
        "attention_mask": inside.astype(np.int64),
        "token_type_ids": (inside & (position >= rows["first"][:, None])).astype(np.int64),
        "labels": rows["label"],
    }


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
