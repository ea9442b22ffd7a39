"""What a figure's caption says of its data: how much it is, what the intervals are and what is missing.

A caption is also the figure's alternative in words, so nothing that is absent goes unsaid in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from theseus_bench.figures.style import in_order, is_equal
from theseus_bench.wording import count_noun, series

OVER_SEEDS = "the interval over the seeds"


def drop_missing(frame: pd.DataFrame, values: list[str], panel: str = "") -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The rows that have all of `values`, and what is missing: label → where, an empty list if it is everywhere.

    `panel` is the column whose values are the panels: each label should have a value in each, and each of the frame's
    seeds, where it has a column seed. ValueError if no row has all of `values`.
    """
    frame = frame.reset_index(drop=True)
    data = frame[np.isfinite(frame[values].astype(float)).all(axis=1)]
    if data.empty:
        raise ValueError(f"nothing to draw: no row has {series(values)}")
    seeds = sorted(set(frame["seed"])) if "seed" in frame else []
    missing: dict[str, list[str]] = {}
    for label in in_order(frame["label"]):
        rows = data[data["label"] == label]
        if rows.empty:
            missing[label] = []
        elif panel:
            gaps = [_gap(rows[rows[panel] == name], name, seeds) for name in in_order(frame[panel])]
            missing |= {label: list(filter(None, gaps))} if any(gaps) else {}
    return data, missing


def without_controls(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of all but the controls, and a sentence that says so: the floor would press the others together."""
    controls = in_order(frame.loc[frame["role"] == "control", "label"])
    return frame[frame["role"] != "control"], f"Controls are left out: {join_labels(controls)}." if controls else ""


def missing_sentence(missing: dict[str, list[str]], reason: str = "no value") -> str:
    """A sentence on what `drop_missing` left out; '' if nothing is."""
    names = [f"{label} on {series(panels)}" if panels else label for label, panels in missing.items()]
    return f"Not drawn ({reason}): {join_labels(names)}." if names else ""


def interval_sentence(data: pd.DataFrame, text: str) -> str:
    """What the intervals (low, high) are, as `text` says, and that there is none where there is none."""
    has_interval = np.isfinite(data[["low", "high"]].astype(float)).all(axis=1)
    if not has_interval.any():
        return "No intervals: there are too few seeds, or none could be computed."
    return (
        text
        if has_interval.all()
        else f"{text} Where there is none, there are too few seeds, or none could be computed."
    )


def hollow_sentence(labels: pd.Series) -> str:
    """What hollow markers mean, if any label has one."""
    return "Hollow markers: the protocol of equal effort." if any(map(is_equal, labels)) else ""


def count_values(values: pd.Series, word: str) -> str:
    """How many different values there are: '8 tasks'."""
    return count_noun(values.nunique(), word)


def join_labels(labels: Sequence[str]) -> str:
    """The labels after each other; a comma may be within one."""
    return "; ".join(labels)


def join_sentences(*sentences: str) -> str:
    """The sentences that are not empty, as one text."""
    return " ".join(filter(None, sentences))


def _gap(rows: pd.DataFrame, name: str, seeds: list[int]) -> str:
    """'' if `rows` are complete; else the panel's name, with the seeds that have no row if only some have none."""
    if rows.empty:
        return name
    missing_seeds = [str(seed) for seed in seeds if seed not in set(rows["seed"])]
    return f"{name} (seed {series(missing_seeds)})" if missing_seeds else ""
