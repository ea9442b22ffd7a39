from theseus_bench.training.method import Method, classify, task_loss


class PreTrainedDistillation(Method):
    def build(self, run):
        return run.load_compact()

    def loss(self, model, batch):
        return task_loss(classify(model, batch).logits, batch["labels"])
