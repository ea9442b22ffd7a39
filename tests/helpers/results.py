"""Result files with plain contents, for tests to change."""

from theseus_bench.evaluation.significance_file import SignificanceResults
from theseus_bench.evaluation.speed import Timing

DIFFERENCE = {
    "name": "theseus", "other": "finetune", "primary": False, "control": False, "share": 1.0, "what": "macro",
    "seeds": 3, "difference": 1.0, "error": 0.5, "df": 4.0, "p": 0.01, "p_holm": 0.01, "low": 0.5, "high": 1.5,
    "family": "macro", "tested_in": "first", "tests": 1,
}  # fmt: skip
TIMING = {
    "speedup": 2.0, "low": 1.9, "high": 2.1, "latency_ms": 5.0, "latency_low": 4.5, "latency_high": 5.5,
    "throughput": 100.0, "memory_mb": 50.0, "rounds": 9,
}  # fmt: skip


def significance_of(*differences: dict) -> dict:
    """The contents of a file of tests with these differences, each DIFFERENCE but for what it says."""
    rows = [DIFFERENCE | changes for changes in differences]
    return {"alpha": 0.05, "resamples": 1000, "differences": rows, "ranks": [], "friedman": [], "aggregates": []}


def results_of(*differences: dict) -> SignificanceResults:
    """The same as it is read."""
    return SignificanceResults.model_validate(significance_of(*differences))


def timing_of(**changes) -> Timing:
    """TIMING but for what is said, as it is read."""
    return Timing(**TIMING | changes)


def choice_of(run) -> dict:
    """The contents of a search's file: its second trial was chosen."""
    trials = [
        {"trial": k, "settings": settings, "scores": {"101": 70.0 + k}, "status": ["complete"], "seconds": 1234.5}
        for k, settings in enumerate(run.trials)
    ]
    choice = {"trial": 1, "settings": run.settings, "score": 71.0}
    halves = {"same_half": 72.0, "other_half": 71.0, "flatters": 1.0}
    return {"chosen": choice, "trials": trials, "device_seconds": 4938.0, "nested": halves}
