"""From tables to batches: what is wrong with a table is said, and nothing is lost or doubled on the way."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from theseus_bench.data import batches as batches_module
from theseus_bench.data import encoding, parquet
from theseus_bench.data.batches import collate, shuffled_batches, token_budget_batches
from theseus_bench.data.encoding import concatenate, encode_table
from theseus_bench.data.parquet import Split, read_source
from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from transformers import AutoTokenizer, BertTokenizer, DistilBertTokenizer

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
    "the", "a", "old", "red", "fox", "owl", "hen", "sees", "hears", "fears", "at", "by", "night",
]  # fmt: skip
COLUMNS = {
    "premise": ["the fox sees the hen", "a hen hears", "the owl", "old owl fears night by night"],
    "guess": ["a hen", "the old red fox at night by the hen", "a", "owl owl"],
    "label": [0, 1, 1, 0],
    "idx": [0, 1, 2, 3],
}


def task(**changes) -> Task:
    block = {
        "name": "toy",
        "label": "Toy",
        "columns": ["premise", "guess"],
        "labels": ["yes", "no"],
        "metrics": ["accuracy"],
        "dev": ["validation"],
        "test": ["test"],
        "rows": {"train": 4, "validation": 4, "test": 4},
        "macro": True,
        "max_length": 16,
    }
    return Task(**block | changes)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    BertTokenizer(vocab={word: code for code, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return AutoTokenizer.from_pretrained(tokenizer_folder)


def write_table(folder: Path, split: str = "train", **changes) -> Path:
    file = folder / f"{split}.parquet"
    pq.write_table(pa.table(COLUMNS | changes), file)
    return file


def complaint(file: Path, *, of: Task | None = None, split="train", sample=False, verify=False) -> str:
    with pytest.raises(UserError) as error:
        read_source(file, of or task(), split, sample, verify)
    text = str(error.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    return text


def split_of(lengths) -> Split:
    """A split whose examples have these lengths; example n holds the token n + 1 only."""
    rows = np.zeros(len(lengths), parquet.ROW)
    rows["length"], rows["first"], rows["idx"] = lengths, lengths, np.arange(len(lengths))
    rows["start"] = np.cumsum(lengths) - lengths
    return Split(np.repeat(np.arange(1, len(lengths) + 1), lengths), rows)


def drawn_lengths(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(4, 60, size=count)


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_good_table_comes_back_with_its_columns_in_order(tmp_path):
    table = read_source(write_table(tmp_path, extra=[9, 9, 9, 9]), task(), "train", sample=False, verify=True)
    assert table.to_pydict() == COLUMNS
    assert table.column_names == ["premise", "guess", "label", "idx"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": [0, 1, 2, 0]}, "row 2: label 2, expected one of 0..1 (yes, no)"),
        ({"label": [0, 1, 1, -1]}, "row 3: label -1, expected one of 0..1"),
        ({"label": [0, None, 1, 0]}, "row 1: label nan"),
        ({"label": ["yes", "no", "no", "yes"]}, "column label holds string, expected numbers"),
        ({"idx": ["a", "b", "c", "d"]}, "column idx holds string"),
        ({"idx": pa.array([0, 1, 2, 2**63], pa.uint64())}, "idx 9223372036854775808 is too large"),
        ({"guess": ["a", None, "a", None]}, "row 1: guess is empty"),
        ({"guess": [1, 2, 3, 4]}, "column guess holds int64, expected text"),
    ],
)
def test_a_bad_value_is_named_with_its_row_or_column(tmp_path, changes, message):
    assert message in complaint(write_table(tmp_path, **changes))


def test_a_hidden_label_is_allowed_in_the_test_split_only(tmp_path):
    hidden = write_table(tmp_path, "test", label=[-1] * 4)
    assert read_source(hidden, task(), "test", sample=False, verify=False).num_rows == 4
    assert "row 0: label -1" in complaint(hidden, split="validation")
    assert "or -1 where hidden" in complaint(write_table(tmp_path, "test", label=[5] * 4), split="test")


def test_a_rating_must_lie_between_0_and_5(tmp_path):
    rating = task(labels=None, metrics=["pearson"])
    fine = write_table(tmp_path, label=[0.0, 5.0, 2.5, 1.2])
    assert read_source(fine, rating, "train", sample=False, verify=False).num_rows == 4
    bad = write_table(tmp_path, label=[0.0, 5.0, 5.1, 1.2])
    assert "row 2: label 5.1, expected a number from 0 to 5" in complaint(bad, of=rating)


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table(COLUMNS).drop_columns(["guess", "label"]), file)
    assert "no column guess, label; expected premise, guess, label, found ['premise', 'idx']" in complaint(file)


def test_without_a_column_of_numbers_the_rows_are_numbered_in_order(tmp_path):
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table(COLUMNS).drop_columns(["idx"]), file)
    table = read_source(file, task(), "train", sample=False, verify=False)
    assert table["idx"].to_pylist() == list(range(table.num_rows))


@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.9])
def test_a_truncated_file_is_told_from_a_table(tmp_path, keep):
    file = write_table(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    assert "not a readable parquet file" in complaint(file)


def test_a_missing_file_is_named(tmp_path):
    assert "no such file; expected split train of toy" in complaint(tmp_path / "train.parquet")


def test_the_number_of_rows_must_be_official_unless_a_sample_is_meant(tmp_path):
    short = task(rows={"train": 5})
    text = complaint(write_table(tmp_path), of=short)
    assert "4 rows, expected 5; if this sample is meant, list toy under data.samples" in text
    assert read_source(write_table(tmp_path), short, "train", sample=True, verify=True).num_rows == 4


def test_a_table_without_rows_is_refused_even_as_a_sample(tmp_path):
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table(COLUMNS).slice(0, 0), file)
    assert "no rows" in complaint(file, sample=True)


def test_the_checksum_is_of_the_content_and_counts_where_it_is_asked_for(tmp_path):
    sum_of = parquet.content_sha256(pa.table(COLUMNS), task())
    official = task(sha256={"train": sum_of})
    pq.write_table(pa.table(COLUMNS), tmp_path / "gzip.parquet", compression="gzip")
    assert read_source(tmp_path / "gzip.parquet", official, "train", sample=False, verify=True).num_rows == 4
    other = write_table(tmp_path, premise=[*COLUMNS["premise"][:3], "old owl fears night by day"])
    text = complaint(other, of=official, verify=True)
    assert "content differs from official GLUE" in text
    assert sum_of in text
    assert read_source(other, official, "train", sample=False, verify=False).num_rows == 4
    assert read_source(other, official, "train", sample=True, verify=True).num_rows == 4


# --- encoding -------------------------------------------------------------------------------------------------------


def test_a_bad_table_leaves_nothing_half_written(tmp_path, tokenizer_folder):
    files = {"train": write_table(tmp_path), "validation": write_table(tmp_path, "validation", label=[0, 1, 9, 0])}
    with pytest.raises(UserError, match=r"validation.parquet: row 2: label 9"):
        encoding.encode_task(task(), files, tokenizer_folder, tmp_path / "out" / "toy", sample=True, verify=False)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_failure_while_writing_leaves_the_earlier_folder(tmp_path, tokenizer_folder, monkeypatch):
    output = tmp_path / "out" / "toy"
    arguments = task(), {"train": write_table(tmp_path)}, tokenizer_folder, output, True, False
    encoding.encode_task(*arguments)
    before = {file.name: file.read_bytes() for file in output.iterdir()}

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(encoding, "write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        encoding.encode_task(*arguments)
    assert {file.name: file.read_bytes() for file in output.iterdir()} == before
    assert list(output.parent.iterdir()) == [output]


def test_an_encoded_task_says_what_went_in(tmp_path, tokenizer_folder, tokenizer):
    output, short = tmp_path / "toy", task(max_length=8)
    encoding.encode_task(short, {"train": write_table(tmp_path)}, tokenizer_folder, output, sample=True, verify=False)
    split, summary = encoding.open_split(output, "train"), encoding.summary(output)
    lengths = [len(tokenizer(*pair, truncation=True, max_length=8)["input_ids"]) for pair in pairs()]
    assert split.rows["length"].tolist() == lengths
    assert split.labels.tolist() == COLUMNS["label"]
    assert split.rows["idx"].tolist() == COLUMNS["idx"]
    assert (summary["task"], summary["pad"]) == ("toy", tokenizer.pad_token_id)
    assert summary["splits"]["train"] == {
        "rows": 4,
        "official_rows": 4,
        "sha256": parquet.content_sha256(pa.table(COLUMNS), short),
        "tokens": sum(lengths),
        "at_max_length": lengths.count(8),
    }


def test_of_a_large_training_set_the_same_few_examples_are_kept(tmp_path, tokenizer_folder):
    many = {name: [value for value in values for _ in range(25)] for name, values in COLUMNS.items()}
    many["idx"] = list(range(100))
    for split in ("train", "validation"):
        pq.write_table(pa.table(many), tmp_path / f"{split}.parquet")
    files = {split: tmp_path / f"{split}.parquet" for split in ("train", "validation")}
    for folder in ("one", "two"):
        encoding.encode_task(
            task(), files, tokenizer_folder, tmp_path / folder, sample=True, verify=False, max_train=20
        )
    subset = encoding.open_split(tmp_path / "one", "train")
    assert len(subset) == 20
    counts = np.unique(many["label"], return_counts=True)[1]
    assert np.array_equal(np.unique(subset.labels, return_counts=True)[1], counts / 5)  # each class has its share
    assert (np.diff(subset.rows["idx"]) > 0).all()
    assert np.array_equal(subset.rows, encoding.open_split(tmp_path / "two", "train").rows)
    assert len(encoding.open_split(tmp_path / "one", "validation")) == 100
    assert encoding.summary(tmp_path / "one")["splits"]["train"]["rows"] == 20


def pairs():
    return list(zip(COLUMNS["premise"], COLUMNS["guess"], strict=True))


@pytest.mark.parametrize("columns", [["premise"], ["premise", "guess"]])
@pytest.mark.parametrize("kind", [BertTokenizer, DistilBertTokenizer])
@pytest.mark.parametrize("max_length", [8, 16])
@pytest.mark.parametrize("bucket", [1, 12])
def test_batches_are_padded_as_transformers_pads_them(tokenizer_folder, columns, kind, max_length, bucket):
    tokenizer = kind.from_pretrained(tokenizer_folder)
    tokenizer.padding_side = "right"
    split = encode_table(pa.table(COLUMNS), task(columns=columns, max_length=max_length), tokenizer)
    indices = np.array([3, 0, 2])
    examples = [
        tokenizer(*[COLUMNS[column][i] for column in columns], truncation="longest_first", max_length=max_length)
        for i in indices
    ]
    expected = tokenizer.pad(examples, return_tensors="np", pad_to_multiple_of=bucket)
    batch = collate(split, indices, tokenizer.pad_token_id, bucket)
    for name in expected:
        assert batch[name].tolist() == expected[name].tolist(), name
        assert batch[name].dtype == np.int64
    if "token_type_ids" not in expected:
        assert not batch["token_type_ids"].any()
    elif len(columns) == 2:
        assert batch["token_type_ids"].any()
    assert batch["labels"].tolist() == [0, 0, 1]


def test_joined_splits_give_the_batches_of_each(tokenizer):
    whole = encode_table(pa.table(COLUMNS), task(), tokenizer)
    parts = [encode_table(pa.table(COLUMNS).slice(start, 2), task(), tokenizer) for start in (0, 2)]
    concatenation = concatenate(parts)
    assert len(concatenation) == 4
    for name, array in collate(concatenation, np.arange(4), 0).items():
        assert array.tolist() == collate(whole, np.arange(4), 0)[name].tolist()
    assert parts[1].rows["start"][0] == 0  # the parts are as they were


# --- order ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(examples=st.integers(1, 700), batch_size=st.integers(1, 40))
def test_an_epoch_has_every_example_once(examples, batch_size):
    batches = shuffled_batches(examples, "toy", 1, 0, batch_size)
    assert sorted(np.concatenate(batches)) == list(range(examples))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-examples // batch_size)


def order(task_name="toy", seed=1, epoch=0) -> list[list[int]]:
    return [batch.tolist() for batch in shuffled_batches(300, task_name, seed, epoch, 8)]


def test_the_order_depends_on_the_task_the_seed_and_the_epoch_alone():
    first = order()
    np.random.default_rng().random()
    np.random.seed(99)
    assert order() == first
    for other in [order(task_name="other"), order(seed=2), order(epoch=1)]:
        assert other != first
    assert order(seed=2, epoch=1) != order(seed=1, epoch=2)


def test_a_batch_is_of_examples_of_all_lengths():
    """Batches of like lengths would make a batch's labels alike wherever length tells of the label."""
    lengths = drawn_lengths(1600)
    means = [lengths[batch].mean() for batch in shuffled_batches(len(lengths), "toy", 1, 0, 16)]
    expected = lengths.std() / 4  # of means of 16
    assert 0.7 * expected < np.std(means) < 1.3 * expected


