import torch
from theseus_bench.modeling.attention import AttentionRecorder
from theseus_bench.training.method import Method, classify, task_loss

MASKED = -1e4  # the score of a padded key: no attention, yet finite


class MiniLM(Method):
    def build(self, run):
        settings = run.settings
        model, self.teacher = run.load_start(), run.load_teacher()
        last = [settings.layers - 1], [run.predecessor_layers - 1]
        self.recorders = AttentionRecorder(model, last[0]), AttentionRecorder(self.teacher, last[1])
        self.switch_step = round(settings.matching_share * run.steps)
        self.step = 0
        return model

    def loss(self, model, batch):
        logits = classify(model, batch).logits
        if self.step >= self.switch_step:
            return task_loss(logits, batch["labels"])
        with torch.no_grad():
            classify(self.teacher, batch)
        padding = (batch["attention_mask"] == 0)[:, None, None, :]
        student, teacher = (
            [scores.masked_fill(padding, MASKED) for scores in (recorder.scores(0), recorder.value_scores(0))]
            for recorder in self.recorders
        )
        mask = batch["attention_mask"].float()
        return sum(relation_loss(*scores, mask) for scores in zip(student, teacher, strict=True))

    def on_step_begin(self, step):
        self.step = step

    def allow_early_stopping(self):
        """Not before fine-tuning: until then the classifier is untrained."""
        return self.step >= self.switch_step

    def metrics_to_log(self):
        """Whether the relations are matched (1) or the task is learnt (0)."""
        return {"matching": int(self.step < self.switch_step)}


def relation_loss(student, teacher, mask):
    """The cross entropy of a token's relations: the mean over heads, over a text's tokens, then over texts.

    student and teacher are scores (batch, heads, length, length), mask is (batch, length). TextBrewer has the mean over
    all tokens, in which a batch's long texts count for more than its short ones.
    """
    entropies = -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1).mean(1)  # (batch, length)
    return ((entropies * mask).sum(1) / mask.sum(1)).mean()
