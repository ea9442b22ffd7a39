"""The figures of an experiment: those that its results allow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from theseus_bench.figures import plots, speed
from theseus_bench.figures.export import CaptionedFigure, write_figures
from theseus_bench.figures.frames import RANGE, FigureData, intervals_over_seeds
from theseus_bench.suite.plan import Plan


def write_experiment_figures(plan: Plan, experiment: str, folder: Path) -> None:
    """Draw the experiment's figures into `folder`/figures/<experiment>: SVG, PDF and PNG, and pictures.json."""
    write_figures(experiment_figures(plan, experiment, folder), folder / "figures" / experiment)


def experiment_figures(plan: Plan, experiment: str, folder: Path) -> list[CaptionedFigure]:
    """The figures that the experiment's results allow: one that would be empty is not drawn."""
    data = FigureData(plan, experiment, folder)
    alpha = plan.suite.significance.alpha
    figures: list[tuple[pd.DataFrame, Callable[[pd.DataFrame], CaptionedFigure]]] = [
        (data.speed(), lambda frame: speed.score_against_speed(frame, data.score_name, data.interval)),
        (data.depths(), data.speed_over_depth),
        (data.retention(), lambda frame: plots.retention(frame, RANGE)),
        (data.seeds(), plots.seed_strips),
        (data.differences(), lambda frame: plots.differences(frame, alpha)),
        (data.reported(), lambda frame: plots.forest(frame, intervals_over_seeds(alpha))),
        (data.profile(), plots.profile),
        (data.curves(), plots.curves),
        (data.modules(), lambda frame: plots.module_impact(frame, RANGE)),
    ]
    return [draw(frame) for frame, draw in figures if len(frame)]
