"""Pretraining: the demo's backbone, and compact checkpoints distilled from a backbone.

The recipe is DistilBERT's (Sanh et al. 2019, section 2 and 3): soft labels, cosine between hidden states and masked
language modelling, on unlabelled text, started from evenly spaced layers of the backbone.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoTokenizer, BertConfig, BertForPreTraining

from theseus_bench.data.batches import collate, shuffled_batches
from theseus_bench.data.encoding import encode_texts
from theseus_bench.data.parquet import Split
from theseus_bench.data.synthetic import pretraining_pairs, write_tokenizer
from theseus_bench.modeling.architectures import body_of, keep_layers, layers_of
from theseus_bench.modeling.attention import model_inputs
from theseus_bench.modeling.checkpoints import load_masked_lm, save_checkpoint
from theseus_bench.modeling.compile import padded_length, prepare_for_device
from theseus_bench.modeling.devices import Hardware, autocast, seed_everything, to_tensors
from theseus_bench.modeling.dropout import ATTENTION
from theseus_bench.suite.config import Compact, LoopSettings
from theseus_bench.training.loop import learning_rate, make_optimizer
from theseus_bench.training.method import ParameterGroup
from theseus_bench.training.progress import begin_progress, update_progress
from theseus_bench.training.trainer_state import Checkpoint, StateKeeper, restore_state

IGNORED = -100  # the label of a position that counts in no loss
MASKED_SHARE = 0.15  # of the tokens; of these 80 % become [MASK], 10 % a random token, 10 % stay (Devlin et al. 2019)
DEMO_BATCH = 32
DEMO_EPOCHS = 4  # reading the text again teaches as much as more text, which takes seconds to write
TEMPERATURE, SOFT, COSINE, MASKED = 2.0, 5.0, 1.0, 2.0  # the loss of DistilBERT's published training command


def pretrain(
    model: nn.Module,
    text: Split,
    tokenizer,
    settings: LoopSettings,
    hardware: Hardware,
    checkpoint: Checkpoint,
    trained: list[nn.Parameter] | None = None,
) -> list[float]:
    """Train a model with a masked-language head (or only the parameters `trained`); the loss at each step."""

    def loss(batch: dict[str, Tensor]) -> Tensor:
        return _masked_loss(model(**model_inputs(model, batch)).logits, batch["labels"])

    return _descend(model, trained or list(model.parameters()), loss, text, tokenizer, settings, hardware, checkpoint)


def distil(
    teacher: nn.Module,
    student: nn.Module,
    text: Split,
    tokenizer,
    settings: LoopSettings,
    hardware: Hardware,
    checkpoint: Checkpoint,
) -> list[float]:
    """Train `student` on the teacher's soft labels and states and on the masked tokens; the loss at each step."""
    prepare_for_device(teacher, hardware.device).eval()

    def loss(batch: dict[str, Tensor]) -> Tensor:
        inputs = model_inputs(student, batch)
        with torch.no_grad():
            teacher_output = teacher(**inputs, output_hidden_states=True)
        student_output = student(**inputs, output_hidden_states=True)
        outputs = student_output, teacher_output
        logits, teacher_logits = (output.logits.flatten(0, 1)[batch["real"]].float() for output in outputs)
        state, teacher_state = (output.hidden_states[-1].flatten(0, 1)[batch["real"]].float() for output in outputs)
        soft = functional.kl_div(
            (logits / TEMPERATURE).log_softmax(-1), (teacher_logits / TEMPERATURE).softmax(-1), reduction="batchmean"
        )
        cosine = (1 - functional.cosine_similarity(state, teacher_state, dim=-1)).mean()
        masked = _masked_loss(student_output.logits, batch["labels"])
        return SOFT * TEMPERATURE**2 * soft + COSINE * cosine + MASKED * masked

    return _descend(student, list(student.parameters()), loss, text, tokenizer, settings, hardware, checkpoint)


