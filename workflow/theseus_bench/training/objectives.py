"""Distillation objectives, from TextBrewer.

TextBrewer computes the losses and weighs them; the loop around them is ours (its own has no resume and runs the
teacher again at every step).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Results = dict[str, list[Tensor] | Tensor]
Match = tuple[int, str, str, float]  # index, feature, loss, weight


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
    distribution: for regression the squared difference of the values takes its place, and T is 1.
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
    return lambda student, teacher: distiller.compute_loss(student, teacher)[0]
