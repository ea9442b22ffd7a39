"""A model that starts from another task's, and what a saved model says of itself."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from records import RECORD
from theseus_bench.errors import UserError
from theseus_bench.modeling.checkpoints import load_classifier, save_checkpoint
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.records import RunRecord
from theseus_bench.training.loop import fit
from theseus_bench.training.method import RunContext
from theseus_bench.training.model_card import model_card
from tiny import (
    HARDWARE,
    LAYERS,
    build,
    inputs_of,
    make_batch,
    make_checkpoint,
    make_data,
    make_task,
    same,
    weights,
    write_checkpoint,
)
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer

NO_GRADIENT = ("key.bias", "k_lin.bias")  # no attention depends on it: its gradient is rounding
SPREAD = 0.2  # of the weights that a tiny model draws: the initializer_range of its config


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """By family: a classifier of two layers and three classes, without dropout."""
    folder = tmp_path_factory.mktemp("sources")
    return {f: write_checkpoint(folder / f, f, 2, 3, seed=4, dropout=0.0) for f in LAYERS}


def weights_of(folder):
    return weights(AutoModelForSequenceClassification.from_pretrained(folder))


def split(state, family):
    """The weights of the encoder and those of the classifier."""
    body = {name: value for name, value in state.items() if name.startswith(f"{family}.")}
    return body, {name: value for name, value in state.items() if name.startswith("classifier.")}


def load_fresh(folder, outputs, seed=5):
    torch.manual_seed(seed)
    return load_classifier(folder, make_task(outputs), fresh_head=True)


# -- a fresh head


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("outputs", [2, 3, 1])
def test_a_fresh_head_stands_on_the_checkpoints_body(sources, family, outputs):
    model = load_fresh(sources[family], outputs)
    body, _ = split(weights(model), family)
    assert same(body, split(weights_of(sources[family]), family)[0])
    assert len(model.get_submodule(LAYERS[family])) == 2
    assert model.config.num_labels == outputs
    assert model.config.problem_type == ("regression" if outputs == 1 else "single_label_classification")
    if outputs > 1:
        assert [model.config.id2label[code] for code in range(outputs)] == make_task(outputs).labels
    batch = make_batch(make_data(outputs))
    assert model(**inputs_of(model, batch)).logits.shape == (6, outputs)


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("outputs", [2, 3, 1])
def test_a_fresh_head_is_drawn_as_new_ones_are(sources, family, outputs):
    """Also where the stored one has the same width: none of its weights is left, and biases are zero."""
    _, old = split(weights_of(sources[family]), family)
    _, head = split(weights(load_fresh(sources[family], outputs)), family)
    assert head.keys() == old.keys()
    for name, value in head.items():
        if name.endswith("bias"):
            assert not value.any()
        else:
            assert 0.6 * SPREAD < value.std() < 1.4 * SPREAD
            assert abs(value.mean()) < 4.5 * SPREAD / value.numel() ** 0.5
        if value.shape == old[name].shape:
            assert (value != old[name]).all(), name


@pytest.mark.parametrize("family", LAYERS)
def test_a_fresh_head_depends_on_torchs_seed_alone(sources, family):
    first, again, other = (weights(load_fresh(sources[family], 3, seed)) for seed in (5, 5, 6))
    assert same(first, again)
    for name, value in split(first, family)[1].items():
        assert name.endswith("bias") or (value != other[name]).all()


@pytest.mark.parametrize("family", LAYERS)
def test_without_a_fresh_head_the_stored_one_is_loaded(sources, family):
    assert same(weights(load_classifier(sources[family], make_task(3))), weights_of(sources[family]))


# -- transfer


def transfer(sources, family="bert", outputs=2, **settings):
    """theseus_transfer as built from the source's three-class model; the backbone is another model."""
    return build(
        "theseus_transfer", make_data(outputs), sources["bert"].parent / "none", source=sources[family], **settings
    )


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("outputs", [2, 3, 1])
def test_transfer_starts_from_the_sources_model(sources, family, outputs):
    setup = transfer(sources, family, outputs)
    body, head = split(weights(setup.model), family)
    old_body, old_head = split(weights_of(sources[family]), family)
    assert same(body, old_body)
    assert not any(torch.equal(head[name], old_head[name]) for name in head)
    assert len(setup.model.get_submodule(LAYERS[family])) == setup.model.config.num_hidden_layers == 2


def test_transfer_draws_its_head_by_the_runs_seed(sources):
    heads = [split(weights(transfer(sources, seed=seed).model), "bert")[1] for seed in (3, 3, 4)]
    assert same(heads[0], heads[1])
    assert not torch.equal(heads[0]["classifier.weight"], heads[2]["classifier.weight"])


def test_transfers_head_does_not_depend_on_what_was_drawn_before(sources):
    values = dict.fromkeys(field.name for field in dataclasses.fields(RunContext))
    depth = 2  # as the sources have
    settings = SimpleNamespace(layers=depth)
    values |= {"task": make_task(), "seed": 3, "source_folder": sources["bert"], "settings": settings}
    context = RunContext(**values)
    states = []
    for before in (0, 1):
        torch.manual_seed(before)
        states.append(weights(context.load_source()))
    assert same(*states)
    settings.layers = depth - 1
    with pytest.raises(UserError, match=f"{depth} layers, but the run asks for {depth - 1}; its source has another"):
        context.load_source()


