"""The figures of an experiment: those that its results allow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from theseus_bench.figures import plots
from theseus_bench.figures.export import Picture, write_pictures
from theseus_bench.figures.frames import RANGE, FigureData, intervals_over_seeds
from theseus_bench.suite.plan import Plan


def write_experiment_figures(plan: Plan, experiment: str, folder: Path) -> None:
    """Draw the experiment's figures into `folder`/figures/<experiment>: SVG, PDF and PNG, and pictures.json."""
    write_pictures(experiment_pictures(plan, experiment, folder), folder / "figures" / experiment)


def experiment_pictures(plan: Plan, experiment: str, folder: Path) -> list[Picture]:
    """The figures that the experiment's results allow: one that would be empty is not drawn."""
    frames = FigureData(plan, experiment, folder)
    alpha = plan.suite.significance.alpha
    found: list[tuple[pd.DataFrame, Callable[[pd.DataFrame], Picture]]] = [
        (frames.speed(), lambda frame: plots.score_against_speed(frame, frames.score_name, frames.interval)),
        (frames.depths(), frames.speed_over_depth),
        (frames.retention(), lambda frame: plots.retention(frame, RANGE)),
        (frames.seeds(), plots.seed_strips),
        (frames.differences(), lambda frame: plots.differences(frame, alpha)),
        (frames.printed(), lambda frame: plots.forest(frame, intervals_over_seeds(alpha))),
        (frames.profile(), plots.profile),
        (frames.curves(), plots.curves),
        (frames.modules(), lambda frame: plots.module_impact(frame, RANGE)),
    ]
    return [draw(frame) for frame, draw in found if len(frame)]
