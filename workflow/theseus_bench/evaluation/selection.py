"""What choosing a run's checkpoint by the dev set adds to its score: the same runs, chosen in several ways."""

from __future__ import annotations

import numpy as np

from theseus_bench.suite.records import RunRecord


def dev_curve(record: RunRecord) -> np.ndarray:
    """The run's dev scores at each evaluation (evaluations,), in [-1, 1]; empty where dev was scored once."""
    key = "score" if record.chosen_on == "dev" else "dev_score"
    return np.array([entry[key] for entry in record.curve if key in entry])
