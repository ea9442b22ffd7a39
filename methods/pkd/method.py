from theseus_bench.training.method import Method, classify, task_loss
from theseus_bench.training.objectives import objective


class PatientKD(Method):
    def build(self, run):
        settings = run.settings
        model = run.load_start()
        # PKD-Skip: student layer i (the last apart) follows predecessor layer i·L/n; 12 → 6: 2, 4, 6, 8, 10.
        self.pairs = settings.layers - 1
        every = run.predecessor_layers // settings.layers
        self.distilled_layers = [run.teacher_layers.index(i * every) for i in range(1, settings.layers)]
        weight = settings.beta / (max(1, self.pairs) * (model.config.hidden_size if settings.normalise else 1))
        match = "pkd" if settings.normalise else "hidden_mse"
        self.objective = objective(
            settings.alpha / (run.task.outputs if settings.kl_over_classes else 1),
            1 - settings.alpha,
            settings.temperature,
            run.task.regression,
            matches=[(i, "hidden", match, weight) for i in range(self.pairs)],
        )
        return model

    def loss(self, model, batch):
        output = classify(model, batch, hidden_states=True)
        logits = output.logits.float()
        student = {
            "logits": [logits],
            "losses": [task_loss(logits, batch["labels"])],
            # hidden_states[0] are the embeddings
            "hidden": [output.hidden_states[i][:, 0].float() for i in range(1, self.pairs + 1)],
        }
        teacher = {
            "logits": [batch["teacher_logits"]],
            "hidden": [batch["teacher_cls"][:, i] for i in self.distilled_layers],
        }
        return self.objective(student, teacher)
