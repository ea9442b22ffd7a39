"""A batch in parts, by memory or by lengths: it is halved until it fits, and the update is the same."""

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from theseus_bench.errors import UserError
from theseus_bench.training import micro_batches
from theseus_bench.training import run as run_module
from theseus_bench.training.conformance_bench import STEPS, make_bench
from theseus_bench.training.loop import compute_gradients, fit, training_batch
from theseus_bench.training.micro_batches import PART_TOKENS, fit_in_memory, group_lengths, is_out_of_memory, parts_of
from theseus_bench.training.objectives import COUNTS, objective
from tiny import (
    HARDWARE,
    build,
    make_batch,
    make_checkpoint,
    make_data,
    make_teacher,
    weights,
    write_checkpoint,
    write_pair,
)
from torch import nn

CPU = torch.device("cpu")
SHORTAGES = {
    "python": MemoryError(),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1099511627776 bytes."),
    "c++": RuntimeError("std::bad_alloc"),
    "gpu": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
}


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A backbone without dropout."""
    return write_checkpoint(tmp_path_factory.mktemp("still"), seed=1, dropout=0.0)


def train_with_limit(backbone, folder, largest=8, error=None):
    """The state and the weights after an epoch of five batches of 8, of which so many examples fit in memory."""
    data = make_data()
    built = build("finetune", data, backbone, epochs=1)
    loss = built.method.loss

    def loss_with_limit(model, batch):
        value = loss(model, batch)  # the shortage comes late, with all of a forward pass in memory
        if len(batch["labels"]) > largest:
            raise error
        return value

    built.method.loss = loss_with_limit
    state = fit(built.method, built.model, data, built.loop, 1, HARDWARE, make_checkpoint(folder))
    return state, weights(built.model)


@pytest.mark.parametrize("kind", SHORTAGES)
def test_a_batch_that_does_not_fit_is_halved_to_the_same_update(still, tmp_path, capsys, kind):
    state, whole = train_with_limit(still, tmp_path)
    assert state.micro_batch == 8
    state_of_parts, weights_of_parts = train_with_limit(still, tmp_path, 3, SHORTAGES[kind])
    assert state_of_parts.micro_batch == 2
    assert state_of_parts.curve[-1]["loss"] == pytest.approx(state.curve[-1]["loss"], abs=1e-5)
    weights_again = train_with_limit(still, tmp_path)[1]
    assert all(torch.equal(whole[name], weights_again[name]) for name in whole), "what fits is computed as ever"
    for name in whole:  # of a key's bias the gradient is 0 but for rounding, and AdamW makes a step of any gradient
        if not name.endswith("key.bias"):
            torch.testing.assert_close(weights_of_parts[name], whole[name], rtol=0, atol=2e-5, msg=name)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(": ")[2] for line in lines if line.startswith("not enough memory (")] == [
        "from here on 4 examples at once",
        "from here on 2 examples at once",
    ]


def test_a_shortage_with_one_example_is_one_line(still, tmp_path):
    with pytest.raises(
        UserError, match=r"^not enough memory for one example at a time \(std::bad_alloc\); give the run"
    ):
        train_with_limit(still, tmp_path, 0, SHORTAGES["c++"])


def test_other_errors_are_none_of_memory(still, tmp_path):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train_with_limit(still, tmp_path, 4, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_each_attempt_begins_with_the_same_draws():
    def attempt(size):
        draws = torch.rand(3)
        if size > 2:
            raise MemoryError
        return draws

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    draws, size = fit_in_memory(attempt, 5, CPU)
    assert size == 2  # 5, 3, 2
    assert torch.equal(draws, expected)


def test_a_run_that_goes_on_keeps_its_parts(still, tmp_path):
    """Memory that was short before the stop is not sizes for again."""
    data, sizes = make_data(), []

    class Stop(Exception):
        pass

    for is_second in (False, True):
        built = build("finetune", data, still, epochs=1)
        loss = built.method.loss

        def loss_with_limit(model, batch, loss=loss, is_second=is_second):
            sizes.append((is_second, len(batch["labels"])))
            if len(batch["labels"]) > 4:
                raise MemoryError
            return loss(model, batch)

        def stop(step, is_second=is_second):
            if step == 2 and not is_second:
                raise Stop

        built.method.loss, built.method.on_step_begin = loss_with_limit, stop
        try:
            fit(built.method, built.model, data, built.loop, 1, HARDWARE, make_checkpoint(tmp_path, every=0.0))
        except Stop:
            continue
    assert [size for is_second, size in sizes if not is_second][:3] == [8, 4, 4]
    assert {size for is_second, size in sizes if is_second} == {4}


def test_the_record_says_how_many_examples_fitted(tmp_path, monkeypatch):
    bench, load = make_bench("finetune", tmp_path), run_module.load_method

    def loss_with_limit(folder):
        method = load(folder)
        loss = method.loss

        def short(model, batch):
            if len(batch["labels"]) > 4:
                raise MemoryError
            return loss(model, batch)

        method.loss = short
        return method

    record, _ = bench.execute("rte", "whole")
    assert record.micro_batch == 8
    monkeypatch.setattr(run_module, "load_method", loss_with_limit)
    record, _ = bench.execute("rte", "loss_with_limit")
    assert (record.micro_batch, record.settings["batch_size"], record.steps) == (4, 8, STEPS)


def test_a_real_limit_is_met_by_halving():
    """In a process whose memory is loss_with_limit, 8 blocks of 64 MB at once do not fit, and 4 or 2 do."""
    code = """
