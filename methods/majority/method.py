from types import SimpleNamespace

import torch
from theseus_bench.training.method import Method
from torch import nn


class ConstantClassifier(nn.Module):
    """The same logits (outputs,) for every example, whatever it says."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("constant", logits)
        # all that the machinery asks of a model without layers
        self.config = SimpleNamespace(model_type="bert", num_labels=len(logits))

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.constant.expand(len(input_ids), -1))


class Majority(Method):
    def build(self, run):
        if run.task.regression:
            return ConstantClassifier(run.labels.mean().reshape(1))
        counts = torch.bincount(run.labels.long(), minlength=run.task.outputs)
        return ConstantClassifier(counts.float())

    def parameters(self, model):
        return []

    def compressed(self, model):
        return None
