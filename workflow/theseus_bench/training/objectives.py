"""Distillation objectives, from TextBrewer.

TextBrewer computes the losses and weighs them; the loop around them is ours (its own has no resume and runs the
teacher again at every step).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Results = dict[str, list[Tensor] | Tensor]
Match = tuple[int, str, str, float]  # index, feature, loss, weight
# Of TextBrewer's losses those that are a mean over tokens, or pairs of them, and not over examples: over how many.
COUNTS: dict[str, Callable[[Tensor], Tensor]] = {
    "attention_ce": lambda mask: mask.sum(),
    "attention_ce_mean": lambda mask: mask.sum(),
    "attention_mse": lambda mask: mask.sum(1).square().sum(),
    "attention_mse_sum": lambda mask: mask.sum(1).square().sum(),
    "hidden_mse": lambda mask: mask.sum(),
    "cos": lambda mask: mask.sum(),
}
OVER_KEYS = {"attention_ce", "attention_ce_mean"}  # these make distributions over the keys
MASKED = -1e4  # the score of a padded key: no attention, yet finite


def objective(
    kd_weight: float,
    hard_label_weight: float,
    temperature: float,
    regression: bool,
    matches: list[Match] = (),
) -> Callable[[Results, Results], Tensor]:
    """hard_label_weight·L_task + kd_weight·T²·KL(teacher ‖ student at temperature T) + matches, up to a constant.

    The function returned takes the student's results (`logits`: [(batch, outputs)], `losses`: [scalar]) and the
    teacher's (`logits`), each of which may be absent where its weight is 0. With matches both also hold what is
    matched, `hidden`: [(batch, …, hidden)] or `attention`: [(batch, heads, length, length)] before the softmax, and the
    student's may hold `inputs_mask` (batch, length), outside of which nothing counts. A match (i, feature, loss,
    weight) compares the i-th of both with one of TextBrewer's MATCH_LOSS_MAP. TextBrewer's `ce` loss is the cross
    entropy with the teacher's distribution, whose gradient is the KL's, without the factor T². One output has no
    distribution: for regression the squared difference of the values takes its place, and T is 1. TextBrewer's
    distributions over keys have padding among them; here they do not, so that it does not matter how wide a batch is.
    """
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    temperature = 1.0 if regression else temperature
    config = DistillationConfig(
        temperature=temperature,
        hard_label_weight=hard_label_weight,
        kd_loss_type="mse" if regression else "ce",
        kd_loss_weight=kd_weight * temperature**2,
        intermediate_matches=[
            {"layer_T": i, "layer_S": i, "feature": feature, "loss": loss, "weight": weight}
            for i, feature, loss, weight in matches
        ],
    )
    # The distiller is only asked for compute_loss: it needs no models, and output_dir "." keeps it from making one.
    distiller = GeneralDistiller(TrainingConfig(output_dir=".", device="cpu"), config, None, None, None, None)

    def loss(student: Results, teacher: Results) -> Tensor:
        mask = student.get("inputs_mask")
        for match, (_, _, name, weight) in zip(config.intermediate_matches, matches, strict=True):
            match.weight = weight * _tokens_for_examples(name, mask) if hasattr(mask, "step_mask") else weight
        if mask is not None and OVER_KEYS & {name for _, _, name, _ in matches}:
            student, teacher = _mask_keys(student, mask), _mask_keys(teacher, mask)
        total: Tensor = distiller.compute_loss(student, teacher)[0]
        return total

    return loss


def _tokens_for_examples(name: str, mask: Tensor) -> Tensor | float:
    """What makes a part's share of its step by examples one by tokens, for a loss that is a mean over these.

    A step whose batch goes through the model in parts weighs the loss of each by its share of the step's examples.
    """
    if name not in COUNTS:
        return 1.0
    count, examples = COUNTS[name], len(mask.step_mask) / len(mask)
    return examples * count(mask) / count(mask.step_mask)


def _mask_keys(results: Results, mask: Tensor) -> Results:
    """The results with no attention to padding; mask is (batch, length)."""
    padding = (mask == 0)[:, None, None, :]
    return {**results, "attention": [scores.masked_fill(padding, MASKED) for scores in results["attention"]]}