import resource, sys
import torch
from theseus_bench.training.micro_batches import fit_in_memory

pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 420 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
value, size = fit_in_memory(lambda n: torch.ones(n, 2**24).sum(), 8, torch.device("cpu"))
print(size, value.item())
"""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"4 {4 * 2.0**24}\n"
    assert "can't allocate memory" in done.stderr


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("loss", COUNTS)
def test_a_mean_over_tokens_is_that_of_the_step(loss, by_length, monkeypatch):
    """Seven examples of 1 to 7 tokens, in parts of three, whose shares are by tokens or by pairs of them."""
    monkeypatch.setattr(micro_batches, "PART_TOKENS", 0)
    torch.manual_seed(0)
    mask = (torch.arange(7) < torch.arange(1, 8)[:, None]).long()
    feature = loss.partition("_")[0] if loss != "cos" else "hidden"
    shape = (7, 2, 7, 7) if feature == "attention" else (7, 7, 4)
    student, teacher = torch.randn(2, *shape)
    matching = objective(0.0, 0.0, 1.0, False, [(0, feature, loss, 0.5)])

    def value(batch):
        width = batch["attention_mask"].shape[1]
        cut = (..., slice(width), slice(width)) if feature == "attention" else (slice(None), slice(width))
        student, teacher = ({feature: [batch[name][cut]]} for name in ("student", "teacher"))
        return matching(student | {"inputs_mask": batch["attention_mask"]}, teacher)

    batch = {"labels": torch.zeros(7), "input_ids": mask, "token_type_ids": mask, "attention_mask": mask}
    batch |= {"student": student, "teacher": teacher}
    whole = value(batch)
    parts = [value(part) * share for part, share in parts_of(batch, 3, by_length)]
    assert len(parts) == (7 if by_length else 3)
    torch.testing.assert_close(sum(parts), whole)
    assert torch.equal(value(batch), whole), "what a part weighs is not kept"


def test_gradients_of_parts_add_up(still):
    """Of a loss that is a mean over examples, also where the last part is smaller."""
    data = make_data()
    built = build("finetune", data, still)
    parameters = [p for p in built.model.train().parameters() if p.requires_grad]
    gradients = []
    for size in (6, 4, 1):
        compute_gradients(built.method, built.model, make_batch(data), size, parameters, HARDWARE)
        gradients.append(nn.utils.parameters_to_vector([p.grad for p in parameters if p.grad is not None]).clone())
    largest = float(gradients[0].abs().max())
    assert largest > 1e-3
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-3, atol=1e-5 * largest)


def padded_tokens(lengths, groups):
    return sum(len(group) * max(lengths[i] for i in group) for group in groups)


@pytest.mark.parametrize("seed", range(20))
def test_groups_of_like_lengths_are_the_best_of_all(seed):
    """Beside every way to cut seven examples in the order of their lengths."""
    lengths = np.random.default_rng(seed).integers(1, 120, 7)
    order = sorted(range(7), key=lambda i: lengths[i])
    least = min(
        padded_tokens(lengths, groups) + PART_TOKENS * len(groups)
        for cuts in itertools.product([False, True], repeat=6)
        for ends in [[i + 1 for i, cut in enumerate(cuts) if cut]]
        for groups in [[order[i:j] for i, j in itertools.pairwise([0, *ends, 7])]]
    )
    groups = group_lengths(lengths)
    assert padded_tokens(lengths, groups) + PART_TOKENS * len(groups) == least
    assert sorted(np.concatenate(groups)) == list(range(7))


def test_no_group_more_than_saves_its_cost():
    def groups(*lengths):
        return [group.tolist() for group in group_lengths(np.array(lengths))]

    assert groups(5, 5, 5) == [[0, 1, 2]]
    assert groups(PART_TOKENS, 1) == [[1, 0]]
    assert groups(PART_TOKENS, 1, 1) == [[1, 2], [0]]


@pytest.mark.parametrize("name", ["finetune", "vanilla_kd", "pkd", "theseus", "layerdrop", "tinybert", "minilm"])
def test_parts_of_like_lengths_have_the_gradients_of_the_batch(name, tmp_path, monkeypatch):
    """36 examples of 5 to 16 tokens; each part is as wide as its longest."""
    backbone, predecessor = write_pair(tmp_path, dropout=0.0)
    data = make_data(teacher=make_teacher(36, 2, [2, 4]))
    built = build(name, data, backbone, predecessor)
    loss, widths, parameters = built.method.loss, [], list(built.model.train().parameters())

    def observed_loss(model, batch):
        is_token = batch["attention_mask"] == 1
        assert is_token.any(0).all(), "a column of padding alone"
        assert batch["input_ids"].shape == batch["token_type_ids"].shape == is_token.shape
        widths.append(is_token.shape[1])
        return loss(model, batch)

    built.method.loss, values = observed_loss, {}
    built.method.on_step_begin(0)
    for cost in (10**6, 0):
        monkeypatch.setattr(micro_batches, "PART_TOKENS", cost)
        batch = training_batch(data, np.arange(36), CPU)
        value = compute_gradients(built.method, built.model, batch, 36, parameters, HARDWARE)
        values[cost] = value, [p.grad.clone() for p in parameters if p.grad is not None]
    longest = int(data.train.rows["length"].max())
    assert widths[0] == longest
    assert widths[1:] == sorted({*data.train.rows["length"].tolist()}), "one part for a length"
    torch.testing.assert_close(values[0][0], values[10**6][0])
    largest = max(float(gradient.abs().max()) for gradient in values[0][1])
    for part, whole in zip(values[0][1], values[10**6][1], strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-5 * largest)


@pytest.fixture
def part_sizes(still, monkeypatch):
    """A function: how many examples go through the model at once, of a batch of 6, on such a device."""
    monkeypatch.setattr(micro_batches, "PART_TOKENS", 0)
    data = make_data()
    built = build("finetune", data, still)
    loss, parameters, counts = built.method.loss, list(built.model.parameters()), []
    built.method.loss = lambda model, batch: counts.append(len(batch["labels"])) or loss(model, batch)

    def sizes(device="cpu", micro_batch=6, relates_examples=False):
        counts.clear()
        built.method.relates_examples = relates_examples
        hardware = replace(HARDWARE, device=torch.device(device))  # the model and the batch stay where they are
        compute_gradients(built.method, built.model, make_batch(data), micro_batch, parameters, hardware)
        return [*counts]

    return sizes


def test_a_processor_parts_a_batch_and_a_gpu_has_it_whole(part_sizes):
    assert sum(part_sizes()) == 6
    assert len(part_sizes()) > 2
    assert part_sizes("cuda") == [6]
    assert part_sizes("cuda", micro_batch=4) == [4, 2]


def test_a_loss_that_relates_examples_has_its_batch_whole(part_sizes):
    assert part_sizes(relates_examples=True) == [6]


def test_real_lengths_are_worth_parting():
    """A batch of 32 with lengths as of STS-B: whole more than half of it is padding, in parts less than a quarter."""
    lengths = np.quantile([10, 17, 19, 21, 23, 25, 28, 35, 51, 70], np.linspace(0, 1, 32)).astype(int)
    groups = group_lengths(lengths)
    assert 2 <= len(groups) <= 4
    assert padded_tokens(lengths, groups) < 1.3 * lengths.sum()
    assert 32 * max(lengths) > 2 * lengths.sum()
