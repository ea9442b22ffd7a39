"""Masking, distillation on unlabelled text, and compact checkpoints."""

import numpy as np
import pytest
import torch
from theseus_bench.data.batches import collate, shuffled_batches
from theseus_bench.data.parquet import Split
from theseus_bench.modeling.devices import seed_everything
from theseus_bench.suite.config import Compact
from theseus_bench.training import pretraining
from theseus_bench.training.pretraining import IGNORED, distil, make_compact, pretrain
from tiny import (
    FIRST_WORD,
    HARDWARE,
    LAYERS,
    PAD,
    WORDS,
    inputs_of,
    make_checkpoint,
    make_loop,
    make_split,
    same,
    weights,
    write_checkpoint,
)
from torch.nn import functional
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

MASK = WORDS.index("[MASK]")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A masked language model of six layers."""
    return write_checkpoint(tmp_path_factory.mktemp("backbone"), layers=6, seed=1)


@pytest.fixture(scope="module")
def tokenizer(backbone):
    return AutoTokenizer.from_pretrained(backbone)


def few_words(examples):
    """A text of four words only, which a model soon finds out."""
    text = make_split(examples)
    return Split(np.where(text.tokens >= FIRST_WORD, FIRST_WORD + text.tokens % 4, text.tokens), text.rows)


def batches(text, tokenizer, steps, batch_size=8):
    """Masked batches, each with the ids before masking."""
    settings = make_loop(max_steps=steps, batch_size=batch_size)
    orders = (shuffled_batches(len(text), "text", 0, epoch, batch_size) for epoch in range(steps))
    examples = (examples for order in orders for examples in order)
    for batch, indices in zip(pretraining._masked_batches(text, tokenizer, settings), examples, strict=False):
        yield batch, collate(text, indices, tokenizer.pad_token_id)["input_ids"]


def test_masking_statistics(tokenizer):
    pairs = list(batches(make_split(300), tokenizer, steps=150, batch_size=64))
    assert len(pairs) == 150
    eligible, counts, tokens, truth = 0, [], [], []
    for batch, original in pairs:
        special = np.isin(original, range(5))  # [PAD], [UNK], [CLS], [SEP], [MASK]
        mask = batch["labels"] != IGNORED
        assert not (mask & special).any()
        assert np.array_equal(batch["labels"][mask], original[mask])
        assert np.array_equal(batch["input_ids"][~mask], original[~mask])
        assert np.array_equal(batch["attention_mask"], original != PAD)
        eligible += (~special).sum()
        counts.append(mask.sum())
        tokens.append(batch["input_ids"][mask])
        truth.append(original[mask])
    tokens, truth, words = np.concatenate(tokens), np.concatenate(truth), len(WORDS)
    assert np.sum(counts) / eligible == pytest.approx(0.15, abs=4.5 * np.sqrt(0.15 * 0.85 / eligible))
    for frequency, share in [
        ((tokens == MASK).mean(), 0.8 + 0.1 / words),
        ((tokens == truth).mean(), 0.1 + 0.1 / words),
        (((tokens != truth) & (tokens != MASK)).mean(), 0.1 * (1 - 2 / words)),
    ]:
        assert frequency == pytest.approx(share, abs=4.5 * np.sqrt(share * (1 - share) / len(tokens)))
    replacements = tokens[(tokens != truth) & (tokens != MASK)]
    assert len(np.unique(replacements)) == words - 1  # any token of the vocabulary
    assert np.bincount(replacements).max() < 3 * len(replacements) / words


def test_masks_are_new_in_each_epoch_and_the_same_again(tokenizer):
    text = make_split(16)
    one, two = ([batch["labels"] for batch, _ in batches(text, tokenizer, 4)] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    counts = [np.sort((labels != IGNORED).sum(axis=1)).tolist() for labels in one]
    assert counts[:2] != counts[2:]


def test_pretraining_starts_at_the_loss_that_transformers_computes_and_lowers_it(backbone, tokenizer, tmp_path):
    text = few_words(32)
    model = AutoModelForMaskedLM.from_pretrained(backbone)
    model.eval()
    model.train = lambda mode=True: model  # no dropout
    batch, _ = next(batches(text, tokenizer, 1))
    batch = {name: torch.from_numpy(value) for name, value in batch.items()}
    expected = model(**inputs_of(model, batch), labels=batch["labels"]).loss.item()
    losses = pretrain(
        model, text, tokenizer, make_loop(max_steps=40, learning_rate=1e-2), HARDWARE, make_checkpoint(tmp_path)
    )
    assert len(losses) == 40
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_a_batch_without_a_masked_token_does_no_harm(backbone, tokenizer, tmp_path):
    """A remainder of one short example often has none."""
    text = make_split(20)
    shortest = np.argsort(text.rows["length"], kind="stable")[:1]
    text = Split(text.tokens, text.rows[shortest])
    has_mask = [(batch["labels"] != IGNORED).any() for batch, _ in batches(text, tokenizer, 12)]
    assert 0 < sum(has_mask) < 12
    teacher, student = (AutoModelForMaskedLM.from_pretrained(backbone) for _ in range(2))
    settings = make_loop(max_steps=12)
    for losses in (
        pretrain(student, text, tokenizer, settings, HARDWARE, make_checkpoint(tmp_path / "one")),
        distil(teacher, student, text, tokenizer, settings, HARDWARE, make_checkpoint(tmp_path / "other")),
    ):
        assert np.isfinite(losses).all()
    assert all(torch.isfinite(p).all() for p in student.parameters())


def distilberts_loss(teacher, student, batch):
    """5·T²·KL + 2·MLM + 1·cosine, of real tokens, from the definitions (DistilBERT's published training command)."""
    teacher_output = teacher(**inputs_of(teacher, batch), output_hidden_states=True)
    student_output = student(**inputs_of(student, batch), output_hidden_states=True)
    real = batch["attention_mask"] == 1
    p, q = torch.softmax(teacher_output.logits[real] / 2, 1), torch.softmax(student_output.logits[real] / 2, 1)
    soft = (p * (p / q).log()).sum(1).mean()
    a, b = teacher_output.hidden_states[-1][real], student_output.hidden_states[-1][real]
    cosine = 1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    mlm = functional.cross_entropy(student_output.logits.transpose(1, 2), batch["labels"], ignore_index=-100)
    return 5 * 4 * soft + cosine.mean() + 2 * mlm


def test_distillation_starts_at_distilberts_loss_and_lowers_it(tmp_path):
    folder = write_checkpoint(tmp_path / "teacher", layers=4, seed=1, dropout=0.1)
    other = write_checkpoint(tmp_path / "student", layers=2, seed=2, dropout=0.0)
    teacher, student = (AutoModelForMaskedLM.from_pretrained(path) for path in (folder, other))
    text, tokenizer = make_split(24), AutoTokenizer.from_pretrained(folder)
    batch, _ = next(batches(text, tokenizer, 1))
    batch = {name: torch.from_numpy(value) for name, value in batch.items()}
    with torch.no_grad():
        expected = distilberts_loss(teacher.eval(), student, batch).item()
    before = weights(teacher)
    teacher.train()  # distil() must put it into evaluation
    settings = make_loop(max_steps=60, learning_rate=5e-3)
    losses = distil(teacher, student, text, tokenizer, settings, HARDWARE, make_checkpoint(tmp_path))
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert np.mean(losses[-6:]) < 0.85 * np.mean(losses[:6])
    assert same(weights(teacher), before)


def layer_state(state, prefix, number):
    start = f"{prefix}.{number}."
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize(("layers", "numbers"), [(3, [0, 2, 4]), (2, [0, 3])])
def test_a_compact_checkpoint_starts_from_evenly_spaced_layers(tmp_path, family, layers, numbers):
    folder = write_checkpoint(tmp_path / "backbone", family, layers=6, seed=1)
    recipe = Compact(source="recipe", steps=1, batch_size=8, learning_rate=1e-9)  # hardly moved from where it started
    report = make_compact(
        folder, make_split(8), recipe, layers, HARDWARE, make_checkpoint(tmp_path), tmp_path / "compact"
    )
    assert report.keys() == {"first", "last"}
    model, problems = AutoModelForMaskedLM.from_pretrained(tmp_path / "compact", output_loading_info=True)
    assert not any(problems.values()), problems
    original, state = AutoModelForMaskedLM.from_pretrained(folder).state_dict(), model.state_dict()
    for position, number in enumerate(numbers):
        layer = layer_state(state, LAYERS[family], position)
        assert layer
        for name, value in layer_state(original, LAYERS[family], number).items():
            torch.testing.assert_close(layer[name], value, rtol=0, atol=1e-7)
    assert not layer_state(state, LAYERS[family], layers)
    for name in original:
        if not name.startswith(LAYERS[family]):
            torch.testing.assert_close(state[name], original[name], rtol=0, atol=1e-7)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "compact")
    assert classifier.config.num_hidden_layers == layers
    assert len(classifier.get_submodule(LAYERS[family])) == layers
    assert same(layer_state(classifier.state_dict(), LAYERS[family], 1), layer_state(state, LAYERS[family], 1))
    assert AutoTokenizer.from_pretrained(tmp_path / "compact").get_vocab() == {w: i for i, w in enumerate(WORDS)}