@pytest.mark.parametrize("outputs", [2, 1])
def test_transfer_learns_the_tasks_loss(sources, outputs):
    setup = transfer(sources, outputs=outputs)
    batch = make_batch(make_data(outputs))
    logits = setup.model(**inputs_of(setup.model, batch)).logits
    if outputs == 1:
        expected = ((logits[:, 0] - batch["labels"]) ** 2).mean()
    else:
        expected = functional.cross_entropy(logits, batch["labels"])
    torch.testing.assert_close(setup.method.loss(setup.model, batch), expected)


@pytest.mark.parametrize("family", LAYERS)
def test_transfer_trains_all_parameters(sources, tmp_path, family):
    setup = transfer(sources, family, epochs=2, evaluate_every=50)
    assert {id(p) for p in setup.method.parameters(setup.model)} == {id(p) for p in setup.model.parameters()}
    before = weights(setup.model)
    fit(setup.method, setup.model, make_data(), setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    still = {name for name, value in setup.model.state_dict().items() if torch.equal(value, before[name])}
    assert still <= {name for name in before if name.endswith(NO_GRADIENT)}
    assert setup.method.compressed(setup.model) is setup.model


# -- cards

HUB = {"source": "hub", "name": "google-bert/bert-base-uncased", "revision": "0" * 40, "family": "bert", "layers": 12}
DATA_HUB = {"source": "hub", "name": "nyu-mll/glue", "revision": "1" * 40, "samples": []}
SUITE = {
    "suite": "cards",
    "data": {"source": "demo", "rows": 16},
    "backbone": {"source": "demo", "layers": 12},
    "student_layers": 6,
    "tasks": ["rte", "stsb", "mnli", "mrpc"],
    "seeds": [3],
    "experiments": {"first": {"title": "First", "methods": ["theseus", "theseus@constant"]}},
}


def describe(task="rte", name="theseus", **changes):
    """The card of a run, and the run; `changes` are to its record."""
    run = load_plan(SUITE).run(name, task, 3)
    official = run.task.rows["train"]
    values = RECORD | {
        "method": "theseus",
        "variant": run.variant,
        "task": task,
        "seed": 3,
        "settings": run.settings,
        "evaluations": 20,
        "dev_score": 0.68437,
        "majority_score": 0.52708,
        "best_step": 1234,
        "steps": 1560,
        "planned_steps": 1573,
        "parameters": 66_955_010,
        "embedding_parameters": 23_837_184,
        "architecture": {"model_type": "bert", "num_hidden_layers": 6},
        "data": {"train": {"rows": official, "official_rows": official}},
        "data_source": DATA_HUB,
        "backbone": HUB,
        "teacher": "fedcba9876543210",
    }
    return model_card(run, RunRecord(**values | changes)), run


def front_matter(card):
    """The metadata block on top, as the hub reads it."""
    opening, block, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(block)


def table(card):
    """All rows of the card's tables, as {first cell: second cell}."""
    lines = [line for line in card.splitlines() if line.startswith("|")]
    return {first.strip(): second.strip() for first, second in (line.strip("|").split("|") for line in lines)}


def test_the_metadata_is_yaml_as_the_hub_wants_it():
    assert front_matter(describe()[0]) == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "language": "en",
        "tags": ["theseus-bench", "theseus"],
        "datasets": ["nyu-mll/glue"],
        "base_model": "google-bert/bert-base-uncased",
    }


@pytest.mark.parametrize(
    "backbone",
    [
        {"source": "folder", "name": "models/mine", "family": "bert", "layers": 12},
        {"source": "package", "name": "some_package/model", "family": "bert", "layers": 12},
        {"source": "demo", "family": "bert", "layers": 4, "steps": 2000},
    ],
    ids=lambda backbone: backbone["source"],
)
def test_a_base_model_is_named_only_where_the_hub_has_it(backbone):
    card, _ = describe(backbone=backbone)
    assert "base_model" not in front_matter(card)
    assert front_matter(card).keys() == front_matter(describe()[0]).keys() - {"base_model"}
    origin = backbone.get("name", "the tiny BERT of its demo")
    assert f"Made by theseus-bench from {origin}; " in " ".join(card.split())
    assert HUB["name"] not in card


@pytest.mark.parametrize(
    ("source", "datasets"),
    [
        (DATA_HUB, ["nyu-mll/glue"]),
        ({"source": "local", "name": "nyu-mll/glue", "path": "glue", "samples": []}, ["nyu-mll/glue"]),
        ({"source": "demo", "name": "nyu-mll/glue", "rows": 16, "samples": []}, ["generated"]),
    ],
)
def test_generated_data_is_not_passed_off_as_glue(source, datasets):
    assert front_matter(describe(data_source=source)[0])["datasets"] == datasets


