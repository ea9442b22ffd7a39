"""A predecessor's stored outputs against a direct forward pass, and which of its layers are stored."""

import json

import numpy as np
import pytest
import torch
from theseus_bench.data import batches
from theseus_bench.data.batches import collate
from theseus_bench.data.tasks import load_tasks
from theseus_bench.strict_yaml import parse
from theseus_bench.suite.config import Suite
from theseus_bench.suite.method_spec import load_specs
from theseus_bench.suite.plan import Plan
from theseus_bench.training.run import distilled_layers
from theseus_bench.training.teacher_outputs import open_teacher_outputs, write_teacher_outputs
from tiny import METHODS, PAD, ROOT, inputs_of, make_split, write_checkpoint
from transformers import AutoModelForSequenceClassification


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("outputs", [3, 1])
def test_stored_outputs_are_the_predecessors_own(tmp_path, monkeypatch, family, outputs):
    monkeypatch.setattr(batches, "EVALUATION_TOKENS", 60)  # several batches, of unlike lengths
    folder = write_checkpoint(tmp_path / "model", family, outputs=outputs, seed=4, dropout=0.5)
    model = AutoModelForSequenceClassification.from_pretrained(folder).train()
    split, layers = make_split(30, outputs), [1, 2, 4]
    write_teacher_outputs(model, split, PAD, layers, torch.device("cpu"), "fp32", tmp_path / "teacher")
    teacher = open_teacher_outputs(tmp_path / "teacher")
    assert (teacher.logits.shape, teacher.logits.dtype) == ((30, outputs), np.float32)
    assert (teacher.cls.shape, teacher.cls.dtype) == ((30, 3, 16), np.float16)
    assert teacher.layers == layers
    again = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for i in range(len(split)):  # in the training set's order, one by one
        batch = {name: torch.from_numpy(v) for name, v in collate(split, np.array([i]), PAD).items()}
        with torch.no_grad():
            output = again(**inputs_of(again, batch), output_hidden_states=True)
        np.testing.assert_allclose(teacher.logits[i], output.logits[0], rtol=1e-5, atol=1e-5)
        for position, layer in enumerate(layers):
            np.testing.assert_allclose(
                teacher.cls[i, position], output.hidden_states[layer][0, 0], rtol=2e-3, atol=1e-4
            )
    assert (teacher.logits.std(axis=0) > 0.01).all()


def test_take_picks_by_example(tmp_path):
    folder = write_checkpoint(tmp_path / "model", outputs=2)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    write_teacher_outputs(model, make_split(20), PAD, [2, 4], torch.device("cpu"), "fp32", tmp_path / "teacher")
    teacher = open_teacher_outputs(tmp_path / "teacher")
    examples = np.array([7, 0, 19, 7])
    batch = teacher.take(examples)
    assert {name: (v.shape, v.dtype) for name, v in batch.items()} == {
        "teacher_logits": ((4, 2), np.float32),
        "teacher_cls": ((4, 2, 16), np.float32),
    }
    for position, example in enumerate(examples):
        assert np.array_equal(batch["teacher_logits"][position], teacher.logits[example])
        assert np.array_equal(batch["teacher_cls"][position], teacher.cls[example].astype(np.float32))
    assert not np.array_equal(batch["teacher_logits"][0], batch["teacher_logits"][1])
    batch["teacher_logits"][:] = 0  # a batch is a copy
    assert np.array_equal(teacher.take(examples)["teacher_logits"], teacher.logits[examples])


def test_a_failure_leaves_no_outputs_behind(tmp_path):
    folder = write_checkpoint(tmp_path / "model", outputs=2)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with pytest.raises(IndexError):
        write_teacher_outputs(model, make_split(5), PAD, [9], torch.device("cpu"), "fp32", tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


@pytest.mark.parametrize(
    ("depth", "layers", "others", "expected"),
    [
        (12, 6, {}, [2, 4, 6, 8, 10, 12]),
        (12, 3, {}, [4, 8, 12]),
        (6, 3, {}, [2, 4, 6]),
        (12, 6, {"pkd": 4}, [2, 3, 4, 6, 8, 9, 10, 12]),  # vanilla KD has six layers still
        (12, 6, {"finetune": 1, "theseus": 2}, [2, 4, 6, 8, 10, 12]),  # neither looks at stored outputs
    ],
)
def test_only_layers_that_a_student_follows_are_stored(depth, layers, others, expected):
    suite = {
        "suite": "tiny",
        "data": {"source": "demo", "rows": 8},
        "backbone": {"source": "demo", "layers": depth},
        "student_layers": layers,
        "tasks": ["rte"],
        "seeds": [1],
        "settings": [{"methods": [name], "set": {"layers": number}} for name, number in others.items()],
        "experiments": {"one": {"title": "one", "methods": ["finetune", "vanilla_kd", "pkd", "theseus"]}},
    }
    plan = Plan(parse(Suite, suite, "tiny"), load_tasks(ROOT / "config/tasks.yaml"), load_specs(METHODS)[0])
    assert distilled_layers(plan) == expected
    assert json.dumps(distilled_layers(plan))  # plain numbers, as teacher.json wants them
