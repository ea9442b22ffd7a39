"""The numbers that go into each figure of an experiment, as the frame that it takes."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from theseus_bench.checksums import check_files
from theseus_bench.evaluation.scores import read_scores
from theseus_bench.evaluation.significance import THRESHOLDS, moderate_task, score_bounds, seed_scores
from theseus_bench.evaluation.significance_file import MACRO, MACRO_LABELS, PRIMARY, read_significance
from theseus_bench.evaluation.speed import DEVICES, method_timings, read_speed
from theseus_bench.evaluation.statistics import FEWEST, parts_of_seeds, t_interval
from theseus_bench.evaluation.verdicts import SCORE, Verdict, judge_numbers
from theseus_bench.figures import speed as speed_module
from theseus_bench.figures.export import CaptionedFigure
from theseus_bench.suite.outputs import list_of
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.published import SpeedLine, cite_speed, paper_with_speed
from theseus_bench.suite.run_names import RunName
from theseus_bench.suite.status import state

RANGE = "the range over the seeds"


def intervals_over_seeds(alpha: float) -> str:
    """What a caption calls 1 − `alpha` intervals that do not hold together."""
    return f"{100 * (1 - alpha):g} % intervals over the seeds, each for itself"


class FigureData:
    """The numbers of an experiment's figures, each as the frame that its figure takes; empty where there are none."""

    def __init__(self, plan: Plan, experiment: str, folder: Path):
        self.plan, self.experiment, self.folder = plan, experiment, folder
        self.names = plan.experiment_names(experiment)
        self.tasks = plan.experiment_tasks(plan.suite.experiments[experiment])
        self.scores = read_scores(experiment, folder)
        dev = self.scores[(self.scores["split"] == "dev") & (self.scores["metric"] == "score")].dropna(subset="value")
        name = dev["method"] + np.where(dev["variant"] == "", "", "@" + dev["variant"])
        self.dev = dev.assign(name=name)[["name", "task", "seed", "value"]]
        self.tests = read_significance(experiment, folder)
        self.macro = [task.name for task in self.tasks if task.macro]
        by_seed = seed_scores(plan, experiment, folder)
        self.variances = {task: moderate_task(plan, experiment, task, by_seed) for task in self.macro}

    @property
    def score_name(self) -> str:
        """What the one score of a method is of."""
        if len(self.macro) == 1:
            return f"{self.plan.tasks[self.macro[0]].label} score"
        return f"Macro score of {len(self.macro)} tasks"

    @property
    def interval(self) -> str:
        """What the lines through the macro scores are: of too few seeds, their range alone."""
        seeds = len(self.plan.experiment_seeds(self.plan.suite.experiments[self.experiment]))
        return intervals_over_seeds(self.plan.suite.significance.alpha) if seeds >= FEWEST else RANGE

    def speed(self) -> pd.DataFrame:
        timings = method_timings(self.experiment, self.folder)
        rows = []
        for name in self.names:
            value, low, high = self._macro(name)
            timing = timings.get(name)
            speedup, speedup_interval = (timing.speedup, (timing.low, timing.high)) if timing else (None, (None, None))
            row = {"speedup": speedup, "speedup_low": speedup_interval[0], "speedup_high": speedup_interval[1]}
            row |= {"score": value, "low": low, "high": high}
            rows.append(self._identity(name) | row)
        frame = self._frame(rows)
        return frame if len(frame) and (frame["score"].notna() & frame["speedup"].notna()).any() else frame[:0]

    def depths(self) -> pd.DataFrame:
        """Every measured speed-up of the shapes that differ from the predecessor's in depth alone."""
        speed = read_speed(self.experiment, self.folder)
        if speed is None:
            return pd.DataFrame()
        predecessor, *others = speed.shapes
        rows = [
            {"label": f"{shape.layers} layers", "share": 100 * shape.layers / predecessor.layers}
            | {
                "panel": f"{DEVICES[measurement.device]}, {measurement.length} tokens",
                "batch_size": measurement.batch_size,
            }
            | {"speedup": measurement.speedup, "low": measurement.low, "high": measurement.high}
            for shape in others
            if shape.is_alike(predecessor)
            for measurement in shape.measurements
        ]
        return pd.DataFrame(rows)

    def speed_over_depth(self, frame: pd.DataFrame) -> CaptionedFigure:
        """Our speed-ups beside the printed ones, each at its share of its own predecessor's layers."""
        paper, depth = paper_with_speed(), self.plan.suite.backbone.layers
        if paper is None or paper.speed is None:
            return speed_module.speed_over_depth(frame, pd.DataFrame({"share": [], "speedup": []}), {}, "")
        source, line = cite_speed(paper), paper.speed.line
        reported = [(100 * layers / paper.layers, value) for layers, value in paper.speed.speedups.items()]
        lines = {
            f"{source.partition(',')[0]}, of {layers} layers": partial(_on_line, line, layers)
            for layers in dict.fromkeys((paper.layers, depth))
        }
        return speed_module.speed_over_depth(frame, pd.DataFrame(reported, columns=["share", "speedup"]), lines, source)

    def retention(self) -> pd.DataFrame:
        rows = []
        for task in self.tasks:
            for name in self.names:
                predecessor_scores = self._values(self.plan.teacher_name(name), task.name)
                if not len(predecessor_scores) or predecessor_scores.mean() <= 0:
                    continue
                shares = 100 * self._values(name, task.name) / predecessor_scores.mean()
                row = {"task": task.label, "retention": shares.mean() if len(shares) else np.nan}
                rows.append(self._identity(name) | row | _range(shares, "low", "high"))
        frame = self._frame(rows)
        return frame if len(frame) and (frame["role"] != "control").any() else frame[:0]

    def seeds(self) -> pd.DataFrame:
        rows = []
        for run in self.plan.experiment_runs(self.experiment):
            record = state(self.plan, run, self.folder)[2]
            if record is not None:
                score = 100 * (record.majority_score if record.dev_score is None else record.dev_score)
                row = {"task": run.task.label, "seed": run.seed, "score": score, "failed": record.status == "failed"}
                rows.append(self._identity(run.name) | row | {"majority": 100 * record.majority_score})
        frame = self._frame(rows)
        has_scores = len(frame) and (frame["score"].notna() & (frame["role"] != "control")).any()
        return frame if has_scores else frame[:0]

    def differences(self) -> pd.DataFrame:
        """The primary differences, else those from the control; of the macro, where there is one."""
        rows = [row for row in self.tests.differences if row.share == 1 and row.p_holm is not None]
        primary = [row for row in rows if row.family == PRIMARY]
        rows = primary or [row for row in rows if row.control]
        macro = [row for row in rows if row.target == MACRO]
        entries = [
            self._identity(row.name)
            | {"other": self._label(row.other), "target": self._target_label(row.target)}
            | {"difference": row.difference, "low": row.low, "high": row.high, "p_holm": row.p_holm}
            for row in macro or rows
        ]
        return self._frame(entries)

    def reported(self) -> pd.DataFrame:
        rule = self.plan.suite.verdicts
        rows = []
        for v in self._score_verdicts:
            if v.mean is None or v.target == "macro":
                continue
            row = {
                "task": self.plan.tasks[v.target].label,
                "reported": v.reported_score,
                "ours": v.mean,
                "verdict": v.verdict,
            }
            row["tolerance"] = rule.tolerance_by_task.get(v.target, rule.tolerance)
            ends = {
                end: np.nan if difference is None else v.reported_score + difference
                for end, difference in (("low", v.low), ("high", v.high))
            }
            rows.append(self._identity(v.name) | row | ends)
        return self._frame(rows)

    def profile(self) -> pd.DataFrame:
        rows = []
        for method in self.tests.aggregates:
            rows += [
                self._identity(method.name) | {"retention": threshold, "share": share}
                for threshold, share in zip(THRESHOLDS, method.profile, strict=True)
            ]
        return self._frame(rows)

    def curves(self) -> pd.DataFrame:
        """Rate and score over the steps: of the methods that replace modules, beside the predecessor, or of all."""
        file = self.folder / "scores" / f"{self.experiment}_curves.csv"
        check_files(list_of("score", self.experiment, self.folder), [file.name])
        frame = (
            pd.read_csv(file, keep_default_na=False, na_values=[""], dtype={"variant": str})
            if file.is_file() and file.stat().st_size > 1
            else pd.DataFrame()
        )
        draws_all = self.plan.suite.experiments[self.experiment].curves == "all"
        if frame.empty or not (draws_all or "replacing_rate" in frame):
            return pd.DataFrame()
        frame = frame.assign(replacing_rate=frame.get("replacing_rate", np.nan))
        variant = frame["variant"].fillna("")
        names = frame["method"] + np.where(variant == "", "", "@" + variant)
        drawn_names = set(names if draws_all else names[frame["replacing_rate"].notna()])
        drawn_names |= {self.plan.teacher_name(name) for name in drawn_names}
        drawn_rows = frame.assign(name=names)[names.isin(drawn_names)]
        identities = pd.DataFrame([self._identity(name) for name in drawn_rows["name"]])
        labels = {task.name: task.label for task in self.tasks}
        columns = drawn_rows[["seed", "step", "epoch", "score", "replacing_rate"]].reset_index(drop=True)
        return self._frame(
            pd.concat([identities, columns.assign(task=drawn_rows["task"].map(labels).to_numpy())], axis=1)
        )

    def modules(self) -> pd.DataFrame:
        """What is lost where one module alone is replaced."""
        reported_scores = {(v.name, v.target): v.reported_score for v in self._score_verdicts}
        rows = []
        for name in self.names:
            module = RunName.parse(name).settings.get("module")
            if not module:
                continue
            for task in self.tasks:
                teacher = self.plan.teacher_name(name)
                predecessor_scores, scores = self._values(teacher, task.name), self._values(name, task.name)
                if not len(predecessor_scores) or not len(scores):
                    continue
                losses = predecessor_scores.mean() - scores
                reported_before, reported_after = (
                    reported_scores.get((teacher, task.name)),
                    reported_scores.get((name, task.name)),
                )
                reported_drop = np.nan
                if reported_before is not None and reported_after is not None:
                    reported_drop = reported_before - reported_after
                row = {"module": module, "task": task.label, "drop": losses.mean()} | _range(losses, "low", "high")
                rows.append(row | {"reported_drop": reported_drop})
        return pd.DataFrame(rows)

    @cached_property
    def _score_verdicts(self) -> list[Verdict]:
        return [v for v in judge_numbers(self.plan, self.experiment, self.scores) if v.metric == SCORE]

    def _values(self, name: str, task: str) -> pd.Series:
        part = self.dev[(self.dev["name"] == name) & (self.dev["task"] == task)]
        return part.set_index("seed")["value"]

    def _macro(self, name: str) -> tuple[float, float, float]:
        """The mean over tasks of the means, with its `interval`; the range is of the seeds that have every task."""
        by_task = pd.DataFrame({task: self._values(name, task) for task in self.macro})
        if by_task.empty or by_task.isna().all().any():
            return np.nan, np.nan, np.nan
        mean = float(by_task.mean().mean())
        if self.interval == RANGE:
            ends = _range(by_task.dropna().mean(axis=1), "low", "high")
            return mean, ends["low"], ends["high"]
        if by_task.count().min() < FEWEST:
            return mean, np.nan, np.nan
        runs = {task: by_task[task].count() * len(self.macro) ** 2 for task in self.macro}
        parts = [part for task in self.macro for part in parts_of_seeds((self.variances[task][name], 1 / runs[task]))]
        low, high = t_interval(mean, parts, self.plan.suite.significance.alpha)
        least, most = score_bounds(self.plan, self.macro)
        return mean, max(low, least), min(high, most)

    def _identity(self, name: str) -> dict[str, str]:
        return {"label": self._label(name), "role": self.plan.spec_of(name).role}

    def _label(self, name: str) -> str:
        return self.plan.run(name, self.tasks[0].name, 0).label

    def _target_label(self, target: str) -> str:
        return MACRO_LABELS.get(target) or self.plan.tasks[target].label

    def _frame(self, rows: pd.DataFrame | list[dict[str, Any]]) -> pd.DataFrame:
        """A frame whose labels know all of the experiment's, so that a method looks the same in all figures."""
        frame = pd.DataFrame(rows)
        labels = list(dict.fromkeys(self._label(name) for name in self.names))
        return frame.assign(label=pd.Categorical(frame["label"], labels)) if len(frame) else frame


def _on_line(line: SpeedLine, layers: int, shares: np.ndarray) -> np.ndarray:
    """The speed-ups of models with these shares (per cent) of a predecessor's layers."""
    return np.array([line.speedup(share / 100 * layers, layers) for share in shares])


def _range(values: pd.Series, low: str, high: str) -> dict[str, float]:
    """The ends of the values; none of a single one, which has no spread."""
    has_spread = len(values) > 1
    return {low: float(values.min()) if has_spread else np.nan, high: float(values.max()) if has_spread else np.nan}