def test_the_title_names_the_run():
    assert "# BERT-of-Theseus on RTE, seed 3" in describe()[0].splitlines()
    assert "# BERT-of-Theseus, constant on RTE, seed 3" in describe(name="theseus@constant")[0].splitlines()


def test_scores_are_in_points():
    card, _ = describe()
    assert table(card)["accuracy (points)"] == "68.4"
    assert table(card)["majority class"] == "52.7"
    assert table(card)["status of the run"] == "complete"
    words = " ".join(card.split())
    assert "the best of the run's 20 evaluations on that same set, after 1234 of 1573 steps" in words
    words = " ".join(describe(chosen_on="held_out", held_out_score=0.7)[0].split())
    assert "after 1234 of 1573 steps was chosen from 20 by a slice held out of the training set" in words
    assert "that same set" not in words


@pytest.mark.parametrize(
    ("task", "metrics", "outputs", "inputs"),
    [
        ("rte", "accuracy", "entailment, not_entailment", "`sentence1` and `sentence2`"),
        ("mrpc", "F1 and accuracy", "not_equivalent, equivalent", "`sentence1` and `sentence2`"),
        ("mnli", "accuracy", "entailment, neutral, contradiction", "`premise` and `hypothesis`"),
        ("stsb", "Pearson correlation and Spearman correlation", "a value from 0 to 5", "`sentence1` and `sentence2`"),
    ],
)
def test_metrics_inputs_and_outputs_are_the_tasks(task, metrics, outputs, inputs):
    card, run = describe(task)
    assert table(card)[f"{metrics} (points)"] == "68.4"
    assert f"Inputs are {inputs}, at most {run.task.max_length} tokens; outputs are {outputs}." in " ".join(
        card.split()
    )


def test_a_run_that_failed_says_why():
    record = {"status": "failed", "reason": "at or below the majority class", "dev_score": None}
    rows = table(describe(**record)[0])
    assert rows["status of the run"] == "failed: at or below the majority class"
    assert rows["accuracy (points)"] == "none"


def test_sizes_are_in_millions():
    words = " ".join(describe()[0].split())
    assert "it has 6 layers and 67.0 million parameters, of which 23.8 million are embeddings" in words


def test_depth_is_found_under_distilberts_name_too():
    words = " ".join(describe(architecture={"model_type": "distilbert", "n_layers": 3})[0].split())
    assert "it has 3 layers and" in words


def test_every_setting_is_there_but_those_that_are_not_set():
    card, run = describe(
        settings={"learning_rate": 3e-5, "schedule": "constant", "patience": None, "clip_frozen": True}
    )
    rows = table(card)
    assert (rows["learning_rate"], rows["schedule"], rows["clip_frozen"]) == ("3e-05", "constant", "True")
    assert "patience" not in rows
    card, run = describe()
    unset = {key for key, value in run.settings.items() if value is None}
    assert unset
    assert {key: str(run.settings[key]) for key in run.settings.keys() - unset}.items() <= table(card).items()
    assert not unset & table(card).keys()


def test_a_sample_is_not_passed_off_as_all_of_glue():
    sentence = "It was trained on 160 examples, not on all of GLUE's."
    assert sentence in describe(data={"train": {"rows": 160, "official_rows": 2490}})[0]
    card, _ = describe()
    assert "trained on" not in card
    assert "GLUE's" not in card


def test_a_searched_run_says_how_its_settings_were_chosen():
    sentence = "Its settings were chosen in the same way, with other seeds."
    assert sentence in " ".join(describe(trial=3)[0].split())
    assert sentence not in " ".join(describe()[0].split())


def test_method_and_source_are_named():
    card, run = describe()
    words = " ".join(card.split())
    assert run.spec.summary in words
    assert f"Source of the method: {run.spec.citation}." in words
    assert "{" not in card


@pytest.mark.parametrize("family", LAYERS)
def test_a_folder_with_a_card_is_a_plain_checkpoint(sources, tmp_path, family):
    model = load_classifier(sources[family], make_task(3)).eval()
    card, _ = describe("mnli")
    save_checkpoint(model, sources[family], tmp_path / "model", card)
    assert (tmp_path / "model" / "README.md").read_text(encoding="utf-8") == card
    copy, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    batch = make_batch(make_data(3))
    expected = model(**inputs_of(model, batch)).logits
    torch.testing.assert_close(copy.eval()(**inputs_of(copy, batch)).logits, expected)
    vocabularies = [AutoTokenizer.from_pretrained(f).get_vocab() for f in (tmp_path / "model", sources[family])]
    assert vocabularies[0] == vocabularies[1]


def test_a_folder_saved_without_a_card_has_none_left(sources, tmp_path):
    model = load_classifier(sources["bert"], make_task(3))
    folder: Path = tmp_path / "model"
    save_checkpoint(model, sources["bert"], folder, "the card of an earlier run")
    save_checkpoint(model, sources["bert"], folder)
    assert not (folder / "README.md").exists()
    assert (folder / "model.safetensors").is_file()
