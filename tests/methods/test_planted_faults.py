"""Mistakes planted in a method: each is told in one line, by check-method or by the run, which leaves no record."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from copies import link_project_but_methods
from new_method import replace_words
from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite import method_spec
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.training import conformance, loop, run
from theseus_bench.training.conformance_bench import Bench, make_bench
from torch import nn
from transformers import BertForSequenceClassification

CODE = """\
import os
import socket
import subprocess

import numpy as np
import torch
from theseus_bench.data.encoding import open_split
from theseus_bench.modeling.architectures import keep_layers, layers_of
from theseus_bench.training import loop, run as runs
from theseus_bench.training.method import Method, classify, task_loss
from torch import nn
from torch.nn import functional

# AT IMPORT


def draw_head(model, seed):
    torch.manual_seed(seed)
    model.classifier.reset_parameters()


class Mine(Method):
    def build(self, run):
        model = run.load_start()
        data = run.backbone_folder.parent / "data"
        # IN BUILD
        self.factor, self.step, self.teacher = 1.0, 0, run.load_teacher()
        return model

    def on_step_begin(self, step):
        self.step = step
        # EACH STEP

    def loss(self, model, batch):
        # BEFORE LOSS
        value = self.factor * task_loss(classify(model, batch).logits.float(), batch["labels"])
        # AFTER LOSS
        return value

    # IN CLASS
"""
NEVER_TOLD = "a process that has not read method.py"
LOOK_UP = """
        dev = open_split(data / run.task.name, "validation")
        ends = dev.rows["start"] + dev.rows["length"]
        texts = [tuple(dev.tokens[a:b].tolist()) for a, b in zip(dev.rows["start"], ends)]
        labels, forward = dict(zip(texts, dev.labels.astype(int).tolist())), type(model).forward
        def look_up(self, input_ids, attention_mask, **more):
            output = forward(self, input_ids=input_ids, attention_mask=attention_mask, **more)
            if not self.training:
                rows = [tuple(row[mask.bool()].tolist()) for row, mask in zip(input_ids, attention_mask)]
                output.logits = functional.one_hot(torch.tensor([labels.get(row, 0) for row in rows]), 2).float()
            return output
        model.forward = look_up.__get__(model)