def make_compact(
    backbone_folder: Path,
    text: Split,
    recipe: Compact,
    layers: int,
    hardware: Hardware,
    checkpoint: Checkpoint,
    folder: Path,
) -> dict:
    """Make a compact checkpoint of `layers` layers from the backbone in `folder`; its first and last losses.

    It starts from evenly spaced layers of the backbone, and learns from the backbone and the masked words, or with the
    objective masked_words from these alone (the pre-training of Turc et al. 2019, which begins with random layers).
    With `recipe.head_steps` the backbone's masked-language head is fitted first, its body held fixed: a backbone
    published without one (a sentence encoder) has no soft labels to give otherwise. Stopped and called again, it goes
    on where it was: each of these two phases has its own checkpoint in the folder of `checkpoint`.
    """
    tokenizer = AutoTokenizer.from_pretrained(backbone_folder)
    seed_everything(0)
    teacher = load_masked_lm(backbone_folder)
    losses = {}
    if recipe.head_steps:
        body = {id(p) for p in body_of(teacher).parameters()}
        head = [p for p in teacher.parameters() if id(p) not in body]
        body_of(teacher).requires_grad_(False)  # so that nothing is computed for it
        head_checkpoint = replace(checkpoint, folder=checkpoint.folder / "head")
        head_losses = pretrain(
            teacher, text, tokenizer, _loop(recipe, recipe.head_steps), hardware, head_checkpoint, head
        )
        losses |= {"head_first": head_losses[0], "head_last": float(np.mean(head_losses[-20:]))}
    student = load_masked_lm(backbone_folder)
    student.load_state_dict(teacher.state_dict())
    depth = len(layers_of(student))
    keep_layers(student, [i * depth // layers for i in range(layers)])
    loop = _loop(recipe, recipe.steps)
    if recipe.objective == "distillation":
        student_losses = distil(teacher, student, text, tokenizer, loop, hardware, checkpoint)
    else:
        student_losses = pretrain(student, text, tokenizer, loop, hardware, checkpoint)
    save_checkpoint(student.cpu(), backbone_folder, folder)
    return losses | {"first": student_losses[0], "last": float(np.mean(student_losses[-20:]))}


def make_demo_backbone(layers: int, steps: int, hardware: Hardware, checkpoint: Checkpoint, folder: Path) -> dict:
    """Pretrain the demo's tiny BERT from scratch into `folder`, on BERT's two objectives; its first and last losses.

    Masked words alone do not teach a model this small to compare two sentences; the second objective (does this
    sentence follow that one) does. Weights begin larger than BERT's 0.02, which suits hundreds of units, not 64. It
    has no dropout: there is nothing in it to spare.
    """
    with tempfile.TemporaryDirectory() as scratch:
        write_tokenizer(Path(scratch))
        tokenizer = AutoTokenizer.from_pretrained(scratch)
        seed_everything(0)
        model = BertForPreTraining(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                num_hidden_layers=layers,
                num_attention_heads=4,
                intermediate_size=128,
                max_position_embeddings=64,
                initializer_range=0.07,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                attn_implementation=ATTENTION,
            )
        )
        first, second, follows = zip(*pretraining_pairs(steps * DEMO_BATCH // DEMO_EPOCHS), strict=True)
        text = encode_texts([first, second], follows, range(len(first)), 64, tokenizer)

        def loss(batch: dict[str, Tensor]) -> Tensor:
            strange = (batch["example_labels"] == 0).long()  # transformers counts a sentence that follows as 0
            inputs = model_inputs(model, batch)
            return model(**inputs, labels=batch["labels"], next_sentence_label=strange).loss

        settings = LoopSettings(
            layers=layers,
            batch_size=DEMO_BATCH,
            learning_rate=2e-3,
            weight_decay=0.01,
            warmup=0.05,
            max_steps=steps,
        )
        losses = _descend(model, list(model.parameters()), loss, text, tokenizer, settings, hardware, checkpoint)
        save_checkpoint(model.cpu(), Path(scratch), folder)
    return {"first": losses[0], "last": float(np.mean(losses[-20:]))}


def _loop(recipe: Compact, steps: int) -> LoopSettings:
    return LoopSettings(
        layers=1, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, weight_decay=0.01, max_steps=steps
    )


def _masked_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy at the masked positions; 0 where there are none, as in a last batch of one short example."""
    total = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels != IGNORED).sum().clamp(min=1)


def _descend(
    model: nn.Module,
    trained: list[nn.Parameter],
    loss: Callable[[dict[str, Tensor]], Tensor],
    text: Split,
    tokenizer,
    settings: LoopSettings,
    hardware: Hardware,
    checkpoint: Checkpoint,
) -> list[float]:
    """Minimise `loss` over masked batches of `text` for settings.max_steps steps; the loss at each.

    The state is kept every `checkpoint.every` seconds and at the end, so that a phase that is over is not repeated if
    the next one is stopped. Where there is one, training goes on from it: on a CPU it ends bit-equal to one that was
    not stopped. Stopped, with a checkpoint, where the process has to end before the training.
    """
    prepare_for_device(model, hardware.device).train()
    optimizer = make_optimizer([ParameterGroup(trained)], settings)
    saved = restore_state(checkpoint.file, trained, optimizer, hardware.device)
    losses = list(saved["losses"]) if saved else []
    keeper = StateKeeper(checkpoint)
    begin_progress(len(losses), settings.max_steps)
    for batch in _masked_batches(text, tokenizer, settings, padded_length(hardware.device), first=len(losses)):
        with autocast(hardware.device, hardware.precision):
            value = loss(to_tensors(batch, hardware.device))
        model.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(trained, settings.clip_norm)
        rate = learning_rate(settings, len(losses) + 1, settings.max_steps + 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        losses.append(value.detach())
        update_progress(len(losses), rate, {"loss": losses[-1]})
        where, is_over = f"step {len(losses)} of {settings.max_steps} of pretraining", len(losses) == settings.max_steps
        keeper.after_step(where, trained, optimizer, lambda: {"losses": torch.stack(losses)}, at_once=is_over)
    return torch.stack(losses).tolist()  # only now, as the processor waits for a GPU here


def _masked_batches(
    text: Split, tokenizer, settings: LoopSettings, pad_to_multiple_of: int = 1, first: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of step `first` (from 0) up to settings.max_steps, with tokens masked.

    `labels` (batch, length) holds the original at masked positions, `example_labels` (batch,) the text's own labels,
    `real` (tokens,) where in the flattened batch there is no padding. What is masked depends on the step alone, so that
    no batch needs those before it.
    """
    special = np.array(tokenizer.all_special_ids)
    batches = math.ceil(len(text) / settings.batch_size)
    epoch, order = -1, []
    for step in range(first, settings.max_steps):
        if step // batches != epoch:
            epoch = step // batches
            order = shuffled_batches(len(text), "text", 0, epoch, settings.batch_size)
        random = np.random.default_rng([0, step])
        batch = collate(text, order[step % batches], tokenizer.pad_token_id, pad_to_multiple_of)
        batch["real"] = np.flatnonzero(batch["attention_mask"])
        ids = batch["input_ids"]
        mask = (random.random(ids.shape) < MASKED_SHARE) & ~np.isin(ids, special)
        batch["example_labels"], batch["labels"] = batch["labels"], np.where(mask, ids, IGNORED)
        draw = random.random(ids.shape)
        ids[mask & (draw < 0.8)] = tokenizer.mask_token_id
        noise = mask & (draw >= 0.9)
        ids[noise] = random.integers(0, len(tokenizer), int(noise.sum()))
        yield batch
