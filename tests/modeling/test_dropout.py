"""Dropout on a CPU: torch's in what it does, and everywhere in a loaded model."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from theseus_bench.data.batches import collate
from theseus_bench.modeling.checkpoints import load_classifier
from theseus_bench.modeling.dropout import fast_dropout
from tiny import LAYERS, PAD, make_split, make_task, write_checkpoint
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

NUMBER = 200_001  # odd, so that the last 64 random bits are not all used


def inputs(family):
    arrays = collate(make_split(6), np.arange(6), PAD)
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (family == "bert")
    return {name: torch.from_numpy(arrays[name]) for name in names}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
@pytest.mark.parametrize(("kind", "close"), [(torch.float32, 2e-4), (torch.bfloat16, 2e-2)])
def test_elements_are_dropped_at_the_rate_asked_for_and_the_others_scaled(p, kind, close):
    torch.manual_seed(0)
    result = fast_dropout(torch.ones(NUMBER, dtype=kind), p)
    survivors = result[result != 0]
    assert binomtest(NUMBER - len(survivors), NUMBER, p).pvalue > 1e-4
    torch.testing.assert_close(survivors, torch.full_like(survivors, 1 / (1 - p)), rtol=close, atol=0)


def test_neighbours_are_dropped_independently_of_each_other():
    """Four decisions come out of one random number."""
    torch.manual_seed(0)
    zeros = fast_dropout(torch.ones(4 * 50_000), 0.5).view(-1, 4) == 0
    patterns = (zeros * torch.tensor([1, 2, 4, 8])).sum(dim=1).bincount(minlength=16)
    assert (patterns - 50_000 / 16).abs().max() < 5 * (50_000 / 16 * 15 / 16) ** 0.5


def test_the_gradient_goes_where_the_values_went():
    x = torch.randn(3, 5, 7, requires_grad=True)
    result = fast_dropout(x, 0.4)
    result.sum().backward()
    torch.testing.assert_close(x.grad, (result / x).detach())


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_at_the_ends_it_is_torch_s(p):
    x = torch.randn(4, 4)
    torch.testing.assert_close(fast_dropout(x, p), functional.dropout(x, p), rtol=0, atol=0)


def test_it_goes_on_from_the_stored_state_of_torch_s_generator():
    torch.manual_seed(3)
    fast_dropout(torch.ones(1000), 0.1)
    state = torch.get_rng_state()
    expected = fast_dropout(torch.ones(1000), 0.1)
    torch.set_rng_state(state)
    assert torch.equal(fast_dropout(torch.ones(1000), 0.1), expected)


@pytest.mark.parametrize("family", LAYERS)
def test_without_dropout_a_loaded_model_computes_what_transformers_does(tmp_path, family):
    """Our attention is transformers' eager one, also with padding and in its gradients."""
    write_checkpoint(tmp_path, family, dropout=0.0)
    fast_model = load_classifier(tmp_path, make_task()).train()
    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager").train()
    reference.load_state_dict(fast_model.state_dict())
    results = [model(**inputs(family)).logits for model in (fast_model, reference)]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    for (name, parameter), other in zip(fast_model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, msg=name)


@pytest.mark.parametrize("family", LAYERS)
def test_a_loaded_model_draws_all_its_dropout_fast(tmp_path, family, monkeypatch):
    write_checkpoint(tmp_path, family, dropout=0.1)
    model = load_classifier(tmp_path, make_task())
    assert torch.equal(model(**inputs(family)).logits, model(**inputs(family)).logits)  # as loaded: in evaluation mode
    model.train()
    monkeypatch.setattr(functional, "dropout", lambda *_, **__: pytest.fail("torch's own dropout was used"))
    torch.manual_seed(0)
    first, second = (model(**inputs(family)).logits for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(**inputs(family)).logits, model(**inputs(family)).logits)
