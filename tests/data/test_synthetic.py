"""The miniature GLUE: schema, determinism, disjoint splits and a vocabulary that covers it.

What a tiny BERT learns from it is checked by the demo suite itself.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from theseus_bench.data import synthetic
from theseus_bench.data.tasks import load_tasks
from theseus_bench.errors import UserError

ROOT = Path(__file__).parents[2]
TASKS = load_tasks(ROOT / "config" / "tasks.yaml")
ROWS = 600


@pytest.fixture(scope="module")
def glue() -> dict[str, dict[str, pd.DataFrame]]:
    return {name: synthetic.generate(task, ROWS) for name, task in TASKS.items()}


def texts(task, frame) -> list[tuple[str, ...]]:
    return list(zip(*(frame[column] for column in task.columns), strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_splits_columns_and_types_are_the_hubs(glue, name):
    task = TASKS[name]
    assert list(glue[name]) == task.splits
    for frame in glue[name].values():
        assert list(frame.columns) == [*task.columns, "label", "idx"]
        assert all(isinstance(text, str) and text for example in texts(task, frame) for text in example)
        assert frame["label"].dtype == (np.float32 if task.regression else np.int64)
        assert frame["idx"].dtype == np.int32
        assert frame["idx"].tolist() == list(range(len(frame)))


@pytest.mark.parametrize("name", TASKS)
def test_split_sizes(glue, name):
    task = TASKS[name]
    sizes = {split: len(frame) for split, frame in glue[name].items()}
    expected = {split: 200 for split in task.dev} | {split: 75 for split in task.test}
    assert sizes == ({} if task.trained_on else {"train": ROWS}) | expected


def test_small_suites_keep_usable_dev_and_test_sets():
    sizes = {split: len(frame) for split, frame in synthetic.generate(TASKS["rte"], 8).items()}
    assert sizes == {"train": 8, "validation": 64, "test": 32}


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.regression])
def test_labelled_splits_hold_every_class_near_its_share(glue, name):
    task = TASKS[name]
    for split in set(task.splits) - set(task.test):
        shares = glue[name][split]["label"].value_counts(normalize=True)
        assert sorted(shares.index) == list(range(task.outputs))
        assert shares.between(0.25, 0.72).all()


def test_majority_classes_are_those_of_the_real_tasks(glue):
    for name, majority in {"cola": "acceptable", "mrpc": "equivalent", "qqp": "not_duplicate"}.items():
        assert TASKS[name].labels[glue[name]["train"]["label"].mode()[0]] == majority


def test_label_codes_follow_the_tasks_file(glue):
    # WNLI's codes are the reverse of RTE's: a code fixed in the generator would be wrong in one of them.
    task = TASKS["wnli"].model_copy(update={"labels": TASKS["wnli"].labels[::-1]})
    assert (synthetic.generate(task, ROWS)["train"]["label"] == 1 - glue["wnli"]["train"]["label"]).all()


def test_similarity_scores_span_the_scale(glue):
    for split in ["train", "validation"]:
        labels = glue["stsb"][split]["label"]
        assert labels.between(0, 5).all()
        assert labels.min() < 0.5
        assert labels.max() > 4.5


def test_hidden_test_labels(glue):
    for name, task in TASKS.items():
        for split in task.test:
            labels = set(glue[name][split]["label"])
            assert labels == ({0, 1} if name == "mrpc" else {-1}), f"{name}/{split}"


@pytest.mark.parametrize("name", TASKS)
def test_no_example_occurs_twice_in_any_split(glue, name):
    examples = [example for frame in glue[name].values() for example in texts(TASKS[name], frame)]
    assert len(set(examples)) == len(examples)


def test_same_arguments_give_the_same_frames(glue):
    for name in reversed(TASKS):
        again = synthetic.generate(TASKS[name], ROWS)
        for split, frame in glue[name].items():
            pd.testing.assert_frame_equal(frame, again[split])


def test_another_seed_gives_other_sentences(glue):
    other = synthetic.generate(TASKS["cola"], ROWS, seed=1)["train"]
    assert (other["sentence"] != glue["cola"]["train"]["sentence"]).mean() > 0.9


def test_content_does_not_depend_on_hash_randomisation():
    code = f"""
from pathlib import Path
from theseus_bench.data import synthetic, tasks
task = tasks.load_tasks(Path({str(ROOT / "config" / "tasks.yaml")!r}))["qnli"]
frames = [frame.to_csv() for frame in synthetic.generate(task, 20).values()]
print(frames, synthetic.vocabulary(), synthetic.pretraining_pairs(20))
"""
    # this process has another hash seed: a random one, or the 0 that switches randomisation off
    environ = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(synthetic.__file__).parents[2])}
    there = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True, text=True).stdout
    here = (
        [frame.to_csv() for frame in synthetic.generate(TASKS["qnli"], 20).values()],
        synthetic.vocabulary(),
        synthetic.pretraining_pairs(20),
    )
    assert there.strip() == " ".join(map(str, here))


def test_vocabulary_is_exactly_the_words_that_occur(glue):
    vocabulary = synthetic.vocabulary()
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(vocabulary)) == len(vocabulary) < 300
    frames = [(TASKS[name], frame) for name, splits in glue.items() for frame in splits.values()]
    words = {
        word for task, frame in frames for example in texts(task, frame) for text in example for word in text.split()
    }
    assert words == set(vocabulary[5:])


def test_chronicle_pairs_are_in_the_vocabulary_and_of_both_sorts():
    pairs = synthetic.pretraining_pairs(500)
    vocabulary = set(synthetic.vocabulary())
    assert len(pairs) == 500
    assert {follows for _, _, follows in pairs} == {True, False}
    assert {word for first, second, _ in pairs for word in f"{first} {second}".split()} <= vocabulary


def test_every_example_fits_24_tokens(glue):
    for name, splits in glue.items():
        for frame in splits.values():
            for example in texts(TASKS[name], frame):
                assert 1 + sum(len(text.split()) + 1 for text in example) <= 24, example


def test_a_task_without_a_miniature_is_refused():
    with pytest.raises(UserError, match=r"mnlo.*did you mean 'mnli'"):
        synthetic.generate(TASKS["mnli"].model_copy(update={"name": "mnlo"}), 8)


def test_more_rows_than_sentences_are_refused(monkeypatch):
    monkeypatch.setitem(synthetic.WRITERS, "rte", lambda rng, split: ((f"{rng.randrange(20)}", "a"), "entailment"))
    with pytest.raises(UserError, match=r"rte.*fewer rows"):
        synthetic.generate(TASKS["rte"], 50)


def test_tokenizer_gives_every_word_its_own_token(glue, tmp_path):
    transformers = pytest.importorskip("transformers")
    synthetic.write_tokenizer(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    vocabulary = synthetic.vocabulary()
    assert tokenizer.convert_tokens_to_ids(vocabulary) == list(range(len(vocabulary)))
    assert tokenizer.pad_token_id == 0
    assert tokenizer.mask_token == "[MASK]"
    premise, hypothesis = texts(TASKS["mnli"], glue["mnli"]["train"])[0]
    encoding = tokenizer(premise.upper(), hypothesis)
    words = ["[CLS]", *premise.split(), "[SEP]", *hypothesis.split(), "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(encoding["input_ids"]) == words
    assert encoding["token_type_ids"] == [0] * (len(premise.split()) + 2) + [1] * (len(hypothesis.split()) + 1)
    sentences = [
        text for name, task in TASKS.items() for example in texts(task, glue[name][task.test[0]]) for text in example
    ]
    assert all(tokenizer.unk_token_id not in ids for ids in tokenizer(sentences)["input_ids"])
