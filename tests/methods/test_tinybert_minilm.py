"""TinyBERT and MiniLM against their formulas, computed from what plain transformers models say of the same batch."""

import functools
from types import SimpleNamespace

import pytest
import torch
from theseus_bench.modeling.attention import AttentionRecorder
from theseus_bench.training.loop import fit, predict
from tiny import (
    FIRST_WORD,
    HARDWARE,
    LAYERS,
    build,
    inputs_of,
    make_batch,
    make_checkpoint,
    make_data,
    make_split,
    same,
    weights,
    write_checkpoint,
)
from torch.nn import functional
from transformers import AutoConfig, AutoModelForSequenceClassification

METHODS = ["tinybert", "minilm"]
HEADS = 2
PROJECTIONS = {
    "bert": [f"attention.self.{name}" for name in ("query", "key", "value")],
    "roberta": [f"attention.self.{name}" for name in ("query", "key", "value")],
    "distilbert": [f"attention.{name}_lin" for name in "qkv"],
}
# family, layers of the predecessor, layers of the student, and which layer (from 1) each of the student's follows
PAIRINGS = [
    ("bert", 6, 3, [2, 4, 6]),
    ("bert", 6, 2, [3, 6]),
    ("bert", 4, 1, [4]),
    ("roberta", 4, 2, [2, 4]),
    ("distilbert", 4, 2, [2, 4]),
    ("distilbert", 6, 2, [3, 6]),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Checkpoints on demand: backbones without dropout, predecessors with it, no weight in common."""

    @functools.cache
    def write(role, family="bert", depth=4, outputs=2):
        folder = tmp_path_factory.mktemp(role) / family
        if role == "backbone":
            return write_checkpoint(folder, family, depth, seed=1, dropout=0.0)
        return write_checkpoint(folder, family, depth, outputs, seed=2, dropout=0.1)

    return write


def make(checkpoint, name, family="bert", depth=4, layers=2, outputs=2, **settings):
    """The method as built, one batch with padding, and plain models with the student's and predecessor's weights."""
    data = make_data(outputs)
    backbone, predecessor = checkpoint("backbone", family, depth), checkpoint("predecessor", family, depth, outputs)
    setup = build(name, data, backbone, predecessor, depth, layers=layers, **settings)
    case = SimpleNamespace(setup=setup, method=setup.method, model=setup.model.train(), data=data, family=family)
    case.folders = {"pretrained": backbone, "predecessor": predecessor}
    case.batch = make_batch(data)
    case.real = case.batch["attention_mask"].bool()
    assert not case.real.all()
    case.teacher = AutoModelForSequenceClassification.from_pretrained(predecessor, attn_implementation="eager").eval()
    config = AutoConfig.from_pretrained(case.folders[setup.loop.start])
    config.update({"n_layers" if family == "distilbert" else "num_hidden_layers": layers, "num_labels": outputs})
    case.student = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    case.student.load_state_dict(setup.model.state_dict(), strict=True)
    case.student.train()
    return case


def look(model, batch):
    """A plain model's states, attention probabilities and logits, and each layer's scores, from its projections."""
    output = model(**inputs_of(model, batch), output_hidden_states=True, output_attentions=True)
    states = SimpleNamespace(logits=output.logits, hidden=output.hidden_states, attentions=output.attentions)
    states.scores, states.value_scores = [], []
    family = model.config.model_type
    for layer, state in zip(model.get_submodule(LAYERS[family]), output.hidden_states[:-1], strict=True):
        maps = [layer.get_submodule(name) for name in PROJECTIONS[family]]
        query, key, value = (split_heads(functional.linear(state, m.weight, m.bias)) for m in maps)
        states.scores.append(torch.einsum("bhqd,bhkd->bhqk", query, key) / query.shape[-1] ** 0.5)
        states.value_scores.append(torch.einsum("bhqd,bhkd->bhqk", value, value) / value.shape[-1] ** 0.5)
    return states


def split_heads(x):
    batch, length, hidden = x.shape
    return x.reshape(batch, length, HEADS, hidden // HEADS).permute(0, 2, 1, 3)


def check(case, expected, constant=0.0):
    """The loss is `expected`, but for `constant`, and its gradients are those of `expected`."""
    case.model.zero_grad()
    loss = case.method.loss(case.model, case.batch)
    torch.testing.assert_close(loss.detach() - constant, expected.detach(), rtol=2e-5, atol=1e-5)
    loss.backward()
    expected.backward()
    gradients = {name: p.grad for name, p in case.model.named_parameters() if p.grad is not None}
    expected_gradients = {name: p.grad for name, p in case.student.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected_gradients.keys()
    scale = max(float(g.abs().max()) for g in expected_gradients.values())
    assert scale > 1e-3
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-5 * scale, msg=name)


def tinybert_matching(student, teacher, real, teacher_layers):
    """The README's first loss: means over the real tokens, for scores over heads and pairs of real tokens."""
    loss = ((student.hidden[0] - teacher.hidden[0])[real] ** 2).mean()
    pairs = real[:, :, None] & real[:, None, :]
    for i, layer in enumerate(teacher_layers, start=1):
        loss = loss + ((student.hidden[i] - teacher.hidden[layer])[real] ** 2).mean()
        difference = student.scores[i - 1] - teacher.scores[layer - 1]
        loss = loss + torch.stack([(difference[:, head][pairs] ** 2).mean() for head in range(HEADS)]).mean()
    return loss


def relation_terms(student, teacher, real):
    """KL(teacher ‖ student) and the teacher's entropy, each text cut to its own length: means over texts."""
    divergences, entropies = [], []
    for i, length in enumerate(real.sum(1).tolist()):
        q, p = (torch.softmax(scores[i, :, :length, :length], -1) for scores in (student, teacher))
        divergences.append((p * (p.log() - q.log())).sum(-1).mean())
        entropies.append(-(p * p.log()).sum(-1).mean())
    return torch.stack(divergences).mean(), torch.stack(entropies).mean()


def minilm_matching(student, teacher, real):
    """The README's first loss, and the entropies by which a cross entropy is larger."""
    attention = relation_terms(student.scores[-1], teacher.scores[-1].detach(), real)
    values = relation_terms(student.value_scores[-1], teacher.value_scores[-1].detach(), real)
    return attention[0] + values[0], (attention[1] + values[1]).detach()


# -- what is watched


@pytest.mark.parametrize("family", LAYERS)
def test_watched_scores_are_those_of_transformers_attention(checkpoint, family):
    """Their softmax, padded keys left out, is the attention that transformers reports."""
    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint("predecessor", family), attn_implementation="eager"
    ).eval()
    batch = make_batch(make_data())
    watch = AttentionRecorder(model, [0, 3])
    states = look(model, batch)
    padding = (batch["attention_mask"] == 0)[:, None, None, :]
    for i, layer in enumerate([0, 3]):
        attention = torch.softmax(watch.scores(i).masked_fill(padding, -torch.inf), -1)
        torch.testing.assert_close(attention, states.attentions[layer], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(watch.scores(i), states.scores[layer], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(watch.value_scores(i), states.value_scores[layer], rtol=1e-4, atol=1e-5)
    assert (states.scores[0] - states.scores[3]).abs().max() > 1e-2


def test_scores_are_exact_to_float32_where_the_model_runs_in_bf16(checkpoint):
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint("predecessor")).eval()
    watch = AttentionRecorder(model, [1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**inputs_of(model, make_batch(make_data())))
        inside = watch.scores(0), watch.value_scores(0)
    assert [scores.dtype for scores in inside] == [torch.float32] * 2
    assert torch.equal(inside[0], watch.scores(0))
    assert torch.equal(inside[1], watch.value_scores(0))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("share", [1.0, 0.0])
def test_losses_are_float32_where_the_model_runs_in_bf16(checkpoint, name, share):
    case = make(checkpoint, name, matching_share=share)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = case.method.loss(case.model, case.batch)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, case.method.loss(case.model, case.batch), rtol=0.02, atol=0.02)


def test_two_watched_models_do_not_see_each_other(checkpoint):
    """Also where both are the same checkpoint, and where one runs on another batch in between."""
    kind = AutoModelForSequenceClassification
    models = [kind.from_pretrained(checkpoint("predecessor")).eval() for _ in range(2)]
    watches = [AttentionRecorder(model, [1]) for model in models]
    batches = [make_batch(make_data(), examples) for examples in (range(6), range(6, 9))]
    models[0](**inputs_of(models[0], batches[0]))
    first = watches[0].scores(0).clone(), watches[0].value_scores(0).clone()
    models[1](**inputs_of(models[1], batches[1]))
    assert torch.equal(watches[0].scores(0), first[0])
    assert torch.equal(watches[0].value_scores(0), first[1])
    assert watches[1].scores(0).shape[0] == 3
    models[0](**inputs_of(models[0], batches[1]))
    assert torch.equal(watches[0].scores(0), watches[1].scores(0))


@pytest.mark.parametrize("name", METHODS)
def test_evaluation_between_two_steps_does_not_change_the_loss(checkpoint, tmp_path, name):
    case = make(checkpoint, name)
    before = case.method.loss(case.model, case.batch).detach()
    predict(case.model, make_split(5, seed=9), case.data.pad, HARDWARE)
    predict(case.method.teacher, make_split(7, seed=8), case.data.pad, HARDWARE)
    after = case.method.loss(case.model, case.batch)
    assert torch.equal(after, before)
    after.backward()  # an evaluation's scores have no graph


def test_a_student_that_is_its_teacher_has_nothing_to_match_until_it_is_changed(checkpoint):
    """Were the scores of one taken for the other's, the change would not show."""
    for name in METHODS:
        case = make(checkpoint, name, layers=4, start="predecessor")
        case.model.eval()
        constant = 0.0
        if name == "minilm":
            constant = minilm_matching(look(case.teacher, case.batch), look(case.teacher, case.batch), case.real)[1]
        assert abs(case.method.loss(case.model, case.batch) - constant) < 1e-6
        for projection in PROJECTIONS["bert"][::2]:  # of queries and of values
            weight = case.model.get_submodule(f"{LAYERS['bert']}.3.{projection}").weight
            with torch.no_grad():
                copy = weight.clone()
                weight.mul_(-1.0)
                assert case.method.loss(case.model, case.batch) - constant > 1e-3, (name, projection)
                weight.copy_(copy)


# -- the first phase


@pytest.mark.parametrize(("family", "depth", "layers", "teacher_layers"), PAIRINGS)
def test_tinybert_matches_layers_by_its_formula(checkpoint, family, depth, layers, teacher_layers):
    case = make(checkpoint, "tinybert", family, depth, layers)
    student, teacher = look(case.student, case.batch), look(case.teacher, case.batch)
    check(case, tinybert_matching(student, teacher, case.real, teacher_layers))


@pytest.mark.parametrize(("family", "depth", "layers", "teacher_layers"), PAIRINGS)
def test_minilm_matches_the_last_layers_by_its_formula(checkpoint, family, depth, layers, teacher_layers):
    case = make(checkpoint, "minilm", family, depth, layers)
    student, teacher = look(case.student, case.batch), look(case.teacher, case.batch)
    check(case, *minilm_matching(student, teacher, case.real))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("outputs", [3, 1])
def test_matching_is_the_same_for_any_kind_of_task(checkpoint, name, outputs):
    case = make(checkpoint, name, outputs=outputs)
    student, teacher = look(case.student, case.batch), look(case.teacher, case.batch)
    if name == "tinybert":
        check(case, tinybert_matching(student, teacher, case.real, [2, 4]))
    else:
        check(case, *minilm_matching(student, teacher, case.real))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("start", ["pretrained", "predecessor"])
@pytest.mark.parametrize("family", LAYERS)
def test_the_student_starts_as_the_first_layers_of_its_start_and_shares_nothing(checkpoint, family, start, name):
    case = make(checkpoint, name, family, start=start)
    origin = weights(AutoModelForSequenceClassification.from_pretrained(case.folders[start]))
    state = weights(case.model)
    body = {key for key in state if key.startswith(LAYERS[family]) or ".embeddings." in key}
    assert len({key.removeprefix(LAYERS[family]).split(".")[1] for key in body if "embeddings" not in key}) == 2
    assert all(torch.equal(state[key], origin[key]) for key in body)
    addresses = {p.data_ptr() for p in case.model.parameters()}
    assert not addresses & {p.data_ptr() for p in case.method.teacher.parameters()}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", LAYERS)
def test_padding_does_not_count(checkpoint, family, name):
    """Neither how much of it there is nor what stands in it."""
    for share in (1.0, 0.0):
        case = make(checkpoint, name, family, matching_share=share)
        expected = case.method.loss(case.model, case.batch)
        wide = dict(case.batch)
        for key in ("input_ids", "attention_mask", "token_type_ids"):
            wide[key] = functional.pad(case.batch[key], (0, 3))
        noise = dict(wide, input_ids=wide["input_ids"].masked_fill(wide["attention_mask"] == 0, FIRST_WORD + 7))
        for batch in (wide, noise):
            torch.testing.assert_close(case.method.loss(case.model, batch), expected, rtol=1e-5, atol=1e-6)
        words = dict(case.batch, input_ids=case.batch["input_ids"].clone())
        words["input_ids"][:, 1] = FIRST_WORD + 7
        assert (case.method.loss(case.model, words) - expected).abs() > 1e-4


# -- the second phase


def divergence(logits, teacher, temperature):
    """KL(teacher ‖ student) at the temperature and the teacher's entropy, from their definitions."""
    p = torch.exp(teacher / temperature) / torch.exp(teacher / temperature).sum(1, keepdim=True)
    q = torch.exp(logits / temperature) / torch.exp(logits / temperature).sum(1, keepdim=True)
    return (p * (p.log() - q.log())).sum(1).mean(), -(p * p.log()).sum(1).mean()


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("outputs", [2, 3])
def test_tinybert_matches_predictions_by_its_formula(checkpoint, family, temperature, outputs):
    case = make(checkpoint, "tinybert", family, outputs=outputs, temperature=temperature, matching_share=0.0)
    targets = look(case.teacher, case.batch).logits.detach()
    kl, entropy = divergence(look(case.student, case.batch).logits, targets, temperature)
    check(case, temperature**2 * kl, temperature**2 * entropy)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_tinybert_matches_values_by_their_squared_difference(checkpoint, temperature):
    case = make(checkpoint, "tinybert", outputs=1, temperature=temperature, matching_share=0.0)
    targets = look(case.teacher, case.batch).logits.detach()
    check(case, ((look(case.student, case.batch).logits - targets) ** 2).mean())


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("outputs", [2, 3, 1])
def test_minilm_learns_the_task_afterwards(checkpoint, family, outputs):
    case = make(checkpoint, "minilm", family, outputs=outputs, matching_share=0.0)
    logits, labels = look(case.student, case.batch).logits, case.batch["labels"]
    if outputs == 1:
        check(case, ((logits[:, 0] - labels) ** 2).mean())
    else:
        check(case, -torch.log_softmax(logits, 1)[torch.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("outputs", [2, 1])
@pytest.mark.parametrize(
    ("name", "share", "uses"),
    [("tinybert", 1.0, False), ("tinybert", 0.0, False), ("minilm", 1.0, False), ("minilm", 0.0, True)],
)
def test_labels_count_only_where_the_task_is_learnt(checkpoint, outputs, name, share, uses):
    case = make(checkpoint, name, outputs=outputs, matching_share=share)
    labels = case.batch["labels"]
    other = dict(case.batch, labels=labels + 1.5 if outputs == 1 else 1 - labels)
    losses = [case.method.loss(case.model, batch).detach() for batch in (case.batch, other)]
    assert torch.equal(*losses) != uses


# -- the switch


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("share", "steps", "switch"),
    [(0.87, 23, 20), (0.75, 5, 4), (0.66, 5, 3), (0.0, 4, 0), (1.0, 4, 4)],
)
def test_the_loss_switches_at_its_share_of_the_steps_and_training_may_stop_from_then(
    checkpoint, name, share, steps, switch
):
    first, second = (
        case.method.loss(case.model, case.batch).detach()
        for case in (make(checkpoint, name, matching_share=end, steps=steps) for end in (1.0, 0.0))
    )
    assert (first - second).abs() > 1e-3
    case = make(checkpoint, name, matching_share=share, steps=steps)
    losses, stops, logs = [], [], []
    for step in range(steps):
        case.method.on_step_begin(step)
        losses.append(case.method.loss(case.model, case.batch).detach())
        stops.append(bool(case.method.allow_early_stopping()))
        logs.append(case.method.metrics_to_log())
    assert all(torch.equal(loss, first if step < switch else second) for step, loss in enumerate(losses))
    assert stops == [False] * switch + [True] * (steps - switch)
    assert logs == [{"matching": 1}] * switch + [{"matching": 0}] * (steps - switch)


@pytest.mark.parametrize("name", METHODS)
def test_patience_begins_with_the_second_phase(checkpoint, tmp_path, name):
    """A learning rate too small to change a prediction: the first evaluation that counts as stale ends training."""
    case = make(checkpoint, name, matching_share=0.5, epochs=2, learning_rate=1e-12, patience=1, evaluate_every=1)
    state = fit(case.method, case.model, case.data, case.setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert state.step == 6
    assert [entry["matching"] for entry in state.curve] == [1] * 5 + [0]


# -- what is trained


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", LAYERS)
def test_matching_reaches_embeddings_and_layers_and_not_the_head(checkpoint, family, name):
    case = make(checkpoint, name, family)
    case.method.loss(case.model, case.batch).backward()
    names = {key for key, p in case.model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    last = f"{LAYERS[family]}.1."
    expected = {key for key in weights(case.model) if key.startswith(LAYERS[family]) or ".embeddings." in key}
    if name == "minilm":  # of the last layer, what makes queries, keys and values
        prefixes = tuple(last + projection for projection in PROJECTIONS[family])
        expected = {key for key in expected if not key.startswith(last) or key.startswith(prefixes)}
    rounding = {key for key in expected if key.endswith(("key.bias", "k_lin.bias"))}  # no attention depends on it
    assert expected - rounding <= names <= expected
    assert {id(p) for p in case.method.parameters(case.model)} == {id(p) for p in case.model.parameters()}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", LAYERS)
def test_training_moves_the_student_alone(checkpoint, tmp_path, family, name):
    case = make(checkpoint, name, family, matching_share=0.5, epochs=2, weight_decay=0.1, evaluate_every=50)
    teacher, before = weights(case.method.teacher), weights(case.model)
    assert same(teacher, weights(case.teacher))
    fit(case.method, case.model, case.data, case.setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    assert same(weights(case.method.teacher), teacher)
    assert not any(p.requires_grad or p.grad is not None for p in case.method.teacher.parameters())
    assert not any(module.training for module in case.method.teacher.modules())
    still = {key for key, value in case.model.state_dict().items() if torch.equal(value, before[key])}
    assert still <= {key for key in before if key.endswith(("key.bias", "k_lin.bias"))}


@pytest.mark.parametrize("name", METHODS)
def test_the_first_phase_leaves_the_head_as_it_was(checkpoint, tmp_path, name):
    case = make(checkpoint, name, matching_share=1.0, evaluate_every=50, weight_decay=0.1)
    before = weights(case.model)
    fit(case.method, case.model, case.data, case.setup.loop, 1, HARDWARE, make_checkpoint(tmp_path))
    after = weights(case.model)
    assert all(torch.equal(after[key], before[key]) for key in before if key.startswith(("classifier", "bert.pooler")))
    assert not torch.equal(
        after["bert.embeddings.word_embeddings.weight"], before["bert.embeddings.word_embeddings.weight"]
    )


# -- the result


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", LAYERS)
def test_the_compressed_model_loads_as_a_plain_one(checkpoint, tmp_path, family, name):
    case = make(checkpoint, name, family)
    student = case.method.compressed(case.model).eval()
    student.save_pretrained(tmp_path)
    model, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.num_hidden_layers == len(model.get_submodule(LAYERS[family])) == 2
    expected = student(**inputs_of(student, case.batch)).logits
    torch.testing.assert_close(model.eval()(**inputs_of(model, case.batch)).logits, expected, rtol=1e-5, atol=1e-5)
