from theseus_bench.training.method import Method, classify, task_loss
from theseus_bench.training.objectives import objective


class VanillaKD(Method):
    def build(self, run):
        settings = run.settings
        self.objective = objective(settings.alpha, 1 - settings.alpha, settings.temperature, run.task.regression)
        return run.load_start()

    def loss(self, model, batch):
        logits = classify(model, batch).logits.float()
        student = {"logits": [logits], "losses": [task_loss(logits, batch["labels"])]}
        return self.objective(student, {"logits": [batch["teacher_logits"]]})