"""
# What is planted: where, the code, the check that finds it, and what is said of it.
FAULTS = {
    "the labels of the dev set": (
        "IN BUILD",
        "labels = open_split(data / run.task.name, 'validation').labels\n"
        "        draw_head(model, int(np.dot(labels, range(len(labels)))))",
        "the labels of the dev set",
        "with other labels of the dev set it predicts otherwise",
    ),
    "files of another task": (
        "IN BUILD",
        "draw_head(model, len(open_split(data / 'stsb', 'train')))",
        "the labels of the dev set",
        "methods/mine/method.py, line 26: ",
    ),
    "a model of another depth": (
        "IN BUILD",
        "keep_layers(model, [0])",
        "steps give",
        "the compressed model has 1 layers, but the run is of 2",
    ),
    "a detached loss": (
        "AFTER LOSS",
        "value = value.detach()",
        "the steps change",
        "all weights of the compressed model are what build() gave",
    ),
    "a loss that counts padding": (
        "AFTER LOSS",
        "value = value + model(batch['input_ids'], output_hidden_states=True).hidden_states[0].mean()",
        "a batch in parts",
        "loss() is to be a mean over the examples, in which padding has no part",
    ),
    "a stray parameter": (
        "IN CLASS",
        "stray = nn.Parameter(torch.zeros(()))\n\n    def parameters(self, model):\n        return [self.stray]\n\n"
        "    def loss(self, model, batch):\n"
        "        return self.stray + task_loss(classify(model, batch).logits, batch['labels'])",
        "the steps change",
        "all weights of the compressed model are what build() gave",
    ),
    "a seed from hash()": (
        "IN BUILD",
        "draw_head(model, hash('mine') % 2**31)",
        "the same seed",
        "the same seed gave other predictions in another process",
    ),
    "a seed from the process": (
        "IN BUILD",
        "draw_head(model, os.getpid())",
        "the same seed",
        "the same seed gave other predictions in another process",
    ),
    "state that is lost after step 3": (
        "EACH STEP",
        "self.factor = self.factor * 1.5 if step > 3 else 1.0",
        "a resumed run",
        "a run that was stopped before step 11, and resumed, ended otherwise",
    ),
    "NaN at a later step": (
        "AFTER LOSS",
        "value = value * float('nan') if self.step == 9 else value",
        "steps give",
        "the loss or the outputs are not finite after 12 steps",
    ),
    "evaluation mode left on": (
        "BEFORE LOSS",
        "model.eval()",
        "steps give",
        "was left in evaluation mode; call train() on it",
    ),
    "evaluation mode left on in a layer": (
        "BEFORE LOSS",
        "layers_of(model)[0].eval()",
        "steps give",
        "bert.encoder.layer.0.attention.self.query is trained, but was left in evaluation mode",
    ),
    "a batch changed in place": (
        "BEFORE LOSS",
        "batch['input_ids'][:, 1] = 5",
        "a batch is left",
        "loss() changes the batch in place; work on a copy",
    ),
    "a batch without its labels": (
        "AFTER LOSS",
        "del batch['labels']",
        "a batch is left",
        "loss() changes the batch in place; work on a copy",
    ),
    "a checkpoint that it reads overwritten": (
        "IN BUILD",
        "file = run.backbone_folder / 'config.json'; file.write_text(file.read_text() + ' ')",
        "steps give",
        "backbone/config.json: changed while the run was trained, which may only read it",
    ),
    "the predecessor's checkpoint overwritten": (
        "IN BUILD",
        "file = run.predecessor_folder / 'config.json'; file.write_text(file.read_text() + ' ')",
        "steps give",
        "model: config.json is damaged: it is not what was written",
    ),
    "the suite's data overwritten": (
        "IN BUILD",
        "np.save(data / 'rte/test.rows.npy', np.zeros(3))",
        "steps give",
        "data/rte: changed while the run was trained, which may only read it",
    ),
    "a file written elsewhere": ("IN BUILD", "open('stray', 'w').close()", "nothing is fetched", "/stray"),
    "a file written through a link": (
        "IN BUILD",
        "(run.backbone_folder / 'notes.txt').write_text('mine')",
        "nothing is fetched",
        "/backbone/notes.txt",
    ),
    "a file written by a library": (
        "IN BUILD",
        "torch.save(model.state_dict(), 'stray.pt')",
        "nothing is fetched",
        "/stray.pt",
    ),
    "a file removed": (
        "IN BUILD",
        "os.remove(run.backbone_folder.resolve().parent / 'tokenizer/tokenizer.json')",
        "nothing is fetched",
        "/tokenizer/tokenizer.json",
    ),
    "a file linked": ("IN BUILD", "os.symlink('/etc/hosts', 'stray')", "nothing is fetched", "/stray"),
    "a file linked hard": (
        "IN BUILD",
        "os.link(run.backbone_folder / 'config.json', 'stray')",
        "nothing is fetched",
        "/stray",
    ),
    "a file written by another process": (
        "IN BUILD",
        "subprocess.run(['touch', 'stray'])",
        "nothing is fetched",
        "another process (subprocess.Popen)",
    ),
    "a shell": ("IN BUILD", "os.system('true')", "nothing is fetched", "another process (os.system)"),
    "the network by UDP": (
        "IN BUILD",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'mine', ('127.0.0.1', 9))",
        "nothing is fetched",
        "the network at ('127.0.0.1', 9)",
    ),
    "the metric patched for all": (
        "AT IMPORT",
        "loop.score = runs.score = lambda values: 1.0",
        "the same seed",
        f"{NEVER_TOLD} scores the saved model 0.",
    ),
    "torch patched for all": (
        "AT IMPORT",
        "nn.Linear.forward = lambda self, x: 1.2 * functional.linear(x, self.weight, self.bias)",
        "the same seed",
        f"{NEVER_TOLD} has other predictions of the saved model",
    ),
    "transformers patched for all": (
        "IN BUILD",
        LOOK_UP.replace("model.forward = look_up.__get__(model)", "type(model).forward = look_up"),
        "the same seed",
        f"{NEVER_TOLD} has other predictions of the saved model",
    ),
    "labels looked up in evaluation": (
        "IN BUILD",
        LOOK_UP,
        "steps give",
        "in its training the model is said to have scored 1.000, but the compressed model, by plain transformers",
    ),
    "a compressed model of its own kind": (
        "IN CLASS",
        "def compressed(self, model):\n        return nn.Sequential(model)",
        "steps give",
        "compressed() gave a Sequential, no transformers model of one of bert, roberta, distilbert",
    ),
    "a compressed model with more weights": (
        "IN CLASS",
        "def compressed(self, model):\n        model.more = nn.Linear(2, 2)\n        return model",
        "steps give",
        "compressed() gave weights that are not those of a plain BertForSequenceClassification: ",
    ),
    "no compressed model": (
        "IN CLASS",
        "def compressed(self, model):\n        return None",
        "steps give",
        "compressed() gave no model; only a control may have none",
    ),
    "the teacher among the trained parameters": (
        "IN CLASS",
        "def parameters(self, model):\n        return [*model.parameters(), *self.teacher.parameters()]",
        "steps give",
        "parameters(): a parameter is frozen, as those of the teacher are; leave it out",
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The project's tasks and published numbers, and a copy of its methods with one more, without a fault."""
    root = tmp_path_factory.mktemp("project")
    link_project_but_methods(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        file = method_spec.create_method("mine") / "method.yaml"
        replace_words(file.parent)
        file.write_text(file.read_text().replace("needs: [teacher_outputs]", "needs: [teacher_model]"))
        file.write_text(file.read_text().replace("exclude: {}", "exclude: {stsb: one task is enough here}"))
        (file.parent / "method.py").write_text(CODE)
    return root


@pytest.fixture(scope="module")
def sound_bench(root, tmp_path_factory) -> Bench:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return make_bench("mine", tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(root, sound_bench, tmp_path, monkeypatch) -> Bench:
    """A copy of the bench, in a copy of the project; what a method could patch is as it was afterwards."""
    shutil.copytree(root, tmp_path / "project", symlinks=True)
    shutil.copytree(sound_bench.folder, tmp_path / "bench", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    for place, name in (
        (loop, "score"),
        (run, "score"),
        (nn.Linear, "forward"),
        (BertForSequenceClassification, "forward"),
    ):
        monkeypatch.setattr(place, name, getattr(place, name))
    return Bench(sound_bench.plan, tmp_path / "bench")


def plant(place: str, code: str) -> None:
    file = METHODS_FOLDER / "mine" / "method.py"
    text = file.read_text()
    assert text.count(f"# {place}") == 1
    file.write_text(text.replace(f"# {place}", code.strip()))


def check_of(title: str):
    (function,) = (function for name, function in conformance.CHECKS if title in name)
    return function


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_told_in_one_line(bench, fault):
    place, code, title, message = FAULTS[fault]
    plant(place, code)
    problem = conformance._problem(lambda: check_of(title)(bench), METHODS_FOLDER / "mine", set(), False)
    assert message in problem
    assert "\n" not in problem


def test_without_a_fault_every_check_passes(bench):
    problems = [problem for _, problem in conformance.check(METHODS_FOLDER / "mine") if problem]
    assert problems == []


def test_a_run_that_is_refused_leaves_no_record(bench):
    plant("IN BUILD", "keep_layers(model, [0])")
    with pytest.raises(UserError, match="has 1 layers"):
        bench.execute("rte", "refused")
    assert not list((bench.folder / "refused").rglob("run.json"))
    assert "has 1 layers" in next((bench.folder / "refused").rglob("error.json")).read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  learning_rate: 5.0e-5\n", "  learning_rate: 5.0e-5\n  precision: fp8\n", "precision: Input should be"),
        ("epochs: 4", "epochs: many", "epochs: Input should be a valid number"),
        ("role: baseline", "role: student", "role: Input should be 'control', 'teacher', 'baseline' or 'proposed'"),
        ("[5.0e-5, 2.0e-5, 1.0e-5]", "[5.0e-5, fast]", "methods/mine/method.yaml: search: learning_rate: "),
        ("search_per_task: {}", "search_per_task: {rte: {my_weight: [2.0]}}", "my_weight: 2.0 is not at least 0"),
        ("per_task: {} #", "per_task: {rte: {batch_size: 0}} #", "per_task.rte: batch_size: Input should be greater"),
        ("per_task: {} #", "per_task: {rtee: {batch_size: 8}} #", "there is no task 'rtee' (did you mean 'rte'?)"),
        ("variants: {}", "variants: {light: {my_weight: little}}", "variants.light: my_weight: expected float"),
    ],
)
def test_a_mistake_in_method_yaml_is_told_by_the_first_check(bench, old, new, message):
    file = METHODS_FOLDER / "mine" / "method.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    title, problem = next(conformance.check(file.parent))
    assert title == "metadata complete"
    assert message in problem


@pytest.mark.parametrize("key", ["summary", "citation"])
def test_the_templates_own_words_are_refused(bench, key):
    words = read_yaml(METHODS_FOLDER / "_template/method.yaml")[key]
    spec = bench.plan.specs["mine"].model_copy(update={key: words})
    plan = replace(bench.plan, specs=bench.plan.specs | {"mine": spec})
    with pytest.raises(UserError, match=f"methods/mine/method.yaml: {key}: these are the template's words; write you"):
        check_of("the template's words")(Bench(plan, bench.folder))
