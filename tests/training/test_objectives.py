"""The distillation losses of vanilla KD and PKD against their formulas, in values and in gradients."""

from types import SimpleNamespace

import pytest
import torch
from theseus_bench.training.loop import fit
from tiny import (
    HARDWARE,
    build,
    inputs_of,
    make_batch,
    make_checkpoint,
    make_data,
    make_teacher,
    weights,
    write_checkpoint,
)
from torch.nn import functional


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Six layers, no dropout."""
    return write_checkpoint(tmp_path_factory.mktemp("backbone"), layers=6, seed=1, dropout=0.0)


def make(name, backbone, outputs=2, teacher_layers=(2, 4, 6), layers=3, depth=6, **settings):
    """A method's student, its loss and gradients on one batch, and what transformers says of the same batch."""
    data = make_data(outputs, teacher=make_teacher(36, outputs, list(teacher_layers)))
    setup = build(name, data, backbone, depth=depth, layers=layers, **settings)
    model, batch = setup.model.train(), make_batch(data)
    loss = setup.method.loss(model, batch)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    output = model(**inputs_of(model, batch), output_hidden_states=True)
    cls = [state[:, 0] for state in output.hidden_states]
    case = SimpleNamespace(setup=setup, data=data, model=model, batch=batch, loss=loss.detach(), gradients=gradients)
    case.logits, case.cls = output.logits, cls
    return case


def check(case, expected, constant=0.0):
    """The loss is `expected`, but for `constant`, and its gradients are those of `expected`."""
    torch.testing.assert_close(case.loss - constant, expected.detach(), rtol=2e-5, atol=1e-5)
    expected.backward()
    expected_gradients = {name: p.grad for name, p in case.model.named_parameters() if p.grad is not None}
    assert case.gradients.keys() == expected_gradients.keys()
    scale = max(float(g.abs().max()) for g in expected_gradients.values())
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(case.gradients[name], gradient, rtol=1e-3, atol=1e-5 * scale, msg=name)
    assert scale > 1e-3


def divergence(logits, teacher, temperature):
    """KL(teacher ‖ student) at the temperature, the mean over the batch, from its definition."""
    p = torch.exp(teacher / temperature) / torch.exp(teacher / temperature).sum(1, keepdim=True)
    q = torch.exp(logits / temperature) / torch.exp(logits / temperature).sum(1, keepdim=True)
    return (p * (p.log() - q.log())).sum(1).mean()


def entropy(teacher, temperature):
    p = torch.softmax(teacher / temperature, 1)
    return -(p * p.log()).sum(1).mean()


def hard_loss(case):
    """Cross entropy, from its definition."""
    p = torch.softmax(case.logits, 1)
    return -p[torch.arange(len(p)), case.batch["labels"]].log().mean()


