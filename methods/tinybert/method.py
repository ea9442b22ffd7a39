import torch
from theseus_bench.modeling.attention import AttentionRecorder
from theseus_bench.training.method import Method, classify
from theseus_bench.training.objectives import objective


class TinyBert(Method):
    def build(self, run):
        settings = run.settings
        model, self.teacher = run.load_start(), run.load_teacher()
        # Student layer i follows predecessor layer i·L/n, embeddings follow embeddings.
        every = run.predecessor_layers // settings.layers
        self.distilled_layers = [i * every for i in range(settings.layers + 1)]
        self.recorders = (
            AttentionRecorder(model, list(range(settings.layers))),
            AttentionRecorder(self.teacher, [layer - 1 for layer in self.distilled_layers[1:]]),
        )
        attentions = [(i, "attention", "attention_mse", 1.0) for i in range(settings.layers)]
        states = [(i, "hidden", "hidden_mse", 1.0) for i in range(settings.layers + 1)]
        regression = run.task.regression
        self.matching = objective(0.0, 0.0, settings.temperature, regression, attentions + states)
        self.prediction = objective(1.0, 0.0, settings.temperature, regression)
        self.switch_step = round(settings.matching_share * run.steps)
        self.step = 0
        return model

    def loss(self, model, batch):
        matching = self.step < self.switch_step
        student_output = classify(model, batch, hidden_states=matching)
        with torch.no_grad():
            teacher_output = classify(self.teacher, batch, hidden_states=matching)
        if not matching:
            student, teacher = ({"logits": [output.logits.float()]} for output in (student_output, teacher_output))
            return self.prediction(student, teacher)
        layers = range(len(self.distilled_layers) - 1)
        student, teacher = ({"attention": [recorder.scores(i) for i in layers]} for recorder in self.recorders)
        student["hidden"] = [state.float() for state in student_output.hidden_states]
        teacher["hidden"] = [teacher_output.hidden_states[i].float() for i in self.distilled_layers]
        return self.matching(student | {"inputs_mask": batch["attention_mask"]}, teacher)

    def on_step_begin(self, step):
        self.step = step

    def allow_early_stopping(self):
        """Not before the predictions are matched: until then the classifier is untrained."""
        return self.step >= self.switch_step

    def metrics_to_log(self):
        """Whether the layers (1) or the predictions (0) are matched."""
        return {"matching": int(self.step < self.switch_step)}
