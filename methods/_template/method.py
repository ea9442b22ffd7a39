from theseus_bench.training.method import Method, classify, task_loss
from torch.nn import functional


class MyMethod(Method):
    def build(self, run):
        # The module to train. run.load_start() is a classifier of the student's depth: the first layers of the
        # backbone, or of the predecessor where settings.start says so. run.settings has all settings of method.yaml.
        self.weight = run.settings.my_weight
        return run.load_start()

    def loss(self, model, batch):
        # The scalar to minimise. Batches, optimizer, schedule, precision and stopping are the training loop's.
        logits = classify(model, batch).logits.float()
        imitation = functional.mse_loss(logits, batch["teacher_logits"])
        return (1 - self.weight) * task_loss(logits, batch["labels"]) + self.weight * imitation

    # batch["teacher_cls"] (batch, layers stored, hidden) are the predecessor's [CLS] states, of its last layer [:, -1].
    # Hidden states of the model: classify(model, batch, hidden_states=True).hidden_states, [0] the embeddings.
    #
    # More of the contract, each with a default (theseus_bench/training/method.py): parameters(model), what the
    # optimizer moves, in groups with rates of their own if need be; on_step_begin(step); metrics_to_log(), numbers for
    # the curve; compressed(model), the plain model that results. docs/adding-a-method.md has all that `run` offers.
    # Other Python files of this folder are imported with: from . import helper