@pytest.mark.parametrize("temperature", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("outputs", [2, 3])
def test_vanilla_kd_is_its_formula(backbone, temperature, alpha, outputs):
    case = make("vanilla_kd", backbone, outputs, temperature=temperature, alpha=alpha)
    teacher = case.batch["teacher_logits"]
    kl = divergence(case.logits, teacher, temperature)
    expected = (1 - alpha) * hard_loss(case) + alpha * temperature**2 * kl
    check(case, expected, alpha * temperature**2 * entropy(teacher, temperature))


@pytest.mark.parametrize("temperature", [1.0, 10.0])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_regression_compares_values_at_temperature_one(backbone, temperature, alpha):
    case = make("vanilla_kd", backbone, 1, temperature=temperature, alpha=alpha)
    values = case.logits[:, 0]
    soft = ((values - case.batch["teacher_logits"][:, 0]) ** 2).mean()
    check(case, (1 - alpha) * ((values - case.batch["labels"]) ** 2).mean() + alpha * soft)


def patience(case, pairs, normalise):
    """The mean over batch, pairs and hidden of squared differences; `pairs` are (student layer, place in store)."""
    total, count = 0.0, 0
    for layer, position in pairs:
        student, teacher = case.cls[layer], case.batch["teacher_cls"][:, position]
        if normalise:
            student = student / (student**2).sum(1, keepdim=True).sqrt()
            teacher = teacher / (teacher**2).sum(1, keepdim=True).sqrt()
        total = total + ((student - teacher) ** 2).sum()
        count += student.numel()
    return total / count


PAIRINGS = {
    "6 to 3": {"depth": 6, "layers": 3, "teacher_layers": [2, 4, 6], "pairs": [(1, 0), (2, 1)]},
    "12 to 6": {
        "depth": 12,
        "layers": 6,
        "teacher_layers": [2, 4, 6, 8, 10, 12],
        "pairs": [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)],
    },
    "12 to 4, more stored": {
        "depth": 12,
        "layers": 4,
        "teacher_layers": [2, 3, 4, 6, 8, 9, 10, 12],  # for students of 6 and 4 layers
        "pairs": [(1, 1), (2, 3), (3, 5)],
    },
    "6 to 1": {"depth": 6, "layers": 1, "teacher_layers": [6], "pairs": []},
}


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("outputs", "over_classes"), [(2, True), (3, True), (3, False), (1, True)])
def test_pkd_is_its_formula(backbone, pairing, normalise, outputs, over_classes):
    setting = dict(PAIRINGS[pairing])
    pairs = setting.pop("pairs")
    temperature, alpha, beta = 10.0, 0.7, 100.0
    settings = {"temperature": temperature, "alpha": alpha, "beta": beta, "normalise": normalise}
    case = make("pkd", backbone, outputs, kl_over_classes=over_classes, **settings, **setting)
    teacher = case.batch["teacher_logits"]
    if outputs == 1:
        hard, constant = ((case.logits[:, 0] - case.batch["labels"]) ** 2).mean(), 0.0
        soft = alpha * ((case.logits - teacher) ** 2).mean()
    else:
        weight = alpha * temperature**2 / (outputs if over_classes else 1)
        hard, soft = hard_loss(case), weight * divergence(case.logits, teacher, temperature)
        constant = weight * entropy(teacher, temperature)
    expected = (1 - alpha) * hard + soft
    if pairs:
        expected = expected + beta * patience(case, pairs, normalise)
    check(case, expected, constant)


def test_patience_looks_at_the_layers_that_the_paper_names(backbone):
    """Student layer i of six follows predecessor layer 2i of twelve, the last apart: others' states do not count."""
    case = make("pkd", backbone, teacher_layers=range(1, 13), depth=12, layers=6, alpha=0.0, beta=100.0)
    for layer in range(1, 13):
        batch = dict(case.batch, teacher_cls=case.batch["teacher_cls"].clone())
        batch["teacher_cls"][:, layer - 1] *= torch.linspace(-1, 2, 16)
        differs = not torch.equal(case.setup.method.loss(case.model, batch).detach(), case.loss)
        assert differs == (layer in (2, 4, 6, 8, 10)), layer


@pytest.mark.parametrize("outputs", [2, 1])
def test_without_alpha_and_beta_pkd_is_the_task_loss(backbone, outputs):
    case = make("pkd", backbone, outputs, alpha=0.0, beta=0.0)
    labels = case.batch["labels"]
    check(case, functional.mse_loss(case.logits[:, 0], labels) if outputs == 1 else hard_loss(case))


@pytest.mark.parametrize("name", ["vanilla_kd", "pkd"])
def test_gradient_reaches_all_of_the_student_and_nothing_else(backbone, tmp_path, name):
    """Every parameter of the student moves, and what is stored of the teacher stays."""
    case = make(name, backbone, epochs=1)
    assert case.gradients.keys() == dict(case.model.named_parameters()).keys()
    assert not any(case.batch[part].requires_grad for part in ("teacher_logits", "teacher_cls"))
    teacher = case.data.teacher
    before, model_before = (teacher.logits.copy(), teacher.cls.copy()), weights(case.model)
    fit(case.setup.method, case.model, case.data, case.setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert (teacher.logits == before[0]).all()
    assert (teacher.cls == before[1]).all()
    assert all(not torch.equal(value, model_before[key]) for key, value in case.model.state_dict().items())
    assert {id(p) for p in case.setup.method.parameters(case.model)} == {id(p) for p in case.model.parameters()}