def test_fitting_a_head_leaves_the_body_as_it_is(tmp_path, monkeypatch):
    """For a backbone that was published without a head: bare encoder weights."""
    whole = write_checkpoint(tmp_path / "whole", layers=4, seed=1)
    body, folder = AutoModel.from_pretrained(whole, add_pooling_layer=False), tmp_path / "bare"
    body.save_pretrained(folder)
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
    parameters = {}

    def record(teacher, student, *rest):
        parameters["teacher"], parameters["student"] = weights(teacher), weights(student)
        return distil(teacher, student, *rest)

    monkeypatch.setattr(pretraining, "distil", record)
    recipe = Compact(source="recipe", steps=2, head_steps=60, batch_size=8, learning_rate=1e-2)
    report = make_compact(folder, few_words(32), recipe, 2, HARDWARE, make_checkpoint(tmp_path), tmp_path / "compact")
    assert report["head_last"] < 0.9 * report["head_first"]
    inside = {name: value for name, value in parameters["teacher"].items() if name.startswith("bert.")}
    assert same({name.removeprefix("bert."): value for name, value in inside.items()}, weights(body))
    seed_everything(0)
    fresh = AutoModelForMaskedLM.from_pretrained(folder).state_dict()  # the head that make_compact drew first
    head = parameters["teacher"].keys() - inside.keys()
    changes = {name for name in head if not torch.equal(parameters["teacher"][name], fresh[name])}
    decoder = {name for name in head if name.endswith("decoder.weight")}  # the word embeddings again: body
    assert head - changes == decoder
    assert all(
        torch.equal(parameters["student"][name], parameters["teacher"][name]) for name in head
    )  # both start with it
