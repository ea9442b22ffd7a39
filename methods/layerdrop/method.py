import numpy as np
from theseus_bench.modeling.architectures import keep_layers, layers_of, set_layers
from theseus_bench.training.method import Method, classify, task_loss
from torch import nn


class DroppingLayers(nn.ModuleList):
    """The model's list of layers; iterated, it gives those of the current step, in evaluation the pruned model's.

    `step_mask` and `pruned_mask` say for each layer whether it is among them.
    """

    def __init__(self, layers, pruned_mask):
        super().__init__(layers)
        self.pruned_mask = self.step_mask = pruned_mask

    def __iter__(self):
        mask = self.step_mask if self.training else self.pruned_mask
        return (self[i] for i in range(len(self)) if mask[i])


class LayerDrop(Method):
    def build(self, run):
        settings = run.settings
        model = run.load_predecessor() if settings.start == "predecessor" else run.load_backbone()
        depth = len(layers_of(model))
        every = depth // settings.layers
        self.kept_layers = list(range(0, depth, every))
        self.layers = DroppingLayers(layers_of(model), [i in self.kept_layers for i in range(depth)])
        set_layers(model, self.layers)
        # All draws are made at once, so that a resumed run sees the same ones.
        draws = np.random.default_rng([run.seed, 0x1A7E]).random((run.steps, depth))
        self.step_masks = draws >= settings.drop_rate
        return model

    def loss(self, model, batch):
        return task_loss(classify(model, batch).logits, batch["labels"])

    def on_step_begin(self, step):
        self.layers.step_mask = self.step_masks[step].tolist()

    def compressed(self, model):
        set_layers(model, nn.ModuleList([self.layers[i] for i in range(len(self.layers))]))
        return keep_layers(model, self.kept_layers)