def test_evaluation_covers_all_once_within_its_budget():
    lengths = np.append(
        drawn_lengths(3000), batches_module.EVALUATION_TOKENS + 5
    )  # one example is too long for any batch
    batches = list(token_budget_batches(split_of(lengths)))
    assert sorted(np.concatenate(batches)) == list(range(3001))
    assert batches[0].tolist() == [3000]
    for batch in batches[1:]:
        assert len(batch) * lengths[batch].max() <= batches_module.EVALUATION_TOKENS
    assert len(batches) - 1 < 1.2 * lengths[:-1].sum() / batches_module.EVALUATION_TOKENS + 1
    assert sum(len(batch) * lengths[batch].max() for batch in batches) < 1.1 * lengths.sum()


@pytest.mark.parametrize("text", ['{"task": "toy", "spl', "{}", "[]", b"\xff".decode("latin-1")])
def test_an_account_of_the_data_that_is_damaged_is_named(tmp_path, text):
    (tmp_path / "data.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=rf"^{tmp_path}/data.json: not .*; the same snakemake command mends it$"):
        encoding.summary(tmp_path)


def test_an_idx_without_sign_is_read_as_any_other(tmp_path):
    file = write_table(tmp_path, idx=pa.array([0, 1, 2, 2**63 - 1], pa.uint64()))
    assert read_source(file, task(), "train", sample=False, verify=False)["idx"].to_pylist() == [0, 1, 2, 2**63 - 1]


def test_text_that_is_no_utf8_is_refused(tmp_path):
    """Arrow reads it as it is; what takes it for text would fail later."""
    premise = pa.Array.from_buffers(pa.string(), 4, pa.array([b"\xff", b"a", b"b", b"c"], pa.binary()).buffers())
    file = write_table(tmp_path, premise=premise)
    with pytest.raises(UserError, match=rf"^{file}: damaged: .*Invalid UTF8 .*; fetch it again$"):
        read_source(file, task(), "train", sample=False, verify=False)
