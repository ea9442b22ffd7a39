"""What a figure's caption says of its data: how much it is, what the intervals are and what is missing.

A caption is also the figure's alternative in words, so nothing that is absent goes unsaid in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from theseus_bench.figures.style import in_order, is_equal
from theseus_bench.wording import series


def present(frame: pd.DataFrame, values: list[str], panel: str = "") -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The rows that have all of `values`, and what is missing: label → where, an empty list if it is everywhere.

    `panel` is the column whose values are the panels: each label should have a value in each, and each of the frame's
    seeds, where it has a column seed. ValueError if no row has all of `values`.
    """
    frame = frame.reset_index(drop=True)
    shown = frame[np.isfinite(frame[values].astype(float)).all(axis=1)]
    if shown.empty:
        raise ValueError(f"nothing to draw: no row has {series(values)}")
    seeds = sorted(set(frame["seed"])) if "seed" in frame else []
    missing: dict[str, list[str]] = {}
    for label in in_order(frame["label"]):
        rows = shown[shown["label"] == label]
        if rows.empty:
            missing[label] = []
        elif panel:
            places = [_gap(rows[rows[panel] == name], name, seeds) for name in in_order(frame[panel])]
            missing |= {label: list(filter(None, places))} if any(places) else {}
    return shown, missing


def without_controls(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of all but the controls, and a sentence that says so: the floor would press the others together."""
    controls = in_order(frame.loc[frame["role"] == "control", "label"])
    return frame[frame["role"] != "control"], f"Controls are left out: {named(controls)}." if controls else ""


def not_drawn(missing: dict[str, list[str]], reason: str = "no value") -> str:
    """A sentence on what `present` found missing; '' if nothing is."""
    names = [f"{label} on {series(where)}" if where else label for label, where in missing.items()]
    return f"Not drawn ({reason}): {named(names)}." if names else ""


def explain(shown: pd.DataFrame, text: str) -> str:
    """What the intervals (low, high) are, as `text` says, and that there is none where there is none."""
    known = np.isfinite(shown[["low", "high"]].astype(float)).all(axis=1)
    if not known.any():
        return "No intervals: there are too few seeds, or none could be computed."
    return text if known.all() else f"{text} Where there is none, there are too few seeds, or none could be computed."


def hollow(labels: pd.Series) -> str:
    """What hollow markers mean, if any label has one."""
    return "Hollow markers: the protocol of equal effort." if any(map(is_equal, labels)) else ""


def count(values: pd.Series, word: str) -> str:
    """How many different values there are: '8 tasks'."""
    number = values.nunique()
    return f"{number} {word}{'' if number == 1 else 's'}"


def named(labels: Sequence[str]) -> str:
    """The labels after each other; a comma may be within one."""
    return "; ".join(labels)


def joined(*sentences: str) -> str:
    """The sentences that are not empty, as one text."""
    return " ".join(filter(None, sentences))


def _gap(rows: pd.DataFrame, name: str, seeds: list[int]) -> str:
    """'' if `rows` are complete; else the panel's name, with the seeds that have no row if only some have none."""
    if rows.empty:
        return name
    lacking = [str(seed) for seed in seeds if seed not in set(rows["seed"])]
    return f"{name} (seed {series(lacking)})" if lacking else ""
