from copy import deepcopy

import numpy as np
from theseus_bench.errors import UserError
from theseus_bench.modeling.architectures import keep_layers, layers_of, set_layers
from theseus_bench.training.method import Method, classify, task_loss
from torch import nn


class ReplaceableLayers(nn.Module):
    """Stands where the model had its list of layers, and lists those of the current choice when it is iterated.

    `predecessor` and `successor` are the modules prd_i and scc_i, each a list of layers. In evaluation the choice is
    always the pure successor; a module that is not `replaceable` stays the predecessor's throughout.
    """

    def __init__(self, predecessor, successor, replaceable):
        super().__init__()
        self.predecessor = nn.ModuleList(predecessor)
        self.successor = nn.ModuleList(successor)
        self.replaceable = replaceable
        self.replacements = replaceable  # r_i of the current step

    def __iter__(self):
        choice = self.replacements if self.training else self.replaceable
        for prd, scc, replaced in zip(self.predecessor, self.successor, choice, strict=True):
            yield from scc if replaced else prd


class Theseus(Method):
    def run_length(self, settings, steps):
        """As many steps after the replacing rate is full (N = full_rate_at) as until then, where that is more."""
        if settings.full_rate_at <= 1 or settings.schedule == "anti_curriculum":
            return steps
        return max(steps, min(round(2 * settings.full_rate_at), settings.max_steps or steps))

    def build(self, run):
        settings = run.settings
        model = run.load_predecessor()
        donor = model if settings.start == "predecessor" else run.load_backbone()
        prd, scc = list(layers_of(model)), layers_of(donor)[: settings.layers]
        size = len(prd) // settings.layers
        self.modules = ReplaceableLayers(
            [nn.ModuleList(prd[i : i + size]) for i in range(0, len(prd), size)],
            [nn.ModuleList([deepcopy(layer)]) for layer in scc],  # copies: `model` keeps its own
            [settings.module in (0, i) for i in range(1, settings.layers + 1)],
        )
        if not any(self.modules.replaceable):
            raise UserError(f"theseus: module {settings.module} is wanted, but there are {settings.layers}")
        set_layers(model, self.modules)
        if not settings.clip_frozen:
            model.requires_grad_(False)
            for parameter in self.parameters(model):
                parameter.requires_grad_(True)
        self.clip_frozen = settings.clip_frozen
        # All draws are made at once, one per module and step, so that a resumed run sees the same ones.
        self.full_rate_step = settings.full_rate_at if settings.full_rate_at > 1 else settings.full_rate_at * run.steps
        self.rates = replacing_rates(settings.schedule, settings.base_rate, self.full_rate_step, run.steps)
        self.constant_throughout = settings.schedule == "constant" and self.full_rate_step >= run.steps
        draws = np.random.default_rng([run.seed, 0x7E5E]).random((run.steps, settings.layers))
        self.replacements = (draws < self.rates[:, None]) & self.modules.replaceable
        self.undrawn_steps = np.cumsum(~self.replacements.any(axis=1))
        self.step = 0
        return model

    def loss(self, model, batch):
        return task_loss(classify(model, batch).logits, batch["labels"])

    def parameters(self, model):
        """Successor layers alone: the predecessor's, embeddings, pooler and classifier stay as they are."""
        modules = zip(self.modules.successor, self.modules.replaceable, strict=True)
        return [p for successor, replaceable in modules if replaceable for p in successor.parameters()]

    def clipped_parameters(self, model):
        return model.parameters() if self.clip_frozen else self.parameters(model)

    def on_step_begin(self, step):
        self.step = step
        self.modules.replacements = self.replacements[step].tolist()

    def allow_early_stopping(self):
        """Not before replacing is over: until then the successor has not been trained as a whole.

        A constant rate that is full at the end alone has no such time to wait for.
        """
        return self.step >= self.full_rate_step or self.constant_throughout

    def metrics_to_log(self):
        """The replacing rate, and in how many steps so far no successor was drawn, so that none had a gradient."""
        return {"replacing_rate": float(self.rates[self.step]), "undrawn_steps": int(self.undrawn_steps[self.step])}

    def compressed_layers(self, run):
        """With one module replaced alone, the predecessor's other layers stay."""
        size = run.predecessor_layers // run.settings.layers
        return run.settings.layers if run.settings.module == 0 else run.predecessor_layers - size + 1

    def compressed(self, model):
        result = list(self.modules.eval())
        set_layers(model, nn.ModuleList(result))
        return keep_layers(model, list(range(len(result))))


def replacing_rates(schedule, base, full_at, steps):
    """The probability p of replacing a module at each step (steps,), counted from 0 (paper, section 3.3).

    curriculum: min(1, k·t + b), with k such that it is 1 at step `full_at`; anti_curriculum: 1 minus that;
    constant: b, then 1 from `full_at` on.
    """
    step = np.arange(steps)
    curriculum = np.where(step < full_at, base + (1.0 - base) * step / full_at, 1.0)
    constant = np.where(step < full_at, base, 1.0)
    return {"curriculum": curriculum, "anti_curriculum": 1.0 - curriculum, "constant": constant}[schedule]
